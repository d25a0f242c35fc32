"""What the audit log needs of a place to keep records. Implementations live in ``zt_agents.stores``.

The rules of a sink:

1. ``append`` is all or nothing, and durable when it returns. Numbers are contiguous from 1, across all
   processes.
2. Each record is chained to the one before it (:mod:`zt_agents.audit.chain`), whichever process wrote that
   one.
3. A sink that finds the log shorter than, or different from, what it last wrote refuses to append to it.
4. Reading hands out what is stored, proven or not: proving is the business of :mod:`zt_agents.audit.verify`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from zt_agents.audit.chain import Head
from zt_agents.audit.records import AuditRecord


class StoredRecord(NamedTuple):
    """One record as it was found. Nothing about it is proven, not even the types of its values."""

    seq: Any
    body: Any
    hash: Any
    columns: tuple[Any, ...]


class Snapshot(Protocol):
    """A log at one moment, while others go on appending to it."""

    @property
    def log_id(self) -> Any:
        """Random bytes drawn when the log was created, or None when they are gone."""

    @property
    def head(self) -> Head | None:
        """What the log itself says its last record is, or None when it does not say."""

    def faults(self) -> Iterator[str]:
        """Yield what is wrong with the store's own structures, one sentence each."""

    def stored(self) -> Iterator[StoredRecord]:
        """Yield every record in the order of its number.

        Raises:
            AuditIntegrityError: the store cannot be read any further.
        """

    def read(
        self,
        *,
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

        *since* (inclusive) and *until* (exclusive) are seconds since the epoch. A body that is no record
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
