"""Remembers which tokens were admitted, so that each is admitted as often as it may be and no more.

A token is remembered until it has expired; nothing that is still good is ever forgotten to make room.
"""

from __future__ import annotations

import threading
from typing import Protocol

from zt_agents.errors import StoreError

CAPACITY = 100_000
"""Tokens that are remembered at once: 1,100 new ones a second, for a minute and a half each."""


class Replays(Protocol):
    """What was admitted before."""

    def admit(self, token: str, *, uses: int, until: float, now: float) -> bool:
        """Count one more use of *token* and return whether it is one of the first *uses*.

        Args:
            token: what it is known by.
            uses: how often it may be admitted.
            until: seconds since the epoch, from which on nobody will ask for it again.
            now: seconds since the epoch.

        Raises:
            StoreError: it cannot be remembered, so it must not be admitted.
        """
        ...


class MemoryReplays:
    """In this process: for a service that runs as one. Workers and replicas share a store instead."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        """Remember *capacity* tokens that are still good, at most."""
        self._capacity = capacity
        self._admitted: dict[str, tuple[float, int]] = {}
        """Until when, and how often so far."""
        self._purge_at = min(1_000, capacity)
        self._lock = threading.Lock()

    def admit(self, token: str, *, uses: int, until: float, now: float) -> bool:
        """Do what :meth:`Replays.admit` says.

        Raises:
            StoreError: more tokens are good at once than are remembered.
        """
        with self._lock:
            _, used = self._admitted.get(token, (until, 0))
            if used >= uses:
                return False
            if not used and len(self._admitted) >= self._purge_at:
                self._purge(now)
            self._admitted[token] = until, used + 1
            return True

    def _purge(self, now: float) -> None:
        self._admitted = {token: entry for token, entry in self._admitted.items() if entry[0] > now}
        held = len(self._admitted)
        if held >= self._capacity:
            raise StoreError(f"More than {self._capacity} tokens are good at once, and none may be forgotten.")
        self._purge_at = min(self._capacity, max(1_000, 2 * held))
