"""Standing approvals: the cure for being asked the same thing over and over.

::

    this agent may reset passwords of contractors until 18:00, at most 5 times

Rules:

1. Only where the terms permit it, for as many calls and for as long as they permit.
2. Somebody has signed it, for one agent, one tool and one user on whose behalf: it is their yes, for calls that nobody
   has made yet. Whether they may say yes to a call is asked anew at each call.
3. Each use is counted before it counts. Removing it, or its approver, ends it at once.
4. What a session remembers is the same thing, for one resource, made by the guard when somebody has said yes.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from zt_agents.approvals.requests import ApprovalRequest
from zt_agents.decisions import ToolCall
from zt_agents.identity.standing import StandingClaims

STANDING = "standing"
"""Its kind in the registry."""
_REMEMBERED_USES = 1_000
_REMEMBERED_SECONDS = 3_600
"""No session lives longer."""

Covers = Callable[[str, ToolCall], bool]
"""Whether a condition holds for a call."""


def covers(standing: StandingClaims, call: ToolCall, holds: Covers) -> bool:
    """Return whether *call* is one of those that were approved in advance."""
    return (
        call.agent is not None
        and call.user is not None
        and (standing.agent, standing.user, standing.tool) == (call.agent.id, call.user.id, call.tool)
        and standing.session in ("", call.session_id)
        and (standing.resource == call.resource if standing.resource else bool(standing.when))
        and (not standing.when or holds(standing.when, call))
    )


def in_advance(
    request: ApprovalRequest, *, approver: str, groups: tuple[str, ...], when: str, uses: int, now: float, until: float
) -> StandingClaims:
    """Return a standing approval of calls like that of *request*: of its resource, or those for which *when* holds.

    Raises:
        ValueError: it would be for no calls, or for all of them.
    """
    call = request.call
    return StandingClaims(
        id=uuid.uuid4().hex,
        approver=approver,
        groups=groups,
        agent=call.agent.id if call.agent else "",
        user=call.user.id if call.user else "",
        session="",
        tool=call.tool,
        resource="" if when else call.resource,
        when=when,
        uses=uses,
        issued_at=int(now),
        expires_at=int(until),
    )


def remembered(request: ApprovalRequest, *, approver: str, groups: tuple[str, ...], now: float) -> StandingClaims:
    """Return what is remembered of a yes to *request* for the rest of its session.

    Raises:
        ValueError: the call has no resource, so that nobody can tell which other calls are like it.
    """
    call = request.call
    if not call.session_id or not call.resource:
        raise ValueError("what is remembered is about one session and one resource")
    return StandingClaims(
        id=uuid.uuid4().hex,
        approver=approver,
        groups=groups,
        agent=call.agent.id if call.agent else "",
        user=call.user.id if call.user else "",
        session=call.session_id,
        tool=call.tool,
        resource=call.resource,
        when="",
        uses=_REMEMBERED_USES,
        issued_at=int(now),
        expires_at=int(now) + _REMEMBERED_SECONDS,
    )
