"""Why a call is decided as it is: each rule about it, with what held and what did not.

The answer comes from the engine itself; nothing is decided here. An explanation may quote argument values:
it is for the operator's terminal, not for logs, and never for a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from zt_agents.catalog.specs import Tier
from zt_agents.decisions import Decision, Outcome, ToolCall
from zt_agents.policy.conditions import Clause
from zt_agents.policy.engine import PolicyEngine, Rule


class Applied(StrEnum):
    """What became of one rule."""

    YES = "applies"
    NO = "does not apply"
    UNKNOWN_YES = "applies, because its condition cannot be evaluated"
    UNKNOWN_NO = "does not apply, because its condition cannot be evaluated"


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """One rule about the agent and the tool of a call."""

    rule: Rule
    applied: Applied
    clauses: tuple[Clause, ...]
    """The parts of its condition; empty for a rule without one."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, and every rule that had a say in it."""

    agent: str
    tool: str
    decision: Decision
    rules: tuple[RuleTrace, ...]
    """Strongest outcome first."""
    near_misses: tuple[Rule, ...]
    """Rules about this tool, but for other agents."""

    def __str__(self) -> str:
        lines = [self.decision.explain(), ""]
        lines.append(f"Rules about agent {self.agent!r} and tool {self.tool!r}:")
        if not self.rules:
            lines.append("  none, and what no rule allows is denied")
        for trace in self.rules:
            lines.append(f"  {trace.rule.id} ({_effect(trace.rule)}) {trace.applied}")
            lines += [f"    {_mark(clause)} {_on_one_line(clause)}" for clause in trace.clauses]
        if self.near_misses:
            lines += ["", f"Rules about tool {self.tool!r} for other agents:"]
            lines += [
                f"  {rule.id} ({_effect(rule)}) for {', '.join(rule.agents)}" for rule in self.near_misses
            ]
        return "\n".join(lines)


def explain(engine: PolicyEngine, call: ToolCall) -> Explanation:
    """Return how *engine* decides *call*, and why."""
    agent = call.agent.name if call.agent else ""
    return Explanation(
        agent=agent,
        tool=call.tool,
        decision=engine.decide(call),
        rules=tuple(_trace(rule, call) for rule in engine.rules_for(agent, call.tool)),
        near_misses=tuple(
            rule for rule in engine.rules if call.tool in rule.tools and agent not in rule.agents
        ),
    )


def _trace(rule: Rule, call: ToolCall) -> RuleTrace:
    condition = rule.conditions.get(call.tool)
    if condition is None:
        return RuleTrace(rule, Applied.YES, ())
    holds = condition.evaluate(call)
    if holds is None:
        applied = Applied.UNKNOWN_NO if rule.outcome is Outcome.ALLOW else Applied.UNKNOWN_YES
    else:
        applied = Applied.YES if holds else Applied.NO
    return RuleTrace(rule, applied, condition.clauses(call))


def _effect(rule: Rule) -> str:
    raises = "" if rule.raise_tier is Tier.LOW else f", tier at least {rule.raise_tier.value}"
    return f"{rule.outcome.value}{raises}"


def _mark(clause: Clause) -> str:
    return {True: "held:    ", False: "not held:", None: "unknown: "}[clause.held]


def _on_one_line(clause: Clause) -> str:
    text, problem = (" ".join(part.split()) for part in (clause.text, clause.problem))
    return f"{text}  ({problem})" if problem else text
