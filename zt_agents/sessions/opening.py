"""How a session is opened: for a user, or again from the token of one that was opened elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zt_agents.identity.principals import User
from zt_agents.identity.scopes import TaskScope
from zt_agents.revocation import refuse_revoked
from zt_agents.sessions.delegation import link
from zt_agents.sessions.session import Session

if TYPE_CHECKING:
    from zt_agents.guard import Guard


def open_session(
    guard: Guard,
    *,
    agent: str,
    on_behalf_of: User | str,
    intent: str,
    task: str,
    attributes: Mapping[str, Any] | None,
    ttl: int | None,
    scope: TaskScope | None,
    tenant: str,
) -> Session:
    """Return a new session; see :meth:`Guard.session`."""
    ttl = guard.policy.session_ttl if ttl is None else ttl
    user, ttl = guard.people.subject(on_behalf_of, ttl=ttl, now=guard.clock())
    actor = guard.registry.active(guard.registry.get(agent).id)
    token, claims = guard.issuer.issue(
        agent=actor, user=user, task=task, ttl=ttl, now=guard.clock(), scope=scope, tenant=tenant
    )
    refuse_revoked(guard.revocations, claims, actor, now=guard.clock())
    facts = MappingProxyType(dict(attributes or {}))
    session = Session(guard, agent=actor, user=user, intent=intent, attributes=facts, token=token, claims=claims)
    guard.baggage(session)  # what cannot be said is refused here, not in the first call
    return guard.admit(session)


def session_of(guard: Guard, token: str) -> Session:
    """Return the session that *token* proves; see :meth:`Guard.session_from_token`."""
    claims = guard.issuer.verify(token, now=guard.clock())
    agents = [guard.registry.active(actor.agent_id) for actor in claims.actors]
    for agent in agents:
        refuse_revoked(guard.revocations, claims, agent, now=guard.clock())
    session = guard.known(claims.session_id)
    if session is not None:
        return session
    session = Session(
        guard,
        agent=agents[0],
        user=User(claims.user_id, groups=claims.groups, roles=claims.roles, login=claims.login),
        intent="",
        attributes=MappingProxyType({}),
        token=token,
        claims=claims,
        outer=guard.known(claims.earlier[0].session_id) if claims.earlier else None,
    )
    link(session, session.outer)
    return guard.admit(session)
