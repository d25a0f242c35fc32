"""Who approves, as a policy says it; what nobody could meet does not load."""

from __future__ import annotations

import pytest

from zt_agents.catalog.specs import Tier, ToolSpec
from zt_agents.decisions import ApprovalTerms, Outcome, Proof, SecondFactor, ToolCall
from zt_agents.errors import PolicyFileError
from zt_agents.identity import Agent, User
from zt_agents.policy import Policy, parse_policy

HEAD = """
version: 1
trust_domain: acme.example
environment: test
agents:
  bot: {id: spiffe://acme.example/agent/bot, version: "1", owner: dana@acme.example, purpose: tests}
tools:
  pay: {tier: medium, effects: [money]}
"""
ALLOW = "  - {id: allow, agents: [bot], tools: [pay], outcome: allow}\n"


def load(rules: str = ALLOW, approvals: str = "") -> Policy:
    return parse_policy(f"{HEAD}{approvals}\nrules:\n{rules}", name="p.yaml", parameters={"pay": PARAMETERS})


PARAMETERS = {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]}


def held(rule_id: str, approvals: str = "", when: str = "") -> str:
    parts = [f"id: {rule_id}, agents: [bot], tools: [pay], outcome: require_approval, reason: Because."]
    parts += [f"approvals: {approvals}"] if approvals else []
    parts += [f"when: '{when}'"] if when else []
    return f"  - {{{', '.join(parts)}}}\n"


def terms(policy: Policy, amount: int = 5) -> tuple[ApprovalTerms, ...]:
    spec: ToolSpec = policy.tools["pay"]
    agent: Agent = policy.agents["bot"]
    decision = policy.engine.decide(ToolCall("pay", spec, {"amount": amount}, agent))
    assert decision.outcome is Outcome.REQUIRE_APPROVAL
    return decision.terms


def test_defaults() -> None:
    policy = load(held("hold"))
    assert terms(policy) == (ApprovalTerms(("anyone",), 1, 120),)
    assert (policy.approval_timeout, policy.approval_retention) == (120, 3600)
    assert policy.approvals_path.name == "zt-agents-approvals.db"


def test_a_rule_takes_over_what_it_does_not_say() -> None:
    policy = load(
        held("hold", "{quorum: 3}"), "approvals: {approvers: [owner, 'group:finance'], timeout: 5m, quorum: 2}"
    )
    assert terms(policy) == (ApprovalTerms(("owner", "group:finance"), 3, 300),)


def test_every_rule_that_applies_is_to_be_met() -> None:
    policy = load(
        held("first", "{approvers: [owner]}")
        + held("second", "{approvers: ['group:finance'], timeout: 1m}", "args.amount > 10")
        + held("third", when="args.amount > 100")
    )
    owner, finance = ApprovalTerms(("owner",)), ApprovalTerms(("group:finance",), 1, 60)
    assert terms(policy) == (owner,)
    assert set(terms(policy, 50)) == {owner, finance}
    assert set(terms(policy, 500)) == {owner, finance, ApprovalTerms(("anyone",))}


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_rules_does_not_matter(order: int) -> None:
    rules = [held("plain"), held("special", "{approvers: [session-user]}", "args.amount > 1")][::order]
    policy = load("".join(rules), "approvals: {approvers: ['group:security']}")
    assert set(terms(policy)) == {ApprovalTerms(("group:security",)), ApprovalTerms(("session-user",))}


def test_the_high_tier_asks_as_everywhere() -> None:
    policy = load(ALLOW.replace("allow}", "allow, raise_tier: high}"), "approvals: {approvers: [owner]}")
    assert terms(policy) == (ApprovalTerms(("owner",)),)
    assert policy.tools["pay"].tier is Tier.MEDIUM


@pytest.mark.parametrize(
    ("rules", "approvals", "message"),
    [
        (ALLOW, "approvals: {approvers: [ownr]}", "an approver is anyone, owner"),
        (ALLOW, "approvals: {approvers: ['group:']}", "an approver is anyone, owner"),
        (ALLOW, "approvals: {approvers: []}", "empty never means all"),
        (ALLOW, "approvals: {aprovers: [owner]}", "no key 'aprovers'"),
        (ALLOW, "approvals: {quorum: 0}", "greater than or equal to 1"),
        (ALLOW, "approvals: {quorum: true}", "integer"),
        (ALLOW, "approvals: {approvers: [owner], quorum: 2}", "can never be reached: only one person"),
        (held("h", "{approvers: ['user:a', 'user:b', 'user:a'], quorum: 3}"), "", "only 2 people may approve"),
        (held("h", "{aprovers: [owner]}"), "", "no key 'aprovers'"),
        (held("h", "{retention: 1m}"), "", "no key 'retention'"),
        (ALLOW.replace("allow}", "allow, approvals: {quorum: 2}}"), "", "with the outcome require_approval"),
        (ALLOW, "approvals: {approvers: [owner], exclude: [owner]}", "'owner' is asked and excluded"),
        (held("h", "{exclude: [session-user]}"), "", "the user that the agent acts for always is"),
        (held("h", "{exclude: [anyone]}"), "", "who is excluded is"),
        (held("h", "{approvers: [session-user], proof: credential}"), "", "nobody vouches for"),
        (held("h", "{approvers: [session-user, owner], second_factor: totp}"), "", "nobody vouches for"),
        (held("h", "{proof: strong}"), "", "attested"),
        (held("h", "{second_factor: sms}"), "", "totp"),
        (held("h", "{escalate: {after: 2m, to: ['group:boss']}}"), "", "the time is over before it escalates"),
        (held("h", "{escalate: {after: 1m, to: [session-user]}}"), "", "nobody to escalate to"),
        (held("h", "{escalate: {after: 1m}}"), "", "needs the key 'to'"),
        (held("h", "{escalate: {after: 1m, too: [owner]}}"), "", "no key 'too'"),
        (held("h", "{escalate: null}"), "", "mapping"),
        (held("h", "{standing: {uses: 5}}"), "", "needs the key 'within'"),
        (held("h", "{standing: {uses: 0, within: 1h}}"), "", "greater than or equal to 1"),
        (held("h", "{standing: {uses: 5, within: 25h}}"), "", "24h"),
        (held("h", "{standing: {uses: 5, within: 8h}, second_factor: totp}"), "", "say second_factor: none"),
        (held("h", "{remember: forever}"), "", "session"),
        (held("h", "{remember: session}"), "", "by which calls are alike"),
        (held("h", "{grace: 2m}"), "", "'grace' has to be less than 'timeout'"),
        (held("h", "{grace: 1m, proof: credential}"), "", "silence is proof of nobody"),
        (held("h", "{grace: 1m, second_factor: any}"), "", "silence is proof of nobody"),
        (ALLOW, "approvals: {when: 'approver.name == \"x\"'}", "approver.name"),
        (ALLOW, "approvals: {when: 'context.attributes.x == 1'}", "context.attributes"),
        (ALLOW, "approvals: {when: 'args.amonut < 5'}", "args.amount"),
        (held("h", "{when: 'approver.groups == \"x\"'}"), "", "does not take (list(string), string)"),
        (held("h", when='approver.id == "x"'), "", "approver"),
    ],
)
def test_mistakes(rules: str, approvals: str, message: str) -> None:
    with pytest.raises(PolicyFileError) as error:
        load(rules, approvals)
    assert message in str(error.value)
    assert error.value.problems[0].line > 1


def test_all_that_can_be_said_of_approvers() -> None:
    said = (
        "{approvers: [owner], quorum: 1, timeout: 30m, proof: credential, second_factor: passkey, "
        "exclude: ['user:eve'], escalate: {after: 10m, to: ['group:duty', owner]}}"
    )
    assert terms(load(held("hold", said))) == (
        ApprovalTerms(
            ("owner",),
            1,
            1800,
            Proof.CREDENTIAL,
            SecondFactor.PASSKEY,
            ("user:eve",),
            "",
            600,
            ("group:duty", "owner"),
        ),
    )


def test_a_condition_on_approvers_sees_them_and_the_call() -> None:
    when = "args.amount < 100 || 'directors' in approver.groups && approver.id != agent.owner"
    policy = load(held("hold", f'{{when: "{when}"}}'))
    (asked,) = terms(policy)
    assert asked.when == when

    def may(amount: object, name: str, *groups: str) -> bool:
        call = ToolCall("pay", policy.tools["pay"], {"amount": amount}, policy.agents["bot"])
        return policy.eligibility.holds(when, call, User(name, groups=groups))

    assert may(5, "bob")
    assert not may(500, "bob")
    assert may(500, "bob", "directors")
    assert not may(500, "dana@acme.example", "directors")
    assert not may("5", "bob"), "an argument of another type has no answer"
    assert not policy.eligibility.holds("true", ToolCall("pay", None, {}), User("bob")), "of another policy"


def test_approving_in_advance_and_silence_are_said_as_well() -> None:
    (asked,) = terms(load(held("hold", "{standing: {uses: 5, within: 8h}, grace: 30s}")))
    assert (asked.standing_uses, asked.standing_within, asked.grace, asked.remember) == (5, 28_800, 30, False)
    (asked,) = terms(load(held("hold"), "approvals: {remember: session}"))
    assert asked.remember


def test_silence_is_for_no_tool_of_the_high_tier() -> None:
    text = HEAD.replace("tier: medium", "tier: high")
    for said, why in (("{grace: 1m}", "silence is never a yes"), ("{remember: session}", "is of the high tier")):
        with pytest.raises(PolicyFileError, match=why):
            parse_policy(f"{text}rules:\n{held('h', said)}", name="p.yaml", parameters={"pay": PARAMETERS})
