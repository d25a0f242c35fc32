"""An audit log in one SQLite file, which several processes may append to.

Rules:

1. One batch is one transaction, WAL with ``synchronous=FULL``: durable when ``append`` returns. ``BEGIN
   IMMEDIATE`` serialises the processes, and each reads the head that the last one left.
2. The head row is written with every batch. A log that was cut or emptied contradicts it, unless the head
   row was changed to match, or the file was put back to an older state as a whole: against that only a head
   noted elsewhere helps. An attacker who can write the file can rewrite all of it.
3. A running sink remembers where it left the log. A log that is gone, replaced, shorter or different
   refuses writes. So does one whose write-ahead log or its index was removed: a commit to a file without a
   name would be acknowledged, and lost in a crash. Letting go of it brings what it holds into the log.

SQLite before 3.51.3 can, in rare moments, lose pages when one process writes while another checkpoints
(https://sqlite.org/wal.html#walresetbug): have a newer one where several processes share a log.

It speaks to ``sqlite3`` directly: one batch must be few calls. Each call that a busy interpreter lets go of
its lock for may take 5 ms to get it back, so a statement per record turned a commit of 64 records into 230
ms beside one busy thread; one statement for many takes 16 ms.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from zt_agents.audit.chain import Head, decode, encode, link
from zt_agents.audit.records import AuditRecord
from zt_agents.audit.segments import Mark, Sealing
from zt_agents.audit.sink import AuditSource
from zt_agents.audit.tree import leaf_hash
from zt_agents.errors import AuditIntegrityError, AuditWriteError, StoreError
from zt_agents.stores.cut_files import bytes_cut_off, filled_up
from zt_agents.stores.file_access import AGAIN, beside, cause, identity, require_writable
from zt_agents.stores.sqlite_audit_file import (
    connect,
    create_log,
    filing,
    read_head,
    read_sealed,
    reading,
    schema_faults,
)
from zt_agents.stores.sqlite_audit_reading import SqliteSnapshot

_WIDTH = 7
_MAX_ROWS = 512
_VACUUM_STEP = 1000  # pages
_PUT_BACK = f"Calls are denied until it is put back; {AGAIN}"


class SqliteAuditSink:
    """Implements :class:`zt_agents.audit.sink.AuditSink`."""

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True, busy_timeout: float = 10.0) -> None:
        """Open the log at *path*.

        Args:
            path: The file; its folder must exist. A new one is readable by its owner only.
            create: Whether to create a log that does not exist, and to make sure now that it can be written.
            busy_timeout: Seconds to wait for other processes that append to the same log.

        Raises:
            AuditIntegrityError: the log is damaged.
            StoreError: there is no such log, it cannot be opened, or it is no audit log.
        """
        self.path = Path(path).absolute()
        self._busy_timeout = busy_timeout
        self._mutex = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        """Id of the process that opened the connection."""
        self._file: tuple[int, int] | None = None
        """Device and inode of the log. A file that takes its place is never accepted, whatever it holds:
        SQLite would mix the old file's write-ahead log into it."""
        self._beside: dict[Path, tuple[int, int] | None] = {}
        """The write-ahead log and its index, likewise. SQLite keeps both while anybody has the log open."""
        self._left_at: tuple[bytes, Head] | None = None
        """Log id and head as this process last saw them."""
        if create:
            with self._mutex, reading(self.path):
                create_log(self.path, busy_timeout)
                self._open()
        elif not self.path.is_file():
            raise StoreError(f"There is no audit log at {self.path}.")

    def append(self, records: Sequence[AuditRecord]) -> range:
        """Append *records* in one transaction and return their numbers; see :class:`AuditSink`."""
        encoded = [encode(record) for record in records]
        with self._mutex:
            try:
                return self._append(encoded)
            except sqlite3.Error as error:
                self._close()
                raise AuditWriteError(
                    f"The audit log {self.path} could not be written: {error}{cause(self.path)}.",
                    hint=f"Calls are denied until it can be; {AGAIN}",
                    details={"sqlite": getattr(error, "sqlite_errorname", "")},
                ) from error
            except BaseException:  # its transaction may be open: closed, it is rolled back
                self._close()
                raise

    def release(self) -> None:
        """Close the connection; the next append opens another."""
        with self._mutex:
            self._close()

    close = release

    @classmethod
    def copy_of(cls, source: AuditSource, path: Path) -> SqliteAuditSink:
        """Return a new log at *path* with the records of *source* under their numbers, to search in."""
        sink = cls(path)
        with source.snapshot() as snapshot, closing(connect(path, "rw", sink._busy_timeout)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("BEGIN")
            rows = (
                (seq, body, digest, *filing(decode(body) or {})) for seq, body, digest, _ in snapshot.stored()
            )
            connection.executemany(_insert(1), rows)
            if snapshot.head is not None:
                head = (snapshot.log_id, snapshot.head.seq, snapshot.head.hash)
                connection.execute("UPDATE head SET log_id = ?, seq = ?, hash = ?", head)
            connection.execute("COMMIT")
        sink.close()
        return sink

    @contextmanager
    def snapshot(self) -> Iterator[SqliteSnapshot]:
        """Open the log as it is now, for reading only. Of a file whose end was cut off, what is left is read."""
        with ExitStack() as opened:
            with reading(self.path):
                try:
                    snapshot = opened.enter_context(self._look(self.path))
                except sqlite3.DatabaseError:
                    if not (cut := bytes_cut_off(self.path)):
                        raise
                    snapshot = opened.enter_context(self._look(opened.enter_context(filled_up(self.path))))
                    snapshot.cut = cut
            yield snapshot

    @contextmanager
    def _look(self, path: Path) -> Iterator[SqliteSnapshot]:
        with closing(connect(path, "ro", self._busy_timeout)) as connection:
            connection.execute("BEGIN")
            yield SqliteSnapshot(connection, self.path, self._busy_timeout, file=path)

    def seal(self, sealing: Sealing, time: float, place: Callable[[], None]) -> Sealing:
        """Take what *sealing* says out of the log, once *place* has put the segment where it belongs.

        All in one transaction, in which *place* is called: whoever seals at the same time comes too late.

        Raises:
            AuditIntegrityError: the log no longer holds those records.
            AuditWriteError: nothing was sealed.
        """
        with self._mutex:
            try:
                return self._seal(sealing, time, place)
            except sqlite3.Error as error:
                self._close()
                raise AuditWriteError(f"The audit log {self.path} could not be sealed: {error}.") from error
            except BaseException:  # its transaction may be open: closed, it is rolled back
                self._close()
                raise

    def give_back_space(self) -> None:
        """Give the disk back what sealed records took, in small steps, as far as others let it."""
        with closing(connect(self.path, "rw", self._busy_timeout)) as connection, suppress(sqlite3.Error):
            while connection.execute("PRAGMA freelist_count").fetchone()[0]:
                connection.execute(f"PRAGMA incremental_vacuum({_VACUUM_STEP})").fetchall()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _append(self, encoded: Sequence[tuple[dict[str, Any], bytes]]) -> range:
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        log_id, head = self._continue_from(connection)
        seq, digest = head.seq, head.hash
        values: list[Any] = []
        for said, body in encoded:
            seq += 1
            digest = link(digest, leaf_hash(body))
            values += (seq, body, digest, *filing(said))
        start = 0
        for count in _portions(len(encoded)):
            stop = start + count * _WIDTH
            connection.execute(_insert(count), values[start:stop])
            start = stop
        connection.execute("UPDATE head SET seq = ?, hash = ?", (seq, digest))
        self._require_beside()
        connection.execute("COMMIT")
        self._left_at = (log_id, Head(seq, digest))
        return range(head.seq + 1, seq + 1)

    def _seal(self, sealing: Sealing, time: float, place: Callable[[], None]) -> Sealing:
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        log_id, head = self._continue_from(connection)
        known = read_sealed(connection)
        begin = known[-1].end if known else Mark.start(log_id)
        at_end = connection.execute("SELECT hash FROM record WHERE seq = ?", (sealing.end.seq,)).fetchone()
        if begin.seq + 1 != sealing.first or at_end != (sealing.end.hash,):
            raise AuditIntegrityError(f"The log no longer holds {sealing.span} as they were to be sealed.")
        noted = replace(sealing, noted=head.seq + 1)
        end, frontier = noted.end, b"".join(noted.end.frontier)
        body = noted.body(time)
        digest = link(head.hash, leaf_hash(body))
        connection.execute(_insert(1), (noted.noted, body, digest, *filing({"time": time})))
        row = (noted.first, end.seq, end.hash, frontier, noted.name, noted.sha256, noted.noted)
        connection.execute("INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute("DELETE FROM record WHERE seq <= ?", (end.seq,))
        connection.execute("UPDATE head SET seq = ?, hash = ?", (noted.noted, digest))
        place()
        self._require_beside()
        connection.execute("COMMIT")
        self._left_at = (log_id, Head(noted.noted, digest))
        return noted

    def _open(self) -> sqlite3.Connection:
        """Return the connection, once it is certain that it leads to the file at :attr:`path`."""
        try:
            status = self.path.stat()
        except OSError as error:
            raise AuditWriteError(f"The audit log {self.path} is gone.", hint=_PUT_BACK) from error
        if self._file not in (None, (status.st_dev, status.st_ino)):
            raise AuditIntegrityError(f"The audit log {self.path} was replaced by another file.", hint=_PUT_BACK)
        if self._connection is not None and self._process != os.getpid():
            raise AuditWriteError(
                f"The audit log {self.path} was carried across a fork.", hint="Open it in the child process."
            )
        if self._connection is None:
            require_writable(self.path)
            connection = connect(self.path, "rw", self._busy_timeout)
            try:
                self._require_schema(connection)
                if self._left_at is None:
                    self._continue_from(connection)
            except BaseException:  # not a connection that is half checked
                connection.close()
                raise
            self._connection, self._process = connection, os.getpid()
            self._file = (status.st_dev, status.st_ino)
            self._beside = {place: identity(place) for place in beside(self.path)}
        return self._connection

    def _require_beside(self) -> None:
        for place, known in self._beside.items():
            if known is None or identity(place) != known:
                raise AuditWriteError(
                    f"The file {place} was removed or replaced while the audit log was in use.",
                    hint=f"Leave it alone. The log is opened anew, and {AGAIN}",
                )

    def _require_schema(self, connection: sqlite3.Connection) -> None:
        if fault := next(schema_faults(connection), None):
            raise StoreError(f"{self.path} is not an audit log, or no longer one: {fault}")

    def _continue_from(self, connection: sqlite3.Connection) -> tuple[bytes, Head]:
        log_id, head = read_head(connection)
        if head is None or not isinstance(log_id, bytes):
            raise AuditIntegrityError(f"The audit log {self.path} has lost its head row.")
        if self._left_at is not None:
            known_id, known = self._left_at
            if log_id != known_id:
                raise AuditIntegrityError(f"The audit log {self.path} was replaced by another log.", hint=_PUT_BACK)
            if head.seq < known.seq or (head.seq == known.seq and head.hash != known.hash):
                raise AuditIntegrityError(
                    f"The audit log {self.path} was cut or changed: it ended at {known}, now at {head}.",
                    hint=_PUT_BACK,
                )
        self._left_at = (log_id, head)
        return log_id, head

    def _close(self) -> None:
        if self._connection is not None and self._process == os.getpid():  # a parent's is not ours to close
            self._connection.close()
            self._connection = None


def _portions(count: int) -> Iterator[int]:
    """Split *count* into few portions of few different sizes, so that their statements stay prepared."""
    while count >= _MAX_ROWS:
        yield _MAX_ROWS
        count -= _MAX_ROWS
    while count:
        portion = 1 << (count.bit_length() - 1)
        yield portion
        count -= portion


@functools.cache
def _insert(rows: int) -> str:
    one = f"({', '.join('?' * _WIDTH)})"
    return f"INSERT INTO record VALUES {', '.join([one] * rows)}"  # noqa: S608 - placeholders only
