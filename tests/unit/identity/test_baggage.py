"""Signed agent baggage: what a service may believe of it, and what it refuses."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from zt_agents.errors import TokenExpiredError, TokenInvalidError
from zt_agents.identity import Agent, AgentBaggage, BaggageSigner, SigningKey, TokenIssuer, User, verify_baggage
from zt_agents.identity.baggage import BAGGAGE_TYPE
from zt_agents.identity.tokens import SessionClaims

ISSUER = "spiffe://acme.example/zt-agents"
KEY = SigningKey.generate()
SIGNER = BaggageSigner(issuer=ISSUER, key=KEY)
AGENT = "spiffe://acme.example/agent/helpdesk"
CLAIMS = SessionClaims("alice@acme.example", AGENT, "s-1", "t-1", (), (), 1_000, 1_900)


def verify(header: str, **changes: Any) -> AgentBaggage | None:
    return verify_baggage(header, **{"key": SIGNER.jwk, "issuer": ISSUER, "now": 1_500.0, **changes})


def test_a_service_learns_which_agent_calls() -> None:
    header = f"other=1, zt_agents.agent={SIGNER.sign(CLAIMS)};property=2 ,another=3"
    assert verify(header) == AgentBaggage(AGENT, "s-1", "t-1", 1_000, 1_900)


def test_the_user_is_not_in_it() -> None:
    payload = SIGNER.sign(CLAIMS).split(".")[1]
    assert b"alice" not in base64.urlsafe_b64decode(payload + "==")


def test_baggage_of_others_says_nothing() -> None:
    assert verify("a=1,b=2") is None
    assert verify("") is None
    assert verify("xzt_agents.agent=1") is None


def test_it_ends_with_the_session() -> None:
    header = f"zt_agents.agent={SIGNER.sign(CLAIMS)}"
    assert verify(header, now=1_899.9) is not None
    with pytest.raises(TokenExpiredError):
        verify(header, now=1_900.0)


def forged(kind: str = BAGGAGE_TYPE, key: SigningKey = KEY.derived(BAGGAGE_TYPE), **changes: Any) -> str:  # noqa: B008
    claims = {"iss": ISSUER, "aud": f"{ISSUER}/baggage", "client_id": AGENT, "sid": "s", "txn": "t"}
    claims |= {"iat": 1_000, "exp": 1_900} | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key.private, algorithm="ES256", headers={"typ": kind, "kid": SIGNER.jwk["kid"]})


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(algorithm: str, sign: Callable[[bytes], bytes]) -> str:
    header = {"alg": algorithm, "typ": BAGGAGE_TYPE, "kid": SIGNER.jwk["kid"]}
    signed = f"{b64(json.dumps(header).encode())}.{forged().split('.')[1]}"
    return f"{signed}.{b64(sign(signed.encode()))}"


def unsigned() -> str:
    return by_hand("none", lambda _: b"")


def with_the_public_key_for_a_secret() -> str:
    return by_hand("HS256", lambda text: hmac.digest(json.dumps(SIGNER.jwk).encode(), text, "sha256"))


def a_sessions_token() -> str:
    issuer = TokenIssuer(issuer=ISSUER, audience=f"{ISSUER}/baggage", keys=KEY)
    agent = Agent("helpdesk", AGENT, "1", "dana", "tests")
    return issuer.issue(agent=agent, user=User("alice"), task="", ttl=900, now=1_000.0)[0]


def test_the_forgery_is_good_but_for_what_is_wrong_with_it() -> None:
    assert verify(f"zt_agents.agent={forged()}") is not None


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: forged(key=SigningKey.generate()), id="another key"),
        pytest.param(lambda: forged(key=KEY), id="the key of sessions"),
        pytest.param(lambda: forged(kind="at+jwt"), id="another type"),
        pytest.param(lambda: forged(kind="JWT"), id="no type"),
        pytest.param(lambda: forged(aud=ISSUER), id="another audience"),
        pytest.param(lambda: forged(aud=[f"{ISSUER}/baggage"]), id="a list of audiences"),
        pytest.param(lambda: forged(iss="spiffe://evil.example/zt-agents"), id="another issuer"),
        pytest.param(lambda: forged(exp=None), id="no end"),
        pytest.param(lambda: forged(exp="9999999999"), id="an end that is a text"),
        pytest.param(lambda: forged(exp=True), id="an end that is true"),
        pytest.param(lambda: forged(client_id=7), id="an agent that is a number"),
        pytest.param(unsigned, id="no signature"),
        pytest.param(with_the_public_key_for_a_secret, id="the public key as a secret"),
        pytest.param(a_sessions_token, id="a session's token"),
        pytest.param(lambda: forged()[:-4], id="cut"),
        pytest.param(lambda: "x" * 9_000, id="huge"),
        pytest.param(lambda: "", id="empty"),
        pytest.param(lambda: f"{forged()},zt_agents.agent={forged()}", id="twice"),
    ],
)
def test_what_is_refused(make: Callable[[], str]) -> None:
    with pytest.raises(TokenInvalidError):
        verify(f"zt_agents.agent={make()}")


def test_it_is_no_sessions_token() -> None:
    issuer = TokenIssuer(issuer=ISSUER, audience=f"{ISSUER}/baggage", keys=KEY)
    with pytest.raises(TokenInvalidError):
        issuer.verify(SIGNER.sign(CLAIMS), now=1_500.0)


def test_a_key_from_elsewhere_verifies_nothing() -> None:
    header = f"zt_agents.agent={SIGNER.sign(CLAIMS)}"
    for key in (SigningKey.generate().jwk, KEY.jwk, {}, {"kty": "oct", "k": "c2VjcmV0", "kid": SIGNER.jwk["kid"]}):
        with pytest.raises(TokenInvalidError):
            verify(header, key=key)
