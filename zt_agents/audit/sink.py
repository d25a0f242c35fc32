"""What the audit log needs of a place to keep records. Implementations live in ``zt_agents.stores``.

The rules of a sink:

1. ``append`` is all or nothing, and durable when it returns. Numbers are contiguous from 1, across all
   processes.
2. Each record is chained to the one before it (:mod:`zt_agents.audit.chain`), whichever process wrote that
   one.
3. A sink that finds the log shorter than, or different from, what it last wrote refuses to append to it.
4. Reading hands out what is stored, proven or not: proving is the business of :mod:`zt_agents.audit.verify`.
5. A snapshot is one moment: it does not change while others append, and reading it never makes them wait.
6. A search finds every record that it should: what it goes by is compared with the bodies, or is the bodies.

None of it is peculiar to one store. In PostgreSQL:

1. One transaction per batch with ``synchronous_commit = on``. ``SELECT ... FOR UPDATE`` on the one row of the head
   table serialises the writers and gives the next number; a sequence would not do, since a rollback leaves a hole.
2. The hash before is in that row. It is read under its lock, and written in the same transaction.
3. The sink keeps log id and head in memory as it left them, and compares them under the lock.
4. ``body`` is ``bytea``: ``jsonb`` does not keep the bytes that were hashed.
5. ``BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY``, and a server-side cursor for :meth:`Snapshot.stored`.
6. Columns of text and time, compared with the body while :meth:`Snapshot.stored` goes over it; ``faults`` runs
   ``amcheck`` over the indexes on a second connection, and compares the catalog with the schema.

``release`` closes the connection, which must not be shared across a fork. Who may append is a role with ``INSERT`` on
the records and ``UPDATE`` on the head only, which a file cannot offer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from zt_agents.audit.chain import Head
from zt_agents.audit.records import AuditRecord

if TYPE_CHECKING:
    from zt_agents.audit.segments import Mark, Sealing


class Filed(Enum):
    """How a record is filed for searching."""

    RIGHT = "under what it says"
    WRONG = "under values that it does not have"
    """A search would miss it, or find it where it does not belong."""
    NO_RECORD = "a body that is no record"


StoredRecord = tuple[Any, Any, Any, Filed]
"""Number, body, hash, and how it is filed, as it was found. The first three are not proven, not even their types."""


class Snapshot(Protocol):
    """A log at one moment, while others go on appending to it."""

    @property
    def log_id(self) -> Any:
        """Random bytes drawn when the log was created, or None when they are gone."""

    @property
    def head(self) -> Head | None:
        """What the log itself says its last record is, or None when it does not say."""

    @property
    def sealed(self) -> Sequence[Sealing]:
        """What was taken out of the log, oldest first, as the store has noted it."""

    @property
    def begin(self) -> Mark:
        """Where :meth:`stored` begins: at the start, or where the last segment ended."""

    def faults(self) -> Iterator[str]:
        """Yield what is wrong with the store's own structures, one sentence each.

        It runs in a thread of its own, beside :meth:`stored`.
        """

    def stored(self) -> Iterator[StoredRecord]:
        """Yield every record in the order of its number.

        Whatever :meth:`read` searches by is compared here with the body, by whoever knows how it is kept.

        Raises:
            AuditIntegrityError: the store cannot be read any further.
        """

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
        """Yield the records that match everything given, as dicts with ``seq`` and ``hash`` (hex), oldest
        first.

        *after* is the number of a record: only those behind it, found without reading what is before it. *since*
        (inclusive) and *until* (exclusive) are seconds since the epoch. A body that is no record
        comes as ``{"seq": ..., "hash": ..., "unreadable": True}``.
        """


class AuditSource(Protocol):
    """A log that can be read."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Open the log as it is now. Raises :class:`StoreError` when that is not possible."""


class AuditSink(AuditSource, Protocol):
    """A log that can be appended to. Used by one writer thread per process."""

    def append(self, records: Sequence[AuditRecord]) -> Sequence[int]:
        """Make *records* durable, all or none, and return their numbers.

        An empty batch is a probe: it writes nothing new, and fails as a real one would.

        Raises:
            AuditWriteError: nothing was acknowledged. A crash right now may still bring the batch to light.
            AuditIntegrityError: the log is not what this process left behind; nothing was written.
        """

    def release(self) -> None:
        """Let go of everything a forked child must not inherit. The next append takes hold again."""

    def close(self) -> None:
        """Release for good."""
