"""What is kept of calls, in one SQLite file beside the audit log, which several processes share.

Every method is one transaction of a :class:`SharedFile`. What is erased leaves behind that it was there: its hash, and
the erasure that took it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from zt_agents.audit.content import Choice, Content, Erasure, erasure_hash
from zt_agents.errors import StoreError
from zt_agents.stores.shared_file import SharedFile

_APPLICATION_ID = 0x7A744143  # "ztAC"
_SCHEMA = (
    "CREATE TABLE content (hash BLOB PRIMARY KEY, decision TEXT NOT NULL, user TEXT NOT NULL, time REAL NOT NULL, "
    "salt BLOB, body BLOB, erasure TEXT)",
    "CREATE TABLE erasure (id TEXT PRIMARY KEY, said BLOB NOT NULL, noted INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX content_user ON content (user) WHERE erasure IS NULL",
    "CREATE INDEX content_decision ON content (decision) WHERE erasure IS NULL",
    "CREATE INDEX content_time ON content (time) WHERE erasure IS NULL",
)
_MOST_VALUES = 500


class SqliteContentStore:
    """Implements :class:`zt_agents.audit.content.ContentStore`."""

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True, busy_timeout: float = 10.0) -> None:
        """Name the store.

        Args:
            path: The file; its folder must exist. A new one is readable by its owner only.
            create: Whether to create a file that does not exist when content is first kept.
            busy_timeout: Seconds to wait for other processes.
        """
        self._file = SharedFile(
            path,
            name="store of content",
            application_id=_APPLICATION_ID,
            schema=_SCHEMA,
            create=create,
            busy_timeout=busy_timeout,
        )

    @property
    def path(self) -> Path:
        return self._file.path

    @classmethod
    def beside(cls, log: Path, *, create: bool = False) -> SqliteContentStore:
        """Return the store of what belongs to *log*."""
        return cls(log.with_name(f"{log.name}.content"), create=create)

    def keep(self, contents: Sequence[Content]) -> None:
        with self._file.writing() as connection:
            connection.executemany("INSERT OR IGNORE INTO content VALUES (?, ?, ?, ?, ?, ?, NULL)", contents)

    def find(self, hashes: Sequence[bytes]) -> Mapping[bytes, Content | str]:
        found: dict[bytes, Content | str] = {}
        with self._file.reading() as connection:
            for at in range(0, len(hashes), _MOST_VALUES):
                some = hashes[at : at + _MOST_VALUES]
                sql = f"SELECT * FROM content WHERE hash IN ({', '.join('?' * len(some))})"  # noqa: S608 - placeholders
                for *values, erasure in connection.execute(sql, some):
                    gone = erasure is not None and values[-2:] == [None, None]
                    found[values[0]] = str(erasure) if gone else Content(*values)
        return found

    def count(self, choice: Choice) -> int:
        where, value = _where(choice)
        with self._file.reading() as connection:
            return int(connection.execute(f"SELECT count(*) FROM content WHERE {where}", (value,)).fetchone()[0])  # noqa: S608

    def erase(self, choice: Choice, erasure: Erasure) -> Erasure:
        where, value = _where(choice)
        with self._file.writing() as connection:
            hashes = [row[0] for row in connection.execute(f"SELECT hash FROM content WHERE {where}", (value,))]  # noqa: S608
            done = erasure._replace(parts=len(hashes), hash=erasure_hash(hashes))
            if hashes:
                connection.execute(
                    f"UPDATE content SET salt = NULL, body = NULL, user = '', erasure = ? WHERE {where}",  # noqa: S608
                    (erasure.id, value),
                )
                connection.execute("INSERT INTO erasure VALUES (?, ?, 0)", (erasure.id, orjson.dumps(done._asdict())))
        return done

    def wipe(self) -> None:
        if not self._file.empty_wal():
            raise StoreError(
                f"What was erased is still in the write-ahead log of {self.path}: another process is reading it.",
                hint="Run the command again.",
            )

    def erasures(self, *, noted: bool | None = None) -> Sequence[Erasure]:
        with self._file.reading() as connection:
            rows = connection.execute("SELECT said, noted FROM erasure").fetchall()
            found = [_erasure(said) for said, was_noted in rows if noted in (None, bool(was_noted))]
        return sorted(found, key=lambda erasure: erasure.time)

    def erased_by(self, erasure: Erasure) -> tuple[int, str]:
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT hash FROM content WHERE erasure = ? AND salt IS NULL AND body IS NULL", (erasure.id,)
            )
            hashes = [row[0] for row in rows]
        return len(hashes), erasure_hash(hashes)

    def note(self, erasure: Erasure) -> None:
        with self._file.writing() as connection:
            connection.execute("UPDATE erasure SET noted = 1 WHERE id = ?", (erasure.id,))


def _erasure(said: bytes) -> Erasure:
    """Return what :meth:`SqliteContentStore.erase` has written. Raises TypeError or ValueError for anything else."""
    erasure = Erasure(**orjson.loads(said))
    kinds = (str, float, str, str, dict, int, str)
    if not all(type(value) is kind for value, kind in zip(erasure, kinds, strict=True)) or len(erasure.what) != 1:
        raise TypeError
    return erasure


def _where(choice: Choice) -> tuple[str, str | float]:
    """Return the condition for what *choice* names and is not erased yet, and its value."""
    ((name, value),) = choice.said.items()
    column = {"user": "user = ?", "decision": "decision = ?", "before": "time < ?"}[name]
    return f"erasure IS NULL AND {column}", value
