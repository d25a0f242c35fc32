"""Files signed answers under the requests they are about, and settles requests by what was answered and by the time.

Rules:

1. Every answer is filed signed, and only answers that are proven (:mod:`zt_agents.desk.proofs`) are ruled on: when they
   are filed, and each time the request is looked at.
2. An answer counts for the very call it was given for, at the guard that asked, and once.
3. A request that is approved has a grant: signed, for this call alone, and good for a while.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from zt_agents._internal.clock import Clock
from zt_agents.approvals import (
    NOBODY_OBJECTED,
    Answer,
    ApprovalRequest,
    ApprovalState,
    ApprovalStore,
    Edit,
    StoredApproval,
    already,
    filed_as,
    objection,
    ruling,
)
from zt_agents.decisions import SecondFactor
from zt_agents.desk.proofs import AnswerProofs
from zt_agents.identity import AnswerClaims, GrantClaims


class AnswerDesk:
    """Where answers are filed: all that a console, a command or a channel needs. Nobody is asked here.

    Safe to share between threads and processes.
    """

    def __init__(self, *, store: ApprovalStore, proofs: AnswerProofs, clock: Clock) -> None:
        self.store = store
        self.proofs = proofs
        self.signer = proofs.signer
        self._clock = clock

    def file(self, answer: Answer) -> str | None:
        """File *answer* under the request it is about. Returns why it does not count, in one sentence, or None."""
        stored = self.store.find(answer.binding_hash)
        if stored is None or stored.request is None:
            return "The answer was given for another call."
        if stored.request.signer != self.signer.id:
            return "This is not the signing key, or not the trust domain, of the guard that asked."
        request, now = stored.request, self._clock()
        signed = answer if answer.proof else self.proofs.attested(request, answer, now=now)
        verified = self.proofs.verified(request, signed, now=now)
        if verified is None:
            return "The answer's signature or credential is not good, or it is from before the call was asked about."
        why = objection(request, verified, now=now, holds=self.proofs.holds)
        if why is not None:
            return why
        factors = self.proofs.factors
        if verified.shown is SecondFactor.PASSKEY and factors is not None:
            advanced = factors.advance(request, signed)
            if verified.approved and not advanced:
                return "The passkey's counter did not advance: there may be a copy of it."
        new = self.store.file(stored.id, filed_as(request, verified), signed, now=now)
        stands = self._settled(self.store.get(stored.id) or stored)
        return None if new else already(stands, answer)

    def read(self, proof: str) -> AnswerClaims | None:
        """Return what the signed answer *proof* says, if its signature holds."""
        return self.proofs.read(proof)

    def notice(self, request_id: str) -> None:
        """Note that somebody is told of a request now."""
        self.store.notice(request_id, now=self._clock())

    def look(self, request_id: str) -> ApprovalState:
        """Return where a request stands by its answers and the time; one that is unknown has failed."""
        stored = self.store.get(request_id)
        return ApprovalState.FAILED if stored is None else self._settled(stored).state

    def proven(self, stored: StoredApproval) -> list[Answer]:
        """Return the answers to *stored* whose proof holds, oldest first."""
        return self._answers(stored.request, stored) if stored.request is not None else []

    def _settled(self, stored: StoredApproval) -> StoredApproval:
        """Settle *stored* if its answers, or the time, do."""
        request, now = stored.request, self._clock()
        if stored.state is not ApprovalState.PENDING or request is None:
            return stored
        answers = self._answers(request, stored)
        state = self._ruling(request, stored, answers)
        if state is ApprovalState.PENDING:
            return stored
        grant = ""
        if state is ApprovalState.APPROVED:
            # An approval that nobody was there to notice is not a fresh one when somebody is.
            until = math.ceil(min(now, request.expires_at) + min(terms.timeout for terms in request.terms))
            claims = GrantClaims(request.id, request.binding_hash, who_approved(answers), until)
            grant = self.signer.grant(claims, now=now)
        seen = len(stored.answers)
        settled = self.store.settle(request.id, state, now=now, grant=grant, answers=seen)
        return settled if len(settled.answers) == seen else self._settled(settled)

    def _answers(self, request: ApprovalRequest, stored: StoredApproval) -> list[Answer]:
        now = self._clock()
        verified = (self.proofs.verified(request, answer, now=now) for answer in stored.answers)
        return [answer for answer in verified if answer is not None]

    def _ruling(self, request: ApprovalRequest, stored: StoredApproval, answers: Iterable[Answer]) -> ApprovalState:
        now, holds = self._clock(), self.proofs.holds
        return ruling(request, answers, now=now, holds=holds, noticed_at=stored.noticed_at)

    def edit(self, request_id: str, *, call_id: str | None) -> Edit | None:
        """Return what an approver wants to be called instead of *call_id*, if its *request_id* was denied."""
        stored = self.store.get(request_id)
        if stored is None or stored.request is None or stored.state is not ApprovalState.DENIED:
            return None
        denial = denial_among(self._answers(stored.request, stored))
        if denial is None or denial.edit is None or stored.request.call.call_id != call_id:
            return None
        return denial.edit if self.proofs.since(stored.request, denial.edit.proof) else replace(denial.edit, proof="")

    def withdraw(self, request_id: str) -> bool:
        """Take a pending request back. Returns whether it was still pending."""
        before = self.store.get(request_id)
        if before is None or before.state is not ApprovalState.PENDING:
            return False
        return (
            self.store.settle(request_id, ApprovalState.CANCELLED, now=self._clock()).state is ApprovalState.CANCELLED
        )


def who_approved(answers: Iterable[Answer]) -> tuple[str, ...]:
    """Return who said yes: somebody, or all who were told, by their silence."""
    return tuple(dict.fromkeys(answer.approver for answer in answers)) or (NOBODY_OBJECTED,)


def denial_among(answers: Iterable[Answer]) -> Answer | None:
    return next((each for each in answers if not each.approved), None)
