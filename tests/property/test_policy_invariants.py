"""What holds for every policy: denying is stronger, narrowing never widens, order does not matter, nothing crashes."""

# ruff: noqa: E501 - a table reads best with one row on a line
from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from zt_agents.catalog.specs import Tier
from zt_agents.decisions import Decision, Outcome, ToolCall
from zt_agents.errors import PolicyFileError
from zt_agents.identity.principals import User
from zt_agents.policy import Policy, parse_policy

AGENTS = ("anna", "bert")
TOOLS = ("look", "send", "wipe")
SCHEMA: dict[str, Any] = {
    "properties": {
        "n": {"type": "integer"},
        "s": {"type": "string"},
        "m": {"type": ["number", "null"]},
        "b": {"type": "boolean"},
    },
    "required": ["n", "s", "b"],
}
HEAD = """\
version: 1
trust_domain: t.example
environment: test
agents:
  anna: {id: spiffe://t.example/anna, version: "1", owner: o, purpose: p}
  bert: {id: spiffe://t.example/bert, version: "1", owner: o, purpose: p}
tools:
  look: {tier: low, effects: [read]}
  send: {tier: medium, effects: [egress]}
  wipe: {tier: high, effects: [delete]}
rules:
"""
CONDITIONS = (
    "",
    "args.n > 0",
    "args.s == 'a' || args.n < 5",
    "args.m == null",
    "args.m > 0.5",
    "args.b && user.id == 'alice'",
    "user.attributes.level > 1",
    "provenance.integrity == 'user'",
    "10 / args.n > 1",
)

condition = st.sampled_from(CONDITIONS)
rule = st.tuples(
    st.lists(st.sampled_from(AGENTS), min_size=1, unique=True),
    st.lists(st.sampled_from(TOOLS), min_size=1, unique=True),
    st.sampled_from(["allow", "deny", "require_approval"]),
    condition,
    st.sampled_from(["", "high"]),
)
rules = st.lists(rule, min_size=1, max_size=6)
value = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.integers(),
    st.floats(),
    st.sampled_from(["a", "b", "", "a\0", "é", "\ud800", "alice"]),
)
calls = st.tuples(
    st.sampled_from(AGENTS),
    st.sampled_from(TOOLS),
    st.fixed_dictionaries({}, optional=dict.fromkeys(("n", "s", "m", "b"), value)),
    st.sampled_from(["alice", "mallory"]),
    st.fixed_dictionaries({}, optional={"level": value}),
)
STRENGTH = {Outcome.ALLOW: 0, Outcome.REQUIRE_APPROVAL: 1, Outcome.DENY: 2}
Rule = tuple[list[str], list[str], str, str, str]


def written(number: int, each: Rule) -> str:
    agents, tools, outcome, when, raised = each
    text = f"  - {{id: r{number}, agents: [{', '.join(agents)}], tools: [{', '.join(tools)}], outcome: {outcome}, reason: x"
    text += f', when: "{when}"' if when else ""
    return text + (f", raise_tier: {raised}" if raised else "") + "}\n"


def load(each: list[Rule]) -> Policy | None:
    """The policy, or None where the loader refuses it as pointless."""
    text = HEAD + "".join(written(number, one) for number, one in enumerate(each))
    try:
        return parse_policy(text, name="p", parameters=dict.fromkeys(TOOLS, SCHEMA))
    except PolicyFileError as error:
        problems = error.problems
    assert all("can never matter" in problem.message for problem in problems), problems
    return None


def decide(policy: Policy, call: tuple[str, str, dict[str, Any], str, dict[str, Any]]) -> Decision:
    agent, tool, arguments, user, attributes = call
    return policy.engine.decide(
        ToolCall(
            tool=tool,
            spec=policy.tools[tool],
            arguments=arguments,
            agent=policy.agents[agent],
            user=User(user, attributes=attributes),
        )
    )


@given(rules, rule, calls)
def test_a_deny_rule_never_makes_a_decision_weaker(before: list[Rule], added: Rule, call: Any) -> None:
    added = (*added[:2], "deny", *added[3:])
    policy, stricter = load(before), load([*before, added])
    if policy and stricter:
        first, second = decide(policy, call), decide(stricter, call)
        assert STRENGTH[second.outcome] >= STRENGTH[first.outcome]
        assert second.tier.rank >= first.tier.rank


@given(rules, rule, calls)
def test_requiring_approval_never_allows(before: list[Rule], added: Rule, call: Any) -> None:
    added = (*added[:2], "require_approval", *added[3:])
    policy, stricter = load(before), load([*before, added])
    if policy and stricter and not decide(policy, call).allowed:
        assert not decide(stricter, call).allowed


@given(rules, st.data(), condition, calls)
def test_a_narrower_allow_rule_never_allows_more(
    before: list[Rule], data: st.DataObject, more: str, call: Any
) -> None:
    index = data.draw(st.integers(0, len(before) - 1))
    agents, tools, _, when, raised = before[index]
    wide: Rule = (agents, tools, "allow", when, raised)
    narrow: Rule = (
        agents,
        tools,
        "allow",
        f"({when}) && ({more})" if when and more else when or more,
        raised,
    )
    policy = load([*before[:index], wide, *before[index + 1 :]])
    narrowed = load([*before[:index], narrow, *before[index + 1 :]])
    if policy and narrowed and raised == "" and not decide(policy, call).allowed:
        assert not decide(narrowed, call).allowed


@given(rules, st.randoms(use_true_random=False), calls)
def test_order_does_not_matter(before: list[Rule], random: Any, call: Any) -> None:
    shuffled = list(before)
    random.shuffle(shuffled)
    policy, other = load(before), load(shuffled)
    assert (policy is None) == (other is None)
    if policy and other:
        first, second = decide(policy, call), decide(other, call)
        assert (first.outcome, first.tier) == (second.outcome, second.tier)


@given(rules, calls)
def test_nothing_is_allowed_without_an_allow_rule_and_nothing_of_high_tier_ever(
    before: list[Rule], call: Any
) -> None:
    policy = load(before)
    if policy:
        decision = decide(policy, call)
        if decision.allowed:
            assert decision.tier is not Tier.HIGH
            assert any(r[2] == "allow" and call[0] in r[0] and call[1] in r[1] for r in before)
        assert decision.reasons


@given(calls, st.sampled_from(CONDITIONS[1:]))
def test_a_condition_that_cannot_be_evaluated_never_allows(call: Any, when: str) -> None:
    pair = ([call[0]], [call[1]])
    allow = load([(*pair, "allow", when, "")])
    deny = load([(*pair, "allow", "", ""), (*pair, "deny", when, "")])
    assert allow
    assert deny
    if allow.engine.rules[0].conditions[call[1]].evaluate(_call(allow, call)) is None:
        assert not decide(allow, call).allowed
        assert not decide(deny, call).allowed


def _call(policy: Policy, call: Any) -> ToolCall:
    return ToolCall(
        tool=call[1], spec=policy.tools[call[1]], arguments=call[2], user=User(call[3], attributes=call[4])
    )


# ---- Whatever is in the file


def _loads_or_refuses(content: bytes | str) -> None:
    try:
        parse_policy(content, name="p", parameters={"look": SCHEMA})
    except PolicyFileError as error:
        problems = error.problems
    else:
        return
    assert problems


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
@example(b"\xff\xfe")
@example("\ud800")
def test_any_content_loads_or_gives_a_policy_file_error(content: bytes | str) -> None:
    _loads_or_refuses(content)


json_value = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["*", "look", "anna", "low"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = [
    "version",
    "trust_domain",
    "environment",
    "sources",
    "session",
    "agents",
    "tools",
    "tier_patterns",
    "rules",
    "audit",
]
ENTRY_KEYS = [
    "id",
    "agents",
    "tools",
    "outcome",
    "when",
    "raise_tier",
    "reason",
    "tier",
    "effects",
    "resource",
    "destinations",
    "ttl",
]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from(KEYS), json_value, max_size=4),
    st.dictionaries(st.sampled_from(ENTRY_KEYS), json_value, max_size=4),
    st.sampled_from(["tools", "agents", "rules", "tier_patterns", "session"]),
)
def test_any_values_in_any_place_give_a_policy_file_error_or_load(
    top: dict[str, Any], entry: dict[str, Any], section: str
) -> None:
    base: dict[str, Any] = {
        "version": 1,
        "trust_domain": "t.example",
        "environment": "test",
        "agents": {"anna": {"id": "spiffe://t.example/anna", "version": "1", "owner": "o", "purpose": "p"}},
        "tools": {"look": {"tier": "low", "effects": ["read"]}},
        "rules": [{"id": "r", "agents": ["anna"], "tools": ["look"], "outcome": "allow"}],
    }
    if section == "rules":
        base["rules"][0].update(entry)
    elif section in {"agents", "tools"}:
        next(iter(base[section].values())).update(entry)
    else:
        base[section] = [entry] if section == "tier_patterns" else entry
    _loads_or_refuses(json.dumps({**base, **top}))


ALPHABET = ["args.n", "args.s", "user.id", "args", "has(", "(", ")", "[", "]", "==", "&&", "||", "!", "?", ":", "'a'", "1", ".",
            "in", "true", "null", "`", "'", '"', "\\", "//", "\n", "matches", "timestamp(", "{", "}", ",", "é", "=", "x", "args.m"]  # fmt: skip


@given(st.one_of(st.lists(st.sampled_from(ALPHABET), max_size=12).map(" ".join), st.text(max_size=40)))
@example("(" * 500 + "args.n == 1" + ")" * 500)
@example("args.n" + " + args.n" * 400 + " == 1")
@example("!" * 2000 + "args.b")
def test_any_condition_loads_or_gives_a_policy_file_error(when: str) -> None:
    text = HEAD + f"  - {{id: r, agents: [anna], tools: [look], outcome: allow, when: {json.dumps(when)}}}\n"
    _loads_or_refuses(text)


def test_the_conditions_of_these_tests_load() -> None:
    for when in CONDITIONS:
        assert load([(["anna"], ["look"], "allow", when, "")])
