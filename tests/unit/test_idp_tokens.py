"""The identity provider's token for a tool's back end, and agents as its clients: what may be asked, and what comes."""

from __future__ import annotations

import asyncio
import json
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import loopback_provider
import pytest
from langchain_core.tools import StructuredTool
from loopback_provider import AUDIENCE, CLIENT, LoopbackProvider
from typer.testing import CliRunner, Result
from world import HEAD, World

from zt_agents import current_call
from zt_agents._internal.hidden import Hidden
from zt_agents.cli import app
from zt_agents.errors import (
    ConfigurationError,
    CredentialError,
    IdentityError,
    IdentityProviderError,
    TokenExpiredError,
    TokenInvalidError,
)
from zt_agents.permit import Permit

POLICY = """
tools:
  look: {tier: low, effects: [read]}
  other: {tier: low, effects: [read]}
rules:
  - {id: look, agents: [helpdesk], tools: [look, other], outcome: allow}
"""
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


@pytest.fixture
def idp() -> Iterator[LoopbackProvider]:
    with loopback_provider.running() as provider:
        provider.forms["registration_endpoint"] = registers(provider)
        provider.forms["token_endpoint"] = exchanges(provider)
        yield provider


def registers(idp: LoopbackProvider, **changes: Any) -> loopback_provider.Handler:
    def register(form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if form.get("authorization") != "Bearer initial":
            return 401, {"error": "invalid_token"}
        where = {"registration_client_uri": f"{idp.issuer}/client", "registration_access_token": "rat"}
        given = {"client_id": "agent-1", "client_secret": "unwanted", **where}
        return 201, {**json.loads(form["json"]), **given, **changes}

    return register


def exchanges(idp: LoopbackProvider, **claims: Any) -> loopback_provider.Handler:
    def exchange(form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        said = {"aud": form.get("audience"), "scope": form.get("scope", "everything"), **claims}
        return 200, {"access_token": idp.access_token(**said), "token_type": "Bearer", "expires_in": 60}

    return exchange


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


class Office:
    """A guard whose agent is registered with the provider, and a tool that does what a test wants."""

    def __init__(self, folder: Path, idp: LoopbackProvider) -> None:
        self.idp = idp
        self.body: Callable[[Permit], Any] = lambda call: call.idp_token(audience="tickets")
        section = {
            "issuer": idp.issuer,
            "client_id": CLIENT,
            "audience": AUDIENCE,
            "required": True,
            "exchange": [{"audience": "tickets", "tools": ["look"], "scopes": ["read", "list"]}],
        }

        def look() -> Any:
            call = current_call()
            assert call is not None
            return self.body(call)

        tools = [StructuredTool.from_function(look, name=name, description="Look.") for name in ("look", "other")]
        self.world = World(folder, f"{HEAD}{POLICY}identity_provider: {json.dumps(section)}\n", tools, None)
        self.look, self.other = self.world.guard.protect(tools)
        (folder / "initial").write_text("initial\n")
        self.policy = ["--policy", str(self.world.policy)]
        self.folder = folder / "zt-agents-idp"

    def register(self, *more: str) -> Result:
        initial = self.world.policy.with_name("initial")
        return run("idp", "register", "helpdesk", *self.policy, "--token-file", str(initial), *more)

    def call(self, tool: Any = None, **claims: Any) -> Any:
        user = self.world.guard.user(access_token=self.idp.access_token(**claims))
        with self.world.session(on_behalf_of=user):
            return (tool or self.look).invoke({})


@pytest.fixture
def office(tmp_path: Path, idp: LoopbackProvider) -> Iterator[Office]:
    one = Office(tmp_path, idp)
    assert one.register().exit_code == 0
    yield one
    one.world.guard.close()


def test_a_tool_gets_a_token_for_its_back_end_by_its_agents_own_key(office: Office, idp: LoopbackProvider) -> None:
    office.body = lambda call: call.idp_token(audience="tickets", scopes=["read"])
    claims = jwt.decode(office.call(), options={"verify_signature": False})
    assert (claims["aud"], claims["sub"], claims["scope"]) == ("tickets", "f1f2", "read")
    asked = next(form for name, form in idp.posted if name == "token_endpoint")
    assert (asked["grant_type"], asked["scope"], asked["audience"]) == (EXCHANGE, "read", "tickets")
    registered = json.loads(next(form["json"] for name, form in idp.posted if name == "registration_endpoint"))
    (key,) = registered["jwks"]["keys"]
    assert "d" not in key
    said = jwt.decode(asked["client_assertion"], jwt.PyJWK(key).key, algorithms=["ES256"], audience=idp.issuer)
    assert (said["iss"], said["sub"], said["exp"] - said["iat"]) == ("agent-1", "agent-1", 60)
    assert "client_secret" not in asked


async def test_the_async_twin(office: Office) -> None:
    async def look() -> Any:
        call = current_call()
        assert call is not None
        return await call.aidp_token(audience="tickets")

    guard = office.world.guard
    tool = guard.protect(StructuredTool.from_function(coroutine=look, name="look", description="Look."))
    user = await asyncio.to_thread(guard.user, access_token=office.idp.access_token())
    async with office.world.session(on_behalf_of=user):
        assert jwt.decode(await tool.ainvoke({}), options={"verify_signature": False})["aud"] == "tickets"


def test_only_what_the_policy_names(office: Office, idp: LoopbackProvider) -> None:
    asked = idp.times_asked("token_endpoint")
    with pytest.raises(CredentialError):
        office.call(office.other)
    for wanted in ({"audience": "pay"}, {"audience": "tickets", "scopes": ["read", "admin"]}, {"audience": ""}):
        office.body = lambda call, wanted=wanted: call.idp_token(**wanted)
        with pytest.raises(CredentialError):
            office.call()
    assert idp.times_asked("token_endpoint") == asked


def test_only_while_the_body_runs_and_the_session_is_good(office: Office, idp: LoopbackProvider) -> None:
    held: list[Permit] = []
    office.body = held.append
    with office.world.session(on_behalf_of=office.world.guard.user(access_token=idp.access_token())):
        office.look.invoke({})
        with pytest.raises(CredentialError, match="body is not running"):
            held[0].idp_token(audience="tickets")

    def revoked(call: Permit) -> str:
        assert call.session is not None
        office.world.guard.revoke(call.session)
        return call.idp_token(audience="tickets")

    office.body = revoked
    with pytest.raises(CredentialError, match="no longer good"):
        office.call()


def test_a_session_opened_with_an_id_token_has_nothing_to_exchange(office: Office, idp: LoopbackProvider) -> None:
    user = office.world.guard.user(id_token=idp.id_token(), nonce="n-1")
    with office.world.session(on_behalf_of=user), pytest.raises(CredentialError, match="access token"):
        office.look.invoke({})


BAD = {
    "for another back end": {"aud": "pay"},
    "for two": {"aud": ["tickets", "pay"]},
    "of somebody else": {"sub": "mallory"},
    "for more": {"scope": "read admin"},
    "of another issuer": {"iss": "https://evil.example"},
    "expired": {"exp": 1},
}


@pytest.mark.parametrize("claims", BAD.values(), ids=BAD)
def test_what_comes_back_is_looked_at(office: Office, idp: LoopbackProvider, claims: dict[str, Any]) -> None:
    idp.forms["token_endpoint"] = exchanges(idp, **claims)
    office.body = lambda call: call.idp_token(audience="tickets", scopes=["read"])
    with pytest.raises((TokenInvalidError, TokenExpiredError)):
        office.call()


@pytest.mark.parametrize(
    "answer",
    [
        (400, {"error": "invalid_target", "error_description": "secret of the server"}),
        (200, {"access_token": "x"}),
        (200, {"access_token": "x", "token_type": "DPoP"}),
        (200, {"access_token": 5, "token_type": "Bearer"}),
        (200, {"access_token": "x", "token_type": "Bearer", "expires_in": "60"}),
    ],
    ids=str,
)
def test_a_provider_that_refuses_or_answers_something_else(office: Office, answer: tuple[int, Any]) -> None:
    office.idp.forms["token_endpoint"] = lambda form: answer
    with pytest.raises(IdentityProviderError) as refusal:
        office.call()
    assert "secret" not in str(refusal.value)


# -- registration -----------------------------------------------------------------------------------------------------


def test_a_registration_is_for_its_owner_alone(office: Office, idp: LoopbackProvider) -> None:
    assert stat.S_IMODE(office.folder.stat().st_mode) == 0o700
    for name in ("helpdesk.json", "helpdesk.pem"):
        assert stat.S_IMODE((office.folder / name).stat().st_mode) == 0o600
    assert b"unwanted" not in (office.folder / "helpdesk.json").read_bytes()
    again = office.register()
    assert (again.exit_code, "is registered" in again.output) == (2, True)
    (office.folder / "helpdesk.json").chmod(0o644)
    with pytest.raises(ConfigurationError, match="other users"):
        office.call()
    assert run("idp", "check", "helpdesk", *office.policy).exit_code == 2


def test_an_agent_that_is_not_registered_here_or_elsewhere(office: Office, idp: LoopbackProvider) -> None:
    path = office.folder / "helpdesk.json"
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps({**document, "issuer": "https://evil.example"}))
    with pytest.raises(ConfigurationError, match="another identity provider"):
        office.call()
    for damaged in (b"{}", b"[]", b"", json.dumps({**document, "more": 1}).encode()):
        path.write_bytes(damaged)
        with pytest.raises(ConfigurationError, match="no registration"):
            office.call()
    path.unlink()
    with pytest.raises(ConfigurationError, match="not registered"):
        office.call()
    assert run("idp", "register", "helpdsk", *office.policy).exit_code == 2
    done = run("idp", "register", "helpdesk", *office.policy)
    assert (done.exit_code, "invalid_token" in done.output) == (2, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"token_endpoint_auth_method": "client_secret_basic"},
        {"token_endpoint_auth_method": "none"},
        {"grant_types": ["client_credentials"]},
        {"grant_types": "client_credentials"},
        {"client_id": None},
        {"client_id": ""},
    ],
    ids=str,
)
def test_a_provider_that_registers_something_else(tmp_path: Path, idp: LoopbackProvider, changes: Any) -> None:
    idp.forms["registration_endpoint"] = registers(idp, **changes)
    office = Office(tmp_path, idp)
    assert office.register().exit_code == 2
    assert not (office.folder / "helpdesk.json").exists()
    office.world.guard.close()


@pytest.mark.parametrize("swapped", ["expired", "of another kind", "somebody else's"])
def test_the_users_token_is_verified_again_for_each_exchange(
    office: Office, idp: LoopbackProvider, swapped: str
) -> None:
    tokens = {
        "expired": lambda: idp.access_token(exp=int(time.time()) - 1),
        "of another kind": idp.id_token,
        "somebody else's": lambda: idp.access_token(sub="mallory"),
    }

    def body(call: Permit) -> str:
        assert call.session is not None
        user = call.session.user
        assert user.login is not None
        call.session.user = replace(user, login=replace(user.login, token=Hidden(tokens[swapped]())))
        return call.idp_token(audience="tickets")

    office.body, asked = body, idp.times_asked("token_endpoint")
    with pytest.raises((IdentityError, CredentialError)):
        office.call()
    assert idp.times_asked("token_endpoint") == asked


def test_a_made_up_login_exchanges_nothing(office: Office, idp: LoopbackProvider) -> None:
    user = office.world.guard.user(access_token=idp.access_token())
    assert user.login is not None
    with pytest.raises(TokenInvalidError):
        office.world.session(on_behalf_of=replace(user, login=replace(user.login, token=idp.id_token())))
