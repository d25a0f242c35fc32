"""Signing keys: ES256 on P-256, named by their RFC 7638 thumbprint.

A key never shows itself: ``repr`` gives the thumbprint.
"""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from zt_agents.errors import ConfigurationError

ALGORITHM = "ES256"
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class SigningKey:
    """A private key that signs one kind of token."""

    def __init__(self, private_key: ec.EllipticCurvePrivateKey) -> None:
        if not isinstance(private_key.curve, ec.SECP256R1):
            raise ConfigurationError("A signing key must be on the curve P-256 (ES256).")
        self._private = private_key
        self.thumbprint = _thumbprint(private_key.public_key())
        """RFC 7638 thumbprint, base64url; the token's ``kid``."""

    @classmethod
    def generate(cls) -> SigningKey:
        """Return a new key that lives as long as the process."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_file(cls, path: Path) -> SigningKey:
        """Load an unencrypted PEM (PKCS#8) key.

        Raises:
            ConfigurationError: the file is unreadable, readable by others, or not a P-256 private key.
        """
        try:
            if os.name == "posix" and path.stat().st_mode & 0o077:
                raise ConfigurationError(
                    f"The key file {path} can be read by other users.", hint=f"Run: chmod 600 {path}"
                )
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigurationError(f"The key file {path} could not be read as a PEM private key.") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigurationError(f"The key in {path} is not an elliptic-curve key.")
        return cls(key)

    def save(self, path: Path) -> None:
        """Write the key as PEM, readable by its owner alone; an existing file is never overwritten."""
        pem = self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)

    def derived(self, purpose: str) -> SigningKey:
        """Return the key for another *purpose*: the same wherever this key is known, and no way back to it."""
        secret = self._private.private_numbers().private_value.to_bytes(32, "big")
        # 16 bytes more than the order of the curve has make the remainder uniform (FIPS 186-5, A.2.1).
        stretched = HKDF(SHA256(), 48, salt=None, info=b"zt_agents " + purpose.encode()).derive(secret)
        scalar = int.from_bytes(stretched, "big") % (_P256_ORDER - 1) + 1
        return SigningKey(ec.derive_private_key(scalar, ec.SECP256R1()))

    @property
    def private(self) -> ec.EllipticCurvePrivateKey:
        return self._private

    @property
    def public(self) -> ec.EllipticCurvePublicKey:
        return self._private.public_key()

    @property
    def jwk(self) -> dict[str, str]:
        """The public key as a JWK (RFC 7517)."""
        return {**_members(self.public), "kid": self.thumbprint, "alg": ALGORITHM, "use": "sig"}

    def __repr__(self) -> str:
        return f"SigningKey({self.thumbprint})"

    def __reduce__(self) -> str:
        raise TypeError("a signing key cannot be pickled")


def _thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    digest = hashlib.sha256(orjson.dumps(_members(key), option=orjson.OPT_SORT_KEYS)).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _members(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    return {"crv": "P-256", "kty": "EC", "x": _b64(numbers.x), "y": _b64(numbers.y)}


def _b64(coordinate: int) -> str:
    return base64.urlsafe_b64encode(coordinate.to_bytes(32, "big")).rstrip(b"=").decode()
