"""Where the policy wants more than a session: a passkey signs the answer, or a one-time code goes with it."""

from __future__ import annotations

import pyotp
import pytest
from reception import Browser, Reception
from software_authenticator import SoftwareAuthenticator
from test_console_passkeys import enrolled

from zt_agents.approvals import ApprovalRequest, ApprovalState
from zt_agents.decisions import ApprovalTerms, Proof, SecondFactor
from zt_agents.identity.approving.one_time_codes import OneTimeSecret
from zt_agents.identity.approving.passkeys import approval_challenge, assertion_options

DANA = "dana@acme.example"
WITH_PASSKEY = [
    ApprovalTerms(second_factor=SecondFactor.PASSKEY, timeout=600),
    ApprovalTerms(second_factor=SecondFactor.ANY, timeout=600),
    ApprovalTerms(proof=Proof.CREDENTIAL, timeout=600),
    ApprovalTerms(proof=Proof.CREDENTIAL, second_factor=SecondFactor.PASSKEY, timeout=600),
]


async def assertion(browser: Browser, key: SoftwareAuthenticator, asked: ApprovalRequest) -> str:
    options = await browser.post(f"/requests/{asked.id}/passkey-options", csrf=browser.csrf)
    return key.get(options.json())


@pytest.mark.parametrize("terms", WITH_PASSKEY)
async def test_a_passkey_signs_the_answer(terms: ApprovalTerms, reception: Reception) -> None:
    key = enrolled(reception)
    asked, other = reception.ask(terms), reception.ask(terms, arguments={"to": "mallory"})
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        assert asked.id in (await browser.get("/")).text
        page = (await browser.get(f"/requests/{asked.id}")).text
        assert f'data-passkey="/requests/{asked.id}/passkey-options"' in page
        evidence = await assertion(browser, key, asked)
        for answered in (
            await browser.answer(asked),
            await browser.answer(asked, factor="nonsense"),
            await browser.answer(other, factor=evidence),
        ):
            assert answered.status_code == 409
            assert "second factor" in answered.text or "a credential of their own" in answered.text
        assert (await browser.answer(asked, factor=evidence)).status_code == 303
    assert reception.desk.look(asked.id) is ApprovalState.APPROVED
    assert reception.desk.look(other.id) is ApprovalState.PENDING
    (answer,) = reception.desk.proven(reception.store.get(asked.id))  # type: ignore[arg-type]
    assert (answer.known, answer.shown) == (Proof.CREDENTIAL, SecondFactor.PASSKEY)


@pytest.mark.parametrize("signs", [True, False])
async def test_whoever_has_a_passkey_signs_with_it_or_says_not(signs: bool, reception: Reception) -> None:
    key = enrolled(reception)
    asked = reception.ask()
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        page = (await browser.get(f"/requests/{asked.id}")).text
        assert "Your passkey signs the answer." in page
        assert "Without the passkey" in page
        fields = {"factor": await assertion(browser, key, asked)} if signs else {"without": "yes"}
        assert (await browser.answer(asked, **fields)).status_code == 303
    (answer,) = reception.desk.proven(reception.store.get(asked.id))  # type: ignore[arg-type]
    assert (answer.known, answer.shown) == (
        (Proof.CREDENTIAL, SecondFactor.PASSKEY) if signs else (Proof.ATTESTED, SecondFactor.NONE)
    )


async def test_an_assertion_of_a_no_approves_nothing(reception: Reception) -> None:
    key = enrolled(reception)
    asked = reception.ask(WITH_PASSKEY[0])
    no = approval_challenge(asked.id, asked.binding_hash, False)
    evidence = key.get(assertion_options(rp_id=reception.origin.name, challenge=no, passkeys=()))
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        assert (await browser.answer(asked, factor=evidence)).status_code == 409
        assert (await browser.post(f"/requests/{asked.id}/passkey-options", csrf="x")).status_code == 403
        assert (await browser.answer(asked, "no")).status_code == 303, "a no needs no second factor"
    assert reception.desk.look(asked.id) is ApprovalState.DENIED


async def test_a_one_time_code_goes_with_the_answer_and_counts_once(reception: Reception) -> None:
    secret = OneTimeSecret.generate()
    terms = ApprovalTerms(second_factor=SecondFactor.TOTP, timeout=600)
    asked, other = reception.ask(terms), reception.ask(terms)
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        assert "wants a second factor" in (await browser.get(f"/requests/{asked.id}")).text
        reception.factors.enrol(DANA, secret, now=reception.clock())
        page = (await browser.get(f"/requests/{asked.id}")).text
        assert 'name="code"' in page
        assert "authenticator app" in (await browser.get("/account")).text
        refused = await browser.answer(asked, code="000000")
        assert refused.status_code == 403
        assert "The code is not good." in refused.text
        code = pyotp.TOTP(secret.base32).at(int(reception.clock()))
        assert (await browser.answer(asked, code=code)).status_code == 303
        again = await browser.answer(other, code=code)
        assert again.status_code == 403
        assert "used already" in again.text
        for _ in range(5):
            refused = await browser.answer(other, code="000000")
        assert "too many wrong codes" in refused.text
        right = pyotp.TOTP(secret.base32).at(int(reception.clock()) + 30)
        assert (await browser.answer(other, code=right)).status_code == 403
    assert reception.desk.look(asked.id) is ApprovalState.APPROVED
    assert reception.desk.look(other.id) is ApprovalState.PENDING


async def test_whoever_has_no_second_factor_reads_why(reception: Reception) -> None:
    asked = reception.ask(WITH_PASSKEY[0])
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        page = (await browser.get(f"/requests/{asked.id}")).text
        assert "wants a second factor" in page
        assert 'href="/account"' in page
        assert "Nothing waits for you." in (await browser.get("/")).text


async def test_the_list_says_what_waits_for_who_has_no_passkey_yet(reception: Reception) -> None:
    reception.ask(ApprovalTerms(second_factor=SecondFactor.PASSKEY, timeout=600))
    reception.ask(ApprovalTerms(("user:somebody",), second_factor=SecondFactor.PASSKEY, timeout=600))
    async with reception.browser() as browser, reception.browser() as other:
        await browser.sign_in(reception.approver(DANA))
        assert "1 more waits for you, and wants a passkey" in (await browser.get("/")).text
        enrolled(reception, "erin@acme.example")
        await other.sign_in(reception.approver("erin@acme.example"))
        assert "wants a passkey" not in (await other.get("/")).text


async def test_silence_is_said_and_begins_when_somebody_was_told(reception: Reception) -> None:
    from dataclasses import replace

    from zt_agents.catalog.specs import Tier

    asked = reception.ask(ApprovalTerms(("user:" + DANA,), grace=60, timeout=600))
    medium = replace(asked, id="a" * 32, nonce="m", decision=asked.decision._replace(tier=Tier.MEDIUM))
    from zt_agents.approvals import binding_hash

    medium = replace(medium, binding_hash=binding_hash(medium.call, nonce="m"))
    reception.store.put(medium)
    async with reception.browser() as erin, reception.browser() as browser:
        await erin.sign_in(reception.approver("erin@acme.example"))
        await browser.sign_in(reception.approver(DANA))
        await erin.get(f"/requests/{medium.id}")
        assert reception.store.get(medium.id).noticed_at is None  # type: ignore[union-attr]
        page = (await browser.get(f"/requests/{medium.id}")).text
        assert "Silence is a yes: it is approved if nobody says no within 1 minute of being told." in page
        assert "Silence is a yes" not in (await browser.get(f"/requests/{asked.id}")).text
        reception.clock.ahead = 61
        after = (await browser.get(f"/requests/{medium.id}")).text
        assert "Nobody objected in time, and so it was approved." in after
    assert reception.desk.look(asked.id) is ApprovalState.PENDING
