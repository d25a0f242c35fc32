"""What was taken back before it expired: an agent, a user, a session, a task, a token, an owner's agents, or all.

Whoever verifies a token asks, each time, whether anything that it says was revoked: a signature cannot be taken back.
"""

from __future__ import annotations

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


class Revocations(Protocol):
    """Says what was revoked. Cheap: it is asked on every call."""

    def find(self, bearing: Bearing, *, now: float) -> Revocation | None:
        """Return a revocation that *bearing* falls under, or None.

        Raises:
            StoreError: it cannot tell, and what it knew is older than it may be.
        """
        ...
