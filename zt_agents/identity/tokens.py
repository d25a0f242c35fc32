"""Session tokens: short-lived, signed proof that an agent acts for a user.

RFC 9068 access tokens with an RFC 8693 ``act`` claim: ``sub`` is the user, ``act`` and ``client_id`` the agent.

Rules:

1. One token type, ``at+jwt``, signed with the current key of the issuer's ring. ``kid`` names a key of the ring, and
   that key has one algorithm (RFC 8725, 3.1 and 3.11). A token is good no longer than its key.
2. Every claim below is required and typed; ``aud`` is one string and must be ours.
3. A token is verified on every call. A verified token is remembered, but expiry, revocation and the agent's status
   are looked at every time.
4. A token never shows itself in an error.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zt_agents.errors import TokenExpiredError, TokenInvalidError, TokenRevokedError
from zt_agents.identity import jws
from zt_agents.identity.jws import MAX_TOKEN_CHARS
from zt_agents.identity.key_ring import KeyRing
from zt_agents.identity.keys import SigningKey
from zt_agents.identity.principals import Agent, User

TOKEN_TYPE = "at+jwt"  # noqa: S105 - the media type of RFC 9068, not a secret
MAX_TTL = 3600
"""Longest life of a session token, seconds."""
_REQUIRED = ["sub", "client_id", "exp", "iat", "nbf", "jti", "txn", "act", "groups", "roles"]
_REMEMBERED = 4096
_PURGED = 1_000
"""Revocations held before those of expired tokens are dropped."""


@dataclass(frozen=True, slots=True)
class SessionClaims:
    """What a verified session token says."""

    user_id: str
    agent_id: str
    """SPIFFE-format id of the current actor."""
    session_id: str
    """``jti``: unique per token."""
    task: str
    """``txn``: the task the session works on."""
    groups: tuple[str, ...]
    roles: tuple[str, ...]
    """The user's groups and roles as the application stated them when the session was opened."""
    issued_at: int
    expires_at: int
    """Seconds since the epoch; the token is good strictly before it."""


class TokenIssuer:
    """Signs session tokens, and verifies those it signed."""

    def __init__(self, *, issuer: str, audience: str, keys: KeyRing | SigningKey) -> None:
        self.issuer = issuer
        self.audience = audience
        self.keys = KeyRing.of(keys)
        self._verified: dict[str, tuple[SessionClaims, str]] = {}
        """By token; with the name of the key that has signed it."""
        self._revoked: dict[str, int] = {}
        self._purge_at = _PURGED
        self._lock = threading.Lock()

    def issue(self, *, agent: Agent, user: User, task: str, ttl: int, now: float) -> tuple[str, SessionClaims]:
        """Return a new token and its claims.

        Args:
            agent: the actor.
            user: the subject.
            task: id of the task, or an empty string for a new one.
            ttl: life of the token, 1 to 3,600 seconds.
            now: seconds since the epoch.

        Raises:
            ValueError: *ttl* is out of bounds, or the user has more groups and roles than a token of 16,384 characters
                can carry.
            StoreError: the keys cannot be read.
        """
        if not 1 <= ttl <= MAX_TTL:
            raise ValueError(f"ttl is 1 to {MAX_TTL} seconds")
        jti = uuid.uuid4().hex
        issued = int(now)
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": user.id,
            "client_id": agent.id,
            "aud": self.audience,
            "iat": issued,
            "nbf": issued,
            "exp": issued + ttl,
            "jti": jti,
            "txn": task or jti,
            "act": {"iss": self.issuer, "sub": agent.id, "sub_profile": "ai_agent"},
            "groups": list(user.groups),  # RFC 9068, section 2.2.3.1
            "roles": list(user.roles),
        }
        token = jws.sign(TOKEN_TYPE, self.keys.current(now), claims)
        if len(token) > MAX_TOKEN_CHARS:
            raise ValueError("the user's id, groups and roles take more room than a token has")
        return token, _typed(claims)

    def verify(self, token: str, *, now: float) -> SessionClaims:
        """Return the claims of a good token.

        Raises:
            TokenInvalidError: malformed, forged, of another type, or from another issuer or for another audience.
            TokenExpiredError: *now* is not before its expiry.
            TokenRevokedError: it was revoked.
        """
        if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS:
            raise TokenInvalidError("The session's token is not a token.")
        known = self._verified.get(token)
        if known is None:
            known = self._verify_signature(token, now)
            with self._lock:
                if len(self._verified) >= _REMEMBERED:
                    self._verified = {t: good for t, good in self._verified.items() if good[0].expires_at > now}
                if len(self._verified) >= _REMEMBERED:
                    self._verified.clear()
                self._verified[token] = known
        elif self.keys.find(known[1], now) is None:
            raise TokenInvalidError("The session's token was signed with a key that is no longer good.")
        claims = known[0]
        if now >= claims.expires_at:
            raise TokenExpiredError("The session's token has expired.", hint="Open a new session.")
        if now < claims.issued_at:
            raise TokenInvalidError("The session's token is not valid yet: a clock is wrong.")
        if claims.session_id in self._revoked:
            raise TokenRevokedError("The session was revoked.")
        return claims

    def revoke(self, claims: SessionClaims, *, now: float) -> None:
        """Withdraw a token, with effect from the next call."""
        with self._lock:
            if len(self._revoked) >= self._purge_at:
                self._revoked = {jti: expiry for jti, expiry in self._revoked.items() if expiry > now}
                self._purge_at = max(_PURGED, 2 * len(self._revoked))
            self._revoked[claims.session_id] = claims.expires_at

    def _verify_signature(self, token: str, now: float) -> tuple[SessionClaims, str]:
        """Return the claims, and the name of the key. Times are compared by :meth:`verify`."""
        try:
            key = jws.key_named(token, TOKEN_TYPE, self.keys, now)
            claims = jws.verified(
                token, TOKEN_TYPE, key, issuer=self.issuer, audience=self.audience, require=_REQUIRED
            )
            return _typed(claims), key.kid
        except (ValueError, TypeError, KeyError) as error:
            raise TokenInvalidError("The session's token could not be verified.") from error


def _typed(claims: Mapping[str, Any]) -> SessionClaims:
    actor = claims["act"]
    if not isinstance(actor, dict) or actor.get("sub") != claims["client_id"] or "act" in actor:
        raise ValueError("the current actor is not the client")
    for name in ("sub", "client_id", "jti", "txn"):
        if not isinstance(claims[name], str) or not claims[name]:
            raise ValueError(f"claim {name} is not a string")
    for name in ("groups", "roles"):
        if not isinstance(claims[name], list) or not all(isinstance(item, str) for item in claims[name]):
            raise ValueError(f"claim {name} is not a list of strings")
    for name in ("iat", "nbf", "exp"):
        if type(claims[name]) is not int:
            raise ValueError(f"claim {name} is not an integer")
    if not claims["iat"] <= claims["nbf"] < claims["exp"] <= claims["iat"] + MAX_TTL:
        raise ValueError("the token's times do not fit together")
    return SessionClaims(
        user_id=claims["sub"],
        agent_id=claims["client_id"],
        session_id=claims["jti"],
        task=claims["txn"],
        groups=tuple(claims["groups"]),
        roles=tuple(claims["roles"]),
        issued_at=max(claims["iat"], claims["nbf"]),
        expires_at=claims["exp"],
    )


