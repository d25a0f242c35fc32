"""Who calls the issuer: an agent or a service that has proven it with a key of its own.

Rules:

1. An agent is known by its SPIFFE-format id, has to be active, and has keys in ``agents/NAME`` of the folder of keys. A
   service is known by its name, and has keys in ``services/NAME``: both a ring, or the file ``jwks.json`` where the
   private keys are on another machine. Keys that were changed, or taken away, are so for the next request. Keys that
   others than the issuer's own user could have exchanged, or read where they are private, are none from then on.
2. An assertion is admitted once, by all processes that serve this folder of keys together, and across restarts:
   which were is in the file ``admitted.db`` there.
3. Who calls too often is told to wait, by name; and who fails too often, by address and name together, so that nobody
   keeps another out by failing in their name.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from zt_agents._internal.clock import Clock
from zt_agents.console.rates import Rates, network
from zt_agents.credentials.key_sources import FileKeys
from zt_agents.errors import ConfigurationError, IdentityError, StoreError
from zt_agents.identity import Agent, AgentRegistry, KeyRing
from zt_agents.identity.signing.client_assertions import ClientKeys, client_named, verify_assertion
from zt_agents.identity.signing.key_folder import MANIFEST, client_folder
from zt_agents.stores.sqlite_replays import SqliteReplays

JWKS = "jwks.json"
ADMITTED = "admitted.db"
_FAILURES = 20
"""In a minute, of one name from one address."""


class Wait(NamedTuple):
    """Somebody is to wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls."""

    id: str
    agent: Agent | None
    """None for a service."""


class Clients:
    """Knows agents and services by their assertions. Safe to share between threads."""

    def __init__(
        self, registry: AgentRegistry, keys: Path, *, audiences: frozenset[str], clock: Clock, per_second: int = 1_000
    ) -> None:
        self._registry = registry
        self._folder = keys
        self._audiences = audiences
        self._clock = clock
        self._keys: dict[Path, tuple[tuple[int, ...], ClientKeys]] = {}
        """By the file that names them, and how that was when they were read."""
        self._lock = threading.Lock()
        # It does not wait for the disk: when power is back, an assertion of before has long been over.
        self._shown = SqliteReplays(keys / ADMITTED, durable=False)
        self._failures = Rates(burst=_FAILURES, period=60.0, clock=clock)
        self._uses = Rates(burst=per_second, period=1.0, clock=clock)

    def close(self) -> None:
        """Close the file of admitted assertions."""
        self._shown.close()

    def authenticated(self, assertion: str, address: str) -> Client | Wait:
        """Return whose *assertion* it is that came from *address*, or that they are to wait.

        Raises:
            IdentityError: nobody's who may call.
            StoreError: nobody can tell.
        """
        name = client_named(assertion)
        try:
            client = self._verified(assertion, name, self._clock())
        except IdentityError:
            if wait := self._failures.take(f"{network(address)} {name[:256]}"):
                return Wait(wait)
            raise
        wait = self._uses.take(name)
        return Wait(wait) if wait else client

    def _verified(self, assertion: str, name: str, now: float) -> Client:
        agent = self._registry.active(name) if name.startswith("spiffe://") else None
        keys = self._keys_of(agent.name if agent else name, service=agent is None)
        shown = verify_assertion(assertion, client=name, keys=keys, audiences=self._audiences, now=now)
        if not self._shown.admit(f"{name} {shown.id}", uses=1, until=shown.expires_at, now=now):
            raise IdentityError("The assertion was used before.")
        return Client(name, agent)

    def _keys_of(self, name: str, *, service: bool) -> ClientKeys:
        try:
            folder = client_folder(self._folder, name, service=service)
        except ValueError as error:
            raise IdentityError("Nobody is called that.") from error
        place, stamp = _named(folder)
        known = self._keys.get(place)
        if known is None or known[0] != stamp:
            with self._lock:
                known = self._keys[place] = stamp, _keys_in(place)
        return known[1]


def _named(folder: Path) -> tuple[Path, tuple[int, ...]]:
    """Return the file in *folder* that names keys, and by what it is seen that it was changed."""
    for place in (folder / JWKS, folder / MANIFEST):
        try:
            found = place.lstat()
            _refuse_others(folder.parent, folder.parent.lstat(), stat.S_ISDIR, 0o022)
            _refuse_others(folder, folder.lstat(), stat.S_ISDIR, 0o022 if place.name == JWKS else 0o077)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise StoreError(f"The keys in {folder} could not be looked at: {error.strerror}.") from error
        _refuse_others(place, found, stat.S_ISREG, 0o022 if place.name == JWKS else 0o077)
        return place, (found.st_ino, found.st_mtime_ns, found.st_size)
    raise IdentityError("They have no key here.", hint="Run: zt-agents keys new --agent NAME")


def _refuse_others(place: Path, found: os.stat_result, kind: Callable[[int], bool], forbidden: int) -> None:
    if not kind(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_mode & forbidden:
        raise StoreError(
            f"{place} is a link, another user's, or others can change or reach it: no client is known by it.",
            hint=f"See whose keys are there. Then run: chmod go-rwx {place}",
        )


def _keys_in(place: Path) -> ClientKeys:
    if place.name == JWKS:
        return FileKeys(place)
    try:
        return KeyRing.in_folder(place.parent)
    except ConfigurationError as error:
        raise IdentityError("Their keys here cannot be used.") from error
