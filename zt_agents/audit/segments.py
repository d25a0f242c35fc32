"""Sealed segments: the oldest records of a log, taken out of it into files that verify by themselves.

A segment is JSON Lines. The first line says what came before it, the last one what comes after it; between them
stand the bodies of the records, as the log had them::

    {"segment":"zt-agents audit segment v1","log_id":"8c1f...","first":1,"last":2,"hash":"...","frontier":[]}
    {"agent":"helpdesk",...}
    {"agent":"helpdesk",...}
    {"records":2,"hash":"...","frontier":["..."],"root":"..."}

Rules:

1. Where a segment ends is a :class:`Mark`: number and chain hash of its last record, and the frontier, which is all
   that the Merkle tree needs of the records before it to go on. So what remains in the log is proven as before.
2. A sealing is noted twice: by the store, and by a record in the chain. A mark that no record confirms is a fault.
3. A segment is believed if it begins at the mark where the one before it ended, and its records lead to the mark that
   was noted, byte by byte.
4. What lies in segments that are not at hand was not looked at, and is never called verified.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from zt_agents.audit.chain import Head, decode, genesis, link
from zt_agents.audit.records import RecordKind
from zt_agents.audit.sink import AuditSource, Filed, Snapshot, StoredRecord
from zt_agents.audit.tree import HASH_SIZE, Tree, leaf_hash
from zt_agents.errors import AuditIntegrityError

_FORMAT = "zt-agents audit segment v1"


@dataclass(frozen=True, slots=True)
class Mark:
    """A place between two records, and all that is needed to go on from there."""

    seq: int
    """Number of the record before it; 0 at the start of a log."""
    hash: bytes
    """Chain hash of that record."""
    frontier: tuple[bytes, ...]
    """See :meth:`Tree.frontier`."""

    @classmethod
    def start(cls, log_id: bytes) -> Mark:
        return cls(0, genesis(log_id), ())

    @property
    def sound(self) -> bool:
        """Return whether it could be the mark of some log."""
        hashes = (self.hash, *self.frontier)
        return (
            type(self.seq) is int
            and self.seq >= 0
            and len(self.frontier) == self.seq.bit_count()
            and all(isinstance(part, bytes) and len(part) == HASH_SIZE for part in hashes)
        )

    def tree(self) -> Tree:
        return Tree(self.seq, self.frontier)


@dataclass(frozen=True, slots=True)
class Sealing:
    """That the records up to a mark were taken out of the log, and where they went."""

    first: int
    end: Mark
    name: str
    """Name of the file."""
    sha256: bytes
    """Of the file."""
    noted: int = 0
    """Number of the record that says so; 0 as long as it is not in the log."""

    @property
    def span(self) -> str:
        return f"records {self.first} to {self.end.seq}"

    def said(self) -> dict[str, Any]:
        """Return what the record in the log says of it, apart from the time."""
        return {
            "kind": str(RecordKind.SEALING),
            "first": self.first,
            "last": self.end.seq,
            "last_hash": self.end.hash.hex(),
            "frontier": [part.hex() for part in self.end.frontier],
            "file": self.name,
            "sha256": self.sha256.hex(),
        }

    def body(self, time: float) -> bytes:
        return orjson.dumps({**self.said(), "time": time}, option=orjson.OPT_SORT_KEYS)

    def confirmed_by(self, record: Mapping[str, Any]) -> bool:
        """Return whether *record*, as :meth:`Snapshot.read` gives it, says so."""
        said = self.said()
        return all(record.get(name) == value for name, value in said.items())


class Archive(Protocol):
    """Where segments are kept."""

    def lines(self, sealing: Sealing) -> Iterator[bytes]:
        """Yield the lines of the segment, without their ends.

        Raises:
            AuditIntegrityError: it is missing, or not the file that was noted.
        """


def write_segment(log_id: bytes, begin: Mark, records: Iterable[tuple[Any, Any, Any, Filed]]) -> Iterator[bytes | Mark]:
    """Yield the lines of the segment with *records*, and at last the mark at its end.

    Raises:
        AuditIntegrityError: a record does not follow from the one before it.
    """
    rows = list(records)
    last = begin.seq + len(rows)
    yield _line({"segment": _FORMAT, "log_id": log_id.hex(), "first": begin.seq + 1, "last": last, **_mark(begin)})
    tree, digest, seq = begin.tree(), begin.hash, begin.seq
    for number, body, found, filed in rows:
        seq += 1
        if number != seq or not isinstance(body, bytes) or b"\n" in body or filed is not Filed.RIGHT:
            raise AuditIntegrityError(f"Record {seq} cannot be sealed: it is missing or damaged.")
        leaf = leaf_hash(body)
        digest = link(digest, leaf)
        if digest != found:
            raise AuditIntegrityError(f"Record {seq} does not follow from the one before it, and is not sealed.")
        tree.append(leaf)
        yield body
    end = Mark(seq, digest, tree.frontier())
    yield _line({"records": len(rows), **_mark(end), "root": tree.root().hex()})
    yield end


def read_segment(log_id: bytes, begin: Mark, sealing: Sealing, lines: Iterator[bytes]) -> Iterator[StoredRecord]:
    """Yield the records of a segment that begins at *begin*, and prove that it ends as *sealing* says.

    Raises:
        AuditIntegrityError: it does not, or is the segment of another log or place.
    """
    name, header = sealing.name, _values(next(lines, b""))
    if header.get("segment") != _FORMAT:
        raise AuditIntegrityError(f"The segment {name} is not in the format of this version.")
    if header.get("log_id") != log_id.hex():
        raise AuditIntegrityError(f"The segment {name} is of another log.")
    if (header.get("first"), header.get("last")) != (sealing.first, sealing.end.seq):
        has = f"records {header.get('first')} to {header.get('last')}"
        raise AuditIntegrityError(f"The segment {name} holds {has}, and {sealing.span} belong there: out of order.")
    if sealing.first != begin.seq + 1 or {name: header.get(name) for name in _mark(begin)} != _mark(begin):
        raise AuditIntegrityError(f"The segment {name} does not continue what comes before {sealing.span}.")
    tree, digest = begin.tree(), begin.hash
    for seq in range(sealing.first, sealing.end.seq + 1):
        body = next(lines, None)
        if body is None:
            raise AuditIntegrityError(f"The segment {name} ends before record {seq}.")
        leaf = leaf_hash(body)
        digest = link(digest, leaf)
        tree.append(leaf)
        yield seq, body, digest, Filed.RIGHT if decode(body) is not None else Filed.NO_RECORD
    end = Mark(sealing.end.seq, digest, tree.frontier())
    trailer = _values(next(lines, b""))
    count = sealing.end.seq - sealing.first + 1
    if end != sealing.end or trailer != {"records": count, **_mark(end), "root": tree.root().hex()}:
        raise AuditIntegrityError(f"The segment {name} was changed: {sealing.span} do not lead to what was noted.")
    if next(lines, None) is not None:
        raise AuditIntegrityError(f"The segment {name} goes on after its end.")


class WholeLog:
    """A log together with its segments: an :class:`AuditSource` of all records since the first.

    It is for proving: :meth:`Snapshot.read` sees what is still in the log.
    """

    def __init__(self, source: AuditSource, archive: Archive) -> None:
        self._source = source
        self._archive = archive

    @contextmanager
    def snapshot(self) -> Iterator[_WholeSnapshot]:
        with self._source.snapshot() as snapshot:
            yield _WholeSnapshot(snapshot, self._archive)


class _WholeSnapshot:
    def __init__(self, rest: Snapshot, archive: Archive) -> None:
        self._rest = rest
        self._archive = archive
        self.log_id: Any = rest.log_id
        self.head: Head | None = rest.head
        self.sealed = rest.sealed
        self.begin = Mark.start(rest.log_id) if isinstance(rest.log_id, bytes) else rest.begin
        self.faults = rest.faults
        self.read = rest.read

    def stored(self) -> Iterator[StoredRecord]:
        mark = self.begin
        for sealing in self.sealed:
            yield from read_segment(self.log_id, mark, sealing, self._archive.lines(sealing))
            mark = sealing.end
        yield from self._rest.stored()


def _mark(mark: Mark) -> dict[str, Any]:
    return {"hash": mark.hash.hex(), "frontier": [part.hex() for part in mark.frontier]}


def _line(values: dict[str, Any]) -> bytes:
    return orjson.dumps(values)


def _values(line: bytes) -> dict[str, Any]:
    return decode(line) or {}
