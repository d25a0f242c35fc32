"""Signing keys: ES256 on P-256 or EdDSA on Ed25519, named by their RFC 7638 thumbprint.

A key never shows itself: ``repr`` gives the thumbprint.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from zt_agents.errors import ConfigurationError, TokenInvalidError
from zt_agents.identity.signing.public_keys import EDDSA, ES256, PublicKey, VerificationKey

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class SigningKey:
    """A private key that signs one kind of token."""

    def __init__(self, private_key: PrivateKey) -> None:
        """Sign with *private_key*.

        Raises:
            ConfigurationError: it is neither on the curve P-256 nor an Ed25519 key.
        """
        self._private = private_key
        try:
            self.verification = VerificationKey(private_key.public_key())
            """The public half."""
        except TokenInvalidError as error:
            text = "A signing key must be on the curve P-256 (ES256), or an Ed25519 key (EdDSA)."
            raise ConfigurationError(text) from error
        self.thumbprint = self.verification.kid
        """RFC 7638 thumbprint, base64url; the token's ``kid``."""
        self.algorithm = self.verification.algorithm
        """``ES256`` or ``EdDSA``."""

    @classmethod
    def generate(cls, algorithm: str = ES256) -> Self:
        """Return a new key that lives as long as the process.

        Raises:
            ValueError: *algorithm* is neither ``ES256`` nor ``EdDSA``.
        """
        if algorithm == ES256:
            return cls(ec.generate_private_key(ec.SECP256R1()))
        if algorithm == EDDSA:
            return cls(ed25519.Ed25519PrivateKey.generate())
        raise ValueError(f"keys are for {ES256} or {EDDSA}")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Load an unencrypted PEM (PKCS#8) key.

        Raises:
            ConfigurationError: the file is unreadable, readable by others, or neither a P-256 nor an Ed25519 key.
        """
        try:
            return cls.from_pem(read_private_file(Path(path)))
        except ValueError as error:
            raise ConfigurationError(f"The key file {path} could not be read as a PEM private key.") from error

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Return the unencrypted key in *pem* (PKCS#8).

        Raises:
            ValueError: it is no key.
            ConfigurationError: it is neither a P-256 nor an Ed25519 private key.
        """
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (TypeError, UnsupportedAlgorithm) as error:
            raise ValueError("the key is encrypted, or of an unknown kind") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
            raise ConfigurationError("The key is not an elliptic-curve key.")
        return cls(key)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the key as PEM, readable by its owner alone; an existing file is never overwritten."""
        pem = self.pem
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)

    @property
    def pem(self) -> bytes:
        """The private key, in the clear (PKCS#8)."""
        return self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def derived(self, purpose: str) -> SigningKey:
        """Return the key for another *purpose*: the same wherever this key is known, and no way back to it."""
        info = f"zt_agents {purpose}"
        if self.algorithm == EDDSA:
            return SigningKey(ed25519.Ed25519PrivateKey.from_private_bytes(self.secret(info, 32)))
        # 16 bytes more than the order of the curve has make the remainder uniform (FIPS 186-5, A.2.1).
        scalar = int.from_bytes(self.secret(info, 48), "big") % (_P256_ORDER - 1) + 1
        return SigningKey(ec.derive_private_key(scalar, ec.SECP256R1()))

    def secret(self, info: str, length: int) -> bytes:
        """Return *length* bytes for the purpose *info*: the same wherever this key is known, and no way back to it."""
        if isinstance(self._private, ed25519.Ed25519PrivateKey):
            own = self._private.private_bytes_raw()
        else:
            own = self._private.private_numbers().private_value.to_bytes(32, "big")
        return HKDF(SHA256(), length, salt=None, info=info.encode()).derive(own)

    @property
    def private(self) -> PrivateKey:
        return self._private

    @property
    def public(self) -> PublicKey:
        return self.verification.public

    @property
    def jwk(self) -> dict[str, str]:
        """The public key as a JWK (RFC 7517)."""
        return self.verification.jwk

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
