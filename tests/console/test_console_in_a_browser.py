"""The console in a real browser: a guard asks in another thread, and a person answers with the keyboard."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import tool
from reception import Reception
from test_console_shows import HOSTILE
from world import HEAD, World

from zt_agents.approvals import ApprovalRequest, StoreChannel
from zt_agents.console.prompt import listening
from zt_agents.console.rates import Rates
from zt_agents.console.server import server
from zt_agents.decisions import ApprovalTerms, Proof, SecondFactor
from zt_agents.identity import User

sync_api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
CHROMIUM = os.environ.get("ZT_AGENTS_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or ""
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium on the path, nor at ZT_AGENTS_CHROMIUM")
DANA = "dana@acme.example"


class Site:
    """A console that is served, and what its pages complain about."""

    def __init__(self, folder: Path) -> None:
        self._place = listening("127.0.0.1", 0)
        self.reception = Reception(folder, origin=f"http://localhost:{self._place.getsockname()[1]}")
        self.url = self.reception.origin.text
        self.dana = self.reception.approver(DANA, "finance")
        self._server = server(self.reception.console)
        self._thread = threading.Thread(target=self._server.run, args=([self._place],))

    def __enter__(self) -> Site:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._place.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("console")) as made:
        yield made


@pytest.fixture
def site(served: Site) -> Iterator[Site]:
    """A console where nothing waits."""
    yield served
    for request_id in served.reception.store.pending_ids():
        served.reception.desk.withdraw(request_id)
    served.reception.console.login_rates = Rates(burst=10, period=60, clock=time.time)


@pytest.fixture
def complaints() -> list[str]:
    """What a page said to its console, and what it was not allowed to do."""
    return []


@pytest.fixture
def page(chromium: Any, site: Site, complaints: list[str]) -> Iterator[Any]:
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(5_000)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    sign_in(page, site)
    yield page
    context.close()


def sign_in(page: Any, site: Site) -> None:
    page.goto(f"{site.url}/login#{site.dana.login(site.url, now=time.time())}")
    page.wait_for_url(f"{site.url}/")


def test_the_token_leaves_the_address_and_its_second_use_is_refused(chromium: Any, site: Site) -> None:
    context = chromium.new_context()
    page = context.new_page()
    address = f"{site.url}/login#{site.dana.login(site.url, now=time.time())}"
    page.goto(address)
    page.wait_for_url(f"{site.url}/")
    assert page.evaluate("document.cookie") == ""
    context.clear_cookies()
    page.goto(address)
    page.get_by_text("The link is not good, or no longer.").wait_for()
    assert page.url == f"{site.url}/login"
    context.close()


def test_an_agent_waits_and_a_person_approves_with_the_keyboard(
    page: Any, site: Site, complaints: list[str], tmp_path: Path
) -> None:
    ran: list[float] = []

    @tool
    def pay(amount: int, to: str) -> str:
        """Pay."""
        ran.append(time.time())
        return "paid"

    text = (
        f"{HEAD}approvals: {{timeout: 1m}}\n"
        "tools:\n  pay: {tier: high, effects: [money], destinations: [to]}\nrules:\n"
        "  - {id: pay, agents: [helpdesk], tools: [pay], outcome: allow}\n"
    )
    folder = tmp_path / "guard"
    folder.mkdir()
    reception = site.reception
    world = World(folder, text, [pay], StoreChannel(), signing_key=reception.key, approvals_path=reception.store.path)
    world.guard.protect([pay])
    page.get_by_text("Nothing waits for you.").wait_for()
    session, asked_at = world.session(intent="Pay the rent"), list[float]()

    def work() -> None:
        with session:
            asked_at.append(time.time())
            pay.invoke({"amount": 7, "to": "landlord"})

    agent = threading.Thread(target=work)
    agent.start()
    link = page.locator("a.request")
    link.wait_for()
    appeared = time.time() - asked_at[0]
    print(f"appeared after {appeared * 1e3:.0f} ms")
    assert appeared < 1.0 * float(os.environ.get("ZT_AGENTS_SLOWNESS", "1"))
    page.wait_for_function("document.title == '(1) Approvals'")
    assert page.locator("#live").inner_text() == "A new request waits for you."
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.get_by_text("Pay the rent").wait_for()
    page.wait_for_load_state()
    assert page.locator(".risky").inner_text().split()[0] == "to"
    page.keyboard.press("a")
    assert page.locator("#approve").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#approve").is_visible()
    assert ran == []
    page.keyboard.press("a")
    assert page.evaluate("document.activeElement.textContent") == "Yes, approve"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    answered_at = time.time()
    page.keyboard.press("Enter")
    page.locator(".end.approved").wait_for()
    agent.join(5)
    assert len(ran) == 1
    print(f"the body began {(ran[0] - answered_at) * 1e3:.0f} ms after Enter")
    decided = [record for record in world.records() if record.get("approved_by")]
    assert decided[-1]["approved_by"] == DANA
    world.guard.close()
    assert complaints == []


def test_a_link_from_elsewhere_leads_to_the_request(page: Any, site: Site, complaints: list[str]) -> None:
    asked = site.reception.ask()
    page.goto(f"data:text/html,<a href='{site.url}/requests/{asked.id}'>Somebody waits</a>")
    page.get_by_text("Somebody waits").click()
    page.locator("#open-approve").wait_for()
    assert complaints == []


def test_no_denies_and_somebody_else_may_be_faster(page: Any, site: Site, complaints: list[str]) -> None:
    first, second = site.reception.ask(), site.reception.ask(user=User("bob@acme.example"))
    page.goto(f"{site.url}/requests/{first.id}")
    page.keyboard.press("d")
    page.keyboard.press("Shift+Tab")
    page.keyboard.type("Not due yet")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator(".end.denied").wait_for()
    assert "Not due yet" in page.locator(".said").inner_text()
    page.keyboard.press("n")
    page.wait_for_url(f"{site.url}/requests/{second.id}")
    page.wait_for_load_state()
    page.keyboard.press("a")
    assert page.locator("#approve").is_visible()
    site.reception.say(second, "erin@acme.example")
    page.locator(".end.approved").wait_for()
    page.wait_for_function("document.getElementById('live').textContent == 'It was approved.'")
    assert not page.locator("#approve").is_visible()
    assert page.locator("#open-approve").count() == 0
    assert complaints == []


def test_keys_can_be_turned_off(page: Any, site: Site) -> None:
    asked = site.reception.ask()
    page.goto(f"{site.url}/account")
    page.locator("#keys").uncheck()
    page.goto(f"{site.url}/requests/{asked.id}")
    page.keyboard.press("a")
    assert not page.locator("#approve").is_visible()
    page.locator("#open-approve").click()
    assert page.locator("#approve").is_visible()


def test_hostile_values_do_nothing(page: Any, site: Site, complaints: list[str]) -> None:
    everything = {f"a{number}": text for number, text in enumerate(HOSTILE)}
    arguments = {**everything, "nested": [everything], **dict.fromkeys(HOSTILE, 1)}
    asked = [
        site.reception.ask(
            arguments=arguments, intent="\n".join(HOSTILE), resource=text, user=User(f"u{text}"), tool=text
        )
        for text in HOSTILE
    ]
    page.goto(f"{site.url}/")
    page.wait_for_timeout(700)  # the list has been swapped in once more
    for each in asked[:4]:
        page.goto(f"{site.url}/requests/{each.id}")
        assert page.evaluate("document.scripts.length") == 2
        assert page.evaluate("document.querySelectorAll('main img, main svg, main iframe').length") == 0
    assert page.evaluate("performance.getEntriesByType('resource').every(e => e.name.startsWith(location.origin))")
    assert complaints == []


def test_inline_script_is_blocked_even_where_markup_got_in(page: Any, site: Site, complaints: list[str]) -> None:
    page.evaluate(
        'document.body.insertAdjacentHTML(\'beforeend\', \'<img src="data:,x" onerror="window.ran = 1">'
        '<iframe src="https://evil.example"></iframe>\')'
    )
    page.wait_for_timeout(100)
    assert page.evaluate("window.ran") is None
    assert any("Content Security Policy" in complaint for complaint in complaints)


@pytest.mark.parametrize("width", [320, 360])
def test_nothing_is_wider_than_a_phone(width: int, page: Any, site: Site) -> None:
    long = "x" * 400
    asked = site.reception.ask(
        arguments={long: long, "to": long, "list": [long]}, intent=long, resource=long, tool=long
    )
    page.set_viewport_size({"width": width, "height": 740})
    for path in ("/", "/?show=all", f"/requests/{asked.id}", "/account", "/login"):
        page.goto(f"{site.url}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") == width, path
    page.goto(f"{site.url}/requests/{asked.id}")
    page.keyboard.press("a")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_headings_names_and_the_way_past_the_top(page: Any, site: Site) -> None:
    asked: ApprovalRequest = site.reception.ask()
    page.goto(f"{site.url}/requests/{asked.id}")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.locator("h1").count() == 1
    for selector, named in (
        ("button, a, input:not([type=hidden]), textarea", "e.textContent.trim() || e.labels?.length || e.ariaLabel"),
        ("[aria-labelledby]", "document.getElementById(e.getAttribute('aria-labelledby'))"),
    ):
        nameless = f"[...document.querySelectorAll('{selector}')].filter(e => !({named})).map(e => e.outerHTML)"
        assert page.evaluate(nameless) == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_when_the_console_is_gone_the_page_says_so(chromium: Any, tmp_path: Path) -> None:
    context = chromium.new_context()
    page = context.new_page()
    with Site(tmp_path) as site:
        sign_in(page, site)
        page.wait_for_selector("#list")
        assert not page.get_by_text("The connection is lost.").is_visible()
    page.get_by_text("The connection is lost.").wait_for()
    context.close()


def test_the_focus_stays_where_it_was_when_the_list_grows(page: Any, site: Site) -> None:
    site.reception.ask()
    page.locator("a.request").wait_for()
    page.keyboard.press("j")
    focused = page.evaluate("document.activeElement.id")
    assert focused.startswith("r-")
    site.reception.ask(user=User("bob@acme.example"))
    page.locator("a.request").nth(1).wait_for()
    page.wait_for_timeout(50)
    assert page.evaluate("document.activeElement.id") == focused


def test_a_passkey_of_a_real_browser_is_added_signs_an_answer_and_signs_in(
    page: Any, site: Site, complaints: list[str]
) -> None:
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    authenticator = devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]
    page.goto(f"{site.url}/account")
    page.locator("#add-passkey").click()
    page.get_by_text("Passkey, added").wait_for()
    signed = site.reception.ask(ApprovalTerms(proof=Proof.CREDENTIAL, second_factor=SecondFactor.PASSKEY, timeout=60))
    page.goto(f"{site.url}/requests/{signed.id}")
    page.keyboard.press("a")
    page.keyboard.press("Enter")
    page.locator(".end.approved").wait_for()
    plain = site.reception.ask()
    page.goto(f"{site.url}/requests/{plain.id}")
    page.keyboard.press("a")
    page.get_by_role("button", name="Without the passkey").click()
    page.locator(".end.approved").wait_for()
    asked = site.reception.ask()
    page.goto(f"{site.url}/account")
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.wait_for_url(f"{site.url}/login")
    page.goto(f"{site.url}/requests/{asked.id}")
    page.locator("#passkey").click()
    page.wait_for_url(f"{site.url}/requests/{asked.id}")
    page.goto(f"{site.url}/account")
    page.get_by_text("with a passkey").wait_for()
    devtools.send("WebAuthn.setUserVerified", {"authenticatorId": authenticator, "isUserVerified": False})
    page.get_by_role("button", name="Sign out everywhere").click()
    page.locator("#passkey").click()
    page.get_by_text("No passkey was used, or it was refused.").wait_for()
    assert complaints == []
