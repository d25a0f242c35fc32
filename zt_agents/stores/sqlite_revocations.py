"""Revocations in one SQLite file, which all guards of a machine watch.

Rules:

1. A revocation that was made is durable. The process that made it refuses from its next decision on, every other one
   that has the file 10 ms later: a call compares what the file system says of it (:meth:`SharedFile.version`), unless
   another did within that time. Times of files are coarse, so that two writes can look like one: whatever they say, the
   file is read again after a quarter of a second.
2. What was read counts for *max_staleness* seconds at most, by a clock that nobody sets. After that nothing is known,
   and ``find`` raises.
3. A file that is gone, is another one, or is older than what was read of it before is a failure, and not "nothing was
   revoked". So that this holds after a restart, too, the file ``<store>.id`` beside it names the store that was made.
4. No clock ends a revocation. That of a session or a token is forgotten after a week, when no such token is left, by
   the time of the machine that makes another one; everything else stays until it is lifted.
5. A reader reads what is new. It reads all again when something was forgotten.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Hashable, Sequence
from contextlib import suppress
from pathlib import Path

from zt_agents.errors import StoreError
from zt_agents.identity.revocations import Bearing, Revocation, RevocationIndex, Revoked, new_revocation
from zt_agents.stores.shared_file import SharedFile
from zt_agents.stores.store_mark import StoreMark

_APPLICATION_ID = 0x7A745256  # "ztRV"
_SCHEMA = (
    "CREATE TABLE store (id TEXT NOT NULL, generation INTEGER NOT NULL, forgot INTEGER NOT NULL)",
    "INSERT INTO store VALUES (lower(hex(randomblob(16))), 0, 0)",
    "CREATE TABLE revocation (id TEXT PRIMARY KEY, generation INTEGER NOT NULL UNIQUE, kind TEXT NOT NULL, "
    "value TEXT NOT NULL, at REAL NOT NULL, by TEXT NOT NULL, why TEXT NOT NULL, lifted_at REAL, forget_at REAL) "
    "WITHOUT ROWID",
    "CREATE INDEX forgettable ON revocation (forget_at) WHERE forget_at IS NOT NULL",
)
_IN_FORCE = "SELECT id, kind, value, at, by, why FROM revocation WHERE lifted_at IS NULL"
_GLANCE = 0.01
"""Seconds for which one glance at what the file system says is enough for all calls."""
_LOOK = 0.25
"""Seconds after which the file is read again though nobody seems to have written."""
_AGAIN = 0.05
"""Seconds between two tries to read a file that could not be."""
_READ_TIMEOUT = 0.5
"""Seconds for which a reader waits for others: a call waits as long."""
_WEEK = 7 * 86_400.0
_FORGOTTEN_AT_ONCE = 1_000
"""What can be forgotten gathers: all readers read everything again then."""
_SHORT_LIVED = (Revoked.SESSION, Revoked.TOKEN)
_HINT = "Calls are denied until it can be."


class SqliteRevocations:
    """Implements :class:`zt_agents.identity.revocations.RevocationStore`. Safe to share between threads."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_staleness: float = 5.0,
        create: bool = True,
        busy_timeout: float = 10.0,
    ) -> None:
        """Name the store; its file is opened, and a new one created, by :meth:`open` or when it is first used.

        Args:
            path: the file; its folder must exist.
            max_staleness: seconds for which what was read counts while the file cannot be read.
            create: whether to create a file that does not exist, and never did.
            busy_timeout: seconds for which a writer waits for others.
        """
        self.path = Path(path).absolute()
        self._mark = StoreMark(self.path, name="store of revocations", anew="nothing revoked", hint=_HINT)
        self._max_staleness = max_staleness
        self._file = self._shared(create=create and not self._mark.exists(), busy_timeout=busy_timeout)
        self._watched = self._shared(create=False, busy_timeout=_READ_TIMEOUT)
        self._id = ""
        self._generation = -1
        self._index = RevocationIndex()
        self._seen: Hashable = None
        self._glanced_at = self._read_at = self._tried_at = float("-inf")
        self._failure: StoreError | None = None
        self._lock = threading.Lock()
        _opened.add(self)

    def open(self) -> None:
        """Open the file, and make a new one where there never was one.

        Raises:
            StoreError: it cannot be used, or is not the one that was used here before.
        """
        with self._lock:
            if not self._id:
                self._identify()
            self._read()

    def find(self, bearing: Bearing, *, now: float) -> Revocation | None:
        began = time.monotonic()
        if began - self._glanced_at >= _GLANCE:
            if began - self._read_at >= _LOOK or self._watched.version() != self._seen:
                self._refresh(began)
            self._glanced_at = began
        return self._index.find(bearing)

    def revoke(self, kind: Revoked, value: str, *, by: str, why: str, now: float) -> Revocation:
        made = new_revocation(kind, value, by=by, why=why, now=now)
        forget_at = now + _WEEK if kind in _SHORT_LIVED else None
        self._ensure()
        with self._file.writing() as connection:
            generation = self._advance(connection)
            _forget(connection, now, generation)
            connection.execute(
                "INSERT INTO revocation VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?)",
                (made.id, generation, made.kind, made.value, made.at, made.by, made.why, forget_at),
            )
        self._look()
        return made

    def lift(self, revocation_id: str, *, now: float) -> Revocation | None:
        self._ensure()
        with self._file.writing() as connection:
            row = connection.execute(f"{_IN_FORCE} AND id = ?", (revocation_id,)).fetchone()
            if row is None:
                return None
            lifted = _revocation(row)
            connection.execute(
                "UPDATE revocation SET generation = ?, lifted_at = ?, forget_at = ? WHERE id = ?",
                (self._advance(connection), now, now + _WEEK, revocation_id),
            )
        self._look()
        return lifted

    def list(self) -> Sequence[Revocation]:
        self._ensure()
        with self._file.reading() as connection:
            self._check(connection)
            return [_revocation(row) for row in connection.execute(f"{_IN_FORCE} ORDER BY generation")]

    # -- reading --------------------------------------------------------------------------------------------------

    def _refresh(self, began: float) -> None:
        """Read what is new; raise if that cannot be done and what is known is too old."""
        with self._lock:
            if self._read_at >= began:  # another thread has read since this one was asked
                return
            if began - self._tried_at >= _AGAIN or self._failure is None:
                try:
                    if not self._id:
                        self._identify()
                    self._read()
                except StoreError as error:
                    self._failure = error
            if time.monotonic() - self._read_at <= self._max_staleness:
                return
            failure = self._failure
        why = failure.message if failure is not None else "The store of revocations was not read."
        raise StoreError(f"Nobody can tell what was revoked. {why}", hint=_HINT) from failure

    def _read(self) -> None:
        self._tried_at = began = time.monotonic()
        version = self._watched.version()  # before what it stands for: at worst, it is read once too often
        with self._watched.reading() as connection:
            generation, forgot = self._check(connection)
            whole = self._generation < forgot
            index = RevocationIndex() if whole else self._index
            rows = connection.execute(
                "SELECT lifted_at, id, kind, value, at, by, why FROM revocation WHERE generation > ?",
                (-1 if whole else self._generation,),
            )
            for lifted_at, *row in rows if generation != self._generation else ():
                if lifted_at is None:
                    index.add(_revocation(row))
                else:
                    index.remove(row[0])
        self._index, self._generation = index, generation
        self._seen, self._failure, self._read_at = version, None, began

    def _look(self) -> None:
        """Read what was just written; who asks next reads it otherwise."""
        self._glanced_at = float("-inf")
        with suppress(StoreError), self._lock:
            if self._generation >= 0:  # who only writes need not read all that there is
                self._read()

    # -- the file itself ------------------------------------------------------------------------------------------

    def _shared(self, *, create: bool, busy_timeout: float) -> SharedFile:
        return SharedFile(
            self.path,
            name="store of revocations",
            application_id=_APPLICATION_ID,
            schema=_SCHEMA,
            create=create,
            busy_timeout=busy_timeout,
            hint=_HINT,
        )

    def _ensure(self) -> None:
        with self._lock:
            if not self._id:
                self._identify()

    def _identify(self) -> None:
        """Learn which store this is, and that it is the one that was made here."""
        try:
            with self._file.reading() as connection:
                (found,) = connection.execute("SELECT id FROM store").fetchone()
        except StoreError as error:
            if self._mark.exists() and not self.path.exists():
                raise self._mark.gone() from error
            raise
        self._mark.check(found)
        self._id = found

    def _check(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """Return how far the store has come, and how far it had when it last forgot something."""
        found, generation, forgot = connection.execute("SELECT id, generation, forgot FROM store").fetchone()
        if found != self._id:
            raise StoreError(f"The store of revocations {self.path} was replaced by another one.", hint=_HINT)
        if generation < self._generation:
            raise StoreError(f"The store of revocations {self.path} was replaced by an older one.", hint=_HINT)
        return generation, forgot

    def _advance(self, connection: sqlite3.Connection) -> int:
        generation, _ = self._check(connection)
        connection.execute("UPDATE store SET generation = ?", (generation + 1,))
        return generation + 1


def _forget(connection: sqlite3.Connection, now: float, generation: int) -> None:
    """Forget what cannot matter any more, once there is enough of it."""
    (old,) = connection.execute("SELECT count(*) FROM revocation WHERE forget_at < ?", (now,)).fetchone()
    if old >= _FORGOTTEN_AT_ONCE:
        connection.execute("DELETE FROM revocation WHERE forget_at < ?", (now,))
        connection.execute("UPDATE store SET forgot = ?", (generation,))


def _revocation(row: Sequence[object]) -> Revocation:
    made, kind, value, at, by, why = row
    if not isinstance(at, float) or not all(isinstance(text, str) for text in (made, value, by, why)):
        raise ValueError("what is stored is no revocation")
    return Revocation(str(made), Revoked(str(kind)), str(value), at, str(by), str(why))


_opened: weakref.WeakSet[SqliteRevocations] = weakref.WeakSet()


def _after_fork() -> None:
    for store in list(_opened):
        store._lock = threading.Lock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
