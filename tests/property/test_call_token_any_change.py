"""Whatever is changed in a token, it is refused; whatever was minted, is what is verified."""

from __future__ import annotations

import pytest
from call_token_parts import CLAIMS, ISSUER, NOW, SIGNER, check, mint, verifier
from hypothesis import given
from hypothesis import strategies as st

from zt_agents._internal.canonical import encode
from zt_agents.credentials import CallClaims, CallTokenError, CallTokenSigner, CallTokenVerifier
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


@given(calls(), st.sampled_from([SigningKey.generate(), EDDSA]))
def test_what_was_minted_is_what_is_verified(call: tuple[CallClaims, dict[str, object]], key: SigningKey) -> None:
    claims, said = call
    signer = CallTokenSigner(issuer=ISSUER, keys=key)
    service = CallTokenVerifier(
        keys=signer.jwks(NOW), issuer=ISSUER, audience=claims.audience, clock=lambda: NOW
    )
    token = signer.mint(claims, now=NOW)
    assert service.verify(token, tool=claims.tool, arguments=said) == claims


@given(st.sampled_from(TOKENS), st.data())
def test_a_token_with_any_character_changed_is_refused(token: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(max_codepoint=255).filter(lambda character: character != token[place]))
    with pytest.raises(CallTokenError):
        check(token[:place] + other + token[place + 1 :])


def test_a_token_with_any_bit_flipped_is_refused() -> None:
    token, service = mint(), verifier()
    for place in range(len(token)):
        for bit in range(7):
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
