"""``zt-agents agents``: which agents there are, who answers for each, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import typer
from rich.text import Text
from rich.tree import Tree

from zt_agents._internal.clock import rfc3339, system_clock
from zt_agents._internal.display import visible
from zt_agents._internal.folding import fold
from zt_agents.audit.calls import text
from zt_agents.audit.records import RecordKind
from zt_agents.cli.changes import when_and_besides
from zt_agents.cli.commands import Commands
from zt_agents.cli.display import Cell, console, say, say_json, say_table
from zt_agents.cli.options import DEFAULT_POLICY, JsonOption, LogOption, PolicyOption
from zt_agents.cli.revocations import SHOWN_ID, as_json_of
from zt_agents.cli.roster import NameArgument, Roster, StoreOption, moment, open_roster
from zt_agents.identity import Agent
from zt_agents.identity.manifests import differences
from zt_agents.identity.principals import AgentStatus, OnChange
from zt_agents.identity.registry import Standing
from zt_agents.identity.revocations import Revocation, Revoked
from zt_agents.stores.sqlite_audit import SqliteAuditSink
from zt_agents.stores.sqlite_revocations import SqliteRevocations

NOTHING = 1
"""Exit code where nothing is found."""
_STYLES = {"active": "green", "registered": "yellow", "suspended": "red", "retired": "dim"}

agents_app = Commands("agents", "List agents, and change what becomes of them.")


@agents_app.command("list")
def list_agents(policy: PolicyOption = DEFAULT_POLICY, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List every agent: its status, its owner, and what is to be looked at."""
    roster = open_roster(policy, store, None)
    revoked = _revoked(roster)
    standings = [roster.registry.standing(name) for name in sorted(roster.names)]
    if as_json:
        say_json([_as_json(roster, each, _about(each.agent, revoked)) for each in standings])
        return
    rows = [
        (s.agent.name, s.agent.status.value, s.agent.owner, s.agent.version, _remarks(s, _about(s.agent, revoked)))
        for s in standings
    ]
    say_table(("agent", "status", "owner", "version", "to be looked at"), rows)


@agents_app.command()
def show(
    name: NameArgument, policy: PolicyOption = DEFAULT_POLICY, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Show one agent: identity, owner, what it is made of, and what its owner has accepted."""
    roster = open_roster(policy, store, None)
    standing = roster.registry.standing(name)
    revoked = _about(standing.agent, _revoked(roster))
    if as_json:
        say_json({**_as_json(roster, standing, revoked), **_manifests(standing)})
        return
    agent, state = standing.agent, standing.state
    tree = Tree(Text(f"{visible(agent.name)}  {agent.status}", style=_STYLES[agent.status]))
    _branch(tree, "id", agent.id)
    _branch(tree, "purpose", agent.purpose)
    _branch(tree, "version", agent.version)
    _branch(tree, "known from", "the policy file" if name in roster.declared else "the store")
    _branch(tree, "may ever call", ", ".join(sorted(agent.tools)) if agent.tools is not None else "what rules allow")
    for each in revoked:
        tree.add(Text(visible(_revocation(each)), style="bold red"))
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
            record
            for record in snapshot.read()
            if record.get("kind") == RecordKind.CHANGE and _is_about(record["change"], agent)
        ]
    if as_json:
        say_json([{"seq": each["seq"], "time": rfc3339(each["time"]), **each["change"]} for each in changes])
    else:
        say_table(("time (UTC)", "what", "by", "why", "besides"), map(_change_row, changes))
    if not changes:
        say(f"Nothing about {visible(name)} is on record in {roster.log}.", stderr=True)
        raise typer.Exit(NOTHING)


def _change_row(record: Mapping[str, Any]) -> tuple[Cell, ...]:
    when, besides = when_and_besides(record)
    return (when, *(text(record["change"], key) for key in ("what", "by", "why")), besides)


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


def _revoked(roster: Roster) -> list[Revocation]:
    """Return what is revoked of agents. Raises StoreError where that cannot be told."""
    path = roster.revocations
    if not path.exists() and not path.with_name(f"{path.name}.id").exists():
        return []  # no guard was ever started
    found = SqliteRevocations(path, create=False).list()
    return [each for each in found if each.kind in (Revoked.AGENT, Revoked.OWNER, Revoked.ALL)]


def _about(agent: Agent, revoked: Iterable[Revocation]) -> list[Revocation]:
    """Return those of *revoked* that stop each call of *agent*."""
    named = {Revoked.AGENT: agent.id, Revoked.OWNER: agent.owner, Revoked.ALL: ""}
    return [each for each in revoked if each.value == named[each.kind]]


def _revocation(revocation: Revocation) -> str:
    what = {Revoked.AGENT: "", Revoked.OWNER: " with its owner", Revoked.ALL: " with everything"}[revocation.kind]
    return f"revoked{what} by {revocation.by} ({revocation.id[:SHOWN_ID]}): zt-agents revocations"


def _remarks(standing: Standing, revoked: Iterable[Revocation]) -> tuple[str, ...]:
    agent = standing.agent
    remarks = [*map(_revocation, revoked), *_absences(standing)]
    if agent.under_review is not None:
        remarks.append(f"under review ({agent.under_review}): zt-agents agents review {agent.name}")
    return tuple(remarks) or ("",)


def _absences(standing: Standing) -> Iterator[str]:
    if standing.absence is not None and standing.ends_at is not None:
        yield f"its owner left on {moment(standing.absence.left_at)}"
        over = "denied since" if system_clock() >= standing.ends_at else "denied from"
        yield f"{over} {moment(standing.ends_at)}: give it another owner"


def _as_json(roster: Roster, standing: Standing, revoked: Sequence[Revocation]) -> dict[str, Any]:
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
        "revoked": [as_json_of(each) for each in revoked],
        "may_act": (
            agent.status is AgentStatus.ACTIVE
            and not revoked
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
