"""Attacks on the console that once worked, or nearly did."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyotp
import pytest
from reception import MakeReception, Reception
from typer.testing import CliRunner
from uvicorn.protocols.http.h11_impl import H11Protocol

import zt_agents.console.prompt as prompt
import zt_agents.console.server as serving
from zt_agents.approvals import Answer, binding_hash
from zt_agents.catalog.specs import Tier
from zt_agents.cli import app
from zt_agents.console import facts, gate
from zt_agents.decisions import ApprovalTerms
from zt_agents.errors import TokenInvalidError
from zt_agents.identity import SigningKey
from zt_agents.identity.approving.one_time_codes import OneTimeSecret
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore


def code_of(secret: OneTimeSecret, now: float) -> str:
    """Return the code that an app shows."""
    shown: str = pyotp.TOTP(secret.base32).at(int(now))
    return shown


# -- who one is ------------------------------------------------------------------------------------------------------


async def test_a_link_of_somebody_else_makes_nobody_else_of_who_is_signed_in(reception: Reception) -> None:
    dana, mallory = reception.approver("dana@acme.example"), reception.approver("mallory@acme.example")
    async with reception.browser() as browser:
        await browser.sign_in(dana)
        refused = await browser.post("/login", token=mallory.login(browser.origin, now=reception.clock()))
        assert refused.status_code == 403
        assert "dana@acme.example" in refused.text
        assert "dana@acme.example" in (await browser.get("/account")).text
        again = await browser.post("/login", token=dana.login(browser.origin, now=reception.clock()))
        assert again.status_code == 204


async def test_two_consoles_of_one_machine_do_not_sign_each_other_out(make_reception: MakeReception) -> None:
    one, other = make_reception(), make_reception(origin="http://localhost:8766")
    assert one.console.cookie != other.console.cookie


async def test_a_page_that_nobody_asked_for_yet_is_not_shown_to_anybody(reception: Reception) -> None:
    first = reception.ask(ApprovalTerms(timeout=600, grace=60))
    bound = binding_hash(first.call, nonce="low")
    decision = first.decision._replace(tier=Tier.LOW)
    asked = replace(first, id="0" * 32, nonce="low", binding_hash=bound, decision=decision)
    reception.store.put(asked)
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver("dana@acme.example"))
        early = await browser.get(f"/requests/{asked.id}", headers={"sec-purpose": "prefetch;prerender"})
        stored = reception.store.get(asked.id)
        assert early.status_code == 503
        assert stored is not None
        assert stored.noticed_at is None
        await browser.get(f"/requests/{asked.id}")
        stored = reception.store.get(asked.id)
        assert stored is not None
        assert stored.noticed_at is not None


# -- what a page costs and shows -------------------------------------------------------------------------------------


async def test_looking_where_a_request_stands_does_not_write_its_arguments_again(
    reception: Reception, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = reception.ask(arguments={"list": list(range(1_000))})
    written: list[object] = []

    def write(value: object) -> str:
        written.append(value)
        return ""

    monkeypatch.setattr(facts, "written", write)
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver("dana@acme.example"))
        assert (await browser.get(f"/requests/{asked.id}/standing")).status_code == 200
        assert written == []
        assert (await browser.get(f"/requests/{asked.id}")).status_code == 200
        assert len(written) == 1


@pytest.mark.parametrize("value", [[], {}, 1])
async def test_a_damaged_version_of_a_policy_takes_no_page_away(make_reception: MakeReception, value: object) -> None:
    reception = make_reception(policy_version="7")
    asked = reception.ask()
    with sqlite3.connect(reception.store.path) as connection:
        (body,) = connection.execute("SELECT body FROM request").fetchone()
        document = json.loads(body)
        document["decision"]["policy_version"] = value
        connection.execute("UPDATE request SET body = ?", (json.dumps(document).encode(),))
    connection.close()
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver("dana@acme.example"))
        page = await browser.get(f"/requests/{asked.id}")
    assert page.status_code in {200, 503}


# -- second factors --------------------------------------------------------------------------------------------------


async def test_an_authenticator_app_that_was_removed_is_not_brought_back_by_its_form(reception: Reception) -> None:
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver("dana@acme.example"))
        secret, offered = reception.factors.offer("dana@acme.example", now=reception.clock())
        fields = {"csrf": browser.csrf, "offered": offered, "code": code_of(secret, reception.clock())}
        assert (await browser.post("/codes/confirm", **fields)).status_code == 303
        (kept,) = reception.factors.of("dana@acme.example", "totp")  # type: ignore[arg-type]
        assert (await browser.post(f"/codes/{kept.id}/remove", csrf=browser.csrf)).status_code == 303
        again = await browser.post("/codes/confirm", **fields)
        reception.clock.ahead += 30
        later = await browser.post("/codes/confirm", **{**fields, "code": code_of(secret, reception.clock())})
        assert again.status_code == 403
        assert later.status_code in {403, 503}
    assert not reception.factors.of("dana@acme.example", "totp")  # type: ignore[arg-type]


def test_the_code_that_enrolled_an_app_is_no_answer_as_well(reception: Reception) -> None:
    asked = reception.ask()
    secret, offered = reception.factors.offer("dana@acme.example", now=reception.clock())
    code = code_of(secret, reception.clock())
    reception.factors.confirm("dana@acme.example", offered, code, now=reception.clock())
    with pytest.raises(TokenInvalidError, match="used"):
        reception.factors.check(asked, "dana@acme.example", code, approved=True, now=reception.clock())


# -- answers ---------------------------------------------------------------------------------------------------------


def test_answers_at_two_consoles_at_once_are_one_answer(reception: Reception) -> None:
    asked = reception.ask(ApprovalTerms(timeout=600, quorum=2))
    start, came = threading.Barrier(6), []

    def answer() -> None:
        start.wait()
        came.append(reception.desk.file(Answer(asked.binding_hash, True, "dana@acme.example")))

    threads = [threading.Thread(target=answer) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = reception.store.get(asked.id)
    assert stored is not None
    assert len(came) == 6
    assert [each.approver for each in reception.desk.proven(stored)] == ["dana@acme.example"]
    assert reception.desk.look(asked.id) == "pending"


# -- the server ------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(reception: Reception, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server that has little patience."""
    monkeypatch.setattr(prompt, "IDLE", 0.3)
    monkeypatch.setattr(prompt, "UNREAD", 0.3)
    monkeypatch.setattr(gate, "_BODY_TIME", 0.3)
    with prompt.listening("127.0.0.1", 0) as place:
        server = serving.server(reception.console)
        thread = threading.Thread(target=server.run, args=([place],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield place.getsockname()[1]
        server.should_exit = True
        thread.join()


LOGIN = b"GET /login HTTP/1.1\r\nHost: localhost:8765\r\n\r\n"
FORM = (
    b"POST /login HTTP/1.1\r\nHost: localhost:8765\r\nOrigin: http://localhost:8765\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 60000\r\n\r\n"
)


@pytest.mark.parametrize("before", [b"", LOGIN])
@pytest.mark.parametrize("sent", [b"", b"G", LOGIN[:-2] + b"X-Slow: ", FORM + b"token="])
def test_who_says_nothing_or_too_slowly_does_not_keep_a_connection(served: int, before: bytes, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served), timeout=3) as client:
        client.sendall(before)
        while before and b"</html>" not in client.recv(65_536):
            pass
        began = time.monotonic()
        client.sendall(sent)
        while time.monotonic() - began < 2:
            try:
                if sent:
                    client.sendall(b"x")  # there is always something new, and never enough
                client.settimeout(0.1)
                if client.recv(65_536) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("times", [1, 200])
def test_who_does_not_read_does_not_keep_a_connection(served: int, times: int) -> None:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        client.connect(("127.0.0.1", served))
        client.sendall(LOGIN.replace(b"/login", b"/static/htmx-2.0.11.min.js") * times)
        time.sleep(1)
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                client.sendall(b"x")
                time.sleep(0.02)
            pytest.fail("the connection is still there")


def test_headers_have_an_end(served: int) -> None:
    with socket.create_connection(("127.0.0.1", served), timeout=3) as client:
        try:
            client.sendall(b"GET /login HTTP/1.1\r\nX: " + b"x" * 200_000)
            said = client.recv(65_536)
        except ConnectionError:
            said = b""
    assert said[:12] in {b"", b"HTTP/1.1 400"}


@pytest.mark.parametrize("target", [b"http://evil.example/login", b"//evil.example/login", b"*", b"/login/../account"])
def test_a_target_of_another_form_leads_nowhere(served: int, target: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served), timeout=3) as client:
        client.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: localhost:8765\r\nConnection: close\r\n\r\n")
        said = b""
        while part := client.recv(65_536):
            said += part
    assert said[:12] == b"HTTP/1.1 404"


def test_no_other_parser_is_taken_because_it_is_installed(reception: Reception) -> None:
    """Others take headers without end."""
    protocol = serving.server(reception.console).config.http
    assert isinstance(protocol, type)
    assert issubclass(protocol, H11Protocol)


@pytest.mark.parametrize("proxy", ["*", "0.0.0.0/0", "10.0.0.1,*", "proxy"])
def test_no_client_says_who_it_is(tmp_path: Path, proxy: str) -> None:
    SigningKey.generate().save(tmp_path / "key")
    store = SqliteApprovalStore(tmp_path / "approvals.db")
    options = ["--signing-key", str(tmp_path / "key"), "--trust-domain", "acme.example", "--store", str(store.path)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    result = CliRunner().invoke(app, ["console", *options, "--port", port, "--proxy", proxy])
    assert result.exit_code != 0
    assert "--proxy" in result.output
