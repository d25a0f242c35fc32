"""What every request passes, and what every response says, whatever is behind it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import httpx
import pytest
from reception import MakeReception, Reception

from zt_agents.console.gate import MAX_BODY, Gate
from zt_agents.console.origins import Origin
from zt_agents.errors import ConfigurationError

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@pytest.mark.parametrize("path", ["/", "/login", "/nothing", "/static/console.css", "/requests/x", "/list", "/account"])
async def test_every_response_has_the_headers(path: str, reception: Reception) -> None:
    async with reception.browser() as browser:
        response = await browser.get(path)
    for name, value in HEADERS.items():
        assert response.headers.get_list(name) == [value], name
    kept = "public, max-age=31536000, immutable" if path.startswith("/static") else "no-store"
    assert response.headers.get_list("cache-control") == [kept]
    assert "server" not in response.headers
    assert "strict-transport-security" not in response.headers


async def test_over_https_the_browser_is_told_to_stay_there(make_reception: MakeReception) -> None:
    reception = make_reception(origin="https://approvals.acme.example")
    async with reception.browser() as browser:
        assert (await browser.get("/login")).headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize("host", ["evil.example", "localhost", "localhost:8766", "127.0.0.1:8765", ""])
async def test_another_host_reaches_nothing(host: str, reception: Reception) -> None:
    async with reception.browser() as browser:
        response = await browser.get("/login", headers={"host": host})
    assert response.status_code == 421
    assert "Sign in" not in response.text
    assert response.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
async def test_another_site_gets_nothing_but_a_followed_link(
    headers: dict[str, str], status: int, reception: Reception
) -> None:
    async with reception.browser() as browser:
        assert (await browser.get("/login", headers=headers)).status_code == status


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ({"origin": "http://localhost:8765"}, True),
        ({"origin": "null"}, True),  # a form, where the referrer policy is no-referrer
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://localhost:8765", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, False),
        ({"origin": "null", "sec-fetch-site": "cross-site"}, False),
        ({"origin": "http://localhost:8765.evil.example"}, False),
    ],
)
async def test_a_form_comes_from_the_consoles_own_page(
    headers: dict[str, str], sent: bool, reception: Reception
) -> None:
    async with reception.browser() as browser:
        response = await browser.post("/login", headers=headers, token="nonsense")
    assert ("The link is not good" in response.text) is sent


async def test_a_form_that_nobody_vouches_for_is_refused(reception: Reception) -> None:
    transport = httpx.ASGITransport(app=reception.app)
    async with httpx.AsyncClient(transport=transport, base_url=reception.origin.text) as bare:
        assert (await bare.post("/login", data={"token": "x"})).status_code == 403
        assert (await bare.post("/login", data={"token": "x"}, headers={"origin": "null"})).status_code == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
async def test_other_methods_are_refused(method: str, reception: Reception) -> None:
    async with reception.browser() as browser:
        assert (await browser.client.request(method, "/login")).status_code == 405


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/json", "text/plain", ""])
async def test_only_forms_are_taken(kind: str, reception: Reception) -> None:
    async with reception.browser(origin=reception.origin.text) as browser:
        response = await browser.client.post("/login", content=b"token=x", headers={"content-type": kind})
    assert response.status_code == 415


async def test_a_large_body_is_refused_whatever_its_length_says(reception: Reception) -> None:
    async def body() -> object:
        for _ in range(MAX_BODY // 1000 + 2):
            yield b"x" * 1000

    form = {"content-type": "application/x-www-form-urlencoded", "origin": reception.origin.text}
    async with reception.browser(**form) as browser:
        assert (await browser.client.post("/login", content=body())).status_code == 413
        assert (await browser.client.post("/login", content=b"x" * (MAX_BODY + 1))).status_code == 413
        assert (await browser.client.post("/login", content=b"token=" + b"x" * (MAX_BODY - 6))).status_code == 400


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/static/../app.py", "/static/%2e%2e/app.py"])
async def test_nothing_else_is_served(path: str, reception: Reception) -> None:
    async with reception.browser() as browser:
        assert (await browser.get(path)).status_code == 404


async def test_websockets_are_closed(reception: Reception) -> None:
    sent: list[object] = []

    async def send(message: object) -> None:
        sent.append(message)

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    await reception.app({"type": "websocket", "path": "/", "headers": []}, receive, send)  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_a_fault_shows_neither_itself_nor_an_argument(capfd: pytest.CaptureFixture[str]) -> None:
    async def broken(scope: object, receive: object, send: object) -> None:
        raise RuntimeError("the argument was 4711")

    transport = httpx.ASGITransport(app=Gate(broken, origin=Origin.parse("http://localhost:1")))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:1") as client:
        response = await client.get("/")
    assert response.status_code == 500
    out = response.text + "".join(capfd.readouterr())
    assert "4711" not in out
    assert "Traceback" not in out
    assert "RuntimeError in broken" in out
    assert response.headers["content-security-policy"]


async def test_a_store_that_cannot_be_read_is_a_sentence(
    reception: Reception, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = reception.ask()
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver("dana@acme.example"))
        with sqlite3.connect(reception.store.path) as connection:
            connection.execute("UPDATE request SET body = '{}'")
        connection.close()
        page = await browser.get(f"/requests/{asked.id}")
        assert page.status_code == 503
        assert "Not available" in page.text
        assert str(reception.store.path) not in page.text
        listed = await browser.get("/?show=all")
    assert listed.status_code == 200
    assert "1 more cannot be read" in listed.text
    assert "damaged" in capfd.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "ftp://localhost", "http://acme.example", "http://user@localhost", "https://a.example/path",
     "https://a.example?x", "https://a.example#x", "http://localhost:99999", "https://ä.example", "http://10.0.0.1"],
)  # fmt: skip
def test_an_address_that_cannot_be_a_consoles(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Origin.parse(text)


@pytest.mark.parametrize(
    ("text", "origin", "host"),
    [
        ("https://Approvals.Acme.example/", "https://approvals.acme.example", "approvals.acme.example"),
        ("https://a.example:443", "https://a.example", "a.example"),
        ("http://localhost:80", "http://localhost", "localhost"),
        ("http://[::1]:8765", "http://[::1]:8765", "[::1]:8765"),
    ],
)
def test_an_address_is_written_as_browsers_do(text: str, origin: str, host: str) -> None:
    parsed = Origin.parse(text)
    assert (parsed.text, parsed.host) == (origin, host)


def test_the_licence_lies_beside_the_file_that_is_not_ours() -> None:
    import zt_agents.console

    folder = Path(zt_agents.console.__file__).parent / "static"
    assert "Zero-Clause BSD" in (folder / "htmx-LICENSE.txt").read_text(encoding="utf-8")
    assert len(list(folder.glob("htmx-*.min.js"))) == 1
