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
4. Columns and indexes serve searching only. They hold checksums of 31 bits, so that a search reads few records
   that do not match, and goes by the body in the end. Nothing is proven from them, and a schema that is not
   exactly ours, say with a trigger that drops records, is refused.

SQLite before 3.51.3 can, in rare moments, lose pages when one process writes while another checkpoints
(https://sqlite.org/wal.html#walresetbug): have a newer one where several processes share a log.

It speaks to ``sqlite3`` directly: one batch must be few calls. Each call that a busy interpreter lets go of
its lock for may take 5 ms to get it back, so a statement per record turned a commit of 64 records into 230
ms beside one busy thread; one statement for many takes 16 ms.
"""

from __future__ import annotations

import functools
import itertools
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from math import floor, inf
from pathlib import Path
from typing import Any
from zlib import crc32

from zt_agents.audit.chain import Head, decode, encode, genesis, link
from zt_agents.audit.records import AuditRecord
from zt_agents.audit.segments import Mark, Sealing
from zt_agents.audit.sink import AuditSource, Filed, StoredRecord
from zt_agents.audit.tree import HASH_SIZE, leaf_hash
from zt_agents.errors import AuditIntegrityError, AuditWriteError, StoreError

_APPLICATION_ID = 0x7A744155  # "ztAU"
_VERSION = 2
_SCHEMA = {
    "head": (
        "CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), "
        "log_id BLOB NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL)"
    ),
    "record": (
        "CREATE TABLE record (seq INTEGER PRIMARY KEY, body BLOB NOT NULL, hash BLOB NOT NULL, "
        "time INTEGER, agent INTEGER, user INTEGER, decision INTEGER)"
    ),
    "segment": (
        "CREATE TABLE segment (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, hash BLOB NOT NULL, "
        "frontier BLOB NOT NULL, name TEXT NOT NULL, sha256 BLOB NOT NULL, noted INTEGER NOT NULL)"
    ),
    "record_time": "CREATE INDEX record_time ON record (time)",
    "record_decision": "CREATE INDEX record_decision ON record (decision)",
    "record_agent": "CREATE INDEX record_agent ON record (agent)",
    "record_user": "CREATE INDEX record_user ON record (user)",
}
_WIDTH = 7
_MAX_ROWS = 512
_VACUUM_STEP = 1000  # pages
_CHECK_CACHE = 65_536  # KiB: it looks each record up in each index, in no order
_FAR = 2**62  # seconds, beyond which a column need not tell times apart
_AGAIN = "it is tried again by itself."
_PUT_BACK = f"Calls are denied until it is put back; {_AGAIN}"
_CANNOT_REACH = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}


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
            with self._mutex, _reading(self.path):
                _create(self.path, busy_timeout)
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
                    f"The audit log {self.path} could not be written: {error}{_cause(self.path)}.",
                    hint=f"Calls are denied until it can be; {_AGAIN}",
                    details={"sqlite": getattr(error, "sqlite_errorname", "")},
                ) from error
            except BaseException:
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
        with source.snapshot() as snapshot, closing(_connect(path, "rw", sink._busy_timeout)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("BEGIN")
            rows = (
                (seq, body, digest, *_filing(decode(body) or {})) for seq, body, digest, _ in snapshot.stored()
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
        """Open the log as it is now, for reading only."""
        with _reading(self.path):
            connection = _connect(self.path, "ro", self._busy_timeout)
            try:
                connection.execute("BEGIN")
                snapshot = SqliteSnapshot(connection, self.path, self._busy_timeout)
            except BaseException:
                connection.close()
                raise
        try:
            yield snapshot
        finally:
            connection.close()

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
            except BaseException:
                self._close()
                raise

    def give_back_space(self) -> None:
        """Give the disk back what sealed records took, in small steps, as far as others let it."""
        with closing(_connect(self.path, "rw", self._busy_timeout)) as connection, suppress(sqlite3.Error):
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
            values += (seq, body, digest, *_filing(said))
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
        known = _sealed(connection)
        begin = known[-1].end if known else Mark.start(log_id)
        at_end = connection.execute("SELECT hash FROM record WHERE seq = ?", (sealing.end.seq,)).fetchone()
        if begin.seq + 1 != sealing.first or at_end != (sealing.end.hash,):
            raise AuditIntegrityError(f"The log no longer holds {sealing.span} as they were to be sealed.")
        noted = replace(sealing, noted=head.seq + 1)
        end, frontier = noted.end, b"".join(noted.end.frontier)
        body = noted.body(time)
        digest = link(head.hash, leaf_hash(body))
        connection.execute(_insert(1), (noted.noted, body, digest, *_filing({"time": time})))
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
            _require_writable(self.path)
            connection = _connect(self.path, "rw", self._busy_timeout)
            try:
                self._require_schema(connection)
                if self._left_at is None:
                    self._continue_from(connection)
            except BaseException:
                connection.close()
                raise
            self._connection, self._process = connection, os.getpid()
            self._file = (status.st_dev, status.st_ino)
            self._beside = {place: _identity(place) for place in _beside(self.path)}
        return self._connection

    def _require_beside(self) -> None:
        for place, known in self._beside.items():
            if known is None or _identity(place) != known:
                raise AuditWriteError(
                    f"The file {place} was removed or replaced while the audit log was in use.",
                    hint=f"Leave it alone. The log is opened anew, and {_AGAIN}",
                )

    def _require_schema(self, connection: sqlite3.Connection) -> None:
        if fault := next(_schema_faults(connection), None):
            raise StoreError(f"{self.path} is not an audit log, or no longer one: {fault}")

    def _continue_from(self, connection: sqlite3.Connection) -> tuple[bytes, Head]:
        log_id, head = _head(connection)
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


class SqliteSnapshot:
    """Implements :class:`zt_agents.audit.sink.Snapshot`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, busy_timeout: float) -> None:
        self._connection = connection
        self._path = path
        self._busy_timeout = busy_timeout
        _require_format(connection, path)
        self._schema_faults = list(_schema_faults(connection))
        known = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        self.log_id: Any = None
        self.head: Head | None = None
        if "head" in known:
            self.log_id, self.head = _head(connection)
        self.sealed = _sealed(connection) if "segment" in known else []
        log_id = self.log_id if isinstance(self.log_id, bytes) else b""
        self.begin = self.sealed[-1].end if self.sealed else Mark.start(log_id)

    def faults(self) -> Iterator[str]:
        yield from self._schema_faults
        with _reading(self._path):
            connection = _connect(self._path, "ro", self._busy_timeout)
            try:
                connection.execute(f"PRAGMA cache_size = -{_CHECK_CACHE}")
                for (text,) in connection.execute("PRAGMA integrity_check(10)"):
                    if text != "ok":
                        yield f"SQLite finds: {text}."
            finally:
                connection.close()

    def stored(self) -> Iterator[StoredRecord]:
        sql = "SELECT seq, body, hash, time, agent, user, decision FROM record ORDER BY seq"
        no_record, right, wrong = Filed.NO_RECORD, Filed.RIGHT, Filed.WRONG
        with _reading(self._path):
            for seq, body, digest, *filing in self._connection.execute(sql):
                said = decode(body)
                yield seq, body, digest, no_record if said is None else right if _filing(said) == filing else wrong

    def read(
        self,
        *,
        after: int = 0,
        since: float | None = None,
        until: float | None = None,
        agent: str | None = None,
        user: str | None = None,
        tool: str | None = None,
        decision_id: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[dict[str, Any]]:
        narrowing = {
            "seq > ?": after or None,
            "time >= ?": _second(since),
            "time <= ?": _second(until),
            "agent = ?": _checksum(agent),
            "user = ?": _checksum(user),
            "decision = ?": _checksum(decision_id),
        }
        given = {test: value for test, value in narrowing.items() if value is not None}
        names = {"agent": agent, "user_id": user, "tool": tool, "decision_id": decision_id}
        wanted = {name: value for name, value in names.items() if value is not None}
        where = f"WHERE {' AND '.join(given)} " if given else ""
        order = "DESC" if newest_first else "ASC"
        sql = f"SELECT seq, body, hash FROM record {where}ORDER BY seq {order}"  # noqa: S608 - constants only
        with _reading(self._path):
            rows = self._connection.execute(sql, list(given.values()))
            found = (record for row in rows if _matches(record := _record(row), wanted, since, until))
            yield from itertools.islice(found, limit)


def _record(row: tuple[Any, Any, Any]) -> dict[str, Any]:
    seq, body, digest = row
    values = decode(body)
    return {
        **({"unreadable": True} if values is None else values),
        "seq": seq,
        "hash": digest.hex() if isinstance(digest, bytes) else "",
    }


def _matches(record: dict[str, Any], wanted: dict[str, str], since: float | None, until: float | None) -> bool:
    for name, value in wanted.items():
        if record.get(name) != value:
            return False
    if since is None and until is None:
        return True
    time = record.get("time")
    return (
        isinstance(time, int | float)
        and not isinstance(time, bool)
        and (since is None or time >= since)
        and (until is None or time < until)
    )


def _filing(said: dict[str, Any]) -> list[int | None]:
    """Return what the columns hold for a record that says this: time, agent, user, decision."""
    time, agent, user, decision = map(said.get, ("time", "agent", "user_id", "decision_id"))
    return [
        floor(time) if type(time) is float and -_FAR < time < _FAR else _second(time),
        crc32(agent.encode()) >> 1 if isinstance(agent, str) else None,  # 31 bits take 4 bytes, 32 take 6
        crc32(user.encode()) >> 1 if isinstance(user, str) else None,
        crc32(decision.encode()) >> 1 if isinstance(decision, str) else None,
    ]


def _checksum(text: str | None) -> int | None:
    return None if text is None else crc32(text.encode()) >> 1


def _second(time: object) -> int | None:
    if isinstance(time, bool) or not isinstance(time, int | float) or not -inf < time < inf:
        return None
    return floor(max(-_FAR, min(time, _FAR)))


def _connect(path: Path, mode: str, busy_timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_timeout,
        isolation_level=None,
        check_same_thread=False,  # the sink's own lock serialises its users
    )
    try:
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        connection.execute("PRAGMA trusted_schema = OFF")
        if mode == "rw":
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")  # macOS: a plain fsync stops at the drive's cache
    except BaseException:
        connection.close()
        raise
    return connection


def _create(path: Path, busy_timeout: float) -> None:
    if not path.parent.is_dir():
        raise StoreError(f"There is no folder {path.parent} for the audit log {path.name}.")
    try:  # exclusively: closing a file that SQLite has open in this process would drop SQLite's locks on it
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreError(f"The audit log {path} could not be created: {error.strerror}.") from error
    connection = _connect(path, "rw", busy_timeout)
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # has an effect on a file that is still empty only
        connection.execute("BEGIN IMMEDIATE")
        (things,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        if things == application_id == 0:
            log_id = os.urandom(16)
            for sql in _SCHEMA.values():
                connection.execute(sql)
            connection.execute("INSERT INTO head VALUES (1, ?, 0, ?)", (log_id, genesis(log_id)))
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        else:
            _require_format(connection, path)
        connection.execute("COMMIT")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreError(f"{path} cannot use SQLite's write-ahead log.", hint="Put it on a local disk.")
    finally:
        connection.close()


def _require_format(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise StoreError(f"{path} is not an audit log.")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != _VERSION:
        raise StoreError(
            f"{path} is an audit log of format {version or 1}, and this version of zt_agents reads format {_VERSION}.",
            hint="Begin a new log, and read the old one with the version that wrote it.",
        )


def _schema_faults(connection: sqlite3.Connection) -> Iterator[str]:
    found = dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"))
    for name, sql in _SCHEMA.items():
        if name not in found:
            yield f"{name!r} is missing from the schema."
        elif found[name] != sql:
            yield f"{name!r} is not defined as it was when the log was created."
    for name in found.keys() - _SCHEMA.keys():
        yield f"{name!r} does not belong in the schema of an audit log."


def _head(connection: sqlite3.Connection) -> tuple[Any, Head | None]:
    row = connection.execute("SELECT log_id, seq, hash FROM head").fetchone()
    if row is None or not (isinstance(row[1], int) and isinstance(row[2], bytes)):
        return None, None
    return row[0], Head(row[1], row[2])


def _sealed(connection: sqlite3.Connection) -> list[Sealing]:
    """Return what was noted, values of a wrong kind replaced by such as are never sound."""
    found = []
    sql = "SELECT first, last, hash, frontier, name, sha256, noted FROM segment ORDER BY first"
    for first, last, digest, frontier, name, sha256, noted in connection.execute(sql):
        parts = frontier if isinstance(frontier, bytes) else b"?"
        hashes = tuple(parts[at : at + HASH_SIZE] for at in range(0, len(parts), HASH_SIZE))
        end = Mark(
            last if isinstance(last, int) else -1, digest if isinstance(digest, bytes) else b"", hashes
        )
        known = sha256 if isinstance(sha256, bytes) else b""
        found.append(Sealing(first, end, str(name), known, noted if isinstance(noted, int) else 0))
    return found


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


def _require_writable(path: Path) -> None:
    """Refuse a log that SQLite would open for reading only, and undo what such an opening has left behind.

    SQLite gives the files beside the log the log's own permissions. One made while the log was read-only stays so,
    and nothing could be written when the log itself may be again.
    """
    if not os.access(path, os.W_OK):
        raise AuditWriteError(
            f"The audit log {path} could not be written{_cause(path)}.",
            hint=f"Calls are denied until it can be; {_AGAIN}",
        )
    for place in _beside(path):
        if place.is_file() and not place.is_symlink() and not os.access(place, os.W_OK):
            with suppress(OSError):
                place.chmod(path.stat().st_mode & 0o777)


def _cause(path: Path) -> str:
    """Return what the system says is wrong with the place of *path*: SQLite often only says that it cannot open it."""
    try:
        disk = os.statvfs(path.parent)
    except (AttributeError, OSError):  # Windows has no statvfs
        return ""
    if disk.f_flag & os.ST_RDONLY:
        return " (its disk is read-only)"
    if not disk.f_bavail:
        return " (its disk is full)"
    places = [place for place in (path.parent, path, *_beside(path)) if place.exists()]
    denied = [place for place in places if not os.access(place, os.W_OK)]
    return f" (this process may not write to {denied[0]})" if denied else ""


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Translate SQLite's errors: out of reach is a StoreError, damaged is an AuditIntegrityError."""
    try:
        yield
    except UnicodeDecodeError as error:  # raised for SQLite's own message, where that quotes a damaged schema
        raise AuditIntegrityError(f"The audit log {path} is damaged.") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in _CANNOT_REACH:
            raise StoreError(f"The audit log {path} could not be opened: {error}.") from error
        raise AuditIntegrityError(f"The audit log {path} is damaged: {error}.") from error
