"""How an approver proves to the console who they are.

Rules:

1. A login token is good once, for this console's origin, and for a minute. So is whoever it names: one whose
   credential was removed is nobody, at once.
2. Why a login was refused is for the console's terminal; the browser is told that it was.
"""

from __future__ import annotations

from typing import Protocol

from zt_agents.console.sessions import Person


class Logins(Protocol):
    """Verifies who signs in, and that they still are who they were."""

    def verify(self, token: str, *, now: float) -> Person:
        """Return whom *token* signs in.

        Raises:
            IdentityError: it signs nobody in.
            StoreError: the approvers cannot be read.
        """
        ...

    def stands(self, person: Person, *, now: float) -> bool:
        """Return whether the credential that *person* signed in with is still good."""
        ...
