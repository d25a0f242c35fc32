"""Passkeys of approvers at this console: enrolled by who is signed in, to sign in with, and to answer with.

Rules:

1. A challenge is random, good once and for five minutes, and for the one purpose and person it was made for. That of an
   answer is the hash of what is answered, and needs no memory.
2. Only passkeys whose statement the guard's key has signed, for this very origin, are known here: whoever writes the
   registry can take one away, and put none in.
3. A counter that does not advance is refused, also where two use one passkey at the same moment.
4. A passkey says who signs in. In which groups they are, and until when, says a credential of theirs that is listed.
"""

from __future__ import annotations

import base64
import secrets
import threading
from typing import Any

from zt_agents._internal.clock import Clock
from zt_agents.approvals import ApprovalRequest, ApproverRegistry
from zt_agents.console.origins import Origin, is_address
from zt_agents.console.sessions import Person
from zt_agents.desk.factors import SecondFactors
from zt_agents.errors import IdentityError, TokenInvalidError, TokenRevokedError
from zt_agents.identity import ApproverAuthority
from zt_agents.identity.approving.factors import FactorClaims, FactorKind
from zt_agents.identity.approving.passkeys import (
    Passkey,
    approval_challenge,
    asserted_credential,
    assertion_options,
    registration_options,
    verify_assertion,
    verify_registration,
)

_SECONDS = 300
_MOST_CHALLENGES = 2_000
MOST_EACH = 10
"""Passkeys of one approver."""
_CREDENTIAL = "credential"
_ENROL, _SIGN_IN = "enrol", "sign in"


class Passkeys:
    """What a console does with passkeys. Safe to share between threads."""

    def __init__(
        self,
        *,
        factors: SecondFactors,
        authority: ApproverAuthority,
        registry: ApproverRegistry,
        origin: Origin,
        clock: Clock,
    ) -> None:
        self._factors = factors
        self._authority = authority
        self._registry = registry
        self._origin = origin
        self._clock = clock
        self._challenges = _Challenges(clock)
        self.possible = not is_address(origin.name)
        """A passkey belongs to a name; where browsers use an IP address, there are none."""

    def of(self, approver: str) -> list[FactorClaims]:
        """Return the passkeys that *approver* has for this console, oldest first."""
        return [each for each in self._factors.of(approver, FactorKind.PASSKEY) if self._key(each) is not None]

    def enrolment(self, person: Person) -> dict[str, Any]:
        """Return what the browser needs to make a passkey for *person*."""
        return registration_options(
            rp_id=self._origin.name,
            rp_name="Approvals",
            approver=person.id,
            challenge=self._challenges.new(_ENROL, person.id),
            enrolled=self._keys(person),
        )

    def enrol(self, person: Person, evidence: str, challenge: str) -> None:
        """Keep the passkey that *evidence* brings.

        Raises:
            TokenInvalidError: it brings none, or there are too many already.
        """
        asked = self._challenges.take(challenge, _ENROL, person.id)
        passkey = verify_registration(evidence, challenge=asked, rp_id=self._origin.name, origin=self._origin.text)
        if len(self.of(person.id)) >= MOST_EACH:
            raise TokenInvalidError("There are too many passkeys.")
        try:
            self._factors.enrol(person.id, passkey, now=self._clock())
        except ValueError as error:
            raise TokenInvalidError(f"The passkey cannot be added: {error}.") from error

    def remove(self, person: Person, factor_id: str) -> bool:
        """Remove a passkey of *person*. Returns whether there was one."""
        mine = any(kept.id == factor_id for kept in self.of(person.id))
        return mine and self._registry.remove(person.id, now=self._clock(), enrolled_id=factor_id) == 1

    def login(self) -> dict[str, Any]:
        """Return what the browser needs to sign somebody in, whoever it is."""
        challenge = self._challenges.new(_SIGN_IN, "")
        return assertion_options(rp_id=self._origin.name, challenge=challenge, passkeys=())

    def sign_in(self, evidence: str, challenge: str) -> Person:
        """Return whom *evidence* signs in.

        Raises:
            IdentityError: it signs nobody in.
        """
        asked = self._challenges.take(challenge, _SIGN_IN, "")
        owned = self._factors.owner(asserted_credential(evidence))
        passkey = self._key(owned) if owned is not None else None
        if owned is None or passkey is None:
            raise TokenRevokedError("The passkey is not enrolled here, or no longer.")
        count = verify_assertion(passkey, evidence, challenge=asked, sign_count=passkey.sign_count)
        if not self._factors.counted(owned.id, count):
            raise TokenInvalidError("The passkey's counter did not advance: its key may have been copied.")
        return self._person(owned)

    def answer(self, person: Person, request: ApprovalRequest, approved: bool) -> dict[str, Any]:
        """Return what the browser needs for an answer to *request* by a passkey of *person*."""
        challenge = approval_challenge(request.id, request.binding_hash, approved)
        return assertion_options(rp_id=self._origin.name, challenge=challenge, passkeys=self._keys(person))

    def _key(self, claims: FactorClaims) -> Passkey | None:
        passkey = claims.factor
        return passkey if isinstance(passkey, Passkey) and passkey.origin == self._origin.text else None

    def _keys(self, person: Person) -> list[Passkey]:
        return [passkey for claims in self.of(person.id) if (passkey := self._key(claims)) is not None]

    def _person(self, owned: FactorClaims) -> Person:
        """Return whose passkey it is, as the credential says that is good for longest."""
        approver, now = owned.approver, self._clock()
        good = []
        for enrolled in self._registry.list(approver=approver, kind=_CREDENTIAL):
            try:
                credential = self._authority.verify(enrolled.token)
            except IdentityError:
                continue
            if (credential.id, credential.credential_id) == (approver, enrolled.id) and now < credential.expires_at:
                good.append(credential)
        if not good:
            raise TokenRevokedError("Whoever has the passkey has no credential that is good.")
        last = max(good, key=lambda each: each.expires_at)
        return Person(approver, last.groups, last.credential_id, last.expires_at, owned.id)


class _Challenges:
    """Challenges that are open. The oldest is forgotten when there are too many."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[str, tuple[str, str, float]] = {}
        self._lock = threading.Lock()

    def new(self, purpose: str, who: str) -> bytes:
        challenge = secrets.token_bytes(32)
        with self._lock:
            while len(self._open) >= _MOST_CHALLENGES:
                del self._open[next(iter(self._open))]
            self._open[_encoded(challenge)] = (purpose, who, self._clock() + _SECONDS)
        return challenge

    def take(self, challenge: str, purpose: str, who: str) -> bytes:
        with self._lock:
            known = self._open.pop(challenge, None)
        if known is None or known[:2] != (purpose, who) or self._clock() >= known[2]:
            raise TokenInvalidError("The challenge is not open, or no longer.")
        return base64.urlsafe_b64decode(challenge + "=")


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
