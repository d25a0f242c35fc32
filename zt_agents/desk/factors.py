"""Second factors of approvers: enrolling them, checking codes, and telling which one was shown with an answer.

Rules:

1. A passkey signs the request, the call and the decision: its assertion is verified anew each time the request is ruled
   on. A one-time code cannot be: it is checked once, by who holds the signing key, and a signed check says so.
2. A code is accepted once, and none that is older than the last one. Five wrong ones, and none is accepted for a while.
   Only who has signed in, or holds the credential, gets to try: nobody else can lock an approver out.
3. A factor counts while it is listed, for the approver whose it is.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from zt_agents.approvals import Answer, ApprovalRequest, ApproverRegistry, Enrolled
from zt_agents.decisions import SecondFactor
from zt_agents.errors import IdentityError, TokenInvalidError
from zt_agents.identity.approving.factors import CHECK_TYPE, CheckClaims, FactorClaims, FactorKind, FactorSigner
from zt_agents.identity.approving.one_time_codes import OneTimeSecret, matching_step
from zt_agents.identity.approving.passkeys import Passkey, approval_challenge, asserted_credential, verify_assertion
from zt_agents.identity.signing import jws

_OFFERED = 600
"""Seconds in which a secret can be confirmed."""
_ATTEMPTS, _WINDOW = 5, 900.0
"""Wrong codes that are forgiven, and for how many seconds no more are after them."""


class SecondFactors:
    """The factors in one registry. Safe to share between threads and processes."""

    def __init__(self, signer: FactorSigner, registry: ApproverRegistry) -> None:
        self._signer = signer
        self._registry = registry

    def enrol(self, approver: str, factor: OneTimeSecret | Passkey, *, now: float) -> FactorClaims:
        """Let *approver* show *factor* from now on.

        Raises:
            ValueError: it takes more room than there is, or somebody has this passkey already: without attestation,
                anybody can claim another's.
            StoreError: the registry cannot be used.
        """
        if isinstance(factor, Passkey) and self.owner(factor.credential_id) is not None:
            raise ValueError("this passkey is enrolled already")
        claims = FactorClaims(uuid.uuid4().hex, approver, factor, int(now))
        self._registry.add(Enrolled(claims.id, approver, claims.kind, self._signer.factor(claims), now))
        return claims

    def of(self, approver: str, kind: FactorKind) -> Sequence[FactorClaims]:
        """Return the factors of one kind that *approver* has; what was not signed for them is none."""
        found = []
        for enrolled in self._registry.list(approver=approver, kind=kind):
            try:
                claims = self._signer.verify_factor(enrolled.token, approver=approver)
            except IdentityError:
                continue
            if (claims.id, claims.kind) == (enrolled.id, kind):
                found.append(claims)
        return found

    def offer(self, approver: str, *, now: float) -> tuple[OneTimeSecret, str]:
        """Return a new secret for *approver*, and a token of it to :meth:`confirm`: nothing is kept until then."""
        secret = OneTimeSecret.generate()
        return secret, self._signer.factor(FactorClaims(uuid.uuid4().hex, approver, secret, int(now)))

    def confirm(self, approver: str, offered: str, code: str, *, now: float) -> FactorClaims:
        """Enrol the secret that was offered, if *code* shows that *approver* has it.

        Raises:
            TokenInvalidError: it does not; or it was offered too long ago, or to somebody else.
            StoreError: the registry cannot be used.
        """
        claims = self._signer.verify_factor(offered, approver=approver)
        if not isinstance(claims.factor, OneTimeSecret) or not 0 <= now - claims.issued_at < _OFFERED:
            raise TokenInvalidError("It was not offered just now.")
        step = matching_step(claims.factor, code, now)
        if step is None:
            raise TokenInvalidError("The code is not good.")
        if self._registry.get(claims.id) is None:
            if not self._registry.advance(f"totp:{claims.id}", step):
                raise TokenInvalidError("This code was used already: wait for the next one.")
            self._registry.add(Enrolled(claims.id, approver, claims.kind, offered, now))
        return claims

    def remove_codes(self, approver: str, factor_id: str, *, now: float) -> bool:
        """Remove one-time codes of *approver*. Returns whether there were any."""
        mine = any(claims.id == factor_id for claims in self.of(approver, FactorKind.TOTP))
        return mine and self._registry.remove(approver, now=now, enrolled_id=factor_id) == 1

    def owner(self, credential_id: bytes) -> FactorClaims | None:
        """Return the enrolled passkey with *credential_id*, whoever has it."""
        for approver in {enrolled.approver for enrolled in self._registry.list(kind=FactorKind.PASSKEY)}:
            for claims in self.of(approver, FactorKind.PASSKEY):
                if isinstance(claims.factor, Passkey) and claims.factor.credential_id == credential_id:
                    return claims
        return None

    def check(self, request: ApprovalRequest, approver: str, code: str, *, approved: bool, now: float) -> str:
        """Return the signed check of a one-time code, for :attr:`Answer.factor`.

        Raises:
            TokenInvalidError: the code is not good, was used, or there were too many wrong ones: the message says it.
            StoreError: the registry cannot be used.
        """
        name = f"totp:{approver}"
        if not self._registry.attempt(name, now=now, most=_ATTEMPTS, window=_WINDOW):
            raise TokenInvalidError(f"There were too many wrong codes: wait for {_WINDOW / 60:.0f} minutes.")
        for claims in self.of(approver, FactorKind.TOTP):
            assert isinstance(claims.factor, OneTimeSecret)
            step = matching_step(claims.factor, code, now)
            if step is None:
                continue
            if not self._registry.advance(f"totp:{claims.id}", step):
                raise TokenInvalidError("This code was used already: wait for the next one.")
            self._registry.forgive(name)
            binding = request.binding_hash
            return self._signer.check(
                CheckClaims(request.id, binding, approver, approved, FactorKind.TOTP, claims.id, int(now))
            )
        raise TokenInvalidError("The code is not good.")

    def shown(self, request: ApprovalRequest, answer: Answer) -> SecondFactor:
        """Return which factor *answer* shows, for *request* and what it answers; none, if it is not good."""
        try:
            if not answer.factor:
                return SecondFactor.NONE
            if jws.kind_of(answer.factor) == CHECK_TYPE:
                return self._checked(request, answer)
            return SecondFactor.PASSKEY if self._asserted(request, answer) else SecondFactor.NONE
        except IdentityError:
            return SecondFactor.NONE

    def advance(self, request: ApprovalRequest, answer: Answer) -> bool:
        """Note the counter of the passkey that *answer* shows. Returns whether it had advanced, or never counts."""
        asserted = self._asserted(request, answer)
        if asserted is None:
            return False
        return self.counted(*asserted)

    def counted(self, passkey_id: str, count: int) -> bool:
        """Note the counter of a passkey. Returns whether it had advanced, or never counts."""
        counter = f"passkey:{passkey_id}"
        return (count == 0 and not self._registry.counter(counter)) or self._registry.advance(counter, count)

    def _checked(self, request: ApprovalRequest, answer: Answer) -> SecondFactor:
        claims = self._signer.verify_check(
            answer.factor,
            request_id=request.id,
            binding_hash=request.binding_hash,
            approver=answer.approver,
            approved=answer.approved,
        )
        listed = any(each.id == claims.factor_id for each in self.of(answer.approver, FactorKind.TOTP))
        return SecondFactor.TOTP if listed else SecondFactor.NONE

    def _asserted(self, request: ApprovalRequest, answer: Answer) -> tuple[str, int] | None:
        """Return the id of the passkey that has signed *answer*, and its counter then."""
        credential = asserted_credential(answer.factor)
        challenge = approval_challenge(request.id, request.binding_hash, answer.approved)
        for claims in self.of(answer.approver, FactorKind.PASSKEY):
            passkey = claims.factor
            if isinstance(passkey, Passkey) and passkey.credential_id == credential:
                count = verify_assertion(passkey, answer.factor, challenge=challenge, sign_count=passkey.sign_count)
                return claims.id, count
        return None
