"""Whether the answers given so far settle a request. Pure: the time is passed in, nothing is stored.

Rules:

1. One no is final, whoever gives it: a call that does not run harms nobody.
2. A yes counts from those whom every one of the request's terms lets answer, and once a person.
3. The user on whose behalf the agent acts is never an approver, unless the terms name ``session-user``.
4. Nothing counts that comes after the request has expired, or that is about another call.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from zt_agents.approvals.requests import SESSION_USER, Answer, ApprovalRequest, ApprovalState
from zt_agents.decisions import ApprovalTerms


def ruling(request: ApprovalRequest, answers: Iterable[Answer], *, now: float) -> ApprovalState:
    """Return where *request* stands after *answers*, each of which came in time."""
    answers = [answer for answer in answers if answer.binding_hash == request.binding_hash]
    if any(answer.approved is not True for answer in answers):
        return ApprovalState.DENIED
    if request.terms and all(_met(request, terms, answers) for terms in request.terms):
        return ApprovalState.APPROVED
    return ApprovalState.EXPIRED if now >= request.expires_at else ApprovalState.PENDING


def objection(request: ApprovalRequest, answer: Answer, *, now: float) -> str | None:
    """Return why *answer* does not count, in one sentence, or None."""
    if answer.binding_hash != request.binding_hash:
        return "The answer was given for another call."
    if now >= request.expires_at:
        return "The answer came after the request had expired."
    if not answer.approved or any(_eligible(request, terms, answer) for terms in request.terms):
        return None
    if answer.approver == SESSION_USER:
        return "Nobody vouched for who gave the answer, and the policy does not let the session's user approve."
    if _is_requester(request, answer):
        return f"{answer.approver} asked for it, and so may not approve it."
    return f"{answer.approver} is not one of its approvers."


def person(request: ApprovalRequest, answer: Answer) -> str:
    """Return the name by which two answers of one person are known to be one person's."""
    user = request.call.user
    return fold(user.id if answer.approver == SESSION_USER and user else answer.approver)


def fold(name: str) -> str:
    """Return *name* in the form in which it is compared where looking alike must not pass for being different."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def _met(request: ApprovalRequest, terms: ApprovalTerms, answers: Iterable[Answer]) -> bool:
    people = {person(request, answer) for answer in answers if _eligible(request, terms, answer)}
    return len(people) >= max(1, terms.quorum)


def _eligible(request: ApprovalRequest, terms: ApprovalTerms, answer: Answer) -> bool:
    requester = _is_requester(request, answer)
    if requester or answer.approver == SESSION_USER:
        return SESSION_USER in terms.approvers
    agent = request.call.agent
    for word in terms.approvers:
        kind, _, name = word.partition(":")
        if (
            word == "anyone"
            or (word == "owner" and agent is not None and answer.approver == agent.owner)
            or (kind == "user" and name == answer.approver)
            or (kind == "group" and name in answer.groups)
        ):
            return True
    return False


def _is_requester(request: ApprovalRequest, answer: Answer) -> bool:
    user = request.call.user
    return user is not None and fold(answer.approver) == fold(user.id)
