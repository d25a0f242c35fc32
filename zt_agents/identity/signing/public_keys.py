"""Public keys that verify signatures: P-256 (ES256) and Ed25519 (EdDSA), named by their RFC 7638 thumbprint.

Rules:

1. A key has one algorithm, which follows from its curve. No token's header chooses another (RFC 8725, 3.1).
2. A key's name is computed from the key, wherever the key came from: nobody can call a key by the name of another.
3. A JWK that holds anything private, or anything this module does not know, is refused.
4. An Ed25519 key of small order is none: without a private key, anybody can sign for it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import orjson
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from zt_agents.errors import TokenInvalidError

ES256 = "ES256"
EDDSA = "EdDSA"
ALGORITHMS = (ES256, EDDSA)

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_COORDINATES = {("EC", "P-256"): ("x", "y"), ("OKP", "Ed25519"): ("x",)}
"""Members of a key's own beside ``kty`` and ``crv`` (RFC 7518, section 6.2.1; RFC 8037, section 2)."""
_DESCRIPTIVE = {"kid", "alg", "use", "key_ops"}


_FIELD = 2**255 - 19
_EIGHTH = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
_SMALL_ORDER = {0, 1, _FIELD - 1, _EIGHTH, _FIELD - _EIGHTH}
"""The y of each point whose order divides eight (RFC 8032, section 5.1)."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key, by which the tokens of one signing key are known."""

    public: PublicKey = field(repr=False, compare=False)
    members: Mapping[str, str] = field(init=False, repr=False, compare=False)
    """What makes it this key: the members of its JWK that RFC 7638 has hashed."""
    kid: str = field(init=False)
    """RFC 7638 thumbprint, base64url."""
    algorithm: str = field(init=False)
    """``ES256`` or ``EdDSA``, as ``alg`` says it."""

    def __post_init__(self) -> None:
        if isinstance(self.public, ed25519.Ed25519PublicKey):
            raw = self.public.public_bytes(Encoding.Raw, PublicFormat.Raw)
            if int.from_bytes(raw, "little") % 2**255 % _FIELD in _SMALL_ORDER:
                raise TokenInvalidError("The key is of small order: anybody can sign for it.")
            algorithm, members = EDDSA, {"crv": "Ed25519", "kty": "OKP", "x": _encoded(raw)}
        elif isinstance(self.public.curve, ec.SECP256R1):
            point = self.public.public_numbers()
            x, y = (_encoded(coordinate.to_bytes(32, "big")) for coordinate in (point.x, point.y))
            algorithm, members = ES256, {"crv": "P-256", "kty": "EC", "x": x, "y": y}
        else:
            raise TokenInvalidError("The key is neither on the curve P-256 nor an Ed25519 key.")
        digest = hashlib.sha256(orjson.dumps(members, option=orjson.OPT_SORT_KEYS)).digest()
        object.__setattr__(self, "algorithm", algorithm)
        object.__setattr__(self, "members", members)
        object.__setattr__(self, "kid", _encoded(digest))

    @classmethod
    def from_jwk(cls, jwk: object) -> Self:
        """Return the key in *jwk* (RFC 7517). A ``kid`` in it is not looked at: the key has its own name.

        Raises:
            TokenInvalidError: it is no such key, not written as one is written, or says more than a public key says.
        """
        if not isinstance(jwk, Mapping):
            raise TokenInvalidError("The key is not a JWK.")
        kind = jwk.get("kty"), jwk.get("crv")
        coordinates = next((names for known, names in _COORDINATES.items() if known == kind), None)
        if coordinates is None or set(jwk) - _DESCRIPTIVE != {"kty", "crv", *coordinates}:
            raise TokenInvalidError("The key is neither on the curve P-256 nor an Ed25519 key, or says more than that.")
        try:
            x, *y = (base64.urlsafe_b64decode(f"{jwk[name]}=") for name in coordinates)
            public: PublicKey = ed25519.Ed25519PublicKey.from_public_bytes(x) if not y else _point(x, y[0])
        except (ValueError, TypeError) as error:
            raise TokenInvalidError("The key is on no curve that it names.") from error
        key = cls(public)
        if any(jwk[name] != value for name, value in key.members.items()):
            raise TokenInvalidError("The key is not written as a key is written.")
        if jwk.get("alg", key.algorithm) != key.algorithm or jwk.get("use", "sig") != "sig":
            raise TokenInvalidError("The key is for something else than its kind is for.")
        return key

    @property
    def jwk(self) -> dict[str, str]:
        """The key as a JWK (RFC 7517)."""
        return {**self.members, "kid": self.kid, "alg": self.algorithm, "use": "sig"}


def _point(x: bytes, y: bytes) -> ec.EllipticCurvePublicKey:
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
    return numbers.public_key()


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
