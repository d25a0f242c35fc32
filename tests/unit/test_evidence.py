"""What is recorded of a call stands in the field that is named for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from zt_agents.audit.records import AuditRecord, BodyStatus, RecordKind
from zt_agents.catalog.specs import Tier
from zt_agents.decisions import ChainLink, Decision, Outcome, Reason, ReasonCode
from zt_agents.evidence import decision_record, outcome_record
from zt_agents.provenance.labels import Label

REASON = Reason(ReasonCode.RULE, "Because.", "the-rule")
DECISION = Decision("decision", Outcome.ALLOW, "tool", Tier.LOW, (REASON,), (), "policy", "version", "asked", "bo")
SPEC: Any = SimpleNamespace(system="system", data_class="restricted")
TOOL: Any = SimpleNamespace(name="tool", spec=SPEC, effects=("read",), fingerprint="print")
AGENT: Any = SimpleNamespace(name="agent", id="agent-id", version="agent-version", owner="owner")
LINKS = [ChainLink(name, f"{name}-id", "owner", f"{name}-user", name, "task") for name in ("agent", "caller")]
SESSION: Any = SimpleNamespace(
    agent=AGENT, user=SimpleNamespace(id="user"), id="session", claims=SimpleNamespace(task="task"), chain=tuple(LINKS)
)
SPAN: Any = SimpleNamespace(trace_id="trace", span_id="span")
CALL: Any = SimpleNamespace(agent=AGENT, resource="resource", label=Label())
COMMON: dict[str, Any] = {
    "time": 1.0,
    "decision_id": "decision",
    "tool": "tool",
    "outcome": Outcome.ALLOW,
    "tier": Tier.LOW,
    "agent": "agent",
    "user_id": "user",
    "session_id": "session",
    "call_id": "call",
    "trace_id": "trace",
    "span_id": "span",
}


def said(record: AuditRecord) -> dict[str, Any]:
    return {name: value for name, value in record._asdict().items() if value != AuditRecord._field_defaults.get(name)}


def test_a_decision() -> None:
    record = decision_record(DECISION, TOOL, CALL, SESSION, SPAN, time=1.0, call_id="call", args_hash="args")
    assert said(record) == {
        "kind": RecordKind.DECISION,
        **COMMON,
        "reasons": (REASON,),
        "rule_id": "the-rule",
        "policy_id": "policy",
        "policy_version": "version",
        "effects": ("read",),
        "system": "system",
        "resource": "resource",
        "data_class": "restricted",
        "tool_fingerprint": "print",
        "args_hash": "args",
        "agent_id": "agent-id",
        "agent_version": "agent-version",
        "owner": "owner",
        "task": "task",
        "token_jti": "session",
        "approval_id": "asked",
        "approved_by": "bo",
        "risk_state": Label().name,
        "delegation": (("agent-id", "agent-user"), ("caller-id", "caller-user")),
    }


def test_an_end() -> None:
    ended: dict[str, Any] = {
        "status": BodyStatus.ERROR,
        "error_type": "ValueError",
        "duration_ms": 2.5,
        "result_hash": "result",
        "result_bytes": 7,
        "secrets": (("smtp", "lent"),),
    }
    record = outcome_record(DECISION, SESSION, SPAN, time=1.0, call_id="call", **ended)
    assert said(record) == {"kind": RecordKind.OUTCOME, **COMMON, **ended}
