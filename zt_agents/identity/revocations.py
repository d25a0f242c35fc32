"""What was taken back before it expired: an agent, a user, a session, a task, a token, an owner's agents, or all.

Whoever verifies a token asks, each time, whether anything that it says was revoked: a signature cannot be taken back.

Rules:

1. A revocation is in force until it is lifted, by its id; that lifts no other. No clock ends one.
2. Values are compared as they are, like everywhere else: another spelling is somebody else.
3. Whoever cannot tell whether something was revoked raises: the call is denied.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol


class Revoked(StrEnum):
    """What a revocation is about."""

    AGENT = "agent"
    """SPIFFE-format id; every agent in the chain of delegation counts."""
    USER = "user"
    SESSION = "session"
    """Every session in the chain of delegation counts."""
    TASK = "task"
    TOKEN = "token"  # noqa: S105 - a kind, not a secret
    OWNER = "owner"
    """Whoever is accountable for the acting agent."""
    ALL = "all"


class Bearing(NamedTuple):
    """What a token says, as far as it can be revoked. An empty text is not known, and matches nothing."""

    agents: tuple[str, ...]
    """SPIFFE-format ids, the acting agent first."""
    user: str
    sessions: tuple[str, ...]
    """Ids, the current one first."""
    task: str
    token: str
    """``jti``."""
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Revocation:
    """One thing taken back."""

    id: str
    kind: Revoked
    value: str
    """Empty for :attr:`Revoked.ALL`."""
    at: float
    """Seconds since the epoch."""
    by: str
    why: str = ""

    def __post_init__(self) -> None:
        if (self.kind is Revoked.ALL) != (self.value == ""):
            raise ValueError("what is revoked has a name, and all of it has none")


class Revocations(Protocol):
    """Says what was revoked. Cheap: it is asked on every call."""

    def find(self, bearing: Bearing, *, now: float) -> Revocation | None:
        """Return a revocation that *bearing* falls under, or None.

        Raises:
            StoreError: it cannot tell, and what it knew is older than it may be.
        """
        ...


class RevocationStore(Revocations, Protocol):
    """Keeps revocations. What a method has done survives a crash once it returns."""

    def revoke(self, kind: Revoked, value: str, *, by: str, why: str, now: float) -> Revocation:
        """Take something back, until :meth:`lift`.

        Args:
            kind: what is taken back.
            value: which; empty for :attr:`Revoked.ALL`, and for nothing else.
            by: who does it, as far as that is known.
            why: their words, or an empty text.
            now: seconds since the epoch.

        Raises:
            ValueError: *value* is empty, or is not.
            StoreError: it was not revoked.
        """
        ...

    def lift(self, revocation_id: str, *, now: float) -> Revocation | None:
        """End one revocation. Returns it, or None where none with this id is in force.

        Raises:
            StoreError: it is in force as before.
        """
        ...

    def list(self) -> Sequence[Revocation]:
        """Return what is in force, oldest first.

        Raises:
            StoreError: it cannot be read.
        """
        ...


def new_revocation(kind: Revoked, value: str, *, by: str, why: str, now: float) -> Revocation:
    """Return a revocation with a new id.

    Raises:
        ValueError: *value* is empty, or is not: all is all, and everything else has a name.
    """
    return Revocation(uuid.uuid4().hex, kind, value, now, by, why)


class RevocationIndex:
    """Revocations by what they are about: to find one takes as long among many as among few.

    One thread changes it at a time; any may look meanwhile.
    """

    def __init__(self) -> None:
        self._about: dict[tuple[Revoked, str], list[Revocation]] = {}
        self._by_id: dict[str, Revocation] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Revocation]:
        return iter(list(self._by_id.values()))

    def add(self, revocation: Revocation) -> None:
        """Take *revocation* in, once."""
        if revocation.id not in self._by_id:
            # In this order: whoever is interrupted, or forked, in between does it again, and has it in force.
            self._about.setdefault((revocation.kind, revocation.value), []).append(revocation)
            self._by_id[revocation.id] = revocation

    def remove(self, revocation_id: str) -> Revocation | None:
        """Leave one out, and return it."""
        gone = self._by_id.get(revocation_id)
        if gone is not None:
            about = (gone.kind, gone.value)
            left = [each for each in self._about.get(about, ()) if each.id != revocation_id]
            if left:
                self._about[about] = left
            else:
                self._about.pop(about, None)
            del self._by_id[revocation_id]
        return gone

    def find(self, bearing: Bearing) -> Revocation | None:
        """Return a revocation that *bearing* falls under, or None."""
        known = self._about
        if not known:
            return None
        for about in _about(bearing):
            for found in known.get(about, ())[:1]:  # a slice, since it may be emptied meanwhile
                return found
        return None


def _about(bearing: Bearing) -> Iterator[tuple[Revoked, str]]:
    yield Revoked.ALL, ""
    for agent in bearing.agents:
        yield Revoked.AGENT, agent
    yield Revoked.USER, bearing.user
    for session in bearing.sessions:
        yield Revoked.SESSION, session
    yield Revoked.TASK, bearing.task
    yield Revoked.TOKEN, bearing.token
    yield Revoked.OWNER, bearing.owner


class MemoryRevocations:
    """Implements :class:`RevocationStore` for one process, until it ends: for tests, and guards without files."""

    def __init__(self) -> None:
        self._index = RevocationIndex()
        self._lock = threading.Lock()

    def find(self, bearing: Bearing, *, now: float) -> Revocation | None:
        return self._index.find(bearing)

    def revoke(self, kind: Revoked, value: str, *, by: str, why: str, now: float) -> Revocation:
        made = new_revocation(kind, value, by=by, why=why, now=now)
        with self._lock:
            self._index.add(made)
        return made

    def lift(self, revocation_id: str, *, now: float) -> Revocation | None:
        with self._lock:
            return self._index.remove(revocation_id)

    def list(self) -> Sequence[Revocation]:
        return tuple(self._index)
