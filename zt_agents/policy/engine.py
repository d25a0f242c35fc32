"""The decision: a pure function of a tool call and a policy that was checked when it was loaded.

- Nothing is allowed that no rule allows. Deny overrides require_approval overrides allow; the order of
  rules does not matter.
- A high-tier call is never allowed: it is held for a human, whatever an allow rule says.
- A rule that applies may raise the tier of the call, never lower it.
- A condition that cannot be evaluated: an allow rule does not apply, a deny or require_approval rule does;
  a tier is raised in any case.
- The agent must be one of the policy's, active and with the id that the policy gives it; the tool must be
  one of the policy's, and of the agent's own where it has a list. The higher of the policy's tier and the call's own
  tier counts; it is one higher for an agent under review, unless its calls are denied then.

No I/O; the time is part of the call. Rules are found by (agent, tool), so the cost of a decision depends on
the rules for that pair and not on how many others there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from zt_agents.catalog.specs import Tier, ToolSpec
from zt_agents.decisions import (
    CHANGED_AGENT,
    ApprovalTerms,
    Decision,
    Outcome,
    Reason,
    ReasonCode,
    ToolCall,
    new_decision_id,
)
from zt_agents.identity.principals import Agent, AgentStatus, OnChange
from zt_agents.policy.conditions import Condition

_STRENGTH = {Outcome.ALLOW: 1, Outcome.REQUIRE_APPROVAL: 2, Outcome.DENY: 3}
_TIERS = tuple(Tier)
_HIGH = Tier.HIGH.rank
_RAISED = Reason(ReasonCode.UNDER_REVIEW, "The agent's owner has not accepted what it is: one tier higher.")
_HIGH_TIER = Reason(ReasonCode.HIGH_TIER, "A high-tier call always needs a human's approval.")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the policy, its lists of names written out and its condition compiled."""

    id: str
    agents: tuple[str, ...]
    tools: tuple[str, ...]
    outcome: Outcome
    raise_tier: Tier = Tier.LOW
    reason: str = ""
    when: str = ""
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    """The condition compiled for each tool; empty for a rule without one."""
    terms: ApprovalTerms | None = None
    """Who approves what this rule holds; None is as for every approval."""


class _Entry:
    """A rule as it stands for one tool, with all that can be prepared."""

    __slots__ = ("asks", "condition", "raises", "reason", "rule", "strength")

    def __init__(self, rule: Rule, tool: str, *, asks: bool) -> None:
        self.rule = rule
        self.condition = rule.conditions[tool] if rule.when else None
        self.strength = _STRENGTH[rule.outcome]
        self.raises = rule.raise_tier.rank
        self.asks = asks and rule.outcome is Outcome.REQUIRE_APPROVAL
        self.reason = Reason(ReasonCode.RULE, rule.reason or "A rule allows this call.", rule.id)

    @property
    def fault(self) -> Reason:
        """The reason when the condition could not be evaluated."""
        allows = self.rule.outcome is Outcome.ALLOW
        consequence = "allows nothing" if allows else "applies"
        text = f"The condition of rule {self.rule.id!r} could not be evaluated, so the rule {consequence}."
        return Reason(ReasonCode.RULE, text, None if allows else self.rule.id)


def _weakness(entry: _Entry) -> int:
    return -entry.strength


_NO_TOOLS: dict[str, tuple[_Entry, ...]] = {}


class PolicyEngine:
    """Decides tool calls by the rules of one policy. Immutable, and safe to share between threads.

    It does not verify who is asking, ask anybody for approval, or record anything: that is the guard's part.
    An exception is a fault of the engine and propagates; the guard denies.
    """

    def __init__(
        self,
        *,
        policy_id: str,
        policy_version: str,
        agents: Mapping[str, Agent],
        tools: Mapping[str, ToolSpec],
        rules: Iterable[Rule],
        terms: ApprovalTerms | None = None,
    ) -> None:
        self.policy_id = policy_id
        self.policy_version = policy_version
        self.rules = tuple(rules)
        self._terms = terms or ApprovalTerms()
        self._agents = dict(agents)
        self._tools = {name: (spec, spec.tier.rank) for name, spec in tools.items()}
        index: dict[str, dict[str, list[_Entry]]] = {}
        # Where all rules ask the same people, one that holds a call is enough to know whom.
        asks = any(rule.terms is not None for rule in self.rules)
        for rule in self.rules:
            for tool in rule.tools:
                entry = _Entry(rule, tool, asks=asks)
                for agent in rule.agents:
                    index.setdefault(agent, {}).setdefault(tool, []).append(entry)
        self._index = {
            agent: {tool: tuple(sorted(each, key=_weakness)) for tool, each in by_tool.items()}
            for agent, by_tool in index.items()
        }

    def rules_for(self, agent: str, tool: str) -> tuple[Rule, ...]:
        """Return the rules that name this agent and this tool, strongest outcome first."""
        return tuple(entry.rule for entry in self._index.get(agent, {}).get(tool, ()))

    def decide(self, call: ToolCall) -> Decision:
        """Return the answer to *call*: complete but for obligations and approvals, which others add."""
        agent, spec, tool = call.agent, call.spec, call.tool
        own_spec, rank = self._tools.get(tool, (None, _HIGH))
        if spec is None or own_spec is None or spec.name != tool:
            reason = Reason(ReasonCode.UNKNOWN_TOOL, "The policy has no tool of this name.")
            return self._answer(Outcome.DENY, tool, Tier.HIGH, (reason,))
        if spec is not own_spec:
            rank = max(rank, spec.tier.rank)
        known = self._agents.get(agent.name) if agent else None
        if agent is None or known is None or known.id != agent.id:
            reason = Reason(ReasonCode.IDENTITY, "The policy has no agent of this name and id.")
            return self._answer(Outcome.DENY, tool, _TIERS[rank], (reason,))
        if known.status is not AgentStatus.ACTIVE or agent.status is not AgentStatus.ACTIVE:
            reason = Reason(ReasonCode.IDENTITY, "The agent is not active.")
            return self._answer(Outcome.DENY, tool, _TIERS[rank], (reason,))

        if known.tools is not None and tool not in known.tools:
            text = f"Tool {tool!r} is none of those that agent {agent.name!r} may call, whatever rules say."
            return self._answer(Outcome.DENY, tool, _TIERS[rank], (Reason(ReasonCode.NO_RULE, text),))
        review: tuple[Reason, ...] = ()
        if agent.under_review is not None:
            if agent.under_review is not OnChange.RAISE_TIER:
                return self._answer(Outcome.DENY, tool, _TIERS[rank], (CHANGED_AGENT,))
            rank, review = min(rank + 1, _HIGH), (_RAISED,)

        entries = self._index.get(agent.name, _NO_TOOLS).get(tool, ())
        decided = 0
        decisive: Reason | None = None
        faults: tuple[Reason, ...] = ()
        others: tuple[Reason, ...] = ()
        terms: tuple[ApprovalTerms, ...] = ()
        # Strongest first: once decided, a rule matters only if it raises the tier or asks more people.
        for entry in entries:
            asks = entry.asks and decided < 3
            if decided and entry.raises <= rank and not asks:
                continue
            holds = entry.condition is None or entry.condition.evaluate(call)
            if holds is False:
                continue
            if entry.raises > rank:
                rank = entry.raises
            if holds is None and entry.strength == 1:
                faults += (entry.fault,)
            else:
                if not decided:
                    decided = entry.strength
                    decisive = entry.reason if holds else entry.fault
                elif asks:
                    others += (entry.reason if holds else entry.fault,)
                if entry.strength == 2 and decided == 2:
                    terms += (entry.rule.terms or self._terms,)

        tier = _TIERS[rank]
        if decisive is None:
            return self._answer(Outcome.DENY, tool, tier, (_no_rule(agent.name, tool, len(entries)), *faults))
        if decided == 3:
            return self._answer(Outcome.DENY, tool, tier, (decisive,))
        if decided == 2:
            reasons = (decisive, *others, *review)
            return self._answer(Outcome.REQUIRE_APPROVAL, tool, tier, reasons, tuple(dict.fromkeys(terms)))
        if rank == _HIGH:
            reasons = (_HIGH_TIER, decisive, *review)
            return self._answer(Outcome.REQUIRE_APPROVAL, tool, tier, reasons, (self._terms,))
        return self._answer(Outcome.ALLOW, tool, tier, (decisive, *review))

    def _answer(
        self,
        outcome: Outcome,
        tool: str,
        tier: Tier,
        reasons: tuple[Reason, ...],
        terms: tuple[ApprovalTerms, ...] = (),
    ) -> Decision:
        version = self.policy_version
        return Decision(
            new_decision_id(), outcome, tool, tier, reasons, (), self.policy_id, version, terms=terms
        )


def _no_rule(agent: str, tool: str, considered: int) -> Reason:
    if not considered:
        return Reason(ReasonCode.NO_RULE, f"No rule lets agent {agent!r} call {tool!r}.")
    rules = "the one rule" if considered == 1 else f"none of the {considered} rules"
    verb = "does not apply" if considered == 1 else "applies"
    text = f"No rule allows it: {rules} about agent {agent!r} and tool {tool!r} {verb} to this call."
    return Reason(ReasonCode.NO_RULE, text)
