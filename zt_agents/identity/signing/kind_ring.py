"""The keys of a folder, each derived for one kind of token: what signs sessions signs no calls.

A key of a kind lives exactly as long as the one that it is derived from (:mod:`zt_agents.identity.signing.key_folder`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zt_agents.identity.signing.key_ring import KeyRing
from zt_agents.identity.signing.keys import SigningKey
from zt_agents.identity.signing.public_keys import VerificationKey

if TYPE_CHECKING:
    from zt_agents.identity.signing.key_folder import FolderKeyRing, View


class KindRing(KeyRing):
    """The keys of a folder, each derived for one kind of token."""

    def __init__(self, ring: FolderKeyRing, kind: str) -> None:
        self._ring = ring
        self._kind = kind
        self._view: View | None = None
        self._keys: Mapping[str, SigningKey] = {}
        """By the name of the key that each is derived from."""
        self._origins: Mapping[str, str] = {}
        """Name of the key that each is derived from, by its own."""

    def current(self, now: float) -> SigningKey:
        origin = self._ring.current(now)
        return self._keys.get(origin.thumbprint) or origin.derived(self._kind)

    def find(self, kid: str, now: float) -> VerificationKey | None:
        keys, origins = self._known(self._origins.get(kid, ""))
        origin = origins.get(kid)
        good = origin is not None and self._ring.find(origin, now) is not None
        return keys[origin].verification if origin is not None and good else None

    def jwks(self, now: float) -> dict[str, Any]:
        names = [key["kid"] for key in self._ring.jwks(now)["keys"]]
        keys, _ = self._known()
        return {"keys": [keys[name].jwk for name in names if name in keys]}

    def for_kind(self, kind: str) -> KeyRing:
        return KindRing(self._ring, kind)

    def _known(self, kid: str = "") -> tuple[Mapping[str, SigningKey], Mapping[str, str]]:
        view = self._ring.known(kid)
        if view is not self._view:
            keys = {name: self._keys.get(name) or key.derived(self._kind) for name, key in view.keys.items()}
            self._keys, self._origins = keys, {key.thumbprint: name for name, key in keys.items()}
            self._view = view
            return keys, self._origins
        return self._keys, self._origins
