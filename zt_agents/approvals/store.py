"""What a store of approvals has to do. Every promise of "once" is kept here, across threads, processes and restarts.

Rules for an implementation:

1. A method is done when it returns: what it wrote survives a crash.
2. ``put``, ``settle``, ``consume`` and ``surface`` are each one atomic step: of many callers, one is the first.
3. What cannot be read or written is a ``StoreError``; the guard denies.
4. One request that cannot be read does not hide the others: a listing says that it is damaged. Whoever asks for that
   request itself, to decide on it, gets the ``StoreError``.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from zt_agents.approvals.requests import Answer, ApprovalRequest, ApprovalState


@dataclass(frozen=True, slots=True)
class StoredApproval:
    """A request as the store has it."""

    id: str
    binding_hash: str
    state: ApprovalState
    request: ApprovalRequest | None
    """None once its contents were purged, and of one that is damaged."""
    answers: tuple[Answer, ...] = ()
    """All that were filed, oldest first."""
    grant: str = ""
    """The signed grant of an approved request."""
    decided_at: float | None = None
    consumed_at: float | None = None
    """When the grant was used."""
    noticed_at: float | None = None
    """When somebody was first told of it."""
    damaged: bool = False
    """Whether what is stored of it cannot be read: then only its id is known, and nobody can answer it."""


class ApprovalStore(Protocol):
    """Keeps requests, answers and grants. PostgreSQL can do it as well as SQLite."""

    def put(self, request: ApprovalRequest) -> StoredApproval:
        """Keep *request*, or return what is kept under its binding hash already."""
        ...

    def version(self) -> Hashable:
        """Return what differs as soon as anybody has written. It is cheap, and no promise: look now and then."""
        ...

    def get(self, request_id: str) -> StoredApproval | None: ...

    def find(self, binding_hash: str) -> StoredApproval | None: ...

    def pending(
        self, *, limit: int | None = None, after: str | None = None, now: float | None = None
    ) -> Sequence[StoredApproval]:
        """Return the requests that wait for an answer, oldest first.

        Args:
            limit: at most so many.
            after: only those behind the one with this id, whatever became of it; all, if it is no longer known.
            now: only those that have not run out by then.
        """
        ...

    def pending_ids(self, *, now: float | None = None) -> Sequence[str]:
        """Return the ids of the requests that :meth:`pending` returns: cheap enough to look for new ones."""
        ...

    def answered(self, person: str) -> Sequence[str]:
        """Return the ids of the requests that wait and have an answer of *person* (folded), however they are known."""
        ...

    def count_pending(self, *, now: float | None = None) -> int:
        """Return how many requests wait for an answer; with *now*, of those that have not run out by then."""
        ...

    def named(self, beginning: str, *, limit: int) -> Sequence[StoredApproval]:
        """Return at most *limit* requests whose id begins so, those that wait first."""
        ...

    def file(self, request_id: str, person: str, answer: Answer, *, now: float) -> bool:
        """Keep *answer* if the request is pending; of each person, one yes and one no. Returns whether it is new."""
        ...

    def settle(
        self, request_id: str, state: ApprovalState, *, now: float, grant: str = "", answers: int | None = None
    ) -> StoredApproval:
        """Move a pending request to *state*, and return what stands now: the first to settle it has settled it.

        Who names how many *answers* they have seen settles it only if there are no others: else it stays pending.
        """
        ...

    def notice(self, *request_ids: str, now: float) -> None:
        """Note that somebody was told of these requests; the first time counts."""
        ...

    def consume(self, request_id: str, *, now: float) -> bool:
        """Use the grant of an approved request. True for one caller, ever, or until it is released."""
        ...

    def release(self, request_id: str) -> None:
        """Undo :meth:`consume` for a body that paused itself, and will be run again from its start."""
        ...

    def surface(self, slot: str, binding_hash: str) -> str:
        """Note that the question shown at *slot* is this one, and return the first that was noted."""
        ...

    def surfaced(self, slot: str) -> str | None:
        """Return the binding hash of the question that was shown at *slot*."""
        ...

    def purge(self, *, before: float) -> int:
        """Erase arguments and answers of what was decided, or ran out, before that time. Returns how many.

        That a grant was used is remembered for a day longer: no session lives that long.
        """
        ...
