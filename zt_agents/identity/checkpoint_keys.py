"""Ed25519 keys of C2SP signed notes (https://c2sp.org/signed-note), with which a log signs its checkpoints.

A key has a name: that of the log it signs for. Its id is the start of SHA-256(name || 0x0A || 0x01 || public
key). Both kinds are written as Go's ``golang.org/x/mod/sumdb/note`` writes them, so that other tools read them:

    NAME+ID+KEY                 who checks: 0x01 and the public key, base64
    PRIVATE+KEY+NAME+ID+KEY     who signs: 0x01 and the seed; in a file that only its owner can read

A private key never shows itself: ``repr`` gives its name and id.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from zt_agents._internal.key_files import write_once
from zt_agents.errors import ConfigurationError

_ED25519 = b"\x01"
_NAME = re.compile(r"[!-*,-~]+")
"""A key's name: printable ASCII without spaces and plus signs. The standard allows more than we understand."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key, by which a checkpoint of the log *name* is known."""

    name: str
    public: bytes
    """32 bytes, RFC 8032."""

    @property
    def id(self) -> bytes:
        """The first four bytes of the key's hash: a name for it, no proof of anything."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Return the key written as ``NAME+ID+KEY``, or raise :class:`ValueError`."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        raw = _decode(encoded)
        if _NAME.fullmatch(name) is None or raw is None:
            raise ValueError("a verifier key is written NAME+ID+KEY, its id 8 hex digits and its key base64")
        key = cls(name, raw)
        if key.id.hex() != key_id:
            raise ValueError("the verifier key's id does not belong to its name and key")
        return key

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether *signature* is by this key, over *message*."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{_encode(self.public)}"


class CheckpointKey:
    """The private key of one log."""

    def __init__(self, name: str, seed: bytes) -> None:
        if _NAME.fullmatch(name) is None:
            raise ConfigurationError("The name of a checkpoint key is printable ASCII without space and plus.")
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = VerifierKey(name, self._private.public_key().public_bytes_raw())
        """The public half: give it to whoever is to check the log's checkpoints."""

    @classmethod
    def generate(cls, name: str) -> CheckpointKey:
        """Return a new key for the log *name*."""
        return cls(name, os.urandom(32))

    @classmethod
    def from_file(cls, path: Path) -> CheckpointKey:
        """Load a key that :meth:`save`, or Go's ``note.GenerateKey``, has written.

        Raises:
            ConfigurationError: the file is unreadable, readable by others, or not such a key.
        """
        try:
            if os.name == "posix" and path.stat().st_mode & 0o077:
                raise ConfigurationError(
                    f"The checkpoint key {path} can be read by other users.", hint=f"Run: chmod 600 {path}"
                )
            text = path.read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"The checkpoint key {path} could not be read.") from error
        match = re.fullmatch(r"PRIVATE\+KEY\+([^+]+)\+([0-9a-f]{8})\+(\S+)\n?", text)
        seed = _decode(match[3]) if match else None
        if match is None or seed is None:
            raise ConfigurationError(f"{path} holds no private key of a signed note.")
        key = cls(match[1], seed)
        if key.verifier.id.hex() != match[2]:
            raise ConfigurationError(f"The id in {path} does not belong to its name and key.")
        return key

    def save(self, path: Path) -> None:
        """Write the key, readable by its owner alone; an existing file is never overwritten.

        Raises:
            ConfigurationError: the file exists, or cannot be written.
        """
        name, key_id = self.verifier.name, self.verifier.id.hex()
        text = f"PRIVATE+KEY+{name}+{key_id}+{_encode(self._private.private_bytes_raw())}\n"
        try:
            write_once(path, text.encode())
        except OSError as error:
            raise ConfigurationError(f"The checkpoint key {path} could not be written: {error.strerror}.") from error

    def sign(self, message: bytes) -> bytes:
        """Return the signature (64 bytes) over *message*."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"CheckpointKey({self.verifier.name}+{self.verifier.id.hex()})"

    def __reduce__(self) -> str:
        raise TypeError("a checkpoint key cannot be pickled")


def _encode(key: bytes) -> str:
    return base64.b64encode(_ED25519 + key).decode()


def _decode(text: str) -> bytes | None:
    """Return the 32 bytes of an Ed25519 key, or None where *text* is anything else."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(raw) != 33 or raw[:1] != _ED25519 or base64.b64encode(raw).decode() != text:
        return None
    return raw[1:]
