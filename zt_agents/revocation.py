"""What a revocation stops: calls, sessions that would be opened, and requests that wait for a human.

Rules:

1. A call is asked about wherever it is identified: before it is decided, after each wait, before each step of a stream,
   before a recorded result is returned again. A body that runs is not interrupted; a long one asks
   :meth:`zt_agents.permit.Permit.check`.
2. Whoever works within a session falls with it: the sessions that a call was entered within are asked about, too.
3. To stop comes first: a revocation is in force before anything else is done about it, such as to record it. To let go
   again comes last: it is on record before it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from zt_agents.approvals import ApprovalState, ApprovalStore, StoredApproval
from zt_agents.audit import AuditLog
from zt_agents.audit.records import AuditRecord, change_record
from zt_agents.decisions import Reason, ReasonCode, ToolCall
from zt_agents.errors import AuditError, StoreError, TokenRevokedError, ZeroTrustError
from zt_agents.identity.revocations import (
    Bearing,
    Revocation,
    RevocationIndex,
    Revocations,
    RevocationStore,
    Revoked,
)

if TYPE_CHECKING:
    from zt_agents.identity import Agent, SessionClaims
    from zt_agents.sessions.session import Session

_DURABLE = 10.0
"""Seconds that a change waits for its record."""


def revoked(revocations: Revocations, session: Session, agent: Agent, *, now: float) -> Reason | None:
    """Return the reason against a call of *agent* in *session*, if it or a session around it was revoked.

    Raises:
        StoreError: nobody can tell.
    """
    inner: Session | None = session
    while inner is not None:
        owner = agent.owner if inner is session else inner.agent.owner
        found = revocations.find(inner.bearing(owner), now=now)
        if found is not None:
            return Reason(ReasonCode.REVOKED, said(found))
        inner = inner.within
    return None


def refuse_revoked(revocations: Revocations, claims: SessionClaims, agent: Agent, *, now: float) -> None:
    """Refuse to open a session for which something was revoked.

    Raises:
        TokenRevokedError: something was.
        StoreError: nobody can tell.
    """
    found = revocations.find(claims.bearing(agent.owner), now=now)
    if found is not None:
        raise TokenRevokedError(said(found), hint="See: zt-agents revocations")


def said(revocation: Revocation) -> str:
    """Return a sentence that says what was revoked, by whom, and under which id."""
    if revocation.kind is Revoked.ALL:
        what = "Everything"
    else:
        what = f"The agents of owner {revocation.value!r}" if revocation.kind is Revoked.OWNER else ""
        what = what or f"The {revocation.kind} {revocation.value!r}"
    verb = "were" if revocation.kind is Revoked.OWNER else "was"
    return f"{what} {verb} revoked by {revocation.by} ({revocation.id[:8]})."


class Stopped(NamedTuple):
    """What came of revoking. No call runs that falls under what was revoked, whatever else failed."""

    revoked: tuple[Revocation, ...]
    withdrawn: int
    """Requests for approval that waited, and do not any more."""
    missed: tuple[str, ...]
    """Values that were not revoked."""
    failures: tuple[ZeroTrustError, ...]
    """Why not; and why it is not on record, or requests still wait."""


def stop(
    kind: Revoked,
    values: Sequence[str],
    *,
    by: str,
    why: str,
    now: float,
    revocations: RevocationStore,
    approvals: ApprovalStore | None,
    audit: Callable[[], AuditLog],
) -> Stopped:
    """Revoke, withdraw the requests for approval that fall under it, and record it, in this order.

    What was approved in advance stays: no call that falls under a revocation is asked about.

    Args:
        kind: what is taken back.
        values: which, as tokens have it: of an agent its SPIFFE-format id. One empty text for all.
        by: who does it.
        why: their words, or an empty text.
        now: seconds since the epoch.
        revocations: where guards look.
        approvals: the store of approvals; None where there is none.
        audit: returns the log; it is opened last.

    Raises:
        StoreError: nothing was revoked.
        ValueError: a value is empty, or is not.
    """
    made, failures = list[Revocation](), list[ZeroTrustError]()
    for value in values:
        try:
            made.append(revocations.revoke(kind, value, by=by, why=why, now=now))
        except StoreError as error:
            if not made:
                raise
            failures.append(error)
            break
    withdrawn: dict[str, int] = {}
    try:
        for each in made:
            withdrawn[each.id] = _withdraw(each, approvals, now=now)
    except StoreError as error:
        failures.append(error)
    try:
        log = audit()
        for each in made:
            record = _record("revocation.made", each, by, why, now, withdrawn=withdrawn.get(each.id, 0))
            log.append(record).wait(_DURABLE)
    except (AuditError, StoreError) as error:
        failures.append(error)
    return Stopped(tuple(made), sum(withdrawn.values()), tuple(values[len(made) :]), tuple(failures))


def reinstate(
    revocation: Revocation, *, by: str, why: str, now: float, revocations: RevocationStore, audit: AuditLog
) -> bool:
    """Record that *revocation* is lifted, and lift it. Returns whether it was in force.

    Raises:
        AuditError: it could not be recorded, and is in force as before.
        StoreError: likewise it could not be lifted.
    """
    audit.append(_record("revocation.lifted", revocation, by, why, now)).wait(_DURABLE)
    return revocations.lift(revocation.id, now=now) is not None


def _record(what: str, revocation: Revocation, by: str, why: str, now: float, **facts: int) -> AuditRecord:
    about, kind = revocation.value or str(revocation.kind), str(revocation.kind)
    return change_record(what, about, by=by, why=why, time=now, kind=kind, id=revocation.id, **facts)


def _withdraw(revocation: Revocation, approvals: ApprovalStore | None, *, now: float) -> int:
    if approvals is None:
        return 0
    found = waiting(revocation, approvals, now=now)
    states = [approvals.settle(each.id, ApprovalState.CANCELLED, now=now).state for each in found]
    return states.count(ApprovalState.CANCELLED)


def waiting(revocation: Revocation, approvals: ApprovalStore, *, now: float) -> list[StoredApproval]:
    """Return the requests for approval that wait and fall under *revocation*.

    Raises:
        StoreError: the store of approvals cannot be used.
    """
    index = RevocationIndex()
    index.add(revocation)
    return [
        each
        for each in approvals.pending(now=now)
        if each.request is not None and any(index.find(link) is not None for link in _asked_for(each.request.call))
    ]


def _asked_for(call: ToolCall) -> Iterator[Bearing]:
    """Return what can be revoked of each on whose word *call* waits, and of its agent's owner when it was asked."""
    if call.agent is not None:
        yield Bearing((), "", (), "", "", call.agent.owner)
    for link in call.chain:
        yield Bearing((link.agent_id,), link.user, (link.session_id,), link.task, link.session_id, link.owner)
