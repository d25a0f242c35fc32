"""Signed agent baggage: which agent is calling, told to every service behind a tool, in W3C baggage.

    baggage: zt_agents.agent=eyJ...

Rules:

1. It is a statement and no credential: whoever receives it can send it again until it expires. Log it, count by it,
   refuse what contradicts it; let nobody in because of it.
2. A type, a key and an audience of its own: it never passes for a session's token, nor such a token for it (RFC 8725,
   3.11). The key is derived from the signing key; services get its public half.
3. It names agent, session and task. It names no user: baggage goes to third parties, too.
4. The guard never reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zt_agents._internal.clock import system_clock
from zt_agents.errors import TokenExpiredError, TokenInvalidError
from zt_agents.identity.signing import jws
from zt_agents.identity.signing.keys import SigningKey
from zt_agents.identity.signing.public_keys import VerificationKey
from zt_agents.identity.tokens import SessionClaims

BAGGAGE_KEY = "zt_agents.agent"
"""Name of the entry."""
BAGGAGE_TYPE = "agent-baggage+jwt"
_MAX_HEADER = 8_192
"""Characters; what W3C baggage says must be carried on."""
_MAX_ENTRY = 4_096
"""Characters of name and value; what OpenTelemetry carries on."""


@dataclass(frozen=True, slots=True)
class AgentBaggage:
    """What verified baggage says."""

    agent_id: str
    """SPIFFE-format id of the agent that is calling."""
    session_id: str
    task: str
    issued_at: int
    expires_at: int
    """Seconds since the epoch; it is good strictly before that, and no longer than the session."""


class BaggageSigner:
    """Signs the baggage of an issuer's sessions."""

    def __init__(self, *, issuer: str, key: SigningKey) -> None:
        """Sign, in the name of *issuer*, with a key that is derived from *key* for baggage alone."""
        self.issuer = issuer
        self._key = key.derived(BAGGAGE_TYPE)

    @property
    def jwk(self) -> dict[str, str]:
        """The public key by which services verify it (RFC 7517)."""
        return self._key.jwk

    def sign(self, claims: SessionClaims) -> str:
        """Return the baggage of a session, to be minted once for each.

        Raises:
            ValueError: the ids of agent and task take more room than an entry has; propagators would drop it unsaid.
        """
        said = {
            "iss": self.issuer,
            "aud": _audience(self.issuer),
            "client_id": claims.agent_id,
            "sid": claims.session_id,
            "txn": claims.task,
            "iat": claims.issued_at,
            "exp": claims.expires_at,
        }
        token = jws.sign(BAGGAGE_TYPE, self._key, said)
        if len(BAGGAGE_KEY) + 1 + len(token) > _MAX_ENTRY:
            raise ValueError("the ids of agent and task take more room than agent baggage has")
        return token


def verify_baggage(
    header: str, *, key: Mapping[str, str], issuer: str, now: float | None = None
) -> AgentBaggage | None:
    """Return what the ``baggage`` header of a request says of the agent that sent it, or None if it says nothing.

    Args:
        header: the value of the header, whatever else is in it.
        key: the public key of the guard, ``guard.baggage_key``, got from where the guard is and never from the request.
        issuer: whose it has to be: ``spiffe://TRUST_DOMAIN/zt-agents``.
        now: seconds since the epoch; the time by default.

    Raises:
        TokenInvalidError: it says more than one thing, or is malformed, forged, or of another type or issuer.
        TokenExpiredError: it has expired.
    """
    if not isinstance(header, str) or len(header) > _MAX_HEADER:
        raise TokenInvalidError("The baggage is longer than baggage may be.")
    entries = [entry.partition("=") for entry in header.split(",")]
    found = [value.partition(";")[0].strip() for name, _, value in entries if name.strip() == BAGGAGE_KEY]
    if not found:
        return None
    if len(found) > 1:
        raise TokenInvalidError("The baggage names more than one agent.")
    said = _verified(found[0], key, issuer)
    now = system_clock() if now is None else now
    if now >= said.expires_at:
        raise TokenExpiredError("The agent's baggage has expired.")
    return said


def _audience(issuer: str) -> str:
    return f"{issuer}/baggage"


def _verified(token: str, key: Mapping[str, str], issuer: str) -> AgentBaggage:
    claims = jws.verified(
        token,
        BAGGAGE_TYPE,
        VerificationKey.from_jwk(key),
        issuer=issuer,
        audience=_audience(issuer),
        require=("client_id", "sid", "txn", "iat", "exp"),
    )
    return AgentBaggage(
        agent_id=jws.text(claims, "client_id"),
        session_id=jws.text(claims, "sid"),
        task=jws.text(claims, "txn"),
        issued_at=jws.whole(claims, "iat"),
        expires_at=jws.whole(claims, "exp"),
    )
