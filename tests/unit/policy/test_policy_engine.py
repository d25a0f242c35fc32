"""Decisions: default deny, deny over approval over allow, a human for the high tier, faults that close."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from policy_example import POLICY, call_for, load

from zt_agents.catalog.specs import Tier
from zt_agents.decisions import Outcome, ReasonCode, ToolCall
from zt_agents.identity.principals import AgentStatus, User
from zt_agents.policy import Policy
from zt_agents.policy.conditions import Condition
from zt_agents.provenance.labels import Integrity, Label

ALLOW, DENY, ASK = Outcome.ALLOW, Outcome.DENY, Outcome.REQUIRE_APPROVAL


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load()


def rules(*written: str, text: str = POLICY) -> Policy:
    """The policy of these tests with other rules, each ``agents tools outcome [key: value ...]``."""
    head = text[: text.index("rules:\n")] + "rules:\n"
    for number, rule in enumerate(written):
        agents, tools, outcome, *more = rule.split(" ", 3)
        head += f"  - id: r{number}\n    agents: [{agents}]\n    tools: [{tools}]\n    outcome: {outcome}\n"
        head += "    reason: Because\n"
        head += "".join(f"    {line}\n" for line in (more[0].split("; ") if more else []))
    return load(head)


def outcome(
    policy: Policy, agent: str, tool: str, arguments: dict[str, Any] | None = None, **more: Any
) -> Outcome:
    return policy.engine.decide(call_for(policy, agent, tool, arguments, **more)).outcome


def test_an_allowed_call(policy: Policy) -> None:
    decision = policy.engine.decide(call_for(policy, "helpdesk", "read_ticket"))
    assert decision.allowed
    assert (decision.tier, decision.rule_id) == (Tier.LOW, "read-tickets")
    assert (decision.policy_id, decision.policy_version) == (policy.id, policy.version)


def test_decisions_have_ids_of_their_own(policy: Policy) -> None:
    call = call_for(policy, "helpdesk", "read_ticket")
    assert len({policy.engine.decide(call).id for _ in range(100)}) == 100


def test_default_deny(policy: Policy) -> None:
    decision = policy.engine.decide(call_for(policy, "helpdesk", "pay"))
    assert (decision.outcome, decision.reasons[0].code) == (DENY, ReasonCode.NO_RULE)
    decision = policy.engine.decide(call_for(policy, "helpdesk", "read_ticket", {"ticket_id": 0}))
    assert decision.reasons[0].text == (
        "No rule allows it: the one rule about agent 'helpdesk' and tool 'read_ticket' does not apply to this call."
    )


def test_conditions_decide(policy: Policy) -> None:
    assert outcome(policy, "finance", "pay", {"amount": 100}) is ALLOW
    assert outcome(policy, "finance", "pay", {"amount": 100.01}) is ASK
    assert outcome(policy, "finance", "pay", {"currency": "GBP"}) is DENY


def test_deny_overrides_approval_overrides_allow() -> None:
    assert outcome(rules("finance pay allow"), "finance", "pay") is ALLOW
    both = ["finance pay allow", "finance pay require_approval when: args.amount > 1.0"]
    assert outcome(rules(*both), "finance", "pay") is ASK
    assert outcome(rules(*reversed(both)), "finance", "pay") is ASK
    three = [*both, "finance pay deny when: args.amount > 2.0"]
    for order in (three, three[::-1], three[1:] + three[:1]):
        assert outcome(rules(*order), "finance", "pay") is DENY


def test_a_high_tier_is_held_for_a_human_whatever_a_rule_says(policy: Policy) -> None:
    decision = policy.engine.decide(call_for(policy, "helpdesk", "delete_account"))
    assert (decision.outcome, decision.tier) == (ASK, Tier.HIGH)
    assert [reason.code for reason in decision.reasons] == [ReasonCode.HIGH_TIER, ReasonCode.RULE]
    assert decision.rule_id == "close-accounts"


def test_a_high_tier_without_a_rule_is_denied(policy: Policy) -> None:
    assert outcome(policy, "finance", "delete_account") is DENY


def test_a_rule_raises_the_tier() -> None:
    raising = rules("finance pay allow when: args.amount > 10.0; raise_tier: high", "finance pay allow")
    assert outcome(raising, "finance", "pay", {"amount": 10}) is ALLOW
    decision = raising.engine.decide(call_for(raising, "finance", "pay", {"amount": 11}))
    assert (decision.outcome, decision.tier) == (ASK, Tier.HIGH)


@pytest.mark.parametrize("first", ["allow", "require_approval", "deny when: args.amount > 10.0"])
def test_a_rule_raises_the_tier_of_a_call_that_another_rule_decides(first: str) -> None:
    raising = rules(f"finance pay {first}", "finance pay allow when: args.amount > 1.0; raise_tier: high")
    decision = raising.engine.decide(call_for(raising, "finance", "pay", {"amount": 11}))
    assert decision.tier is Tier.HIGH
    assert decision.outcome is not ALLOW


def test_an_allow_rule_that_cannot_be_evaluated_still_raises_the_tier() -> None:
    raising = rules(
        "finance pay allow when: user.attributes.level > 10; raise_tier: high", "finance pay allow"
    )
    assert outcome(raising, "finance", "pay") is ASK


def test_the_call_may_raise_its_tier_and_never_lower_it(policy: Policy) -> None:
    call = call_for(policy, "helpdesk", "read_ticket")
    assert call.spec
    raised = call._replace(spec=dataclasses.replace(call.spec, tier=Tier.HIGH))
    assert policy.engine.decide(raised).outcome is ASK
    call = call_for(policy, "helpdesk", "delete_account")
    assert call.spec
    lowered = call._replace(spec=dataclasses.replace(call.spec, tier=Tier.LOW))
    assert policy.engine.decide(lowered).outcome is ASK


def test_a_rule_for_everything(policy: Policy) -> None:
    frozen = rules("finance pay allow", '"*" "*" deny when: context.attributes.frozen == true')
    for tool in ("pay", "read_ticket", "delete_account"):
        decision = frozen.engine.decide(call_for(frozen, "finance", tool, attributes={"frozen": True}))
        assert (decision.outcome, decision.rule_id) == (DENY, "r1")
    assert outcome(frozen, "finance", "pay", attributes={"frozen": False}) is ALLOW


@pytest.mark.parametrize("strong", ["deny", "require_approval"])
def test_a_condition_that_cannot_be_evaluated_never_allows(strong: str) -> None:
    only = rules("finance pay allow when: user.attributes.level >= 3")
    assert outcome(only, "finance", "pay") is DENY
    assert outcome(only, "finance", "pay", user=User("a", attributes={"level": 3})) is ALLOW
    guarded = rules("finance pay allow", f"finance pay {strong} when: user.attributes.level < 3")
    decision = guarded.engine.decide(call_for(guarded, "finance", "pay"))
    assert (decision.outcome.value, decision.rule_id) == (strong, "r1")
    assert "could not be evaluated, so the rule applies" in decision.reasons[0].text
    assert outcome(guarded, "finance", "pay", user=User("a", attributes={"level": 3})) is ALLOW


def test_a_rule_that_could_not_allow_is_named_and_not_credited() -> None:
    only = rules("finance pay allow when: user.attributes.level >= 3")
    decision = only.engine.decide(call_for(only, "finance", "pay"))
    assert decision.rule_id is None
    assert "'r0' could not be evaluated, so the rule allows nothing" in decision.explain()


def test_reasons_do_not_quote_values() -> None:
    policy = rules("finance pay deny when: user.attributes[args.to] == 1", "finance pay allow")
    decision = policy.engine.decide(call_for(policy, "finance", "pay", {"to": "s3cret"}))
    assert decision.outcome is DENY
    assert "s3cret" not in decision.explain()


def test_unknown_tools_are_denied(policy: Policy) -> None:
    call = call_for(policy, "helpdesk", "read_ticket")
    assert call.spec
    for strange in (
        call._replace(spec=None),
        call._replace(tool="Read_Ticket"),
        call._replace(tool="rеad_ticket"),
        call._replace(tool="read_ticket "),
        call._replace(tool="pay"),
        call._replace(tool="other", spec=dataclasses.replace(call.spec, name="other")),
    ):
        decision = policy.engine.decide(strange)
        assert (decision.outcome, decision.reasons[0].code) == (DENY, ReasonCode.UNKNOWN_TOOL)


def test_unknown_and_inactive_agents_are_denied() -> None:
    text = POLICY.replace("    status: retired", "    status: suspended")
    policy = rules('"*" read_ticket allow', text=text)
    call = call_for(policy, "helpdesk", "read_ticket")
    assert call.agent
    assert policy.engine.decide(call).allowed
    for agent in (
        None,
        dataclasses.replace(call.agent, name="Helpdesk"),
        dataclasses.replace(call.agent, name="*"),
        dataclasses.replace(call.agent, id="spiffe://acme.example/agent/finance"),
        dataclasses.replace(call.agent, status=AgentStatus.SUSPENDED),
        policy.agents["old-bot"],
        dataclasses.replace(policy.agents["old-bot"], status=AgentStatus.ACTIVE),
    ):
        decision = policy.engine.decide(call._replace(agent=agent))
        assert (decision.outcome, decision.reasons[0].code) == (DENY, ReasonCode.IDENTITY)


def test_a_call_without_a_user_satisfies_no_condition_on_the_user() -> None:
    policy = rules("finance pay allow when: user.id != 'mallory'")
    assert outcome(policy, "finance", "pay") is ALLOW
    assert outcome(policy, "finance", "pay", user=None) is DENY


# ---- What went wrong elsewhere


def test_arguments_named_like_other_variables_do_not_reach_them() -> None:
    policy = rules("helpdesk delete_account allow when: \"'admin' in user.roles\"")
    forged = {"user": {"role": "admin", "roles": ["admin"]}, "user.roles": ["admin"], "roles": ["admin"]}
    assert outcome(policy, "helpdesk", "delete_account", forged) is DENY
    assert outcome(policy, "helpdesk", "delete_account", forged, user=User("a", roles=("admin",))) is ASK


@pytest.mark.parametrize(
    "amount", [True, False, "5", "5.0", None, [5], {"amount": 5}, 2**70, float("nan"), 10**400, b"5"]
)
def test_a_value_of_another_type_never_allows(amount: object) -> None:
    policy = rules(
        "finance pay allow when: args.amount < 100.0 || args.amount >= 100.0 || args.amount == 5.0"
    )
    assert outcome(policy, "finance", "pay", {"amount": 5}) is ALLOW
    assert outcome(policy, "finance", "pay", {"amount": amount}) is DENY


@pytest.mark.parametrize("count", [True, False, "1", None, 1.0, 1.5, [1], 2**63, -(2**63) - 1])
def test_a_value_of_another_type_does_not_escape_a_deny_rule(count: object) -> None:
    policy = rules("finance pay allow", "finance pay deny when: args.count == 1000")
    assert outcome(policy, "finance", "pay", {"count": 1}) is ALLOW
    assert outcome(policy, "finance", "pay", {"count": count}) is DENY


@pytest.mark.parametrize("tags", ["rent", [1], [None], [["rent"]], {"rent": 1}, None, [True]])
def test_lists_hold_what_the_schema_says(tags: object) -> None:
    policy = rules("finance pay allow", "finance pay deny when: \"args.tags.exists(tag, tag == 'secret')\"")
    assert outcome(policy, "finance", "pay", {"tags": ["rent"]}) is ALLOW
    assert outcome(policy, "finance", "pay", {"tags": tags}) is DENY


def test_a_missing_argument_never_allows() -> None:
    policy = rules("finance pay allow when: args.payee.city != 'Nowhere'")
    assert outcome(policy, "finance", "pay") is ALLOW
    for payee in (None, {}, {"city": None}, {"CITY": "Berlin"}, "Berlin", ["Berlin"]):
        assert outcome(policy, "finance", "pay", {"payee": payee}) is DENY


def test_text_is_compared_exactly() -> None:
    policy = rules("finance pay allow when: args.to == 'DE02'")
    assert outcome(policy, "finance", "pay", {"to": "DE02"}) is ALLOW
    for other in ("de02", "DE02 ", "ＤＥ02", "DE02\n", "DЕ02", "\ud800", "DE02\ud800"):
        assert outcome(policy, "finance", "pay", {"to": other}) is DENY


def test_text_does_not_end_at_a_nul() -> None:
    policy = rules("finance pay allow when: args.to == 'DE02' && user.id == 'alice' && size(args.tags) < 9")
    assert outcome(policy, "finance", "pay") is ALLOW
    assert outcome(policy, "finance", "pay", {"to": "DE02\0, GB66"}) is DENY
    assert outcome(policy, "finance", "pay", {"tags": ["a\0b"]}) is DENY
    assert outcome(policy, "finance", "pay", {"to": "DE02 Mu\u0308ller"}) is DENY  # looks like another text
    assert outcome(policy, "finance", "pay", user=User("alice\0, mallory")) is DENY
    facts = rules("finance pay allow when: user.attributes.role == 'payer'")
    for attributes in ({"role": "payer\0x"}, {"role": "payer", "x": ["\0"]}, {"role\0x": "payer"}):
        assert outcome(facts, "finance", "pay", user=User("a", attributes=attributes)) is DENY


def test_text_may_be_compared_without_case() -> None:
    policy = rules(
        "finance pay allow",
        "finance pay deny when: args.note != null && args.note.lowerAscii().contains('drop ')",
    )
    assert outcome(policy, "finance", "pay") is ALLOW
    assert outcome(policy, "finance", "pay", {"note": "a DrOp table"}) is DENY


def test_a_fault_inside_a_value_closes() -> None:
    class Hostile(dict[str, Any]):
        def get(self, *_: object) -> Any:
            raise RuntimeError("no")

    policy = rules("finance pay allow when: args.amount < 100.0")
    call = call_for(policy, "finance", "pay")._replace(arguments=Hostile())
    assert policy.engine.decide(call).outcome is DENY


def test_a_fault_of_the_engine_propagates(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_self: Condition, _call: ToolCall) -> bool | None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Condition, "evaluate", broken)
    with pytest.raises(RuntimeError, match="broken"):
        policy.engine.decide(call_for(policy, "helpdesk", "read_ticket"))


def test_labels_and_time_come_from_the_call() -> None:
    policy = rules(
        "finance pay allow when: "
        "provenance.integrity != 'untrusted' && context.time.getHours('Europe/Berlin') < 18"
    )
    noon, evening = 1_767_265_200.0, 1_767_290_400.0  # 2026-01-01, 12:00 and 19:00 in Berlin
    assert outcome(policy, "finance", "pay", time=noon) is ALLOW
    assert outcome(policy, "finance", "pay", time=evening) is DENY
    assert outcome(policy, "finance", "pay", time=noon, label=Label(integrity=Integrity.UNTRUSTED)) is DENY
