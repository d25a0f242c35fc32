"""Reading an audit log's file, as it is at one moment, while others go on writing to it."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zt_agents.audit.chain import Head, decode
from zt_agents.audit.segments import Mark
from zt_agents.audit.sink import Filed, StoredRecord
from zt_agents.stores.sqlite_audit_file import (
    checksum,
    connect,
    filing,
    read_head,
    read_sealed,
    reading,
    require_format,
    schema_faults,
    second,
)

_CHECK_CACHE = 65_536  # KiB: it looks each record up in each index, in no order


class SqliteSnapshot:
    """Implements :class:`zt_agents.audit.sink.Snapshot`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, busy_timeout: float, *, file: Path) -> None:
        """*connection* has opened *file*: the log at *path*, or what is left of it."""
        self._connection = connection
        self._path = path
        self._file = file
        self._busy_timeout = busy_timeout
        require_format(connection, path)
        self._schema_faults = list(schema_faults(connection))
        self.cut = 0
        """Bytes by which the file is shorter than it says."""
        known = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        self.log_id: Any = None
        self.head: Head | None = None
        if "head" in known:
            self.log_id, self.head = read_head(connection)
        self.sealed = read_sealed(connection) if "segment" in known else []
        log_id = self.log_id if isinstance(self.log_id, bytes) else b""
        self.begin = self.sealed[-1].end if self.sealed else Mark.start(log_id)

    def faults(self) -> Iterator[str]:
        yield from self._schema_faults
        if self.cut:
            yield f"The file is {self.cut:,} bytes shorter than it says: its end was cut off."
        with reading(self._path):
            connection = connect(self._file, "ro", self._busy_timeout)
            try:
                connection.execute(f"PRAGMA cache_size = -{_CHECK_CACHE}")
                for (text,) in connection.execute("PRAGMA integrity_check(10)"):
                    if text != "ok":
                        yield f"SQLite finds: {text}."
            finally:
                connection.close()

    def stored(self) -> Iterator[StoredRecord]:
        sql = "SELECT time, agent, user, decision, seq, body, hash FROM record ORDER BY seq"
        no_record, right, wrong = Filed.NO_RECORD, Filed.RIGHT, Filed.WRONG
        with reading(self._path):
            for time, agent, user, decision, seq, body, digest in self._connection.execute(sql):
                said = decode(body)
                if said is None:
                    yield seq, body, digest, no_record
                else:
                    filed = filing(said) == (time, agent, user, decision)
                    yield seq, body, digest, right if filed else wrong

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
        names = {"agent": agent, "user_id": user, "tool": tool, "decision_id": decision_id}
        wanted = {name: value for name, value in names.items() if value is not None}
        where, values = _narrowed(after, since, until, agent, user, decision_id)
        order = "DESC" if newest_first else "ASC"
        sql = f"SELECT seq, body, hash FROM record WHERE {where} ORDER BY seq {order}"  # noqa: S608 - constants only
        with reading(self._path):
            rows = self._connection.execute(sql, values)
            found = (record for row in rows if _matches(record := _record(row), wanted, since, until))
            yield from itertools.islice(found, limit)


def _narrowed(
    after: int, since: float | None, until: float | None, agent: str | None, user: str | None, decision_id: str | None
) -> tuple[str, list[int]]:
    """Return a condition that holds for all that is asked for, and for little else, and its values."""
    if decision_id is not None:
        return "decision = ? AND seq > ?", [checksum(decision_id), after]
    narrowing = {
        "time >= ?": second(since),
        "time <= ?": second(until),
        "agent = ?": checksum(agent),
        "user = ?": checksum(user),
    }
    given = {test: value for test, value in narrowing.items() if value is not None}
    if after or not given:
        return " AND ".join(["seq > ?", *given]), [after, *given.values()]
    # The index holds all that is asked about: to go over it, whole if need be, takes less than to look at records.
    found = f"SELECT seq FROM record INDEXED BY record_search WHERE {' AND '.join(given)}"  # noqa: S608 - constants only
    return f"seq IN ({found})", [*given.values()]


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
