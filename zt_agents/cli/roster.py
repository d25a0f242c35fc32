"""The agents that a policy declares and its store knows, and how one of them is changed from the command line.

A mistake in a policy's rules keeps nobody from suspending an agent: of the policy file, the agents alone are read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zt_agents._internal.clock import as_datetime, system_clock
from zt_agents._internal.login import login
from zt_agents.audit.records import change_record
from zt_agents.cli.display import say
from zt_agents.identity import Agent, AgentRegistry
from zt_agents.identity.lifecycle import AgentState, Transition
from zt_agents.stores.sqlite_agents import SqliteAgentStore
from zt_agents.stores.sqlite_audit import SqliteAuditSink

if TYPE_CHECKING:
    from zt_agents.policy.models import PolicyFile

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of the agent, as in rules.")]
PolicyOption = Annotated[Path, typer.Option("--policy", metavar="FILE", help="The policy file.")]
StoreOption = Annotated[
    Path | None, typer.Option("--store", envvar="ZT_AGENTS_AGENTS", help="The store, if not beside the policy.")
]
LogOption = Annotated[
    Path | None, typer.Option("--log", envvar="ZT_AGENTS_AUDIT", help="The audit log, if not the policy's.")
]
ByOption = Annotated[str | None, typer.Option("--by", help="Who does it; os:LOGIN if left out.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_POLICY = Path("zt-agents.yaml")


@dataclass(frozen=True, slots=True)
class Roster:
    """What there is."""

    file: PolicyFile
    declared: Mapping[str, Agent]
    """The policy's, by name."""
    store: SqliteAgentStore
    registry: AgentRegistry
    names: tuple[str, ...]
    """Of all agents."""
    log: Path


def open_roster(policy: Path, store: Path | None, log: Path | None) -> Roster:
    """Return the agents of *policy* and of its store.

    Raises:
        PolicyFileError: *policy* cannot be read at all.
        StoreError: the store cannot be read.
    """
    from zt_agents.policy.agents import declared_agents  # loads pydantic
    from zt_agents.policy.document import read_file
    from zt_agents.policy.findings import Findings
    from zt_agents.policy.spelling import seconds
    from zt_agents.policy.validation import validate

    document = read_file(policy)
    findings = Findings(document)  # `zt-agents check` tells them
    part = validate(document, findings)
    declared = declared_agents(part, document, findings)
    kept = SqliteAgentStore(store) if store else SqliteAgentStore.beside(policy)
    agents = {**{agent.name: agent for agent in kept.registered()}, **declared}
    registry = AgentRegistry(
        agents, store=kept, grace=seconds(part.file.owners.grace), environment=part.file.environment
    )
    place = log or policy.parent / part.file.audit.path
    return Roster(part.file, declared, kept, registry, tuple(agents), place)


def change(
    roster: Roster,
    agent: Agent,
    transition: Transition,
    what: str,
    *,
    by: str | None,
    reason: str = "",
    widens: bool = False,
    **facts: object,
) -> AgentState:
    """Change *agent*, and put it on record: before that, if it then *widens* what may be done, and after it otherwise.

    Raises:
        AgentChangeError: it may not be.
        AgentInactiveError: likewise, because of its status.
        StoreError: it could not be stored.
        AuditError: it could not be put on record.
    """
    new = not roster.store.path.exists()
    if widens:
        stored = roster.store.read()
        transition(stored.agents.get(agent.id), stored)  # what is refused is not put on record as done
        record(roster, what, agent.name, by=by, reason=reason, id=agent.id, **facts)
    state = roster.store.change(agent.id, transition)
    if not widens:
        record(roster, what, agent.name, by=by, reason=reason, id=agent.id, **facts)
    if new:
        say_new(roster)
    return state


def record(roster: Roster, what: str, about: str, *, by: str | None, reason: str, **facts: object) -> None:
    """Put a change on record. Raises AuditError or StoreError."""
    here = f"os:{login()}"
    said = {"login": here} if by is not None and by != here else {}
    sink = SqliteAuditSink(roster.log)
    try:
        sink.append([change_record(what, about, by=by or here, why=reason, time=system_clock(), **said, **facts)])
    finally:
        sink.close()


def moment(seconds: float) -> str:
    """Return *seconds* since the epoch as people read them: to the minute, UTC."""
    return f"{as_datetime(seconds):%Y-%m-%d %H:%M} UTC"


def say_new(roster: Roster) -> None:
    """Say where the store is, which has just been made: guards may look elsewhere."""
    text = f"note: {roster.store.path} is new. Guards look for it beside their policy file, or the log they were given."
    say(text, style="yellow", stderr=True)
