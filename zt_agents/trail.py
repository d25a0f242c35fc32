"""What one call leaves behind: its span, its two records, what is kept of its content, its metrics.

What it decides on, and when, is the funnel's: here is only how it goes on record.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from zt_agents.audit.content import ContentKeeper
from zt_agents.audit.records import AuditRecord, BodyStatus
from zt_agents.decisions import Decision, ToolCall
from zt_agents.errors import AuditError
from zt_agents.evidence import call_attributes, decision_attributes, decision_record, outcome_record
from zt_agents.invocation import Invocation, checked_id
from zt_agents.lending.secrets import Lending
from zt_agents.telemetry import CallSpan
from zt_agents.telemetry import attributes as names

if TYPE_CHECKING:
    from zt_agents.audit.receipts import Receipt


class CallTrail:
    """One call: the question, the answer, and their evidence."""

    __slots__ = (
        "_args_hash",
        "_asked",
        "_body_started",
        "_call_id",
        "_encoded",
        "_guard",
        "_kept",
        "_lending",
        "_span",
        "_started",
        "call",
        "decision",
        "session",
        "tool",
    )

    def __init__(self, invocation: Invocation) -> None:
        self.tool = invocation.tool
        self.session = invocation.session
        self.call: ToolCall
        """The question that was decided."""
        self.decision: Decision
        """The answer."""
        self._guard = invocation.tool.guard
        self._call_id = checked_id(invocation.call_id)
        self._encoded = b""
        """The canonical arguments."""
        self._args_hash = ""
        self._kept = False
        """The log has, or was to have, this call's arguments."""
        self._lending: Lending | None = None
        """What the body has been lent."""
        self._span: CallSpan | None = None
        self._asked = 0.0
        """Seconds that a human was waited for."""
        self._started = time.time_ns()
        """Nanoseconds since the epoch."""
        self._body_started = 0
        """Nanoseconds of the performance counter."""

    def _open_span(self) -> None:
        if self._span is not None:
            self._span.set(decision_attributes(self.decision))
            return
        tracing, session = self._guard.tracing, self.session
        attributes = {**self.tool.attributes, **decision_attributes(self.decision), names.ARGS_HASH: self._args_hash}
        call: ToolCall | None = getattr(self, "call", None)
        if call is not None:
            attributes.update(call_attributes(call))
            if call.agent is not None and session is not None:
                # Without an invoke_agent span above it, the call's own span has to say all of who acts for whom.
                attributes.update(session.repeated if session.span is not None else session.described)
        parent = session.span.span if session is not None and session.span is not None else None
        self._span = tracing.start(
            f"{names.SPAN_EXECUTE_TOOL} {self.tool.name}", attributes, start_time=self._started, parent=parent
        )
        if tracing.captures_content:
            self._span.set({names.TOOL_ARGUMENTS: self._encoded.decode()})

    def _append_decision(self, *, awaited: bool = False) -> Receipt:
        record, content = self._decision_record(), None
        keeper = self._guard.content
        if keeper is not None and not self._kept and self._encoded and self._may_keep(keeper):
            self._kept = True  # of each call once, whatever becomes of it
            content = keeper.of(record, self._encoded)
            record = record._replace(content_hash=content.hash.hex())
        receipt = self._guard.audit.append(record, content, awaited=awaited)
        self._guard.meters.decided(self.decision.outcome.value, self.decision.tier.value)
        return receipt

    def _observe(self, status: BodyStatus, *, error_type: str = "", result: bytes | None = None) -> None:
        duration = (time.perf_counter_ns() - self._body_started) / 1e6
        record = outcome_record(
            self.decision,
            self.session,
            self._span,
            time=self._guard.clock(),
            call_id=self._call_id,
            status=status,
            error_type=error_type,
            duration_ms=duration,
            result_hash=self._guard.keyed_hash(result) if result is not None else "",
            result_bytes=len(result) if result is not None else None,
            secrets=self._lending.asked if self._lending is not None else (),
        )
        content, keeper = None, self._guard.content
        if keeper is not None and status is BodyStatus.OK and self._may_keep(keeper):
            content = keeper.of(record, result)
            record = record._replace(content_hash=content.hash.hex())
        # The body has run; hiding its result would not undo it. The log remembers the failure and denies what follows.
        with suppress(AuditError):
            self._guard.audit.append(record, content)
        self._time_call(error_type)
        if self._span is not None:
            self._span.end(error_type=error_type)

    def note_secret(self, name: str, what: str) -> None:
        """Note on the span that the body asked for a secret, and what came of it."""
        if self._span is not None:
            self._span.event(names.EVENT_SECRET, {names.SECRET_NAME: name, names.SECRET_STATUS: what})

    def _record_denial(self) -> Exception | None:
        failure = None
        try:
            self._open_span()
            self._append_decision()
        except Exception as error:  # noqa: BLE001 - a denial that cannot be recorded is still a denial
            failure = error
        self._time_call("access_denied")
        if self._span is not None:
            self._span.end(error_type="access_denied", description=str(self.decision.reasons[0].code))
        return failure

    def _may_keep(self, keeper: ContentKeeper) -> bool:
        """Return whether what the session has seen, and what the tool handles, may be kept."""
        spec, call = self.tool.spec, getattr(self, "call", None)
        if spec is None or call is None or call.agent is None:
            return False
        return keeper.keeps(call.label.data_class, spec.data_class)

    def _time_call(self, error_type: str) -> None:
        seconds = (time.time_ns() - self._started) / 1e9 - self._asked
        self._guard.meters.executed(self.tool.name, seconds, error_type)

    def _decision_record(self) -> AuditRecord:
        return decision_record(
            self.decision,
            self.tool,
            getattr(self, "call", None),
            self.session,
            self._span,
            time=self._guard.clock(),
            call_id=self._call_id,
            args_hash=self._args_hash,
        )
