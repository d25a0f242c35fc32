"""Second factors of approvers as signed statements, and the proof that a one-time code was checked.

Rules:

1. A factor and a check have a type and a key of their own, derived from the signing key: neither passes for the other,
   nor for an answer, a grant or a session's token (RFC 8725, 3.11).
2. A factor names its approver. Whoever can write where factors are kept can take one away, and put one back that was
   kept there before; nobody without the signing key can make one, change one, or give it to somebody else.
3. The secret of one-time codes is encrypted (AES-256-GCM, by a key that is derived from the signing key for this alone)
   and bound to its approver and factor: moved elsewhere, it does not open.
4. A check is bound to one request, call, decision and approver, and is verified against them.
5. A check says that a code was verified. A passkey needs none, its assertion is the evidence: no check is signed for
   one, and none is believed.
6. What a statement says is all that it may say: a claim too many is refused like one too few.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from zt_agents._internal.canonical import encode
from zt_agents.errors import TokenInvalidError
from zt_agents.identity.approving.one_time_codes import OneTimeSecret
from zt_agents.identity.approving.passkeys import ALGORITHMS, Passkey
from zt_agents.identity.signing import jws
from zt_agents.identity.signing.keys import SigningKey

FACTOR_TYPE = "zt-approver-factor+jwt"
CHECK_TYPE = "zt-approver-check+jwt"
_NONCE_BYTES = 12


class FactorKind(StrEnum):
    """How an approver shows, beside the answer, that it is they who answer."""

    TOTP = "totp"
    PASSKEY = "passkey"


@dataclass(frozen=True, slots=True)
class FactorClaims:
    """What a factor's statement says."""

    id: str
    """Unique among factors."""
    approver: str
    factor: OneTimeSecret | Passkey
    issued_at: int

    @property
    def kind(self) -> FactorKind:
        return FactorKind.PASSKEY if isinstance(self.factor, Passkey) else FactorKind.TOTP


@dataclass(frozen=True, slots=True)
class CheckClaims:
    """What a check says: this approver gave a good code together with this answer."""

    request_id: str
    binding_hash: str
    approver: str
    approved: bool
    kind: FactorKind
    factor_id: str
    issued_at: int


class FactorSigner:
    """Signs factors and checks, and verifies those it signed."""

    def __init__(self, *, issuer: str, audience: str, key: SigningKey) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = {kind: key.derived(kind) for kind in (FACTOR_TYPE, CHECK_TYPE)}
        self._cipher = AESGCM(_encryption_key(key))

    def factor(self, claims: FactorClaims) -> str:
        """Return the token of a factor.

        Raises:
            ValueError: it takes more room than a token has.
        """
        said: dict[str, Any] = {"jti": claims.id, "sub": claims.approver, "iat": claims.issued_at}
        if isinstance(claims.factor, Passkey):
            said |= {"kind": FactorKind.PASSKEY, "passkey": _said(claims.factor)}
        else:
            said |= {"kind": FactorKind.TOTP, "secret": self._sealed(claims.factor, claims.approver, claims.id)}
        return self._sign(FACTOR_TYPE, said)

    def verify_factor(self, token: str, *, approver: str) -> FactorClaims:
        """Return the claims of a factor that belongs to *approver*.

        Raises:
            TokenInvalidError: it is malformed, forged, of another type, or somebody else's.
        """
        match self._verified(FACTOR_TYPE, token):
            case {"jti": str(factor_id), "sub": str(owner), "iat": int(issued_at), **rest} if factor_id:
                if owner != approver:
                    raise TokenInvalidError("The factor belongs to another approver.")
                match rest:
                    case {"kind": FactorKind.TOTP, "secret": str(sealed), **more} if not more:
                        return FactorClaims(factor_id, owner, self._opened(sealed, owner, factor_id), issued_at)
                    case {"kind": FactorKind.PASSKEY, "passkey": dict(passkey), **more} if not more:
                        return FactorClaims(factor_id, owner, _passkey(passkey), issued_at)
        raise TokenInvalidError("The factor's token is malformed.")

    def check(self, claims: CheckClaims) -> str:
        """Return the token of a check.

        Raises:
            ValueError: it is one of a passkey.
        """
        if claims.kind is not FactorKind.TOTP:
            raise ValueError("a check is signed for a one-time code: a passkey's assertion is evidence by itself")
        return self._sign(
            CHECK_TYPE,
            {
                "request": claims.request_id,
                "binding": claims.binding_hash,
                "sub": claims.approver,
                "approved": claims.approved,
                "kind": claims.kind,
                "factor": claims.factor_id,
                "iat": claims.issued_at,
            },
        )

    def verify_check(
        self, token: str, *, request_id: str, binding_hash: str, approver: str, approved: bool
    ) -> CheckClaims:
        """Return the claims of a check that was made for this answer.

        Raises:
            TokenInvalidError: it is malformed, forged, of another type, or was made for another answer.
        """
        match self._verified(CHECK_TYPE, token):
            case {
                "request": str(request),
                "binding": str(binding),
                "sub": str(owner),
                "approved": bool(decision),
                "kind": FactorKind.TOTP,
                "factor": str(factor_id),
                "iat": int(issued_at),
                **more,
            } if factor_id and not more:
                if (request, binding, owner, decision) != (request_id, binding_hash, approver, approved):
                    raise TokenInvalidError("The code was checked for another answer.")
                return CheckClaims(request, binding, owner, decision, FactorKind.TOTP, factor_id, issued_at)
        raise TokenInvalidError("The check's token is malformed.")

    def _sealed(self, secret: OneTimeSecret, approver: str, factor_id: str) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        return _encoded(nonce + self._cipher.encrypt(nonce, secret.reveal(), self._bound(approver, factor_id)))

    def _opened(self, sealed: str, approver: str, factor_id: str) -> OneTimeSecret:
        try:
            raw = _decoded(sealed)
            nonce, ciphertext = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
            return OneTimeSecret(self._cipher.decrypt(nonce, ciphertext, self._bound(approver, factor_id)))
        except (InvalidTag, ValueError) as error:
            raise TokenInvalidError(
                "The factor's secret does not open: it is another factor's, or was changed."
            ) from error

    def _bound(self, approver: str, factor_id: str) -> bytes:
        return encode({"type": FACTOR_TYPE, "iss": self._issuer, "approver": approver, "factor": factor_id})

    def _sign(self, kind: str, claims: Mapping[str, Any]) -> str:
        token = jws.sign(kind, self._keys[kind], {"iss": self._issuer, "aud": self._audience, **claims})
        if len(token) > jws.MAX_TOKEN_CHARS:
            raise ValueError("the factor, or the answer it was checked for, takes more room than a token has")
        return token

    def _verified(self, kind: str, token: str) -> dict[str, Any]:
        """Return the claims beside issuer and audience. There is no expiry among them: a factor is good until it is
        taken away, and a check as long as its request."""
        key = self._keys[kind]
        claims = jws.verified(
            token, kind, key.verification, issuer=self._issuer, audience=self._audience, require=("iat",)
        )
        jws.whole(claims, "iat")
        return {name: value for name, value in claims.items() if name not in ("iss", "aud")}


def _encryption_key(key: SigningKey) -> bytes:
    return key.secret("zt_agents secrets of one-time codes", 32)


def _said(passkey: Passkey) -> dict[str, Any]:
    return {
        "id": _encoded(passkey.credential_id),
        "key": _encoded(passkey.public_key),
        "alg": passkey.algorithm,
        "rp": passkey.rp_id,
        "origin": passkey.origin,
        "count": passkey.sign_count,
    }


def _passkey(said: Mapping[str, Any]) -> Passkey:
    match said:
        case {
            "id": str(credential_id),
            "key": str(public_key),
            "alg": str(algorithm),
            "rp": str(rp_id),
            "origin": str(origin),
            "count": int(count),
            **more,
        } if algorithm in ALGORITHMS and type(count) is int and not more:
            try:
                return Passkey(_decoded(credential_id), _decoded(public_key), algorithm, rp_id, origin, count)
            except ValueError as error:
                raise TokenInvalidError("The factor's passkey is malformed.") from error
    raise TokenInvalidError("The factor's passkey is malformed.")


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, altchars=b"-_", validate=True)
