"""Approvals in one SQLite file, which several processes share.

Rules:

1. Every method is one transaction of a :class:`SharedFile`. Whoever finds the state changed already is told what it is.
2. The file holds arguments, because a human decides on them: what was decided is erased after the policy's retention.
3. What is done for each held call costs the same however many others wait, or were decided: no statement scans.
"""

from __future__ import annotations

import math
import os
import sqlite3
import sys
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import orjson

from zt_agents.approvals import (
    Answer,
    ApprovalRequest,
    ApprovalState,
    Edit,
    StoredApproval,
    read_request,
    write_request,
)
from zt_agents.errors import ArgumentsError, StoreError
from zt_agents.stores.shared_file import SharedFile

_APPLICATION_ID = 0x7A744150  # "ztAP"
_REMEMBERED = 86_400.0
"""Seconds for which it is remembered that a grant was used, after all else was erased."""
_SCHEMA = (
    "CREATE TABLE request (id TEXT PRIMARY KEY, binding TEXT NOT NULL UNIQUE, state TEXT NOT NULL, body BLOB, "
    "asked_at REAL NOT NULL, expires_at REAL NOT NULL, decided_at REAL, grant_token TEXT NOT NULL, consumed_at REAL, "
    "noticed_at REAL) "
    "WITHOUT ROWID",
    "CREATE TABLE answer (request TEXT NOT NULL, person TEXT NOT NULL, approved INTEGER NOT NULL, "
    "seq INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (request, person, approved)) WITHOUT ROWID",
    "CREATE TABLE slot (name TEXT PRIMARY KEY, binding TEXT NOT NULL, request_expires REAL NOT NULL) WITHOUT ROWID",
    # The state is in them so that SQLite before 3.43 need not look into the table, behind the bodies, for it.
    "CREATE INDEX waiting ON request (asked_at, id, expires_at, state) WHERE state = 'pending'",
    "CREATE INDEX running_out ON request (expires_at, state) WHERE state = 'pending'",
    "CREATE INDEX decided ON request (decided_at) WHERE body IS NOT NULL",
    "CREATE INDEX erased ON request (decided_at) WHERE body IS NULL",
    "CREATE INDEX shown ON slot (request_expires)",
)
_BATCH = 500
"""Requests that are erased in one step: some 50 ms in which nobody else can write."""
_RUN_OUT = (
    "UPDATE request SET state = 'expired', decided_at = expires_at WHERE id IN "
    "(SELECT id FROM request WHERE state = 'pending' AND expires_at < ? ORDER BY expires_at, id LIMIT ?)"
)
_OLD = "SELECT id FROM request WHERE body IS NOT NULL AND decided_at < ? ORDER BY decided_at, id LIMIT ?"
_ERASE = (
    f"DELETE FROM answer WHERE request IN ({_OLD})",  # noqa: S608 - constants only
    f"UPDATE request SET body = NULL, grant_token = '' WHERE id IN ({_OLD})",  # noqa: S608 - constants only
)
_FORGET = (
    "DELETE FROM request WHERE body IS NULL AND decided_at < ?",
    "DELETE FROM slot WHERE request_expires < ?",
)
_WAITING = "FROM request WHERE state = 'pending' AND expires_at > ?"
_UNREADABLE = (ValueError, KeyError, TypeError, ArgumentsError)
_SELECT = "SELECT id, binding, state, body, grant_token, decided_at, consumed_at, noticed_at FROM request"


class SqliteApprovalStore:
    """Implements :class:`zt_agents.approvals.ApprovalStore`."""

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True, busy_timeout: float = 10.0) -> None:
        """Name the store; its file is opened, and a new one created, when it is first used.

        Args:
            path: the file; its folder must exist.
            create: whether to create a file that does not exist.
            busy_timeout: seconds to wait for other processes.
        """
        self._file = SharedFile(
            path,
            name="store of approvals",
            application_id=_APPLICATION_ID,
            schema=_SCHEMA,
            create=create,
            busy_timeout=busy_timeout,
            hint="Calls that need a human are denied until it can be.",
        )

    @property
    def path(self) -> Path:
        return self._file.path

    def put(self, request: ApprovalRequest) -> StoredApproval:
        with self._file.writing() as connection:
            found = _one(connection, "binding", request.binding_hash)
            if found is not None:
                return found
            connection.execute(
                "INSERT INTO request VALUES (?, ?, 'pending', ?, ?, ?, NULL, '', NULL, NULL)",
                (
                    request.id,
                    request.binding_hash,
                    write_request(request),
                    request.call.time,
                    request.expires_at,
                ),
            )
            return StoredApproval(request.id, request.binding_hash, ApprovalState.PENDING, request)

    def version(self) -> Hashable:
        return self._file.version()

    def get(self, request_id: str) -> StoredApproval | None:
        with self._file.reading() as connection:
            return _one(connection, "id", request_id)

    def find(self, binding_hash: str) -> StoredApproval | None:
        with self._file.reading() as connection:
            return _one(connection, "binding", binding_hash)

    def pending(
        self, *, limit: int | None = None, after: str | None = None, now: float | None = None
    ) -> Sequence[StoredApproval]:
        with self._file.reading() as connection:
            place = connection.execute("SELECT asked_at, id FROM request WHERE id = ?", (after,)).fetchone()
            return _listed(
                connection,
                f"SELECT id {_WAITING} AND (asked_at, id) > (?, ?) ORDER BY asked_at, id LIMIT ?",
                (_since(now), *(place or (-math.inf, "")), -1 if limit is None else limit),
            )

    def pending_ids(self, *, now: float | None = None) -> Sequence[str]:
        with self._file.reading() as connection:
            return _ids(connection, f"SELECT id {_WAITING} ORDER BY asked_at, id", (_since(now),))

    def answered(self, person: str) -> Sequence[str]:
        with self._file.reading() as connection:
            return _ids(
                connection,
                "SELECT id FROM request WHERE state = 'pending' "
                "AND EXISTS (SELECT 1 FROM answer WHERE request = id AND person > ? AND person < ?)",
                (f"{person}#", f"{person}$"),  # what follows the name begins with #, and $ comes after that
            )

    def count_pending(self, *, now: float | None = None) -> int:
        with self._file.reading() as connection:
            return int(connection.execute(f"SELECT count(*) {_WAITING}", (_since(now),)).fetchone()[0])

    def named(self, beginning: str, *, limit: int) -> Sequence[StoredApproval]:
        with self._file.reading() as connection:
            return _listed(
                connection,
                "SELECT id FROM request WHERE id >= ? AND id < ? ORDER BY state <> 'pending', id LIMIT ?",
                (beginning, beginning + chr(sys.maxunicode), limit),
            )

    def file(self, request_id: str, person: str, answer: Answer, *, now: float) -> bool:
        edit = [dict(answer.edit.arguments), answer.edit.proof] if answer.edit is not None else None
        body = orjson.dumps([answer.approver, answer.groups, answer.comment, answer.proof, edit, answer.factor])
        with self._file.writing() as connection:
            row = connection.execute("SELECT state, binding, expires_at FROM request WHERE id = ?", (request_id,))
            found = row.fetchone()
            if found is None or found[:2] != ("pending", answer.binding_hash) or now >= found[2]:
                return False
            (seq,) = connection.execute("SELECT count(*) FROM answer WHERE request = ?", (request_id,)).fetchone()
            new = connection.execute(
                "INSERT OR IGNORE INTO answer VALUES (?, ?, ?, ?, ?)",
                (request_id, person, int(answer.approved), seq, body),
            )
            return new.rowcount == 1

    def settle(
        self, request_id: str, state: ApprovalState, *, now: float, grant: str = "", answers: int | None = None
    ) -> StoredApproval:
        if state is ApprovalState.PENDING or (state is ApprovalState.APPROVED) != bool(grant):
            raise ValueError("a request is settled for good, and approved with a grant or not at all")
        with self._file.writing() as connection:
            connection.execute(
                "UPDATE request SET state = ?, decided_at = ?, grant_token = ? WHERE id = ? AND state = 'pending' "
                "AND ifnull(?, (SELECT count(*) FROM answer WHERE request = id)) = "
                "(SELECT count(*) FROM answer WHERE request = id)",
                (state, now, grant, request_id, answers),
            )
            found = _one(connection, "id", request_id)
        if found is None:
            raise StoreError("The request for approval is not in the store.")
        return found

    def notice(self, *request_ids: str, now: float) -> None:
        if not request_ids:
            return
        with self._file.writing() as connection:
            connection.executemany(
                "UPDATE request SET noticed_at = ? WHERE id = ? AND noticed_at IS NULL AND state = 'pending'",
                [(now, request_id) for request_id in request_ids],
            )

    def consume(self, request_id: str, *, now: float) -> bool:
        with self._file.writing() as connection:
            used = connection.execute(
                "UPDATE request SET consumed_at = ? WHERE id = ? AND state = 'approved' AND consumed_at IS NULL",
                (now, request_id),
            )
            return used.rowcount == 1

    def release(self, request_id: str) -> None:
        with self._file.writing() as connection:
            connection.execute("UPDATE request SET consumed_at = NULL WHERE id = ?", (request_id,))

    def surface(self, slot: str, binding_hash: str) -> str:
        with self._file.writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO slot SELECT ?, binding, expires_at FROM request WHERE binding = ?",
                (slot, binding_hash),
            )
            return _slot(connection, slot) or binding_hash

    def surfaced(self, slot: str) -> str | None:
        with self._file.reading() as connection:
            return _slot(connection, slot)

    def purge(self, *, before: float) -> int:
        erased = step = self._purge(before)
        while step == _BATCH:
            step = self._purge(before)
            erased += step
        if erased:
            self._file.empty_wal()
        return erased

    def _purge(self, before: float) -> int:
        """Erase one batch, and return how many requests there were in it."""
        with self._file.writing() as connection:
            connection.execute(_RUN_OUT, (before, _BATCH))
            for sql in _ERASE:
                erased = connection.execute(sql, (before, _BATCH)).rowcount
            for sql in _FORGET:
                connection.execute(sql, (before - _REMEMBERED,))
        return erased


def _one(connection: sqlite3.Connection, column: str, value: str) -> StoredApproval | None:
    """Return the request that has this *value*; raise StoreError where it cannot be read."""
    row = _row(connection, column, value)
    try:
        return None if row is None else _stored(connection, row)
    except _UNREADABLE as error:
        raise StoreError(f"The request for approval {row[0]!r} cannot be read: it is damaged.") from error


def _row(connection: sqlite3.Connection, column: str, value: str) -> Any:
    return connection.execute(f"{_SELECT} WHERE {column} = ?", (value,)).fetchone()


def _slot(connection: sqlite3.Connection, slot: str) -> str | None:
    row = connection.execute("SELECT binding FROM slot WHERE name = ?", (slot,)).fetchone()
    return None if row is None else str(row[0])


def _since(now: float | None) -> float:
    return -math.inf if now is None else now


def _ids(connection: sqlite3.Connection, sql: str, values: Sequence[Any]) -> list[str]:
    connection.text_factory = _readable
    return [str(found) for (found,) in connection.execute(sql, values)]


def _readable(text: bytes) -> str:
    """What is no Unicode is somebody's doing: it makes one request unreadable, and not the list that it is in."""
    return text.decode(errors="replace")


def _listed(connection: sqlite3.Connection, sql: str, values: Sequence[Any]) -> list[StoredApproval]:
    """Return the requests whose ids *sql* selects; one that cannot be read has no contents."""
    found = []
    for request_id in _ids(connection, sql, values):
        try:
            found.append(_stored(connection, _row(connection, "id", request_id)))
        except _UNREADABLE:
            found.append(StoredApproval(request_id, "", ApprovalState.FAILED, None, damaged=True))
    return found


def _stored(connection: sqlite3.Connection, row: tuple[Any, ...]) -> StoredApproval:
    request_id, binding, state, body, grant, decided_at, consumed_at, noticed_at = row
    answers = connection.execute("SELECT approved, body FROM answer WHERE request = ? ORDER BY seq", (request_id,))
    request = read_request(body) if body is not None else None
    if request is None and state == ApprovalState.PENDING:
        raise ValueError("what waits for an answer is not purged")
    if request is not None and (request.id, request.binding_hash) != (request_id, binding):
        raise ValueError("a request is stored under another's id")
    return StoredApproval(
        id=request_id,
        binding_hash=binding,
        state=ApprovalState(state),
        request=request,
        answers=tuple(_answer(binding, bool(approved), text) for approved, text in answers),
        grant=grant,
        decided_at=decided_at,
        consumed_at=consumed_at,
        noticed_at=noticed_at,
    )


def _answer(binding: str, approved: bool, body: bytes) -> Answer:
    approver, groups, comment, proof, edit, factor = orjson.loads(body)
    if not all(isinstance(text, str) for text in (comment, proof, factor, *groups)):
        raise TypeError("what is stored is no answer")
    changed = Edit(*edit) if edit else None
    return Answer(binding, approved, approver, comment, tuple(groups), proof, changed, factor)
