"""An authenticator app is enrolled on a page, answers, and is removed."""

from __future__ import annotations

import re

import pyotp
from reception import Browser, Reception

from zt_agents.approvals import ApprovalState
from zt_agents.console.parts import FRESH
from zt_agents.decisions import ApprovalTerms, SecondFactor
from zt_agents.identity.approving.factors import FactorKind

DANA = "dana@acme.example"


async def offered(browser: Browser) -> tuple[pyotp.TOTP, str]:
    page = await browser.post("/codes", csrf=browser.csrf)
    assert page.status_code == 200
    assert "<svg" in page.text
    secret = re.search(r'class="key">([A-Z2-7]{32})<', page.text)
    token = re.search(r'name="offered" value="([^"]+)"', page.text)
    assert secret is not None
    assert token is not None
    return pyotp.TOTP(secret[1]), token[1]


async def test_an_app_is_added_answers_and_is_removed(reception: Reception) -> None:
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        codes, token = await offered(browser)
        wrong = await browser.post("/codes/confirm", csrf=browser.csrf, offered=token, code="000000")
        assert wrong.status_code == 403
        assert "not its code" in wrong.text
        added = await browser.post("/codes/confirm", csrf=browser.csrf, offered=token, code=codes.now())
        assert added.status_code == 303
        await browser.post("/codes/confirm", csrf=browser.csrf, offered=token, code=codes.now())
        assert "Authenticator app, added" in (await browser.get("/account")).text
        asked = reception.ask(ApprovalTerms(second_factor=SecondFactor.TOTP))
        assert (await browser.answer(asked, code="000000")).status_code == 403
        assert (await browser.answer(asked, code=codes.now())).status_code == 403  # it has enrolled the app
        reception.clock.ahead += 30
        assert (await browser.answer(asked, code=codes.at(int(reception.clock())))).status_code == 303
        assert reception.desk.look(asked.id) is ApprovalState.APPROVED
        (kept,) = reception.factors.of(DANA, FactorKind.TOTP)
        assert (await browser.post(f"/codes/{kept.id}/remove", csrf="wrong")).status_code == 403
        assert (await browser.post(f"/codes/{kept.id}/remove", csrf=browser.csrf)).status_code == 303
        assert (await browser.post(f"/codes/{kept.id}/remove", csrf=browser.csrf)).status_code == 404
        assert not reception.factors.of(DANA, FactorKind.TOTP)


async def test_a_secret_is_for_whom_it_was_offered_to_and_for_a_while(reception: Reception) -> None:
    async with reception.browser() as browser, reception.browser() as other:
        await browser.sign_in(reception.approver(DANA))
        await other.sign_in(reception.approver("eve@acme.example"))
        codes, token = await offered(browser)
        stolen = await other.post("/codes/confirm", csrf=other.csrf, offered=token, code=codes.now())
        assert stolen.status_code == 403
        reception.clock.ahead = 601
        late = codes.at(int(reception.clock()))
        assert (await browser.post("/codes/confirm", csrf=browser.csrf, offered=token, code=late)).status_code == 403
        assert (await browser.post("/codes/confirm", csrf=browser.csrf, offered="x", code=late)).status_code == 403
        reception.clock.ahead = FRESH + 1
        assert (await browser.post("/codes", csrf=browser.csrf)).status_code == 403
        assert not reception.registry.list(kind=FactorKind.TOTP)
