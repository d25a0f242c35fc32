"""What an audit record says. A record is a value: it does not write, hash or verify itself.

Every governed call leaves two records that share a ``decision_id``: the decision, written before the body
runs, and the outcome, written after it. Arguments and results are never part of a record; their hashes are
keyed, and 128 bits long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple


class RecordKind(StrEnum):
    DECISION = "decision"
    OUTCOME = "outcome"
    SEALING = "sealing"
    """Not of a call: older records were moved into a segment (:mod:`zt_agents.audit.segments`)."""
    ERASURE = "erasure"
    """Not of a call: what had been kept of calls was erased (:mod:`zt_agents.audit.content`)."""
    CHANGE = "change"
    """Not of a call: somebody changed who may do what. An agent was suspended, a session taken back, a key replaced."""


class BodyStatus(StrEnum):
    """How a body ended."""

    OK = "ok"
    ERROR = "error"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"
    """A stream that nobody read to its end."""
    SUSPENDED = "suspended"
    """The body asked its framework to pause (an interrupt) and will be run again."""


class AuditRecord(NamedTuple):
    """One line of the log. Empty string or None means: not known, or does not apply."""

    kind: RecordKind
    time: float
    """Seconds since the epoch, UTC."""
    decision_id: str
    tool: str
    outcome: str
    """allow, deny or require_approval."""
    tier: str = ""
    agent: str = ""
    user_id: str = ""
    session_id: str = ""
    call_id: str | None = None
    trace_id: str = ""
    """32 lower-case hex digits."""
    span_id: str = ""
    """16 lower-case hex digits."""
    reasons: Sequence[tuple[str, str, str | None]] = ()
    """(code, sentence, rule id) of each reason, most decisive first."""
    rule_id: str | None = None
    policy_id: str = ""
    policy_version: str = ""
    effects: tuple[str, ...] = ()
    system: str = ""
    resource: str = ""
    data_class: str = ""
    tool_fingerprint: str = ""
    args_hash: str = ""
    """HMAC-SHA-256 over the RFC 8785 form of the arguments."""
    agent_id: str = ""
    agent_version: str = ""
    owner: str = ""
    task: str = ""
    token_jti: str = ""
    approval_id: str | None = None
    approved_by: str | None = None
    status: str = ""
    """Outcome records only: a :class:`BodyStatus`."""
    error_type: str = ""
    """Outcome records only: class name of what the body raised."""
    duration_ms: float | None = None
    """Outcome records only: time spent in the body, milliseconds."""
    result_hash: str = ""
    """Outcome records only: like ``args_hash``, of a result that has such a form and was not streamed."""
    result_bytes: int | None = None
    """Outcome records only: size of that form, bytes."""
    risk_state: str = ""
    """``integrity/data_class`` of what the session had seen before the call."""
    content_hash: str = ""
    """Hex SHA-256 that commits to what is kept of the arguments, or in an outcome of the result."""
    erasure: Mapping[str, Any] | None = None
    """Erasure records only: what was erased, by whom and why."""
    delegation: Sequence[tuple[str, str]] = ()
    """Decision records of a sub-agent's calls only: (agent id, user id) of each session, the acting one first."""
    approvals: Sequence[tuple[str, ...]] = ()
    """Decision records after a human was asked only: of each answer who gave it, yes or no, how that is known, which
    second factor was shown, from which standing approval it comes, and the hex SHA-256 over what was signed."""

    secrets: Sequence[tuple[str, str]] = ()
    """Outcome records only: names of the secrets that the body asked for, each with what came of it (lent, refused, or
    in one word why not)."""
    change: Mapping[str, Any] | None = None
    """Change records only: see :func:`change_record`."""

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON values, empty ones left out."""
        values: dict[str, Any] = {
            name: value
            for name, value in zip(_NAMES, self, strict=True)
            if value or (value is not None and value != "" and value != ())
        }
        if self.reasons:
            values["reasons"] = [list(reason) for reason in self.reasons]
        return values


_NAMES = AuditRecord._fields


def change_record(what: str, about: str, *, by: str, why: str, time: float, **facts: Any) -> AuditRecord:
    """Return the record of a change to who may do what.

    Args:
        what: the thing and what happened to it, such as ``agent.suspended`` or ``session.revoked``.
        about: its name or id.
        by: who changed it, as far as that is known.
        why: their words, or an empty text.
        time: seconds since the epoch.
        facts: what else is to be known, as JSON values; no secret.
    """
    change = {"what": what, "about": about, "by": by, "why": why, **facts}
    return AuditRecord(RecordKind.CHANGE, time, decision_id="", tool="", outcome="", change=change)
