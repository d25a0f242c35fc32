"""People and agents at real identity providers: Keycloak, and the npm package oidc-provider.

They are started once and run only with ZT_AGENTS_SERVERS=1; see identity_servers.py for what has to be there.
"""

from __future__ import annotations

import json
import re
import time
import webbrowser
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urljoin

import httpx
import identity_servers
import jwt
import programs
import pytest
from identity_servers import GUARD, LOGIN, PASSWORD, TICKETS, Keycloak
from langchain_core.tools import StructuredTool
from typer.testing import CliRunner, Result
from world import HEAD, World

from zt_agents import AccessDeniedError, current_call
from zt_agents.cli import app
from zt_agents.errors import CredentialError, IdentityProviderError, TokenInvalidError
from zt_agents.identity import SigningKey
from zt_agents.identity.provider.client_registration import Registration, register, unregister
from zt_agents.identity.provider.discovery import AGAIN
from zt_agents.identity.provider.login_file import login_path
from zt_agents.identity.provider.login_flows import DeviceLogin, LoginRequest
from zt_agents.identity.provider.oauth_client import OAuthClient, Tokens
from zt_agents.identity.provider.oidc import IdentityProvider
from zt_agents.identity.provider.terms import AccessTokenKind, ProviderTerms

CALLBACK = "http://127.0.0.1:49152/callback"


@pytest.fixture(scope="module")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keycloak]:
    if missing := programs.missing("java"):
        pytest.skip(missing)
    with identity_servers.keycloak(tmp_path_factory.mktemp("keycloak")) as server:
        yield server


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if missing := programs.missing("node", "npm"):
        pytest.skip(missing)
    with identity_servers.node_provider(tmp_path_factory.mktemp("node")) as issuer:
        yield issuer


@pytest.fixture
def provider(keycloak: Keycloak) -> Iterator[IdentityProvider]:
    terms = ProviderTerms(
        issuer=keycloak.issuer,
        client_id=LOGIN,
        audience=GUARD,
        access_tokens=AccessTokenKind.BEARER,
        roles=("realm_access", "roles"),
    )
    one = IdentityProvider(terms)
    yield one
    one.close()


class Visitor:
    """A browser as far as these pages need one. It sends cookies marked Secure to loopback, as browsers do."""

    def __init__(self) -> None:
        self._cookies: dict[str, str] = {}

    def go(self, method: str, address: str, form: dict[str, str] | None = None) -> httpx.Response:
        """Return the page at *address*, or the redirect to another host or port."""
        for _ in range(20):
            held = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
            sent = {"Cookie": held} if held else {}
            answer = httpx.request(method, address, data=form, headers=sent, trust_env=False, timeout=30)
            for cookie in answer.headers.get_list("set-cookie"):
                name, _, value = cookie.partition(";")[0].partition("=")
                self._cookies[name] = value
            if not answer.is_redirect:
                return answer
            target = urljoin(address, answer.headers["location"])
            if httpx.URL(target).netloc != httpx.URL(address).netloc:
                return answer
            method, address, form = "GET", target, None
        raise AssertionError("it goes in circles")

    def submit(self, page: httpx.Response, **fields: str) -> httpx.Response:
        action = re.search(r'<form[^>]*action="([^"]+)"', page.text)
        assert action, page.text[:2000]
        hidden = {}
        for tag in re.findall(r"<input[^>]*>", page.text):
            name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
            if name and value and 'type="hidden"' in tag:
                hidden[name[1]] = unescape(value[1])
        return self.go("POST", urljoin(str(page.url), unescape(action[1])), {**hidden, **fields})

    def log_in(self, address: str, user: str = "alice") -> str:
        """Return where the provider sends the browser after a login."""
        page = self.go("GET", address)
        return str(self.submit(page, username=user, password=PASSWORD).headers["location"])


def log_in(provider: IdentityProvider, user: str = "alice") -> tuple[Tokens, str]:
    client, request = OAuthClient(provider, provider.terms.client_id), LoginRequest(CALLBACK)
    back = Visitor().log_in(request.address(client, scope="openid profile email"), user)
    assert back.startswith(CALLBACK)
    return request.redeem(client, back.partition("?")[2], now=time.time()), request.nonce.reveal()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


# -- Keycloak ---------------------------------------------------------------------------------------------------------


def test_alice_and_bob_are_who_keycloak_says(provider: IdentityProvider) -> None:
    people = {}
    for name in ("alice", "bob"):
        tokens, nonce = log_in(provider, name)
        user = provider.user_of_id_token(
            tokens.id_token.reveal(), nonce=nonce, now=time.time(), access_token=tokens.access_token.reveal()
        )
        assert provider.user_of_access_token(tokens.access_token.reveal(), now=time.time()) == user
        people[name] = user
        with pytest.raises(TokenInvalidError):
            provider.user_of_access_token(tokens.id_token.reveal(), now=time.time())
        with pytest.raises(TokenInvalidError):
            provider.user_of_id_token(tokens.access_token.reveal(), nonce=None, now=time.time())
        with pytest.raises(TokenInvalidError):
            provider.user_of_access_token(tokens.refresh_token.reveal(), now=time.time())
    assert (people["alice"].groups, people["alice"].roles) == (("it-helpdesk",), ("agent",))
    assert (people["bob"].groups, people["bob"].roles) == (("hr",), ("clerk",))
    assert people["alice"].id != people["bob"].id


def test_alice_logs_in_and_her_subject_is_in_the_trace(
    keycloak: Keycloak, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(webbrowser, "open", lambda address: _in_a_thread(_visit, address))
    done = run("login", "--issuer", keycloak.issuer, "--client-id", LOGIN)
    assert done.exit_code == 0, done.output
    facts = json.loads(run("whoami", "--json").output)
    (alice,) = keycloak.admin("GET", "/acme/users?username=alice")
    assert (facts["user"], facts["name"], facts["groups"]) == (alice["id"], "Alice Acme", ["it-helpdesk"])

    played = run("demo", "--yes", "--dir", str(tmp_path / "demo"))
    assert played.exit_code == 0, played.output
    assert f"Alice Acme  human  {alice['id']}" in played.output.partition("The trace")[2]
    shown = run("audit", "show", "--log", str(tmp_path / "demo" / "audit.db"), "--json").output
    assert {json.loads(line)["decision"]["user_id"] for line in shown.splitlines()} == {alice["id"]}

    done = run("logout")
    assert (done.exit_code, "not told" in done.output) == (0, False)
    assert not login_path().exists()


def _in_a_thread(what: Any, *arguments: Any) -> bool:
    Thread(target=what, args=arguments, daemon=True).start()
    return True


def _visit(address: str) -> None:
    httpx.get(Visitor().log_in(address), trust_env=False)


def test_bob_logs_in_on_another_device(provider: IdentityProvider) -> None:
    client = OAuthClient(provider, LOGIN)
    begun = DeviceLogin.begin(client, scope="openid", now=time.time())
    visitor = Visitor()
    page = visitor.go("GET", begun.address_with_code)
    page = visitor.submit(page, username="bob", password=PASSWORD)
    if "<form" in page.text:  # whether to let the device in
        page = visitor.submit(page, accept="Yes")
    tokens = begun.wait(client, clock=time.time)
    assert provider.user_of_id_token(tokens.id_token.reveal(), nonce=None, now=time.time()).groups == ("hr",)


def test_a_code_is_good_for_its_own_login_only(provider: IdentityProvider) -> None:
    client, request = OAuthClient(provider, LOGIN), LoginRequest(CALLBACK)
    query = Visitor().log_in(request.address(client, scope="openid")).partition("?")[2]
    injected = LoginRequest(CALLBACK, state=request.state)
    with pytest.raises(IdentityProviderError) as refusal:  # a stolen code: another verifier
        injected.redeem(client, query, now=time.time())
    assert refusal.value.error == "invalid_grant"


def test_keycloak_rotates_its_keys(keycloak: Keycloak, provider: IdentityProvider) -> None:
    before, _ = log_in(provider)
    provider.user_of_access_token(before.access_token.reveal(), now=time.time())
    keycloak.rotate()
    after, _ = log_in(provider)
    kids = [jwt.get_unverified_header(each.access_token.reveal())["kid"] for each in (before, after)]
    assert kids[0] != kids[1]
    with pytest.raises(TokenInvalidError):  # asked for a moment ago
        provider.user_of_access_token(after.access_token.reveal(), now=time.time())
    time.sleep(AGAIN)
    for tokens in (before, after):
        assert provider.user_of_access_token(tokens.access_token.reveal(), now=time.time()).groups == ("it-helpdesk",)


def test_a_user_who_was_logged_out_is_not_refreshed(keycloak: Keycloak, provider: IdentityProvider) -> None:
    client = OAuthClient(provider, LOGIN)
    tokens, _ = log_in(provider, "bob")
    renewed = client.refresh(tokens.refresh_token.reveal(), now=time.time())
    assert "nonce" not in jwt.decode(renewed.id_token.reveal(), options={"verify_signature": False})
    (bob,) = keycloak.admin("GET", "/acme/users?username=bob")
    keycloak.admin("POST", f"/acme/users/{bob['id']}/logout")
    with pytest.raises(IdentityProviderError) as refusal:
        client.refresh(renewed.refresh_token.reveal(), now=time.time())
    assert refusal.value.error == "invalid_grant"


def _registered(keycloak: Keycloak, provider: IdentityProvider, key: SigningKey) -> Registration:
    token = keycloak.admin("POST", "/acme/clients-initial-access", {"expiration": 600, "count": 1})["token"]
    return register(provider, "helpdesk", key, initial_access_token=token)


def test_an_agent_registers_and_is_known_by_its_key(keycloak: Keycloak, provider: IdentityProvider) -> None:
    key = SigningKey.generate()
    registration = _registered(keycloak, provider, key)
    tokens = OAuthClient(provider, registration.client_id, key=key).credentials(now=time.time())
    assert tokens.access_token
    with pytest.raises(TokenInvalidError):  # a program's token is no human's
        provider.user_of_access_token(tokens.access_token.reveal(), now=time.time())
    for stranger in (SigningKey.generate(), None):
        with pytest.raises(IdentityProviderError):
            OAuthClient(provider, registration.client_id, key=stranger).credentials(now=time.time())
    unregister(provider, registration)
    with pytest.raises(IdentityProviderError):
        OAuthClient(provider, registration.client_id, key=key).credentials(now=time.time())
    with pytest.raises(IdentityProviderError):
        register(provider, "helpdesk", key, initial_access_token="stolen")


POLICY = """
tools:
  look: {tier: low, effects: [read]}
  other: {tier: low, effects: [read]}
rules:
  - {id: look, agents: [helpdesk], tools: [look, other], outcome: allow, when: "'it-helpdesk' in user.groups"}
"""


def test_a_tool_gets_keycloaks_token_for_its_back_end_on_behalf_of_alice(
    keycloak: Keycloak, provider: IdentityProvider, tmp_path: Path
) -> None:
    seen: list[Any] = []

    def look() -> str:
        call = current_call()
        assert call is not None
        seen.append(call)
        return call.idp_token(audience=TICKETS)

    def other() -> str:
        call = current_call()
        assert call is not None
        return call.idp_token(audience=TICKETS)

    tools = [StructuredTool.from_function(each, name=each.__name__, description="Look.") for each in (look, other)]
    section = {
        "issuer": keycloak.issuer,
        "client_id": LOGIN,
        "audience": GUARD,
        "access_tokens": "bearer",
        "required": True,
        "exchange": [{"audience": TICKETS, "tools": ["look"]}],
    }
    world = World(tmp_path, f"{HEAD}{POLICY}identity_provider: {json.dumps(section)}\n", tools, None)
    initial = tmp_path / "initial"
    initial.write_text(keycloak.admin("POST", "/acme/clients-initial-access", {"expiration": 600, "count": 1})["token"])
    policy = ["--policy", str(world.policy)]
    done = run("idp", "register", "helpdesk", *policy, "--token-file", str(initial))
    assert done.exit_code == 0, done.output
    checked = json.loads(run("idp", "check", "helpdesk", *policy, "--json").output)
    client_id = checked["client_id"]
    keycloak.let_exchange(client_id)

    with world.guard as guard:
        guarded, elsewhere = guard.protect(tools)
        tokens, _ = log_in(provider)
        user = guard.user(access_token=tokens.access_token.reveal())
        with world.session(on_behalf_of=user):
            token = guarded.invoke({})
            with pytest.raises(CredentialError):  # the policy names no such back end for this tool
                elsewhere.invoke({})
        with pytest.raises(CredentialError):  # the body has ended
            seen[0].idp_token(audience=TICKETS)
        claims = jwt.decode(token, options={"verify_signature": False})
        assert (claims["aud"], claims["azp"], claims["sub"]) == (TICKETS, client_id, user.id)
        tokens, _ = log_in(provider, "bob")
        user = guard.user(access_token=tokens.access_token.reveal())
        with world.session(on_behalf_of=user), pytest.raises(AccessDeniedError):
            guarded.invoke({})
    assert run("idp", "unregister", "helpdesk", *policy).exit_code == 0
    assert run("idp", "check", "helpdesk", *policy).exit_code == 2


# -- oidc-provider ----------------------------------------------------------------------------------------------------


@pytest.fixture
def at_node(node: str) -> Iterator[IdentityProvider]:
    terms = ProviderTerms(issuer=node, client_id=LOGIN, audience="https://agents.acme.example", algorithms=("ES256",))
    one = IdentityProvider(terms)
    yield one
    one.close()


def test_alice_is_who_oidc_provider_says(at_node: IdentityProvider) -> None:
    client, request = OAuthClient(at_node, LOGIN), LoginRequest(CALLBACK)
    address = request.address(client, scope="openid profile groups")
    visitor = Visitor()
    page = visitor.go("GET", f"{address}&resource=https%3A%2F%2Fagents.acme.example")
    page = visitor.submit(page, login="alice", password="any")
    while not page.is_redirect:  # whether to let the client know
        page = visitor.submit(page)
    tokens = request.redeem(client, page.headers["location"].partition("?")[2], now=time.time())
    user = at_node.user_of_id_token(
        tokens.id_token.reveal(),
        nonce=request.nonce.reveal(),
        now=time.time(),
        access_token=tokens.access_token.reveal(),
    )
    assert (user.id, user.name, user.groups) == ("alice", "Alice", ("it-helpdesk",))
    assert at_node.user_of_access_token(tokens.access_token.reveal(), now=time.time()).id == "alice"
    assert jwt.get_unverified_header(tokens.access_token.reveal())["typ"] == "at+jwt"  # RFC 9068


def test_alice_logs_in_on_another_device_at_oidc_provider(at_node: IdentityProvider) -> None:
    client = OAuthClient(at_node, LOGIN)
    begun = DeviceLogin.begin(client, scope="openid groups", now=time.time())
    visitor = Visitor()
    page = visitor.submit(visitor.go("GET", begun.address_with_code))
    page = visitor.submit(page)  # this is the code
    page = visitor.submit(page, login="alice", password="any")
    page = visitor.submit(page)
    tokens = begun.wait(client, clock=time.time)
    assert at_node.user_of_id_token(tokens.id_token.reveal(), nonce=None, now=time.time()).groups == ("it-helpdesk",)


def test_an_agent_registers_at_oidc_provider(at_node: IdentityProvider) -> None:
    key = SigningKey.generate()
    with pytest.raises(IdentityProviderError):  # it knows no token exchange
        register(at_node, "helpdesk", key, initial_access_token="initial")
    registration = register(
        at_node, "helpdesk", key, initial_access_token="initial", grants=["client_credentials"]
    )
    client = OAuthClient(at_node, registration.client_id, key=key)
    assert client.credentials(now=time.time()).access_token
    unregister(at_node, registration)
    with pytest.raises(IdentityProviderError):
        client.credentials(now=time.time())
