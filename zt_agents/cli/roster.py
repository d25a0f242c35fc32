"""The agents that a policy declares and its store knows, and how one of them is changed from the command line.

A mistake in a policy's rules keeps nobody from suspending an agent: of the policy file, the agents alone are read here.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zt_agents._internal.clock import as_datetime, system_clock
from zt_agents._internal.login import login
from zt_agents.audit.records import change_record
from zt_agents.cli.display import say, say_json
from zt_agents.cli.options import (
    DEFAULT_POLICY,
    ByOption,
    JsonOption,
    LogOption,
    PolicyOption,
    ReasonOption,
    agent_names,
)
from zt_agents.identity import Agent, AgentRegistry
from zt_agents.identity.lifecycle import Transition
from zt_agents.stores.sqlite_agents import SqliteAgentStore
from zt_agents.stores.sqlite_audit import SqliteAuditSink

if TYPE_CHECKING:
    from zt_agents.policy.models import PolicyFile

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Of the agent, as in rules.", autocompletion=agent_names)
]
StoreOption = Annotated[
    Path | None, typer.Option("--store", envvar="ZT_AGENTS_AGENTS", help="The store, if not beside the policy.")
]


@dataclass(frozen=True, slots=True)
class Roster:
    """What there is."""

    policy: Path
    file: PolicyFile
    declared: Mapping[str, Agent]
    """The policy's, by name."""
    store: SqliteAgentStore
    registry: AgentRegistry
    names: tuple[str, ...]
    """Of all agents."""
    log: Path
    revocations: Path


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
    place, revocations = log or policy.parent / part.file.audit.path, policy.parent / part.file.revocation.path
    return Roster(policy, part.file, declared, kept, registry, tuple(agents), place, revocations)


@dataclass(frozen=True, slots=True)
class Registrar:
    """Who changes agents from the command line, and why."""

    roster: Roster
    by: str | None
    """None is whoever is logged in."""
    reason: str
    as_json: bool

    @property
    def who(self) -> str:
        return self.by or f"os:{login()}"

    def change(self, agent: Agent, transition: Transition, what: str, *, widens: bool = False, **facts: object) -> None:
        """Change *agent*, and put it on record: before that, if it then *widens* what may be done, and after it if not.

        Raises:
            AgentChangeError: it may not be.
            AgentInactiveError: likewise, because of its status.
            StoreError: it could not be stored.
            AuditError: it could not be put on record.
        """
        store, new = self.roster.store, not self.roster.store.path.exists()
        if widens:
            stored = store.read()
            transition(stored.agents.get(agent.id), stored)  # what is refused is not put on record as done
            self.record(what, agent.name, id=agent.id, **facts)
        store.change(agent.id, transition)
        if not widens:
            self.record(what, agent.name, id=agent.id, **facts)
        if new:
            self.say_new()

    def record(self, what: str, about: str, **facts: object) -> None:
        """Put a change on record. Raises AuditError or StoreError."""
        here = f"os:{login()}"
        said = {"login": here} if self.who != here else {}
        sink = SqliteAuditSink(self.roster.log)
        try:
            record = change_record(what, about, by=self.who, why=self.reason, time=system_clock(), **said, **facts)
            sink.append([record])
        finally:
            sink.close()

    def tell(self, text: str, **facts: object) -> None:
        """Say what was done, as a text or as the *facts*."""
        say_json(facts) if self.as_json else say(text)

    def say_new(self) -> None:
        """Say where the store is, which has just been made: guards may look elsewhere."""
        place = f"note: {self.roster.store.path} is new."
        text = f"{place} Guards look for it beside their policy file, or the log they were given."
        say(text, style="yellow", stderr=True)


def by_registrar(command: Callable[..., None]) -> Callable[..., None]:
    """Give *command* the options of all that change agents, in place of the Registrar that they make."""

    def called(
        *,
        by: ByOption = None,
        reason: ReasonOption = "",
        policy: PolicyOption = DEFAULT_POLICY,
        store: StoreOption = None,
        log: LogOption = None,
        as_json: JsonOption = False,
        **own: Any,
    ) -> None:
        command(Registrar(open_roster(policy, store, log), by, reason, as_json), **own)

    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    *shared, _ = inspect.signature(called, eval_str=True).parameters.values()
    functools.update_wrapper(called, command, updated=())
    called.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined] # typer reads it
    called.__annotations__ = {each.name: each.annotation for each in (*own, *shared)}
    return called


def moment(seconds: float) -> str:
    """Return *seconds* since the epoch as people read them: to the minute, UTC."""
    return f"{as_datetime(seconds):%Y-%m-%d %H:%M} UTC"
