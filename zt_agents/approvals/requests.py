"""What a human is asked, and what they answered.

A request is bound to one call: ``binding_hash`` covers subject, resource, action with its exact arguments, and
context. An answer carries the hash of the request it answers; an answer to anything else is no answer.
"""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass

from zt_agents._internal.canonical import digest, encode
from zt_agents.decisions import Decision, ToolCall


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


@dataclass(frozen=True, slots=True)
class Answer:
    """What a human said. An answer that nobody gave cannot be made."""

    binding_hash: str
    approved: bool
    approver: str
    """Who answered, as the channel knows them."""
    comment: str = ""

    def __post_init__(self) -> None:
        if type(self.approved) is not bool:
            raise TypeError("an answer is True or False")
        if not isinstance(self.approver, str) or not self.approver.strip():
            raise ValueError("an answer needs somebody who gave it")


def request_approval(call: ToolCall, decision: Decision, *, timeout: float) -> ApprovalRequest:
    """Return the request for *call*, which expires *timeout* seconds after the question was asked."""
    return ApprovalRequest(
        id=uuid.uuid4().hex,
        binding_hash=binding_hash(call),
        call=call,
        decision=decision,
        expires_at=call.time + timeout,
    )


def binding_hash(call: ToolCall) -> str:
    """Return base64url(SHA-256(JCS({subject, resource, action, context}))).

    The shape of the AuthZEN Access Request and Approval draft: canonical arguments in ``action.properties``.

    Raises:
        ArgumentsError: the arguments have no canonical encoding.
    """
    bound = {
        "subject": {"type": "user", "id": call.user.id if call.user else ""},
        "resource": {"type": call.spec.system if call.spec else "", "id": call.resource},
        "action": {"name": call.tool, "properties": dict(call.arguments)},
        "context": {
            "agent": call.agent.id if call.agent else "",
            "session": call.session_id,
            "call_id": call.call_id,
        },
    }
    return base64.urlsafe_b64encode(digest(encode(bound))).rstrip(b"=").decode()
