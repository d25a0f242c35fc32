"""The states of agents in a SQLite file, beside the policy: written by administrators, and by guards that see a change.

A file that somebody put back to an earlier state would have forgotten who was suspended: a process that has read a
later one refuses it. One that is gone, or is another, is refused after a restart too: ``<store>.id`` beside it names
the file that was made. Each row says with which write it came: who has read before reads what came since.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from zt_agents._internal.folding import fold
from zt_agents.errors import StoreError
from zt_agents.identity.lifecycle import Absence, AgentState, Stored, Transition
from zt_agents.identity.manifests import Manifest
from zt_agents.identity.principals import Agent, AgentStatus
from zt_agents.stores.shared_file import SharedFile
from zt_agents.stores.store_mark import StoreMark

NAME = "zt-agents-agents.db"
_HINT = "Calls are denied until it can be."
_APPLICATION_ID = 0x7A744147  # "ztAG"
_SCHEMA = (
    "CREATE TABLE agent (id TEXT PRIMARY KEY, name TEXT NOT NULL, status TEXT NOT NULL, declared TEXT, accepted TEXT, "
    "accepted_by TEXT NOT NULL, accepted_at REAL NOT NULL, observed TEXT, observed_at REAL NOT NULL, "
    "written INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX agent_written ON agent (written)",
    "CREATE TABLE absence (folded TEXT PRIMARY KEY, owner TEXT NOT NULL, left_at REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE writes (file TEXT NOT NULL, count INTEGER NOT NULL)",
)


class _Known(NamedTuple):
    """What was read last."""

    file: str
    """Which file: random, drawn with its first write."""
    writes: int
    """How often it had been written."""
    agents: Mapping[str, AgentState]


class SqliteAgentStore:
    """Implements :class:`zt_agents.identity.lifecycle.AgentStore`."""

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = 10.0) -> None:
        """Name the store; a new file is created when something is first written. Until then nothing is stored.

        Args:
            path: the file; its folder must exist.
            busy_timeout: seconds to wait for other processes.
        """
        self._file = SharedFile(
            path,
            name="store of agents",
            application_id=_APPLICATION_ID,
            schema=_SCHEMA,
            create=True,
            busy_timeout=busy_timeout,
            hint=_HINT,
        )
        self._there = False
        self._mark = StoreMark(self.path, name="store of agents", anew="nobody suspended or retired", hint=_HINT)
        self._id = ""
        """Which file this is, once it is known to be the one that was made here."""
        self._known = _Known("", 0, {})

    @classmethod
    def beside(cls, other: Path) -> SqliteAgentStore:
        """Return the store in the folder of *other*: the policy file, or the audit log where that was moved."""
        return cls(other.with_name(NAME))

    @property
    def path(self) -> Path:
        return self._file.path

    def version(self) -> Hashable:
        return self._file.glance()

    def read(self) -> Stored:
        self._there = self._there or self.path.exists()
        if not self._there:
            if self._mark.exists():
                raise self._mark.gone()
            return Stored()
        known = self._known  # before what is compared with it: another thread may read on meanwhile
        with self._file.reading() as connection:
            return self._all(connection, known)

    def registered(self) -> list[Agent]:
        """Return the agents that were registered here, rather than declared in a policy file. Raises StoreError."""
        return [state.declared for state in self.read().agents.values() if state.declared is not None]

    def change(self, agent_id: str, transition: Transition) -> AgentState:
        with self._writing() as (connection, stored):
            before = stored.agents.get(agent_id)
            state = transition(before, stored)
            if state != before:
                count = self._count(connection)
                row = (*_row(state), count)
                connection.execute("INSERT OR REPLACE INTO agent VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            return state

    def leave(self, absence: Absence) -> None:
        with self._writing() as (connection, _):
            row = (fold(absence.owner), absence.owner, absence.left_at)
            connection.execute("INSERT OR REPLACE INTO absence VALUES (?, ?, ?)", row)
            self._count(connection)

    def come_back(self, owner: str) -> bool:
        with self._writing() as (connection, _):
            gone = connection.execute("DELETE FROM absence WHERE folded = ?", (fold(owner),)).rowcount
            self._count(connection)
            return gone == 1

    @contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, Stored]]:
        self.read()  # a file that is gone, or was put back, is not to be written
        known = self._known
        with self._file.writing() as connection:
            yield connection, self._all(connection, known)
        if not self._id:
            self.read()

    @staticmethod
    def _count(connection: sqlite3.Connection) -> int:
        """Count a write, so that an earlier state of the file can be told from a later one."""
        if not connection.execute("UPDATE writes SET count = count + 1").rowcount:
            connection.execute("INSERT INTO writes VALUES (?, 1)", (secrets.token_hex(16),))
        (count,) = connection.execute("SELECT count FROM writes").fetchone()
        return int(count)

    def _all(self, connection: sqlite3.Connection, known: _Known) -> Stored:
        """Return all that is stored: what is *known*, and what was written since."""
        file, count = connection.execute("SELECT file, count FROM writes").fetchone() or ("", 0)
        if known.file and (file != known.file or count < known.writes):
            text = f"The store of agents {self.path} was put back to an earlier state, or replaced."
            raise StoreError(text, hint="If that is meant, restart every process that uses it.")
        if file and not self._id:
            self._mark.check(file)
            self._id = file
        rows = connection.execute("SELECT * FROM agent WHERE written > ?", (known.writes,))
        agents = {**known.agents, **{row[0]: _state(row[:-1]) for row in rows}}
        absences = {
            folded: Absence(owner, left_at)
            for folded, owner, left_at in connection.execute("SELECT folded, owner, left_at FROM absence")
        }
        self._known = _Known(file, count, agents)
        return Stored(agents, absences)


def _row(state: AgentState) -> tuple[Any, ...]:
    declared = None
    if state.declared is not None:
        agent = asdict(state.declared)
        named = {key: agent[key] for key in ("version", "owner", "purpose")}
        declared = json.dumps({**named, "tools": sorted(agent["tools"]) if agent["tools"] is not None else None})
    return (
        state.id,
        state.name,
        state.status.value,
        declared,
        _text(state.accepted),
        state.accepted_by,
        state.accepted_at,
        _text(state.observed),
        state.observed_at,
    )


def _state(row: tuple[Any, ...]) -> AgentState:
    agent_id, name, status, declared, accepted, accepted_by, accepted_at, observed, observed_at = row
    return AgentState(
        id=agent_id,
        name=name,
        status=AgentStatus(status),
        declared=_declared(name, agent_id, json.loads(declared)) if declared is not None else None,
        accepted=_manifest(accepted),
        accepted_by=accepted_by,
        accepted_at=accepted_at,
        observed=_manifest(observed),
        observed_at=observed_at,
    )


def _declared(name: str, agent_id: str, kept: dict[str, Any]) -> Agent:
    tools = kept["tools"]
    return Agent(
        name,
        agent_id,
        kept["version"],
        kept["owner"],
        kept["purpose"],
        tools=frozenset(tools) if tools is not None else None,
    )


def _text(manifest: Manifest | None) -> str | None:
    return json.dumps(manifest.to_dict(), sort_keys=True) if manifest is not None else None


def _manifest(text: str | None) -> Manifest | None:
    return Manifest.from_dict(json.loads(text)) if text is not None else None
