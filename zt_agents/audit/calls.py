"""One governed call, put together from its records: what was decided, whether a human was asked, how the body ended.

What a log holds is not proven, not even the types of its values. So everything here is read through :func:`text` and
:func:`number`, and nothing in a record can make reading it fail.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from zt_agents.audit.chain import complete
from zt_agents.audit.records import BodyStatus, RecordKind
from zt_agents.audit.sink import Snapshot
from zt_agents.errors import AuditIntegrityError, StoreError


class CallState(StrEnum):
    """What came of a call, in one word."""

    ALLOWED = "allowed"
    APPROVED = "approved"
    """A human said yes, and the body ran to its end."""
    FAILED = "failed"
    """It was allowed or approved; the body raised."""
    STOPPED = "stopped"
    """It was allowed or approved; the body was cancelled, abandoned or suspended."""
    OPEN = "open"
    """It was allowed or approved; the log does not say how the body ended."""
    WAITING = "waiting"
    """A human was asked; the log holds no answer."""
    REFUSED = "refused"
    """A human was asked, and the call was denied after that."""
    DENIED = "denied"
    UNCLEAR = "unclear"
    """The log holds no readable decision."""


def is_of_a_call(record: Mapping[str, Any]) -> bool:
    """Return whether *record* is about a call, as all are but the notes of what was sealed, erased or changed."""
    return record.get("kind") not in (RecordKind.SEALING, RecordKind.ERASURE, RecordKind.CHANGE)


def text(record: Mapping[str, Any], name: str) -> str:
    """Return a value as text, or an empty string."""
    value = record.get(name)
    return value if isinstance(value, str) else "" if value is None else str(value)


def number(record: Mapping[str, Any], name: str) -> float | None:
    """Return a value that is a finite number, or None."""
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def short(agent_id: str) -> str:
    """Return the last part of an agent's id: records name delegating agents by their ids alone."""
    return agent_id.rpartition("/")[2] or "an unknown agent"


@dataclass(slots=True)
class Call:
    """What the log holds of one governed call."""

    decision: dict[str, Any] | None = None
    outcome: dict[str, Any] | None = None
    earlier: list[dict[str, Any]] = field(default_factory=list)
    """Records that later ones of the same kind replaced, such as the wait for an approval."""

    def add(self, record: dict[str, Any]) -> None:
        if record.get("kind") == RecordKind.OUTCOME:
            replaced, self.outcome = self.outcome, record
        else:
            replaced, self.decision = self.decision, complete(record)
        if replaced is not None:
            self.earlier.append(replaced)

    @property
    def said(self) -> dict[str, Any]:
        """The decision, or whatever there is."""
        return self.decision or self.outcome or {}

    @property
    def held(self) -> dict[str, Any] | None:
        """The record that says a human was to be asked, if there is one."""
        parts = [*self.earlier, *([self.decision] if self.decision else [])]
        return next((part for part in parts if part.get("outcome") == "require_approval"), None)

    @property
    def state(self) -> CallState:
        decided = (self.decision or {}).get("outcome")
        if decided == "deny":
            return CallState.REFUSED if self.held or self.said.get("approval_id") else CallState.DENIED
        if decided == "require_approval":
            return CallState.WAITING
        if decided != "allow":
            return CallState.UNCLEAR
        if self.outcome is None:
            return CallState.OPEN
        status = self.outcome.get("status")
        if status == BodyStatus.OK:
            return CallState.APPROVED if self.said.get("approved_by") else CallState.ALLOWED
        return CallState.FAILED if status == BodyStatus.ERROR else CallState.STOPPED

    @property
    def start(self) -> float | None:
        """When it was first decided on, seconds since the epoch."""
        return number(self.held or self.said, "time")

    @property
    def end(self) -> float | None:
        """When the last thing known of it happened, seconds since the epoch."""
        return number(self.outcome or self.said, "time")

    @property
    def waited(self) -> float | None:
        """Seconds from asking a human to the answer, or None."""
        if self.held is None or self.held is self.decision:
            return None
        asked, answered = number(self.held, "time"), number(self.said, "time")
        return None if asked is None or answered is None else max(0.0, answered - asked)

    @property
    def reasons(self) -> list[tuple[str, str, str]]:
        """(code, sentence, rule id or empty string) of each reason, most decisive first."""
        given = (self.decision or {}).get("reasons")
        found = [reason for reason in given if isinstance(reason, list)] if isinstance(given, list) else []
        return [(str(r[0]), str(r[1]), str(r[2] or "")) for r in found if len(r) == 3]

    @property
    def delegators(self) -> list[tuple[str, str]]:
        """(agent id, user id) of each on whose word a sub-agent acts, the nearest first; it is not among them."""
        given = (self.decision or {}).get("delegation")
        found = [pair for pair in given if isinstance(pair, list)] if isinstance(given, list) else []
        return [(str(pair[0]), str(pair[1])) for pair in found if len(pair) == 2][1:]

    @property
    def approvals(self) -> list[list[str]]:
        """Of each answer that was given: approver, yes or no, proof, second factor, standing approval, evidence."""
        given = self.said.get("approvals")
        found = [each for each in given if isinstance(each, list)] if isinstance(given, list) else []
        return [[str(value) for value in each] for each in found if len(each) == 6]

    @property
    def effects(self) -> list[str]:
        given = (self.decision or {}).get("effects")
        return [str(effect) for effect in given] if isinstance(given, list) else []


class Selection(NamedTuple):
    """Which records are wanted; None means any. A call is selected if one of its records is."""

    since: float | None = None
    """Seconds since the epoch, inclusive."""
    until: float | None = None
    """Seconds since the epoch, exclusive."""
    agent: str | None = None
    user: str | None = None
    tool: str | None = None

    def holds(self, record: Mapping[str, Any]) -> bool:
        names = (("agent", self.agent), ("user_id", self.user), ("tool", self.tool))
        if any(wanted is not None and record.get(name) != wanted for name, wanted in names):
            return False
        if self.since is None and self.until is None:
            return True
        time = number(record, "time")
        return (
            time is not None
            and (self.since is None or time >= self.since)
            and (self.until is None or time < self.until)
        )


def newest_calls(snapshot: Snapshot, selection: Selection) -> Iterator[Call]:
    """Yield the calls selected, the one with the newest record first."""
    seen: set[str] = set()
    for record in snapshot.read(**selection._asdict(), newest_first=True):
        decision_id = record.get("decision_id")
        if is_of_a_call(record) and (not isinstance(decision_id, str) or decision_id not in seen):
            if isinstance(decision_id, str):
                seen.add(decision_id)
            yield _whole(snapshot, record)[0]


def records_after(
    snapshot: Snapshot, after: int, selection: Selection, *, known: str | None = None
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield the records after number *after*, oldest first, each with whether it is selected.

    Args:
        known: The hash (hex) that record *after* had when it was last seen.

    Raises:
        AuditIntegrityError: the log ends before *after*, or record *after* is another one than it was.
    """
    head = snapshot.head
    if head is None or head.seq < after:
        where = "nothing says where it ends" if head is None else f"it ends at record {head.seq}"
        raise AuditIntegrityError(
            f"The log was read up to record {after}, but {where}.", hint="Prove it: zt-agents audit verify."
        )
    if after:
        if after < snapshot.begin.seq:
            raise StoreError(
                f"The log was read up to record {after}; since then, those up to {snapshot.begin.seq} were sealed.",
                hint="Give the folder: --segments FOLDER.",
            )
        if after == snapshot.begin.seq:
            last: dict[str, Any] | None = {"seq": after, "hash": snapshot.begin.hash.hex()}
        else:
            last = next(snapshot.read(after=after - 1, limit=1), None)
        if last is None or last["seq"] != after:
            raise AuditIntegrityError(f"Record {after} is gone.", hint="Prove it: zt-agents audit verify.")
        _require_same(last, known)
    for record in snapshot.read(after=after):
        yield record, selection.holds(record)


def call_ending_with(snapshot: Snapshot, record: dict[str, Any], selection: Selection) -> Call | None:
    """Return the call of *record* if no later record of it is selected, so that each call is met once."""
    call, parts = _whole(snapshot, record)
    later = any(part["seq"] > record["seq"] and selection.holds(part) for part in parts)
    return None if later else call


def _whole(snapshot: Snapshot, record: dict[str, Any]) -> tuple[Call, list[dict[str, Any]]]:
    decision_id = record.get("decision_id")
    parts = list(snapshot.read(decision_id=decision_id)) if isinstance(decision_id, str) else []
    call = Call()
    for part in parts or [record]:
        call.add(part)
    return call, parts


def _require_same(record: Mapping[str, Any], known: str | None) -> None:
    if known is not None and record["hash"] != known:
        raise AuditIntegrityError(
            f"Record {record['seq']} is not the one that was read before: the log was changed or replaced.",
            hint="Prove it: zt-agents audit verify.",
        )
