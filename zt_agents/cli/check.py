"""``zt-agents check``: does the policy load, and are the tools still the ones that were accepted?"""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zt_agents.catalog.ambient_secrets import AmbientSecret, in_document, in_environment, in_tool
from zt_agents.catalog.catalog import Catalog, Standing
from zt_agents.catalog.lock import ToolLock, lock_path
from zt_agents.catalog.secret_specs import SecretSource
from zt_agents.catalog.sources import load_object
from zt_agents.catalog.specs import Tier, ToolDescription, ToolSpec
from zt_agents.cli.display import say, say_json, say_table
from zt_agents.cli.options import DEFAULT_POLICY, JsonOption, PolicyOption, again
from zt_agents.decisions import Outcome
from zt_agents.errors import PolicyFileError
from zt_agents.identity.principals import AgentStatus
from zt_agents.stores.sqlite_agents import SqliteAgentStore

if TYPE_CHECKING:
    from zt_agents.policy.loader import Policy

FINDINGS = 1
"""Exit code when something was found."""
_MOST_CHANGES = 200
_ACCEPTABLE = frozenset({Standing.DRIFTED, Standing.UNRECORDED})


@dataclass(frozen=True, slots=True)
class ToolReview:
    """How one tool stands."""

    name: str
    standing: str
    """A Standing, or ``absent``: in the policy and in no source."""
    problem: str = ""
    """What is wrong, or empty."""
    changes: tuple[str, ...] = field(default=())
    """What changed since it was accepted, line by line, each with ``-`` or ``+`` in front."""


def check(
    named: Annotated[Path | None, typer.Argument(metavar="[FILE]", hidden=True)] = None,
    policy_file: PolicyOption = DEFAULT_POLICY,
    accept: Annotated[
        bool, typer.Option("--accept", help="Accept the tools of the policy as they are now.")
    ] = False,
    tools: Annotated[
        list[str] | None, typer.Option(metavar="MODULE:ATTRIBUTE", help="Further tools to compare.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Load the policy, and compare every tool with what was accepted.

    Exit code 0: all is well. 1: something was found. 2: the policy or its tools do not load.
    """
    from zt_agents.policy.document import read_file  # loads pydantic
    from zt_agents.policy.loader import load_policy

    policy_file = named or policy_file  # it was once an argument
    lock_file = lock_path(policy_file)
    lock = ToolLock.read(lock_file)
    # An edited policy may only load against the new parameters, so its sources are read before it is loaded.
    data = read_file(policy_file).data
    declared = data.get("sources")
    sources = [each for each in declared if isinstance(each, str)] if isinstance(declared, list) else []
    found = tools_of([*sources, *(tools or [])])
    descriptions = describe_tools(found)

    candidate = lock.accept(descriptions)
    registered = SqliteAgentStore.beside(policy_file).registered()
    try:
        policy = load_policy(
            policy_file, parameters=(candidate if accept else lock).parameters, registered=registered
        )
    except PolicyFileError:
        if not accept and candidate.fingerprints != lock.fingerprints:
            since = (
                "Conditions were checked against the accepted parameters, and some tools have changed since."
                if lock.fingerprints
                else "No tool was accepted yet, so there are no parameters to check conditions against."
            )
            say(since, stderr=True)
            accepting = again("zt-agents check --accept", policy=policy_file)
            say(f"If the policy was written for the tools as they are now, run: {accepting}", stderr=True)
        raise
    compared = bool(sources or tools)
    reviews = review_tools(Catalog(policy.tools, lock), descriptions, compared=compared)
    accepted: list[ToolReview] = []
    if accept:
        accepted = [each for each in reviews if each.standing in _ACCEPTABLE]
        lock = lock.accept(each for each in descriptions if each.name in policy.tools)
        lock.write(lock_file)
        reviews = review_tools(Catalog(policy.tools, lock), descriptions, compared=compared)
    report = _json_report if as_json else _print_report
    report(policy, reviews, accepted, ambient_secrets(policy, found, data))
    if not as_json and any(review.standing in _ACCEPTABLE for review in reviews):
        accepting = again("zt-agents check --accept", policy=policy_file)
        say(f"If these tools are as they should be, accept them: {accepting}")
    if any(review.problem for review in reviews):
        raise typer.Exit(FINDINGS)


def describe_sources(references: Iterable[str]) -> list[ToolDescription]:
    """Import every ``MODULE:ATTRIBUTE`` and describe the tools found there."""
    return describe_tools(tools_of(references))


def tools_of(references: Iterable[str]) -> list[Any]:
    """Import every ``MODULE:ATTRIBUTE`` and return the tools found there."""
    references = list(references)
    if not references:
        return []
    import_from_here()
    from zt_agents.integrations.langchain.describe import collect  # loads LangChain

    return [tool for reference in references for tool in collect(load_object(reference))]


def describe_tools(tools: Sequence[Any]) -> list[ToolDescription]:
    """Describe *tools* as they present themselves to a model."""
    if not tools:
        return []
    from zt_agents.integrations.langchain.describe import describe_all

    return describe_all(list(tools))


def ambient_secrets(policy: Policy, tools: Iterable[Any], data: Any) -> list[AmbientSecret]:
    """Return the secrets that lie about: in tools, in the environment of this process, in the policy file."""
    found = [each for tool in tools if not isinstance(tool, dict) for each in in_tool(tool.name, tool)]
    taken = {spec.variable for spec in policy.secrets.values() if spec.source is SecretSource.ENV and not spec.keep}
    return [*found, *in_environment(os.environ, declared=taken), *in_document(data)]


def import_from_here() -> None:
    """Make modules in the current folder importable, as ``python -m`` does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def review_tools(
    catalog: Catalog, descriptions: Sequence[ToolDescription], *, compared: bool
) -> list[ToolReview]:
    """Say how each tool of the policy and of its sources stands.

    *compared* is false when there was no source to compare with.
    """
    reviews = [_review(catalog, description) for description in descriptions]
    seen = {description.name for description in descriptions}
    for name in catalog:
        spec = catalog.get(name)
        if name in seen or spec is None:
            continue
        if name not in catalog.lock.fingerprints:
            reviews.append(ToolReview(name, Standing.UNRECORDED, "never accepted, and no source holds it"))
        elif compared and not spec.unmediated:
            reviews.append(ToolReview(name, "absent", "in the policy, and no source holds it"))
        else:
            reviews.append(ToolReview(name, "not compared"))
    return reviews


def _review(catalog: Catalog, description: ToolDescription) -> ToolReview:
    standing = catalog.compare(description)
    spec = catalog.get(description.name)
    changes: tuple[str, ...] = ()
    problem = {
        Standing.ACCEPTED: "",
        Standing.DRIFTED: "not what was accepted: every call is denied",
        Standing.UNRECORDED: "never accepted: every call is denied",
        Standing.UNKNOWN: "not in the policy: every call is denied",
    }[standing]
    if standing is Standing.DRIFTED:
        changes = tuple(changes_between(catalog.lock.accepted[description.name], description))
    if spec is not None and not problem:
        problem = _mediation_problem(spec, description)
    return ToolReview(description.name, standing, problem, changes)


def _mediation_problem(spec: ToolSpec, description: ToolDescription) -> str:
    if description.unmediated and not spec.unmediated:
        return "the provider runs it, past the guard: accept that with `unmediated: true`, or remove it"
    if spec.unmediated and not description.unmediated:
        return "`unmediated: true` in the policy, and yet it runs here: remove that"
    return ""


def changes_between(before: ToolDescription, after: ToolDescription) -> list[str]:
    """Return the changed lines of description and parameters, each with ``-`` or ``+`` in front."""
    changes = []
    for old, new in zip(_lines(before), _lines(after), strict=True):
        difference = difflib.unified_diff(old, new, lineterm="", n=0)
        changes += [line for line in list(difference)[2:] if not line.startswith("@@")]
    return changes


def _lines(description: ToolDescription) -> tuple[list[str], list[str]]:
    parameters = json.dumps(dict(description.parameters), indent=2, sort_keys=True)
    return description.description.split("\n"), parameters.split("\n")


def _print_report(
    policy: Policy,
    reviews: Sequence[ToolReview],
    accepted: Sequence[ToolReview],
    lying_about: Sequence[AmbientSecret],
) -> None:
    facts = _facts(policy)
    say(f"Policy {policy.id} loads: {_number(policy.tools, 'tool')}, {_number(policy.agents, 'agent')}.")
    say(f"Rules: {_counts(facts['rules'])}. Tools: {_counts(facts['tiers'])}.")
    for warning in policy.warnings:
        say(f"warning: {warning}", style="yellow")
    for secret in lying_about:
        say(f"warning: a secret lies about, {secret.why}: {secret.place}", style="yellow")
    if lying_about:
        say("What every call can reach, a call that was not allowed can, too. Lend it instead: secrets: in the policy.")
    if facts["uncallable"]:
        say(f"No agent may call: {', '.join(facts['uncallable'])}.")
    say()
    tiers = {name: spec.tier.value for name, spec in policy.tools.items()}
    say_table(
        ("tool", "tier", "standing", ""),
        [(each.name, tiers.get(each.name, ""), each.standing, each.problem) for each in reviews],
    )
    if accepted:
        say()
    for review in [*accepted, *reviews]:
        if review in accepted:
            say(f"Accepted: {review.name}, which was {review.standing}.")
        elif review.changes:
            say(f"\n{review.name} changed since it was accepted:")
        for line in review.changes[:_MOST_CHANGES]:
            say(f"  {line}", style="green" if line.startswith("+") else "red")
        if len(review.changes) > _MOST_CHANGES:
            say(f"  and {len(review.changes) - _MOST_CHANGES} more lines (--json shows all)")
    found = sum(1 for review in reviews if review.problem)
    say(f"\n{found} finding{'' if found == 1 else 's'}.", style="red" if found else "green")


def _json_report(
    policy: Policy,
    reviews: Sequence[ToolReview],
    accepted: Sequence[ToolReview],
    lying_about: Sequence[AmbientSecret],
) -> None:
    say_json(
        {
            "policy": {"id": policy.id, "version": policy.version},
            **_facts(policy),
            "warnings": [str(warning) for warning in policy.warnings],
            "ambient_secrets": [{"place": each.place, "why": each.why} for each in lying_about],
            "tools": [
                {
                    "name": each.name,
                    "standing": str(each.standing),
                    "problem": each.problem,
                    "changes": list(each.changes),
                }
                for each in reviews
            ],
            "accepted": [each.name for each in accepted],
            "findings": sum(1 for review in reviews if review.problem),
        }
    )


def _facts(policy: Policy) -> dict[str, Any]:
    tiers = Counter(spec.tier for spec in policy.tools.values())
    outcomes = Counter(rule.outcome for rule in policy.engine.rules)
    callable_tools = {
        tool
        for rule in policy.engine.rules
        if rule.outcome is not Outcome.DENY
        and any(policy.agents[agent].status is AgentStatus.ACTIVE for agent in rule.agents)
        for tool in rule.tools
    }
    return {
        "tiers": {tier.value: tiers[tier] for tier in Tier},
        "rules": {outcome.value: outcomes[outcome] for outcome in Outcome},
        "uncallable": [
            name for name, spec in policy.tools.items() if name not in callable_tools and not spec.unmediated
        ],
    }


def _number(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
