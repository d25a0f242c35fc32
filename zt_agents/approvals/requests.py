"""What a human is asked, and what they answered.

A request is bound to one call: ``binding_hash`` covers subject, resource, action with its exact arguments, and
context. An answer carries the hash of the request it answers; an answer to anything else is no answer.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from zt_agents._internal.canonical import digest, encode
from zt_agents._internal.display import visible
from zt_agents.decisions import ApprovalTerms, Decision, Proof, SecondFactor, ToolCall
from zt_agents.identity.approving.standing import StandingClaims

SESSION_USER = "session-user"
"""Stands for whoever holds the session, where nobody vouches for who they are."""
NOBODY_OBJECTED = "nobody-objected"
"""Stands for the silence of all who were told, where the policy takes that for a yes."""
_TURN = "turn "
RESERVED = frozenset({SESSION_USER, NOBODY_OBJECTED, "anyone", "owner"})
"""Words that are nobody's name."""


class ApprovalState(StrEnum):
    """Where a request stands. It changes once, from pending to one of the others."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    """Withdrawn by whoever asked, or because the right to ask was taken back."""
    FAILED = "failed"
    """Nobody could be asked, or nobody who may answer did."""


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """One call that waits for a human."""

    id: str
    binding_hash: str
    call: ToolCall
    """Shown whole to the human: they decide on these very arguments."""
    decision: Decision
    expires_at: float
    """Seconds since the epoch; an answer counts strictly before it."""
    terms: tuple[ApprovalTerms, ...] = (ApprovalTerms(),)
    """Who has to say yes: all of these must be met."""
    trace_id: str = ""
    """The trace in which it was asked: 32 hex digits, or an empty string."""
    span_id: str = ""
    """The span of the call that asked: 16 hex digits, or an empty string."""
    nonce: str = ""
    """Part of the binding of a call without an id, so that no two such calls are one."""
    signer: str = ""
    """Who signs its answers: :attr:`ApprovalSigner.id`."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Other arguments that an approver wants: another call of the same tool, which is decided afresh."""

    arguments: Mapping[str, Any]
    proof: str = ""
    """The approver's signed yes to that other call."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a human said. An answer that nobody gave cannot be made."""

    binding_hash: str
    approved: bool
    approver: str
    """Who answered, as the channel knows them."""
    comment: str = ""
    groups: tuple[str, ...] = ()
    """Groups of the approver, as the channel knows them."""
    proof: str = ""
    """The answer as a signed token, where it has one already."""
    edit: Edit | None = None
    """What to call instead; only with a no."""
    factor: str = ""
    """Evidence of a second factor, for this very call."""
    known: Proof = Proof.ATTESTED
    """How it is known who gave it: as the guard has verified it, whatever a channel says here."""
    shown: SecondFactor = SecondFactor.NONE
    """The second factor that the guard has verified."""
    standing: StandingClaims | None = None
    """The standing approval that it comes from, as the guard has verified it."""

    def __post_init__(self) -> None:
        if type(self.approved) is not bool:
            raise TypeError("an answer is True or False")
        if not isinstance(self.approver, str) or not self.approver.strip():
            raise ValueError("an answer needs somebody who gave it")
        if visible(self.approver) != self.approver:  # two names that look the same are two people
            raise ValueError("whoever gives an answer has a printable name")


def request_approval(call: ToolCall, decision: Decision, *, timeout: float, turn: str = "") -> ApprovalRequest:
    """Return the request for *call*, which expires *timeout* seconds after the question was asked.

    The terms of the decision may set an earlier end. A call with an id is the same call whenever it is made again, also
    in another process; one without an id is never another one's. With a *turn*, calls of the same arguments in one
    session are the same call in that turn.
    """
    terms = decision.terms or (ApprovalTerms(timeout=int(timeout)),)
    request_id = uuid.uuid4().hex
    nonce = turn or ("" if call.call_id else request_id)
    return ApprovalRequest(
        id=request_id,
        binding_hash=binding_hash(call, nonce=nonce),
        call=call,
        decision=decision,
        expires_at=call.time + min(timeout, *(each.timeout for each in terms)),
        terms=terms,
        nonce=nonce,
    )


def turn(number: int) -> str:
    """Return the name of a turn in which the same call is made, whatever its id."""
    return f"{_TURN}{number}"


def binding_hash(call: ToolCall, *, nonce: str = "") -> str:
    """Return base64url(SHA-256(JCS({subject, resource, action, context}))).

    The shape of the AuthZEN Access Request and Approval draft: canonical arguments in ``action.properties``.

    Raises:
        ArgumentsError: the arguments have no canonical encoding.
    """
    context = {
        "agent": call.agent.id if call.agent else "",
        "session": call.session_id,
        "call_id": None if nonce.startswith(_TURN) else call.call_id,
    }
    bound = {
        "subject": {"type": "user", "id": call.user.id if call.user else ""},
        "resource": {"type": call.spec.system if call.spec else "", "id": call.resource},
        "action": {"name": call.tool, "properties": dict(call.arguments)},
        "context": context | ({"nonce": nonce} if nonce else {}),
    }
    return base64.urlsafe_b64encode(digest(encode(bound))).rstrip(b"=").decode()
