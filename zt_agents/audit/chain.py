"""The bytes of a record, and the hash that ties each record to all before it.

::

    hash(0) = SHA-256("zt-agents audit genesis v1\\0" || log id)
    hash(n) = SHA-256("zt-agents audit record v1\\0" || hash(n-1) || body(n))

The log id is 16 random bytes drawn when a log is created, so two logs never share a hash. The body is JSON
with sorted keys. Every record has a body: text that is not valid Unicode is escaped and a value JSON cannot
hold is replaced by the name of its type, because a record that could not be written would stop the log, and
a model can choose a tool name.

What a chain can prove: that nothing was changed, removed, inserted or moved *before a hash somebody else
remembers*. Whoever can write the file can compute a whole new chain. So note the head (``SEQ:HASH``)
somewhere out of that reach and give it to :func:`zt_agents.audit.verify.verify` as ``expect``.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from zt_agents.audit.records import AuditRecord

_GENESIS = b"zt-agents audit genesis v1\0"
_RECORD = b"zt-agents audit record v1\0"
_HEAD = re.compile(r"(0|[1-9][0-9]{0,17}):([0-9a-f]{64})")

Columns = tuple[float | None, str | None, str | None, str | None, str | None]
"""time, agent, user, tool, decision id: what a sink may keep beside the body to search by."""


@dataclass(frozen=True, slots=True)
class Head:
    """The last record of a log: it stands for the whole log up to there."""

    seq: int
    """Number of the record; 0 for a log without records."""
    hash: bytes

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Return the head written as ``SEQ:HASH``, or raise :class:`ValueError`."""
        match = _HEAD.fullmatch(text.strip().lower())
        if match is None:
            raise ValueError("a head is written SEQ:HASH, a number, a colon and 64 hex digits")
        return cls(int(match[1]), bytes.fromhex(match[2]))


def genesis(log_id: bytes) -> bytes:
    """Return the hash that the first record of a log is tied to."""
    return hashlib.sha256(_GENESIS + log_id).digest()


def link(previous: bytes, body: bytes) -> bytes:
    """Return the hash of a record with this *body* after one with the hash *previous* (32 bytes)."""
    return hashlib.sha256(_RECORD + previous + body).digest()


def encode(record: AuditRecord) -> tuple[Columns, bytes]:
    """Return the search columns and the canonical bytes of *record*. Never fails."""
    values = record.to_dict()
    try:
        body = orjson.dumps(values, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        values = _encodable(values)
        body = orjson.dumps(values, option=orjson.OPT_SORT_KEYS)
    return columns(values), bytes(memoryview(body))  # a copy: orjson's own bytes hold on to about 8 KB


def columns(values: Mapping[str, Any]) -> Columns:
    """Return what a sink keeps beside the body, from the values of that body."""
    time = values.get("time")
    return (
        float(time) if isinstance(time, int | float) and math.isfinite(time) else None,
        _text(values.get("agent")),
        _text(values.get("user_id")),
        _text(values.get("tool")),
        _text(values.get("decision_id")),
    )


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str) else None


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, bool | float) or value is None:
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, Mapping):
        return {str(_encodable(str(name))): _encodable(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_encodable(item) for item in value]
    return f"<{type(value).__name__}>"
