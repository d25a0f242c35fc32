"""The file of an audit log: its schema, how it is opened, and what its columns hold.

Columns and indexes serve searching only. They hold checksums of 31 bits, so that a search reads few records that do not
match, and goes by the body in the end. Nothing is proven from them, and a schema that is not exactly ours, say with a
trigger that drops records, is refused.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from math import floor, inf
from pathlib import Path
from typing import Any, overload
from zlib import crc32

from zt_agents.audit.chain import Head, genesis
from zt_agents.audit.segments import Mark, Sealing
from zt_agents.audit.tree import HASH_SIZE
from zt_agents.errors import AuditIntegrityError, StoreError
from zt_agents.stores.file_access import whole_file

_APPLICATION_ID = 0x7A744155  # "ztAU"
_VERSION = 3
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
    "record_search": "CREATE INDEX record_search ON record (time, agent, user)",
    "record_decision": "CREATE INDEX record_decision ON record (decision)",
}
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
_PAUSE = 0.005
_FAR = 2**62  # seconds, beyond which a column need not tell times apart


def connect(path: Path, mode: str, busy_timeout: float) -> sqlite3.Connection:
    """Open *path* for reading (``ro``) or writing (``rw``); a write waits *busy_timeout* seconds for others."""
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
    except BaseException:  # nobody else has it yet
        connection.close()
        raise
    return connection


def create_log(path: Path, busy_timeout: float) -> None:
    """Make sure that there is a log at *path*: an existing one is left as it is."""
    if not path.parent.is_dir():
        raise StoreError(f"There is no folder {path.parent} for the audit log {path.name}.")
    try:
        if not path.exists():
            with whole_file(path) as temporary:
                _make_log(temporary, path, busy_timeout)
    except OSError as error:
        raise StoreError(f"The audit log {path} could not be created: {error.strerror}.") from error
    with closing(connect(path, "rw", busy_timeout)) as connection:
        (things,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        if things or application_id:
            require_format(connection, path)
            _require_wal(connection, path, busy_timeout)
            return
    _make_log(path, path, busy_timeout)  # somebody made an empty file


def _make_log(file: Path, path: Path, busy_timeout: float) -> None:
    """Make the empty *file* a log, which is, or will be, at *path*."""
    with closing(connect(file, "rw", busy_timeout)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # has an effect on a file that is still empty only
        connection.execute("BEGIN IMMEDIATE")
        (things,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if not things:  # otherwise another process was first
            log_id = os.urandom(16)
            for sql in _SCHEMA.values():
                connection.execute(sql)
            connection.execute("INSERT INTO head VALUES (1, ?, 0, ?)", (log_id, genesis(log_id)))
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
        _require_wal(connection, path, busy_timeout)


def _require_wal(connection: sqlite3.Connection, path: Path, busy_timeout: float) -> None:
    """Make the log use a write-ahead log. Others are waited for here: SQLite does not when it changes the mode."""
    end = time.monotonic() + busy_timeout
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError:
            if time.monotonic() >= end:
                raise
            time.sleep(_PAUSE)
    if mode != "wal":
        raise StoreError(f"{path} cannot use SQLite's write-ahead log.", hint="Put it on a local disk.")


def require_format(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse what is no audit log, or one of another format, with :class:`StoreError`."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise StoreError(f"{path} is not an audit log.")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != _VERSION:
        raise StoreError(
            f"{path} is an audit log of format {version or 1}, and this version of zt_agents reads format {_VERSION}.",
            hint="Begin a new log, and read the old one with the version that wrote it.",
        )


def schema_faults(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield how the schema differs from ours, a sentence each."""
    found = dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"))
    for name, sql in _SCHEMA.items():
        if name not in found:
            yield f"{name!r} is missing from the schema."
        elif found[name] != sql:
            yield f"{name!r} is not defined as it was when the log was created."
    for name in found.keys() - _SCHEMA.keys():
        yield f"{name!r} does not belong in the schema of an audit log."


def read_head(connection: sqlite3.Connection) -> tuple[Any, Head | None]:
    """Return log id and head as the head row has them; the head is None where it says nothing sound."""
    row = connection.execute("SELECT log_id, seq, hash FROM head").fetchone()
    if row is None or not (isinstance(row[1], int) and isinstance(row[2], bytes)):
        return None, None
    return row[0], Head(row[1], row[2])


def read_sealed(connection: sqlite3.Connection) -> list[Sealing]:
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


def filing(said: dict[str, Any]) -> tuple[int | None, int | None, int | None, int | None]:
    """Return what the columns hold for a record that says this: time, agent, user, decision."""
    get = said.get
    time, agent, user, decision = get("time"), get("agent"), get("user_id"), get("decision_id")
    return (
        floor(time) if type(time) is float and -_FAR < time < _FAR else second(time),
        _remembered(agent) if type(agent) is str else _odd(agent),
        _remembered(user) if type(user) is str else _odd(user),
        crc32(decision.encode()) >> 1 if type(decision) is str else _odd(decision),
    )


@overload
def checksum(text: str) -> int: ...
@overload
def checksum(text: str | None) -> int | None: ...
def checksum(text: str | None) -> int | None:
    """Return what a column holds for *text*: 31 bits take 4 bytes, 32 take 6.

    Text that is not valid Unicode has one, too: no record holds such text, but it can be searched for.
    """
    return None if text is None else crc32(text.encode("utf-8", "surrogatepass")) >> 1


def _odd(value: object) -> int | None:
    """Return what a column holds for a value that is no plain text; one of a kind of text is written as a text."""
    return checksum(value) if isinstance(value, str) else None


_remembered = functools.lru_cache(1024)(checksum)
"""For agents and users, of whom a log has few."""


def second(time: object) -> int | None:
    """Return what the column of times holds for *time*: whole seconds, or None where it is no time."""
    if isinstance(time, bool) or not isinstance(time, int | float) or not -inf < time < inf:
        return None
    return floor(max(-_FAR, min(time, _FAR)))


@contextmanager
def reading(path: Path) -> Iterator[None]:
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
