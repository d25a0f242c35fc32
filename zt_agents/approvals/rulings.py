"""Whether the answers given so far settle a request. Pure: the time is passed in, nothing is stored.

Rules:

1. One no is final, whoever gives it: a call that does not run harms nobody.
2. A yes counts from those whom every one of the request's terms lets answer, and once a person.
3. The user on whose behalf the agent acts is never an approver, unless the terms name ``session-user``. Whom the terms
   exclude is none either, whatever else they are. Their groups are those that their credential says, or whoever
   vouches for them: whom nobody puts in a group is not excluded with it.
4. Nothing counts that comes after the request has expired, or that is about another call; nor a yes of whom the terms
   want to be known better, or want a second factor from.
5. A condition that nobody here can evaluate holds for nobody.
6. Silence is a yes only where the terms say so, after somebody was told, and never for a call of the high tier. A yes
   given in advance counts only as far as the terms permit that. What a session remembers is the guard's word, and no
   such yes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zt_agents._internal.canonical import digest
from zt_agents._internal.folding import fold
from zt_agents.approvals.requests import (
    NOBODY_OBJECTED,
    RESERVED,
    SESSION_USER,
    Answer,
    ApprovalRequest,
    ApprovalState,
)
from zt_agents.approvals.store import StoredApproval
from zt_agents.catalog.specs import Tier
from zt_agents.decisions import ApprovalTerms, Proof, SecondFactor
from zt_agents.identity.approving.approvers import SEPARATOR

Holds = Callable[[str, ApprovalRequest, Answer], bool]
"""Whether a condition of the terms holds for a request and whoever gave an answer."""


def untold(_when: str, _request: ApprovalRequest, _answer: Answer) -> bool:
    """Say that no condition holds, where there is nothing to evaluate one with."""
    return False


def ruling(
    request: ApprovalRequest,
    answers: Iterable[Answer],
    *,
    now: float,
    holds: Holds = untold,
    noticed_at: float | None = None,
) -> ApprovalState:
    """Return where *request* stands after *answers*, each of which came in time; somebody was told at *noticed_at*."""
    answers = [answer for answer in answers if answer.binding_hash == request.binding_hash]
    if any(answer.approved is not True for answer in answers):
        return ApprovalState.DENIED
    if request.terms and all(
        _met(request, terms, answers, now, holds) or _unopposed(request, terms, noticed_at, now)
        for terms in request.terms
    ):
        return ApprovalState.APPROVED
    return ApprovalState.EXPIRED if now >= request.expires_at else ApprovalState.PENDING


def objection(request: ApprovalRequest, answer: Answer, *, now: float, holds: Holds = untold) -> str | None:
    """Return why *answer* does not count, in one sentence, or None."""
    if answer.binding_hash != request.binding_hash:
        return "The answer was given for another call."
    if now >= request.expires_at:
        return "The answer came after the request had expired."
    if not answer.approved:
        return None
    why = [_against(request, terms, answer, now, holds) for terms in request.terms]
    return None if None in why else (why[0] if why else "Nobody may approve it.")


def count(
    request: ApprovalRequest, answers: Iterable[Answer], *, now: float, holds: Holds = untold
) -> tuple[Answer, ...]:
    """Return those of *answers* that count for one of the request's terms at least: yeses of who may, and every no."""
    return tuple(
        answer for answer in answers if not answer.approved or counts_for(request, answer, now=now, holds=holds)
    )


def counts_for(
    request: ApprovalRequest, answer: Answer, *, now: float, holds: Holds = untold
) -> frozenset[ApprovalTerms]:
    """Return the terms of *request* for which the yes *answer* counts."""
    return frozenset(terms for terms in request.terms if _against(request, terms, answer, now, holds) is None)


def person(request: ApprovalRequest, answer: Answer) -> str:
    """Return the name by which two answers of one person are known to be one person's."""
    user = request.call.user
    return fold(user.id if answer.approver == SESSION_USER and user else answer.approver)


def filed_as(request: ApprovalRequest, answer: Answer) -> str:
    """Return the name under which *answer* is kept: of each person one, and another one that is known better."""
    standing = f"#{answer.standing.id}" if answer.standing is not None else ""
    credential, separator, _ = answer.proof.partition(SEPARATOR)
    by = f"#{digest(credential.encode()).hex()[:16]}" if separator else ""  # another one may be good where this is not
    return f"{person(request, answer)}#{answer.known}#{answer.shown}{by}{standing}"


def already(stored: StoredApproval, answer: Answer) -> str:
    """Return why *answer* came too late to *stored*, in one sentence."""
    no = next((each.approver for each in stored.answers if not each.approved), "Somebody")
    used = "It was approved, and that approval has been used." if stored.consumed_at else "It is approved already."
    sentences = {
        ApprovalState.PENDING: f"{answer.approver} has answered it already.",
        ApprovalState.APPROVED: used,
        ApprovalState.DENIED: f"{no} said no to it, and one no is final.",
        ApprovalState.EXPIRED: "It expired before it was answered.",
        ApprovalState.CANCELLED: "It was withdrawn.",
        ApprovalState.FAILED: "Nobody who may answer did so in time.",
    }
    return sentences[stored.state]


def _met(
    request: ApprovalRequest, terms: ApprovalTerms, answers: Iterable[Answer], now: float, holds: Holds
) -> bool:
    counted = (answer for answer in answers if _against(request, terms, answer, now, holds) is None)
    return len({person(request, answer) for answer in counted}) >= max(1, terms.quorum)


def _unopposed(request: ApprovalRequest, terms: ApprovalTerms, noticed_at: float | None, now: float) -> bool:
    """Return whether those who were told have kept silent for long enough."""
    if not terms.grace or noticed_at is None or request.decision.tier is Tier.HIGH:
        return False
    return max(noticed_at, request.call.time) + terms.grace <= now < request.expires_at


def silent_yes_after(request: ApprovalRequest) -> int | None:
    """Return after how many seconds silence is a yes to *request*, or None where it never is."""
    if request.decision.tier is Tier.HIGH or not all(terms.grace for terms in request.terms):
        return None
    return max((terms.grace for terms in request.terms), default=None)


def _against(
    request: ApprovalRequest, terms: ApprovalTerms, answer: Answer, now: float, holds: Holds
) -> str | None:
    """Return what speaks against counting the yes *answer* for *terms*, in one sentence."""
    who = answer.approver
    requester = _is_requester(request, answer)
    if requester or who == SESSION_USER:
        if SESSION_USER not in terms.approvers:
            if requester:
                return f"{who} asked for it, and so may not approve it."
            return "Nobody vouched for who gave the answer, and the policy does not let the session's user approve."
    elif who == NOBODY_OBJECTED:
        if not (terms.grace and answer.standing is not None and answer.standing.session):
            return "Silence is not an answer that somebody gives."
    elif fold(who) in RESERVED:
        return f"{who} is a word of the policy, and nobody's name."
    else:
        escalated = 0 < terms.escalate_after <= now - request.call.time
        words = terms.approvers + terms.escalate_to if escalated else terms.approvers
        if not any(_is(request, word, answer) for word in words):
            if any(_is(request, word, answer) for word in terms.escalate_to):
                return f"{who} is not asked yet: others have time to answer first."
            return f"{who} is not one of its approvers."
    if any(_is(request, word, answer, alike=True) for word in terms.exclude):
        return f"{who} may not approve it: the policy excludes them."
    if answer.standing is not None and not _permitted(request, terms, answer):
        return "The policy does not let such calls be approved in advance, or not for so many, or for so long."
    if terms.proof is Proof.CREDENTIAL and answer.known is not Proof.CREDENTIAL:
        return f"The policy wants {who} to answer with a credential of their own."
    if terms.second_factor is not SecondFactor.NONE and answer.shown not in _SATISFIED_BY[terms.second_factor]:
        return f"The policy wants a second factor of {who} ({terms.second_factor})."
    if terms.when and not holds(terms.when, request, answer):
        return f"The policy's condition on approvers does not hold for {who}, or cannot be evaluated here."
    return None


def _permitted(request: ApprovalRequest, terms: ApprovalTerms, answer: Answer) -> bool:
    standing = answer.standing
    assert standing is not None
    if standing.session:
        return answer.known is Proof.ATTESTED and terms.remember and request.decision.tier is not Tier.HIGH
    return (
        standing.uses <= terms.standing_uses and standing.expires_at - standing.issued_at <= terms.standing_within
    )


_SATISFIED_BY = {
    SecondFactor.ANY: {SecondFactor.TOTP, SecondFactor.PASSKEY},
    SecondFactor.TOTP: {SecondFactor.TOTP},
    SecondFactor.PASSKEY: {SecondFactor.PASSKEY},
}


def _is(request: ApprovalRequest, word: str, answer: Answer, *, alike: bool = False) -> bool:
    """Return whether *word* of the terms means whoever gave *answer*; *alike*: or somebody who looks the same."""
    same = fold if alike else str
    kind, _, name = word.partition(":")
    agent = request.call.agent
    if kind == "group":
        return same(name) in {same(group) for group in answer.groups}
    named = name if kind == "user" else agent.owner if word == "owner" and agent is not None else None
    return word == "anyone" or (named is not None and same(named) == same(answer.approver))


def _is_requester(request: ApprovalRequest, answer: Answer) -> bool:
    user = request.call.user
    return user is not None and fold(answer.approver) == fold(user.id)
