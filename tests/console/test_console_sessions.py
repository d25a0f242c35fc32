"""Signing in and out, and how long it lasts."""

from __future__ import annotations

import pytest
from reception import MakeReception, Reception

from zt_agents.console.rates import Rates, network
from zt_agents.console.sessions import ABSOLUTE, IDLE, Person, Sessions

DANA = "dana@acme.example"


async def test_a_token_signs_in_once(reception: Reception) -> None:
    dana = reception.approver(DANA, "finance")
    token = dana.login(reception.origin.text, now=reception.clock())
    async with reception.browser() as browser, reception.browser() as thief:
        assert (await browser.get("/")).headers["location"] == "/login"
        assert (await browser.post("/login", token=token)).status_code == 204
        assert (await thief.post("/login", token=token)).status_code == 403
        assert (await thief.get("/account")).headers["location"] == "/login"
        page = (await browser.get("/account")).text
    assert DANA in page
    assert "finance" in page


@pytest.mark.parametrize("origin", ["http://localhost:8765", "https://approvals.acme.example"])
async def test_the_cookie_is_out_of_reach(origin: str, make_reception: MakeReception) -> None:
    reception = make_reception(origin=origin)
    async with reception.browser() as browser:
        answer = await browser.sign_in(reception.approver(DANA))
    name, _, rest = answer.headers["set-cookie"].partition("=")
    number, *flags = [part.strip() for part in rest.split(";")]
    assert len(number) >= 43
    secure = origin.startswith("https")
    assert name == ("__Host-zt_console" if secure else "zt_console_8765")
    assert {flag.lower() for flag in flags} == {"httponly", "path=/", "samesite=strict"} | (
        {"secure"} if secure else set()
    )


async def test_whom_no_token_signs_in(reception: Reception) -> None:
    dana = reception.approver(DANA)
    origin, now = reception.origin.text, reception.clock()
    gone = reception.approver("gone@acme.example")
    reception.registry.remove("gone@acme.example", now=now)
    tokens = [
        "",
        "x~y",
        dana.credential,
        dana.login("http://localhost:9999", now=now),
        dana.login(origin, now=now - 61),
        dana.login(origin, now=now)[:-2],
        gone.login(origin, now=now),
        reception.approver("short@acme.example", valid=-1).login(origin, now=now),
        dana.answer("b" * 43, approved=True, now=now),
    ]
    async with reception.browser() as browser:
        for token in tokens:
            assert (await browser.post("/login", token=token)).status_code in {400, 403}
        assert (await browser.get("/account")).status_code == 303


async def test_a_removed_approver_is_out_at_once(reception: Reception) -> None:
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        assert (await browser.get("/")).status_code == 200
        reception.registry.remove(DANA, now=reception.clock())
        assert (await browser.get("/")).status_code == 303


async def test_a_session_ends_by_itself(reception: Reception) -> None:
    dana = reception.approver(DANA)
    async with reception.browser() as browser:
        await browser.sign_in(dana)
        reception.clock.ahead += IDLE - 5
        assert (await browser.get("/")).status_code == 200
        reception.clock.ahead += IDLE - 5
        assert (await browser.get("/list")).status_code == 200
        reception.clock.ahead += 10  # the list asked for itself: nobody did anything
        gone = await browser.get("/list", headers={"hx-request": "true"})
        assert (gone.status_code, gone.headers["hx-redirect"]) == (401, "/login")
        await browser.sign_in(dana)
        for _ in range(int(ABSOLUTE // (IDLE - 5))):
            reception.clock.ahead += IDLE - 5
            assert (await browser.get("/")).status_code == 200
        reception.clock.ahead += IDLE - 5
        assert (await browser.get("/")).status_code == 303


async def test_the_credential_ends_and_so_does_the_session(reception: Reception) -> None:
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA, valid=100))
        reception.clock.ahead = 101
        assert (await browser.get("/")).status_code == 303


async def test_signing_in_makes_a_new_session(reception: Reception) -> None:
    dana = reception.approver(DANA)
    async with reception.browser() as browser:
        browser.number = "chosen by somebody else"
        await browser.sign_in(dana)
        first = browser.number
        assert first != "chosen by somebody else"
        await browser.sign_in(dana)
        assert browser.number != first
        browser.number = first
        assert (await browser.get("/")).status_code == 303


@pytest.mark.parametrize("everywhere", [False, True])
async def test_signing_out(everywhere: bool, reception: Reception) -> None:
    dana = reception.approver(DANA)
    async with reception.browser() as browser, reception.browser() as other, reception.browser() as erin:
        await browser.sign_in(dana)
        await other.sign_in(dana)
        await erin.sign_in(reception.approver("erin@acme.example"))
        assert (await browser.post("/logout", csrf="wrong")).status_code == 403
        assert (await browser.get("/")).status_code == 200
        number = browser.number
        fields = {"everywhere": "yes"} if everywhere else {}
        assert (await browser.post("/logout", csrf=browser.csrf, **fields)).status_code == 303
        browser.number = number
        assert (await browser.get("/")).status_code == 303
        assert (await other.get("/")).status_code == (303 if everywhere else 200)
        assert (await erin.get("/")).status_code == 200


async def test_tries_to_sign_in_are_limited(reception: Reception) -> None:
    dana = reception.approver(DANA)
    async with reception.browser() as browser:
        codes = [(await browser.post("/login", token="x~y")).status_code for _ in range(12)]
        assert codes[:10] == [403] * 10
        refused = await browser.post("/login", token=dana.login(browser.origin, now=reception.clock()))
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        reception.clock.ahead = 30
        assert (await browser.sign_in(dana)).status_code == 204


async def test_a_link_from_elsewhere_finds_its_session(reception: Reception) -> None:
    asked = reception.ask()
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    async with reception.browser() as browser:
        page = await browser.get(f"/requests/{asked.id}", headers=followed)
        assert page.status_code == 200
        assert f'content="0; url=/requests/{asked.id}"' in page.text
        again = await browser.get(f"/requests/{asked.id}")
        assert again.headers["location"] == f"/login?next=/requests/{asked.id}"
        shown = (await browser.get(again.headers["location"])).text
        assert f'data-next="/requests/{asked.id}"' in shown
        assert 'content="0; url=/"' in (await browser.get("/", headers=followed)).text
        for path in ("/account", "/list", f"/requests/{asked.id}/standing"):
            elsewhere = await browser.get(path, headers=followed)
            assert (elsewhere.status_code, elsewhere.headers["location"]) == (303, "/login")
        for other in ("//evil.example", "https://evil.example", "/account", "/requests/x", f"/requests/{asked.id}/x"):
            assert 'data-next="/"' in (await browser.get("/login", params={"next": other})).text


def test_sessions_are_bounded() -> None:
    sessions = Sessions(lambda: 0.0)
    person = Person("dana", (), "c", 1e9)
    numbers = [sessions.open(person, "a token") for _ in range(30)]
    assert sessions.count("dana") == 20
    assert sessions.find(numbers[-1]) is not None
    assert sessions.find(numbers[0]) is None


def test_rates_forget_the_oldest_and_fill_again() -> None:
    now = [0.0]
    rates = Rates(burst=2, period=10, clock=lambda: now[0], most=2)
    assert [rates.take("a") for _ in range(2)] == [0, 0]
    assert rates.take("a") == pytest.approx(5)
    assert rates.take("b") == 0
    now[0] = -100.0  # a clock that is set back gives nothing away
    assert rates.take("a") > 0
    now[0] = 105.0
    assert rates.take("a") == 0
    assert rates.take("c") == 0
    assert len(rates._buckets) == 2


@pytest.mark.parametrize(
    ("address", "known"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("", "unknown"),
    ],
)
def test_a_client_is_its_network(address: str, known: str) -> None:
    assert network(address) == known
