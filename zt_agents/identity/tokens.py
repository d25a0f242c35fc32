"""Session tokens: short-lived, signed proof that an agent acts for a user.

RFC 9068 access tokens with an RFC 8693 ``act`` claim: ``sub`` is the user, ``act`` and ``client_id`` the agent. An
agent that hands its task on exchanges its token for one in which it is the earlier actor.

Rules:

1. One token type, ``at+jwt``, signed with the current key of the issuer's ring. ``kid`` names a key of the ring, and
   that key has one algorithm (RFC 8725, 3.1 and 3.11). A token is good no longer than its key.
2. Every claim below is required and typed; ``aud`` is one string and must be ours.
3. A token is verified on every call. A verified token is remembered, but expiry, revocation and the agent's status
   are looked at every time.
4. An exchange narrows: the subject, the task and the tenant stay, every earlier actor is named in order, the scope is
   within the scope before, and the end is no later (RFC 8693, section 4.1). What one of the earlier sessions loses, the
   later ones lose: a token falls with each session that it comes from.
5. A claim that is not understood makes a token invalid: it may be one that takes something away.
6. A token never shows itself in an error.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from zt_agents.errors import DelegationError, TokenExpiredError, TokenInvalidError, TokenRevokedError
from zt_agents.identity.principals import Agent, Login, User
from zt_agents.identity.revocations import Bearing
from zt_agents.identity.scopes import TaskScope
from zt_agents.identity.signing import jws
from zt_agents.identity.signing.jws import MAX_TOKEN_CHARS
from zt_agents.identity.signing.key_ring import KeyRing
from zt_agents.identity.signing.keys import SigningKey

TOKEN_TYPE = "at+jwt"  # noqa: S105 - the media type of RFC 9068, not a secret
MAX_TTL = 3600
"""Longest life of a session token, seconds."""
MAX_DEPTH = 8
"""Actors in one token."""
_PROFILE = "ai_agent"
_ACTOR = frozenset({"iss", "sub", "sub_profile", "sid"})
_REQUIRED = ["sub", "client_id", "exp", "iat", "nbf", "jti", "txn", "act", "groups", "roles"]
_KNOWN = frozenset({"iss", "aud", "tenant", "authorization_details", "idp", *_REQUIRED})
_REMEMBERED = 4096
_PURGED = 1_000
"""Revocations held before those of expired tokens are dropped."""


class Actor(NamedTuple):
    """An agent, and the session in which it acts."""

    agent_id: str
    """SPIFFE-format id."""
    session_id: str


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
    earlier: tuple[Actor, ...] = ()
    """Who handed the task on, the last one first; empty unless it was."""
    scope: TaskScope | None = None
    """What the task may touch; None is whatever the policy allows."""
    tenant: str = ""
    login: Login | None = None
    """How an identity provider vouched for the user, if one did."""

    @property
    def actors(self) -> tuple[Actor, ...]:
        """Everyone on whose word the task is worked on, the current actor first."""
        return (Actor(self.agent_id, self.session_id), *self.earlier)

    def bearing(self, owner: str = "") -> Bearing:
        """Return what of this can be revoked. The *owner* is not in a token: the registry knows them."""
        agents, sessions = zip(*self.actors, strict=True)
        return Bearing(agents, self.user_id, sessions, self.task, self.session_id, owner)


class TokenIssuer:
    """Signs session tokens, and verifies those it signed."""

    def __init__(self, *, issuer: str, audience: str, keys: KeyRing | SigningKey) -> None:
        """Sign with *keys*.

        Args:
            issuer: the ``iss`` of its tokens; no other's are accepted.
            audience: their one ``aud``, likewise.
            keys: a ring, whose current key signs; or one key, which never changes.
        """
        self.issuer = issuer
        self.audience = audience
        self.keys = KeyRing.of(keys)
        self._verified: dict[str, tuple[SessionClaims, str]] = {}
        """By token; with the name of the key that has signed it."""
        self._revoked: dict[str, int] = {}
        self._purge_at = _PURGED
        self._lock = threading.Lock()

    def issue(
        self,
        *,
        agent: Agent,
        user: User,
        task: str,
        ttl: int,
        now: float,
        scope: TaskScope | None = None,
        tenant: str = "",
    ) -> tuple[str, SessionClaims]:
        """Return a new token and its claims.

        Args:
            agent: the actor.
            user: the subject.
            task: id of the task, or an empty string for a new one.
            ttl: life of the token, 1 to 3,600 seconds.
            now: seconds since the epoch.
            scope: what the task may touch; None is whatever the policy allows.
            tenant: whose data it is about, where an organisation serves several.

        Raises:
            ValueError: *ttl* is out of bounds, or the user has more groups and roles, or the scope names more, than a
                token of 16,384 characters can carry.
            StoreError: the keys cannot be read.
        """
        if not 1 <= ttl <= MAX_TTL:
            raise ValueError(f"ttl is 1 to {MAX_TTL} seconds")
        issued, jti = int(now), uuid.uuid4().hex
        return self._signed(
            SessionClaims(
                user_id=user.id,
                agent_id=agent.id,
                session_id=jti,
                task=task or jti,
                groups=user.groups,
                roles=user.roles,
                issued_at=issued,
                expires_at=issued + ttl,
                scope=scope,
                tenant=tenant,
                login=user.login,
            ),
            now,
        )

    def exchange(
        self,
        subject_token: str,
        *,
        delegator: Agent,
        actor: Agent,
        depth: int,
        now: float,
        scope: TaskScope | None = None,
        ttl: int | None = None,
        session_id: str = "",
    ) -> tuple[str, SessionClaims]:
        """Return the token by which *actor* goes on with the task of *subject_token*, and its claims (RFC 8693).

        Args:
            subject_token: of the session that is handed on.
            delegator: its agent, which the registry says is active.
            actor: who goes on, likewise.
            depth: how many actors the policy lets a chain have.
            now: seconds since the epoch.
            scope: what the task may touch from here on; what it does not mention is limited as before.
            ttl: seconds, at least 1; the token before ends it in any case.
            session_id: of a session that this is again; a new one by default.

        Raises:
            DelegationError: the policy does not let *delegator* do that.
            ScopeError: the scope asks for more than there was.
            TokenInvalidError: *subject_token* is not good, or not of *delegator*; likewise TokenExpiredError and
                TokenRevokedError.
            ValueError: *ttl* is out of bounds, or a token has not room enough for it all.
            StoreError: the keys cannot be read.
        """
        before = self.verify(subject_token, now=now)
        if before.agent_id != delegator.id:
            raise TokenInvalidError("The session's token is not of the agent that hands it on.")
        if actor.name not in delegator.delegates:
            raise DelegationError(
                f"Agent {delegator.name!r} may not delegate to {actor.name!r}.",
                hint=f"In the policy: agents.{delegator.name}.delegates",
            )
        if len(before.actors) >= min(depth, MAX_DEPTH):
            raise DelegationError(
                f"A chain has at most {min(depth, MAX_DEPTH)} agents, and {actor.name!r} would be one more.",
                hint="In the policy: delegation.depth",
            )
        if ttl is not None and not 1 <= ttl <= MAX_TTL:
            raise ValueError(f"ttl is 1 to {MAX_TTL} seconds")
        issued = max(int(now), before.issued_at)
        return self._signed(
            replace(
                before,
                agent_id=actor.id,
                session_id=session_id or uuid.uuid4().hex,
                earlier=before.actors,
                scope=before.scope if scope is None else scope.within(before.scope),
                issued_at=issued,
                expires_at=before.expires_at if ttl is None else min(before.expires_at, issued + ttl),
            ),
            now,
        )

    def _signed(self, claims: SessionClaims, now: float) -> tuple[str, SessionClaims]:
        said: dict[str, Any] = {
            "iss": self.issuer,
            "sub": claims.user_id,
            "client_id": claims.agent_id,
            "aud": self.audience,
            "iat": claims.issued_at,
            "nbf": claims.issued_at,
            "exp": claims.expires_at,
            "jti": claims.session_id,
            "txn": claims.task,
            "act": _act(self.issuer, claims.actors),
            "groups": list(claims.groups),  # RFC 9068, section 2.2.3.1
            "roles": list(claims.roles),
        }
        if claims.tenant:
            said["tenant"] = claims.tenant
        if claims.scope is not None:
            said["authorization_details"] = claims.scope.to_details()
        if claims.login is not None:
            said["idp"] = claims.login.to_claim()
        token = jws.sign(TOKEN_TYPE, self.keys.current(now), said)
        if len(token) > MAX_TOKEN_CHARS:
            raise ValueError("ids, groups, roles and scope take more room than a token has")
        return token, _typed(said, self.issuer)

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
        for actor in claims.actors if claims.earlier else ():
            if actor.session_id in self._revoked:
                raise TokenRevokedError("A session that this one comes from was revoked.")
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
            return _typed(claims, self.issuer), key.kid
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise TokenInvalidError("The session's token could not be verified.") from error


def _act(issuer: str, actors: Sequence[Actor]) -> dict[str, Any]:
    """Return the ``act`` claim of *actors*, the current one outermost (RFC 8693, section 4.1)."""
    said: dict[str, Any] = {}
    for agent_id, session_id in reversed(actors):
        outer = {"act": said} if said else {}
        said = {"iss": issuer, "sub": agent_id, "sub_profile": _PROFILE, "sid": session_id, **outer}
    return said


def _actors(act: Mapping[str, Any], issuer: str) -> tuple[Actor, ...]:
    """Return the actors of an ``act`` claim, the current one first."""
    actors: list[Actor] = []
    while True:
        if len(actors) == MAX_DEPTH or act.keys() - {"act"} != _ACTOR:
            raise ValueError("it does not say who acts")
        if act["iss"] != issuer or act["sub_profile"] != _PROFILE:
            raise ValueError("an actor is no agent of this issuer")
        actors.append(Actor(_text(act, "sub"), _text(act, "sid")))
        if "act" not in act:
            return tuple(actors)
        act = act["act"]


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims[name]
    if not isinstance(value, str) or not value:
        raise ValueError(f"claim {name} is not a string")
    return value


def _typed(claims: Mapping[str, Any], issuer: str) -> SessionClaims:
    if not claims.keys() <= _KNOWN:
        raise ValueError("a claim that is not understood")
    for name in ("groups", "roles"):
        if not isinstance(claims[name], list) or not all(isinstance(item, str) for item in claims[name]):
            raise ValueError(f"claim {name} is not a list of strings")
    for name in ("iat", "nbf", "exp"):
        if type(claims[name]) is not int:
            raise ValueError(f"claim {name} is not an integer")
    if not claims["iat"] <= claims["nbf"] < claims["exp"] <= claims["iat"] + MAX_TTL:
        raise ValueError("the token's times do not fit together")
    agent_id, session_id = _text(claims, "client_id"), _text(claims, "jti")
    current, *earlier = _actors(claims["act"], issuer)
    if current != (agent_id, session_id):
        raise ValueError("the current actor is not the client")
    details = "authorization_details"
    return SessionClaims(
        user_id=_text(claims, "sub"),
        agent_id=agent_id,
        session_id=session_id,
        task=_text(claims, "txn"),
        groups=tuple(claims["groups"]),
        roles=tuple(claims["roles"]),
        issued_at=max(claims["iat"], claims["nbf"]),
        expires_at=claims["exp"],
        earlier=tuple(earlier),
        scope=TaskScope.from_details(claims[details]) if details in claims else None,
        tenant=_text(claims, "tenant") if "tenant" in claims else "",
        login=Login.from_claim(claims["idp"]) if "idp" in claims else None,
    )
