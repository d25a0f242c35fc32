"""Who gave an answer, and how that is known: attests what somebody is vouched for, and verifies what is filed.

Rules:

1. An answer is attested with the guard's signing key, or signed with its approver's own. Either is bound to one call.
2. An answer counts if it was given since the call was first asked about: one kept from before a store was lost, or
   given to another store, is none. Nor is a yes from after the request had expired.
3. A yes counts while its credential is good and listed; a no counts whatever became of the credential. A yes that is
   vouched for counts unless its approver was deprived of a credential since: through one they may have signed in.
4. What an answer says of how it is known, which factor was shown, and whether it was given in advance, is never
   believed: all are worked out here.
5. A standing approval stands in for an answer while it is listed, covers the call, and was used for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from zt_agents.approvals import (
    CREDENTIAL,
    NOBODY_OBJECTED,
    STANDING,
    Answer,
    ApprovalRequest,
    ApproverRegistry,
    Enrolled,
    counts_for,
    covers,
    listing,
    person,
    remembered,
)
from zt_agents.catalog.specs import Tier
from zt_agents.decisions import ApprovalTerms, Proof, SecondFactor, ToolCall
from zt_agents.desk.factors import SecondFactors
from zt_agents.errors import IdentityError
from zt_agents.identity import AnswerClaims, ApprovalSigner, Approver, ApproverAuthority, StandingClaims, User
from zt_agents.identity.approving import approvers, attestations
from zt_agents.identity.approving.approvers import SEPARATOR
from zt_agents.identity.approving.standing import about
from zt_agents.identity.signing import jws

STANDING_TYPES = {attestations.STANDING_TYPE, approvers.STANDING_TYPE}
_SKEW = 60
"""Seconds by which an approver's clock may be ahead of the guard's."""


class Conditions(Protocol):
    """Evaluates CEL; without one, no condition holds."""

    def holds(self, when: str, call: ToolCall, approver: User) -> bool:
        """Return whether the policy's condition *when* holds for whoever approves *call*."""

    def covers(self, when: str, call: ToolCall) -> bool:
        """Return whether the condition *when*, which an approver has written, holds for *call*."""


class AnswerProofs:
    """Attests answers and verifies them. Safe to share between threads and processes."""

    def __init__(
        self,
        signer: ApprovalSigner,
        authority: ApproverAuthority | None = None,
        registry: ApproverRegistry | None = None,
        conditions: Conditions | None = None,
        factors: SecondFactors | None = None,
    ) -> None:
        self.signer = signer
        self.factors = factors
        self._conditions = conditions
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

    def holds(self, when: str, request: ApprovalRequest, answer: Answer) -> bool:
        """Return whether a condition of the terms holds for *request* and whoever gave *answer*."""
        approver = User(answer.approver, groups=answer.groups)
        return self._conditions is not None and self._conditions.holds(when, request.call, approver)

    def verified(self, request: ApprovalRequest, answer: Answer, *, now: float) -> Answer | None:
        """Return *answer* with how it is known and what was shown, or None if it is not proven.

        Raises:
            StoreError: the registry cannot be used.
        """
        if jws.kind_of(answer.proof.rpartition(SEPARATOR)[2]) in STANDING_TYPES:
            return self._in_advance(request, answer, now)
        claims = self.since(request, answer.proof)
        said = (answer.binding_hash, answer.approver, answer.groups, answer.approved)
        if claims is None or (claims.binding_hash, claims.approver, claims.groups, claims.approved) != said:
            return None
        if answer.approved and claims.issued_at >= request.expires_at:
            return None
        known = Proof.ATTESTED
        if SEPARATOR in answer.proof:
            if answer.approved and not self._good(answer.proof, claims.issued_at, now):
                return None
            known = Proof.CREDENTIAL
        elif answer.approved and self._deprived(claims.approver, claims.issued_at):
            return None
        shown = self.factors.shown(request, answer) if self.factors is not None else SecondFactor.NONE
        if shown is SecondFactor.PASSKEY:  # it has signed the answer, too
            known = Proof.CREDENTIAL
        return replace(answer, known=known, shown=shown, standing=None)

    # -- standing approvals ---------------------------------------------------------------------------------------

    def stand_in(self, request: ApprovalRequest, *, now: float) -> Iterator[Answer]:
        """Yield an answer for each standing approval that *request* needs; each has one use less then.

        Of one person, only those that count for terms for which none before them does.
        """
        call, registry = request.call, self._registry
        permitted = any(terms.standing_uses or terms.remember for terms in request.terms)
        if registry is None or call.agent is None or call.user is None or not permitted or now >= request.expires_at:
            return
        met: dict[str, frozenset[ApprovalTerms]] = {}
        for session in (call.session_id, ""):
            for enrolled in registry.list(kind=STANDING, about=about(call.agent.id, call.user.id, call.tool, session)):
                answer = self._stands(request, enrolled.token, enrolled, now)
                if answer is None:
                    continue
                who, counts = person(request, answer), counts_for(request, answer, now=now, holds=self.holds)
                before = met.get(who, frozenset())
                if counts <= before or not registry.use(
                    enrolled.id, request.binding_hash, most=_standing(answer).uses
                ):
                    continue
                met[who] = before | counts
                yield answer

    def remember(self, request: ApprovalRequest, answers: Iterable[Answer], *, now: float) -> None:
        """Let the rest of its session do what *answers* have approved, where the terms say so.

        Raises:
            StoreError: the registry cannot be used.
        """
        wanted = request.decision.tier is not Tier.HIGH and any(terms.remember for terms in request.terms)
        if self._registry is None or not wanted:
            return
        silence = Answer(request.binding_hash, True, NOBODY_OBJECTED)
        for answer in list(answers) or [silence]:
            if answer.standing is not None:
                continue
            try:
                claims = remembered(request, approver=answer.approver, groups=answer.groups, now=now)
            except ValueError:
                return
            self._registry.add(listing(claims, self.signer.standing(claims), now=now))
            if answer.proof and self.verified(request, answer, now=now) is None:  # they were removed meanwhile
                self._registry.remove(claims.approver, now=now, enrolled_id=claims.id)

    def _in_advance(self, request: ApprovalRequest, answer: Answer, now: float) -> Answer | None:
        made = self._stands(request, answer.proof, None, now)
        said = (answer.approver, answer.groups, answer.approved, answer.binding_hash)
        if made is None or said != (made.approver, made.groups, made.approved, made.binding_hash):
            return None
        assert self._registry is not None
        return made if self._registry.used(_standing(made).id, request.binding_hash) else None

    def _stands(self, request: ApprovalRequest, proof: str, kept: Enrolled | None, now: float) -> Answer | None:
        """Return the answer that the standing approval *proof* makes to *request*, if it is good and covers it."""
        try:
            if SEPARATOR not in proof:
                claims, known = self.signer.verify_standing(proof), Proof.ATTESTED
            elif self._authority is not None:
                claims, known = self._authority.verify_standing(proof)[1], Proof.CREDENTIAL
            else:
                return None
        except IdentityError:
            return None
        if kept is None and self._registry is not None:
            kept = self._registry.get(claims.id)
        if kept is None or (kept.id, kept.approver, kept.token) != (claims.id, claims.approver, proof):
            return None
        if not claims.issued_at - _SKEW <= now < claims.expires_at:
            return None
        if known is Proof.CREDENTIAL and not self._good(proof, claims.issued_at, now):
            return None
        if known is Proof.ATTESTED and self._deprived(claims.approver, claims.issued_at):
            return None
        if not covers(claims, request.call, self._conditions.covers if self._conditions is not None else _nothing):
            return None
        by = (request.binding_hash, True, claims.approver)
        return Answer(*by, groups=claims.groups, proof=proof, known=known, standing=claims)

    def _good(self, proof: str, issued_at: int, now: float) -> bool:
        """Return whether the credential of a yes is good."""
        assert self._authority is not None
        approver = self._authority.verify(proof.partition(SEPARATOR)[0])
        in_time = issued_at <= now + _SKEW and max(now, issued_at) < approver.expires_at
        return in_time and self._listed(approver)

    def _deprived(self, approver: str, since: int) -> bool:
        return self._registry is not None and self._registry.removed(approver, CREDENTIAL, since=since)

    def _listed(self, approver: Approver) -> bool:
        kept = self._registry.get(approver.credential_id) if self._registry is not None else None
        return kept is not None and kept.approver == approver.id


def _standing(answer: Answer) -> StandingClaims:
    assert answer.standing is not None
    return answer.standing


def _nothing(_when: str, _call: ToolCall) -> bool:
    return False
