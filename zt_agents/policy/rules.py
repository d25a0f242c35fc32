"""From the rules of a file to the rules of the engine: names looked up, conditions compiled, dead rules
refused.

A rule that can never matter is a mistake, not a style: its author believes in a protection or a permission
that is not there. Refused are:

- a rule that says the same as an earlier one;
- a rule only about retired agents or unmediated tools, whose calls never come here, or about tools that its agents
  may not call whatever rules say;
- a rule that allows or requires approval, where another denies all it is about, always or on the same
  condition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from zt_agents._internal.suggest import did_you_mean
from zt_agents.catalog.specs import Tier, ToolSpec
from zt_agents.decisions import Outcome
from zt_agents.identity.principals import Agent, AgentStatus
from zt_agents.policy.agents import check_ceilings
from zt_agents.policy.approvers import rule_terms
from zt_agents.policy.conditions import Condition, ConditionCompiler
from zt_agents.policy.engine import Rule
from zt_agents.policy.findings import Findings
from zt_agents.policy.models import EVERY, RuleEntry
from zt_agents.policy.validation import ValidPart

MAX_PAIRS = 2_000_000
"""How many (rule, agent, tool) combinations a policy may spell out: a bound on memory."""


@dataclass(frozen=True, slots=True)
class _Names:
    """The names that rules may use, and what stands behind those without mistakes."""

    agents: Mapping[str, Agent]
    tools: Mapping[str, ToolSpec]
    known_agents: frozenset[str]
    known_tools: frozenset[str]


def build_rules(
    part: ValidPart,
    agents: Mapping[str, Agent],
    tools: Mapping[str, ToolSpec],
    compiler: ConditionCompiler,
    findings: Findings,
) -> tuple[Rule, ...]:
    """Return the rules of a file, noting every mistake in *findings*."""
    names = _Names(agents, tools, part.agent_names, part.tool_names)
    rules: list[Rule] = []
    complete: list[tuple[int, Rule]] = []
    ids: set[str] = set()
    pairs = 0
    for index, entry in part.rules:
        if entry.id in ids:
            findings.add(("rules", index, "id"), f"another rule already has the id {entry.id!r}.")
        ids.add(entry.id)
        agent_names = _written_out(entry.agents, names.agents, names.known_agents, index, "agents", findings)
        tool_names = _written_out(entry.tools, names.tools, names.known_tools, index, "tools", findings)
        pairs += len(agent_names) * len(tool_names)
        if pairs > MAX_PAIRS:
            message = f"the rules up to here are about more than {MAX_PAIRS:,} pairs of an agent and a tool."
            findings.add(("rules", index), message)
            break
        _check_entry(index, entry, names, findings)
        rule = Rule(
            id=entry.id,
            agents=agent_names,
            tools=tool_names,
            outcome=entry.outcome,
            raise_tier=entry.raise_tier,
            reason=entry.reason,
            when=entry.when.strip(),
            conditions=_compile(index, entry, tool_names, compiler, findings),
            terms=rule_terms(index, entry, part.file.approvals, tools, findings),
        )
        rules.append(rule)
        if agent_names and tool_names and _all_known(entry, names):
            complete.append((index, rule))  # a rule with unknown names has mistakes enough
            check_ceilings(index, rule, agents, entry.agents, findings)
    _refuse_dead_rules(complete, names, findings)
    return tuple(rules)


def _all_known(entry: RuleEntry, names: _Names) -> bool:
    agents = entry.agents == [EVERY] or all(word in names.agents for word in entry.agents)
    return agents and (entry.tools == [EVERY] or all(word in names.tools for word in entry.tools))


def overruled_rules(rules: tuple[Rule, ...]) -> Iterator[tuple[Rule, Rule]]:
    """Yield each allow rule that never gets its way, with a rule that always requires approval instead."""
    held = {
        (agent, tool): rule
        for rule in rules
        if rule.outcome is Outcome.REQUIRE_APPROVAL and not rule.when
        for agent in rule.agents
        for tool in rule.tools
    }
    for rule in rules if held else ():
        if rule.outcome is Outcome.ALLOW and rule.raise_tier is Tier.LOW:
            above = [held.get((agent, tool)) for agent in rule.agents for tool in rule.tools]
            if above and (first := above[0]) and all(above):
                yield rule, first


def _written_out(
    words: list[str],
    found: Mapping[str, Agent] | Mapping[str, ToolSpec],
    known: frozenset[str],
    index: int,
    section: str,
    findings: Findings,
) -> tuple[str, ...]:
    if words == [EVERY]:
        return tuple(found)
    seen: set[str] = set()
    for position, word in enumerate(words):
        trail = ("rules", index, section, position)
        if word == EVERY:
            findings.add(trail, f"'*' means all of {section}: it stands alone.")
        elif word in seen:
            findings.add(trail, f"{word!r} appears twice.")
        elif word not in known:
            findings.add(trail, f"no {section[:-1]} is called {word!r}.{did_you_mean(word, known)}")
        seen.add(word)
    return tuple(dict.fromkeys(found[word].name for word in words if word in found))


def _check_entry(index: int, entry: RuleEntry, names: _Names, findings: Findings) -> None:
    if entry.outcome is Outcome.ALLOW and entry.tools == [EVERY]:
        findings.add(
            ("rules", index, "tools"), "a rule that allows names its tools: '*' is for the other outcomes."
        )
    if entry.outcome is not Outcome.ALLOW and not entry.reason:
        message = (
            f"a rule with the outcome {entry.outcome.value} needs the key 'reason': people will read it."
        )
        findings.add(("rules", index), message)
    for word in entry.tools:
        spec = names.tools.get(word)
        if spec and "raise_tier" in entry.model_fields_set and entry.raise_tier.rank < spec.tier.rank:
            message = (
                f"tool {word!r} is of the {spec.tier.value} tier: a rule may raise a tier, never lower it."
            )
            findings.add(("rules", index, "raise_tier"), message)


def _compile(
    index: int, entry: RuleEntry, tools: tuple[str, ...], compiler: ConditionCompiler, findings: Findings
) -> dict[str, Condition]:
    conditions: dict[str, Condition] = {}
    for tool in tools if entry.when else ():
        compiled = compiler.compile(entry.when, tool)
        if isinstance(compiled, Condition):
            conditions[tool] = compiled
            continue
        for mistake in compiled:
            visible = sum(not character.isspace() for character in entry.when[: mistake.offset])
            findings.add(("rules", index, "when"), mistake.message, offset=visible)
        break  # the same condition is about as wrong for the other tools
    return conditions


def _refuse_dead_rules(rules: list[tuple[int, Rule]], names: _Names, findings: Findings) -> None:
    earlier: dict[tuple[object, ...], str] = {}
    denied = {
        (agent, tool, rule.when): rule.id
        for _, rule in rules
        if rule.outcome is Outcome.DENY
        for agent in rule.agents
        for tool in rule.tools
    }
    for index, rule in rules:
        about = (frozenset(rule.agents), frozenset(rule.tools))
        content = (*about, rule.outcome, rule.when, rule.raise_tier, rule.terms)
        if content in earlier:
            findings.add(
                ("rules", index), f"this rule can never matter: it says what {earlier[content]!r} says."
            )
        earlier.setdefault(content, rule.id)
        if all(names.agents[agent].status is AgentStatus.RETIRED for agent in rule.agents):
            findings.add(("rules", index, "agents"), "this rule can never apply: its agents are retired.")
        if all(names.tools[tool].unmediated for tool in rule.tools):
            message = "this rule can never apply: calls of its unmediated tools never pass the guard."
            findings.add(("rules", index, "tools"), message)
        if rule.outcome is not Outcome.DENY and denied:
            denying = [
                denied.get((agent, tool, "")) or denied.get((agent, tool, rule.when))
                for agent in rule.agents
                for tool in rule.tools
            ]
            if all(denying):
                by = ", ".join(repr(rule_id) for rule_id in dict.fromkeys(denying))
                findings.add(
                    ("rules", index), f"this rule can never matter: all it is about is denied by {by}."
                )
