"""Which tokens were admitted, in a SQLite file that the workers of a service share.

Each admission is one durable transaction: a service that is killed or loses power admits no token again.
"""

from __future__ import annotations

import os

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

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = 5.0) -> None:
        """Name the file; it is made when it is first used.

        Args:
            path: the file; its folder must exist.
            busy_timeout: seconds to wait for other workers.
        """
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
        with self._file.writing() as connection:
            connection.execute("DELETE FROM admitted WHERE until <= ?", (now,))
            return connection.execute(_ADMIT, (token, until, uses)).fetchone() is not None
