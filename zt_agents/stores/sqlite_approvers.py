"""Approvers in a SQLite file of their own: it is kept when the store of approvals is erased, and has other writers.

An administrator and the console write it; guards read it, and count there how often a standing approval was used.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from zt_agents.approvals import Enrolled
from zt_agents.stores.shared_file import SharedFile

_APPLICATION_ID = 0x7A744156  # "ztAV"
_SCHEMA = (
    "CREATE TABLE enrolled (id TEXT PRIMARY KEY, approver TEXT NOT NULL, kind TEXT NOT NULL, token TEXT NOT NULL, "
    "added_at REAL NOT NULL, about TEXT NOT NULL, removed_at REAL, until REAL) WITHOUT ROWID",
    "CREATE INDEX enrolled_approver ON enrolled (approver)",
    "CREATE INDEX enrolled_about ON enrolled (about)",
    "CREATE INDEX enrolled_until ON enrolled (until) WHERE until IS NOT NULL",
    "CREATE TABLE used (enrolled TEXT NOT NULL, by TEXT NOT NULL, PRIMARY KEY (enrolled, by)) WITHOUT ROWID",
    "CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE spent (id TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE attempt (name TEXT NOT NULL, at REAL NOT NULL)",
    "CREATE INDEX attempt_name ON attempt (name, at)",
)
_ADD = "INSERT INTO enrolled (id, approver, kind, token, added_at, about, until) VALUES (?, ?, ?, ?, ?, ?, ?)"
_SELECT = "SELECT id, approver, kind, token, added_at, about, until FROM enrolled WHERE removed_at IS NULL"

_FORGET = (
    "DELETE FROM used WHERE enrolled IN (SELECT id FROM enrolled WHERE until <= ?)",
    "DELETE FROM enrolled WHERE until <= ?",
)


class SqliteApproverRegistry:
    """Implements :class:`zt_agents.approvals.ApproverRegistry`."""

    def __init__(self, path: str | os.PathLike[str], *, create: bool = False, busy_timeout: float = 10.0) -> None:
        """Name the registry; its file is opened, and a new one created, when it is first used.

        Args:
            path: the file; its folder must exist.
            create: whether a write creates a file that does not exist. Until then nobody is known.
            busy_timeout: seconds to wait for other processes.
        """
        self._file = SharedFile(
            path,
            name="registry of approvers",
            application_id=_APPLICATION_ID,
            schema=_SCHEMA,
            create=create,
            busy_timeout=busy_timeout,
            hint="Answers that need a credential do not count until it can be.",
        )
        self._there = False

    @classmethod
    def beside(cls, approvals: Path, *, create: bool = False) -> SqliteApproverRegistry:
        """Return the registry that belongs to the store *approvals*."""
        return cls(approvals.with_name(f"{approvals.name}.approvers"), create=create)

    @property
    def path(self) -> Path:
        return self._file.path

    def add(self, enrolled: Enrolled) -> None:
        with self._file.writing() as connection:
            for sql in _FORGET:
                connection.execute(sql, (enrolled.added_at,))
            connection.execute(_ADD, astuple(enrolled))
        self._there = True

    def get(self, enrolled_id: str) -> Enrolled | None:
        if self._nobody():
            return None
        with self._file.reading() as connection:
            row = connection.execute(f"{_SELECT} AND id = ?", (enrolled_id,)).fetchone()
            return None if row is None else Enrolled(*row)

    def list(self, *, approver: str | None = None, kind: str = "", about: str = "") -> Sequence[Enrolled]:
        if self._nobody():
            return []
        wanted = {"approver = ?": approver, "kind = ?": kind, "about = ?": about}
        given = {sql: value for sql, value in wanted.items() if value}
        with self._file.reading() as connection:
            sql = " AND ".join((_SELECT, *given)) + " ORDER BY added_at, id"
            return [Enrolled(*row) for row in connection.execute(sql, tuple(given.values()))]

    def remove(self, approver: str, *, now: float, enrolled_id: str | None = None) -> int:
        with self._file.writing() as connection:
            removed = connection.execute(
                "UPDATE enrolled SET removed_at = ? "
                "WHERE removed_at IS NULL AND approver = ? AND (? IS NULL OR id = ?)",
                (now, approver, enrolled_id, enrolled_id),
            )
            return removed.rowcount

    def removed(self, approver: str, kind: str, *, since: float) -> bool:
        if self._nobody():
            return False
        with self._file.reading() as connection:
            sql = "SELECT 1 FROM enrolled WHERE approver = ? AND kind = ? AND removed_at >= ?"
            return connection.execute(sql, (approver, kind, since)).fetchone() is not None

    def use(self, enrolled_id: str, by: str, *, most: int) -> bool:
        with self._file.writing() as connection:
            if _used(connection, enrolled_id, by):
                return True
            if _uses(connection, enrolled_id) >= most:
                return False
            connection.execute("INSERT INTO used VALUES (?, ?)", (enrolled_id, by))
            return True

    def uses(self, enrolled_id: str) -> int:
        with self._file.reading() as connection:
            return _uses(connection, enrolled_id)

    def used(self, enrolled_id: str, by: str) -> bool:
        if self._nobody():
            return False
        with self._file.reading() as connection:
            return _used(connection, enrolled_id, by)

    def advance(self, counter: str, value: int) -> bool:
        with self._file.writing() as connection:
            advanced = connection.execute(
                "INSERT INTO counter VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE excluded.value > value",
                (counter, value),
            )
            return advanced.rowcount == 1

    def counter(self, counter: str) -> int | None:
        with self._file.reading() as connection:
            row = connection.execute("SELECT value FROM counter WHERE name = ?", (counter,)).fetchone()
            return None if row is None else int(row[0])

    def spend(self, token_id: str, *, until: float, now: float) -> bool:
        with self._file.writing() as connection:
            connection.execute("DELETE FROM spent WHERE until <= ?", (now,))
            spent = connection.execute("INSERT OR IGNORE INTO spent VALUES (?, ?)", (token_id, until))
            return spent.rowcount == 1

    def attempt(self, name: str, *, now: float, most: int, window: float) -> bool:
        with self._file.writing() as connection:
            connection.execute("DELETE FROM attempt WHERE at < ?", (now - window,))
            (before,) = connection.execute("SELECT count(*) FROM attempt WHERE name = ?", (name,)).fetchone()
            if before >= most:
                return False
            connection.execute("INSERT INTO attempt VALUES (?, ?)", (name, now))
            return True

    def forgive(self, name: str) -> None:
        with self._file.writing() as connection:
            connection.execute("DELETE FROM attempt WHERE name = ?", (name,))

    def _nobody(self) -> bool:
        """Return whether there is no registry yet. One that was there and is gone is a failure."""
        self._there = self._there or self.path.exists()
        return not self._there


def _uses(connection: sqlite3.Connection, enrolled_id: str) -> int:
    (uses,) = connection.execute("SELECT count(*) FROM used WHERE enrolled = ?", (enrolled_id,)).fetchone()
    return int(uses)


def _used(connection: sqlite3.Connection, enrolled_id: str, by: str) -> bool:
    row = connection.execute("SELECT 1 FROM used WHERE enrolled = ? AND by = ?", (enrolled_id, by)).fetchone()
    return row is not None
