"""Proofs about a log for somebody who does not have it: one record, or two checkpoints, and a few hashes.

Rules:

1. A proof is made for a checkpoint and is checked against one. By itself it shows nothing.
2. Every proof is checked before it is handed out: a log that does not match the checkpoint gives none.
3. An inclusion proof contains the whole record, byte by byte: whoever gets it can read it.
4. Memory does not grow with the log. The log is read once for each call.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from zt_agents.audit.checkpoints import Checkpoint
from zt_agents.audit.sink import AuditSource, Snapshot
from zt_agents.audit.tree import (
    consistency_path,
    inclusion_path,
    leaf_hash,
    range_roots,
    verify_consistency,
    verify_inclusion,
)
from zt_agents.errors import AuditIntegrityError, StoreError

_NO_PROOF = "This is not a proof as `zt-agents audit prove` writes it."


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """That one record is among the first *size* of a log."""

    origin: str
    seq: int
    """The record's number, from 1. In the tree it is leaf ``seq - 1``."""
    size: int
    body: bytes
    """The record as the log has it."""
    hashes: tuple[bytes, ...]

    def check(self, checkpoint: Checkpoint) -> None:
        """Raise :class:`AuditIntegrityError` unless the record is one of those of *checkpoint*."""
        _require_same(self.origin, self.size, checkpoint)
        if not verify_inclusion(
            leaf_hash(self.body),
            index=self.seq - 1,
            size=self.size,
            proof=self.hashes,
            root=checkpoint.root,
        ):
            raise AuditIntegrityError(f"This is not record {self.seq} of the log that the checkpoint is of.")

    def __str__(self) -> str:
        said = {"origin": self.origin, "seq": self.seq, "size": self.size, "record": self.body.decode()}
        return _written({"proof": "zt-agents inclusion v1", **said, "hashes": _encode(self.hashes)})


@dataclass(frozen=True, slots=True)
class ConsistencyProof:
    """That a log of *new_size* records begins with those it had when they were *old_size*."""

    origin: str
    old_size: int
    new_size: int
    hashes: tuple[bytes, ...]

    def check(self, old: Checkpoint, new: Checkpoint) -> None:
        """Raise :class:`AuditIntegrityError` unless *new* continues *old*."""
        _require_same(self.origin, self.old_size, old)
        _require_same(self.origin, self.new_size, new)
        if not verify_consistency(
            old_size=old.size, old_root=old.root, new_size=new.size, new_root=new.root, proof=self.hashes
        ):
            raise AuditIntegrityError("The later checkpoint does not continue the earlier one: two histories.")

    def __str__(self) -> str:
        said = {"origin": self.origin, "old_size": self.old_size, "new_size": self.new_size}
        return _written({"proof": "zt-agents consistency v1", **said, "hashes": _encode(self.hashes)})


def parse_proof(text: str) -> InclusionProof | ConsistencyProof:
    """Return the proof written as one JSON object, with exactly the fields it must have.

    Raises:
        AuditIntegrityError: *text* is no such proof.
    """
    try:
        match json.loads(text, object_pairs_hook=_once):
            case {
                "proof": "zt-agents inclusion v1",
                "origin": str(origin),
                "seq": int(seq),
                "size": int(size),
                "record": str(record),
                "hashes": list(hashes),
                **others,
            } if not others:
                return InclusionProof(origin, seq, size, record.encode(), _decode(hashes))
            case {
                "proof": "zt-agents consistency v1",
                "origin": str(origin),
                "old_size": int(old),
                "new_size": int(new),
                "hashes": list(hashes),
                **others,
            } if not others:
                return ConsistencyProof(origin, old, new, _decode(hashes))
    except (ValueError, TypeError, RecursionError) as error:
        raise AuditIntegrityError(_NO_PROOF) from error
    raise AuditIntegrityError(_NO_PROOF)


def prove_inclusion(source: AuditSource, seqs: Sequence[int], checkpoint: Checkpoint) -> list[InclusionProof]:
    """Return a proof for each of the records *seqs*, all of which *checkpoint* must cover.

    Raises:
        ValueError: the checkpoint does not cover a record.
        AuditIntegrityError: the log is not the one of the checkpoint.
        StoreError: the log could not be opened.
    """
    paths = {seq: inclusion_path(seq - 1, checkpoint.size) for seq in seqs}
    bodies: dict[int, bytes] = {}

    def leaves(snapshot: Snapshot) -> Iterator[bytes]:
        for seq, body in enumerate(_bodies(snapshot, checkpoint.size), snapshot.begin.seq + 1):
            if seq in paths:
                bodies[seq] = body
            yield leaf_hash(body)

    with source.snapshot() as snapshot:
        # The record's own range as well: where it is the last one, no other range reaches as far.
        wanted = {part for path in paths.values() for part in path} | {range(seq - 1, seq) for seq in seqs}
        if sealed := [seq for seq in seqs if seq <= snapshot.begin.seq]:
            raise _in_segments(f"Record {sealed[0]} lies")
        roots = _roots(snapshot, leaves(snapshot), wanted)
    proofs = []
    for seq, path in paths.items():
        hashes = tuple(roots[part] for part in path)
        proof = InclusionProof(checkpoint.origin, seq, checkpoint.size, bodies[seq], hashes)
        proof.check(checkpoint)
        proofs.append(proof)
    return proofs


def prove_consistency(source: AuditSource, old: Checkpoint, new: Checkpoint) -> ConsistencyProof:
    """Return the proof that *new* continues *old*.

    Raises:
        ValueError: the old one is empty, or larger than the new one.
        AuditIntegrityError: the log is not the one of both checkpoints.
        StoreError: the log could not be opened.
    """
    path = consistency_path(old.size, new.size)
    with source.snapshot() as snapshot:
        roots = _roots(snapshot, map(leaf_hash, _bodies(snapshot, new.size)), path)
    proof = ConsistencyProof(old.origin, old.size, new.size, tuple(roots[part] for part in path))
    proof.check(old, new)
    return proof


def _bodies(snapshot: Snapshot, count: int) -> Iterator[bytes]:
    due = snapshot.begin.seq + 1
    if due > count:
        return
    for seq, body, *_ in snapshot.stored():
        if seq != due or not isinstance(body, bytes):
            break
        yield body
        due += 1
        if due > count:
            return
    raise AuditIntegrityError(f"Record {due} of {count} is missing or out of place: `audit verify` says more.")


def _roots(snapshot: Snapshot, leaves: Iterator[bytes], wanted: Iterable[range]) -> dict[range, bytes]:
    if not snapshot.begin.sound:
        raise AuditIntegrityError("What is noted of the last segment is damaged: `audit verify` says more.")
    try:
        return range_roots(leaves, wanted, snapshot.begin.tree())
    except LookupError as error:
        raise _in_segments("What this proof needs lies") from error


def _in_segments(what: str) -> StoreError:
    return StoreError(f"{what} in a segment that is not at hand.", hint="Give the folder: --segments FOLDER.")


def _require_same(origin: str, size: int, checkpoint: Checkpoint) -> None:
    if origin != checkpoint.origin:
        raise AuditIntegrityError(f"The proof is about the log {origin}, the checkpoint about {checkpoint.origin}.")
    if size != checkpoint.size:
        raise AuditIntegrityError(
            f"The proof is for a checkpoint of {size} records, and this one has {checkpoint.size}."
        )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a field stands there twice")
    return values


def _written(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=True, separators=(",", ":"))


def _encode(hashes: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(part).decode() for part in hashes]


def _decode(hashes: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(base64.b64decode(part, validate=True) for part in hashes)
