"""Who gave an answer, and how that is known: attests what somebody is vouched for, and verifies what is filed.

Rules:

1. An answer is attested with the guard's signing key, or signed with its approver's own. Either is bound to one call.
2. An answer counts if it was given since the call was first asked about: one kept from before a store was lost, or
   given to another store, is none.
3. A yes counts while its credential is good and listed; a no counts whatever became of the credential.
4. What an answer says of how it is known, and which factor was shown, is never believed: both are worked out here.
"""

from __future__ import annotations

from dataclasses import replace

from zt_agents.approvals import Answer, ApprovalRequest, ApproverRegistry
from zt_agents.decisions import Proof, SecondFactor
from zt_agents.errors import IdentityError
from zt_agents.identity import AnswerClaims, ApprovalSigner, Approver, ApproverAuthority
from zt_agents.identity.approvers import SEPARATOR

_SKEW = 60
"""Seconds by which an approver's clock may be ahead of the guard's."""


class AnswerProofs:
    """Attests answers and verifies them. Safe to share between threads and processes."""

    def __init__(
        self,
        signer: ApprovalSigner,
        authority: ApproverAuthority | None = None,
        registry: ApproverRegistry | None = None,
    ) -> None:
        self.signer = signer
        self._authority = authority
        self._registry = registry

    def attested(self, request: ApprovalRequest, answer: Answer, *, now: float) -> Answer:
        """Return *answer* with its proof, which names of the approver's groups those that *request* asks for."""
        words = {
            word for terms in request.terms for word in (*terms.approvers, *terms.escalate_to, *terms.exclude)
        }
        by_condition = any(terms.when for terms in request.terms)
        groups = tuple(group for group in answer.groups if by_condition or f"group:{group}" in words)
        claims = AnswerClaims(
            binding_hash=answer.binding_hash,
            approver=answer.approver,
            groups=groups,
            approved=answer.approved,
            # A clock that was set back does not make the answer older than the question.
            issued_at=int(max(now, request.call.time)),
        )
        return replace(answer, groups=groups, proof=self.signer.answer(claims))

    def read(self, proof: str) -> AnswerClaims | None:
        """Return what *proof* says, if its signature holds."""
        try:
            if SEPARATOR in proof and self._authority is not None:
                return self._authority.verify_answer(proof)[1]
            return self.signer.verify_answer(proof)
        except IdentityError:
            return None

    def since(self, request: ApprovalRequest, proof: str) -> AnswerClaims | None:
        """Return what *proof* says, if it was signed since *request* was first asked."""
        claims = self.read(proof)
        return claims if claims is not None and claims.issued_at >= int(request.call.time) else None

    def verified(self, request: ApprovalRequest, answer: Answer, *, now: float) -> Answer | None:
        """Return *answer* with how it is known and what was shown, or None if it is not proven.

        Raises:
            StoreError: the registry cannot be used.
        """
        claims = self.since(request, answer.proof)
        said = (answer.binding_hash, answer.approver, answer.groups, answer.approved)
        if claims is None or (claims.binding_hash, claims.approver, claims.groups, claims.approved) != said:
            return None
        known = Proof.ATTESTED
        if SEPARATOR in answer.proof:
            if answer.approved and not self._good(answer.proof, claims, now):
                return None
            known = Proof.CREDENTIAL
        return replace(answer, known=known, shown=SecondFactor.NONE)

    def _good(self, proof: str, claims: AnswerClaims, now: float) -> bool:
        """Return whether the credential of a yes is good."""
        assert self._authority is not None
        approver = self._authority.verify_answer(proof)[0]
        in_time = claims.issued_at <= now + _SKEW and max(now, claims.issued_at) < approver.expires_at
        return in_time and self._listed(approver)

    def _listed(self, approver: Approver) -> bool:
        kept = self._registry.get(approver.credential_id) if self._registry is not None else None
        return kept is not None and kept.approver == approver.id
