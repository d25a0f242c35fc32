"""DPoP (RFC 9449): a proof, for one request, that whoever sends a token holds the key that it is bound to.

Rules (section 4.3):

1. The proof carries a public key, and is signed with it; what counts is that its thumbprint is the one in the token.
   The header says ``typ``, ``alg`` and ``jwk`` and nothing else, and the key alone says which algorithm.
2. It is for one method, one URL (without query and fragment) and one token (``ath``), of the last minute, and used
   once: counting is the part of whoever verifies.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import InitVar, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import jwt

from zt_agents._internal.hidden import Hidden
from zt_agents._internal.origins import origin_of
from zt_agents.credentials.strict_encodings import base64url, read_base64url, read_object
from zt_agents.errors import CallTokenError, CallTokenReason, TokenInvalidError
from zt_agents.identity import SigningKey
from zt_agents.identity.signing.public_keys import VerificationKey

PROOF_TYPE = "dpop+jwt"
PROOF_SECONDS = 60
"""How old a proof may be."""
_MAX_CHARS = 4_096
_CLAIMS = {"jti", "htm", "htu", "iat", "ath"}


@dataclass(frozen=True, slots=True)
class Proof:
    """A request's proof, and the request that it came with."""

    proof: InitVar[str]
    """The value of the header ``DPoP``."""
    method: str
    url: str
    """As the client wrote it: the service's public scheme, host and path, whatever a proxy has made of them."""
    nonce: str = ""
    """What the service has asked to be repeated, if it asked for anything."""
    header: Hidden[str] = field(init=False, repr=False)
    """The proof."""

    def __post_init__(self, proof: str) -> None:
        object.__setattr__(self, "header", Hidden(proof))


def prove(key: SigningKey, *, method: str, url: str, token: str, now: float, nonce: str = "") -> str:
    """Return the proof for one request with *token*: the value of its header ``DPoP``.

    Raises:
        ValueError: *url* is none of ``http`` or ``https``.
    """
    claims: dict[str, Any] = {
        "jti": uuid.uuid4().hex,
        "htm": method,
        "htu": _target(url),
        "iat": int(now),
        "ath": _hash(token),
    }
    if nonce:
        claims["nonce"] = nonce
    headers = {"typ": PROOF_TYPE, "jwk": key.verification.members}
    return jwt.encode(claims, key.private, algorithm=key.algorithm, headers=headers)


def verify_proof(presented: Proof, *, token: str, thumbprint: str, now: float, leeway: float) -> str:
    """Return the ``jti`` of a good proof: the caller counts it.

    Args:
        presented: the proof and its request.
        token: the token that came with it.
        thumbprint: of the key that the token is bound to.
        now: seconds since the epoch.
        leeway: seconds by which clocks may differ.

    Raises:
        CallTokenError: it proves nothing (``dpop_wrong``).
    """
    try:
        claims = _signed(presented.header.reveal(), thumbprint)
        expected = {"htm": presented.method, "ath": _hash(token)}
        if presented.nonce:
            expected["nonce"] = presented.nonce
        issued, jti = claims["iat"], claims["jti"]
        good = (
            claims.keys() == _CLAIMS | expected.keys()
            and all(claims[name] == value for name, value in expected.items())
            and _target(claims["htu"]) == _target(presented.url)
            and type(issued) is int
            and now - PROOF_SECONDS - leeway <= issued <= now + leeway
            and type(jti) is str
            and 0 < len(jti) <= 256
        )
    except (jwt.PyJWTError, TokenInvalidError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CallTokenError(CallTokenReason.DPOP_WRONG, "The request's DPoP proof could not be read.") from error
    if not good:
        text = "The request's DPoP proof is for another request, another token or another time."
        raise CallTokenError(CallTokenReason.DPOP_WRONG, text)
    return str(jti)


def _signed(proof: object, thumbprint: str) -> dict[str, Any]:
    if type(proof) is not str or len(proof) > _MAX_CHARS or proof.count(".") != 2:
        raise ValueError("it is no proof")
    header = read_object(read_base64url(proof.partition(".")[0]))
    key = VerificationKey.from_jwk(header["jwk"])
    expected = {"typ": PROOF_TYPE, "alg": key.algorithm, "jwk": header["jwk"]}
    if header != expected or set(header["jwk"]) != set(key.members) or key.kid != thumbprint:
        raise ValueError("its key is not the token's")
    return read_object(jwt.PyJWS().decode_complete(proof, key.public, algorithms=[key.algorithm])["payload"])


def _target(url: str) -> str:
    """Return *url* without query and fragment, normalised (RFC 9449, section 4.3; RFC 3986, section 6.2)."""
    origin = origin_of(url)
    if not origin:
        raise ValueError("it is not the URL of a service")
    return f"{origin}{urlsplit(url).path or '/'}"


def _hash(token: str) -> str:
    return base64url(hashlib.sha256(token.encode()).digest())
