"""How an approver proves to the console who they are.

Rules:

1. A login token is good once, for this console's origin and for a minute, and for as long as its credential is listed.
2. Who is signed in stays so while their credential is: one that was removed, or has ended, is nobody's at once.
3. Why a login was refused is for the console's terminal; the browser is told that it was.
"""

from __future__ import annotations

from zt_agents.approvals import ApproverRegistry
from zt_agents.console.origins import Origin
from zt_agents.console.sessions import Person
from zt_agents.errors import TokenRevokedError
from zt_agents.identity import ApproverAuthority


class Logins:
    """Verifies who signs in, and that they still are who they were."""

    def __init__(self, authority: ApproverAuthority, registry: ApproverRegistry, origin: Origin) -> None:
        self._authority = authority
        self._registry = registry
        self._origin = origin

    def verify(self, token: str, *, now: float) -> Person:
        """Return whom *token* signs in, which it does once.

        Raises:
            IdentityError: it signs nobody in.
            StoreError: the registry cannot be used.
        """
        login = self._authority.verify_login(token, origin=self._origin.text, now=now)
        approver = login.approver
        person = Person(approver.id, approver.groups, approver.credential_id, approver.expires_at)
        if not self.stands(person, now=now):
            raise TokenRevokedError("The credential is no longer listed.")
        if not self._registry.spend(login.id, until=login.expires_at, now=now):
            raise TokenRevokedError("The login was used already.")
        return person

    def stands(self, person: Person, *, now: float) -> bool:
        """Return whether the credential that *person* signed in with is still good, and the passkey, if any."""
        shown = filter(None, (person.credential, person.factor))
        kept = [self._registry.get(each) for each in shown]
        return now < person.expires_at and all(each is not None and each.approver == person.id for each in kept)
