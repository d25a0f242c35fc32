"""Requests for the tests of approvals."""

from __future__ import annotations

from typing import Any

from zt_agents.approvals import Answer, ApprovalRequest, request_approval
from zt_agents.catalog.specs import Effect, Tier, ToolSpec
from zt_agents.decisions import ApprovalTerms, Decision, Outcome, Reason, ReasonCode, ToolCall
from zt_agents.identity import Agent, User
from zt_agents.provenance.labels import DataClass, Integrity, Label

NOW = 1_800_000_000.0
SPEC = ToolSpec("pay", Tier.HIGH, frozenset({Effect.MONEY}), "bank", "account/{args.to}", destinations=("to",))
HELPDESK = Agent("helpdesk", "spiffe://acme.example/helpdesk", "1", "dana@acme.example", "answers tickets")
ALICE = User("alice@acme.example", "Alice", ("hr",), ("clerk",))


def request(
    *terms: ApprovalTerms, call_id: str | None = "call-1", arguments: dict[str, Any] | None = None
) -> ApprovalRequest:
    call = ToolCall(
        "pay",
        SPEC,
        arguments if arguments is not None else {"to": "bob", "amount": 1.5, "note": ["ü", None]},
        HELPDESK,
        ALICE,
        session_id="s",
        intent="Pay Bob",
        task="t",
        call_id=call_id,
        resource="account/bob",
        label=Label(Integrity.UNTRUSTED, DataClass.RESTRICTED),
        time=NOW,
        environment="test",
    )
    reason = Reason(ReasonCode.RULE, "Money goes out.", "money")
    decision = Decision("d", Outcome.REQUIRE_APPROVAL, "pay", Tier.HIGH, (reason,), terms=terms)
    return request_approval(call, decision, timeout=60)


def answer(to: ApprovalRequest, approver: str, approved: bool = True, *groups: str) -> Answer:
    return Answer(to.binding_hash, approved, approver, groups=groups)
