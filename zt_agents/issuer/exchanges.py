"""Tokens for tokens (RFC 8693), and what becomes of them: introspection (RFC 7662) and revocation (RFC 7009).

Rules:

1. A session's token is exchanged for one of the agent that asks, who proves itself by its own key: it names nobody
   else. The new token has a narrower scope or the same, ends no later, and names everyone on whose word it acts.
2. The policy says who may hand on to whom, and how far; the registry that everyone in the chain is active; and nothing
   that the token says was revoked. All of it is looked at for every exchange.
3. A token is handed out when that is on record, and not before.
4. A token that is not good is told apart from one that never was by nobody: it is not active, and that is all.
5. A session's token is revoked by an agent that acts in it, or on whose word it acts, together with what came of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from zt_agents._internal.hidden import Hidden
from zt_agents.errors import DelegationError, IdentityError
from zt_agents.identity.principals import Agent, OnChange
from zt_agents.identity.revocations import Revoked
from zt_agents.identity.scopes import TaskScope
from zt_agents.identity.tokens import SessionClaims
from zt_agents.revocation import refuse_revoked, stop
from zt_agents.sessions.delegation import delegation_record

if TYPE_CHECKING:
    from zt_agents.audit.receipts import Receipt
    from zt_agents.guard import Guard
    from zt_agents.issuer.clients import Client

_MAX_DETAILS = 16_384


class Exchanged(NamedTuple):
    """A new token, to be handed out when :attr:`receipt` is durable."""

    token: Hidden[str]
    claims: SessionClaims
    receipt: Receipt


class Exchanges:
    """What the endpoints do, without HTTP. Safe to share between threads."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def exchange(self, subject_token: str, actor: Agent, scope: TaskScope | None) -> Exchanged:
        """Return the token by which *actor* goes on with the task of *subject_token*.

        Raises:
            IdentityError: *subject_token* is not good, or somebody in it may not act.
            DelegationError: the policy does not let its agent hand on to *actor*.
            ScopeError: *scope* asks for more than there was.
            AuditError: it cannot be recorded.
            StoreError: nobody can tell.
        """
        guard, now = self._guard, self._guard.clock()
        before = guard.issuer.verify(subject_token, now=now)
        delegator = self._standing(before, now)
        actor = guard.registry.active(actor.id)
        if actor.under_review is OnChange.DENY:
            raise DelegationError("The agent has changed and waits for somebody to look at it.")
        token, claims = guard.issuer.exchange(
            subject_token,
            delegator=delegator,
            actor=actor,
            depth=guard.policy.delegation_depth,
            now=now,
            scope=scope,
        )
        refuse_revoked(guard.revocations, claims, actor, now=now)
        record = delegation_record(delegator, actor, claims, time=now)
        return Exchanged(Hidden(token), claims, guard.audit.append(record, awaited=True))

    def active(self, token: str) -> SessionClaims | None:
        """Return what *token* says, if a guard would take it now.

        Raises:
            StoreError: nobody can tell.
        """
        now = self._guard.clock()
        try:
            claims = self._guard.issuer.verify(token, now=now)
            self._standing(claims, now)
        except IdentityError:
            return None
        return claims

    def revoke(self, token: str, client: Client) -> None:
        """Revoke the session of *token*, and those that came of it, if *client* may; a token that is not good is none.

        Raises:
            DelegationError: it is not *client* who acts, nor on whose word anybody does.
            StoreError: it was not revoked.
        """
        now = self._guard.clock()
        try:
            claims = self._guard.issuer.verify(token, now=now)
        except IdentityError:
            return
        if client.id not in {actor.agent_id for actor in claims.actors}:
            raise DelegationError("The token is not one in which the agent acts.")
        stopped = stop(
            Revoked.SESSION,
            [claims.session_id],
            by=client.id,
            why="asked for by the agent",
            now=now,
            revocations=self._guard.revocations,
            approvals=self._guard.desk.store,
            audit=lambda: self._guard.audit,
        )
        for failure in stopped.failures:
            raise failure

    def _standing(self, claims: SessionClaims, now: float) -> Agent:
        """Return the current actor of *claims*, when everyone in them may act and nothing in them was revoked."""
        guard = self._guard
        guard.people.refuse_unproven(claims.login)
        agents = [guard.registry.active(actor.agent_id) for actor in claims.actors]
        for agent in agents:  # each has an owner, whose agents may have been revoked
            refuse_revoked(guard.revocations, claims, agent, now=now)
            if agent.under_review is OnChange.DENY:
                raise DelegationError("An agent has changed and waits for somebody to look at it.")
        return agents[0]


def scope_in(details: str) -> TaskScope | None:
    """Return the scope that the parameter ``authorization_details`` says (RFC 9396), None for an empty text.

    Raises:
        ValueError: it says something else.
    """
    if not details:
        return None
    if len(details) > _MAX_DETAILS:
        raise ValueError("it is too long")
    return TaskScope.from_details(orjson.loads(details))


def said(claims: SessionClaims, issuer: str, audience: str) -> dict[str, Any]:
    """Return what introspection says of an active token (RFC 7662, section 2.2)."""
    answer: dict[str, Any] = {
        "active": True,
        "iss": issuer,
        "aud": audience,
        "sub": claims.user_id,
        "client_id": claims.agent_id,
        "iat": claims.issued_at,
        "exp": claims.expires_at,
        "jti": claims.session_id,
        "txn": claims.task,
        "token_type": "Bearer",
        "actors": [{"sub": actor.agent_id, "sid": actor.session_id} for actor in claims.actors],
    }
    if claims.scope is not None:
        answer["authorization_details"] = claims.scope.to_details()
    return answer


