"""One way to sign and to verify a JWT, for every kind of token that this package makes.

Rules (RFC 8725):

1. A key has one algorithm. A header names a key among those that may have signed, and chooses nothing: it brings no
   key along, nor where to get one, and says ``alg``, ``kid`` and ``typ`` and nothing else.
2. Each kind has a ``typ`` and, derived or its own, a key: none passes for another.
3. Issuer and audience are compared exactly; what is required is there. Times are the caller's to compare: with the
   guard's clock.
4. A token has a size.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jwt

from zt_agents.errors import TokenInvalidError
from zt_agents.identity.signing.key_ring import KeyRing
from zt_agents.identity.signing.keys import SigningKey
from zt_agents.identity.signing.public_keys import VerificationKey

MAX_TOKEN_CHARS = 16_384
_HEADER = {"alg", "kid", "typ"}


def sign(kind: str, key: SigningKey, claims: Mapping[str, Any]) -> str:
    """Return the token of *kind* with *claims*."""
    headers = {"typ": kind, "kid": key.thumbprint}
    return jwt.encode(dict(claims), key.private, algorithm=key.algorithm, headers=headers)


def verified(
    token: object,
    kind: str,
    keys: VerificationKey | KeyRing,
    *,
    issuer: str,
    audience: str,
    require: Sequence[str],
    now: float | None = None,
) -> dict[str, Any]:
    """Return the claims of *token*.

    Args:
        token: what was handed in.
        kind: its ``typ``.
        keys: the one key that may have signed it, or the ring.
        issuer: its ``iss``.
        audience: its ``aud``.
        require: names of the claims that have to be there, besides these two.
        now: seconds since the epoch, by which a ring knows its keys; a single key needs none.

    Raises:
        TokenInvalidError: it is malformed, forged, of another kind, issuer or audience, or lacks something.
        ValueError: a ring was asked without the time.
    """
    key = key_named(token, kind, keys, now)
    try:
        return jwt.decode(
            token,  # type: ignore[arg-type]  # a text, or it names no key
            key.public,
            algorithms=[key.algorithm],
            audience=audience,
            issuer=issuer,
            options={
                "require": ["iss", "aud", *require],
                "strict_aud": True,
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
    except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
        raise TokenInvalidError("The token could not be verified.") from error


def key_named(token: object, kind: str, keys: VerificationKey | KeyRing, now: float | None = None) -> VerificationKey:
    """Return the key among *keys* that the header of *token* names; nothing is verified by that.

    Raises:
        TokenInvalidError: it is no token, of another kind, or names none of them.
        ValueError: a ring was asked without the time.
    """
    if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS:
        raise TokenInvalidError("The token is not a token.")
    header = _header(token)
    kid = header.get("kid")
    key = _found(keys, kid, now) if isinstance(kid, str) else None
    # PyJWT does not look at 'typ': without this check a token of another kind would pass (RFC 8725, 3.11).
    if key is None or header.get("typ") != kind or header.get("alg") != key.algorithm or set(header) != _HEADER:
        raise TokenInvalidError("The token is of another type or from another issuer.")
    return key


def _found(keys: VerificationKey | KeyRing, kid: str, now: float | None) -> VerificationKey | None:
    if isinstance(keys, VerificationKey):
        return keys if keys.kid == kid else None
    if now is None:
        raise ValueError("a ring has its keys at a moment")
    return keys.find(kid, now)


def kind_of(token: object) -> str:
    """Return the ``typ`` that *token* claims to be of, or an empty text: which verification to try, and no more."""
    return str(_header(token).get("typ", ""))


def names_of(token: object) -> tuple[str, str]:
    """Return ``typ`` and ``kid`` that *token* claims, or empty texts: which verification to try, and no more."""
    header = _header(token)
    kind, kid = header.get("typ"), header.get("kid")
    return (kind, kid) if isinstance(kind, str) and isinstance(kid, str) else ("", "")


def _header(token: object) -> dict[str, Any]:
    """Return the header of *token*, or an empty one. Whether it is well-formed is seen when it is verified."""
    if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS:
        return {}
    encoded = token.partition(".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def unverified(token: str) -> dict[str, Any]:
    """Return the claims of a *token* that is the caller's own, and believed as such; or raise TokenInvalidError."""
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise TokenInvalidError("The token is malformed.") from error
    return claims


def text(claims: Mapping[str, Any], name: str) -> str:
    """Return the text *name* of *claims*, or raise TokenInvalidError."""
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise TokenInvalidError("The token is malformed.")
    return value


def whole(claims: Mapping[str, Any], name: str) -> int:
    """Return the whole number *name* of *claims*, or raise TokenInvalidError."""
    value = claims.get(name)
    if type(value) is not int:
        raise TokenInvalidError("The token is malformed.")
    return value


def flag(claims: Mapping[str, Any], name: str) -> bool:
    """Return the truth value *name* of *claims*, or raise TokenInvalidError."""
    value = claims.get(name)
    if type(value) is not bool:
        raise TokenInvalidError("The token is malformed.")
    return value


def texts(claims: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return the list of texts *name* of *claims*, or raise TokenInvalidError."""
    values = claims.get(name)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TokenInvalidError("The token is malformed.")
    return tuple(values)
