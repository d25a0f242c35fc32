"""The CallToken: the credential of one call, for one service, that the service verifies before it does anything.

Rules:

1. It is signed with a key of its own kind (``typ``), derived from the guard's: no other token passes for one.
2. It names one audience, one tool and one call: whoever has it can do with it what was decided, and nothing else.
3. It lives for at most 60 seconds, and no longer than its session.
4. The arguments are in it as a hash salted with ``jti``, which is unguessable: who sees only the hash, in a log for
   example, cannot check a guess.
5. It is complete and typed, or no CallToken: a claim that is missing, of another type, written twice or unknown is
   refused. So is one about how it is bound (``cnf``, RFC 7800) that this module does not know.

Claims: RFC 7519; ``act`` RFC 8693; ``client_id`` RFC 9068; ``authorization_details`` RFC 9396; ``cnf`` RFC 7800 with
``jkt`` (RFC 9449) or ``x5t#S256`` (RFC 8705); ``txn`` RFC 8417; ``sid`` as in OpenID Connect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zt_agents._internal.canonical import canonical, encode
from zt_agents.credentials.strict_encodings import base64url
from zt_agents.errors import CredentialError
from zt_agents.identity.revocations import Bearing
from zt_agents.identity.signing import jws
from zt_agents.identity.signing.key_ring import KeyRing
from zt_agents.identity.signing.keys import SigningKey
from zt_agents.identity.tokens import MAX_DEPTH

CALL_TOKEN_TYPE = "zt-call+jwt"  # noqa: S105 - a media type, not a secret
CALL_DETAILS = "zt_agents_tool_call"
"""``type`` of its authorization details."""
MAX_TTL = 60
"""Longest life, seconds."""
MAX_CHARS = 8_192
"""Longest token: what a header may hold nearly everywhere."""

_CLAIMS = frozenset(
    {"iss", "sub", "client_id", "act", "aud", "iat", "nbf", "exp", "jti", "txn", "sid", "owner", "tool", "args_hash"}
    | {"tenant", "authorization_details"}
)
_BOUND = _CLAIMS | {"cnf"}
_ACTOR = frozenset({"iss", "sub", "sub_profile", "sid"})
_DETAIL = frozenset({"type", "identifier", "actions", "locations"})
_AGENT = "ai_agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallClaims:
    """What a CallToken says."""

    issuer: str
    audience: str
    """URI of the one service that it is for."""
    user_id: str
    """On whose behalf."""
    agents: tuple[str, ...]
    """SPIFFE-format ids: the acting agent, then whoever delegated to it, and so on outwards."""
    sessions: tuple[str, ...]
    """Ids of their sessions, in the same order."""
    owner: str
    """Who is accountable for the acting agent."""
    tool: str
    resource: str
    """What the call is about, such as ``ticket/5``; empty if the tool names no resource."""
    effects: tuple[str, ...]
    """What the tool does to the world, sorted."""
    system: str
    """Target system; may be empty."""
    task: str
    token_id: str
    """``jti``."""
    args_hash: str = field(repr=False)
    """See :func:`hash_of_arguments`."""
    issued_at: int
    expires_at: int
    """Seconds since the epoch; it is good strictly before that."""
    tenant: str = ""
    """Whose data it is about, where an organisation serves several."""
    key_thumbprint: str = ""
    """RFC 7638 thumbprint of the key by whose proof (DPoP) it is used; empty if there is none."""
    certificate_thumbprint: str = ""
    """SHA-256 of the client certificate with which it is used, base64url; empty if there is none."""

    @property
    def agent_id(self) -> str:
        """SPIFFE-format id of the acting agent."""
        return self.agents[0]

    @property
    def session_id(self) -> str:
        """The session in which the call was made."""
        return self.sessions[0]

    def bearing(self) -> Bearing:
        """Return what of it can be revoked."""
        return Bearing(
            agents=self.agents,
            user=self.user_id,
            sessions=self.sessions,
            task=self.task,
            token=self.token_id,
            owner=self.owner,
        )

    def is_for(self, arguments: Mapping[str, Any]) -> bool:
        """Return whether the call was decided on with these *arguments*: all of them, by name, with their types.

        Raises:
            ArgumentsError: they have no canonical form.
        """
        return self.args_hash == hash_of_arguments(self.token_id, encode(canonical(arguments)))


class CallTokenSigner:
    """Mints the CallTokens of one guard."""

    def __init__(self, *, issuer: str, keys: KeyRing | SigningKey) -> None:
        """Sign, in the name of *issuer*, with keys that are derived from *keys* for CallTokens alone."""
        self.issuer = issuer
        self._keys = KeyRing.of(keys).for_kind(CALL_TOKEN_TYPE)

    def mint(self, claims: CallClaims, *, now: float) -> str:
        """Return the token that says *claims*.

        Raises:
            CredentialError: it would be longer than a token may be.
            StoreError: the keys cannot be read.
        """
        token = jws.sign(CALL_TOKEN_TYPE, self._keys.current(now), _said(claims))
        if len(token) > MAX_CHARS:
            raise CredentialError(f"What the call's token has to say takes more than {MAX_CHARS} characters.")
        return token

    def jwks(self, now: float) -> dict[str, Any]:
        """Return the public keys by which services verify them, as a JWK Set (RFC 7517)."""
        return self._keys.jwks(now)


def hash_of_arguments(token_id: str, encoded: bytes) -> str:
    """Return base64url(SHA-256(jti || 0x00 || arguments)), the arguments *encoded* by RFC 8785."""
    return base64url(hashlib.sha256(token_id.encode() + b"\0" + encoded).digest())


def claims_of(said: Mapping[str, Any]) -> CallClaims:
    """Return the claims of a token whose signature, issuer and audience were verified.

    Raises:
        ValueError: they are not those of a CallToken.
    """
    if said.keys() != _CLAIMS and said.keys() != _BOUND:
        raise ValueError("its claims are not those of a call's token")
    (detail,) = said["authorization_details"]
    if detail.keys() != _DETAIL or detail["type"] != CALL_DETAILS:
        raise ValueError("its authorization details are of another type")
    if type(detail["actions"]) is not list or type(detail["locations"]) is not list:
        raise ValueError("a claim is no list")
    (system,) = detail["locations"] or ("",)
    key, certificate = _binding(said["cnf"]) if "cnf" in said else ("", "")
    agents, sessions = _actors(said["act"], said["iss"])
    if (agents[0], sessions[0]) != (said["client_id"], said["sid"]):
        raise ValueError("the acting agent is not the client")
    claims = CallClaims(
        issuer=said["iss"],
        audience=said["aud"],
        user_id=said["sub"],
        agents=agents,
        sessions=sessions,
        owner=said["owner"],
        tool=said["tool"],
        resource=detail["identifier"],
        effects=tuple(detail["actions"]),
        system=system,
        task=said["txn"],
        token_id=said["jti"],
        args_hash=said["args_hash"],
        issued_at=said["iat"],
        expires_at=said["exp"],
        tenant=said["tenant"],
        key_thumbprint=key,
        certificate_thumbprint=certificate,
    )
    _check(claims, said["nbf"])
    return claims


def _check(claims: CallClaims, not_before: object) -> None:
    for text in (claims.user_id, claims.task, claims.token_id, claims.tool):
        if type(text) is not str or not text:
            raise ValueError("an id is missing")
    for text in (claims.owner, claims.tenant, claims.resource, claims.system, claims.args_hash, *claims.effects):
        if type(text) is not str:
            raise ValueError("a claim is not text")
    times = claims.issued_at, not_before, claims.expires_at
    if any(type(time) is not int for time in times) or claims.issued_at != not_before:
        raise ValueError("a time is not a whole number")
    if not 0 < claims.expires_at - claims.issued_at <= MAX_TTL:
        raise ValueError("it lives longer than a call's token may")


def _said(claims: CallClaims) -> dict[str, Any]:
    act: dict[str, Any] = {}
    for agent, session in reversed(list(zip(claims.agents, claims.sessions, strict=True))):
        outer = {"act": act} if act else {}
        act = {"iss": claims.issuer, "sub": agent, "sub_profile": _AGENT, "sid": session, **outer}
    said: dict[str, Any] = {
        "iss": claims.issuer,
        "sub": claims.user_id,
        "client_id": claims.agent_id,
        "act": act,
        "aud": claims.audience,
        "iat": claims.issued_at,
        "nbf": claims.issued_at,
        "exp": claims.expires_at,
        "jti": claims.token_id,
        "txn": claims.task,
        "sid": claims.session_id,
        "tenant": claims.tenant,
        "owner": claims.owner,
        "tool": claims.tool,
        "args_hash": claims.args_hash,
        "authorization_details": [
            {
                "type": CALL_DETAILS,
                "identifier": claims.resource,
                "actions": claims.effects,
                "locations": [claims.system] if claims.system else [],
            }
        ],
    }
    if claims.key_thumbprint:
        said["cnf"] = {"jkt": claims.key_thumbprint}
    elif claims.certificate_thumbprint:
        said["cnf"] = {"x5t#S256": claims.certificate_thumbprint}
    return said


def _binding(cnf: Mapping[str, Any]) -> tuple[str, str]:
    ((method, thumbprint),) = cnf.items()
    if type(thumbprint) is not str or not thumbprint or method not in {"jkt", "x5t#S256"}:
        raise ValueError("it is bound in a way that is not known")
    return (thumbprint, "") if method == "jkt" else ("", thumbprint)


def _actors(act: Any, issuer: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the agents and their sessions, from the current actor outwards (RFC 8693, section 4.1)."""
    agents: list[str] = []
    sessions: list[str] = []
    while True:
        if len(agents) == MAX_DEPTH or act.keys() - {"act"} != _ACTOR:
            raise ValueError("it does not say who acts")
        if act["iss"] != issuer or act["sub_profile"] != _AGENT:
            raise ValueError("an actor is no agent of this issuer")
        for name, names in (("sub", agents), ("sid", sessions)):
            if type(act[name]) is not str or not act[name]:
                raise ValueError("an actor has no name")
            names.append(act[name])
        if "act" not in act:
            return tuple(agents), tuple(sessions)
        act = act["act"]
