"""Clients that prove themselves by a key of their own (RFC 7523), and those that only seem to."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from zt_agents.errors import TokenExpiredError, TokenInvalidError
from zt_agents.identity import KeyRing, SigningKey
from zt_agents.identity.signing.client_assertions import ASSERTION_TYPE, client_named, sign_assertion, verify_assertion

NOW = 1_760_000_000.0
CLIENT = "spiffe://acme.example/agent/helpdesk"
URL = "https://issuer.acme.example"
KEYS = {algorithm: SigningKey.generate(algorithm) for algorithm in ("ES256", "EdDSA")}


def verified(assertion: str, key: SigningKey, now: float = NOW) -> Any:
    return verify_assertion(assertion, client=CLIENT, keys=KeyRing.of(key), audiences={URL, f"{URL}/token"}, now=now)


@pytest.fixture(params=sorted(KEYS))
def key(request: pytest.FixtureRequest) -> SigningKey:
    return KEYS[request.param]


def test_an_assertion_is_good_for_a_minute(key: SigningKey) -> None:
    assertion = sign_assertion(key, client=CLIENT, audience=URL, now=NOW)
    assert client_named(assertion) == CLIENT
    one = verified(assertion, key, NOW + 59)
    assert (one.client, one.expires_at >= NOW + 60) == (CLIENT, True)
    assert verified(sign_assertion(key, client=CLIENT, audience=URL, now=NOW), key).id != one.id
    with pytest.raises(TokenExpiredError):
        verified(assertion, key, one.expires_at)


def test_one_made_by_another_library_is_taken() -> None:
    key = KEYS["ES256"]
    said = {"iss": CLIENT, "sub": CLIENT, "aud": f"{URL}/token", "exp": int(NOW) + 30, "jti": "1"}
    assertion = jwt.encode(said, key.private, algorithm="ES256", headers={"kid": key.thumbprint})
    assert verified(assertion, key).id == "1"


@pytest.mark.parametrize(
    ("claims", "header"),
    [
        ({"iss": "spiffe://acme.example/agent/other"}, {}),
        ({"sub": "spiffe://acme.example/agent/other"}, {}),
        ({"aud": "https://evil.example"}, {}),
        ({"aud": [URL]}, {}),
        ({"aud": [URL, "https://evil.example"]}, {}),
        ({"aud": None}, {}),
        ({"exp": int(NOW) + 3600}, {}),
        ({"exp": str(int(NOW) + 30)}, {}),
        ({"exp": None}, {}),
        ({"jti": None}, {}),
        ({"jti": ""}, {}),
        ({"jti": 7}, {}),
        ({}, {"typ": "at+jwt"}),
        ({}, {"typ": "dpop+jwt"}),
        ({}, {"kid": "another"}),
        ({}, {"jwk": SigningKey.generate().jwk}),
        ({}, {"jku": "https://evil.example/jwks"}),
    ],
)
def test_what_is_no_assertion_for_us_is_refused(claims: dict[str, Any], header: dict[str, Any]) -> None:
    key = KEYS["ES256"]
    good = {"iss": CLIENT, "sub": CLIENT, "aud": URL, "exp": int(NOW) + 30, "jti": "1"}
    said = {name: value for name, value in {**good, **claims}.items() if value is not None}
    headers = {"typ": ASSERTION_TYPE, "kid": key.thumbprint, **header}
    with pytest.raises(TokenInvalidError):
        verified(jwt.encode(said, key.private, algorithm="ES256", headers=headers), key)


def test_another_key_is_refused(key: SigningKey) -> None:
    (other,) = (each for each in KEYS.values() if each is not key)
    with pytest.raises(TokenInvalidError):
        verified(sign_assertion(other, client=CLIENT, audience=URL, now=NOW), key)
    for text in ("", "a.b.c", "é"):
        with pytest.raises(TokenInvalidError):
            verified(text, key)
