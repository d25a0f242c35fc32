"""Who is signed in, as the console remembers it; a browser holds nothing but a random number.

Rules:

1. A session ends after 8 hours, after 30 minutes in which its person did nothing, when its person signs out, and when
   their credential ends or is removed. What a page asks for by itself is not something its person did.
2. The number is 256 random bits and new with every login. The console keeps its hash.
3. Sessions live in memory: a console that is started again knows nobody.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from dataclasses import dataclass, field

from zt_agents._internal.clock import Clock
from zt_agents._internal.hidden import Hidden

ABSOLUTE, IDLE = 8 * 3600.0, 1800.0
"""Seconds."""
_MOST, _MOST_EACH = 10_000, 20
"""Sessions in all, and of one approver."""


@dataclass(frozen=True, slots=True)
class Person:
    """An approver whose credential was verified."""

    id: str
    groups: tuple[str, ...]
    credential: str
    """The credential's own id."""
    expires_at: float
    """When the credential ends, seconds since the epoch."""
    factor: str = ""
    """The passkey that they signed in with."""


@dataclass(slots=True)
class Session:
    """One person in one browser."""

    person: Person
    started: float
    seen: float
    """When its person last did something."""
    way: str
    """How they signed in, in words."""
    csrf: Hidden[str] = field(default_factory=lambda: Hidden(secrets.token_urlsafe(32)))
    """Stands in every form of this session."""

    def vouches(self, token: str) -> bool:
        """Return whether *token* came from a form of this session."""
        return hmac.compare_digest(token.encode(), self.csrf.reveal().encode())


class Sessions:
    """All sessions of one console. Safe to share between threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}
        self._lock = threading.Lock()

    def open(self, person: Person, way: str, *, instead_of: str = "") -> str:
        """Return the number of a new session; the one named by *instead_of* ends."""
        number, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._sessions.pop(_hashed(instead_of), None)
            self._drop_ended(now)
            own = [key for key, each in self._sessions.items() if each.person.id == person.id]
            for key in own[: len(own) + 1 - _MOST_EACH] if len(own) >= _MOST_EACH else ():
                del self._sessions[key]
            while len(self._sessions) >= _MOST:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[_hashed(number)] = Session(person, now, now, way)
        return number

    def find(self, number: str, *, acted: bool = True) -> Session | None:
        """Return the session of *number*, if it has not ended; *acted* says that its person did something."""
        with self._lock:
            session, now = self._sessions.get(_hashed(number)), self._clock()
            if session is None or _ended(session, now):
                self._sessions.pop(_hashed(number), None)
                return None
            if acted:
                session.seen = now
            return session

    def count(self, person_id: str) -> int:
        """Return in how many browsers a person is signed in."""
        with self._lock:
            self._drop_ended(self._clock())
            return sum(each.person.id == person_id for each in self._sessions.values())

    def close(self, number: str) -> None:
        """End one session."""
        with self._lock:
            self._sessions.pop(_hashed(number), None)

    def close_all(self, person_id: str) -> None:
        """End every session of a person."""
        with self._lock:
            for key in [key for key, each in self._sessions.items() if each.person.id == person_id]:
                del self._sessions[key]

    def _drop_ended(self, now: float) -> None:
        for key in [key for key, each in self._sessions.items() if _ended(each, now)]:
            del self._sessions[key]


def _ended(session: Session, now: float) -> bool:
    return (
        now >= min(session.started + ABSOLUTE, session.seen + IDLE, session.person.expires_at) or now < session.started
    )


def _hashed(number: str) -> bytes:
    return hashlib.sha256(number.encode("utf-8", "surrogateescape")).digest()
