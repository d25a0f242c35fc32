"""Signed checkpoints: what a log was, in a few lines that somebody else can keep.

::

    zt-agents/audit/8c1f...     the log: its id is part of it
    26                          how many records
    CsUYapGGPo4dkMgIAUqo...     root of their Merkle tree

    — zt-agents/audit/8c1f... Az3grlgtzPICa5OS8npV...

The format is that of C2SP tlog-checkpoint and signed-note v1 with Ed25519, which logs, monitors and witnesses
of other makers read.

Rules:

1. Nothing in a note is believed before a signature by a key that was given: keys are pinned, never found in
   the note.
2. A signature that claims such a key and does not verify condemns the note, whatever else signed it.
   Signatures of unknown keys, such as witnesses, are ignored, as the standard wants.
3. What is not exactly a checkpoint is refused: numbers with leading zeros, base64 in another spelling,
   extension lines, control characters, an origin that is not the key's name; a log without records too,
   since every log continues that.
4. A checkpoint protects only from the moment at which someone holds it whom the log's writer cannot reach.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from zt_agents.audit.tree import HASH_SIZE
from zt_agents.errors import AuditIntegrityError
from zt_agents.identity.checkpoint_keys import CheckpointKey, VerifierKey

_MAX_NOTE = 1_000_000
_MAX_SIGNATURES = 100
_SIZE = re.compile(r"[1-9][0-9]{0,18}")
_SIGNATURE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The first *size* records of a log, all of them and in this order."""

    origin: str
    """The log's name, see :func:`origin`."""
    size: int
    root: bytes
    """Root of the Merkle tree over the records."""

    def __str__(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Return the checkpoint that the text of a note says.

        Raises:
            AuditIntegrityError: it says anything else.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not lines[0]:
            raise AuditIntegrityError("A checkpoint has three lines: the log, the number of records, the root.")
        root = _base64(lines[2])
        if _SIZE.fullmatch(lines[1]) is None or root is None or len(root) != HASH_SIZE:
            raise AuditIntegrityError("The checkpoint's number of records or root is not written as it must be.")
        return cls(lines[0], int(lines[1]), root)


def origin(log_id: bytes) -> str:
    """Return the name under which the log with this id signs."""
    return f"zt-agents/audit/{log_id.hex()}"


def sign_checkpoint(checkpoint: Checkpoint, key: CheckpointKey) -> str:
    """Return *checkpoint* as a note signed with *key*, whose name must be the checkpoint's origin.

    Raises:
        AuditIntegrityError: the key is that of another log.
    """
    if key.verifier.name != checkpoint.origin:
        raise AuditIntegrityError(
            f"The key signs for the log {key.verifier.name!r}, and this is {checkpoint.origin!r}: "
            "another log has taken its place."
        )
    text = str(checkpoint)
    signature = base64.b64encode(key.verifier.id + key.sign(text.encode())).decode()
    return f"{text}\n— {key.verifier.name} {signature}\n"


def open_checkpoint(note: bytes, keys: Sequence[VerifierKey]) -> Checkpoint:
    """Return the checkpoint in *note*, once one of *keys* has been found to have signed it.

    Raises:
        AuditIntegrityError: none of them did, a signature is forged, or the note is not understood.
    """
    text, signatures = _split(note)
    known = {(key.name, key.id): key for key in keys}
    signers = set()
    for name, signature in signatures:
        key = known.get((name, signature[:4]))
        if key is None:
            continue
        if not key.verifies(signature[4:], text.encode()):
            raise AuditIntegrityError(f"The checkpoint's signature by {name!r} is forged, or its text was changed.")
        signers.add(name)
    if not signers:
        wanted = ", ".join(f"{key.name}+{key.id.hex()}" for key in keys)
        raise AuditIntegrityError(f"The checkpoint is not signed by {wanted or 'anyone: no key was given'}.")
    checkpoint = Checkpoint.parse(text)
    if checkpoint.origin not in signers:
        raise AuditIntegrityError("The checkpoint is of another log than the key that signed it.")
    return checkpoint


def _split(note: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """Return the signed text of *note* and its signatures: (name, key id and signature)."""
    try:
        decoded = note.decode() if len(note) <= _MAX_NOTE else ""
    except UnicodeDecodeError:
        decoded = ""
    text, blank, below = decoded.rpartition("\n\n")
    lines = below.split("\n")
    if not blank or _CONTROL.search(decoded) or lines[-1] or not 1 <= len(lines) - 1 <= _MAX_SIGNATURES:
        raise AuditIntegrityError("This is not a signed checkpoint.")
    signatures = []
    for line in lines[:-1]:
        match = _SIGNATURE.fullmatch(line)
        signature = _base64(match[2]) if match else None
        if match is None or signature is None or len(signature) <= 4:
            raise AuditIntegrityError("A signature of the checkpoint is not written as it must be.")
        signatures.append((match[1], signature))
    return text + "\n", signatures


def _base64(text: str) -> bytes | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode() == text else None
