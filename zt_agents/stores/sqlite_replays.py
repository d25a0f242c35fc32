"""Which tokens were admitted, in a SQLite file that the workers of a service share.

Each admission is one transaction that is seen by all at once: a service that is killed admits no token again; nor does
one whose machine loses power, unless it says that its tokens do not outlive that.
"""

from __future__ import annotations

import os
import sqlite3
import threading

from zt_agents.errors import StoreError
from zt_agents.stores.file_access import identity
from zt_agents.stores.shared_file import SharedFile

_APPLICATION_ID = 0x7A745250  # "ztRP"
_SCHEMA = (
    "CREATE TABLE admitted (token TEXT PRIMARY KEY, used INTEGER NOT NULL, until REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX admitted_until ON admitted (until)",
)
_ADMIT = (
    "INSERT INTO admitted VALUES (?, 1, ?) ON CONFLICT (token) DO UPDATE SET used = used + 1 WHERE used < ? "
    "RETURNING used"
)


class SqliteReplays:
    """Implements :class:`zt_agents.credentials.Replays`."""

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = 5.0, durable: bool = True) -> None:
        """Name the file; it is made when it is first used.

        Args:
            path: the file; its folder must exist.
            busy_timeout: seconds to wait for other workers.
            durable: whether each admission waits for the disk, and so outlives a loss of power; otherwise the file
                stays open, and must not be taken across a fork.
        """
        self._busy_timeout = busy_timeout
        self._durable = durable
        self._lock = threading.Lock()
        self._open: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        """Device and inode of the file that is open."""
        self._file = SharedFile(
            path,
            name="store of admitted tokens",
            application_id=_APPLICATION_ID,
            schema=_SCHEMA,
            create=True,
            busy_timeout=busy_timeout,
            hint="No token is admitted until it can be.",
        )

    def admit(self, token: str, *, uses: int, until: float, now: float) -> bool:
        if not self._durable:
            return self._admit_fast(token, uses, until, now)
        with self._file.writing() as connection:
            return _admitted(connection, token, uses, until, now)

    def close(self) -> None:
        """Close the file, if it stayed open; it is opened again when it is needed."""
        with self._lock:
            self._drop()

    def _admit_fast(self, token: str, uses: int, until: float, now: float) -> bool:
        with self._lock:
            try:
                connection = self._connection()
                connection.execute("BEGIN IMMEDIATE")
                good = _admitted(connection, token, uses, until, now)
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._drop()
                text = f"The store of admitted tokens {self._file.path} could not be used: {error}."
                raise StoreError(text, hint="No token is admitted until it can be.") from error
            return good

    def _connection(self) -> sqlite3.Connection:
        if self._open is None:
            with self._file.writing():  # made, if it was never there, and found to be one of these
                pass
            self._opened = identity(self._file.path)
            self._open = sqlite3.connect(
                self._file.path, timeout=self._busy_timeout, isolation_level=None, check_same_thread=False
            )
            self._open.execute("PRAGMA trusted_schema = OFF")
            self._open.execute("PRAGMA synchronous = NORMAL")
        elif identity(self._file.path) != self._opened:
            self._drop()
            raise StoreError(f"The store of admitted tokens {self._file.path} was taken away or exchanged.")
        return self._open

    def _drop(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def _admitted(connection: sqlite3.Connection, token: str, uses: int, until: float, now: float) -> bool:
    connection.execute("DELETE FROM admitted WHERE until <= ?", (now,))
    return connection.execute(_ADMIT, (token, until, uses)).fetchone() is not None
