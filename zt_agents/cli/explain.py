"""``zt-agents explain``: what would be decided about one call, and why, rule by rule.

It asks the policy and nothing else. Nothing is run, recorded or approved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from zt_agents._internal.clock import system_clock
from zt_agents._internal.suggest import did_you_mean
from zt_agents.catalog.lock import ToolLock, lock_path
from zt_agents.catalog.resources import fill_resource
from zt_agents.cli.display import say, say_json
from zt_agents.cli.options import DEFAULT_POLICY, JsonOption, PolicyOption, agent_names
from zt_agents.decisions import ChainLink, ToolCall
from zt_agents.errors import ArgumentsError, ConfigurationError
from zt_agents.identity.principals import User
from zt_agents.provenance.labels import DataClass, Integrity, Label
from zt_agents.stores.sqlite_agents import SqliteAgentStore

if TYPE_CHECKING:
    from zt_agents.policy.engine import Rule
    from zt_agents.policy.explain import Explanation

_T = TypeVar("_T")
_E = TypeVar("_E", bound=StrEnum)


def explain(
    agent: Annotated[str, typer.Option(help="Name of the agent that acts.", autocompletion=agent_names)],
    user: Annotated[str, typer.Option(help="Id of the user it acts for.")],
    tool: Annotated[str, typer.Option(help="Name of the tool.")],
    args: Annotated[str, typer.Option(metavar="JSON", help="The arguments, as a JSON object.")] = "{}",
    group: Annotated[list[str] | None, typer.Option(help="A group of the user; may be repeated.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="A role of the user; may be repeated.")] = None,
    policy_file: PolicyOption = DEFAULT_POLICY,
    intent: Annotated[str, typer.Option(help="What the user asked for.")] = "",
    seen: Annotated[
        str, typer.Option(metavar="INTEGRITY/DATA_CLASS", help="Label of what the session has seen so far.")
    ] = "user/public",
    caller: Annotated[
        list[str] | None, typer.Option(help="Name of an agent on whose word it acts, nearest first; may be repeated.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Tenant of the session.")] = "",
    time: Annotated[str | None, typer.Option(metavar="RFC3339", help="When; now, if left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print each rule about one call, with what held and what did not.

    Exit code 0, whatever the decision; 2 when the question makes no sense.
    """
    from zt_agents.policy.explain import explain as explain_call  # loads pydantic and CEL
    from zt_agents.policy.loader import load_policy

    lock = ToolLock.read(lock_path(policy_file))
    registered = SqliteAgentStore.beside(policy_file).registered()
    policy = load_policy(policy_file, parameters=lock.parameters, registered=registered)
    spec = _known("tool", tool, policy.tools)
    arguments = _parse_arguments(args)
    notes = _notes(lock, tool, arguments)
    try:
        resource = fill_resource(spec.resource, arguments)
    except ArgumentsError as error:
        resource = ""
        notes.append(f"The guard denies this call before the policy is asked. {error}")
    actor, subject = _known("agent", agent, policy.agents), _parse_user(user, group or [], role or [])
    chain = (actor, *(_known("agent", name, policy.agents) for name in caller or ()))
    call = ToolCall(
        tool=tool,
        spec=spec,
        arguments=arguments,
        agent=actor,
        user=subject,
        intent=intent,
        resource=resource,
        label=_parse_label(seen),
        time=_parse_time(time),
        environment=policy.environment,
        tenant=tenant,
        chain=tuple(ChainLink(each.name, each.id, each.owner, subject.id, "", "") for each in chain),
    )
    explanation = explain_call(policy.engine, call)
    if as_json:
        say_json(_as_json(explanation, notes))
        return
    for note in notes:
        say(f"note: {note}", style="yellow")
    say(str(explanation))


def _notes(lock: ToolLock, tool: str, arguments: Mapping[str, Any]) -> list[str]:
    """Return what the guard looks at before it asks the policy."""
    import jsonschema_rs

    parameters = lock.parameters.get(tool)
    if parameters is None:
        return [f"Tool {tool!r} was never accepted: until `zt-agents check --accept`, every call is denied."]
    notes = []
    try:
        misfits = list(jsonschema_rs.iter_errors(dict(parameters), arguments))
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        return [f"The arguments could not be held against the recorded parameters: {error}"]
    for misfit in misfits:
        notes.append(f"The guard denies this call before the policy is asked: {misfit.message}.")
    properties = parameters.get("properties", {})
    notes += [
        f"Argument {name!r} was left out. A tool with a default for it is decided on with that default."
        for name, schema in properties.items()
        if name not in arguments and isinstance(schema, Mapping) and "default" in schema
    ]
    return notes


def _known(kind: str, name: str, known: Mapping[str, _T]) -> _T:
    if name not in known:
        hint = did_you_mean(name, known).strip() or f"Known: {', '.join(sorted(known)) or 'none'}."
        raise ConfigurationError(f"The policy has no {kind} {name!r}.", hint=hint)
    return known[name]


def _parse_user(user: str, groups: list[str], roles: list[str]) -> User:
    try:
        return User(user, groups=tuple(groups), roles=tuple(roles))
    except ValueError as error:
        raise ConfigurationError(f"--user {user!r} is not a user: {error}.") from error


def _parse_arguments(text: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text, object_pairs_hook=_no_repeated_names, parse_constant=_no_such_number)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"--args is not JSON: {error}.", hint=_ARGS_HINT) from error
    if not isinstance(arguments, dict):
        raise ConfigurationError("--args is not a JSON object.", hint=_ARGS_HINT)
    return arguments


_ARGS_HINT = """Write a JSON object, such as --args '{"id": 5}'."""


def _no_repeated_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name is repeated")
    return document


def _no_such_number(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _parse_label(text: str) -> Label:
    integrity, _, data_class = text.partition("/")
    return Label(_member(Integrity, integrity), _member(DataClass, data_class or DataClass.PUBLIC))


def _member(kind: type[_E], text: str) -> _E:
    words = [each.value for each in kind]
    if text not in words:
        raise ConfigurationError(
            f"--seen does not know {text!r}.{did_you_mean(text, words)}",
            hint="Write INTEGRITY/DATA_CLASS, such as untrusted/confidential.",
        )
    return kind(text)


def _parse_time(text: str | None) -> float:
    if text is None:
        return system_clock()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(f"--time {text!r} is not a time.", hint=_TIME_HINT) from error
    if moment.tzinfo is None:
        raise ConfigurationError(f"--time {text!r} has no time zone.", hint=_TIME_HINT)
    return moment.timestamp()


_TIME_HINT = "Write it in RFC 3339 form, such as 2026-01-31T08:00:00Z."


def _as_json(explanation: Explanation, notes: list[str]) -> dict[str, Any]:
    decision = explanation.decision
    return {
        "agent": explanation.agent,
        "tool": explanation.tool,
        "outcome": decision.outcome.value,
        "tier": decision.tier.value,
        "policy": {"id": decision.policy_id, "version": decision.policy_version},
        "reasons": [
            {"code": each.code.value, "text": each.text, "rule": each.rule_id} for each in decision.reasons
        ],
        "rules": [
            {
                **_rule(trace.rule),
                "applied": trace.applied.value,
                "clauses": [
                    {"text": each.text, "held": each.held, "problem": each.problem} for each in trace.clauses
                ],
            }
            for trace in explanation.rules
        ],
        "rules_for_other_agents": [_rule(rule) for rule in explanation.near_misses],
        "notes": notes,
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "agents": list(rule.agents),
        "outcome": rule.outcome.value,
        "when": rule.when,
        "raise_tier": rule.raise_tier.value,
    }
