"""The issuer over HTTP: what it gives to whom, and what it refuses. Each attack is one that some issuer let through."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import jwt
import pytest
from langchain_core.tools import tool
from typer.testing import CliRunner

from zt_agents import Guard
from zt_agents.cli import app as command_line
from zt_agents.credentials.call_tokens import CALL_TOKEN_TYPE
from zt_agents.credentials.tls import client_context, peer_certificate
from zt_agents.identity import Agent, KeyRing, SigningKey, VerificationKey
from zt_agents.identity.principals import OnChange
from zt_agents.identity.provider.oidc import IdentityProvider
from zt_agents.identity.provider.terms import ProviderTerms
from zt_agents.identity.revocations import Revoked
from zt_agents.identity.signing import client_assertions
from zt_agents.identity.signing.client_assertions import sign_assertion
from zt_agents.identity.signing.key_folder import FolderKeyRing, client_folder
from zt_agents.identity.x509.authority import CertificateAuthority
from zt_agents.identity.x509.certificates import X509Identity
from zt_agents.identity.x509.workload import IssuedIdentity
from zt_agents.issuer.app import ACCESS_TOKEN, JWT_BEARER, TOKEN_EXCHANGE, Issuer
from zt_agents.people import People
from zt_agents.stores.sqlite_audit import SqliteAuditSink
from zt_agents.testing import write_policy

URL = "https://issuer.acme.example"
POLICY = """
version: 1
trust_domain: acme.example
environment: test
keys: {rotate: 30d}
agents:
  helpdesk: {id: spiffe://acme.example/agent/helpdesk, version: "1", owner: dana@acme.example, purpose: tests,
    delegates: [research]}
  research: {id: spiffe://acme.example/agent/research, version: "1", owner: dana@acme.example, purpose: tests,
    delegates: [writer]}
  writer: {id: spiffe://acme.example/agent/writer, version: "1", owner: dana@acme.example, purpose: tests}
  night: {id: spiffe://acme.example/agent/night, version: "1", owner: dana@acme.example, purpose: t, status: suspended}
tools:
  read_ticket: {tier: low, effects: [read], resource: "ticket/{args.ticket_id}"}
rules:
  - {id: read, agents: [helpdesk, research, writer], tools: [read_ticket], outcome: allow}
"""


@tool
def read_ticket(ticket_id: int) -> str:
    """Read one ticket of the helpdesk."""
    return "open"


def agent_id(name: str) -> str:
    return f"spiffe://acme.example/agent/{name}"


class World:
    """A guard, its issuer, and agents with keys."""

    def __init__(self, folder: Path) -> None:
        self.policy = write_policy(folder, POLICY, [read_ticket])
        self.guard = Guard.from_config(self.policy)
        self.keys = folder / "zt-agents-keys"
        self.rings = {name: self.ring(name) for name in ("helpdesk", "research", "writer", "night")}
        self.rings["tickets"] = self.ring("tickets", service=True)
        self.issuer = Issuer(self.guard, url=URL)
        self.app = self.issuer.application()
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=URL)
        session = self.guard.session(agent="helpdesk", on_behalf_of="alice@acme.example")
        self.session, self.token = session, session.token

    def ring(self, name: str, *, service: bool = False) -> FolderKeyRing:
        ring = FolderKeyRing(client_folder(self.keys, name, service=service))
        ring.create(self.guard.clock(), root=False)
        return ring

    def assertion(self, name: str, **changes: Any) -> str:
        now = self.guard.clock()
        client = name if name == "tickets" else agent_id(name)
        said = {"client": client, "audience": URL, "now": now, **changes}
        return sign_assertion(self.rings[name].current(now), **said)

    async def ask(self, path: str, client: str, **form: Any) -> httpx.Response:
        said = {"client_assertion_type": JWT_BEARER, "client_assertion": self.assertion(client), **form}
        return await self.http.post(path, data={name: value for name, value in said.items() if value is not None})

    async def exchange(self, client: str = "research", **form: Any) -> httpx.Response:
        said = {"grant_type": TOKEN_EXCHANGE, "subject_token": self.token, "subject_token_type": ACCESS_TOKEN}
        return await self.ask("/token", client, **{**said, **form})


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await made.http.aclose()
    made.issuer.close()
    made.guard.close()


def details(**scope: Any) -> str:
    return json.dumps([{"type": "zt_agents_task_scope", **scope}])


# -- what is anybody's -------------------------------------------------------------------------------------------------


async def test_metadata_says_where_everything_is(world: World) -> None:
    for path in ("openid-configuration", "oauth-authorization-server"):
        said = (await world.http.get(f"/.well-known/{path}")).json()
        assert said["issuer"] == world.guard.issuer.issuer
        assert said["jwks_uri"] == f"{URL}/jwks"
        assert said["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]


async def test_keys_are_public_ones_of_sessions_and_calls_and_follow_a_rotation(world: World) -> None:
    async def names() -> set[str]:
        keys = (await world.http.get("/jwks")).json()["keys"]
        assert all(set(key) <= {"kty", "crv", "x", "y", "kid", "alg", "use"} for key in keys)
        return {VerificationKey.from_jwk(key).kid for key in keys}

    before = await names()
    ring, now = KeyRing.in_folder(world.keys), world.guard.clock()
    assert before == {ring.current(now).thumbprint, ring.for_kind(CALL_TOKEN_TYPE).current(now).thumbprint}
    ring.rotate(now)
    assert len(await names() - before) == 2


# -- exchange ----------------------------------------------------------------------------------------------------------


async def test_an_agent_gets_a_token_for_a_task_that_was_handed_on(world: World) -> None:
    answer = await world.exchange(authorization_details=details(tools=["read_ticket"], resources=["ticket/5"]))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    said = answer.json()
    claims = world.guard.issuer.verify(said["access_token"], now=world.guard.clock())
    assert [actor.agent_id for actor in claims.actors] == [agent_id("research"), agent_id("helpdesk")]
    assert claims.user_id == "alice@acme.example"
    assert claims.expires_at <= world.session.claims.expires_at
    assert said["issued_token_type"] == ACCESS_TOKEN
    assert said["authorization_details"][0]["resources"] == ["ticket/5"]
    with SqliteAuditSink(world.guard.policy.audit_path).snapshot() as snapshot:
        (change,) = [record["change"] for record in snapshot.read() if record["kind"] == "change"]
    assert (change["what"], change["session"]) == ("delegation.made", claims.session_id)
    assert said["access_token"] not in json.dumps(change)


async def test_a_chain_narrows_and_never_widens(world: World) -> None:
    narrow = details(tools=["read_ticket"], resources=["ticket/5"])
    inner = (await world.exchange(authorization_details=narrow)).json()["access_token"]
    for wider in (details(resources=["ticket/*"]), details(resources=["ticket/5", "ticket/6"]), details(tools=["x"])):
        refused = await world.exchange("writer", subject_token=inner, authorization_details=wider)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_authorization_details")
    kept = (await world.exchange("writer", subject_token=inner)).json()
    assert kept["authorization_details"] == json.loads(narrow)


async def test_only_those_whom_the_policy_names_go_on(world: World) -> None:
    refused = await world.exchange("writer")
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")
    assert "may not delegate" in refused.json()["error_description"]
    mine = await world.exchange("helpdesk")
    assert mine.status_code == 400


async def test_what_was_revoked_or_suspended_is_not_exchanged(world: World) -> None:
    inner = (await world.exchange()).json()["access_token"]
    world.guard.registry.suspend("helpdesk")
    assert (await world.exchange()).status_code == 400
    assert (await world.exchange("writer", subject_token=inner)).status_code == 400
    world.guard.registry.resume("helpdesk")
    assert (await world.exchange("writer", subject_token=inner)).status_code == 200
    world.guard.revocations.revoke(
        Revoked.USER, "alice@acme.example", by="dana@acme.example", why="", now=world.guard.clock()
    )
    assert (await world.exchange("writer", subject_token=inner)).status_code == 400


async def test_who_was_revoked_gets_nothing_handed_on(world: World) -> None:
    assert (await world.exchange()).status_code == 200
    world.guard.revocations.revoke(
        Revoked.AGENT, agent_id("research"), by="dana@acme.example", why="", now=world.guard.clock()
    )
    assert (await world.exchange()).status_code == 400


async def test_who_waits_to_be_looked_at_gets_nothing_handed_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    active = world.guard.registry.active

    def changed(id_: str) -> Agent:
        review = OnChange.DENY if id_ == agent_id("research") else None
        return replace(active(id_), under_review=review)

    monkeypatch.setattr(world.guard.registry, "active", changed)
    refused = await world.exchange()
    assert (refused.status_code, "waits for somebody" in refused.text) == (400, True)


async def test_where_a_login_is_required_a_token_without_one_is_neither_exchanged_nor_active(world: World) -> None:
    terms = ProviderTerms(issuer="https://login.acme.example", client_id="desk", required=True)
    world.guard.people = People(IdentityProvider(terms))
    assert (await world.exchange()).status_code == 400
    assert (await world.ask("/introspect", "tickets", token=world.token)).json() == {"active": False}


UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
    ({"grant_type": None}, "unsupported_grant_type"),
    ({"subject_token": None}, "invalid_request"),
    ({"subject_token": "a.b.c"}, "invalid_request"),
    ({"subject_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"),
    ({"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"),
    ({"actor_token": "a.b.c"}, "invalid_request"),
    ({"audience": "https://evil.example"}, "invalid_target"),
    ({"resource": "https://evil.example"}, "invalid_target"),
    ({"scope": "everything"}, "invalid_scope"),
    ({"authorization_details": "[]"}, "invalid_authorization_details"),
    ({"authorization_details": "{"}, "invalid_authorization_details"),
    ({"authorization_details": '[{"type": "other"}]'}, "invalid_authorization_details"),
    ({"authorization_details": "[" * 10_000}, "invalid_authorization_details"),
]


async def test_what_is_not_asked_as_it_is_asked_is_refused(world: World) -> None:
    for form, error in UNFIT:
        refused = await world.exchange(**form)
        assert (refused.status_code, refused.json()["error"]) == (400, error), form
        assert world.token not in refused.text


async def test_a_token_of_another_kind_or_key_is_not_exchanged(world: World) -> None:
    claims = jwt.decode(world.token, options={"verify_signature": False})
    ring, now = KeyRing.in_folder(world.keys), world.guard.clock()
    for key, kind in (
        (ring.for_kind(CALL_TOKEN_TYPE).current(now), "at+jwt"),
        (ring.current(now), CALL_TOKEN_TYPE),
        (ring.root, "at+jwt"),
        (world.rings["helpdesk"].current(now), "at+jwt"),
    ):
        forged = jwt.encode(claims, key.private, algorithm="ES256", headers={"typ": kind, "kid": key.thumbprint})
        assert (await world.exchange(subject_token=forged)).json()["error"] == "invalid_request"


# -- who asks ----------------------------------------------------------------------------------------------------------


async def test_an_assertion_is_used_once(world: World) -> None:
    assertion = world.assertion("research")
    first, second = [await world.exchange(client_assertion=assertion) for _ in range(2)]
    assert (first.status_code, second.status_code) == (200, 401)
    assert second.json()["error"] == "invalid_client"
    shown = await asyncio.gather(*(world.exchange(client_assertion=world.assertion("research")) for _ in range(5)))
    assert [each.status_code for each in shown] == [200] * 5


async def test_a_client_is_who_has_the_key(world: World) -> None:
    now = world.guard.clock()
    helpdesk = world.rings["helpdesk"].current(now)
    in_another_name = sign_assertion(helpdesk, client=agent_id("research"), audience=URL, now=now)
    for bad in (
        in_another_name,
        world.assertion("research", audience="https://evil.example"),
        world.assertion("research", now=now - 120),
        world.assertion("research", now=now + 120),
        world.assertion("night"),
        sign_assertion(helpdesk, client=agent_id("nobody"), audience=URL, now=now),
        sign_assertion(helpdesk, client="../agents/helpdesk", audience=URL, now=now),
        sign_assertion(helpdesk, client="..", audience=URL, now=now),
        world.token,
        "",
    ):
        refused = await world.exchange(client_assertion=bad)
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert (await world.exchange(client_assertion=None)).status_code == 401
    assert (await world.exchange(client_assertion_type="urn:other")).status_code == 401
    assert (await world.exchange(client_id=agent_id("helpdesk"))).status_code == 401
    assert (await world.exchange(client_id=agent_id("research"))).status_code == 200


async def test_a_rotated_key_of_an_agent_is_known_at_once_and_a_withdrawn_one_no_more(world: World) -> None:
    now = world.guard.clock()
    stolen = world.rings["research"].current(now)
    assert (await world.exchange()).status_code == 200
    world.rings["research"].rotate(now, withdraw=True)
    await asyncio.sleep(0.011)
    assert (await world.exchange()).status_code == 200
    old = sign_assertion(stolen, client=agent_id("research"), audience=URL, now=now)
    assert (await world.exchange(client_assertion=old)).status_code == 401


@pytest.mark.parametrize("published", [False, True], ids=["a ring", "public keys"])
@pytest.mark.parametrize("taken", [True, False], ids=["all taken away", "none listed"])
async def test_keys_that_were_taken_away_prove_nothing_from_then_on(world: World, published: bool, taken: bool) -> None:
    now, folder = world.guard.clock(), client_folder(world.keys, "research")
    kept = world.rings["research"].current(now)
    if published:
        (folder / "jwks.json").write_text(json.dumps(world.rings["research"].jwks(now)))
    world.rings["research"] = world.rings["helpdesk"]

    async def status() -> int:
        shown = sign_assertion(kept, client=agent_id("research"), audience=URL, now=now)
        return (await world.exchange(client_assertion=shown)).status_code

    assert await status() == 200
    if taken:
        shutil.rmtree(folder)
    else:
        (folder / "jwks.json").write_text('{"keys": []}')
    assert await status() == 401


async def test_an_assertion_is_used_once_by_all_workers_and_across_restarts(world: World) -> None:
    used = world.assertion("research")
    assert (await world.exchange(client_assertion=used)).status_code == 200
    other = Issuer(world.guard, url=URL)  # remembers nothing itself
    async with httpx.AsyncClient(transport=httpx.ASGITransport(other.application()), base_url=URL) as http:
        first, world.http = world.http, http
        assert (await world.exchange(client_assertion=used)).status_code == 401
        assert (await world.exchange(client_assertion=(late := world.assertion("research")))).status_code == 200
        world.http = first
    other.close()
    world.issuer.close()
    assert (await world.exchange(client_assertion=late)).status_code == 401
    assert (world.keys / "admitted.db").stat().st_mode & 0o077 == 0


async def test_where_it_cannot_be_remembered_nothing_is_admitted(world: World) -> None:
    (world.keys / "admitted.db").write_bytes(b"no database" * 1_000)
    assert (await world.exchange()).status_code == 503


async def test_what_was_admitted_is_not_forgotten_with_the_file(world: World) -> None:
    assert (await world.exchange()).status_code == 200
    for place in world.keys.glob("admitted.db*"):
        place.unlink()
    assert [(await world.exchange()).status_code for _ in range(3)] == [503] * 3


async def test_a_name_that_nobody_remembers_is_refused(world: World) -> None:
    now, name = world.guard.clock(), agent_id("research")
    key = world.rings["research"].current(now)
    claims = {"iss": name, "sub": name, "aud": URL, "exp": int(now) + 30, "jti": "j" * 300}
    long = jwt.encode(claims, key.private, algorithm="ES256", headers={"kid": key.thumbprint})
    assert (await world.exchange(client_assertion=long)).status_code == 401


async def test_an_agents_public_keys_alone_will_do(world: World) -> None:
    folder = client_folder(world.keys, "writer")
    (folder / "jwks.json").write_text(json.dumps(world.rings["writer"].jwks(world.guard.clock())))
    for path in (*folder.glob("*.pem"), folder / "keys.json"):
        path.rename(world.keys.parent / path.name)
    inner = (await world.exchange()).json()["access_token"]
    assertion = sign_assertion(
        SigningKey.from_file(next(world.keys.parent.glob("*.pem"))),
        client=agent_id("writer"), audience=URL, now=world.guard.clock(),
    )  # fmt: skip
    world.rings["writer"] = world.rings["helpdesk"]
    assert (await world.exchange("writer", subject_token=inner, client_assertion=assertion)).status_code == 200


@pytest.mark.parametrize("published", [False, True], ids=["a ring", "public keys"])
@pytest.mark.parametrize("widened", ["its folder", "the file", "the folder above"])
async def test_keys_that_others_can_change_or_reach_prove_nothing_from_then_on(
    world: World, capsys: pytest.CaptureFixture[str], published: bool, widened: str
) -> None:
    folder = client_folder(world.keys, "research")
    named = folder / ("jwks.json" if published else "keys.json")
    if published:
        named.write_text(json.dumps(world.rings["research"].jwks(world.guard.clock())))
        named.chmod(0o644)
    key = world.rings["research"].current(world.guard.clock())

    async def ask() -> httpx.Response:  # by who has the key, and looks at no folder
        shown = sign_assertion(key, client=agent_id("research"), audience=URL, now=world.guard.clock())
        form = {"subject_token": world.token, "subject_token_type": ACCESS_TOKEN, "grant_type": TOKEN_EXCHANGE}
        said = {"client_assertion_type": JWT_BEARER, "client_assertion": shown, **form}
        return await world.http.post("/token", data=said)

    assert (await ask()).status_code == 200
    place = {"its folder": folder, "the file": named, "the folder above": folder.parent}[widened]
    before = place.stat().st_mode
    for mode in (0o020, 0o002) if published or place == folder.parent else (0o040, 0o001, 0o020):
        place.chmod(before | mode)
        refused = await ask()
        assert (refused.status_code, str(folder) in refused.text) == (503, False)
        assert f"{place} is a link" in capsys.readouterr().err
        assert (await world.exchange("tickets")).status_code == 400, "others are not kept out"
    place.chmod(before)
    assert (await ask()).status_code == 200


async def test_a_link_to_keys_is_none(world: World, tmp_path: Path) -> None:
    folder, assertion = client_folder(world.keys, "research"), world.assertion("research")
    world.rings["research"] = world.rings["helpdesk"]
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert (await world.exchange(client_assertion=assertion)).status_code == 503


async def test_nonsense_costs_no_signature(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[Any] = []
    real = client_assertions.jws.verified
    monkeypatch.setattr(
        client_assertions.jws, "verified", lambda *args, **named: verified.append(args) or real(*args, **named)
    )
    now = world.guard.clock()
    helpdesk = world.rings["helpdesk"].current(now)
    for cheap in (
        "",
        "a.b.c",
        world.token,
        world.assertion("research", audience="https://evil.example"),
        world.assertion("research", now=now - 120),
        world.assertion("research", now=now + 120),
        world.assertion("night"),
        sign_assertion(helpdesk, client=agent_id("research"), audience=URL, now=now),
    ):
        assert (await world.exchange(client_assertion=cheap)).status_code == 401
    assert verified == []
    forged = world.assertion("research")[:-4] + "AAAA"
    assert (await world.exchange(client_assertion=forged)).status_code == 401
    assert len(verified) == 1


async def test_who_fails_too_often_waits_and_keeps_nobody_out(world: World) -> None:
    bad = [(await world.exchange(client_assertion=world.assertion("research", audience="x"))) for _ in range(25)]
    assert bad[0].status_code == 401
    assert bad[-1].status_code == 429
    assert int(bad[-1].headers["retry-after"]) >= 1
    assert (await world.exchange()).status_code == 200


# -- introspection and revocation --------------------------------------------------------------------------------------


async def test_who_proves_itself_may_ask_what_a_token_says(world: World) -> None:
    said = (await world.ask("/introspect", "tickets", token=world.token)).json()
    assert said["active"] is True
    assert said["sub"] == "alice@acme.example"
    assert said["client_id"] == agent_id("helpdesk")
    stranger = await world.http.post("/introspect", data={"token": world.token})
    assert stranger.status_code == 401
    assert "active" not in stranger.json()


async def test_a_token_that_is_not_good_is_not_active_and_that_is_all(world: World) -> None:
    for token in ("", "a.b.c", world.token[:-4] + "AAAA"):
        assert (await world.ask("/introspect", "tickets", token=token)).json() == {"active": False}
    world.guard.registry.suspend("helpdesk")
    assert (await world.ask("/introspect", "tickets", token=world.token)).json() == {"active": False}


async def test_an_agent_revokes_its_own_session_and_what_came_of_it(world: World) -> None:
    inner = (await world.exchange()).json()["access_token"]
    assert (await world.ask("/revoke", "writer", token=inner)).json()["error"] == "unauthorized_client"
    assert (await world.ask("/revoke", "tickets", token=inner)).status_code == 400
    assert (await world.ask("/introspect", "tickets", token=inner)).json()["active"] is True
    assert (await world.ask("/revoke", "helpdesk", token=inner)).status_code == 200
    assert (await world.ask("/introspect", "tickets", token=inner)).json() == {"active": False}
    assert (await world.ask("/introspect", "tickets", token=world.token)).json()["active"] is True
    again = (await world.exchange()).json()["access_token"]
    assert (await world.ask("/revoke", "helpdesk", token=world.token)).status_code == 200
    assert (await world.ask("/introspect", "tickets", token=again)).json() == {"active": False}
    assert (await world.ask("/revoke", "helpdesk", token="a.b.c")).status_code == 200


async def test_a_service_gets_no_token(world: World) -> None:
    refused = await world.exchange("tickets")
    assert refused.json()["error"] == "unauthorized_client"


# -- the shape of requests ---------------------------------------------------------------------------------------------


async def test_requests_have_a_size_and_a_shape(world: World) -> None:
    async def post(content: bytes, kind: str = "application/x-www-form-urlencoded") -> int:
        return (await world.http.post("/token", content=content, headers={"content-type": kind})).status_code

    assert await post(b"token=" + b"a" * 70_000) == 413
    assert await post(b"{}", "application/json") == 415
    assert await post(b"\xff\xfe=1") == 400
    assert await post(b"grant_type") == 400
    assert await post(b"&".join(b"a%d=1" % n for n in range(100))) == 400
    twice = urlencode({"client_assertion_type": JWT_BEARER, "client_assertion": world.assertion("research")})
    whole = {"grant_type": TOKEN_EXCHANGE, "subject_token": world.token, "subject_token_type": ACCESS_TOKEN}
    assert await post(f"{twice}&{urlencode(whole)}&grant_type={TOKEN_EXCHANGE}".encode()) == 400
    assert await post(f"{twice}&{urlencode(whole)}".encode()) == 200
    for path in ("/", "/docs", "/openapi.json", "/token/", "/.well-known/x"):
        answer = await world.http.get(path)
        assert answer.status_code == 404
        assert "issuer" not in answer.text
    assert (await world.http.get("/token")).status_code == 405


async def test_a_request_that_does_not_come_whole_holds_nothing_and_is_not_logged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zt_agents.issuer.app._BODY_TIME", 0.05)

    async def dripping() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(30)

    form = {"content-type": "application/x-www-form-urlencoded"}
    began = time.monotonic()
    answer = await world.http.post("/token", content=dripping(), headers=form)
    assert (answer.status_code, answer.headers["connection"]) == (408, "close")
    assert time.monotonic() - began < 5

    async def hung_up() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    headers = [(b"content-type", form["content-type"].encode())]
    scope = {"type": "http", "method": "POST", "path": "/token", "headers": headers, "query_string": b""}
    await world.app(scope, hung_up, send)  # type: ignore[arg-type]


async def test_without_its_keys_the_issuer_says_that_it_cannot_and_why_to_its_operator_alone(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.keys.chmod(0o755)
    refused = await world.exchange()
    assert refused.status_code in (401, 503)
    assert (await world.http.get("/jwks")).status_code == 503
    assert str(world.keys) not in refused.text
    assert "other users can reach it" in capsys.readouterr().err


# -- the command -------------------------------------------------------------------------------------------------------


@contextmanager
def serving(tmp_path: Path, *arguments: str) -> Iterator[tuple[Path, str]]:
    policy = write_policy(tmp_path, POLICY, [read_ticket])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = "from zt_agents.cli import main; main()"
    command = [sys.executable, "-c", program, "issuer", "serve", "--policy", str(policy), "--port", str(port)]
    command += arguments
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "Issuer: " in process.stdout.readline()
            _wait_for(port)
            yield policy, f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    with serving(tmp_path) as found:
        yield found


def test_the_command_serves_keys(served: tuple[Path, str]) -> None:
    policy, url = served
    keys = httpx.get(f"{url}/jwks", timeout=5).json()["keys"]
    printed = CliRunner().invoke(command_line, ["keys", "jwks", "--policy", str(policy)])
    assert json.loads(printed.output)["keys"] == keys


def _written(folder: Path, identity: X509Identity) -> tuple[Path, Path]:
    certificate, key = folder / "issuer.crt", folder / "issuer.key"
    for place, content in ((key, identity.key_pem()), (certificate, identity.chain_pem)):
        new = place.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_bytes(content)
        new.replace(place)
    return certificate, key


def test_the_command_serves_by_tls_with_a_certificate_that_is_renewed(tmp_path: Path) -> None:
    authority = CertificateAuthority.new("acme.example", now=time.time())
    me, service = IssuedIdentity(authority, agent_id("helpdesk")), "spiffe://acme.example/service/issuer"
    certificate, key = _written(tmp_path, authority.issue(service, now=time.time()))
    more = ("--tls-certificate", str(certificate), "--tls-key", str(key), "--host", "0.0.0.0")
    with serving(tmp_path, *more) as (_, url):
        port = int(url.rpartition(":")[2])
        url = f"https://127.0.0.1:{port}"

        def ask(expects: str) -> httpx.Response:
            with httpx.Client(verify=client_context(me, expects=expects), trust_env=False, timeout=10) as http:
                return http.get(f"{url}/jwks")

        def shown() -> bytes:
            context = client_context(me, expects=service)
            plain = socket.create_connection(("127.0.0.1", port), timeout=10)
            with context.wrap_socket(plain) as connection:
                return peer_certificate(connection)

        assert len(ask(service).json()["keys"]) == 2
        with pytest.raises(httpx.ConnectError, match="not expected"):
            ask("spiffe://acme.example/service/other")
        with pytest.raises(httpx.TransportError):  # nobody is answered in the clear
            httpx.get(url.replace("https", "http") + "/jwks", trust_env=False, timeout=10)
        with pytest.raises(httpx.ConnectError, match="certificate"):  # nor believed by who trusts somebody else
            httpx.get(f"{url}/jwks", trust_env=False, timeout=10)
        first = shown()
        _written(tmp_path, authority.issue(service, now=time.time()))
        assert shown() != first


def test_a_key_that_others_can_read_serves_nobody(tmp_path: Path) -> None:
    authority = CertificateAuthority.new("acme.example", now=time.time())
    certificate, key = _written(tmp_path, authority.issue("spiffe://acme.example/service/issuer", now=time.time()))
    policy = write_policy(tmp_path, POLICY, [read_ticket])
    files = ["--tls-certificate", str(certificate), "--tls-key", str(key)]
    arguments = ["issuer", "serve", "--policy", str(policy), *files]
    key.chmod(0o644)
    result = CliRunner().invoke(command_line, arguments)
    assert (result.exit_code, "can be read by other users" in result.output) == (2, True)
    key.chmod(0o600)
    for broken in (b"", b"nonsense", SigningKey.generate().pem):
        key.write_bytes(broken)
        result = CliRunner().invoke(command_line, arguments)
        assert (result.exit_code, "no certificate and its key" in result.output) == (2, True)


@pytest.mark.parametrize(
    "arguments", [("--host", "0.0.0.0"), ("--host", "::"), ("--tls-key", "x.pem"), ("--host", "10.0.0.1")]
)
def test_tokens_are_not_served_to_other_machines_in_the_clear(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    policy = write_policy(tmp_path, POLICY, [read_ticket])
    result = CliRunner().invoke(command_line, ["issuer", "serve", "--policy", str(policy), *arguments])
    assert result.exit_code == 2
    assert "TLS" in result.output


def test_an_issuer_needs_keys_that_guards_share(tmp_path: Path) -> None:
    policy = write_policy(tmp_path, POLICY.replace("keys: {rotate: 30d}\n", ""), [read_ticket])
    result = CliRunner().invoke(command_line, ["issuer", "serve", "--policy", str(policy)])
    assert result.exit_code == 2
    assert "keys: {rotate: 30d}" in result.output
