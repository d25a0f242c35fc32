"""What spans and records say of a call, its decision and its end. Arguments and results are no part of it."""

from __future__ import annotations

from typing import Any

from zt_agents.audit.records import AuditRecord, BodyStatus, RecordKind
from zt_agents.decisions import Decision, ToolCall
from zt_agents.session import Session
from zt_agents.telemetry import CallSpan
from zt_agents.telemetry import attributes as names


def call_attributes(call: ToolCall) -> dict[str, Any]:
    """Return what was asked for."""
    attributes: dict[str, Any] = {names.PROVENANCE_INTEGRITY: str(call.label.integrity)}
    if call.call_id:
        attributes[names.TOOL_CALL_ID] = call.call_id
    if call.resource:
        attributes[names.RESOURCE_ID] = call.resource
    if call.spec is not None:
        attributes[names.RESOURCE_DATA_CLASS] = str(call.spec.data_class)
        if call.spec.system:
            attributes[names.TARGET_SYSTEM] = attributes[names.DATA_SOURCE_ID] = call.spec.system
    return attributes


def decision_attributes(decision: Decision) -> dict[str, Any]:
    """Return what was answered."""
    attributes: dict[str, Any] = {
        names.DECISION_ID: decision.id,
        names.DECISION_OUTCOME: str(decision.outcome),
        names.DECISION_REASON: str(decision.reasons[0].code) if decision.reasons else "",
        names.DECISION_TIER: str(decision.tier),
        names.DECISION_ENFORCED: True,
    }
    if decision.rule_id:
        attributes[names.RULE_ID] = attributes[names.SECURITY_RULE_NAME] = decision.rule_id
    if decision.approval_id:
        attributes[names.APPROVAL_ID] = decision.approval_id
        attributes[names.APPROVAL_STATUS] = "approved" if decision.allowed else "denied"
    return attributes


def outcome_record(
    decision: Decision,
    session: Session | None,
    span: CallSpan | None,
    *,
    time: float,
    call_id: str | None,
    status: BodyStatus,
    error_type: str,
    duration_ms: float,
    result_bytes: int | None,
) -> AuditRecord:
    """Return the record of how a body ended; see :class:`AuditRecord` for the units."""
    return AuditRecord(
        kind=RecordKind.OUTCOME,
        time=time,
        decision_id=decision.id,
        tool=decision.tool,
        outcome=decision.outcome,
        tier=decision.tier,
        agent=session.agent.name if session else "",
        user_id=session.user.id if session else "",
        session_id=session.id if session else "",
        call_id=call_id,
        trace_id=span.trace_id if span else "",
        span_id=span.span_id if span else "",
        status=status,
        error_type=error_type,
        duration_ms=duration_ms,
        result_bytes=result_bytes,
    )
