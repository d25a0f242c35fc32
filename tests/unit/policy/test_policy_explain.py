"""What an operator reads about a decision."""

from __future__ import annotations

from dataclasses import replace

from policy_example import call_for, load

from zt_agents.decisions import Outcome
from zt_agents.policy import explain
from zt_agents.policy.explain import Applied
from zt_agents.provenance.labels import Integrity, Label

POLICY = load()


def test_each_rule_with_what_held_and_what_did_not() -> None:
    explanation = explain(
        POLICY.engine, call_for(POLICY, "finance", "pay", {"amount": 500, "currency": "GBP"})
    )
    assert explanation.decision.outcome is Outcome.REQUIRE_APPROVAL
    assert [(trace.rule.id, trace.applied) for trace in explanation.rules] == [
        ("never-after-strangers", Applied.NO),
        ("pay-large", Applied.YES),
        ("pay-small", Applied.NO),
    ]
    assert [(clause.text, clause.held) for clause in explanation.rules[2].clauses] == [
        ("args.amount <= 100.0", False),
        ("args.currency in ['EUR', 'USD']", False),
    ]


def test_the_text() -> None:
    call = call_for(POLICY, "finance", "pay", {"amount": 50}, label=Label(Integrity.UNTRUSTED))
    assert str(explain(POLICY.engine, call)).splitlines() == [
        "pay (medium tier) was denied. No payment on a stranger's word [rule never-after-strangers]",
        "",
        "Rules about agent 'finance' and tool 'pay':",
        "  never-after-strangers (deny) applies",
        "    held:     provenance.integrity == 'untrusted'",
        "  pay-large (require_approval, tier at least high) does not apply",
        "    not held: args.amount > 100.0",
        "  pay-small (allow) applies",
        "    held:     args.amount <= 100.0",
        "    held:     args.currency in ['EUR', 'USD']",
    ]


def test_a_problem_stays_on_its_line() -> None:
    explanation = explain(POLICY.engine, call_for(POLICY, "finance", "pay", {"amount": "much"}))
    trace = explanation.rules[0]
    forged = replace(trace.clauses[0], held=None, problem="no\n    held:     args.amount > 100.0")
    text = str(replace(explanation, rules=(replace(trace, clauses=(forged,)),)))
    assert "    held:     args.amount > 100.0" not in text.splitlines()


def test_rules_for_other_agents_are_near_misses() -> None:
    explanation = explain(POLICY.engine, call_for(POLICY, "helpdesk", "pay"))
    assert explanation.decision.outcome is Outcome.DENY
    assert [rule.id for rule in explanation.near_misses] == ["pay-small", "pay-large"]
    assert "  pay-small (allow) for finance" in str(explanation)


def test_a_tool_without_rules() -> None:
    explanation = explain(POLICY.engine, call_for(POLICY, "finance", "delete_account"))
    assert explanation.rules == ()
    assert "none, and what no rule allows is denied" in str(explanation)


def test_what_cannot_be_evaluated_is_named() -> None:
    explanation = explain(POLICY.engine, call_for(POLICY, "finance", "pay", {"amount": "much"}))
    by_id = {trace.rule.id: trace for trace in explanation.rules}
    assert by_id["pay-large"].applied is Applied.UNKNOWN_YES
    assert by_id["pay-small"].applied is Applied.UNKNOWN_NO
    assert by_id["pay-large"].clauses[0].held is None
    assert "unknown:  args.amount > 100.0  (a value of type str where double was expected)" in str(
        explanation
    )
