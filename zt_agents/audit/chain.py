"""The bytes of a record, and the hash that ties each record to all before it.

::

    hash(0) = SHA-256("zt-agents audit genesis v2\\0" || log id)
    leaf(n) = SHA-256(0x00 || body(n))
    hash(n) = SHA-256("zt-agents audit record v2\\0" || hash(n-1) || leaf(n))

The leaf is the one of the Merkle tree (:mod:`zt_agents.audit.tree`): each body is hashed once for both. The log
id is 16 random bytes drawn when a log is created, so two logs never share a hash.

The body is JSON with sorted keys. It does not say twice what it says already: a session that is also the task
and the token is named once, and an outcome leaves to its decision, whose id it names, what both would say.
Every record has a body: text that is not valid Unicode is escaped and a value JSON cannot hold is replaced by
the name of its type, because a record that could not be written would stop the log, and a model can choose a
tool name.

What a chain can prove: that nothing was changed, removed, inserted or moved *before a hash somebody else
remembers*. Whoever can write the file can compute a whole new chain. So note the head (``SEQ:HASH``)
somewhere out of that reach and give it to :func:`zt_agents.audit.verify.verify` as ``expect``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256 as _sha256
from typing import Any

import orjson

from zt_agents.audit.records import AuditRecord, RecordKind

_loads = orjson.loads  # a global is found faster than an attribute, and each record is read
_GENESIS = b"zt-agents audit genesis v2\0"
_RECORD = b"zt-agents audit record v2\0"
_HEAD = re.compile(r"(0|[1-9][0-9]{0,17}):([0-9a-f]{64})")

COMMITS_TO_CONTENT = b'"content_hash"'
"""What the body of a record holds that commits to content, and no other: in a text, quotes are escaped."""

_SAME_AS_SESSION = ("task", "token_jti")
_LEFT_TO_DECISION = ("call_id", "outcome", "session_id", "span_id", "task", "tier", "token_jti", "trace_id")


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
    return _sha256(_GENESIS + log_id).digest()


def link(previous: bytes, leaf: bytes) -> bytes:
    """Return the hash of a record with this leaf hash after one with the hash *previous* (32 bytes each)."""
    return _sha256(_RECORD + previous + leaf).digest()


def encode(record: AuditRecord) -> tuple[dict[str, Any], bytes]:
    """Return what the body of *record* says, and its canonical bytes. Never fails."""
    values = record.to_dict()
    if record.kind == RecordKind.OUTCOME:
        for name in _LEFT_TO_DECISION:
            values.pop(name, None)
    elif session := values.get("session_id"):
        for name in _SAME_AS_SESSION:
            if values.setdefault(name, "") == session:
                del values[name]
    try:
        body = orjson.dumps(values, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        values = _encodable(values)
        body = orjson.dumps(values, option=orjson.OPT_SORT_KEYS)
    return values, bytes(memoryview(body))  # a copy: orjson's own bytes hold on to about 8 KB


def decode(body: object) -> dict[str, Any] | None:
    """Return what a body says, or None if it is no record."""
    if type(body) is not bytes:
        return None
    try:
        values = _loads(body)
    except orjson.JSONDecodeError:
        return None
    return values if type(values) is dict else None


def complete(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a decision says, with the task and token that it does not name because they are the session."""
    values = dict(said)
    if "session_id" in values:
        for name in _SAME_AS_SESSION:
            if values.setdefault(name, values["session_id"]) == "":
                del values[name]
    return values


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
