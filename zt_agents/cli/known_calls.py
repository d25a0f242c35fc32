"""What is known of a name that somebody revokes: calls on record, requests that wait, and whether it is oddly written.

Which sessions are open in other processes, nobody knows.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zt_agents._internal.display import visible
from zt_agents._internal.suggest import did_you_mean
from zt_agents.audit.calls import number, text
from zt_agents.audit.records import RecordKind
from zt_agents.console.lookalikes import tokens
from zt_agents.identity.revocations import Bearing, RevocationIndex, Revoked, new_revocation
from zt_agents.stores.sqlite_audit import SqliteAuditSink

LOOK_BACK = 86_400.0
"""Seconds for which calls count as recent."""
_MOST = 50_000
"""Records that are looked at."""
_FIELDS = {
    Revoked.AGENT: "agent_id",
    Revoked.USER: "user_id",
    Revoked.SESSION: "session_id",
    Revoked.TASK: "task",
    Revoked.TOKEN: "token_jti",
    Revoked.OWNER: "owner",
}


class Recent(NamedTuple):
    """The calls of the last day that would have been denied."""

    calls: int
    sessions: int
    last: float | None
    """Seconds since the epoch."""
    whole: bool
    """False if there were more records than were looked at."""
    others: frozenset[str]
    """Other values of the same kind on record."""


def recent(log: Path, kind: Revoked, value: str, *, now: float) -> Recent:
    """Return what the log at *log* says of what is revoked; of a log that does not exist, nothing.

    Raises:
        StoreError: it cannot be read.
        AuditIntegrityError: it is damaged.
    """
    if not log.exists():
        return Recent(0, 0, None, True, frozenset())
    index = RevocationIndex()
    index.add(new_revocation(kind, value, by="", why="", now=now))
    calls, sessions, times, others, looked = set[str](), set[str](), list[float](), set[str](), 0
    with SqliteAuditSink(log, create=False).snapshot() as snapshot:
        for record in snapshot.read(since=now - LOOK_BACK, newest_first=True, limit=_MOST):
            looked += 1
            if record.get("kind") != RecordKind.DECISION:
                continue
            if kind in _FIELDS:
                others.add(text(record, _FIELDS[kind]))
            if index.find(_bearing(record)) is not None:
                calls.add(text(record, "decision_id"))
                sessions.add(text(record, "session_id"))
                times.append(number(record, "time") or 0.0)
    return Recent(len(calls), len(sessions), max(times, default=None), looked < _MOST, frozenset(others - {"", value}))


def _bearing(record: Mapping[str, Any]) -> Bearing:
    chain = record.get("delegation")
    named = [str(each[0]) for each in chain if isinstance(each, list) and each] if isinstance(chain, list) else []
    return Bearing(
        agents=(text(record, "agent_id"), *named),
        user=text(record, "user_id"),
        sessions=(text(record, "session_id"),),
        task=text(record, "task"),
        token=text(record, "token_jti"),
        owner=text(record, "owner"),
    )


def oddities(value: str) -> Iterator[str]:
    """Yield what is odd about how *value* is written, each as a sentence. Names are compared exactly."""
    if value != value.strip():
        yield "It begins or ends with a space."
    if visible(value) != value:
        yield "It has characters that nobody sees, or that hide others."
    if not unicodedata.is_normalized("NFC", value):
        yield "Its letters and accents are not put together in the usual way (NFC)."
    for part in tokens(value):
        if part.note:
            yield f"{part.text!r} has {part.note}."


def meant(value: str, others: frozenset[str]) -> str:
    """Return a question whether another one was meant, which looks like *value* or nearly so, or an empty text."""
    folded = unicodedata.normalize("NFKC", value).casefold().strip()
    for other in sorted(others):
        if unicodedata.normalize("NFKC", other).casefold().strip() == folded:
            return f" Did you mean {other!r}?"
    return did_you_mean(value, sorted(others))
