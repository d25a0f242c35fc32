"""Standing approvals: the cure for being asked the same thing over and over.

::

    this agent may reset passwords of contractors until 18:00, at most 5 times

Rules:

1. Only where the terms permit it, for as many calls and for as long as they permit.
2. Somebody has signed it, for one agent, one tool and one user on whose behalf: it is their yes, for calls that nobody
   has made yet. Whether they may say yes to a call is asked anew at each call.
3. Each use is counted before it counts. Removing it, or its approver, ends it at once.
4. What a session remembers is the same thing, for one resource, made by the guard when somebody has said yes.
5. Calls are of one resource if its name has one meaning: where a name is put together from several arguments that could
   be cut elsewhere, none is like it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from zt_agents.approvals.registry import Enrolled
from zt_agents.approvals.requests import ApprovalRequest
from zt_agents.catalog.resources import names_one
from zt_agents.decisions import ToolCall
from zt_agents.identity.approving.standing import StandingClaims

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
        and (_is_of(standing.resource, call) if standing.resource else bool(standing.when))
        and (not standing.when or holds(standing.when, call))
    )


def _is_of(resource: str, call: ToolCall) -> bool:
    return call.resource == resource and call.spec is not None and names_one(call.spec.resource, call.arguments)


def listing(standing: StandingClaims, token: str, *, now: float) -> Enrolled:
    """Return *standing*, which was signed as *token*, as the registry has it."""
    by = (standing.id, standing.approver, STANDING, token, now)
    return Enrolled(*by, about=standing.about, until=standing.expires_at)


def in_advance(
    request: ApprovalRequest, *, approver: str, groups: tuple[str, ...], when: str, uses: int, now: float, until: float
) -> StandingClaims:
    """Return a standing approval of calls like that of *request*: of its resource, or those for which *when* holds.

    Raises:
        ValueError: it would be for no calls, or for all of them; or nobody can tell which calls are of its resource.
    """
    call = request.call
    if not when and not _is_of(call.resource, call):
        raise ValueError("its resource does not say which other calls are like it")
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
        ValueError: the call has no resource by which anybody could tell which other calls are like it.
    """
    call = request.call
    if not call.session_id or not call.resource or not _is_of(call.resource, call):
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
