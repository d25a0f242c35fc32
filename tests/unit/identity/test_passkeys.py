"""Passkeys: enrolment, assertions, and what a page is told to ask for."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import cbor2
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from software_authenticator import AT, ED, ORIGIN, RP_ID, UP, UV, SoftwareAuthenticator, b64url, unb64url
from webauthn.helpers import parse_authentication_options_json, parse_registration_options_json

from zt_agents.errors import MissingExtraError, TokenInvalidError
from zt_agents.identity.approving.passkeys import (
    ALGORITHMS,
    Passkey,
    approval_challenge,
    asserted_credential,
    assertion_options,
    registration_options,
    verify_assertion,
    verify_registration,
)

CHALLENGE = b"a challenge of 32 bytes, as it is"


def creation(**changes: Any) -> dict[str, Any]:
    asked = {"rp_id": RP_ID, "rp_name": "Approvals", "approver": "dana@acme.example", "challenge": CHALLENGE}
    return registration_options(**{**asked, **changes})


def enrol(authenticator: SoftwareAuthenticator, **faults: Any) -> Passkey:
    evidence = authenticator.create(creation(), **faults)
    return verify_registration(evidence, challenge=CHALLENGE, rp_id=RP_ID, origin=ORIGIN)


def request(*passkeys: Passkey, challenge: bytes = CHALLENGE) -> dict[str, Any]:
    return assertion_options(rp_id=RP_ID, challenge=challenge, passkeys=passkeys)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("synced", [False, True])
def test_what_was_enrolled_can_assert(algorithm: str, synced: bool) -> None:
    authenticator = SoftwareAuthenticator(algorithm=algorithm, synced=synced)
    passkey = enrol(authenticator)
    counted = 0 if synced else 1
    assert passkey == Passkey(
        authenticator.credential_id, authenticator.cose_key, algorithm, RP_ID, ORIGIN, sign_count=counted
    )
    count = passkey.sign_count
    for use in range(1, 4):
        count = verify_assertion(passkey, authenticator.get(request(passkey)), challenge=CHALLENGE, sign_count=count)
        assert count == (0 if synced else counted + use)


def test_a_page_below_the_rp_id_and_on_a_port_of_its_own_is_pinned_whole() -> None:
    origin = "https://approvals.acme.example:8443"
    authenticator = SoftwareAuthenticator(origin)
    evidence = authenticator.create(creation(rp_id="acme.example"))
    passkey = verify_registration(evidence, challenge=CHALLENGE, rp_id="acme.example", origin=origin)
    assert (passkey.rp_id, passkey.origin) == ("acme.example", origin)
    options = assertion_options(rp_id="acme.example", challenge=CHALLENGE, passkeys=[passkey])
    assert verify_assertion(passkey, authenticator.get(options), challenge=CHALLENGE, sign_count=1) == 2
    authenticator.origin = "https://approvals.acme.example"
    with pytest.raises(TokenInvalidError, match="another origin"):
        verify_assertion(passkey, authenticator.get(options), challenge=CHALLENGE, sign_count=1)


def test_an_assertion_that_was_accepted_can_be_verified_again() -> None:
    """Against the count at enrolment: a desk looks at the same evidence whenever it rules."""
    authenticator = SoftwareAuthenticator()
    passkey = enrol(authenticator)
    evidence = authenticator.get(request(passkey))
    count = verify_assertion(passkey, evidence, challenge=CHALLENGE, sign_count=passkey.sign_count)
    assert verify_assertion(passkey, evidence, challenge=CHALLENGE, sign_count=passkey.sign_count) == count
    with pytest.raises(TokenInvalidError, match="counter did not advance"):
        verify_assertion(passkey, evidence, challenge=CHALLENGE, sign_count=count)


def test_the_evidence_says_which_passkey_to_look_up() -> None:
    authenticator = SoftwareAuthenticator()
    passkey = enrol(authenticator)
    assert asserted_credential(authenticator.get(request())) == passkey.credential_id


def test_the_challenge_of_an_answer_is_as_it_is_written_down() -> None:
    said = {"type": "zt-approval", "request": "r-1", "binding": "b-1", "approved": True}
    assert approval_challenge("r-1", "b-1", True) == hashlib.sha256(rfc8785.dumps(said)).digest()


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
answers = st.tuples(words, words, st.booleans())


@given(answers, answers)
def test_two_answers_have_one_challenge_only_if_they_are_one(one: Any, other: Any) -> None:
    assert (approval_challenge(*one) == approval_challenge(*other)) == (one == other)


def test_a_page_can_read_the_options_for_enrolment() -> None:
    enrolled = Passkey(b"old", b"key", "ES256", RP_ID, ORIGIN, 0)
    elsewhere = Passkey(b"elsewhere", b"key", "ES256", "other.example", "https://other.example", 0)
    options = creation(enrolled=[enrolled, elsewhere])
    read = parse_registration_options_json(json.dumps(options))
    assert (read.rp.id, read.user.name, read.challenge) == (RP_ID, "dana@acme.example", CHALLENGE)
    assert [param.alg for param in read.pub_key_cred_params] == [-7, -8, -257]
    assert [credential.id for credential in read.exclude_credentials or []] == [b"old"]
    assert read.authenticator_selection is not None
    assert read.authenticator_selection.user_verification == "required"
    assert read.attestation == "none"


def test_the_user_s_handle_is_the_same_each_time_and_not_the_name() -> None:
    handles = {
        creation(approver=name, challenge=bytes([n]) * 16)["user"]["id"] for n in (1, 2) for name in ("dana", "eve")
    }
    assert len(handles) == 2
    assert all(len(unb64url(handle)) == 32 for handle in handles)  # at most 64 bytes, nothing personal: section 14.6.1


def test_a_page_can_read_the_options_for_an_assertion() -> None:
    options = request(Passkey(b"one", b"key", "ES256", RP_ID, ORIGIN, 0))
    read = parse_authentication_options_json(json.dumps(options))
    assert (read.rp_id, read.challenge) == (RP_ID, CHALLENGE)
    assert [credential.id for credential in read.allow_credentials or []] == [b"one"]
    assert read.user_verification == "required"


@pytest.mark.parametrize("challenge", [b"", b"x" * 15])
def test_a_challenge_that_could_be_guessed_is_a_mistake(challenge: bytes) -> None:
    authenticator = SoftwareAuthenticator()
    passkey = enrol(authenticator)
    evidence = authenticator.get(request(), client_data={"challenge": b64url(challenge)})
    for use in (
        lambda: creation(challenge=challenge),
        lambda: request(challenge=challenge),
        lambda: verify_assertion(passkey, evidence, challenge=challenge, sign_count=0),
    ):
        with pytest.raises(ValueError, match="16 bytes"):
            use()


def test_an_extension_that_the_browser_adds_at_enrolment_is_allowed() -> None:
    """Chrome sets credProtect for every discoverable credential, asked or not."""
    tail = cbor2.dumps({"credProtect": 2})
    assert enrol(SoftwareAuthenticator(), flags=UP | UV | AT | ED, tail=tail).algorithm == "ES256"


def test_members_that_a_browser_adds_are_allowed() -> None:
    authenticator = SoftwareAuthenticator()
    added = {"other_keys_can_be_added_here": "do not compare clientDataJSON against a template"}
    passkey = enrol(authenticator, client_data=added)
    evidence = json.loads(authenticator.get(request(), client_data=added))
    evidence["clientExtensionResults"]["appid"] = False
    evidence["response"]["later"] = [1, None, {}]
    assert verify_assertion(passkey, json.dumps(evidence), challenge=CHALLENGE, sign_count=1) == 2


def test_an_attestation_that_comes_unasked_is_dropped_unread() -> None:
    """Some browsers send one although they are asked not to; what it says, and whether it is true, is not looked at."""
    for statement in ({"fmt": "packed", "attStmt": {"alg": -7, "sig": b"x", "x5c": [b"no certificate"]}}, {"fmt": 7}):
        assert enrol(SoftwareAuthenticator(), attestation=statement).algorithm == "ES256"


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    authenticator = SoftwareAuthenticator()
    passkey = enrol(authenticator)
    evidence = authenticator.get(request())
    monkeypatch.setitem(sys.modules, "webauthn", None)
    with pytest.raises(MissingExtraError, match=r"zt-agents\[approvals\]"):
        verify_assertion(passkey, evidence, challenge=CHALLENGE, sign_count=1)
