"""From the agents of a file to those of the engine: ids, owners, and the tools that each may ever call.

An agent's list of tools is a ceiling: no rule reaches above it, and a rule that tries to is a mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from zt_agents._internal.folding import fold
from zt_agents._internal.suggest import did_you_mean
from zt_agents.decisions import Outcome
from zt_agents.identity.principals import Agent, AgentStatus, parse_spiffe_id
from zt_agents.policy.document import Document
from zt_agents.policy.engine import Rule
from zt_agents.policy.findings import Findings
from zt_agents.policy.models import EVERY, AgentEntry
from zt_agents.policy.validation import ValidPart

_NOBODY = frozenset({"owner", "anyone", "session-user"})
"""Words of the section ``approvals`` that stand for people: an owner of that name could be taken for them."""


def declared_agents(part: ValidPart, document: Document, findings: Findings) -> dict[str, Agent]:
    """Return the agents of a file, noting every mistake in *findings*."""
    agents: dict[str, Agent] = {}
    ids: dict[str, str] = {}
    for name, entry in part.file.agents.items():
        trail = ("agents", name, "id")
        try:
            domain, _ = parse_spiffe_id(entry.id)
        except ValueError as error:
            findings.add(trail, f"{error}, such as spiffe://{part.file.trust_domain}/agent/{name}.")
        else:
            expected = part.file.trust_domain
            if domain != expected and expected == document.data.get("trust_domain"):
                findings.add(trail, f"this id is in {domain!r}, not in the trust domain {expected!r}.")
            if entry.id in ids:
                findings.add(trail, f"agent {ids[entry.id]!r} already has this id.")
            ids.setdefault(entry.id, name)
        if why := not_an_owner(entry.owner, part.agent_names):
            findings.add(("agents", name, "owner"), f"{why}.")
        agents[name] = Agent(
            name,
            entry.id,
            entry.version,
            entry.owner,
            entry.purpose,
            entry.status,
            tools=_ceiling(name, entry, part.tool_names, findings),
            on_change=entry.on_change,
            delegates=tuple(entry.delegates),
        )
    return agents


def check_delegates(part: ValidPart, findings: Findings) -> None:
    """Note every delegate that nobody could hand anything on to. *part* has the names of all agents."""
    for name, entry in part.file.agents.items():
        for index, delegate in enumerate(entry.delegates):
            here = ("agents", name, "delegates", index)
            if delegate not in part.agent_names:
                findings.add(here, f"no agent is called {delegate!r}.{did_you_mean(delegate, part.agent_names)}")
            elif delegate in entry.delegates[:index]:
                findings.add(here, f"{delegate!r} appears twice.")
        if entry.delegates and part.file.delegation.depth == 1:
            message = f"a chain of 1 agent is no delegation, and agent {name!r} has delegates."
            findings.add(("delegation", "depth"), message)


def not_an_owner(owner: str, agents: Iterable[str]) -> str:
    """Return why *owner* cannot answer for an agent, or an empty text."""
    folded = fold(owner)
    if folded in _NOBODY:
        return f"{owner!r} is a word of the policy and no human: name who answers for this agent"
    if folded.startswith("spiffe://") or folded in map(fold, agents):
        return "an agent does not answer for an agent: its owner is a human"
    return ""


def other_agents(
    registered: Iterable[Agent], declared: Mapping[str, Agent], document: Document, findings: Findings
) -> dict[str, Agent]:
    """Return the agents that were registered elsewhere: whether they may act is not said here."""
    ids = {agent.id: name for name, agent in declared.items()}
    others: dict[str, Agent] = {}
    for agent in registered:
        if agent.name in document.data["agents"]:
            findings.add(("agents", agent.name), "an agent of this name is registered in the store.", at_key=True)
        elif agent.id in ids:
            findings.add(("agents", ids[agent.id], "id"), f"agent {agent.name!r} is registered with this id.")
        else:
            others[agent.name] = replace(agent, status=AgentStatus.ACTIVE)
    return others


def check_ceilings(index: int, rule: Rule, agents: Mapping[str, Agent], written: list[str], findings: Findings) -> None:
    """Refuse a rule that would let an agent do what its list of tools does not have."""
    if rule.outcome is Outcome.DENY:
        return
    barred = [agent for agent in rule.agents if _barred(agents[agent], rule.tools)]
    if len(barred) == len(rule.agents):
        findings.add(("rules", index), "this rule can never apply: its agents may not call its tools (agents.*.tools).")
        return
    for agent in barred if written != [EVERY] else ():
        message = f"agent {agent!r} may call none of these tools (agents.{agent}.tools)."
        findings.add(("rules", index, "agents", written.index(agent)), message)


def _barred(agent: Agent, tools: Iterable[str]) -> bool:
    return agent.tools is not None and agent.tools.isdisjoint(tools)


def _ceiling(agent: str, entry: AgentEntry, known: frozenset[str], findings: Findings) -> frozenset[str] | None:
    if "tools" not in entry.model_fields_set:
        return None
    for index, tool in enumerate(entry.tools):
        if tool not in known:
            message = f"no tool is called {tool!r}.{did_you_mean(tool, known)}"
            findings.add(("agents", agent, "tools", index), message)
        elif tool in entry.tools[:index]:
            findings.add(("agents", agent, "tools", index), f"{tool!r} appears twice.")
    return frozenset(entry.tools)
