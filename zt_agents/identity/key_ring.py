"""Key rings: the key that signs now, and those that still verify or will sign next.

A key goes through four states: *next* (published, so that whoever verifies knows it before it signs), *current* (it
signs), *previous* (it verifies until the last token that it signed has expired), gone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from zt_agents.identity.keys import SigningKey
from zt_agents.identity.public_keys import VerificationKey


class KeyRing(ABC):
    """The keys of one kind of token. Every question is asked for a moment: seconds since the epoch."""

    @staticmethod
    def of(keys: KeyRing | SigningKey) -> KeyRing:
        """Return the ring that holds one key and never changes; a ring is returned as it is."""
        return keys if isinstance(keys, KeyRing) else _SingleKey(keys)

    @abstractmethod
    def current(self, now: float) -> SigningKey:
        """Return the key that signs.

        Raises:
            StoreError: the keys cannot be read.
        """

    @abstractmethod
    def find(self, kid: str, now: float) -> VerificationKey | None:
        """Return the key called *kid* if tokens that it signed are good at *now*. Cheap: asked for every call."""

    @abstractmethod
    def jwks(self, now: float) -> dict[str, Any]:
        """Return the public keys that verify now or will, as a JWK Set (RFC 7517, section 5)."""

    @abstractmethod
    def for_kind(self, kind: str) -> KeyRing:
        """Return the ring whose keys are for tokens of *kind* (``typ``): as many keys, and each another."""


class _SingleKey(KeyRing):
    def __init__(self, key: SigningKey) -> None:
        self._key = key

    def current(self, now: float) -> SigningKey:
        return self._key

    def find(self, kid: str, now: float) -> VerificationKey | None:
        return self._key.verification if kid == self._key.thumbprint else None

    def jwks(self, now: float) -> dict[str, Any]:
        return {"keys": [self._key.jwk]}

    def for_kind(self, kind: str) -> KeyRing:
        return _SingleKey(self._key.derived(kind))
