"""What came of calls like one that waits, by the audit log: the same tool and agent, the newest first."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from zt_agents.audit.calls import Call, CallState, Selection, newest_calls, number, text
from zt_agents.audit.sink import AuditSource
from zt_agents.decisions import ToolCall

_WINDOW = 30 * 86_400.0
"""Seconds that are looked back."""
_MOST_CALLS = 200
_TIME = 0.3
"""Seconds for which the log is read."""
_NEWEST = 3
_WORDS = {
    CallState.ALLOWED: "ran without asking",
    CallState.APPROVED: "approved, and ran",
    CallState.FAILED: "ran and failed",
    CallState.STOPPED: "began and was stopped",
    CallState.OPEN: "allowed, end unknown",
    CallState.WAITING: "asked, no answer on record",
    CallState.REFUSED: "asked, and refused",
    CallState.DENIED: "denied",
    CallState.UNCLEAR: "unclear",
}


@dataclass(frozen=True, slots=True)
class PastCall:
    """One of them."""

    time: float
    words: str
    approvers: str
    resource: str


@dataclass(frozen=True, slots=True)
class History:
    """What is known of calls like one."""

    counts: tuple[tuple[str, int], ...]
    """What came of them and how often, the most frequent first."""
    newest: tuple[PastCall, ...]
    total: int
    complete: bool
    """Whether all of the last 30 days were looked at."""


def past_calls(log: AuditSource, call: ToolCall, approval_id: str) -> History:
    """Return what *log* has of calls like *call* in the 30 days before it, without the call of *approval_id* itself.

    Raises:
        StoreError, AuditIntegrityError: the log cannot be read.
    """
    selection = Selection(since=call.time - _WINDOW, agent=call.agent.name if call.agent else None, tool=call.tool)
    counts: Counter[str] = Counter()
    newest, complete, deadline = list[PastCall](), True, time.monotonic() + _TIME
    with log.snapshot() as snapshot:
        for past in newest_calls(snapshot, selection):
            if counts.total() >= _MOST_CALLS or time.monotonic() > deadline:
                complete = False
                break
            if text(past.said, "approval_id") == approval_id:
                continue
            counts[_WORDS[past.state]] += 1
            if len(newest) < _NEWEST:
                newest.append(_past(past))
    return History(tuple(counts.most_common()), tuple(newest), counts.total(), complete)


def _past(call: Call) -> PastCall:
    approvers = text(call.said, "approved_by")
    return PastCall(number(call.said, "time") or 0.0, _WORDS[call.state], approvers, text(call.said, "resource"))
