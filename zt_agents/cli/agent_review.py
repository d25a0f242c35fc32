"""``zt-agents agents review``: what an agent has become since its owner accepted it, and their word on it.

What is accepted is the difference that was shown, by its hash: had the agent changed in between, it is refused.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from zt_agents._internal.clock import system_clock
from zt_agents._internal.display import visible
from zt_agents.cli.agents import agents_app
from zt_agents.cli.display import console, say, say_json
from zt_agents.cli.roster import NameArgument, Registrar, by_registrar, moment
from zt_agents.identity.lifecycle import SHOWN, accept
from zt_agents.identity.manifests import Change, difference_hash, differences
from zt_agents.identity.registry import Standing

CHANGED = 1
"""Exit code where there is something that its owner has not accepted."""


@agents_app.command()
@by_registrar
def review(
    registrar: Registrar,
    name: NameArgument,
    accepting: Annotated[
        str | None, typer.Option("--accept", metavar="DIFFERENCE", help="Accept it: the id that was shown with it.")
    ] = None,
) -> None:
    """Show what an agent has become since its owner accepted it; its owner accepts it with --accept and --by.

    Exit code 0: its owner has accepted all of it. 1: there is a difference. 2: it could not be accepted.
    """
    if accepting is not None:
        _accept(registrar, name, accepting)
    standing = registrar.roster.registry.standing(name)
    shown = _difference(standing)
    if registrar.as_json:
        say_json(_as_json(standing, shown))
    else:
        _print(standing, shown)
    if shown is not None or standing.agent.under_review is not None:
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


def _print(standing: Standing, shown: str | None) -> None:
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
    consequence = {None: "it acts all the same", "deny": "its calls are denied", "raise_tier": "one tier higher"}
    say(f"Until {agent.owner} accepts it: {consequence[agent.under_review]}.")
    say(f"To accept it: zt-agents agents review {agent.name} --accept {shown[:SHOWN]} --by {agent.owner}")


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
