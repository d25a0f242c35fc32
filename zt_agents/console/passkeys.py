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
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from zt_agents._internal.clock import Clock
from zt_agents.approvals import ApprovalRequest, ApproverRegistry, Enrolled
from zt_agents.console.origins import Origin, is_address
from zt_agents.console.sessions import Person
from zt_agents.errors import IdentityError, TokenInvalidError, TokenRevokedError
from zt_agents.identity import ApproverAuthority
from zt_agents.identity.factors import FactorClaims, FactorKind, FactorSigner
from zt_agents.identity.passkeys import (
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


class Kept(NamedTuple):
    """A passkey in the registry."""

    id: str
    passkey: Passkey
    added_at: float


class Passkeys:
    """What a console does with passkeys. Safe to share between threads."""

    def __init__(
        self,
        *,
        signer: FactorSigner,
        authority: ApproverAuthority,
        registry: ApproverRegistry,
        origin: Origin,
        clock: Clock,
    ) -> None:
        self._signer = signer
        self._authority = authority
        self._registry = registry
        self._origin = origin
        self._clock = clock
        self._challenges = _Challenges(clock)
        self.possible = not is_address(origin.name)
        """A passkey belongs to a name; where browsers use an IP address, there are none."""

    def of(self, approver: str) -> list[Kept]:
        """Return the passkeys that *approver* has for this console, oldest first."""
        return self._known(self._registry.list(approver=approver, kind=FactorKind.PASSKEY))

    def enrolment(self, person: Person) -> dict[str, Any]:
        """Return what the browser needs to make a passkey for *person*."""
        return registration_options(
            rp_id=self._origin.name,
            rp_name="Approvals",
            approver=person.id,
            challenge=self._challenges.new(_ENROL, person.id),
            enrolled=[kept.passkey for kept in self.of(person.id)],
        )

    def enrol(self, person: Person, evidence: str, challenge: str) -> None:
        """Keep the passkey that *evidence* brings.

        Raises:
            TokenInvalidError: it brings none, or there are too many already.
        """
        asked = self._challenges.take(challenge, _ENROL, person.id)
        passkey = verify_registration(evidence, challenge=asked, rp_id=self._origin.name, origin=self._origin.text)
        about = _encoded(passkey.credential_id)
        if len(self.of(person.id)) >= MOST_EACH or self._registry.list(kind=FactorKind.PASSKEY, about=about):
            raise TokenInvalidError("The passkey is known already, or there are too many.")
        factor_id, now = uuid.uuid4().hex, self._clock()
        token = self._signer.factor(FactorClaims(factor_id, person.id, passkey, int(now)))
        self._registry.add(Enrolled(factor_id, person.id, FactorKind.PASSKEY, token, now, about))

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
        about = _encoded(asserted_credential(evidence))
        for enrolled in self._registry.list(kind=FactorKind.PASSKEY, about=about):
            for kept in self._known([enrolled]):
                self._assert(kept, evidence, asked)
                return self._person(enrolled.approver, kept)
        raise TokenRevokedError("The passkey is not enrolled here, or no longer.")

    def answer(self, person: Person, request: ApprovalRequest, approved: bool) -> dict[str, Any]:
        """Return what the browser needs for an answer to *request* by a passkey of *person*."""
        challenge = approval_challenge(request.id, request.binding_hash, approved)
        passkeys = [kept.passkey for kept in self.of(person.id)]
        return assertion_options(rp_id=self._origin.name, challenge=challenge, passkeys=passkeys)

    def _assert(self, kept: Kept, evidence: str, challenge: bytes) -> None:
        name = f"passkey/{kept.id}"
        before = self._registry.counter(name)
        last = kept.passkey.sign_count if before is None else before
        count = verify_assertion(kept.passkey, evidence, challenge=challenge, sign_count=last)
        if count and not self._registry.advance(name, count):
            raise TokenInvalidError("The passkey's counter did not advance: its key may have been copied.")

    def _person(self, approver: str, kept: Kept) -> Person:
        now = self._clock()
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
        return Person(approver, last.groups, last.credential_id, last.expires_at, kept.id)

    def _known(self, listed: Sequence[Enrolled]) -> list[Kept]:
        found = []
        for enrolled in listed:
            try:
                claims = self._signer.verify_factor(enrolled.token, approver=enrolled.approver)
            except IdentityError:
                continue
            passkey = claims.factor
            if claims.id == enrolled.id and isinstance(passkey, Passkey) and passkey.origin == self._origin.text:
                found.append(Kept(enrolled.id, passkey, enrolled.added_at))
        return found


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
