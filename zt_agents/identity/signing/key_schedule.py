"""Which key of a ring signs when: the manifest that lies beside the keys, and what a rotation makes of it.

Rules:

1. The key that signs is the one whose time began last. Where no key's time has begun, since a clock was set back, the
   first one signs: what it signs is older, and no better for it.
2. A key that stopped signing verifies for the *overlap*, which is no shorter than the longest life of a token. A key
   that was withdrawn verifies nothing, at once.
3. A rotation is due when no key's time begins between one period ago and the overlap from now. So a key is published
   for the overlap before it signs, and a clock that was once far in the future has neither put the next rotation off
   nor the end of a key.
4. A manifest names each key by its RFC 7638 thumbprint and shows its public half; what contradicts itself is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from typing import Any

import orjson

from zt_agents.errors import TokenInvalidError
from zt_agents.identity.signing.public_keys import VerificationKey

KID = re.compile(r"[A-Za-z0-9_-]{43}")
"""An RFC 7638 thumbprint, which is all that a key is ever called: never a path."""
OVERLAP = 3600.0
"""Seconds; the longest life of a token."""
_VERSION = 1
_FOREVER = 253_402_300_800.0
"""The year 10000."""
_MOST = 90
"""Keys in a ring: as JWK Sets, for two kinds of token, they are not larger than verifiers read."""


class KeyState(StrEnum):
    """What a key is for at a moment."""

    NEXT = "next"
    CURRENT = "current"
    PREVIOUS = "previous"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One key of a ring."""

    key: VerificationKey
    published_at: float
    signs_from: float
    verifies_until: float | None
    """Seconds since the epoch, like those above; None while nothing has followed it."""
    place: str = ""
    """Label of the key in a PKCS#11 token; an empty text is the file beside the manifest that has the key's name."""

    def verifies(self, now: float) -> bool:
        return self.verifies_until is None or now < self.verifies_until

    def to_json(self) -> dict[str, Any]:
        return {
            "kid": self.key.kid,
            "algorithm": self.key.algorithm,
            "published_at": self.published_at,
            "signs_from": self.signs_from,
            "verifies_until": self.verifies_until,
            "jwk": dict(self.key.members),
            "place": self.place,
        }


@dataclass(frozen=True, slots=True)
class KeySchedule:
    """The keys of a ring, in the order in which they sign."""

    entries: tuple[KeyEntry, ...]

    @classmethod
    def parse(cls, text: bytes) -> KeySchedule:
        """Return what the manifest *text* says, or raise :class:`ValueError`."""
        match orjson.loads(text):
            case {"version": version, "keys": [_, *_] as keys, **more} if version == _VERSION and not more:
                entries = tuple(_entry(key) for key in keys)
                if len({entry.key.kid for entry in entries}) == len(entries) <= _MOST:
                    return cls(tuple(sorted(entries, key=lambda entry: entry.signs_from)))
        raise ValueError("it is not the manifest of a ring of keys")

    def to_bytes(self) -> bytes:
        keys = [entry.to_json() for entry in self.entries]
        return orjson.dumps({"version": _VERSION, "keys": keys}, option=orjson.OPT_INDENT_2)

    def current(self, now: float) -> KeyEntry | None:
        """Return the key that signs; None if every one was withdrawn."""
        good = [entry for entry in self.entries if entry.verifies(now)]
        begun = [entry for entry in good if entry.signs_from <= now]
        return next(iter(begun[-1:] or good[:1]), None)

    def state(self, entry: KeyEntry, now: float) -> KeyState:
        if not entry.verifies(now):
            return KeyState.GONE
        current = self.current(now)
        if current is None or entry is current:
            return KeyState.CURRENT
        return KeyState.PREVIOUS if self.entries.index(entry) < self.entries.index(current) else KeyState.NEXT

    def due(self, now: float, *, every: float, overlap: float) -> bool:
        """Return whether it is time for another key; see rule 3."""
        return not any(now + overlap - every < entry.signs_from <= now + overlap for entry in self.entries)

    def followed_by(self, new: KeyEntry, *, now: float, overlap: float, withdraw: bool = False) -> KeySchedule:
        """Return the schedule with *new* in it, and without the keys that are gone.

        Args:
            new: the key, with the time from which it signs.
            now: seconds since the epoch.
            overlap: for how many seconds a key still verifies when it no longer signs.
            withdraw: every other key stops verifying now.

        Raises:
            ValueError: more keys would verify than a ring has room for.
        """
        kept = [entry for entry in self.entries if entry.verifies(now)] if not withdraw else []
        if len(kept) >= _MOST:
            raise ValueError("too many keys still verify: wait, or withdraw them")
        ordered = sorted([*kept, new], key=lambda entry: entry.signs_from)
        # A key may be followed sooner than it was to be: by one that begins before the next, if a clock was ahead once.
        followed = [
            replace(entry, verifies_until=min(entry.verifies_until or _FOREVER, max(after.signs_from, now) + overlap))
            for entry, after in pairwise(ordered)
        ]
        return KeySchedule((*followed, ordered[-1]))


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a ring gets another key by itself."""

    every: float
    """Seconds for which a key signs."""
    overlap: float = OVERLAP
    """Seconds for which a key is published before it signs, and verifies when it no longer does."""

    def __post_init__(self) -> None:
        if not 0 < self.overlap < self.every:
            raise ValueError("a key signs for longer than it overlaps with the next one")


OnRotation = Callable[[KeyEntry, float], None]
"""Is told of a new key and the time, by the process that made it."""


def _entry(said: object) -> KeyEntry:
    match said:
        case {
            "kid": str(kid),
            "algorithm": str(algorithm),
            "published_at": published_at,
            "signs_from": signs_from,
            "verifies_until": verifies_until,
            "jwk": dict(jwk),
            "place": str(place),
            **more,
        } if not more:
            key = _key(jwk)
            if kid != key.kid or algorithm != key.algorithm or KID.fullmatch(kid) is None:
                raise ValueError("a key is called by the name of another")
            until = None if verifies_until is None else _time(verifies_until)
            return KeyEntry(key, _time(published_at), _time(signs_from), until, place)
    raise ValueError("it is not the manifest of a ring of keys")


def _key(jwk: Mapping[str, object]) -> VerificationKey:
    try:
        return VerificationKey.from_jwk(jwk)
    except TokenInvalidError as error:
        raise ValueError("a key is none") from error


def _time(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= value < _FOREVER:  # type: ignore[operator]
        raise ValueError("a time is none")
    return float(value)  # type: ignore[arg-type]
