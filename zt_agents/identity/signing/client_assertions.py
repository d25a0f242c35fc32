"""How a client proves who it is: an assertion signed with its own key (``private_key_jwt``, RFC 7523 section 2.2).

Rules:

1. It names the client as issuer and as subject, and whoever it is shown to as its one audience.
2. It is good for a minute at most, and once: whoever verifies it remembers its ``jti``.
3. What can be seen without a signature is looked at first: who sends nonsense has no signature verified.
4. Its key is one of the client's own. The header names it and brings nothing along. Its type is its own, or the one
   that assertions had before they had any; a client's key signs nothing else of that type.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import NamedTuple, Protocol

from zt_agents.errors import TokenExpiredError, TokenInvalidError
from zt_agents.identity.signing import jws
from zt_agents.identity.signing.keys import SigningKey
from zt_agents.identity.signing.public_keys import VerificationKey

ASSERTION_TYPE = "client-authentication+jwt"
"""As in the revision of RFC 7523."""
ASSERTION_SECONDS = 60
"""For how long one is good at most."""
_UNTYPED = "JWT"
_LONGEST_ID = 256
_LEEWAY = 5
"""Seconds by which the clocks of client and server may differ."""


class Assertion(NamedTuple):
    """A verified assertion. Whether it was shown before is its reader's to know."""

    client: str
    id: str
    """``jti``."""
    expires_at: int
    """Seconds since the epoch."""


class ClientKeys(Protocol):
    """Finds the public keys of a client."""

    def find(self, kid: str, now: float) -> VerificationKey | None: ...


def sign_assertion(key: SigningKey, *, client: str, audience: str, now: float) -> str:
    """Return an assertion of *client* for *audience*, to be used once, within a minute."""
    said = {
        "iss": client,
        "sub": client,
        "aud": audience,
        "iat": int(now),
        "exp": int(now) + ASSERTION_SECONDS,
        "jti": uuid.uuid4().hex,
    }
    return jws.sign(ASSERTION_TYPE, key, said)


def client_named(assertion: str) -> str:
    """Return whom *assertion* claims to be of: whose keys to look it up with, and no more.

    Raises:
        TokenInvalidError: nobody.
    """
    return jws.text(jws.unverified(assertion), "sub")


def verify_assertion(
    assertion: str, *, client: str, keys: ClientKeys, audiences: Collection[str], now: float
) -> Assertion:
    """Return the verified *assertion* of *client*.

    Args:
        assertion: what was shown.
        client: whose it has to be.
        keys: theirs.
        audiences: what its reader is called, any of them.
        now: seconds since the epoch.

    Raises:
        TokenInvalidError: it is malformed, forged, for somebody else, good for too long, or not of *client*.
        TokenExpiredError: *now* is not before its end.
        StoreError: the keys cannot be had.
    """
    kind, kid = jws.names_of(assertion)
    said, audience = _said(assertion, client, now)
    if kind not in (ASSERTION_TYPE, _UNTYPED) or audience not in audiences:
        raise TokenInvalidError("The assertion is of another type, or for somebody else.")
    key = keys.find(kid, now)
    if key is None:
        raise TokenInvalidError("The assertion is by another key.")
    jws.verified(assertion, kind, key, issuer=client, audience=audience, require=("sub", "exp", "jti"))
    return said


def _said(assertion: str, client: str, now: float) -> tuple[Assertion, str]:
    """Return what *assertion* says, and to whom; nothing is verified by that."""
    claims = jws.unverified(assertion)
    expires_at, name = jws.whole(claims, "exp"), jws.text(claims, "jti")
    if (claims.get("iss"), claims.get("sub")) != (client, client) or expires_at > now + ASSERTION_SECONDS + _LEEWAY:
        raise TokenInvalidError("The assertion is of somebody else, or good for too long.")
    if now >= expires_at + _LEEWAY:
        raise TokenExpiredError("The assertion has expired.")
    if len(name) > _LONGEST_ID:
        raise TokenInvalidError("The assertion's name is longer than anybody remembers.")
    return Assertion(client, name, expires_at + _LEEWAY), jws.text(claims, "aud")
