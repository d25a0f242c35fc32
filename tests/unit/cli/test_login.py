"""zt-agents login, logout, whoami: what a browser, a device and an attacker on this machine do."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import socket
import stat
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import loopback_provider
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from loopback_provider import CLIENT, LoopbackProvider, at_hash, send
from typer.testing import CliRunner, Result

from zt_agents._internal.hidden import Hidden
from zt_agents.cli import app
from zt_agents.cli.login import logged_in
from zt_agents.errors import IdentityProviderError, LoginRequiredError
from zt_agents.identity.provider import login_flows
from zt_agents.identity.provider.login_file import login_path
from zt_agents.identity.provider.oauth_client import OAuthClient
from zt_agents.identity.provider.oidc import IdentityProvider
from zt_agents.identity.provider.terms import ProviderTerms

Change = Callable[[dict[str, str]], dict[str, str]]


class Browser:
    """Goes where it is sent, logs in there, and comes back, as it is told to."""

    def __init__(self, idp: LoopbackProvider) -> None:
        self.idp = idp
        self.asked: dict[str, str] = {}
        self.answers: list[httpx.Response] = []
        self.change: list[Change] = [dict]
        """What becomes of each answer on its way back, one after the other."""
        self._thread: threading.Thread | None = None

    def open(self, address: str) -> bool:
        self.asked = dict(parse_qsl(urlsplit(address).query))
        self.idp.forms["token_endpoint"] = self.redeem
        self._thread = threading.Thread(target=self._come_back, daemon=True)
        self._thread.start()
        return True

    def _come_back(self) -> None:
        for change in self.change:
            said = change({"code": "c-1", "state": self.asked["state"], "iss": self.idp.issuer})
            address = f"{self.asked['redirect_uri']}?{urlencode(said)}"
            self.answers.append(httpx.get(address, trust_env=False, timeout=5))

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join(10)

    def tokens(self, **claims: Any) -> dict[str, Any]:
        access = self.idp.access_token()
        said = {"nonce": self.asked.get("nonce"), "at_hash": at_hash(access), "groups": ["it-helpdesk"], **claims}
        return {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": 300,
            "refresh_token": "r-1",
            "id_token": self.idp.id_token(**said),
        }

    def redeem(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        proven = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == self.asked["code_challenge"]
        good = form["code"] == "c-1" and proven and form["redirect_uri"] == self.asked["redirect_uri"]
        return (200, self.tokens()) if good else (400, {"error": "invalid_grant"})


@pytest.fixture
def idp() -> Iterator[LoopbackProvider]:
    with loopback_provider.running() as provider:
        yield provider


@pytest.fixture
def browser(idp: LoopbackProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "400")
    person = Browser(idp)
    monkeypatch.setattr(webbrowser, "open", person.open)
    yield person
    person.join()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def log_in(idp: LoopbackProvider, *more: str) -> Result:
    return run("login", "--issuer", idp.issuer, "--client-id", CLIENT, *more)


def test_a_login_in_a_browser(idp: LoopbackProvider, browser: Browser) -> None:
    done = log_in(idp)
    assert done.exit_code == 0, done.output
    assert "Alice (f1f2)" in done.output
    assert (browser.asked["code_challenge_method"], browser.asked["response_type"]) == ("S256", "code")
    assert browser.asked["redirect_uri"].startswith("http://127.0.0.1:")
    path = login_path()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    shown = run("whoami", "--json")
    facts = json.loads(shown.output)
    assert (facts["user"], facts["issuer"], facts["groups"]) == ("f1f2", idp.issuer, ["it-helpdesk"])
    stored = json.loads(path.read_bytes())
    for secret in (stored["id_token"], "r-1", "c-1"):
        assert secret not in done.output + shown.output
    page = browser.answers[0]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"


def test_a_logout_tells_the_provider_and_forgets(idp: LoopbackProvider, browser: Browser) -> None:
    log_in(idp)
    idp.forms["revocation_endpoint"] = lambda form: (200, {})
    assert run("logout").exit_code == 0
    assert not login_path().exists()
    assert ("revocation_endpoint", "r-1") in [(name, form.get("token")) for name, form in idp.posted]
    nobody = run("whoami")
    assert (nobody.exit_code, run("logout").exit_code) == (1, 0)
    assert "zt-agents login" in nobody.output
    log_in(idp)
    browser.join()
    idp.raw["revocation_endpoint"] = lambda handler: send(handler, 200, b"")  # as Keycloak does
    assert "not told" not in run("logout").output
    log_in(idp)
    browser.join()
    del idp.raw["revocation_endpoint"], idp.forms["revocation_endpoint"]
    assert run("logout").exit_code == 0  # whatever the provider says
    assert not login_path().exists()


def without(name: str) -> Change:
    return lambda said: {key: value for key, value in said.items() if key != name}


def with_(**more: str) -> Change:
    return lambda said: {**said, **more}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_(iss="https://evil.example"), "another identity provider"),
        (without("iss"), "another identity provider"),  # it says that it names itself
        (without("code"), "did not log you in"),
        (with_(error="access_denied"), "access_denied"),
        (with_(code="stolen"), "invalid_grant"),
    ],
    ids=["mix-up", "no issuer", "no code", "refused", "another's code"],
)
def test_an_answer_that_is_not_good_ends_the_login(
    idp: LoopbackProvider, browser: Browser, change: Change, said: str
) -> None:
    browser.change = [change]
    done = log_in(idp)
    assert done.exit_code == 2
    assert said in done.output
    assert not login_path().exists()


@pytest.mark.parametrize("twice", ["code=stolen", "iss=https%3A%2F%2Fevil.example", "error=x&error=y"])
def test_an_answer_that_says_something_twice_is_none(idp: LoopbackProvider, twice: str) -> None:
    provider = IdentityProvider(ProviderTerms(issuer=idp.issuer, client_id=CLIENT))
    request = login_flows.LoginRequest("http://127.0.0.1:1/callback")
    query = f"{urlencode({'code': 'c-1', 'state': request.state.reveal(), 'iss': idp.issuer})}&{twice}"
    with pytest.raises(IdentityProviderError, match="not to this login"):
        request.redeem(OAuthClient(provider, CLIENT), query, now=time.time())
    provider.close()


def test_a_provider_that_signs_with_another_safe_algorithm(idp: LoopbackProvider, browser: Browser) -> None:
    idp.keys = [("two", ec.generate_private_key(ec.SECP256R1()))]
    sign = idp.token
    idp.token = lambda headers=None, **claims: sign(headers, **{"alg": "ES256", **claims})  # type: ignore[method-assign]
    done = log_in(idp)
    assert done.exit_code == 0, done.output
    assert json.loads(run("whoami", "--json").output)["user"] == "f1f2"


def test_answers_without_our_state_are_passed_over(idp: LoopbackProvider, browser: Browser) -> None:
    browser.change = [with_(state="x", code="stolen"), without("state"), dict]
    assert log_in(idp).exit_code == 0
    browser.join()
    assert [answer.status_code for answer in browser.answers] == [404, 404, 200]


def test_another_s_login_cannot_be_slipped_in(idp: LoopbackProvider, browser: Browser) -> None:
    for claims in ({"nonce": "another"}, {"nonce": None}, {"at_hash": "AAAA"}, {"aud": "other"}):
        browser.redeem = lambda form, claims=claims: (200, browser.tokens(**claims))  # type: ignore[method-assign]
        done = log_in(idp)
        browser.join()
        assert done.exit_code == 2, claims
        assert not login_path().exists()


def test_the_listener_answers_one_path_of_one_host_once() -> None:
    with login_flows.LoopbackListener() as listener:
        assert listener._server.server_address[0] == "127.0.0.1"
        request = login_flows.LoginRequest(listener.redirect_uri)
        good = f"{listener.redirect_uri}?state={request.state.reveal()}&code=1"
        codes: list[int] = []

        def visit() -> None:
            with httpx.Client(trust_env=False, timeout=5) as client:
                codes.append(client.get(good.replace("/callback", "/other")).status_code)
                codes.append(client.get(good, headers={"Host": "evil.example"}).status_code)
                codes.append(client.get(f"{good}&state={request.state.reveal()}").status_code)
                codes.append(client.post(good).status_code)
                codes.append(client.get(good).status_code)

        visitor = threading.Thread(target=visit)
        visitor.start()
        query = listener.wait(request.is_ours, seconds=10)
        visitor.join(10)
        assert parse_qs(query)["code"] == ["1"]
        assert codes == [404, 404, 404, 501, 200]


def test_others_that_connect_to_the_listener_keep_nobody_out(capfd: pytest.CaptureFixture[str]) -> None:
    with login_flows.LoopbackListener() as listener, contextlib.ExitStack() as held:
        place = ("127.0.0.1", listener.port)
        for said in (b"", b"GET /callback", b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00\xff\r\n\r\n"):
            held.enter_context(socket.create_connection(place, timeout=5)).sendall(said)
        request = login_flows.LoginRequest(listener.redirect_uri)
        good = f"{listener.redirect_uri}?state={request.state.reveal()}&code=1"
        browser = threading.Thread(target=lambda: httpx.get(good, trust_env=False, timeout=5))
        browser.start()
        began = time.monotonic()
        assert "code=1" in listener.wait(request.is_ours, seconds=10)
        browser.join(10)
        assert time.monotonic() - began < 3
    assert capfd.readouterr().err == ""


def test_nobody_comes_back(idp: LoopbackProvider, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["zt_agents.cli.login"], "_PATIENCE", 0.3)
    browser.change = []
    done = log_in(idp)
    assert done.exit_code == 2
    assert "in time" in done.output


# -- on another device ------------------------------------------------------------------------------------------------


def device(idp: LoopbackProvider, *answers: dict[str, Any] | str, **changes: Any) -> None:
    body = {
        "device_code": "d-1",
        "user_code": "ABCD-EFGH",
        "verification_uri": f"{idp.issuer}/device",
        "verification_uri_complete": f"{idp.issuer}/device?user_code=ABCD-EFGH",
        "expires_in": 600,
        "interval": 5,
    }
    idp.forms["device_authorization_endpoint"] = lambda form: (200, {**body, **changes})
    left = list(answers)

    def token(form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        assert form["device_code"] == "d-1"
        answer = left.pop(0)
        return (400, {"error": answer}) if isinstance(answer, str) else (200, answer)

    idp.forms["token_endpoint"] = token


def test_a_login_on_another_device(idp: LoopbackProvider, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    wait = login_flows.DeviceLogin.wait
    monkeypatch.setattr(
        login_flows.DeviceLogin, "wait", lambda self, client, clock: wait(self, client, clock=clock, sleep=slept.append)
    )
    tokens = browser.tokens(nonce=None)
    device(idp, "authorization_pending", "slow_down", "authorization_pending", tokens)
    done = log_in(idp, "--device")
    assert done.exit_code == 0, done.output
    assert "ABCD-EFGH" in done.output
    assert slept == [5, 5, 10, 10]
    assert "d-1" not in done.output
    for refused in ("access_denied", "expired_token", "invalid_client"):
        device(idp, "authorization_pending", refused)
        done = log_in(idp, "--device")
        assert (done.exit_code, refused in done.output) == (2, True)


def test_a_device_code_ends(idp: LoopbackProvider) -> None:
    device(idp, *["authorization_pending"] * 9)
    moments, slept = iter(range(0, 1000, 5)), list[float]()
    begun = login_flows.DeviceLogin("u", "https://x", "", Hidden("d-1"), Hidden("v"), 5, 12)
    provider = IdentityProvider(ProviderTerms(issuer=idp.issuer, client_id=CLIENT))
    client = OAuthClient(provider, CLIENT)
    with pytest.raises(LoginRequiredError, match="in time"):
        begun.wait(client, clock=time.time, sleep=slept.append, timer=lambda: next(moments))
    provider.close()
    assert slept == [5]


@pytest.mark.parametrize(
    "change",
    [
        {"verification_uri": "http://evil.example/device"},
        {"verification_uri": "javascript:alert(1)"},
        {"verification_uri_complete": "https://a@b/"},
        {"user_code": "\x1b[2J"},
        {"user_code": "A" * 65},
        {"device_code": 5},
        {"expires_in": "600"},
        {"interval": -1},
    ],
    ids=str,
)
def test_a_device_code_that_is_none(idp: LoopbackProvider, browser: Browser, change: dict[str, Any]) -> None:
    device(idp, **change)
    done = log_in(idp, "--device")
    assert done.exit_code == 2
    assert "no code for a device" in done.output
    assert "\x1b" not in done.output


# -- what is kept -----------------------------------------------------------------------------------------------------


def expire(idp: LoopbackProvider, **claims: Any) -> None:
    """Make the login one that has to be refreshed."""
    path = login_path()
    document = json.loads(path.read_bytes())
    now = int(time.time())
    document["id_token"] = idp.id_token(iat=now - 300, exp=now - 1, nonce=document["nonce"], **claims)
    path.write_bytes(json.dumps(document).encode())


def test_a_login_is_refreshed_when_due(idp: LoopbackProvider, browser: Browser) -> None:
    log_in(idp)
    expire(idp)

    def refreshed(form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        assert (form["grant_type"], form["refresh_token"]) == ("refresh_token", "r-1")
        return 200, {**browser.tokens(nonce=None, name="Alice B."), "refresh_token": "r-2"}

    idp.forms["token_endpoint"] = refreshed
    assert "Alice B." in run("whoami").output
    assert json.loads(login_path().read_bytes())["refresh_token"] == "r-2"
    assert stat.S_IMODE(login_path().stat().st_mode) == 0o600
    asked = len(idp.posted)
    run("whoami")
    assert len(idp.posted) == asked


def test_of_two_at_once_one_refreshes_and_a_logout_stays_one(idp: LoopbackProvider, browser: Browser) -> None:
    log_in(idp)
    expire(idp)
    refreshing, used = threading.Event(), list[str]()

    def refreshed(form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        refreshing.set()
        used.append(form["refresh_token"])
        time.sleep(0.3)
        return 200, {**browser.tokens(nonce=None), "refresh_token": f"r-{len(used) + 1}"}

    idp.forms["token_endpoint"] = refreshed
    idp.forms["revocation_endpoint"] = lambda form: (200, {})
    both = [threading.Thread(target=logged_in) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join(10)
    assert used == ["r-1"]
    expire(idp)
    refreshing.clear()
    last = threading.Thread(target=logged_in)
    last.start()
    assert refreshing.wait(5)
    assert run("logout").exit_code == 0
    last.join(10)
    assert not login_path().exists()
    assert idp.posted[-1][1]["token"] == "r-3"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((400, {"error": "invalid_grant"}), "zt-agents login"),
        ((200, {"sub": "mallory"}), "somebody else"),
        ((200, {"nonce": "another"}), "another login"),
        ((503, {}), "http_503"),
    ],
    ids=["ended", "somebody else", "another login", "down"],
)
def test_a_refresh_that_fails(idp: LoopbackProvider, browser: Browser, answer: tuple[int, Any], said: str) -> None:
    log_in(idp)
    expire(idp)
    status, claims = answer
    body = browser.tokens(**claims) if status == 200 else claims
    idp.forms["token_endpoint"] = lambda form: (status, body)
    done = run("whoami")
    assert done.exit_code == 2
    assert said in done.output


def test_a_login_that_others_can_read_is_not_read(idp: LoopbackProvider, browser: Browser, tmp_path: Path) -> None:
    log_in(idp)
    path = login_path()
    for mode in (0o644, 0o660, 0o602):
        path.chmod(mode)
        done = run("whoami")
        assert (done.exit_code, "chmod 600" in done.output) == (2, True)
    path.chmod(0o600)
    with pytest.MonkeyPatch.context() as somebody_else:
        somebody_else.setattr(os, "geteuid", lambda: 54_321)
        assert "read or written by others" in run("whoami").output
    elsewhere = path.rename(tmp_path / "elsewhere")
    path.symlink_to(elsewhere)
    assert run("whoami").exit_code == 2
    path.unlink()
    for content in (b"", b"{}", b"[]", b'{"version": 2}', elsewhere.read_bytes().replace(b"RS256", b"HS256")):
        path.write_bytes(content)
        path.chmod(0o600)
        done = run("whoami")
        assert (done.exit_code, "is no login" in done.output) == (2, True), content[:20]


def test_what_is_written_into_the_file_is_not_believed(idp: LoopbackProvider, browser: Browser) -> None:
    log_in(idp)
    path = login_path()
    document = json.loads(path.read_bytes())
    head, _, tail = document["id_token"].split(".")
    claims = {"iss": idp.issuer, "aud": CLIENT, "sub": "admin", "exp": int(time.time()) + 600, "iat": 0}
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    path.write_text(json.dumps({**document, "id_token": f"{head}.{forged}.{tail}"}))
    done = run("whoami")
    assert (done.exit_code, "could not be verified" in done.output) == (2, True)


def test_where_to_log_in_has_to_be_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "names an identity provider" in run("login").output
    assert "has to be https" in run("login", "--issuer", "http://login.acme.example", "--client-id", "x").output
    assert "--client-id" in run("login", "--issuer", "https://login.acme.example").output
