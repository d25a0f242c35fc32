"""``zt-agents agents``: which agents there are, who answers for each, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from rich.text import Text
from rich.tree import Tree

from zt_agents._internal.clock import rfc3339, system_clock
from zt_agents._internal.display import visible
from zt_agents._internal.folding import fold
from zt_agents.audit.records import RecordKind
from zt_agents.cli.display import console, say, say_json, say_table
from zt_agents.cli.roster import (
    DEFAULT_POLICY,
    JsonOption,
    LogOption,
    NameArgument,
    PolicyOption,
    Roster,
    StoreOption,
    moment,
    open_roster,
)
from zt_agents.identity import Agent
from zt_agents.identity.manifests import differences
from zt_agents.identity.principals import AgentStatus, OnChange
from zt_agents.identity.registry import Standing
from zt_agents.stores.sqlite_audit import SqliteAuditSink

NOTHING = 1
"""Exit code where nothing is found."""
_STYLES = {"active": "green", "registered": "yellow", "suspended": "red", "retired": "dim"}

agents_app = typer.Typer(
    name="agents", help="See which agents there are, and change what becomes of them.", no_args_is_help=True
)


@agents_app.command("list")
def list_agents(policy: PolicyOption = DEFAULT_POLICY, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List every agent: its status, its owner, and what is to be looked at."""
    roster = open_roster(policy, store, None)
    standings = [roster.registry.standing(name) for name in sorted(roster.names)]
    if as_json:
        say_json([_as_json(roster, each) for each in standings])
        return
    rows = [(s.agent.name, s.agent.status.value, s.agent.owner, s.agent.version, _remarks(s)) for s in standings]
    say_table(("agent", "status", "owner", "version", "to be looked at"), rows)


@agents_app.command()
def show(
    name: NameArgument, policy: PolicyOption = DEFAULT_POLICY, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Show one agent: identity, owner, what it is made of, and what its owner has accepted."""
    roster = open_roster(policy, store, None)
    standing = roster.registry.standing(name)
    if as_json:
        say_json({**_as_json(roster, standing), **_manifests(standing)})
        return
    agent, state = standing.agent, standing.state
    tree = Tree(Text(f"{visible(agent.name)}  {agent.status}", style=_STYLES[agent.status]))
    _branch(tree, "id", agent.id)
    _branch(tree, "purpose", agent.purpose)
    _branch(tree, "version", agent.version)
    _branch(tree, "known from", "the policy file" if name in roster.declared else "the store")
    _branch(tree, "may ever call", ", ".join(sorted(agent.tools)) if agent.tools is not None else "what rules allow")
    owner = _branch(tree, "owner", agent.owner)
    for remark in _absences(standing):
        owner.add(Text(visible(remark), style="red"))
    review = _branch(tree, "under review", f"yes: {agent.under_review}" if agent.under_review else "no")
    if state.accepted is not None:
        text = f"accepted by {visible(state.accepted_by)} on {moment(state.accepted_at)}"
        review.add(Text(text, style="green"))
    if state.observed is not None and state.observed != state.accepted:
        count = len(differences(state.accepted, state.observed))
        text = f"differs in {count} part{'s' if count != 1 else ''} since {moment(state.observed_at)}: agents review"
        review.add(Text(text, style="yellow"))
    made_of = state.observed or state.accepted
    if made_of is not None:
        parts = tree.add(Text("made of"))
        for change in differences(None, made_of):
            _branch(parts, change.part, change.after)
    console().print(tree)


@agents_app.command()
def history(
    name: NameArgument,
    policy: PolicyOption = DEFAULT_POLICY,
    store: StoreOption = None,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was ever changed about one agent and its owner, oldest first, by the audit log.

    Exit code 1: nothing was.
    """
    roster = open_roster(policy, store, log)
    agent = roster.registry.get(name)
    with SqliteAuditSink(roster.log, create=False).snapshot() as snapshot:
        changes = [
            {"seq": record["seq"], "time": rfc3339(record["time"]), **record["change"]}
            for record in snapshot.read()
            if record.get("kind") == RecordKind.CHANGE and _is_about(record["change"], agent)
        ]
    if as_json:
        say_json(changes)
    else:
        rows = [tuple(str(change.get(key, "")) for key in ("time", "what", "by", "why")) for change in changes]
        say_table(("when", "what", "by", "why"), rows)
    if not changes:
        say(f"Nothing about {visible(name)} is on record in {roster.log}.", stderr=True)
        raise typer.Exit(NOTHING)


def _is_about(change: Any, agent: Agent) -> bool:
    if not isinstance(change, dict):
        return False
    kind, about = str(change.get("what", "")).partition(".")[0], str(change.get("about", ""))
    if kind == "agent":
        return change.get("id") == agent.id
    if kind == "owner":
        return fold(about) == fold(agent.owner)
    return kind == "revocation" and about == f"agent {agent.id}"


def _branch(tree: Tree, label: str, text: str) -> Tree:
    return tree.add(Text(f"{visible(label)}: ", style="bold").append(visible(text), style="not bold"))


def _remarks(standing: Standing) -> tuple[str, ...]:
    agent = standing.agent
    remarks = [*_absences(standing)]
    if agent.under_review is not None:
        remarks.append(f"under review ({agent.under_review}): zt-agents agents review {agent.name}")
    return tuple(remarks) or ("",)


def _absences(standing: Standing) -> Iterator[str]:
    if standing.absence is not None and standing.ends_at is not None:
        yield f"its owner left on {moment(standing.absence.left_at)}"
        over = "denied since" if system_clock() >= standing.ends_at else "denied from"
        yield f"{over} {moment(standing.ends_at)}: give it another owner"


def _as_json(roster: Roster, standing: Standing) -> dict[str, Any]:
    agent = standing.agent
    left, ends = standing.absence, standing.ends_at
    return {
        "name": agent.name,
        "id": agent.id,
        "version": agent.version,
        "owner": agent.owner,
        "purpose": agent.purpose,
        "status": agent.status.value,
        "declared_in": "policy" if agent.name in roster.declared else "store",
        "tools": sorted(agent.tools) if agent.tools is not None else None,
        "under_review": agent.under_review.value if agent.under_review else None,
        "owner_left": rfc3339(left.left_at) if left is not None else None,
        "denied_from": rfc3339(ends) if ends is not None else None,
        "may_act": (
            agent.status is AgentStatus.ACTIVE
            and agent.under_review is not OnChange.DENY
            and (ends is None or system_clock() < ends)
        ),
    }


def _manifests(standing: Standing) -> dict[str, Any]:
    state = standing.state
    return {
        "accepted": state.accepted.to_dict() if state.accepted else None,
        "accepted_by": state.accepted_by or None,
        "accepted_at": rfc3339(state.accepted_at) if state.accepted else None,
        "observed": state.observed.to_dict() if state.observed else None,
    }
