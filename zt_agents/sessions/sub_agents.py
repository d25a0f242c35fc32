"""The sessions of sub-agents that a framework runs within one session: opened on first use, one for each run.

Rules:

1. A run has a session of its own: neither its siblings nor who started it get hold of it.
2. It ends with the run, with the call in which it runs, or with the session that it comes from. A call that is
   suspended is made again, and its sub-agents go on in the sessions that they had, in another process too: what a human
   approved was approved for these.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Hashable
from typing import TYPE_CHECKING, NamedTuple

from zt_agents._internal.canonical import encode

if TYPE_CHECKING:
    from zt_agents.sessions.session import Session


class Run(NamedTuple):
    """One run of a sub-agent, within the session of whoever started it."""

    agent: str
    """Name of the sub-agent."""
    call: str
    """The call in whose body it runs, as :attr:`Permit.name` has it, or an empty text."""
    place: str
    """Where it runs, as its framework names places; the same when it is resumed."""
    identity: Hashable = None
    """What tells it from others in the same place, where a framework cannot resume it."""


class SubAgents:
    """The sessions of sub-agents within one session."""

    def __init__(self) -> None:
        self._sessions: dict[Run, Session] = {}
        self._ended: Counter[Run] = Counter()
        self._lock = threading.Lock()

    def session(self, outer: Session, run: Run) -> Session:
        """Return the session of *run*, which was started in *outer*.

        Raises:
            IdentityError: *outer* cannot be handed on to the agent.
            AuditError: that could not be recorded.
            StoreError: nobody can tell.
        """
        from zt_agents.sessions.delegation import delegate  # which is about sessions, and so comes after them

        with self._lock:
            session = self._sessions.get(run)
            if session is None:
                session = delegate(outer, agent=run.agent, session_id=self._name(outer, run))
                session.begin()
                self._sessions[run] = session
            return session

    def _name(self, outer: Session, run: Run) -> str:
        """Return the id that the session of *run* has in every process; an empty text is for a new one."""
        if run.identity is not None:
            return ""
        return hashlib.sha256(encode([outer.id, *run[:3], self._ended[run]])).hexdigest()[:32]

    def end(self, run: Run) -> None:
        """End the session of *run*, if it has one."""
        self._end([run])

    def end_all(self, call: str | None = None) -> None:
        """End the sessions of all runs, or of those in the body of one *call*."""
        self._end([run for run in list(self._sessions) if call is None or run.call == call])

    @property
    def working(self) -> bool:
        """Whether there are any."""
        return bool(self._sessions)

    def _end(self, runs: list[Run]) -> None:
        with self._lock:
            ended = [run for run in runs if run in self._sessions]
            sessions = [self._sessions.pop(run) for run in ended]
            self._ended.update(run for run in ended if run.identity is None)
        for session in sessions:
            session.end()
