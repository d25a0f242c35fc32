"""The identity provider's own token for a tool's back end, on behalf of the call's user, for the call's body alone.

Rules:

1. Only in the body, while it runs; only for the back ends that the policy names for this very tool, and the scopes that
   it names for them.
2. The session is identified again, and the user's own token verified again, each time.
3. The agent asks as itself, by the key it was registered with (RFC 7523), so the provider's own rules and records say
   which agent it was.
4. What comes back is verified: signed by the provider, for this back end and no other, for the same user, and, where
   scopes were asked for, with none that the policy does not name: providers add some (RFC 8693, section 2.2.1).
5. It is kept nowhere here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zt_agents.errors import CredentialError
from zt_agents.identification import identify
from zt_agents.identity.provider.client_registration import agent_client

if TYPE_CHECKING:
    from zt_agents.guard import Guard
    from zt_agents.permit import Permit


def exchanged_token(guard: Guard, permit: Permit, *, audience: str, scopes: Iterable[str], here: bool) -> str:
    """Return a token of the provider's for *audience*; see :meth:`Permit.idp_token`."""
    if not here:
        raise CredentialError("The call's body is not running here.", hint="Ask for a token inside of the tool's body.")
    tool, wanted, provider = permit.tool.name, frozenset(scopes), guard.people.provider
    if provider is None:
        raise CredentialError(
            "The policy names no identity provider.", hint="Add identity_provider to it, with its issuer and client_id."
        )
    named = (each for each in provider.terms.exchange if each.audience == audience and tool in each.tools)
    terms = next(named, None)
    if terms is None or not wanted <= terms.scopes:
        raise CredentialError(
            f"Tool {tool!r} may not have the identity provider's token for {audience!r}, or not with these scopes.",
            hint="In the policy: identity_provider.exchange",
        )
    now = guard.clock()
    agent, refusal = identify(guard, permit.session, now=now)
    if agent is None or permit.session is None or refusal is not None:
        raise CredentialError(f"The session is no longer good. {refusal.text if refusal else ''}".rstrip())
    login = permit.session.user.login
    if login is None or not login.token or not login.access:
        raise CredentialError(
            "An access token of the user's is exchanged, and this session has none.",
            hint="Open it for guard.user(access_token=...).",
        )
    if provider.user_again(login, now=now).id != permit.session.claims.user_id:
        raise CredentialError("The user's access token is somebody else's than the session.")
    client = agent_client(provider, provider.terms.registrations, agent.name)
    tokens = client.exchange(login.token.reveal(), audience=audience, scopes=sorted(wanted), now=now)
    allowed = terms.scopes if wanted else None
    token = tokens.access_token.reveal()
    provider.check_exchanged(token, audience=audience, subject=login.subject, scopes=allowed, now=guard.clock())
    return token
