"""Passkeys made and used in a real browser, from the options and with the challenges that a page is given."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from zt_agents.errors import TokenInvalidError
from zt_agents.identity.approving.passkeys import Passkey, approval_challenge, verify_assertion, verify_registration

RECORDED = json.loads(Path(__file__).with_name("passkeys_of_a_browser.json").read_text(encoding="utf-8"))
each = pytest.mark.parametrize("made", RECORDED["made"], ids=[made["authenticator"] for made in RECORDED["made"]])


def enrolled(made: dict[str, Any], origin: str = RECORDED["origin"]) -> Passkey:
    challenge = base64.urlsafe_b64decode(made["enrolment"]["challenge"] + "=")
    evidence = made["enrolment"]["evidence"]
    return verify_registration(evidence, challenge=challenge, rp_id=RECORDED["rp_id"], origin=origin)


@each
def test_what_a_browser_makes_is_accepted(made: dict[str, Any]) -> None:
    passkey = enrolled(made)
    answer = made["answer"]
    challenge = approval_challenge(answer["request_id"], answer["binding_hash"], answer["approved"])
    count = verify_assertion(passkey, answer["evidence"], challenge=challenge, sign_count=passkey.sign_count)
    assert (passkey.algorithm, count) == ("ES256", answer["sign_count"])


@each
def test_what_a_browser_made_for_something_else_is_not(made: dict[str, Any]) -> None:
    passkey = enrolled(made)
    answer = made["answer"]
    denial = approval_challenge(answer["request_id"], answer["binding_hash"], not answer["approved"])
    with pytest.raises(TokenInvalidError, match="another challenge"):
        verify_assertion(passkey, answer["evidence"], challenge=denial, sign_count=0)
    with pytest.raises(TokenInvalidError, match="another origin"):
        enrolled(made, "http://localhost:80")
