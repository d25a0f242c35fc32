"""A passkey's evidence, one fault at a time: what a page, a browser, a thief of evidence or a copied key could send."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from software_authenticator import AT, BS, ED, ORIGIN, RP_ID, UP, UV, SoftwareAuthenticator, b64url, unb64url

from zt_agents.errors import IdentityError, TokenInvalidError
from zt_agents.identity.approving.passkeys import (
    ALGORITHMS,
    MAX_EVIDENCE_CHARS,
    Passkey,
    approval_challenge,
    asserted_credential,
    assertion_options,
    registration_options,
    verify_assertion,
    verify_registration,
)

CHALLENGE = approval_challenge("request-1", "binding-1", True)
CREATION = registration_options(rp_id=RP_ID, rp_name="Approvals", approver="dana", challenge=CHALLENGE)
REQUEST = assertion_options(rp_id=RP_ID, challenge=CHALLENGE, passkeys=())
EVIL = "https://approvals.acme.example.evil.example"


def register(evidence: str, **changes: Any) -> Passkey:
    return verify_registration(evidence, **{"challenge": CHALLENGE, "rp_id": RP_ID, "origin": ORIGIN, **changes})


def enrolled(algorithm: str = "ES256", **kind: Any) -> tuple[SoftwareAuthenticator, Passkey]:
    authenticator = SoftwareAuthenticator(algorithm=algorithm, **kind)
    return authenticator, register(authenticator.create(CREATION))


def verify(passkey: Passkey, evidence: str, *, challenge: bytes = CHALLENGE, sign_count: int = 0) -> int:
    return verify_assertion(passkey, evidence, challenge=challenge, sign_count=sign_count)


def edited(evidence: str, edit: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(evidence)
    edit(document)
    return json.dumps(document)


# What is signed with a fault in it.

SIGNED: dict[str, dict[str, Any]] = {
    "another challenge": {"client_data": {"challenge": b64url(b"x" * 32)}},
    "no challenge": {"client_data": {"challenge": ""}},
    "a padded challenge": {"client_data": {"challenge": b64url(CHALLENGE) + "="}},
    "a challenge with a newline in it": {"client_data": {"challenge": "\n" + b64url(CHALLENGE)}},
    "a challenge in a list": {"client_data": {"challenge": [b64url(CHALLENGE)]}},
    "another origin": {"client_data": {"origin": EVIL}},
    "another scheme": {"client_data": {"origin": ORIGIN.replace("https", "http")}},
    "another port": {"client_data": {"origin": ORIGIN + ":8443"}},
    "an origin with a slash": {"client_data": {"origin": ORIGIN + "/"}},
    "an origin in capitals": {"client_data": {"origin": ORIGIN.upper()}},
    "a list of origins": {"client_data": {"origin": [ORIGIN]}},
    "no origin": {"client_data": {"origin": None}},
    "another rp id": {"rp_id": "evil.example"},
    "the parent's rp id": {"rp_id": "acme.example"},
    "another type": {"client_data": {"type": "payment.get"}},
    "a frame of another origin": {"client_data": {"crossOrigin": True}},
    "crossOrigin as text": {"client_data": {"crossOrigin": "false"}},
    "crossOrigin as zero": {"client_data": {"crossOrigin": 0}},
    "a top origin": {"client_data": {"topOrigin": EVIL}},
    "a token binding that does not exist": {"client_data": {"tokenBinding": {"status": "not-supported"}}},
}
PRESENCE = {
    "nobody present": UV,
    "nobody verified": UP,
    "neither": 0,
    "backed up, which it cannot be": UP | UV | BS,
}
WRITTEN = {
    "invalid UTF-8": b'{"type":"\xff"}',
    "an overlong encoding": b'{"type":"\xc0\xaf"}',
    "an encoded surrogate": b'{"type":"\xed\xa0\x80"}',
    "an empty text": b"",
    "no object": b'["webauthn.get"]',
    "a null": b"null",
    "nested without end": b"[" * 9_000,
}


@pytest.mark.parametrize("faults", SIGNED.values(), ids=SIGNED.keys())
def test_one_signed_fault_is_enough(faults: dict[str, Any]) -> None:
    authenticator, passkey = enrolled()
    assert verify(passkey, authenticator.get(REQUEST)) == 2
    with pytest.raises(TokenInvalidError):
        verify(passkey, authenticator.get(REQUEST, **faults))
    with pytest.raises(TokenInvalidError):
        register(SoftwareAuthenticator().create(CREATION, **faults))


@pytest.mark.parametrize("flags", PRESENCE.values(), ids=PRESENCE.keys())
def test_the_user_is_present_and_verified(flags: int) -> None:
    authenticator, passkey = enrolled()
    with pytest.raises(TokenInvalidError):
        verify(passkey, authenticator.get(REQUEST, flags=flags))
    with pytest.raises(TokenInvalidError):
        register(SoftwareAuthenticator().create(CREATION, flags=flags | AT))


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN.keys())
def test_client_data_that_cannot_be_read(written: bytes) -> None:
    authenticator, passkey = enrolled()
    with pytest.raises(TokenInvalidError):
        verify(passkey, authenticator.get(REQUEST, client_data_written=written))
    with pytest.raises(TokenInvalidError):
        register(SoftwareAuthenticator().create(CREATION, client_data_written=written))


GOOD_CLIENT_DATA = json.dumps({"type": "webauthn.get", "challenge": b64url(CHALLENGE), "origin": ORIGIN})


@pytest.mark.parametrize(
    "text",
    [
        GOOD_CLIENT_DATA[:-1] + f', "origin": "{ORIGIN}"}}',
        '{"origin": "https://evil.example", ' + GOOD_CLIENT_DATA[1:],
        GOOD_CLIENT_DATA[:-1] + ', "or\\u0069gin": "https://evil.example"}',
        GOOD_CLIENT_DATA[:-1] + ', "x": {"y": 1, "y": 1}}',
        GOOD_CLIENT_DATA[:-1] + ', "x": NaN}',
        GOOD_CLIENT_DATA[:-1] + f', "x": {"9" * 5_000}}}',
        GOOD_CLIENT_DATA + "{}",
        GOOD_CLIENT_DATA + "\0",
    ],
    ids=[
        "twice the same",
        "twice, the first wrong",
        "twice, escaped",
        "twice, inside",
        "NaN",
        "long number",
        "two",
        "0",
    ],
)
def test_client_data_that_can_be_read_in_two_ways(text: str) -> None:
    authenticator, passkey = enrolled()
    assert verify(passkey, authenticator.get(REQUEST, client_data_written=GOOD_CLIENT_DATA.encode())) == 2
    with pytest.raises(TokenInvalidError):
        verify(passkey, authenticator.get(REQUEST, client_data_written=text.encode()))


@pytest.mark.parametrize("added", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80"], ids=["invalid", "overlong", "surrogate"])
def test_client_data_are_utf_8_where_nobody_looks_too(added: bytes) -> None:
    authenticator, passkey = enrolled()
    written = GOOD_CLIENT_DATA[:-1].encode() + b', "x": "' + added + b'"}'
    with pytest.raises(TokenInvalidError):
        verify(passkey, authenticator.get(REQUEST, client_data_written=written))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_client_data_are_utf_8_without_a_mark(encoding: str) -> None:
    authenticator, passkey = enrolled()
    with pytest.raises(TokenInvalidError):
        verify(passkey, authenticator.get(REQUEST, client_data_written=GOOD_CLIENT_DATA.encode(encoding)))


# The right evidence in the wrong place.


def test_an_enrolment_is_no_assertion_and_an_assertion_no_enrolment() -> None:
    authenticator, passkey = enrolled()
    with pytest.raises(TokenInvalidError):
        verify(passkey, authenticator.get(REQUEST, client_data={"type": "webauthn.create"}))
    with pytest.raises(TokenInvalidError):
        register(authenticator.create(CREATION, client_data={"type": "webauthn.get"}))
    with pytest.raises(TokenInvalidError):
        verify(passkey, authenticator.create(CREATION))
    with pytest.raises(TokenInvalidError):
        register(authenticator.get(REQUEST))


@pytest.mark.parametrize(
    "other",
    [("request-2", "binding-1", True), ("request-1", "binding-2", True), ("request-1", "binding-1", False)],
    ids=["another request", "another call", "the other decision"],
)
def test_an_approval_is_good_for_its_answer_alone(other: tuple[str, str, bool]) -> None:
    authenticator, passkey = enrolled(synced=True)
    evidence = authenticator.get(REQUEST)
    assert verify(passkey, evidence) == 0
    with pytest.raises(TokenInvalidError):
        verify(passkey, evidence, challenge=approval_challenge(*other))
    denial = authenticator.get(assertion_options(rp_id=RP_ID, challenge=approval_challenge(*other), passkeys=[passkey]))
    assert verify(passkey, denial, challenge=approval_challenge(*other)) == 0
    with pytest.raises(TokenInvalidError):
        verify(passkey, denial)


def test_a_passkey_s_assertion_is_not_another_s() -> None:
    _, victim = enrolled()
    attacker, own = enrolled()
    evidence = attacker.get(REQUEST)
    with pytest.raises(TokenInvalidError, match="another passkey"):
        verify(victim, evidence)
    renamed = b64url(victim.credential_id)
    with pytest.raises(TokenInvalidError):
        verify(victim, edited(evidence, lambda document: document.update(id=renamed, rawId=renamed)))
    with pytest.raises(TokenInvalidError):
        verify(dataclasses.replace(own, public_key=victim.public_key), evidence)
    with pytest.raises(TokenInvalidError):
        verify(dataclasses.replace(victim, public_key=own.public_key), evidence)


def test_a_passkey_answers_to_the_origin_and_rp_id_of_its_enrolment() -> None:
    authenticator, passkey = enrolled()
    for change in ({"origin": EVIL}, {"rp_id": "acme.example"}):
        with pytest.raises(TokenInvalidError):
            verify(dataclasses.replace(passkey, **change), authenticator.get(REQUEST))


@pytest.mark.parametrize("other", [{"rp_id": "acme.example"}, {"origin": EVIL}, {"challenge": b"x" * 32}])
def test_an_enrolment_is_for_this_page_and_this_moment(other: dict[str, Any]) -> None:
    evidence = SoftwareAuthenticator().create(CREATION)
    assert register(evidence).rp_id == RP_ID
    with pytest.raises(TokenInvalidError):
        register(evidence, **other)


@pytest.mark.parametrize(("last", "count"), [(5, 5), (5, 4), (5, 0), (1, 0), (2**32 - 1, 7)])
def test_a_counter_that_does_not_advance(last: int, count: int) -> None:
    authenticator, passkey = enrolled()
    with pytest.raises(TokenInvalidError, match="may have been copied"):
        verify(passkey, authenticator.get(REQUEST, count=count), sign_count=last)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_count_is_accepted_when_it_is_the_highest_yet_or_there_is_none(last: int, count: int) -> None:
    evidence = HAS.get(REQUEST, count=count)
    if count > last or count == last == 0:
        assert verify(HELD, evidence, sign_count=last) == count
    else:
        with pytest.raises(TokenInvalidError):
            verify(HELD, evidence, sign_count=last)


# Authenticator data and keys.


@pytest.mark.parametrize(
    ("flags", "tail"),
    [
        (UP | UV, b"\0"),
        (UP | UV, cbor2.dumps({})),
        (UP | UV | ED, cbor2.dumps({"uvm": [[2, 4, 2]]})),
        (UP | UV | ED, b""),
        (UP | UV | AT, b""),
        (UP | UV | AT, b"\0" * 18 + cbor2.dumps({})),
    ],
)
def test_an_assertion_s_authenticator_data_are_no_byte_longer(flags: int, tail: bytes) -> None:
    authenticator, passkey = enrolled()
    with pytest.raises(TokenInvalidError):
        verify(passkey, authenticator.get(REQUEST, flags=flags, tail=tail))


@pytest.mark.parametrize("tail", [b"\0", cbor2.dumps({"credProtect": 2}), b"x" * 500])
def test_an_enrolment_s_authenticator_data_end_where_they_say(tail: bytes) -> None:
    with pytest.raises(TokenInvalidError):
        register(SoftwareAuthenticator().create(CREATION, tail=tail))


def test_an_enrolment_names_one_credential() -> None:
    other = b64url(b"another")
    evidence = SoftwareAuthenticator().create(CREATION)
    with pytest.raises(TokenInvalidError, match="two credentials"):
        register(edited(evidence, lambda document: document.update(id=other, rawId=other)))
    with pytest.raises(TokenInvalidError):
        register(edited(evidence, lambda document: document.update(id=other)))


def cose(**changes: Any) -> bytes:
    """Return an ES256 key on P-256, with changes: ``kty``, ``alg``, ``crv``, ``x``, ``y``."""
    labels = {"kty": 1, "alg": 3, "crv": -1, "x": -2, "y": -3}
    numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    key = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
    changed = {label: changes.get(name, key[label]) for name, label in labels.items()}
    return cbor2.dumps({label: value for label, value in changed.items() if value is not ...})


def p384(alg: int) -> bytes:
    numbers = ec.generate_private_key(ec.SECP384R1()).public_key().public_numbers()
    return cose(alg=alg, crv=2, x=numbers.x.to_bytes(48, "big"), y=numbers.y.to_bytes(48, "big"))


def rsa_key(bits: int, alg: int = -257) -> bytes:
    numbers = rsa.generate_private_key(65_537, bits).public_key().public_numbers()
    return cbor2.dumps({1: 3, 3: alg, -1: numbers.n.to_bytes(bits // 8, "big"), -2: b"\1\0\1"})


KEYS: dict[str, Callable[[], bytes]] = {
    "P-384 called ES256": lambda: p384(-7),
    "P-384 as itself": lambda: p384(-35),
    "a P-256 key called ES512": lambda: cose(alg=-36),
    "a P-256 key called EdDSA": lambda: cose(alg=-8),
    "a P-256 key called RS256": lambda: cose(alg=-257),
    "a key called HS256": lambda: cose(alg=5),
    "a key of no algorithm": lambda: cose(alg=...),
    "an algorithm that is a text": lambda: cose(alg="ES256"),
    "a point off the curve": lambda: cose(x=b"\1" * 32, y=b"\1" * 32),
    "the point at infinity": lambda: cose(x=b"\0" * 32, y=b"\0" * 32),
    "half a point": lambda: cose(y=...),
    "coordinates as texts": lambda: cose(x="x", y="y"),
    "RSA of 1,024 bits": lambda: rsa_key(1_024),
    "RSA with SHA-1": lambda: rsa_key(2_048, -65_535),
    "RSA PSS": lambda: rsa_key(2_048, -37),
    "RSA called ES256": lambda: rsa_key(2_048, -7),
    "RSA with exponent 1": lambda: cbor2.dumps({1: 3, 3: -257, -1: b"\xff" * 256, -2: b"\1"}),
    "RSA of 8,192 bits": lambda: cbor2.dumps({1: 3, 3: -257, -1: b"\xff" * 1_024, -2: b"\1\0\1"}),
    "Ed25519 called ES256": lambda: cbor2.dumps({1: 1, 3: -7, -1: 6, -2: b"\1" * 32}),
    "X25519 called EdDSA": lambda: cbor2.dumps({1: 1, 3: -8, -1: 4, -2: b"\1" * 32}),
    "a short Ed25519 key": lambda: cbor2.dumps({1: 1, 3: -8, -1: 6, -2: b"\1" * 31}),
    "a secret key": lambda: cbor2.dumps({1: 4, 3: 5, -1: b"\1" * 32}),
    "a name twice": lambda: b"\xa2\x01\x02\x01\x02",
    "a number": lambda: cbor2.dumps(4),
    "nothing": lambda: b"",
    "nested without end": lambda: b"\x81" * 5_000,
}


@pytest.mark.parametrize("make", KEYS.values(), ids=KEYS.keys())
def test_a_key_of_another_algorithm_is_not_enrolled_and_does_not_verify(make: Callable[[], bytes]) -> None:
    key = make()
    with pytest.raises(TokenInvalidError):
        register(SoftwareAuthenticator().create(CREATION, cose_key=key))
    authenticator, passkey = enrolled()
    with pytest.raises(TokenInvalidError):
        verify(dataclasses.replace(passkey, public_key=key), authenticator.get(REQUEST))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("claimed", [*ALGORITHMS, "none", "", "es256"])
def test_a_passkey_verifies_by_the_algorithm_it_was_enrolled_with(algorithm: str, claimed: str) -> None:
    authenticator, passkey = enrolled(algorithm)
    if claimed == algorithm:
        assert verify(passkey, authenticator.get(REQUEST)) == 2
        return
    with pytest.raises(TokenInvalidError, match="algorithm"):
        verify(dataclasses.replace(passkey, algorithm=claimed), authenticator.get(REQUEST))


# Evidence that is none.


def replaced(member: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda document: document["response"].update({member: value})


UNSIGNED: dict[str, Callable[[dict[str, Any]], object]] = {
    "another kind": lambda document: document.update(type="password"),
    "no kind": lambda document: document.pop("type"),
    "no id": lambda document: document.pop("id"),
    "no raw id": lambda document: document.pop("rawId"),
    "two ids": lambda document: document.update(rawId=b64url(b"another")),
    "an empty id": lambda document: document.update(id="", rawId=""),
    "a padded id": lambda document: document.update(id=document["id"] + "=", rawId=document["id"] + "="),
    "an id that is a list": lambda document: document.update(id=[document["id"]], rawId=[document["id"]]),
    "a response that is a list": lambda document: document.update(response=[document["response"]]),
    "no response": lambda document: document.pop("response"),
    "no signature": lambda document: document["response"].pop("signature"),
    "an empty signature": replaced("signature", ""),
    "a signature of zeros": replaced("signature", b64url(b"\0" * 64)),
    "the signature of r = s = 0": replaced("signature", b64url(bytes.fromhex("3006020100020100"))),
    "no authenticator data": replaced("authenticatorData", ""),
    "short authenticator data": replaced("authenticatorData", b64url(b"\0" * 36)),
    "client data as an object": replaced("clientDataJSON", {"type": "webauthn.get"}),
    "client data in padding": lambda document: replaced(
        "clientDataJSON", document["response"]["clientDataJSON"] + "=="
    )(document),
    "a signature with a space in it": lambda document: replaced("signature", " " + document["response"]["signature"])(
        document
    ),
    "a signature in the other alphabet": lambda document: replaced(
        "signature", base64.b64encode(unb64url(document["response"]["signature"]) + b"\xff\xff\xff").decode()
    )(document),
}


@pytest.mark.parametrize("edit", UNSIGNED.values(), ids=UNSIGNED.keys())
def test_one_unsigned_fault_is_enough(edit: Callable[[dict[str, Any]], object]) -> None:
    authenticator, passkey = enrolled()
    evidence = authenticator.get(REQUEST)
    assert verify(passkey, edited(evidence, lambda document: None)) == 2
    with pytest.raises(TokenInvalidError):
        verify(passkey, edited(evidence, edit))


def bits_left_over(text: str) -> str:
    """Return base64url text that a lax decoder reads as it reads *text*, whose last character carries spare bits."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) + 1]


def test_base64url_has_one_form() -> None:
    """Else one piece of evidence would be many, and whoever remembers what was used would not know it again."""
    authenticator, passkey = enrolled()
    evidence = authenticator.get(REQUEST)
    name = b64url(passkey.credential_id)
    other = bits_left_over(name)
    assert unb64url(other) == passkey.credential_id
    with pytest.raises(TokenInvalidError, match="one form"):
        verify(passkey, edited(evidence, lambda document: document.update(id=other, rawId=other)))


ODD: dict[str, Any] = {
    "nothing": "",
    "a space": " ",
    "null": "null",
    "a list": "[]",
    "a number": "1",
    "NaN": "NaN",
    "an object": "{}",
    "half an object": '{"type":',
    "nested without end": "[" * 16_000,
    "objects without end": '{"a":' * 3_000,
    "a long number": "9" * 16_000,
    "too long": " " * (MAX_EVIDENCE_CHARS + 1),
    "much too long": "[" * 5_000_000,
    "not ASCII": '{"type": "public-kéy"}',
    "a lone surrogate": "\ud800",
    "bytes": b"{}",
    "a dict": {"type": "public-key"},
    "none": None,
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_what_is_no_evidence_is_refused(odd: Any) -> None:
    for use in (asserted_credential, register, lambda evidence: verify(HELD, evidence)):
        with pytest.raises(TokenInvalidError):
            use(odd)


def test_a_name_that_stands_twice_in_the_evidence() -> None:
    authenticator, passkey = enrolled()
    evidence = authenticator.get(REQUEST)
    assert verify(passkey, evidence) == 2
    for text in (
        '{"type": "public-key", ' + evidence[1:],
        evidence.replace('"response": {', '"response": {"signature": "", '),
    ):
        assert json.loads(text) == json.loads(evidence)
        with pytest.raises(TokenInvalidError):
            verify(passkey, text)


@pytest.mark.parametrize("added", ["é", "\ud800", "\u202e"])
def test_evidence_is_ascii_where_nobody_looks_too(added: str) -> None:
    """Else a store could not keep it, or a log would show it as what it is not."""
    authenticator, passkey = enrolled()
    evidence = authenticator.get(REQUEST)
    with pytest.raises(TokenInvalidError, match="ASCII"):
        verify(passkey, f'{{"x": "{added}", {evidence[1:]}')


@pytest.mark.parametrize(("length", "accepted"), [(0, False), (1, True), (1_023, True), (1_024, False)])
def test_a_credential_s_id_is_as_long_as_the_standard_says(length: int, accepted: bool) -> None:
    authenticator = SoftwareAuthenticator()
    authenticator.credential_id = b"x" * length
    enrolment, assertion = authenticator.create(CREATION), authenticator.get(REQUEST)
    if accepted:
        assert asserted_credential(assertion) == register(enrolment).credential_id == b"x" * length
        return
    for use in (lambda: asserted_credential(assertion), lambda: register(enrolment)):
        with pytest.raises(TokenInvalidError):
            use()


def test_evidence_as_long_as_allowed_is_read() -> None:
    authenticator, passkey = enrolled()
    evidence = authenticator.get(REQUEST)
    padded = evidence + " " * (MAX_EVIDENCE_CHARS - len(evidence))
    assert verify(passkey, padded) == 2
    with pytest.raises(TokenInvalidError):
        verify(passkey, padded + " ")


def test_an_error_tells_nothing_that_a_page_could_have_written() -> None:
    """It goes to the operator's log, in which a page has no line to write."""
    authenticator, passkey = enrolled()
    for faults in ({"client_data": {"origin": "https://evil\n2026 approved"}}, {"client_data": {"type": "approved"}}):
        with pytest.raises(TokenInvalidError) as caught:
            verify(passkey, authenticator.get(REQUEST, **faults))
        assert "approved" not in str(caught.value)


# Anything at all.

HAS = SoftwareAuthenticator()
HELD = register(HAS.create(CREATION))
GOOD = json.loads(HAS.get(REQUEST))
CREATED = json.loads(SoftwareAuthenticator().create(CREATION))
ASSERTED = {"clientDataJSON", "authenticatorData", "signature"}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary().map(b64url),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
members = st.sampled_from(["clientDataJSON", "authenticatorData", "signature", "attestationObject", "userHandle"])
responses = st.dictionaries(members, json_values, max_size=4)


@given(st.text() | json_values.map(json.dumps))
def test_any_text_is_refused_as_what_it_is(text: str) -> None:
    for use in (asserted_credential, register, lambda evidence: verify(HELD, evidence)):
        with pytest.raises(IdentityError):
            use(text)


def refuse_or_ignore(
    document: dict[str, Any], read: set[str], use: Callable[[str], object], changes: dict[str, Any]
) -> None:
    response = document["response"]
    evidence = json.dumps({**document, "response": {**response, **changes}})
    if any(changes[member] != response[member] for member in changes.keys() & read):
        with pytest.raises(IdentityError):
            use(evidence)
    else:
        use(evidence)


@given(responses)
def test_any_other_assertion_is_refused_and_what_else_there_is_changes_nothing(changes: dict[str, Any]) -> None:
    refuse_or_ignore(GOOD, ASSERTED, lambda evidence: verify(HELD, evidence), changes)


@given(responses)
def test_any_other_enrolment_is_refused_and_what_else_there_is_changes_nothing(changes: dict[str, Any]) -> None:
    refuse_or_ignore(CREATED, {"clientDataJSON", "attestationObject"}, register, changes)


@given(st.sampled_from(sorted(ASSERTED)), st.data())
def test_any_changed_bit_of_an_assertion_is_noticed(member: str, data: st.DataObject) -> None:
    raw = bytearray(unb64url(GOOD["response"][member]))
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IdentityError):
        verify(HELD, edited(json.dumps(GOOD), replaced(member, b64url(bytes(raw)))))


@given(st.binary(max_size=300))
def test_any_attested_bytes_enrol_nothing_or_are_refused(tail: bytes) -> None:
    """Whatever an authenticator writes where its key belongs, the caller sees one kind of error."""
    with pytest.raises(IdentityError):
        register(SoftwareAuthenticator().create(CREATION, cose_key=tail))
