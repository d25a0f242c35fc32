"""What spans and records say of a call, its decision and its end. Arguments and results are no part of it.

Attributes that do not change from call to call are worked out once, when a tool is enrolled or a session opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zt_agents.audit.records import AuditRecord, BodyStatus, RecordKind
from zt_agents.catalog.specs import ToolSpec
from zt_agents.decisions import Decision, Outcome, ToolCall
from zt_agents.invocation import GuardedTool
from zt_agents.sessions.session import Session
from zt_agents.telemetry import CallSpan, Tracing
from zt_agents.telemetry import attributes as names

if TYPE_CHECKING:
    from zt_agents.policy import Policy


_APPROVAL_STATUS = {Outcome.ALLOW: "approved", Outcome.DENY: "denied", Outcome.REQUIRE_APPROVAL: "pending"}


def tool_attributes(name: str, fingerprint: str, spec: ToolSpec | None) -> Mapping[str, Any]:
    """Return what every span of a tool says."""
    attributes: dict[str, Any] = {
        names.OPERATION: "execute_tool",
        names.TOOL_NAME: name,
        names.TOOL_TYPE: "function",
        names.TOOL_FINGERPRINT: fingerprint,
        names.DECISION_ENFORCED: True,
    }
    if spec is not None:
        attributes[names.RESOURCE_DATA_CLASS] = str(spec.data_class)
        if spec.system:
            attributes[names.TARGET_SYSTEM] = attributes[names.DATA_SOURCE_ID] = spec.system
    return attributes


def repeated_attributes(session: Session, tracing: Tracing) -> Mapping[str, Any]:
    """Return what a tool's span repeats of its session, so that a search finds the call itself."""
    user_key, user = tracing.user(session.user.id)
    delegated = delegation_attributes(session, tracing) if len(session.chain) > 1 else {}
    return {
        names.AGENT_ID: session.agent.id,
        names.CONVERSATION_ID: session.claims.task,
        names.TOKEN_JTI: session.id,
        user_key: user,
        **delegated,
    }


def delegation_attributes(session: Session, tracing: Tracing) -> Mapping[str, Any]:
    """Return who acts on whose word, current actor first; and whom each acts for, where there are several."""
    users = [link.user for link in session.chain]
    attributes: dict[str, Any] = {
        names.DELEGATION_CHAIN: tuple(link.agent_id for link in session.chain),
        names.DELEGATION_DEPTH: len(session.chain),
    }
    if len(users) > 1:
        attributes[names.DELEGATION_USERS] = tuple(tracing.user(user)[1] for user in users)
    if len(set(users)) > 1:
        attributes[names.DELEGATION_USER_CHANGED] = True
    return attributes


def session_attributes(session: Session, tracing: Tracing, policy: Policy) -> Mapping[str, Any]:
    """Return all that says who acts for whom, under which policy."""
    agent = session.agent
    return {
        names.AGENT_NAME: agent.name,
        names.AGENT_VERSION: agent.version,
        names.AGENT_OWNER: agent.owner,
        names.AGENT_SPIFFE_ID: agent.id,
        names.TASK_ID: session.claims.task,
        **delegation_attributes(session, tracing),
        names.POLICY_ID: policy.id,
        names.POLICY_VERSION: policy.version,
        **repeated_attributes(session, tracing),
    }


def call_attributes(call: ToolCall) -> dict[str, Any]:
    """Return what was asked for."""
    attributes: dict[str, Any] = {names.PROVENANCE_INTEGRITY: str(call.label.integrity)}
    if call.call_id:
        attributes[names.TOOL_CALL_ID] = call.call_id
    if call.resource:
        attributes[names.RESOURCE_ID] = call.resource
    return attributes


def decision_attributes(decision: Decision) -> dict[str, Any]:
    """Return what was answered."""
    attributes: dict[str, Any] = {
        names.DECISION_ID: decision.id,
        names.DECISION_OUTCOME: str(decision.outcome),
        names.DECISION_REASON: str(decision.reasons[0].code) if decision.reasons else "",
        names.DECISION_TIER: str(decision.tier),
    }
    rule = decision.rule_id
    if rule:
        attributes[names.RULE_ID] = attributes[names.SECURITY_RULE_NAME] = rule
    if decision.approval_id:
        attributes[names.APPROVAL_ID] = decision.approval_id
        attributes[names.APPROVAL_STATUS] = _APPROVAL_STATUS[decision.outcome]
    return attributes


def decision_record(
    decision: Decision,
    tool: GuardedTool,
    call: ToolCall | None,
    session: Session | None,
    span: CallSpan | None,
    *,
    time: float,
    call_id: str | None,
    args_hash: str,
) -> AuditRecord:
    """Return the record of a decision. A session is named only if it was verified: *call* has an agent then."""
    spec = tool.spec
    agent = call.agent if call is not None else None
    known = session if agent is not None else None
    return AuditRecord(  # in the order of its fields: by their names, it takes three times as long
        RecordKind.DECISION,
        time,
        decision.id,
        tool.name,
        decision.outcome,
        decision.tier,
        agent.name if agent else "",
        known.user.id if known else "",
        known.id if known else "",
        call_id,
        span.trace_id if span else "",
        span.span_id if span else "",
        decision.reasons,
        decision.rule_id,
        decision.policy_id,
        decision.policy_version,
        tool.effects,
        spec.system if spec else "",
        call.resource if call is not None else "",
        spec.data_class if spec else "",
        tool.fingerprint,
        args_hash,
        agent.id if agent else "",
        agent.version if agent else "",
        agent.owner if agent else "",
        known.claims.task if known else "",
        known.id if known else "",
        decision.approval_id,
        decision.approved_by,
        risk_state=call.label.name if call is not None else "",
        delegation=tuple((link.agent_id, link.user) for link in known.chain) if known and known.chain[1:] else (),
        approvals=decision.approvals,
    )


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
    result_hash: str,
    result_bytes: int | None,
    secrets: Sequence[tuple[str, str]] = (),
) -> AuditRecord:
    """Return the record of how a body ended; see :class:`AuditRecord` for the units."""
    return AuditRecord(
        RecordKind.OUTCOME,
        time,
        decision.id,
        decision.tool,
        decision.outcome,
        decision.tier,
        session.agent.name if session else "",
        session.user.id if session else "",
        session.id if session else "",
        call_id,
        span.trace_id if span else "",
        span.span_id if span else "",
        status=status,
        error_type=error_type,
        duration_ms=duration_ms,
        result_hash=result_hash,
        result_bytes=result_bytes,
        secrets=secrets,
    )
