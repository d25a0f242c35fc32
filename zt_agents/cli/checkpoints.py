"""Which checkpoints a command believes: those signed by the key it was given, or by the key beside the log."""

from __future__ import annotations

from pathlib import Path

import typer

from zt_agents.audit.checkpoints import Checkpoint, open_checkpoint
from zt_agents.errors import AuditIntegrityError, StoreError
from zt_agents.identity.checkpoint_keys import CheckpointKey, VerifierKey
from zt_agents.stores.checkpoint_files import key_beside, last_beside, read_note


def pinned_key(log: Path, key: str | None) -> VerifierKey:
    """Return the verifier key that was given as text, otherwise that of the key beside *log*."""
    if key is not None:
        try:
            return VerifierKey.parse(key)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--key") from error
    if not key_beside(log).exists():
        raise StoreError(
            f"There is no key beside {log} to check a checkpoint with.", hint="Give its verifier key: --key."
        )
    return CheckpointKey.from_file(key_beside(log)).verifier


def checkpoint_from(path: Path, key: VerifierKey) -> Checkpoint:
    """Return the checkpoint in the file *path*, which *key* must have signed."""
    try:
        return open_checkpoint(read_note(path), [key])
    except AuditIntegrityError as error:
        raise AuditIntegrityError(f"{path} is not to be trusted. {error.message}") from error


def checkpoints_to_hold(log: Path, path: Path, key: str | None) -> list[Checkpoint]:
    """Return the checkpoint in *path* and, where a later one is kept beside *log*, that one too.

    An old checkpoint is a true one: it says nothing about what came after it. The one beside the log does.
    """
    pinned = pinned_key(log, key)
    given = checkpoint_from(path, pinned)
    if last_beside(log).exists():
        last = checkpoint_from(last_beside(log), pinned)
        if last.size > given.size:
            return [given, last]
    return [given]
