"""Signed answers and grants: proof of who approved which call, good in every process that shares the signing key.

Rules:

1. An answer and a grant have a type and a key of their own, derived from the signing key for that purpose: neither
   passes for the other, nor a session's token for either (RFC 8725, 3.11).
2. Both are bound to one call by its binding hash. What is not bound to the call at hand is refused by whoever asks.
3. A grant expires. That it is used once is the store's part: a signature cannot count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from zt_agents.errors import TokenExpiredError, TokenInvalidError
from zt_agents.identity.keys import ALGORITHM, SigningKey
from zt_agents.identity.tokens import MAX_TOKEN_CHARS

ANSWER_TYPE = "zt-answer+jwt"
GRANT_TYPE = "zt-grant+jwt"


@dataclass(frozen=True, slots=True)
class AnswerClaims:
    """What a signed answer says."""

    binding_hash: str
    approver: str
    groups: tuple[str, ...]
    approved: bool
    issued_at: int


@dataclass(frozen=True, slots=True)
class GrantClaims:
    """What a grant says."""

    request_id: str
    binding_hash: str
    approvers: tuple[str, ...]
    approved_until: int
    """Seconds since the epoch; the grant is good strictly before it."""


class ApprovalSigner:
    """Signs answers and grants, and verifies those it signed."""

    def __init__(self, *, issuer: str, audience: str, key: SigningKey) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = {kind: key.derived(kind) for kind in (ANSWER_TYPE, GRANT_TYPE)}
        self.id = f"{issuer}#{self._keys[ANSWER_TYPE].thumbprint}"
        """The issuer, and the thumbprint of the key that signs answers."""

    def answer(self, claims: AnswerClaims) -> str:
        """Return the token of an answer."""
        return self._sign(
            ANSWER_TYPE,
            {
                "sub": claims.approver,
                "groups": list(claims.groups),
                "binding": claims.binding_hash,
                "approved": claims.approved,
                "iat": claims.issued_at,
            },
        )

    def verify_answer(self, token: str) -> AnswerClaims:
        """Return the claims of a signed answer.

        Raises:
            TokenInvalidError: it is malformed, forged, or of another type.
        """
        claims = self._verify(ANSWER_TYPE, token)
        groups = claims.get("groups")
        if type(claims.get("approved")) is not bool or not isinstance(groups, list):
            raise TokenInvalidError("The answer's token is malformed.")
        return AnswerClaims(
            binding_hash=_text(claims, "binding"),
            approver=_text(claims, "sub"),
            groups=tuple(str(group) for group in groups),
            approved=claims["approved"],
            issued_at=_whole(claims, "iat"),
        )

    def grant(self, claims: GrantClaims, *, now: float) -> str:
        """Return the token of a grant."""
        return self._sign(
            GRANT_TYPE,
            {
                "jti": claims.request_id,
                "binding": claims.binding_hash,
                "approvers": list(claims.approvers),
                "iat": int(now),
                "exp": claims.approved_until,
            },
        )

    def verify_grant(self, token: str, *, now: float) -> GrantClaims:
        """Return the claims of a grant that is still good.

        Raises:
            TokenInvalidError: it is malformed, forged, or of another type.
            TokenExpiredError: *now* is not before its end.
        """
        claims = self._verify(GRANT_TYPE, token)
        approvers = claims.get("approvers")
        if not isinstance(approvers, list) or not approvers:
            raise TokenInvalidError("The grant names nobody who approved.")
        grant = GrantClaims(
            request_id=_text(claims, "jti"),
            binding_hash=_text(claims, "binding"),
            approvers=tuple(str(approver) for approver in approvers),
            approved_until=_whole(claims, "exp"),
        )
        if now >= grant.approved_until:
            raise TokenExpiredError("The approval has expired.")
        return grant

    def _sign(self, kind: str, claims: Mapping[str, Any]) -> str:
        key = self._keys[kind]
        signed = {"iss": self._issuer, "aud": self._audience, **claims}
        return jwt.encode(signed, key.private, algorithm=ALGORITHM, headers={"typ": kind, "kid": key.thumbprint})

    def _verify(self, kind: str, token: str) -> dict[str, Any]:
        key = self._keys[kind]
        if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS:
            raise TokenInvalidError("The approval's token is not a token.")
        try:
            header = jwt.get_unverified_header(token)
            if header.get("typ") != kind or header.get("kid") != key.thumbprint:
                raise TokenInvalidError("The approval's token is of another type or from another issuer.")
            return jwt.decode(
                token,
                key.public,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                # Times are compared against the guard's clock.
                options={
                    "require": ["iss", "aud", "binding", "iat"],
                    "strict_aud": True,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
            raise TokenInvalidError("The approval's token could not be verified.") from error


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise TokenInvalidError("The approval's token is malformed.")
    return value


def _whole(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int:
        raise TokenInvalidError("The approval's token is malformed.")
    return value
