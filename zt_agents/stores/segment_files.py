"""Segments of an audit log as files in a folder, compressed with Zstandard (extra ``archive``).

A file is written under a temporary name, synced, read again and proven; it gets its name inside the transaction that
takes its records out of the log. So at any moment each record is in the log, or in a file that was proven and noted.
A file that a crash left without its note is overwritten by the next attempt: it is named after its first record.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from zt_agents._internal.optional import require
from zt_agents.audit.segments import Mark, Sealing, read_segment, write_segment
from zt_agents.errors import AuditIntegrityError, StoreError
from zt_agents.stores.sqlite_audit import SqliteAuditSink

RECORDS = 50_000
"""In one segment: others wait a fraction of a second while so many leave the log."""


class SegmentFolder:
    """Implements :class:`zt_agents.audit.segments.Archive`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, sealing: Sealing) -> Iterator[bytes]:
        path = self.path / sealing.name
        if not path.is_file() or path.name != sealing.name:
            raise AuditIntegrityError(f"The segment {sealing.name} with {sealing.span} is missing from {self.path}.")
        try:
            with path.open("rb") as file:
                changed = hashlib.file_digest(file, "sha256").digest() != sealing.sha256
                file.seek(0)
                yield from self._lines(file, sealing, changed=changed)
        except OSError as error:
            raise StoreError(f"The segment {path} could not be read: {error.strerror}.") from error

    def _lines(self, file: Any, sealing: Sealing, *, changed: bool) -> Iterator[bytes]:
        zstandard = _zstandard()
        try:
            with zstandard.ZstdDecompressor().stream_reader(file) as stream, io.BufferedReader(stream) as lines:
                header = lines.readline()
                yield header[:-1]
                if changed:  # only now: whose segment it is, and of which records, says more
                    raise AuditIntegrityError(f"The segment {sealing.name} was changed: its SHA-256 is another.")
                for line in lines:
                    yield line[:-1]
        except zstandard.ZstdError as error:
            raise AuditIntegrityError(f"The segment {sealing.name} was changed: it cannot be unpacked.") from error

    def seal(self, sink: SqliteAuditSink, upto: int, time: float) -> Sealing | None:
        """Move the oldest records, up to number *upto* and at most :data:`RECORDS`, into a segment.

        Returns:
            What was sealed, or None if nothing up to there is left in the log.
        """
        with sink.snapshot() as snapshot:
            begin, log_id = snapshot.begin, snapshot.log_id
            count = min(upto - begin.seq, RECORDS)
            if count <= 0:
                return None
            name = f"{log_id.hex()[:12]}-{begin.seq + 1:012d}.jsonl.zst"
            new = self.path / f"{name}.{os.getpid()}.new"
            try:
                end = _write(new, log_id, begin, islice(snapshot.stored(), count))
                with new.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").digest()
                sealing = Sealing(begin.seq + 1, end, name, digest)
                with new.open("rb") as file:
                    for _ in read_segment(log_id, begin, sealing, self._lines(file, sealing, changed=False)):
                        pass
            except OSError as error:
                new.unlink(missing_ok=True)
                raise StoreError(f"The segment {new} could not be written: {error.strerror}.") from error
            except BaseException:  # whatever ended it, no half of a segment is left lying about
                new.unlink(missing_ok=True)
                raise
        try:
            return sink.seal(sealing, time, lambda: self._place(new, name))
        finally:
            new.unlink(missing_ok=True)

    def _place(self, new: Path, name: str) -> None:
        try:
            new.replace(self.path / name)
            _sync_folder(self.path)
        except OSError as error:
            raise StoreError(f"The segment {name} could not be put into {self.path}: {error.strerror}.") from error


def _write(path: Path, log_id: bytes, begin: Mark, records: Iterator[Any]) -> Mark:
    with path.open("wb") as file:
        path.chmod(0o600)
        with _zstandard().ZstdCompressor().stream_writer(file, closefd=False) as packed:
            for line in write_segment(log_id, begin, records):
                if isinstance(line, Mark):
                    end = line
                else:
                    packed.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return end


def _sync_folder(path: Path) -> None:
    with suppress(PermissionError):  # Windows has no such thing
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _zstandard() -> Any:
    return require("zstandard", extra="archive", purpose="segments of an audit log")
