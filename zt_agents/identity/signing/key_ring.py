"""Key rings: the key that signs now, and those that still verify or will sign next.

A key goes through four states: *next* (published, so that whoever verifies knows it before it signs), *current* (it
signs), *previous* (it verifies until the last token that it signed has expired), gone.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zt_agents._internal.clock import Clock, system_clock
from zt_agents.errors import ConfigurationError, StoreError
from zt_agents.identity.signing.key_schedule import OnRotation, Rotation
from zt_agents.identity.signing.keys import SigningKey
from zt_agents.identity.signing.public_keys import ES256, VerificationKey

if TYPE_CHECKING:
    from zt_agents.identity.signing.key_folder import FolderKeyRing


class KeyRing(ABC):
    """The keys of one kind of token. Every question is asked for a moment: seconds since the epoch."""

    @staticmethod
    def of(keys: KeyRing | SigningKey) -> KeyRing:
        """Return the ring that holds one key and never changes; a ring is returned as it is."""
        return keys if isinstance(keys, KeyRing) else _SingleKey(keys)

    @staticmethod
    def in_folder(
        path: str | os.PathLike[str],
        *,
        algorithm: str = ES256,
        rotation: Rotation | None = None,
        on_rotation: OnRotation | None = None,
        token: str = "",
        create: bool = False,
        clock: Clock = system_clock,
    ) -> FolderKeyRing:
        """Return the ring of the keys in the folder *path*, which processes of one user share.

        Args:
            path: the folder, 0700.
            algorithm: of keys that are made: ``ES256`` or ``EdDSA``.
            rotation: when the ring gets another key by itself; never, if left out.
            on_rotation: is told of each new key.
            token: URI of a PKCS#11 token (extra ``pkcs11``) in which keys are made, and stay; see
                :mod:`zt_agents.identity.signing.pkcs11`. The key that does not rotate is a file in any case.
            create: make the folder with a first key, and with one that does not rotate, where there is none.
            clock: seconds since the epoch.

        Raises:
            ConfigurationError: the folder can be neither read nor made, or others can read it.
        """
        if os.name != "posix":
            raise ConfigurationError("Keys in a folder need a system that knows whose a file is: Linux or macOS.")
        from zt_agents.identity.signing.key_folder import MANIFEST, FolderKeyRing

        held = None
        if token:
            from zt_agents.identity.signing.pkcs11 import open_token

            held = open_token(token)
        ring = FolderKeyRing(
            Path(path), algorithm=algorithm, rotation=rotation, on_rotation=on_rotation, token=held
        )
        if create:
            ring.create(clock(), root=True)
        try:
            ring.known()
        except StoreError as error:
            missing = not os.path.lexists(ring.path / MANIFEST)  # another ring is no way out for one that is damaged
            hint = "Run: zt-agents keys new --ring FOLDER" if missing else None
            raise ConfigurationError(error.message, hint=hint) from error
        return ring

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
