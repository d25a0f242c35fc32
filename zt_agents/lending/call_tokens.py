"""Mints the CallToken of a call, for the call's body alone.

Rules:

1. Only while the body runs: before it nothing was decided for good, and after it there is nothing left to do.
2. Only for the services that the policy names for this very tool. A tool for which it names none has no token.
3. Whoever was let in may have been taken back since: the session is identified again, each time.
4. Each is minted anew and kept nowhere here. What it says is what was decided on, never what the body says.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from zt_agents.credentials.call_tokens import MAX_TTL, CallClaims, hash_of_arguments
from zt_agents.errors import CredentialError
from zt_agents.identification import identify

if TYPE_CHECKING:
    from zt_agents.guard import Guard
    from zt_agents.permit import Permit


def call_token(
    guard: Guard,
    permit: Permit,
    encoded: bytes,
    *,
    audience: str,
    key_thumbprint: str,
    certificate_thumbprint: str,
    ttl: int,
) -> str:
    """Return a new token for the call of *permit*, whose body is running; see :meth:`Permit.token`."""
    if not 1 <= ttl <= MAX_TTL:
        raise ValueError(f"the token of a call is good for 1 to {MAX_TTL} seconds")
    if key_thumbprint and certificate_thumbprint:
        raise ValueError("a token is bound to a key or to a certificate")
    call, session, spec = permit.call, permit.session, permit.tool.spec
    if spec is None or audience not in spec.audiences:
        text = f"Tool {permit.tool.name!r} may not have a token for {audience!r}."
        raise CredentialError(text, hint=f"In the policy: tools: {{{permit.tool.name}: {{audiences: [{audience}]}}}}")
    now = guard.clock()
    agent, refusal = identify(guard, session, now=now)
    if agent is None or session is None or refusal is not None:
        raise CredentialError(f"The session is no longer good. {refusal.text if refusal else ''}".rstrip())
    bearing = session.claims.bearing(agent.owner)
    token_id, issued = uuid.uuid4().hex, int(now)
    claims = CallClaims(
        issuer=guard.call_tokens.issuer,
        audience=audience,
        user_id=bearing.user,
        agents=bearing.agents,
        sessions=bearing.sessions,
        owner=agent.owner,
        tool=permit.tool.name,
        resource=call.resource,
        effects=permit.tool.effects,
        system=spec.system,
        task=bearing.task,
        tenant=session.claims.tenant,
        token_id=token_id,
        args_hash=hash_of_arguments(token_id, encoded),
        issued_at=issued,
        expires_at=min(issued + ttl, session.claims.expires_at),
        key_thumbprint=key_thumbprint,
        certificate_thumbprint=certificate_thumbprint,
    )
    return guard.call_tokens.mint(claims, now=now)
