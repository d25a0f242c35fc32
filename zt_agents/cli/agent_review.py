"""``zt-agents agents review``: what an agent has become since its owner accepted it, and their word on it.

What is accepted is the difference that was shown, by its hash: had the agent changed in between, it is refused.
"""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from zt_agents._internal.clock import system_clock
from zt_agents._internal.display import visible
from zt_agents.cli.agents import agents_app
from zt_agents.cli.display import console, say, say_json, say_table
from zt_agents.cli.options import again, agent_names
from zt_agents.cli.roster import Registrar, Roster, by_registrar, moment
from zt_agents.identity.lifecycle import SHOWN, accept
from zt_agents.identity.manifests import Change, difference_hash, differences
from zt_agents.identity.principals import OnChange
from zt_agents.identity.registry import Standing

_CONSEQUENCE = {
    None: "it acts all the same",
    OnChange.DENY: "its calls are denied",
    OnChange.RAISE_TIER: "one tier higher",
}
CHANGED = 1
"""Exit code where there is something that its owner has not accepted."""


@agents_app.command()
@by_registrar
def review(
    registrar: Registrar,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Of the agent; if left out, all that changed are listed.", autocompletion=agent_names
        ),
    ] = None,
    accepting: Annotated[
        str | None, typer.Option("--accept", metavar="DIFFERENCE", help="Accept it: the id that was shown with it.")
    ] = None,
) -> None:
    """Show what an agent has become since its owner accepted it; its owner accepts it with --accept and --by.

    Exit code 0: its owner has accepted all of it. 1: there is a difference. 2: it could not be accepted.
    """
    if name is None:
        if accepting is not None:
            raise typer.BadParameter("say whose", param_hint="NAME")
        _list(registrar)
        return
    if accepting is not None:
        _accept(registrar, name, accepting)
    standing = registrar.roster.registry.standing(name)
    shown = _difference(standing)
    if registrar.as_json:
        say_json(_as_json(standing, shown))
    else:
        _print(registrar.roster, standing, shown)
    if shown is not None or standing.agent.under_review is not None:
        raise typer.Exit(CHANGED)


def _list(registrar: Registrar) -> None:
    roster = registrar.roster
    standings = [roster.registry.standing(name) for name in sorted(roster.names)]
    found = {each.agent.name: (each, _difference(each)) for each in standings}
    found = {name: each for name, each in found.items() if each[1] is not None or each[0].agent.under_review}
    if registrar.as_json:
        say_json([_as_json(*each) for each in found.values()])
    elif found:
        rows = [
            (name, standing.agent.owner, _CONSEQUENCE[standing.agent.under_review], f"zt-agents agents review {name}")
            for name, (standing, _) in found.items()
        ]
        say_table(("agent", "owner", "until its owner accepts it", "what changed"), rows)
    else:
        say("Nothing changed that an owner has not accepted.", style="green")
    if found:
        raise typer.Exit(CHANGED)


def _accept(registrar: Registrar, name: str, shown: str) -> None:
    agent = registrar.roster.registry.get(name)
    transition = accept(agent, shown, by=registrar.who, at=system_clock())
    registrar.change(agent, transition, "agent.accepted", widens=True, difference=shown)


def _difference(standing: Standing) -> str | None:
    """Return the hash of the difference there is, or None."""
    state = standing.state
    if state.observed is None or state.observed == state.accepted:
        return None
    return difference_hash(state.id, state.accepted, state.observed)


def _changes(standing: Standing) -> list[Change]:
    observed = standing.state.observed
    return list(differences(standing.state.accepted, observed)) if observed is not None else []


def _print(roster: Roster, standing: Standing, shown: str | None) -> None:
    agent, state = standing.agent, standing.state
    if shown is None:
        _print_same(standing)
        return
    before = f"accepted by {state.accepted_by}, {moment(state.accepted_at)}" if state.accepted else "never accepted"
    table = Table("", visible(before), f"seen {moment(state.observed_at)}")
    for each in _changes(standing):
        table.add_row(
            Text(visible(each.part)), Text(visible(each.before), style="red"), Text(visible(each.after), style="green")
        )
    console().print(table)
    say(f"Until {agent.owner} accepts it: {_CONSEQUENCE[agent.under_review]}.")
    accepting = f"zt-agents agents review {agent.name} --accept {shown[:SHOWN]} --by {shlex.quote(agent.owner)}"
    say(f"To accept it: {again(accepting, policy=roster.policy)}")


def _print_same(standing: Standing) -> None:
    agent, state = standing.agent, standing.state
    if agent.under_review is not None:
        text = f"{agent.name} was not seen as it is now (version {agent.version}), so there is nothing to accept yet."
        say(f"{text} It is seen when its graph runs under ZeroTrustMiddleware, or by guard.observe(...).")
    elif state.accepted is None:
        say(f"{agent.name} was never seen by ZeroTrustMiddleware or guard.observe(...): there is nothing to accept.")
    else:
        say(f"{agent.name} is what {state.accepted_by} accepted on {moment(state.accepted_at)}.", style="green")


def _as_json(standing: Standing, shown: str | None) -> dict[str, Any]:
    return {
        "name": standing.agent.name,
        "owner": standing.agent.owner,
        "under_review": standing.agent.under_review,
        "difference": shown,
        "changes": [each._asdict() for each in _changes(standing)],
    }
