"""One-time codes that approvers type beside an answer.

Rules:

1. A code counts once: of each factor, only codes of later steps than the last that was good.
2. Five tries in five minutes for each person, wherever they are made: six digits are no secret without that.
3. What comes of a good code is a signed check, for this one answer.
"""

from __future__ import annotations

from zt_agents._internal.clock import Clock
from zt_agents.approvals import ApprovalRequest, ApproverRegistry
from zt_agents.console.sessions import Person
from zt_agents.errors import IdentityError, TokenInvalidError
from zt_agents.identity.factors import CheckClaims, FactorKind, FactorSigner
from zt_agents.identity.one_time_codes import OneTimeSecret, matching_step

_TRIES, _WINDOW = 5, 300.0


class Codes:
    """Checks codes. Safe to share between threads and processes."""

    def __init__(self, *, signer: FactorSigner, registry: ApproverRegistry, clock: Clock) -> None:
        self._signer = signer
        self._registry = registry
        self._clock = clock

    def has(self, approver: str) -> bool:
        """Return whether *approver* has an authenticator app."""
        return bool(self._registry.list(approver=approver, kind=FactorKind.TOTP))

    def checked(self, person: Person, request: ApprovalRequest, approved: bool, code: str) -> str:
        """Return the check of *code*, for this answer to *request*.

        Raises:
            TokenInvalidError: it is not good, or there were too many tries.
        """
        now = self._clock()
        tries = f"totp/{person.id}"
        if not self._registry.attempt(tries, now=now, most=_TRIES, window=_WINDOW):
            raise TokenInvalidError("There were too many codes. Wait five minutes.")
        for enrolled in self._registry.list(approver=person.id, kind=FactorKind.TOTP):
            try:
                claims = self._signer.verify_factor(enrolled.token, approver=person.id)
            except IdentityError:
                continue
            secret = claims.factor
            step = matching_step(secret, code, now) if isinstance(secret, OneTimeSecret) else None
            if step is not None and claims.id == enrolled.id and self._registry.advance(f"totp/{enrolled.id}", step):
                self._registry.forgive(tries)
                return self._signer.check(
                    CheckClaims(
                        request.id,
                        request.binding_hash,
                        person.id,
                        approved,
                        FactorKind.TOTP,
                        enrolled.id,
                        # As an answer, it is not older than the question.
                        int(max(now, request.call.time)),
                    )
                )
        raise TokenInvalidError("The code is not good, or was used. Type the next one.")
