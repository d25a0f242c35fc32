"""Proofs that whoever sends a token holds its key (RFC 9449): each of the checks of section 4.3, and its attack."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from call_token_parts import AUDIENCE, NOW, check, mint, verifier

from zt_agents.credentials import CallTokenError, CallTokenReason, CallTokenVerifier, Proof, prove
from zt_agents.identity import SigningKey

KEY, THIEF = SigningKey.generate(), SigningKey.generate()
URL = f"{AUDIENCE}/tickets/5"
TOKEN = mint(key_thumbprint=KEY.thumbprint)


def proof(token: str = TOKEN, key: SigningKey = KEY, **changes: Any) -> str:
    return prove(key, **{"method": "PATCH", "url": URL, "token": token, "now": NOW, **changes})


def forged(key: SigningKey = KEY, headers: dict[str, Any] | None = None, **changes: Any) -> str:
    """Return a proof as somebody writes it who has a key and no scruples."""
    said = jwt.decode(proof(), options={"verify_signature": False})
    claims = {name: value for name, value in {**said, **changes}.items() if value is not None}
    head = {"typ": "dpop+jwt", "jwk": KEY.verification.members, **(headers or {})}
    return jwt.encode(claims, key.private, algorithm=key.algorithm, headers=head)


def present(sent: str, token: str = TOKEN, service: CallTokenVerifier | None = None, **changes: Any) -> None:
    request = {"method": "PATCH", "url": URL, **changes}
    check(token, service, proof=Proof(sent, **request))


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
def test_the_holder_of_the_key_is_let_in(algorithm: str) -> None:
    key = SigningKey.generate(algorithm)
    token = mint(key_thumbprint=key.thumbprint)
    present(proof(token, key), token)


def test_query_fragment_and_spelling_of_the_origin_do_not_count() -> None:
    present(proof(url="HTTPS://Tickets.acme.example:443/tickets/5?x=1#y"))


FORGERIES: list[tuple[str, Callable[[], str]]] = [
    ("nothing", lambda: ""),
    ("noise", lambda: "a.b.c"),
    ("the thief's own key", lambda: proof(key=THIEF)),
    ("the thief's signature under the holder's key", lambda: forged(THIEF)),
    ("another method", lambda: proof(method="DELETE")),
    ("the method in small letters", lambda: forged(htm="patch")),
    ("another path", lambda: proof(url=f"{AUDIENCE}/tickets/6")),
    ("another host", lambda: proof(url="https://evil.example/tickets/5")),
    ("another scheme", lambda: proof(url="http://tickets.acme.example/tickets/5")),
    ("another port", lambda: proof(url="https://tickets.acme.example:8443/tickets/5")),
    ("another token", lambda: proof(token=mint(key_thumbprint=KEY.thumbprint))),
    ("no hash of the token", lambda: forged(ath=None)),
    ("too old", lambda: proof(now=NOW - 66)),
    ("of the future", lambda: proof(now=NOW + 6)),
    ("no time", lambda: forged(iat=None)),
    ("time as text", lambda: forged(iat="now")),
    ("no name", lambda: forged(jti=None)),
    ("an endless name", lambda: forged(jti="x" * 257)),
    ("a claim nobody knows", lambda: forged(admin=True)),
    ("a nonce nobody asked for", lambda: proof(nonce="n")),
    ("an empty nonce", lambda: forged(nonce="")),
    ("typ JWT", lambda: forged(headers={"typ": "JWT"})),
    ("a private key in the header", lambda: forged(headers={"jwk": {**KEY.verification.members, "d": "AA"}})),
    ("a key that is called something", lambda: forged(headers={"jwk": {**KEY.verification.members, "kid": "x"}})),
    ("more in the header", lambda: forged(headers={"jku": "https://evil.example"})),
    ("a list for a URL", lambda: forged(htu=[URL])),
    ("a call's token", lambda: TOKEN),
    ("a huge one", lambda: forged(jti="x" * 5_000)),
]


@pytest.mark.parametrize("forge", [pytest.param(forge, id=name) for name, forge in FORGERIES])
def test_each_forgery_is_refused(forge: Callable[[], str]) -> None:
    with pytest.raises(CallTokenError) as refusal:
        present(forge())
    assert refusal.value.reason is CallTokenReason.DPOP_WRONG


def test_a_nonce_that_was_asked_for_is_repeated() -> None:
    present(proof(nonce="n"), nonce="n")
    for wrong in (proof(), proof(nonce="m")):
        with pytest.raises(CallTokenError):
            present(wrong, nonce="n")


def test_a_proof_is_used_once() -> None:
    service = verifier(uses=2)
    sent = proof()
    present(sent, service=service)
    with pytest.raises(CallTokenError) as refusal:
        present(sent, service=service)
    assert refusal.value.reason is CallTokenReason.REPLAYED


def test_a_thief_of_the_token_alone_gets_nothing_and_uses_up_nothing() -> None:
    service = verifier()
    for attempt in (lambda: check(TOKEN, service), lambda: present(proof(key=THIEF), service=service)):
        with pytest.raises(CallTokenError):
            attempt()
    present(proof(), service=service)


def test_a_proof_of_no_use_is_no_ornament() -> None:
    token = mint()
    with pytest.raises(CallTokenError) as refusal:
        present(proof(token), token)
    assert refusal.value.reason is CallTokenReason.DPOP_WRONG


def test_proofs_are_for_http() -> None:
    with pytest.raises(ValueError):
        prove(KEY, method="GET", url="ftp://tickets.acme.example", token=TOKEN, now=time.time())
