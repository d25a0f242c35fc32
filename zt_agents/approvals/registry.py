"""What a registry of approvers has to do: it knows whose credentials, factors and standing approvals are still good.

Rules for an implementation:

1. What it keeps are signed tokens: whoever can write it can take approvers away, and cannot make one. They can put back
   what was removed, and undo what was counted: that something was removed, how often it was used, and which code or
   counter came last, is the registry's word. So is a registry restored from a backup.
2. ``use``, ``advance``, ``spend`` and ``attempt`` are each one atomic step, durable when they return.
3. What cannot be read or written is a ``StoreError``; a yes that needs it does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

CREDENTIAL = "credential"
"""The kind of what approvers sign with."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A credential, or a second factor, as the registry has it."""

    id: str
    approver: str
    kind: str
    """``credential``, ``standing``, or the kind of a second factor."""
    token: str
    """What was signed for it."""
    added_at: float
    about: str = ""
    """What a standing approval is looked up by. The token has the say."""
    until: float | None = None
    """When a standing approval ends by itself: after that it may be forgotten. The token has the say."""


class ApproverRegistry(Protocol):
    """Keeps approvers."""

    def add(self, enrolled: Enrolled) -> None:
        """Keep *enrolled*, and forget what has ended by itself."""
        ...

    def get(self, enrolled_id: str) -> Enrolled | None:
        """Return what is kept under an id, if it was not removed."""
        ...

    def list(self, *, approver: str | None = None, kind: str = "", about: str = "") -> Sequence[Enrolled]:
        """Return what was not removed, of one *approver* or of all, and of one kind, oldest first."""
        ...

    def remove(self, approver: str, *, now: float, enrolled_id: str | None = None) -> int:
        """Remove one thing, or all that *approver* has. Returns how many."""
        ...

    def removed(self, approver: str, kind: str, *, since: float) -> bool:
        """Return whether something of one kind was removed from *approver* since then."""
        ...

    def use(self, enrolled_id: str, by: str, *, most: int) -> bool:
        """Use a standing approval for *by*. Returns whether it is, or was, one of the *most* first to use it."""
        ...

    def uses(self, enrolled_id: str) -> int:
        """Return how often a standing approval was used."""
        ...

    def used(self, enrolled_id: str, by: str) -> bool:
        """Return whether :meth:`use` was granted to *by*."""
        ...

    def advance(self, counter: str, value: int) -> bool:
        """Set *counter* to *value* if that is more than it was. Returns whether it was."""
        ...

    def counter(self, counter: str) -> int | None: ...

    def spend(self, token_id: str, *, until: float, now: float) -> bool:
        """Note that something which is good until then was used. True for one caller."""
        ...

    def attempt(self, name: str, *, now: float, most: int, window: float) -> bool:
        """Note an attempt. Returns whether there were less than *most* in the last *window* seconds."""
        ...

    def forgive(self, name: str) -> None:
        """Forget the attempts: the last one was good."""
        ...
