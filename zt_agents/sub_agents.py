"""The sessions of sub-agents that a framework runs within one session: opened on first use, one for each run.

Rules:

1. A run has a session of its own: neither its siblings nor who started it get hold of it.
2. It ends with the call in which it runs, or with the session that it comes from. A call that is suspended is made
   again, and its sub-agents go on in the sessions that they had: what was approved was approved for these.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zt_agents.session import Session


class SubAgents:
    """The sessions of sub-agents within one session."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[str, str, str], Session] = {}
        """By call, run and agent."""
        self._lock = threading.Lock()

    def session(self, outer: Session, *, agent: str, call: str, run: str) -> Session:
        """Return the session of *agent* in one *run* of those within one *call* of *outer*.

        Raises:
            IdentityError: *outer* cannot be handed on to it.
            AuditError: that could not be recorded.
            StoreError: nobody can tell.
        """
        key = (call, run, agent)
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                session = outer.delegate(agent=agent)
                session.begin()
                self._sessions[key] = session
            return session

    def end(self, call: str | None = None, run: str | None = None) -> None:
        """End what runs within one *call*, or one *run*; or everything."""
        with self._lock:
            ended = [key for key in self._sessions if call in {None, key[0]} and run in {None, key[1]}]
            sessions = [self._sessions.pop(key) for key in ended]
        for session in sessions:
            session.end()
