"""Commands of ``zt-agents agents`` that change what becomes of one: each is on record in the audit log.

An agent that its policy file declares is active from the start. One that is registered here is known to rules when
guards start again, and acts once it is activated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zt_agents._internal.clock import rfc3339, system_clock
from zt_agents._internal.display import visible
from zt_agents._internal.folding import fold
from zt_agents._internal.suggest import did_you_mean
from zt_agents.cli.agents import NOTHING, agents_app
from zt_agents.cli.display import say
from zt_agents.cli.moments import moment_option
from zt_agents.cli.roster import (
    DEFAULT_POLICY,
    ByOption,
    LogOption,
    NameArgument,
    PolicyOption,
    ReasonOption,
    Roster,
    StoreOption,
    change,
    moment,
    open_roster,
    record,
    say_new,
)
from zt_agents.errors import AgentChangeError, AgentInactiveError
from zt_agents.identity import Agent, AgentStatus, parse_spiffe_id
from zt_agents.identity.lifecycle import Absence, move, transfer
from zt_agents.identity.lifecycle import register as registered

if TYPE_CHECKING:
    from zt_agents.policy.models import AgentEntry

OwnerArgument = Annotated[str, typer.Argument(metavar="OWNER", help="As in the policy, such as dana@acme.example.")]


@agents_app.command()
def register(
    name: NameArgument,
    owner: Annotated[str, typer.Option(help="The human who answers for it.")],
    purpose: Annotated[str, typer.Option(help="What it is for, in one line.")],
    version: Annotated[str, typer.Option(help="Of the agent.")],
    identifier: Annotated[
        str | None, typer.Option("--id", help="SPIFFE-format; spiffe://TRUST-DOMAIN/agent/NAME if left out.")
    ] = None,
    tool: Annotated[
        list[str] | None, typer.Option("--tool", help="A tool it may call, if rules allow it; may be repeated.")
    ] = None,
    by: ByOption = None,
    policy: PolicyOption = DEFAULT_POLICY,
    store: StoreOption = None,
    log: LogOption = None,
) -> None:
    """Register an agent that the policy file does not declare. It may not act until it is activated."""
    roster = open_roster(policy, store, log)
    agent_id = identifier or f"spiffe://{roster.file.trust_domain}/agent/{name}"
    agent = _checked(roster, name, agent_id, owner, purpose, version, tool)
    change(roster, agent, registered(agent), "agent.registered", by=by, widens=True, owner=agent.owner)
    say(f"{agent.name} is registered as {agent.id}. Rules may name it; then: zt-agents agents activate {agent.name}")


@agents_app.command()
def activate(
    name: NameArgument,
    by: ByOption = None,
    reason: ReasonOption = "",
    policy: PolicyOption = DEFAULT_POLICY,
    store: StoreOption = None,
    log: LogOption = None,
) -> None:
    """Let an agent act that was registered, or suspended by a command."""
    roster = open_roster(policy, store, log)
    agent = roster.registry.get(name)
    declared = roster.declared.get(name)
    if declared is not None and declared.status is not AgentStatus.ACTIVE:
        hint = f"Change it there: agents.{name}.status"
        raise AgentInactiveError(f"Agent {name!r} is {declared.status} in the policy file.", hint=hint)
    change(roster, agent, move(agent, AgentStatus.ACTIVE), "agent.activated", by=by, reason=reason, widens=True)
    say(f"{name} is active.")


@agents_app.command()
def suspend(
    name: NameArgument,
    by: ByOption = None,
    reason: ReasonOption = "",
    policy: PolicyOption = DEFAULT_POLICY,
    store: StoreOption = None,
    log: LogOption = None,
) -> None:
    """Stop an agent: each of its calls is denied from the next one on, in every process, until it is activated."""
    roster = open_roster(policy, store, log)
    agent = roster.registry.get(name)
    change(roster, agent, move(agent, AgentStatus.SUSPENDED), "agent.suspended", by=by, reason=reason)
    say(f"{name} is suspended.")


@agents_app.command()
def retire(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    by: ByOption = None,
    reason: ReasonOption = "",
    policy: PolicyOption = DEFAULT_POLICY,
    store: StoreOption = None,
    log: LogOption = None,
) -> None:
    """Stop an agent for good: it is never activated again, and its id is never given to another."""
    roster = open_roster(policy, store, log)
    agent = roster.registry.get(name)
    if not yes and not typer.confirm(f"Retire {visible(name)} ({agent.id}) for good?", err=True):
        say("Nothing was changed.", stderr=True)
        raise typer.Exit(NOTHING)
    change(roster, agent, move(agent, AgentStatus.RETIRED), "agent.retired", by=by, reason=reason)
    say(f"{name} is retired.")


@agents_app.command("transfer")
def transfer_agent(
    name: NameArgument,
    owner: Annotated[str, typer.Argument(metavar="OWNER", help="Who answers for it from now on.")],
    by: ByOption = None,
    reason: ReasonOption = "",
    policy: PolicyOption = DEFAULT_POLICY,
    store: StoreOption = None,
    log: LogOption = None,
) -> None:
    """Give a registered agent another owner. Those of the policy file change owners there."""
    roster = open_roster(policy, store, log)
    agent = roster.registry.get(name)
    if name not in roster.declared:
        _checked_entry(roster, name, agent.id, owner, agent.purpose, agent.version)
    facts = {"before": agent.owner, "owner": owner}
    change(roster, agent, transfer(agent, owner), "agent.transferred", by=by, reason=reason, widens=True, **facts)
    say(f"{name} has a new owner: {owner}.")


@agents_app.command()
def owner_left(
    owner: OwnerArgument,
    at: Annotated[str | None, typer.Option(help="When, such as yesterday or 2026-01-31; now if left out.")] = None,
    by: ByOption = None,
    reason: ReasonOption = "",
    policy: PolicyOption = DEFAULT_POLICY,
    store: StoreOption = None,
    log: LogOption = None,
) -> None:
    """Say that an owner left. After the policy's grace period each call of their agents is denied."""
    roster = open_roster(policy, store, log)
    left_at = moment_option(at, "--at")
    absence = Absence(owner, system_clock() if left_at is None else left_at)
    new = not roster.store.path.exists()
    roster.store.leave(absence)
    record(roster, "owner.left", owner, by=by, reason=reason, at=rfc3339(absence.left_at))
    if new:
        say_new(roster)
    standings = [roster.registry.standing(name) for name in sorted(roster.names)]
    theirs = [each for each in standings if fold(each.agent.owner) == fold(owner)]
    for standing in theirs:
        assert standing.ends_at is not None
        say(f"{standing.agent.name} is denied from {moment(standing.ends_at)}, unless it gets another owner.")
    if not theirs:
        owners = {each.agent.owner for each in standings}
        say(f"{visible(owner)} owns no agent.{did_you_mean(owner, owners)} Noted all the same.", stderr=True)
        raise typer.Exit(NOTHING)


@agents_app.command()
def owner_back(
    owner: OwnerArgument,
    by: ByOption = None,
    reason: ReasonOption = "",
    policy: PolicyOption = DEFAULT_POLICY,
    store: StoreOption = None,
    log: LogOption = None,
) -> None:
    """Say that an owner is back, or never left."""
    roster = open_roster(policy, store, log)
    if roster.store.read().absence(owner) is None:
        say(f"{visible(owner)} is not known to have left.", stderr=True)
        raise typer.Exit(NOTHING)
    record(roster, "owner.back", owner, by=by, reason=reason)
    roster.store.come_back(owner)
    say(f"{visible(owner)} answers for their agents again.")


def _checked(
    roster: Roster, name: str, agent_id: str, owner: str, purpose: str, version: str, tools: list[str] | None
) -> Agent:
    """Return the agent that is to be registered. Raises AgentChangeError where it cannot be."""
    entry = _checked_entry(roster, name, agent_id, owner, purpose, version)
    for other in roster.declared.values():
        if fold(other.name) == fold(name) or other.id == agent_id:
            hint = "It is active unless its status there says otherwise."
            raise AgentChangeError(f"The policy file declares agent {other.name!r}, {other.id}.", hint=hint)
    for each in tools or ():
        if each not in roster.file.tools:
            raise AgentChangeError(f"No tool is called {each!r}.{did_you_mean(each, roster.file.tools)}")
    ceiling = frozenset(tools) if tools else None
    return Agent(name, agent_id, entry.version, entry.owner, entry.purpose, tools=ceiling)


def _checked_entry(roster: Roster, name: str, agent_id: str, owner: str, purpose: str, version: str) -> AgentEntry:
    from pydantic import TypeAdapter, ValidationError

    from zt_agents.policy.agents import not_an_owner
    from zt_agents.policy.models import AgentEntry
    from zt_agents.policy.spelling import AgentName

    try:
        TypeAdapter(AgentName).validate_python(name)
        entry = AgentEntry.model_validate({"id": agent_id, "version": version, "owner": owner, "purpose": purpose})
        domain, _ = parse_spiffe_id(agent_id)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False)
        where = ".".join(map(str, first["loc"])) or "its name"
        raise AgentChangeError(f"Agent {visible(name, limit=80)!r} cannot be: {where}: {first['msg']}.") from error
    except ValueError as error:
        raise AgentChangeError(f"Agent {visible(name, limit=80)!r} cannot be: {error}.") from error
    if domain != roster.file.trust_domain:
        text = f"Its id is in {domain!r}, not in the trust domain {roster.file.trust_domain!r}."
        raise AgentChangeError(text)
    if why := not_an_owner(owner, [*roster.names, name]):
        raise AgentChangeError(f"The owner is refused: {why}.")
    return entry


