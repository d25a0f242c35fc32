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

from zt_agents.errors import ConfigurationError, TokenInvalidError

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
    def from_file(cls, path: str | os.PathLike[str]) -> SigningKey:
        """Load an unencrypted PEM (PKCS#8) key.

        Raises:
            ConfigurationError: the file is unreadable, readable by others, or not a P-256 private key.
        """
        try:
            return cls.from_pem(read_private_file(Path(path)))
        except ValueError as error:
            raise ConfigurationError(f"The key file {path} could not be read as a PEM private key.") from error

    @classmethod
    def from_pem(cls, pem: bytes) -> SigningKey:
        """Return the unencrypted key in *pem* (PKCS#8).

        Raises:
            ValueError: it is no key.
            ConfigurationError: it is not a P-256 private key.
        """
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (TypeError, UnsupportedAlgorithm) as error:
            raise ValueError("the key is encrypted, or of an unknown kind") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigurationError("The key is not an elliptic-curve key.")
        return cls(key)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the key as PEM, readable by its owner alone; an existing file is never overwritten."""
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(self.pem)

    @property
    def pem(self) -> bytes:
        """The private key, in the clear (PKCS#8)."""
        return self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

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


def read_private_file(path: Path) -> bytes:
    """Return what a file holds that nobody but its owner may read.

    Raises:
        ConfigurationError: it cannot be read, or others can read it.
    """
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise ConfigurationError(f"The key file {path} can be read by other users.", hint=f"Run: chmod 600 {path}")
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"The key file {path} could not be read.") from error


def public_key_of(jwk: object) -> tuple[ec.EllipticCurvePublicKey, str]:
    """Return the public key in *jwk* (RFC 7517, P-256) and its thumbprint.

    Raises:
        TokenInvalidError: it is no such key.
    """
    if not isinstance(jwk, dict) or set(jwk) != {"kty", "crv", "x", "y"} or (jwk["kty"], jwk["crv"]) != ("EC", "P-256"):
        raise TokenInvalidError("The key is not one on the curve P-256.")
    try:
        x, y = (int.from_bytes(base64.urlsafe_b64decode(f"{jwk[name]}="), "big") for name in ("x", "y"))
        key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    except (ValueError, TypeError) as error:
        raise TokenInvalidError("The key is not one on the curve P-256.") from error
    if _members(key) != jwk:
        raise TokenInvalidError("The key is not written as a key is written.")
    return key, _thumbprint(key)


def _thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    digest = hashlib.sha256(orjson.dumps(_members(key), option=orjson.OPT_SORT_KEYS)).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _members(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    return {"crv": "P-256", "kty": "EC", "x": _b64(numbers.x), "y": _b64(numbers.y)}


def _b64(coordinate: int) -> str:
    return base64.urlsafe_b64encode(coordinate.to_bytes(32, "big")).rstrip(b"=").decode()
