"""Passkeys: made by who is signed in, good to sign in with, and taken away."""

from __future__ import annotations

import json
from typing import Any

import pytest
from reception import Browser, MakeReception, Reception
from software_authenticator import SoftwareAuthenticator

from zt_agents.approvals import Enrolled
from zt_agents.console.parts import FRESH
from zt_agents.errors import TokenInvalidError, TokenRevokedError

DANA = "dana@acme.example"
ERIN = "erin@acme.example"


async def enrol(browser: Browser, authenticator: SoftwareAuthenticator, **changes: str) -> int:
    asked = (await browser.post("/passkeys/enrol-options", csrf=browser.csrf)).json()
    fields = {"csrf": browser.csrf, "evidence": authenticator.create(asked), "challenge": asked["challenge"], **changes}
    return (await browser.post("/passkeys/enrol", **fields)).status_code


async def sign_in(browser: Browser, authenticator: SoftwareAuthenticator, **faults: Any) -> int:
    asked = (await browser.post("/passkeys/login-options")).json()
    evidence = authenticator.get(asked, **faults)
    return (await browser.post("/passkeys/login", evidence=evidence, challenge=asked["challenge"])).status_code


@pytest.mark.parametrize("synced", [False, True])
async def test_a_passkey_is_added_signs_in_and_is_removed(synced: bool, reception: Reception) -> None:
    key = SoftwareAuthenticator(reception.origin.text, synced=synced)
    async with reception.browser() as browser, reception.browser() as later:
        await browser.sign_in(reception.approver(DANA, "finance"))
        assert await enrol(browser, key) == 204
        page = (await browser.get("/account")).text
        assert "Passkey, added" in page
        for _ in range(2):
            assert await sign_in(later, key) == 204
        page = (await later.get("/account")).text
        assert DANA in page
        assert "finance" in page
        assert "with a passkey" in page
        (kept,) = reception.passkeys.of(DANA)
        assert (await browser.post(f"/passkeys/{kept.id}/remove", csrf="wrong")).status_code == 403
        assert (await browser.post(f"/passkeys/{kept.id}/remove", csrf=browser.csrf)).status_code == 303
        assert (await later.get("/account")).status_code == 303, "it ends who signed in with it"
        assert await sign_in(later, key) == 403
        assert (await browser.get("/account")).status_code == 200


async def test_whom_a_passkey_does_not_sign_in(reception: Reception) -> None:
    key, stranger = (SoftwareAuthenticator(reception.origin.text) for _ in range(2))
    async with reception.browser() as browser, reception.browser() as other:
        await browser.sign_in(reception.approver(DANA))
        await enrol(browser, key)
        for who, faults in (
            (stranger, {}),
            (SoftwareAuthenticator("https://evil.example"), {}),
        ):
            assert await sign_in(other, who, **faults) == 403
        asked = (await other.post("/passkeys/login-options")).json()
        evidence = key.get(asked)
        assert (await other.post("/passkeys/login", evidence=evidence, challenge="A" * 43)).status_code == 403
        assert (await other.post("/passkeys/login", evidence=evidence, challenge=asked["challenge"])).status_code == 204
        again = await other.post("/passkeys/login", evidence=evidence, challenge=asked["challenge"])
        assert again.status_code == 403, "a challenge is good once"


def signed_in(reception: Reception, key: SoftwareAuthenticator) -> str:
    asked = reception.passkeys.login()
    return reception.passkeys.sign_in(key.get(asked), asked["challenge"]).id


def enrolled(reception: Reception, name: str = DANA) -> SoftwareAuthenticator:
    key = SoftwareAuthenticator(reception.origin.text)
    made = reception.approver(name)
    person = reception.console.logins.verify(
        made.login(reception.origin.text, now=reception.clock()), now=reception.clock()
    )
    asked = reception.passkeys.enrolment(person)
    reception.passkeys.enrol(person, key.create(asked), asked["challenge"])
    return key


def test_a_challenge_has_a_purpose_a_person_and_an_end(reception: Reception) -> None:
    key = enrolled(reception)
    passkeys = reception.passkeys
    person = passkeys.sign_in(key.get(asked := passkeys.login()), asked["challenge"])
    for_erin = reception.approver(ERIN)
    erin = reception.console.logins.verify(
        for_erin.login(reception.origin.text, now=reception.clock()), now=reception.clock()
    )
    fresh = SoftwareAuthenticator(reception.origin.text)
    theirs = passkeys.enrolment(erin)
    with pytest.raises(TokenInvalidError, match="challenge"):
        passkeys.enrol(person, fresh.create(theirs), theirs["challenge"])
    sign_in_only = passkeys.login()
    with pytest.raises(TokenInvalidError, match="challenge"):
        passkeys.enrol(person, fresh.create(theirs), sign_in_only["challenge"])
    late = passkeys.login()
    reception.clock.ahead = 301
    with pytest.raises(TokenInvalidError, match="challenge"):
        passkeys.sign_in(key.get(late), late["challenge"])


def test_a_counter_that_goes_back_is_refused(reception: Reception) -> None:
    key = enrolled(reception)
    assert signed_in(reception, key) == DANA
    key.count = 1
    with pytest.raises(TokenInvalidError, match="counter"):
        signed_in(reception, key)


def test_without_a_credential_that_is_good_a_passkey_signs_nobody_in(reception: Reception) -> None:
    key = enrolled(reception)
    reception.clock.ahead = 86_401
    with pytest.raises(TokenRevokedError, match="no credential"):
        signed_in(reception, key)


def test_who_can_write_the_registry_makes_no_passkey(make_reception: MakeReception) -> None:
    reception, elsewhere = make_reception(), make_reception()
    key = enrolled(elsewhere)
    reception.approver(DANA)
    (foreign,) = elsewhere.registry.list(kind="passkey")
    reception.registry.add(foreign)
    with pytest.raises(TokenRevokedError):
        signed_in(reception, key)
    own = enrolled(reception, ERIN)
    (theirs,) = reception.registry.list(approver=ERIN, kind="passkey")
    reception.registry.add(Enrolled("f" * 32, DANA, "passkey", theirs.token, 0.0, "x"))
    assert reception.passkeys.of(DANA) == []
    assert signed_in(reception, own) == ERIN


def test_a_passkey_of_another_origin_is_none_here(make_reception: MakeReception) -> None:
    reception = make_reception()
    enrolled(reception)
    object.__setattr__(reception.origin, "text", "http://localhost:9999")
    assert reception.passkeys.of(DANA) == []


async def test_a_session_that_has_lasted_changes_no_passkey(reception: Reception) -> None:
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        reception.clock.ahead = FRESH
        assert (await browser.post("/passkeys/enrol-options", csrf=browser.csrf)).status_code == 403
        assert "sign in again" in (await browser.get("/account")).text


async def test_nobody_adds_a_passkey_from_outside(reception: Reception) -> None:
    key = SoftwareAuthenticator(reception.origin.text)
    async with reception.browser() as browser, reception.browser() as other:
        await browser.sign_in(reception.approver(DANA))
        assert (await other.post("/passkeys/enrol-options", csrf=browser.csrf)).status_code == 303
        assert (await browser.post("/passkeys/enrol-options", csrf="x")).status_code == 403
        assert await enrol(browser, key, csrf="x") == 403
        assert await enrol(browser, key, challenge="A" * 43) == 403
        assert await enrol(browser, key, evidence=json.dumps({})) == 403
        assert await enrol(browser, key, evidence="x" * 16_385) == 400
        assert await enrol(browser, key) == 204
        assert await enrol(browser, key) == 403, "the same once more"
    assert len(reception.passkeys.of(DANA)) == 1


async def test_there_are_none_where_browsers_use_an_address(make_reception: MakeReception) -> None:
    reception = make_reception(origin="https://192.0.2.1")
    async with reception.browser() as browser:
        assert "passkey" not in (await browser.get("/login")).text
        assert (await browser.post("/passkeys/login-options")).status_code == 404
