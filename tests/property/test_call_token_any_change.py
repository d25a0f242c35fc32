"""Whatever is changed in a token, it is refused; whatever was minted, is what is verified."""

from __future__ import annotations

import jwt
import pytest
from call_token_parts import CLAIMS, ISSUER, NOW, SIGNER, check, claims, header, mint, signed, verifier
from hypothesis import given, settings
from hypothesis import strategies as st

from zt_agents._internal.canonical import encode
from zt_agents.credentials import (
    UNSAFE_ANY_ARGUMENTS,
    CallClaims,
    CallTokenError,
    CallTokenSigner,
    CallTokenVerifier,
    Proof,
    prove,
)
from zt_agents.credentials.call_tokens import hash_of_arguments
from zt_agents.identity import SigningKey

TOKENS = [mint(), mint(key_thumbprint="x" * 43)]
EDDSA = SigningKey.generate("EdDSA")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
words = texts.filter(bool)
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.none() | st.booleans() | numbers | texts
arguments = st.dictionaries(texts, values | st.lists(values, max_size=3), max_size=4)


@st.composite
def calls(draw: st.DrawFn) -> tuple[CallClaims, dict[str, object]]:
    """Draw the claims of any call, and its arguments."""
    said = draw(arguments)
    token_id, depth, now = draw(words), draw(st.integers(1, 8)), int(NOW)
    return CallClaims(
        issuer=ISSUER,
        audience=draw(words),
        user_id=draw(words),
        agents=tuple(draw(st.lists(words, min_size=depth, max_size=depth))),
        sessions=tuple(draw(st.lists(words, min_size=depth, max_size=depth))),
        owner=draw(texts),
        tool=draw(words),
        resource=draw(texts),
        effects=tuple(draw(st.lists(words, max_size=3))),
        system=draw(texts),
        task=draw(words),
        tenant=draw(texts),
        token_id=token_id,
        args_hash=hash_of_arguments(token_id, encode(said)),
        issued_at=now - draw(st.integers(0, 1)),
        expires_at=now + draw(st.integers(1, 59)),
    ), said


@settings(max_examples=50)
@given(calls(), st.sampled_from([SigningKey.generate(), EDDSA]))
def test_what_was_minted_is_what_is_verified(call: tuple[CallClaims, dict[str, object]], key: SigningKey) -> None:
    wanted, said = call
    signer = CallTokenSigner(issuer=ISSUER, keys=key)
    service = CallTokenVerifier(
        keys=signer.jwks(NOW), issuer=ISSUER, audience=wanted.audience, clock=lambda: NOW
    )
    token = signer.mint(wanted, now=NOW)
    assert service.verify(token, tool=wanted.tool, arguments=said) == wanted


@given(st.sampled_from(TOKENS), st.data())
def test_a_token_with_any_character_changed_is_refused(token: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(max_codepoint=255).filter(lambda character: character != token[place]))
    with pytest.raises(CallTokenError):
        check(token[:place] + other + token[place + 1 :])


def test_a_token_with_a_bit_of_any_character_flipped_is_refused() -> None:
    token, service = mint(), verifier()
    for place in range(len(token)):
        bit = place % 7
        changed = token[:place] + chr(ord(token[place]) ^ (1 << bit)) + token[place + 1 :]
        with pytest.raises(CallTokenError):
            check(changed, service)
    assert check(token, service) == CLAIMS


@given(st.sampled_from(TOKENS), st.data())
def test_a_token_that_is_cut_or_has_more_in_it_is_refused(token: str, data: st.DataObject) -> None:
    start, end = sorted(data.draw(st.lists(st.integers(0, len(token)), min_size=2, max_size=2)))
    more = data.draw(st.text(max_size=3))
    changed = token[:start] + more + token[end:]
    if changed != token:
        with pytest.raises(CallTokenError):
            check(changed)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: f"{raw.hex()}.e30.{raw.hex()}"))
def test_anything_else_is_refused(token: str) -> None:
    with pytest.raises(CallTokenError):
        check(token)


def test_two_guards_do_not_verify_each_others_tokens() -> None:
    stranger = CallTokenSigner(issuer=ISSUER, keys=SigningKey.generate())
    with pytest.raises(CallTokenError):
        check(stranger.mint(CLAIMS, now=NOW))
    assert check(SIGNER.mint(CLAIMS, now=NOW)) == CLAIMS


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = sorted(claims())


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from([*NAMES, "cnf"]), json_values, min_size=1, max_size=3))
def test_whatever_the_issuers_key_has_signed_is_a_calls_token_or_refused(changes: dict[str, object]) -> None:
    """Nothing else is raised, and what is returned has the types that it says."""
    try:
        found = check(signed(header(), {**claims(), **changes}), arguments=UNSAFE_ANY_ARGUMENTS)
    except CallTokenError:
        return
    words = (found.user_id, found.owner, found.tool, found.resource, found.system, found.task, found.tenant)
    assert all(type(word) is str for word in (*words, *found.agents, *found.sessions, *found.effects))
    assert 0 < found.expires_at - found.issued_at <= 60


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk"]), json_values, min_size=1))
def test_whatever_a_header_says_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(CallTokenError):
        check(signed({**header(), **changes}, claims()))


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(["htm", "htu", "ath", "iat", "jti", "nonce", "x"]), json_values, min_size=1))
def test_whatever_a_proof_says_is_refused_or_means_the_same(changes: dict[str, object]) -> None:
    key = SigningKey.generate("EdDSA")
    token = mint(key_thumbprint=key.thumbprint)
    good = prove(key, method="GET", url="https://a.example/x", token=token, now=NOW)
    said = {**jwt.decode(good, options={"verify_signature": False}), **changes}
    head = {"typ": "dpop+jwt", "alg": "EdDSA", "jwk": key.verification.members}
    proof = Proof(signed(head, said, key), "GET", "https://a.example/x")
    try:
        check(token, proof=proof)
    except CallTokenError:
        return
    assert changes.keys() <= {"jti", "iat"}
