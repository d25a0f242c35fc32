"""Who asks: the first thing that happens to a call, and again whenever it has waited.

Everything is looked at anew on each call, however often the session was good before: its token, the agent, and what
was taken back since.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from zt_agents.decisions import CHANGED_AGENT, Reason, ReasonCode
from zt_agents.errors import IdentityError, StoreError
from zt_agents.identity.manifests import Manifest
from zt_agents.identity.principals import Agent, OnChange
from zt_agents.identity.tokens import SessionClaims
from zt_agents.revocation import revoked
from zt_agents.sessions.session import Session

if TYPE_CHECKING:
    from zt_agents.guard import Guard


def identify(guard: Guard, session: Session | None, *, now: float) -> tuple[Agent | None, Reason | None]:
    """Return the agent that *session* proves, where it proves one, and what speaks against the call, if anything."""
    if session is None:
        text = "No session: open one with guard.session(...) around the agent's run."
        return None, Reason(ReasonCode.NO_SESSION, text)
    if session.guard is not guard:
        return None, Reason(ReasonCode.WRONG_GUARD, "The session belongs to another guard than the tool.")
    try:
        claims = guard.issuer.verify(session.token, now=now)
        if claims.user_id != session.user.id or claims.session_id != session.id:
            return None, Reason(ReasonCode.IDENTITY, "The session's token is not its own.")
        guard.people.refuse_unproven(claims.login)
        agent = guard.registry.active(claims.agent_id, session.seen)
        reason = revoked(guard.revocations, session, agent, now=now)
        if reason is None and agent.under_review is OnChange.DENY:
            reason = CHANGED_AGENT
        for agent_id, seen in _behind(session, claims).items():  # who goes on at another's word falls with them
            other = guard.registry.active(agent_id, seen)
            reason = reason or revoked(guard.revocations, session, other, now=now)
            if reason is None and other.under_review is OnChange.DENY:
                reason = CHANGED_AGENT
            if other.under_review is not None and agent.under_review is None:
                agent = replace(agent, under_review=other.under_review)
        return agent, reason
    except (IdentityError, StoreError) as error:
        return None, Reason(ReasonCode.IDENTITY, error.message)


def _behind(session: Session, claims: SessionClaims) -> dict[str, tuple[Manifest, ...]]:
    """Return the ids of those on whose word *session* goes on, each with what its own session saw it to be."""
    found: dict[str, tuple[Manifest, ...]] = {}
    outer = session.within
    while outer is not None:
        if outer.guard is session.guard:  # another guard knows other agents
            found[outer.claims.agent_id] = found.get(outer.claims.agent_id, ()) + outer.seen
        outer = outer.within
    for actor in claims.earlier:
        found.setdefault(actor.agent_id, ())
    return found
