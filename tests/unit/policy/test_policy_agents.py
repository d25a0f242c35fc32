"""The agents of a policy: who answers for them, the most they may call, what holds while they are under review."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_example import PARAMETERS, POLICY, call_for

from zt_agents.catalog.specs import Tier
from zt_agents.decisions import Outcome, ReasonCode
from zt_agents.errors import PolicyFileError
from zt_agents.identity import Agent
from zt_agents.identity.principals import OnChange
from zt_agents.policy import Policy, parse_policy

OWNER = "    owner: dana@acme.example\n"
CLOSING = ("agents: [helpdesk]\n    tools: [delete_account]", "agents: [finance]\n    tools: [delete_account]")
OTHER = Agent("scout", "spiffe://acme.example/agent/scout", "1", "erin@acme.example", "Look around")


def load(*changes: tuple[str, str], registered: tuple[Agent, ...] = ()) -> Policy:
    text = POLICY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_policy(text, name="p.yaml", parameters=PARAMETERS, registered=registered)


def mistakes(*changes: tuple[str, str], registered: tuple[Agent, ...] = ()) -> list[str]:
    with pytest.raises(PolicyFileError) as caught:
        load(*changes, registered=registered)
    assert all(problem.line and problem.column for problem in caught.value.problems)
    return [problem.message for problem in caught.value.problems]


def test_a_list_of_tools_is_the_most_an_agent_may_call_whatever_rules_say() -> None:
    policy = load((OWNER, f"{OWNER}    tools: [read_ticket]\n"), CLOSING)
    agent = policy.agents["helpdesk"]
    assert agent.tools == {"read_ticket"}
    assert policy.engine.decide(call_for(policy, "helpdesk", "read_ticket")).allowed
    for tool in ("pay", "delete_account"):
        decision = policy.engine.decide(call_for(policy, "helpdesk", tool))
        assert decision.outcome is Outcome.DENY
        assert decision.reasons[0].code is ReasonCode.NO_RULE
        assert "none of those that agent 'helpdesk' may call" in decision.reasons[0].text


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ("[read_tickets]", "no tool is called 'read_tickets'. Did you mean 'read_ticket'?"),
        ("[read_ticket, read_ticket]", "'read_ticket' appears twice."),
        ("[]", "this is empty, and empty never means all: name what is meant."),
    ],
)
def test_a_list_of_tools_names_tools(tools: str, message: str) -> None:
    assert message in mistakes((OWNER, f"{OWNER}    tools: {tools}\n"))


def test_a_rule_above_an_agent_s_list_is_a_mistake() -> None:
    found = mistakes((OWNER, f"{OWNER}    tools: [pay]\n"))
    assert any("agent 'helpdesk' may call none of these tools" in each for each in found)
    finance = ("    purpose: Pay what was approved\n", "    purpose: Pay\n    tools: [delete_account]\n")
    assert any("can never apply: its agents may not call" in each for each in mistakes(finance))


@pytest.mark.parametrize(
    "owner", ["owner", "Anyone", "session-user", "finance", "ＦＩＮＡＮＣＥ", "spiffe://acme.example/agent/x"]
)
def test_an_owner_is_a_human(owner: str) -> None:
    (message,) = mistakes((OWNER, f"    owner: {owner}\n"))
    assert "human" in message


@pytest.mark.parametrize(("period", "seconds"), [("30s", 30), ("12h", 43_200), ("7d", 604_800), ("90d", 7_776_000)])
def test_the_grace_period_of_owners(period: str, seconds: int) -> None:
    assert load().owner_grace == 604_800
    assert load(("version: 1\n", f"version: 1\nowners: {{grace: {period}}}\n")).owner_grace == seconds


@pytest.mark.parametrize("period", ["0d", "91d", "7", "7w", "''", "null", "1.5d", "999999d"])
def test_a_grace_period_that_is_none_does_not_load(period: str) -> None:
    assert mistakes(("version: 1\n", f"version: 1\nowners: {{grace: {period}}}\n"))


def test_registered_agents_are_known_to_rules() -> None:
    rule = ("agents: [helpdesk, finance]", "agents: [helpdesk, finance, scout]")
    assert any("no agent is called 'scout'" in each for each in mistakes(rule))
    policy = load(rule, registered=(OTHER,))
    assert policy.engine.decide(call_for(policy, "scout", "read_ticket")).allowed
    assert policy.version not in (load().version, load(registered=(OTHER,)).version)


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        (replace(OTHER, name="helpdesk"), "an agent of this name is registered"),
        (replace(OTHER, id="spiffe://acme.example/agent/helpdesk"), "agent 'scout' is registered with this id"),
    ],
)
def test_an_agent_is_declared_or_registered_and_not_both(agent: Agent, message: str) -> None:
    assert message in mistakes(registered=(agent,))[0]


# -- under review ---------------------------------------------------------------------------------------------------

CALLS = st.sampled_from(
    [
        ("helpdesk", "read_ticket", {}),
        ("helpdesk", "read_ticket", {"ticket_id": -1}),
        ("finance", "pay", {}),
        ("finance", "pay", {"amount": 1000}),
        ("finance", "pay", {"amount": 1_000_000}),
        ("helpdesk", "delete_account", {}),
    ]
)
STRENGTH = {Outcome.ALLOW: 1, Outcome.REQUIRE_APPROVAL: 2, Outcome.DENY: 3}
RAISED = {Tier.LOW: Tier.MEDIUM, Tier.MEDIUM: Tier.HIGH, Tier.HIGH: Tier.HIGH}
EXAMPLE = load()


@given(CALLS)
def test_under_review_a_call_is_one_tier_higher_and_never_easier(asked: tuple[str, str, dict[str, object]]) -> None:
    agent, tool, arguments = asked
    call = call_for(EXAMPLE, agent, tool, arguments)
    assert call.agent is not None
    usual = EXAMPLE.engine.decide(call)
    raised = EXAMPLE.engine.decide(call._replace(agent=replace(call.agent, under_review=OnChange.RAISE_TIER)))
    denied = EXAMPLE.engine.decide(call._replace(agent=replace(call.agent, under_review=OnChange.DENY)))
    assert raised.tier is RAISED[usual.tier]
    assert STRENGTH[raised.outcome] >= STRENGTH[usual.outcome]
    assert not (raised.allowed and raised.tier is Tier.HIGH)
    if raised.outcome is not Outcome.DENY:
        assert raised.reasons[-1].code is ReasonCode.UNDER_REVIEW
    assert denied.outcome is Outcome.DENY
    assert denied.reasons[0].code is ReasonCode.UNDER_REVIEW


def test_what_the_policy_says_of_a_change() -> None:
    assert EXAMPLE.agents["helpdesk"].on_change is None
    for word in OnChange:
        assert load((OWNER, f"{OWNER}    on_change: {word}\n")).agents["helpdesk"].on_change is word
    assert "'note' is not one of deny, raise_tier." in mistakes((OWNER, f"{OWNER}    on_change: note\n"))[0]
