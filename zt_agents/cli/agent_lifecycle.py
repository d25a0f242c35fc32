"""Commands of ``zt-agents agents`` that change what becomes of one: each is on record in the audit log.

An agent that its policy file declares is active from the start. One that is registered here is known to rules when
guards start again, and acts once it is activated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from zt_agents._internal.clock import rfc3339, system_clock
from zt_agents._internal.display import visible
from zt_agents._internal.folding import fold
from zt_agents._internal.suggest import did_you_mean
from zt_agents.cli.agents import NOTHING, agents_app
from zt_agents.cli.display import confirmed, say
from zt_agents.cli.moments import moment_option
from zt_agents.cli.options import YesOption, again
from zt_agents.cli.registering import checked, possible
from zt_agents.cli.roster import NameArgument, Registrar, by_registrar, moment
from zt_agents.errors import AgentInactiveError
from zt_agents.identity import Agent, AgentStatus
from zt_agents.identity.lifecycle import Absence, move, transfer
from zt_agents.identity.lifecycle import register as registered

OwnerArgument = Annotated[str, typer.Argument(metavar="OWNER", help="As in the policy, such as dana@acme.example.")]


@agents_app.command()
@by_registrar
def register(
    registrar: Registrar,
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
) -> None:
    """Register an agent that the policy file does not declare. It may not act until it is activated.

    Exit code 2: it cannot be registered.
    """
    roster = registrar.roster
    agent_id = identifier or f"spiffe://{roster.file.trust_domain}/agent/{name}"
    agent = Agent(name, agent_id, version, owner, purpose, tools=frozenset(tool) if tool else None)
    registrar.change(checked(roster, agent), registered(agent), "agent.registered", widens=True, owner=owner)
    activating = again(f"zt-agents agents activate {name}", policy=roster.policy)
    text = f"{name} is registered as {agent.id}. Rules may name it; then: {activating}"
    registrar.tell(text, name=name, id=agent.id, status=AgentStatus.REGISTERED)


@agents_app.command()
@by_registrar
def activate(registrar: Registrar, name: NameArgument) -> None:
    """Let an agent act that was registered, or suspended by a command.

    Exit code 2: the policy file suspends it, or it is retired.
    """
    declared = registrar.roster.declared.get(name)
    if declared is not None and declared.status is not AgentStatus.ACTIVE:
        hint = f"Change it there: agents.{name}.status"
        raise AgentInactiveError(f"Agent {name!r} is {declared.status} in the policy file.", hint=hint)
    _move(registrar, name, AgentStatus.ACTIVE, "agent.activated", widens=True)


@agents_app.command()
@by_registrar
def suspend(registrar: Registrar, name: NameArgument) -> None:
    """Stop an agent: each of its calls is denied from the next one on, in every process, until it is activated.

    Exit code 2: it was not stopped.
    """
    _move(registrar, name, AgentStatus.SUSPENDED, "agent.suspended")


@agents_app.command()
@by_registrar
def retire(registrar: Registrar, name: NameArgument, yes: YesOption = False) -> None:
    """Stop an agent for good: it is never activated again, and its id is never given to another.

    Exit code 1: nobody said yes. 2: it was not stopped.
    """
    agent = registrar.roster.registry.get(name)
    if not yes and not confirmed(f"Retire {visible(name)} ({agent.id}) for good?"):
        raise typer.Exit(NOTHING)
    _move(registrar, name, AgentStatus.RETIRED, "agent.retired")


def _move(registrar: Registrar, name: str, status: AgentStatus, what: str, *, widens: bool = False) -> None:
    agent = registrar.roster.registry.get(name)
    registrar.change(agent, move(agent, status), what, widens=widens)
    registrar.tell(f"{name} is {status}.", name=name, id=agent.id, status=status)


@agents_app.command("transfer")
@by_registrar
def transfer_agent(
    registrar: Registrar,
    name: NameArgument,
    owner: Annotated[str, typer.Argument(metavar="OWNER", help="Who answers for it from now on.")],
) -> None:
    """Give a registered agent another owner. Those of the policy file change owners there.

    Exit code 2: it keeps the owner that it has.
    """
    agent = registrar.roster.registry.get(name)
    if name not in registrar.roster.declared:
        possible(registrar.roster, replace(agent, owner=owner))
    facts = {"before": agent.owner, "owner": owner}
    registrar.change(agent, transfer(agent, owner), "agent.transferred", widens=True, **facts)
    registrar.tell(f"{name} has a new owner: {owner}.", name=name, id=agent.id, **facts)


@agents_app.command()
@by_registrar
def owner_left(
    registrar: Registrar,
    owner: OwnerArgument,
    at: Annotated[str | None, typer.Option(help="When, such as yesterday or 2026-01-31; now if left out.")] = None,
) -> None:
    """Say that an owner left. After the policy's grace period each call of their agents is denied.

    Exit code 1: it is noted, and they own no agent.
    """
    roster, left_at = registrar.roster, moment_option(at, "--at")
    absence = Absence(owner, system_clock() if left_at is None else left_at)
    new = not roster.store.path.exists()
    roster.store.leave(absence)
    registrar.record("owner.left", owner, at=rfc3339(absence.left_at))
    if new:
        registrar.say_new()
    standings = [roster.registry.standing(name) for name in sorted(roster.names)]
    theirs = {each.agent.name: each.ends_at for each in standings if fold(each.agent.owner) == fold(owner)}
    denied = {name: ends_at for name, ends_at in theirs.items() if ends_at is not None}
    lines = [f"{name} is denied from {moment(at)}, unless it gets another owner." for name, at in denied.items()]
    agents = {name: rfc3339(at) for name, at in denied.items()}
    if lines or registrar.as_json:
        registrar.tell("\n".join(lines), owner=owner, left_at=rfc3339(absence.left_at), denied_from=agents)
    if not theirs:
        owners = {each.agent.owner for each in standings}
        say(f"{visible(owner)} owns no agent.{did_you_mean(owner, owners)} Noted all the same.", stderr=True)
        raise typer.Exit(NOTHING)


@agents_app.command()
@by_registrar
def owner_back(registrar: Registrar, owner: OwnerArgument) -> None:
    """Say that an owner is back, or never left.

    Exit code 1: they are not known to have left.
    """
    store = registrar.roster.store
    if store.read().absence(owner) is None:
        say(f"{visible(owner)} is not known to have left.", stderr=True)
        raise typer.Exit(NOTHING)
    registrar.record("owner.back", owner)
    store.come_back(owner)
    registrar.tell(f"{visible(owner)} answers for their agents again.", owner=owner)
