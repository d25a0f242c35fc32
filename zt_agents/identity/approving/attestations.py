"""Signed answers, grants and standing approvals: who approved which call, for all processes that share the signing key.

Rules:

1. Each has a type and a key of its own, derived from the signing key for that purpose: none passes for another, nor a
   session's token for one of them (RFC 8725, 3.11).
2. Answers and grants are bound to one call by its binding hash. What is not bound to the call at hand is refused by
   whoever asks. A standing approval says for itself which calls it is about.
3. A grant expires. That it is used once is the store's part: a signature cannot count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zt_agents.errors import TokenExpiredError, TokenInvalidError
from zt_agents.identity.approving.standing import STANDING_CLAIMS, StandingClaims, standing_of
from zt_agents.identity.signing import jws
from zt_agents.identity.signing.keys import SigningKey

ANSWER_TYPE = "zt-answer+jwt"
GRANT_TYPE = "zt-grant+jwt"
STANDING_TYPE = "zt-standing+jwt"


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
        """Sign with keys that are derived from *key*, one for each kind of token.

        Args:
            issuer: the ``iss`` of its tokens; no other's are accepted.
            audience: their one ``aud``, likewise.
            key: the guard's key that does not rotate: what was answered outlives a rotation.
        """
        self._issuer = issuer
        self._audience = audience
        self._keys = {kind: key.derived(kind) for kind in (ANSWER_TYPE, GRANT_TYPE, STANDING_TYPE)}
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
        return AnswerClaims(
            binding_hash=jws.text(claims, "binding"),
            approver=jws.text(claims, "sub"),
            groups=jws.texts(claims, "groups"),
            approved=jws.flag(claims, "approved"),
            issued_at=jws.whole(claims, "iat"),
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
        approvers = jws.texts(claims, "approvers")
        if not approvers:
            raise TokenInvalidError("The grant names nobody who approved.")
        grant = GrantClaims(
            request_id=jws.text(claims, "jti"),
            binding_hash=jws.text(claims, "binding"),
            approvers=approvers,
            approved_until=jws.whole(claims, "exp"),
        )
        if now >= grant.approved_until:
            raise TokenExpiredError("The approval has expired.")
        return grant

    def standing(self, claims: StandingClaims) -> str:
        """Return the token of a standing approval, attested."""
        return self._sign(STANDING_TYPE, {"sub": claims.approver, "groups": list(claims.groups), **claims.to_claims()})

    def verify_standing(self, token: str) -> StandingClaims:
        """Return the claims of a standing approval that was attested; whether it is still good is not looked at.

        Raises:
            TokenInvalidError: it is malformed, forged, or of another type.
        """
        claims = self._verify(STANDING_TYPE, token, require=STANDING_CLAIMS)
        return standing_of(claims, jws.text(claims, "sub"), jws.texts(claims, "groups"))

    def _sign(self, kind: str, claims: Mapping[str, Any]) -> str:
        return jws.sign(kind, self._keys[kind], {"iss": self._issuer, "aud": self._audience, **claims})

    def _verify(self, kind: str, token: str, *, require: Sequence[str] = ("binding", "iat")) -> dict[str, Any]:
        return jws.verified(
            token,
            kind,
            self._keys[kind].verification,
            issuer=self._issuer,
            audience=self._audience,
            require=require,
        )
