"""Who asks: the first thing that happens to a call, and again whenever it has waited.

Everything is looked at anew on each call, however often the session was good before: its token, the agent, and what
was taken back since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zt_agents.decisions import CHANGED_AGENT, Reason, ReasonCode
from zt_agents.errors import IdentityError, StoreError
from zt_agents.identity.principals import Agent, OnChange
from zt_agents.revocation import revoked
from zt_agents.session import Session

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
        for actor in claims.earlier:  # whoever goes on at another's word falls with them
            earlier = guard.registry.active(actor.agent_id)
            reason = reason or revoked(guard.revocations, session, earlier, now=now)
            if reason is None and earlier.under_review is OnChange.DENY:
                reason = CHANGED_AGENT
        return agent, reason
    except (IdentityError, StoreError) as error:
        return None, Reason(ReasonCode.IDENTITY, error.message)
