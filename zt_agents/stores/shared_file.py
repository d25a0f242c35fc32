"""A SQLite file that several processes share, for work that is done seldom: opened, used in one transaction, closed.

Rules:

1. There is no connection to carry across a fork, or to find pointing at a file that was replaced.
2. A transaction that ends is durable (``synchronous=FULL``). ``BEGIN IMMEDIATE`` serialises the writers.
3. What is deleted is overwritten (``secure_delete``); :meth:`SharedFile.empty_wal` does so in the write-ahead log. What
   the disk, a snapshot or a backup still holds is beyond a file's reach.
4. The file is readable by its owner alone. A new one gets its name when it is whole: nobody opens half of it.
5. A file that was there and is gone is a failure: a new and empty one would have forgotten. So is another layout.
"""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from collections.abc import Hashable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from zt_agents.errors import ArgumentsError, StoreError
from zt_agents.stores.file_access import whole_file

_EARLIER = 0
"""What a file says that was made before files said what is in them."""
_DAMAGED = "It is damaged: put a copy of it back, or move it away to begin anew with nothing in it."
_GLANCE = 0.01
"""Seconds for which one glance at a file is enough for all."""


class SharedFile:
    """One file with one schema."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str,
        application_id: int,
        schema: Sequence[str],
        create: bool,
        busy_timeout: float,
        hint: str | None = None,
    ) -> None:
        """Name the file; it is opened, and a new one created, when it is first used.

        Args:
            path: the file; its folder must exist.
            name: what it is, for errors.
            application_id: SQLite's, by which a file is known to be one of these.
            schema: the statements that make a new one.
            create: whether to create a file that does not exist.
            busy_timeout: seconds to wait for other processes.
            hint: what an error says besides.
        """
        self.path = Path(path).absolute()
        self._watched = str(self.path), f"{self.path}-wal"  # texts: to look a path up costs twice as much
        self._name = name
        self._application_id = application_id
        self._schema = schema
        self._layout = zlib.crc32("\n".join(schema).encode()) >> 1
        self._create = create
        self._busy_timeout = busy_timeout
        self._hint = hint
        self._writes = 0
        self._glanced: tuple[int, Hashable, float] = (-1, None, 0.0)
        """After how many writes of this object, what was seen, and when on the monotonic clock."""

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that writes. Raises StoreError for whatever goes wrong in it, and then undoes it."""
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection  # whatever is raised here closes the connection, and so rolls back
            connection.execute("COMMIT")
        self._writes += 1

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that reads. Raises StoreError for whatever goes wrong in it."""
        with self._connected() as connection:
            connection.execute("BEGIN")
            yield connection

    def version(self) -> Hashable:
        """Return what the file system says of the file and its write-ahead log: it differs after a write."""
        file, wal = self._watched
        return _written(file), _written(wal)

    def glance(self) -> Hashable:
        """Return :meth:`version` as it was 10 ms ago at most, and never as it was before a write through this object.

        Among threads that compute, every question to the file system costs much more than its answer takes.
        """
        now = time.monotonic()
        writes, version, at = self._glanced
        if writes != self._writes or now - at >= _GLANCE:
            writes = self._writes  # before the look, so that what is written meanwhile is looked for again
            version = self.version()
            self._glanced = writes, version, now
        return version

    def empty_wal(self) -> bool:
        """Bring what is in the write-ahead log into the file and empty it. Returns whether no reader kept it."""
        with self._connected() as connection:
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._create:
                self._make()
            uri = f"{self.path.as_uri()}?mode=rw"
            with closing(
                sqlite3.connect(uri, uri=True, timeout=self._busy_timeout, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA trusted_schema = OFF")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA fullfsync = ON")  # macOS: a plain fsync stops at the drive's cache
                connection.execute("PRAGMA secure_delete = ON")
                if connection.execute("PRAGMA application_id").fetchone()[0] != self._application_id:
                    raise StoreError(f"{self.path} is not a {self._name}.")
                if connection.execute("PRAGMA user_version").fetchone()[0] not in (self._layout, _EARLIER):
                    text = f"The {self._name} {self.path} was made by another version of zt_agents."
                    raise StoreError(text, hint="Use that version, or move the file away when nothing in it is needed.")
                yield connection
        except (sqlite3.Error, OSError, ValueError, KeyError, TypeError, ArgumentsError) as error:
            # A message of SQLite or the system names files; one about a value could hold an argument.
            why = str(error) if isinstance(error, sqlite3.Error | OSError) else "it is damaged"
            damaged = type(error) is sqlite3.DatabaseError  # less its subclasses: locked, read-only, a full disk
            hint = f"{self._hint or ''} {_DAMAGED}".strip() if damaged else self._hint
            raise StoreError(f"The {self._name} {self.path} could not be used: {why}.", hint=hint) from error

    def _make(self) -> None:
        if self.path.exists():
            self._create = False
            return
        with (
            whole_file(self.path) as temporary,
            closing(sqlite3.connect(temporary, isolation_level=None)) as connection,
        ):
            for sql in self._schema:
                connection.execute(sql)
            connection.execute(f"PRAGMA application_id = {self._application_id}")
            connection.execute(f"PRAGMA user_version = {self._layout}")
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        self._create = False


def _written(path: str) -> tuple[int, int, int] | None:
    """Return which file is there, when it was written and its size; an empty one, as readers make them, is none."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size) if found.st_size else None
