"""A ring of keys in a folder, which the processes of one user share::

    zt-agents-keys/           0700
        keys.json             0600: which key signs from when, and verifies until when
        KID.pem               0600: one per key that is in the manifest, unless it is in a PKCS#11 token
        root.pem              0600: does not rotate; what is signed for long is derived from it
        lock
        agents/NAME/          a ring for each agent, and so for services; no root

Rules:

1. The folder and its files belong to this user and to nobody else, and are no links; what is not so is refused.
2. The manifest names the keys. A file that it does not name is no key, and each file holds the key it is named after:
   a token's ``kid`` is looked up among the names, and never opened.
3. A rotation writes the key first and then, by one rename, the manifest: killed at any point, it has happened or not.
   A lock that the system takes back from the dead keeps two of them apart.
4. Whoever signs looks at the folder (two calls of ``lstat``), as does whoever verifies by a name that is not known, or
   has not looked for ten milliseconds: a rotation holds in every process at once, and a withdrawal that much later.
5. Where the folder can no longer be read, nothing is signed. What was known still verifies: nothing new can be signed,
   so that ends within the life of a token.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zt_agents._internal.key_files import read_own, replace_whole, require_own, write_once
from zt_agents.errors import ConfigurationError, StoreError
from zt_agents.identity.signing.key_ring import KeyRing
from zt_agents.identity.signing.key_schedule import KID, OVERLAP, KeyEntry, KeySchedule, KeyState, OnRotation, Rotation
from zt_agents.identity.signing.keys import SigningKey
from zt_agents.identity.signing.kind_ring import KindRing
from zt_agents.identity.signing.public_keys import ES256, VerificationKey

if TYPE_CHECKING:
    from zt_agents.identity.signing.pkcs11 import Pkcs11Token

MANIFEST = "keys.json"
ROOT = "root.pem"
IN_TOKENS = ("zt-call+jwt",)
"""Kinds for which a PKCS#11 token holds a key besides: there, none is derived."""
_LOCK = "lock"
_CLIENT = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_GLANCE = 0.01
"""Seconds for which a look at the folder holds."""
_AGAIN = 60.0
"""Seconds until a rotation that failed is tried again."""
_logger = logging.getLogger("zt_agents.identity")


@dataclass(frozen=True, slots=True)
class View:
    """What the folder held when it was last read."""

    stamp: tuple[int, ...]
    schedule: KeySchedule
    keys: Mapping[str, SigningKey]
    """By name."""
    entries: Mapping[str, KeyEntry]
    """By name."""


class FolderKeyRing(KeyRing):
    """The ring of one folder; made by :meth:`KeyRing.in_folder`."""

    def __init__(
        self,
        path: Path,
        *,
        algorithm: str = ES256,
        rotation: Rotation | None = None,
        on_rotation: OnRotation | None = None,
        token: Pkcs11Token | None = None,
    ) -> None:
        self.path = path.absolute()
        self.algorithm = algorithm
        self.rotation = rotation
        self._on_rotation = on_rotation
        self._token = token
        self._view: View | None = None
        self._reading = threading.Lock()
        self._look_at = 0.0
        """When the folder is looked at again, by the monotonic clock."""
        self._not_before = 0.0

    # -- what a ring is asked ---------------------------------------------------------------------------------------

    def current(self, now: float) -> SigningKey:
        view = self._rotated(self._fresh(), now)
        entry = view.schedule.current(now)
        if entry is None:
            raise StoreError(f"No key in {self.path} signs.", hint="Run: zt-agents keys rotate --now")
        return view.keys[entry.key.kid]

    def find(self, kid: str, now: float) -> VerificationKey | None:
        entry = self.known(kid).entries.get(kid)
        return entry.key if entry is not None and entry.verifies(now) else None

    def jwks(self, now: float) -> dict[str, Any]:
        view = self._rotated(self._fresh(), now)
        return {"keys": [entry.key.jwk for entry in view.schedule.entries if entry.verifies(now)]}

    def for_kind(self, kind: str) -> KeyRing:
        return KindRing(self, kind)

    # -- what is asked of a folder ----------------------------------------------------------------------------------

    @property
    def root(self) -> SigningKey:
        """The key that does not rotate: what approvers, factors and baggage are signed with is derived from it.

        Raises:
            ConfigurationError: it cannot be read, or others can read it.
        """
        try:
            return SigningKey.from_pem(read_own(self.path / ROOT))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"The key {self.path / ROOT} could not be read{_why(error)}.") from error

    def listed(self, now: float) -> list[tuple[KeyEntry, KeyState]]:
        """Return the keys, in the order in which they sign, and what each is for.

        Raises:
            StoreError: the keys cannot be read.
        """
        schedule = self._fresh().schedule
        return [(entry, schedule.state(entry, now)) for entry in schedule.entries]

    def due(self, now: float, plan: Rotation) -> bool:
        """Return whether *plan* says that it is time for another key.

        Raises:
            StoreError: the keys cannot be read.
        """
        return self._fresh().schedule.due(now, every=plan.every, overlap=plan.overlap)

    def create(self, now: float, *, root: bool) -> None:
        """Make the folder with its first key, unless there is one; with *root*, the key that does not rotate, too.

        Raises:
            ConfigurationError: it cannot be made, or others can read it.
        """
        try:
            for folder in (*reversed(self.path.parents), self.path):
                if not folder.exists():
                    folder.mkdir(mode=0o700, exist_ok=True)
            require_own(self.path.lstat(), stat.S_ISDIR)
            with self._locked():
                if not os.path.lexists(self.path / MANIFEST):
                    if root and not os.path.lexists(self.path / ROOT):
                        write_once(self.path / ROOT, SigningKey.generate().pem)
                    self._write(KeySchedule((self._new_key(now, signs_from=now),)))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"The keys in {self.path} could not be made or used{_why(error)}.") from error

    def rotate(
        self, now: float, *, overlap: float | None = None, at_once: bool = False, withdraw: bool = False
    ) -> KeyEntry:
        """Make another key and return it.

        Args:
            now: seconds since the epoch.
            overlap: seconds; the schedule's, or an hour, by default.
            at_once: it signs from now on, rather than after the overlap.
            withdraw: every other key verifies no longer: for one that somebody else may have.

        Raises:
            StoreError: the keys cannot be read or written.
        """
        with self._failing_closed(), self._locked():
            entry = self._follow(self._read(), now, overlap, at_once=at_once or withdraw, withdraw=withdraw)
        self._told(entry, now)
        return entry

    def known(self, kid: str = "") -> View:
        """Return what is in the folder; where it can no longer be read, what was in it.

        One look is enough for all that is asked about the key *kid* within ten milliseconds, if it was there.

        Raises:
            StoreError: it was never read.
        """
        view = self._view
        if view is not None and kid in view.entries and time.monotonic() < self._look_at:
            return view
        try:
            return self._fresh()
        except StoreError:
            if self._view is None:
                raise
            return self._view

    # -- reading ----------------------------------------------------------------------------------------------------

    def _fresh(self) -> View:
        view = self._view
        with self._failing_closed():
            if view is None or self._stamp() != view.stamp:
                with self._reading:
                    view = self._view
                    if view is None or self._stamp() != view.stamp:
                        view = self._view = self._read()
        self._look_at = time.monotonic() + _GLANCE
        return view

    def _stamp(self) -> tuple[int, ...]:
        folder, manifest = self.path.lstat(), (self.path / MANIFEST).lstat()
        require_own(folder, stat.S_ISDIR)
        require_own(manifest, stat.S_ISREG)
        return folder.st_ino, manifest.st_ino, manifest.st_mtime_ns, manifest.st_size

    def _read(self) -> View:
        for _ in range(100):  # a manifest that was replaced while its keys were read is read again
            stamp = self._stamp()
            schedule = KeySchedule.parse(read_own(self.path / MANIFEST))
            known = self._view.keys if self._view else {}
            try:
                keys = {entry.key.kid: known.get(entry.key.kid) or self._load(entry) for entry in schedule.entries}
            except FileNotFoundError:
                if stamp == self._stamp():
                    raise
                continue
            if stamp == self._stamp():
                return View(stamp, schedule, keys, {entry.key.kid: entry for entry in schedule.entries})
        raise OSError("it never stays the same")

    def _load(self, entry: KeyEntry) -> SigningKey:
        if not entry.place:
            key = SigningKey.from_pem(read_own(self.path / f"{entry.key.kid}.pem"))
        elif self._token is not None:
            key = self._token.key(entry.place)
        else:
            raise ValueError("a key is in a PKCS#11 token, and none is given")
        if key.thumbprint != entry.key.kid:
            raise ValueError("a file holds another key than the one it is named after")
        return key

    # -- writing ----------------------------------------------------------------------------------------------------

    def _rotated(self, view: View, now: float) -> View:
        """Make another key if it is time, unless another process is about it, and return what there is then."""
        plan = self.rotation
        if plan is None or now < self._not_before or not view.schedule.due(now, every=plan.every, overlap=plan.overlap):
            return view
        entry = None
        try:
            with self._locked(wait=False) as held:
                if held:
                    view = self._read()
                    if view.schedule.due(now, every=plan.every, overlap=plan.overlap):
                        entry = self._follow(view, now, plan.overlap, at_once=False, withdraw=False)
        except (OSError, ValueError, ConfigurationError, StoreError) as error:
            self._not_before = now + _AGAIN
            _logger.warning("The keys in %s could not be rotated%s; the present one goes on.", self.path, _why(error))
            return view
        if entry is None:
            return view
        self._told(entry, now)
        return self._fresh()

    def _follow(self, view: View, now: float, overlap: float | None, *, at_once: bool, withdraw: bool) -> KeyEntry:
        if overlap is None:
            overlap = self.rotation.overlap if self.rotation else OVERLAP
        entry = self._new_key(now, signs_from=now if at_once else now + overlap)
        schedule = view.schedule.followed_by(entry, now=now, overlap=overlap, withdraw=withdraw)
        self._write(schedule)
        kept = {each.place for each in schedule.entries}
        for place in {each.place for each in view.schedule.entries} - kept - {""}:
            if self._token is not None:
                try:
                    self._token.remove(place, IN_TOKENS)
                except StoreError as error:  # the ring has another key by now, and that is to be told
                    _logger.warning("The key %s is in no ring any more, and still in its token: %s", place, error)
        return entry

    def _new_key(self, now: float, *, signs_from: float) -> KeyEntry:
        if self._token is not None:
            place, key = self._token.generate(self.algorithm, IN_TOKENS)
        else:
            place, key = "", SigningKey.generate(self.algorithm)
            write_once(self.path / f"{key.thumbprint}.pem", key.pem)
        return KeyEntry(key.verification, now, signs_from, None, place)

    def _write(self, schedule: KeySchedule) -> None:
        """Replace the manifest, and then remove the keys that are not in it, and what somebody who died has left."""
        self._sync()  # the key has its name before the manifest names it
        replace_whole(self.path / MANIFEST, schedule.to_bytes())
        self._sync()
        kept = {entry.key.kid for entry in schedule.entries}
        for place in self.path.iterdir():
            stale = place.suffix == ".pem" and KID.fullmatch(place.stem) and place.stem not in kept
            if stale or place.name.startswith("."):
                with suppress(OSError):  # what the manifest does not name is no key; the next rotation tries again
                    place.unlink()

    def _sync(self) -> None:
        opened = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)

    def _told(self, entry: KeyEntry, now: float) -> None:
        if self._on_rotation is not None:
            self._on_rotation(entry, now)

    @contextmanager
    def _locked(self, *, wait: bool = True) -> Iterator[bool]:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        opened = os.open(self.path / _LOCK, flags, 0o600)
        try:
            held = False
            with suppress(BlockingIOError):
                fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                held = True
            yield held
        finally:
            os.close(opened)

    @contextmanager
    def _failing_closed(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, ConfigurationError) as error:
            raise StoreError(f"The keys in {self.path} could not be used{_why(error)}.") from error


def client_folder(keys: Path, name: str, *, service: bool = False) -> Path:
    """Return where, in the folder *keys*, the ring of the agent, or the service, *name* is.

    Raises:
        ValueError: *name* is not one that a folder can have.
    """
    if _CLIENT.fullmatch(name) is None or not name.strip("."):
        raise ValueError("a client's name is 1 to 128 of A-Z, a-z, 0-9, '_', '.' and '-', and no dots alone")
    return keys / ("services" if service else "agents") / name


def _why(error: Exception) -> str:
    """Return what went wrong, without what a file holds."""
    if isinstance(error, OSError):
        return f": {error.strerror or 'it could not be read'}"
    if isinstance(error, StoreError):
        return f": {error.message.rstrip('.')}"
    return f": {error}" if type(error) is ValueError else ""
