"""Which notices of requests for approval were sent, and which wait, in one SQLite file beside the store of approvals.

Rules:

1. It holds no texts, arguments or addresses: ids of requests, names of destinations, and how far each notice has come.
2. An attempt is noted before it is made: a notice that may have arrived is known as one that may have.
3. A notice is kept until a while after its request has ended. So nothing is told twice of a request that still waits,
   and the file does not grow for ever.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from zt_agents.approvals.notices import NoticeEvent
from zt_agents.errors import StoreError
from zt_agents.stores.shared_file import SharedFile

_APPLICATION_ID = 0x7A744E4F  # "ztNO"
_SCHEMA = (
    "CREATE TABLE notice (request TEXT NOT NULL, event TEXT NOT NULL, destination TEXT NOT NULL, "
    "expires REAL NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL, not_before REAL NOT NULL, "
    "PRIMARY KEY (request, event, destination)) WITHOUT ROWID",
    "CREATE INDEX notice_waiting ON notice (destination, not_before, expires) WHERE state = 'waiting'",
    "CREATE TABLE destination (name TEXT PRIMARY KEY, failures INTEGER NOT NULL, not_before REAL NOT NULL) "
    "WITHOUT ROWID",
)


class NoticeState(StrEnum):
    """How far a notice has come."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    REFUSED = "refused"
    """Its destination will not take it, however often it is tried."""
    MOOT = "moot"
    """What it would have said is no longer so."""


class NewNotice(NamedTuple):
    """A notice that is not noted yet."""

    request: str
    event: NoticeEvent
    destination: str
    expires: float
    """When its request ends, in seconds since the epoch."""
    not_before: float = 0.0
    """When it is to be sent, likewise."""


class WaitingNotice(NamedTuple):
    """A notice that is to be sent."""

    request: str
    event: NoticeEvent
    attempts: int
    not_before: float
    """Seconds since the epoch."""


class Pause(NamedTuple):
    """How a destination is doing."""

    failures: int = 0
    """So many times in a row it took nothing."""
    not_before: float = 0.0
    """Until then it is left alone; seconds since the epoch."""


class SqliteNoticeStore:
    """Remembers, across restarts, what was told to whom."""

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = 10.0) -> None:
        self._file = SharedFile(
            path,
            name="store of notices",
            application_id=_APPLICATION_ID,
            schema=_SCHEMA,
            create=True,
            busy_timeout=busy_timeout,
            hint="Without it nobody could tell what was sent already.",
        )

    @property
    def path(self) -> Path:
        return self._file.path

    @classmethod
    def beside(cls, approvals: Path) -> SqliteNoticeStore:
        """Return the store of notices of the requests in the store *approvals*."""
        return cls(approvals.with_name(f"{approvals.name}.notices"))

    def add(self, notices: Iterable[NewNotice]) -> None:
        """Note what is to be sent. What is known stays as it is."""
        with self._file.writing() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO notice (request, event, destination, expires, not_before, state, attempts) "
                "VALUES (?, ?, ?, ?, ?, 'waiting', 0)",
                notices,
            )

    def open(self) -> Sequence[tuple[str, str, float]]:
        """Return request, destination and end of each question that is not noted as settled."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT request, destination, expires FROM notice n WHERE event = 'requested' AND NOT EXISTS (SELECT 1 "
                "FROM notice s WHERE s.request = n.request AND s.event = 'settled' AND s.destination = n.destination)"
            ).fetchall()
        _require_numbers(*(expires for _, _, expires in rows))
        return rows

    def settled(self, questions: Iterable[tuple[str, str]]) -> None:
        """Note that the question of each request and destination has been settled.

        Who was asked, or may have been, is told so. Who was not is asked no more.
        """
        with self._file.writing() as connection:
            for question in questions:
                connection.execute(
                    "INSERT OR IGNORE INTO notice SELECT request, 'settled', destination, expires, "
                    "iif(state = 'delivered' OR state != 'refused' AND attempts > 0, 'waiting', 'moot'), 0, 0 "
                    "FROM notice WHERE request = ? AND destination = ? AND event = 'requested'",
                    question,
                )
                connection.execute(
                    "UPDATE notice SET state = 'moot' WHERE request = ? AND destination = ? AND event <> 'settled' "
                    "AND state = 'waiting'",
                    question,
                )

    def next(self, destination: str) -> WaitingNotice | None:
        """Return the notice to try next: the one that may be tried first."""
        with self._file.reading() as connection:
            row = connection.execute(
                "SELECT request, event, attempts, not_before FROM notice WHERE destination = ? AND state = 'waiting' "
                "ORDER BY not_before, expires, request LIMIT 1",
                (destination,),
            ).fetchone()
        if row is None:
            return None
        _require_numbers(*row[2:])
        if row[1] not in set(NoticeEvent):
            raise _damaged()
        return WaitingNotice(row[0], NoticeEvent(row[1]), row[2], row[3])

    def is_late(self, destination: str, *, now: float) -> bool:
        """Return whether a notice waits that might have been sent by *now*."""
        with self._file.reading() as connection:
            sql = (
                "SELECT 1 FROM notice WHERE destination = ? AND state = 'waiting' AND (attempts > 0 OR not_before <= ?)"
            )
            return connection.execute(sql, (destination, now)).fetchone() is not None

    def pause(self, destination: str) -> Pause:
        """Return how *destination* is doing."""
        with self._file.reading() as connection:
            row = connection.execute(
                "SELECT failures, not_before FROM destination WHERE name = ?", (destination,)
            ).fetchone()
        _require_numbers(*row or ())
        return Pause(*row or ())

    def begin(self, destination: str, notice: WaitingNotice) -> None:
        """Note that *notice* is about to be sent."""
        with self._file.writing() as connection:
            _update(connection, "attempts = attempts + ?", 1, destination, notice)

    def end(self, destination: str, notice: WaitingNotice, state: NoticeState) -> None:
        """Note that *notice* will not be sent again, and why."""
        with self._file.writing() as connection:
            _update(connection, "state = ?", state, destination, notice)
            if state is NoticeState.DELIVERED:
                connection.execute("DELETE FROM destination WHERE name = ?", (destination,))

    def postpone(
        self, destination: str, notice: WaitingNotice, *, not_before: float, pause: Pause | None = None
    ) -> None:
        """Note that *notice* is to be sent again, and that its destination is not well where *pause* says so."""
        with self._file.writing() as connection:
            _update(connection, "not_before = ?", not_before, destination, notice)
            if pause is not None:
                connection.execute("INSERT OR REPLACE INTO destination VALUES (?, ?, ?)", (destination, *pause))

    def forget(self, *, before: float) -> Sequence[str]:
        """Forget requests that ended before that time. Returns the destination of each notice not sent until now."""
        with self._file.writing() as connection:
            rows = connection.execute(
                "DELETE FROM notice WHERE expires < ? RETURNING destination, state", (before,)
            ).fetchall()
        return [destination for destination, state in rows if state == NoticeState.WAITING]


def _require_numbers(*values: object) -> None:
    """Refuse what somebody else than this class has written: SQLite keeps texts where it was told of numbers."""
    if not all(isinstance(value, int | float) for value in values):
        raise _damaged()


def _damaged() -> StoreError:
    return StoreError("The store of notices is damaged.")


def _update(
    connection: sqlite3.Connection, what: str, value: str | float, destination: str, notice: WaitingNotice
) -> None:
    connection.execute(
        f"UPDATE notice SET {what} WHERE request = ? AND event = ? AND destination = ? AND state = 'waiting'",  # noqa: S608
        (value, notice.request, notice.event, destination),
    )
