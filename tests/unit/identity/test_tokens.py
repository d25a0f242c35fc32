"""Session tokens: what is accepted, and each single fault that is not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from zt_agents.errors import TokenExpiredError, TokenInvalidError, TokenRevokedError
from zt_agents.identity import Agent, SigningKey, TokenIssuer, User

NOW = 1_800_000_000.0
AGENT = Agent("helpdesk", "spiffe://acme.example/agent/helpdesk", "1", "dana@acme.example", "tickets")
USER = User("alice@acme.example", groups=("support",), roles=("clerk",))


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def issuer(key: SigningKey) -> TokenIssuer:
    return TokenIssuer(issuer="https://guard.acme.example", audience="guard", keys=key)


def issue(issuer: TokenIssuer, **changes: Any) -> str:
    return issuer.issue(**{"agent": AGENT, "user": USER, "task": "", "ttl": 60, "now": NOW, **changes})[0]


def test_a_good_token_says_who_acts_for_whom(issuer: TokenIssuer) -> None:
    claims = issuer.verify(issue(issuer), now=NOW)
    assert (claims.user_id, claims.agent_id) == (USER.id, AGENT.id)
    assert (claims.groups, claims.roles) == (("support",), ("clerk",))
    assert claims.expires_at == int(NOW) + 60


def test_the_token_has_the_shape_of_rfc_9068_with_an_actor(issuer: TokenIssuer, key: SigningKey) -> None:
    token = issue(issuer)
    header = jwt.get_unverified_header(token)
    assert header == {"alg": "ES256", "typ": "at+jwt", "kid": key.thumbprint}
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["act"] == {
        "iss": claims["iss"], "sub": AGENT.id, "sub_profile": "ai_agent", "sid": claims["jti"]
    }
    assert claims["client_id"] == AGENT.id
    assert isinstance(claims["aud"], str)


def test_expiry_is_honoured_by_a_remembered_token_too(issuer: TokenIssuer) -> None:
    token = issue(issuer)
    issuer.verify(token, now=NOW)
    issuer.verify(token, now=NOW + 59.9)
    with pytest.raises(TokenExpiredError):
        issuer.verify(token, now=NOW + 60)


def test_revocation_is_honoured_by_a_remembered_token_too(issuer: TokenIssuer) -> None:
    token, claims = issuer.issue(agent=AGENT, user=USER, task="", ttl=60, now=NOW)
    issuer.verify(token, now=NOW)
    issuer.revoke(claims, now=NOW)
    with pytest.raises(TokenRevokedError):
        issuer.verify(token, now=NOW)


def test_a_revocation_outlives_every_later_one_until_its_token_expires(issuer: TokenIssuer) -> None:
    token, claims = issuer.issue(agent=AGENT, user=USER, task="", ttl=60, now=NOW)
    issuer.revoke(claims, now=NOW)
    for _ in range(10):
        issuer.revoke(issuer.issue(agent=AGENT, user=USER, task="", ttl=5, now=NOW)[1], now=NOW + 30)
    with pytest.raises(TokenRevokedError):
        issuer.verify(token, now=NOW + 31)


def test_a_token_from_the_future_is_refused(issuer: TokenIssuer) -> None:
    with pytest.raises(TokenInvalidError):
        issuer.verify(issue(issuer, now=NOW + 30), now=NOW)


@pytest.mark.parametrize("ttl", [0, -1, 3601])
def test_the_life_of_a_token_is_bounded(issuer: TokenIssuer, ttl: int) -> None:
    with pytest.raises(ValueError):
        issue(issuer, ttl=ttl)


def resign(token: str, key: SigningKey, header: dict[str, Any] | None = None, **claims: Any) -> str:
    old = jwt.decode(token, options={"verify_signature": False})
    merged = {name: value for name, value in {**old, **claims}.items() if value is not ...}
    headers = {"typ": "at+jwt", "kid": key.thumbprint, **(header or {})}
    return jwt.encode(merged, key.private, algorithm="ES256", headers=headers)


FAULTS: dict[str, dict[str, Any]] = {
    "other issuer": {"iss": "https://evil.example"},
    "other audience": {"aud": "another-guard"},
    "audience list": {"aud": ["guard"]},
    "no audience": {"aud": ...},
    "no subject": {"sub": ...},
    "empty subject": {"sub": ""},
    "no expiry": {"exp": ...},
    "expiry as text": {"exp": "1800000060"},
    "expiry as float": {"exp": NOW + 60},
    "longer than allowed": {"exp": int(NOW) + 3601},
    "ends before it begins": {"exp": int(NOW) - 1},
    "no actor": {"act": ...},
    "actor is not the client": {"act": {"sub": "spiffe://acme.example/agent/other"}},
    "nested actor": {"act": {"sub": AGENT.id, "act": {"sub": AGENT.id}}},
    "no id": {"jti": ...},
    "no task": {"txn": ...},
    "groups as text": {"groups": "admins"},
    "groups of numbers": {"groups": [1]},
}


@pytest.mark.parametrize("claims", FAULTS.values(), ids=FAULTS.keys())
def test_one_wrong_claim_is_enough(issuer: TokenIssuer, key: SigningKey, claims: dict[str, Any]) -> None:
    good = issue(issuer)
    issuer.verify(resign(good, key), now=NOW)  # the vector itself is good
    with pytest.raises(TokenInvalidError):
        issuer.verify(resign(good, key, **claims), now=NOW)


@pytest.mark.parametrize("typ", ["JWT", "at+JWT ", "id_token", "dpop+jwt", ""])
def test_another_type_of_token_is_refused(issuer: TokenIssuer, key: SigningKey, typ: str) -> None:
    with pytest.raises(TokenInvalidError):
        issuer.verify(resign(issue(issuer), key, {"typ": typ}), now=NOW)


def none_algorithm(token: str, key: SigningKey) -> str:
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "at+jwt", "kid": key.thumbprint}).encode())
    return f"{header.rstrip(b'=').decode()}.{token.split('.')[1]}."


def public_key_as_secret(token: str, key: SigningKey) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    x = key.public.public_numbers().x.to_bytes(32, "big")
    return jwt.encode(claims, x, algorithm="HS256", headers={"typ": "at+jwt", "kid": key.thumbprint})


def signed_by_rsa(token: str, key: SigningKey) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    other = rsa.generate_private_key(65537, 2048)
    return jwt.encode(claims, other, algorithm="RS256", headers={"typ": "at+jwt", "kid": key.thumbprint})


def signed_by_stranger(token: str, key: SigningKey) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    other = ec.generate_private_key(ec.SECP256R1())
    return jwt.encode(claims, other, algorithm="ES256", headers={"typ": "at+jwt", "kid": key.thumbprint})


def changed_payload(token: str, _: SigningKey) -> str:
    head, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["sub"] = "ceo@acme.example"
    return f"{head}.{base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b'=').decode()}.{signature}"


@pytest.mark.parametrize(
    "forge",
    [
        none_algorithm,
        public_key_as_secret,
        signed_by_rsa,
        signed_by_stranger,
        changed_payload,
        lambda token, key: token[:-4],
        lambda token, key: token + "A" * 20_000,
        lambda token, key: "",
        lambda token, key: "a.b.c",
        lambda token, key: None,
        lambda token, key: token.encode(),
    ],
)
def test_forgeries_are_refused(
    issuer: TokenIssuer, key: SigningKey, forge: Callable[[str, SigningKey], Any]
) -> None:
    with pytest.raises(TokenInvalidError) as caught:
        issuer.verify(forge(issue(issuer), key), now=NOW)
    assert "eyJ" not in str(caught.value)


def test_a_token_of_another_guard_is_refused(issuer: TokenIssuer) -> None:
    other = TokenIssuer(issuer="https://guard.acme.example", audience="guard", keys=SigningKey.generate())
    with pytest.raises(TokenInvalidError):
        issuer.verify(issue(other), now=NOW)


def test_what_is_remembered_is_bounded(issuer: TokenIssuer) -> None:
    for _ in range(4200):
        issuer._verified[str(len(issuer._verified))] = issuer.issue(
            agent=AGENT, user=USER, task="", ttl=60, now=NOW
        )[::-1] if not issuer._verified else next(iter(issuer._verified.values()))
    issuer.verify(issue(issuer), now=NOW)
    assert len(issuer._verified) <= 4096


@pytest.mark.parametrize("token", [None, 5, b"x", {}, [], {"a": []}, "", "x" * 20_000])
def test_what_is_no_token_is_refused_in_our_own_words(issuer: TokenIssuer, token: Any) -> None:
    with pytest.raises(TokenInvalidError):
        issuer.verify(token, now=NOW)


def test_a_token_that_nobody_would_accept_is_not_issued(issuer: TokenIssuer) -> None:
    many = User("alice", groups=[f"group-{number:030}" for number in range(1000)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="more room than a token has"):
        issue(issuer, user=many)
