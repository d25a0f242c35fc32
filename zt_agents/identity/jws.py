"""One way to sign and to verify a JWT, for every kind of token that this package makes.

Rules (RFC 8725):

1. ES256 and nothing else; a header chooses neither the algorithm nor the key.
2. Each kind has a ``typ`` and, derived or its own, a key: none passes for another.
3. Issuer and audience are compared exactly; what is required is there. Times are the caller's to compare: with the
   guard's clock.
4. A token has a size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from zt_agents.errors import TokenInvalidError
from zt_agents.identity.keys import ALGORITHM, SigningKey

MAX_TOKEN_CHARS = 16_384


def sign(kind: str, key: SigningKey, claims: Mapping[str, Any]) -> str:
    """Return the token of *kind* with *claims*."""
    return jwt.encode(dict(claims), key.private, algorithm=ALGORITHM, headers={"typ": kind, "kid": key.thumbprint})


def verified(
    token: object,
    kind: str,
    key: ec.EllipticCurvePublicKey,
    thumbprint: str,
    *,
    issuer: str,
    audience: str,
    require: Sequence[str],
) -> dict[str, Any]:
    """Return the claims of *token*.

    Raises:
        TokenInvalidError: it is malformed, forged, of another kind, issuer or audience, or lacks something.
    """
    if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARS:
        raise TokenInvalidError("The token is not a token.")
    try:
        header = jwt.get_unverified_header(token)
        if header.get("typ") != kind or header.get("kid") != thumbprint:
            raise TokenInvalidError("The token is of another type or from another issuer.")
        return jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
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


def kind_of(token: object) -> str:
    """Return the ``typ`` that *token* claims to be of, or an empty text: which verification to try, and no more."""
    try:
        return str(jwt.get_unverified_header(token).get("typ", ""))  # type: ignore[arg-type]
    except (jwt.PyJWTError, ValueError, TypeError):
        return ""


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
