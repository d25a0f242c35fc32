"""Bodies that call services with CallTokens: httpx on this side, FastAPI and plain ASGI on the other, over TCP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

import call_token_parts
import httpx
import orjson
import pytest
import uvicorn
from call_bodies import ISSUER, Bodies, permit
from fastapi import Depends, FastAPI
from starlette.responses import JSONResponse, RedirectResponse

from zt_agents.credentials import CallClaims, CallTokenSigner, CallTokenVerifier, prove
from zt_agents.credentials.call_tokens import CALL_TOKEN_TYPE
from zt_agents.errors import ConfigurationError, CredentialError, StoreError
from zt_agents.identity import SigningKey
from zt_agents.integrations.asgi import CALL, CallTokenMiddleware
from zt_agents.integrations.fastapi import require_call
from zt_agents.integrations.httpx import CallAuth

AUDIENCE = "https://tickets.acme.example"


class Broken:
    """Revocations that cannot be looked up."""

    def find(self, bearing: Any, *, now: float) -> None:
        raise StoreError("The disk is gone.")


class Service:
    """A ticket service on a real port: one application of FastAPI, one of plain ASGI below ``/plain``."""

    def __init__(self, keys: dict[str, Any], origin: str = "") -> None:
        self.seen: list[CallClaims] = []
        self.bodies: list[bytes] = []
        self._config = uvicorn.Config(self._app, port=0, log_level="critical", lifespan="off", interface="asgi3")
        self._server = uvicorn.Server(self._config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            self._thread.join(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.origin = f"http://127.0.0.1:{port}"
        self._build(CallTokenVerifier(keys=keys, issuer=ISSUER, audience=AUDIENCE))
        self._broken = CallTokenVerifier(keys=keys, issuer=ISSUER, audience=AUDIENCE, revocations=Broken())

    def _build(self, verifier: CallTokenVerifier) -> None:
        app = FastAPI()

        def ticket(number: int, change: Annotated[dict[str, str], "body"]) -> dict[str, Any]:
            return {"number": number, **change}

        ticket.__annotations__ = {"number": int, "change": dict[str, str]}
        call = Depends(require_call(verifier, tool="update", arguments=ticket, origin=self.origin))

        def update(number: int, change: dict[str, str], claims: CallClaims = call) -> dict[str, Any]:
            self.seen.append(claims)
            return {"number": number, "by": claims.agent_id, "for": claims.user_id}

        update.__annotations__ = {"number": int, "change": dict[str, str], "claims": CallClaims}
        app.patch("/tickets/{number}")(update)
        elsewhere = self.origin.replace("127.0.0.1", "localhost")
        app.patch("/away")(lambda: RedirectResponse(f"{elsewhere}/tickets/5", 307))
        forgetful = Depends(require_call(verifier, tool="update", arguments=lambda: None, origin=self.origin))  # type: ignore[arg-type, return-value]
        app.patch("/forgetful", dependencies=[forgetful])(lambda: None)
        self._fastapi = app

        async def plain(scope: Any, receive: Any, send: Any) -> None:
            body = (await receive())["body"]
            self.bodies.append(body)
            self.seen.append(scope[CALL])
            await JSONResponse({"said": len(body)})(scope, receive, send)

        def arguments(scope: Any, body: bytes) -> dict[str, Any]:
            found: dict[str, Any] = orjson.loads(body)
            return found

        self._plain = CallTokenMiddleware(
            plain, verifier=verifier, tool="update", arguments=arguments, origin=self.origin
        )

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith("/plain"):
            await self._plain(scope, receive, send)
        elif scope["path"] == "/broken":
            guarded = CallTokenMiddleware(self._plain, verifier=self._broken, tool="update", arguments=None)
            await guarded(scope, receive, send)
        else:
            await self._fastapi(scope, receive, send)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bodies]:
    made = Bodies(tmp_path_factory.mktemp("bodies"))
    yield made
    made.world.guard.close()


@pytest.fixture(scope="module")
def running(bodies: Bodies) -> Iterator[Service]:
    made = Service(bodies.world.guard.call_keys)
    yield made
    made.close()


@pytest.fixture
def service(running: Service) -> Service:
    running.seen.clear()
    running.bodies.clear()
    return running


def patch(
    service: Service, path: str = "/tickets/5", content: Any = None, *, raw: bytes = b"", **auth: Any
) -> httpx.Response:
    added = CallAuth(audience=AUDIENCE, origin=service.origin, **auth)
    with httpx.Client(base_url=service.origin, auth=added, trust_env=False) as client:
        content = raw or orjson.dumps({"note": ""} if content is None else content)
        return client.patch(path, content=content, headers={"Content-Type": "application/json"})


def reason(answer: httpx.Response) -> str:
    assert answer.status_code == 401, answer.text
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    return str(found.get("detail", found)["reason"])


def test_a_body_is_let_in_with_the_arguments_that_were_decided_on(bodies: Bodies, service: Service) -> None:
    answer = bodies.run(lambda: patch(service).json())
    assert answer == {"number": 5, "by": "spiffe://acme.example/agent/helpdesk", "for": "alice@acme.example"}
    assert service.seen[0].resource == "ticket/5"


def test_with_other_arguments_it_is_not(bodies: Bodies, service: Service) -> None:
    assert reason(bodies.run(lambda: patch(service, "/tickets/6"))) == "other_arguments"
    assert reason(bodies.run(lambda: patch(service, content={"note": "more"}))) == "other_arguments"
    assert not service.seen


def test_each_request_of_a_body_has_a_token_of_its_own(bodies: Bodies, service: Service) -> None:
    assert bodies.run(lambda: [patch(service).status_code for _ in range(3)]) == [200, 200, 200]
    assert len({claims.token_id for claims in service.seen}) == 3


async def test_async_clients_have_one_too(bodies: Bodies, service: Service) -> None:
    from langchain_core.tools import tool

    @tool
    async def update(number: int, note: str = "") -> int:
        """Update a ticket."""
        auth = CallAuth(audience=AUDIENCE, origin=service.origin)
        async with httpx.AsyncClient(auth=auth, trust_env=False) as client:
            return (await client.patch(f"{service.origin}/tickets/5", json={"note": ""})).status_code

    guarded = bodies.world.guard.protect(update)
    async with bodies.world.session():
        assert await guarded.ainvoke({"number": 5}) == 200


def test_nobody_else_is_let_in(bodies: Bodies, service: Service) -> None:
    url = f"{service.origin}/tickets/5"
    token = bodies.run(lambda: permit().token(audience=AUDIENCE))
    with httpx.Client(trust_env=False) as client:
        def send(*headers: tuple[str, str]) -> httpx.Response:
            return client.patch(url, json={"note": ""}, headers=list(headers))

        assert reason(send()) == "missing"
        assert reason(send(("Authorization", "Basic YTpi"))) == "missing"
        assert reason(send(("Authorization", "Bearer nonsense"))) == "malformed"
        good = ("Authorization", f"Bearer {token}")
        assert reason(send(good, good)) == "malformed"
        assert reason(send(("Authorization", f"DPoP {token}"))) == "dpop_missing"
        assert send(good).status_code == 200
        assert reason(send(good)) == "replayed"


def test_the_answer_says_what_to_bring(bodies: Bodies, service: Service) -> None:
    url = f"{service.origin}/plain"
    with httpx.Client(trust_env=False) as client:
        answer = client.post(url, json={})
        assert answer.headers["www-authenticate"] == "Bearer"
        answer = client.post(url, json={}, headers={"Authorization": "Bearer x"})
        assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_token", error_description=')


def test_plain_asgi_gives_the_body_to_the_application(bodies: Bodies, service: Service) -> None:
    said = {"number": 5, "note": ""}
    assert bodies.run(lambda: patch(service, "/plain", said).json()) == {"said": len(service.bodies[0])}
    assert orjson.loads(service.bodies[0]) == said
    assert reason(bodies.run(lambda: patch(service, "/plain", {**said, "number": 6}))) == "other_arguments"


def test_a_body_that_cannot_be_compared_reaches_nobody(bodies: Bodies, service: Service) -> None:
    assert bodies.run(lambda: patch(service, "/plain", raw=b"{").status_code) == 400
    assert bodies.run(lambda: patch(service, "/plain", {"note": "x" * 1_100_000}).status_code) == 413
    assert not service.bodies


@pytest.mark.parametrize("raw", [b"null", b"[1]", b'"number"', b"false", b"{}"])
def test_a_body_that_states_no_arguments_is_not_for_any(bodies: Bodies, service: Service, raw: bytes) -> None:
    assert reason(bodies.run(lambda: patch(service, "/plain", raw=raw))) == "other_arguments"
    assert reason(bodies.run(lambda: patch(service, "/forgetful"))) == "other_arguments"


def test_what_cannot_be_looked_up_is_not_the_tokens_fault(bodies: Bodies, service: Service) -> None:
    answer = bodies.run(lambda: patch(service, "/broken"))
    assert (answer.status_code, answer.json()["reason"]) == (503, "unavailable")


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
def test_a_token_is_bound_to_a_key(bodies: Bodies, service: Service, algorithm: str) -> None:
    key = SigningKey.generate(algorithm)
    assert bodies.run(lambda: patch(service, dpop_key=key).status_code) == 200
    assert service.seen[0].key_thumbprint == key.thumbprint


@pytest.mark.parametrize("audience", [AUDIENCE, f"{AUDIENCE}/", f"{AUDIENCE}/v1"])
async def test_a_proof_is_for_the_origin_of_a_service_whatever_its_name(audience: str) -> None:
    signer = CallTokenSigner(issuer=call_token_parts.ISSUER, keys=(key := SigningKey.generate()))
    now = call_token_parts.NOW
    claims = replace(call_token_parts.CLAIMS, audience=audience, key_thumbprint=key.thumbprint)
    token = signer.mint(claims, now=now)
    proof = prove(key, method="PATCH", url=f"{AUDIENCE}/v1/5", token=token, now=now)
    verifier = CallTokenVerifier(
        keys=signer.jwks(now), issuer=call_token_parts.ISSUER, audience=audience, clock=lambda: now
    )
    reached: list[Any] = []

    async def app(scope: Any, *_: Any) -> None:
        reached.append(scope[CALL])

    async def nothing(*_: Any) -> Any: ...

    guarded = CallTokenMiddleware(app, verifier=verifier, tool="update_ticket", arguments=None)
    headers = [(b"authorization", f"DPoP {token}".encode()), (b"dpop", proof.encode())]
    scope = {"type": "http", "method": "PATCH", "path": "/v1/5", "raw_path": b"/v1/5", "headers": headers}
    await guarded(scope, nothing, nothing)
    assert reached == [claims]


def test_a_stolen_request_is_worth_nothing(bodies: Bodies, service: Service) -> None:
    key, sent = SigningKey.generate(), list[httpx.Request]()
    bodies.run(lambda: sent.append(patch(service, dpop_key=key).request))
    headers = {name: sent[0].headers[name] for name in ("authorization", "dpop", "content-type")}
    with httpx.Client(trust_env=False) as client:
        again = client.patch(sent[0].url, content=sent[0].content, headers=headers)
        assert reason(again) == "replayed"
        bearer = {**headers, "authorization": headers["authorization"].replace("DPoP", "Bearer")}
        assert reason(client.patch(sent[0].url, content=sent[0].content, headers=bearer)) == "dpop_missing"


def test_a_token_goes_nowhere_else(bodies: Bodies, service: Service) -> None:
    auth = CallAuth(audience=AUDIENCE)

    def elsewhere(url: str) -> None:
        with httpx.Client(auth=auth, trust_env=False) as client:
            client.get(url)

    for url in (service.origin, "https://tickets.acme.example.evil.example", "http://tickets.acme.example"):
        with pytest.raises(CredentialError, match=r"goes elsewhere.*origin="):
            bodies.run(lambda url=url: elsewhere(url))


def test_a_token_is_not_sent_on(bodies: Bodies, service: Service) -> None:
    def follow() -> httpx.Response:
        auth = CallAuth(audience=AUDIENCE, origin=service.origin)
        with httpx.Client(auth=auth, trust_env=False, follow_redirects=True) as client:
            return client.patch(f"{service.origin}/away", json={"note": ""})

    answer = bodies.run(follow)
    assert answer.url.host == "localhost"
    assert reason(answer) == "missing"


class Proxy:
    """An HTTP proxy that keeps what it is sent, and passes nothing on."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                while received := connection.recv(65_536):
                    self.received.append(received)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    made = Proxy()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, made.address)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield made
    made.close()


@pytest.mark.parametrize("before", [False, True], ids=["first", "on a connection that is open"])
async def test_a_token_in_the_clear_goes_to_no_proxy(
    bodies: Bodies, service: Service, proxy: Proxy, before: bool
) -> None:
    auth = CallAuth(audience=AUDIENCE, origin=service.origin)
    url = f"{service.origin}/tickets/5"

    def ask(**options: Any) -> int:
        with httpx.Client(**options) as client:
            if before:
                assert client.get(url).status_code in (200, 405)
            return client.patch(url, json={"note": ""}, auth=auth).status_code

    for options in ({}, {"proxy": proxy.address, "trust_env": False}):
        with pytest.raises(CredentialError, match=r"to a proxy.*trust_env=False"):
            bodies.run(lambda options=options: ask(**options))
    assert bodies.run(lambda: ask(trust_env=False)) == 200

    async def ask_later() -> int:
        async with httpx.AsyncClient() as client:
            if before:
                await client.get(url)
            return (await client.patch(url, json={"note": ""}, auth=auth)).status_code

    with pytest.raises(CredentialError, match="to a proxy"):
        await asyncio.to_thread(bodies.run, lambda: asyncio.run(ask_later()))
    assert b"authorization" not in b"".join(proxy.received).lower()
    assert bool(proxy.received) is before, "it would have been asked"


async def test_what_else_traces_a_request_still_does(bodies: Bodies, service: Service) -> None:
    auth, told = CallAuth(audience=AUDIENCE, origin=service.origin), list[str]()

    def ask() -> int:
        with httpx.Client(auth=auth, trust_env=False) as client:
            trace = {"trace": lambda event, _: told.append(event)}
            return client.patch(f"{service.origin}/tickets/5", json={"note": ""}, extensions=trace).status_code

    assert bodies.run(ask) == 200
    assert "connection.connect_tcp.started" in told


def test_outside_of_a_call_there_is_no_request(service: Service) -> None:
    with pytest.raises(CredentialError, match="no governed call"):
        patch(service)


@pytest.mark.parametrize("audience", ["http://tickets.acme.example", "urn:acme:tickets", "https://user@acme.example"])
def test_tokens_go_over_https_or_stay_on_this_machine(audience: str) -> None:
    with pytest.raises(ConfigurationError):
        CallAuth(audience=audience)


def test_a_certificate_is_compared(bodies: Bodies) -> None:
    from zt_agents.credentials import certificate_thumbprint

    shown = b"a certificate"
    token = bodies.run(
        lambda: permit().token(audience=AUDIENCE, certificate_thumbprint=certificate_thumbprint(shown))
    )
    service = CallTokenVerifier(keys=bodies.world.guard.call_keys, issuer=ISSUER, audience=AUDIENCE)
    said = {"tool": "update", "arguments": {"number": 5, "note": ""}}
    for wrong in (None, b"", b"another certificate"):
        with pytest.raises(CredentialError) as refusal:
            service.verify(token, certificate=wrong, **said)
        assert refusal.value.reason == "certificate_wrong"
    assert service.verify(token, certificate=shown, **said).key_thumbprint == ""


def test_call_keys_are_for_calls_alone(bodies: Bodies) -> None:
    (jwk,) = bodies.world.guard.call_keys["keys"]
    assert "d" not in jwk
    assert CALL_TOKEN_TYPE not in jwk.values()


async def test_a_body_that_is_nested_too_deeply_to_be_read_is_refused() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"[" * 100_000}

    async def never(*_: Any) -> None:
        raise AssertionError("the application was reached")

    verifier = CallTokenVerifier(keys={"keys": []}, issuer=ISSUER, audience=AUDIENCE)
    guarded = CallTokenMiddleware(never, verifier=verifier, tool="update", arguments=lambda _, body: json.loads(body))
    headers = [(b"authorization", b"Bearer x")]
    await guarded({"type": "http", "method": "PUT", "path": "/", "headers": headers}, receive, send)
    assert sent[0]["status"] == 400


async def test_websockets_are_refused() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def never(*_: Any) -> None:
        raise AssertionError("the application was reached")

    verifier = CallTokenVerifier(keys={"keys": []}, issuer=ISSUER, audience=AUDIENCE)
    guarded = CallTokenMiddleware(never, verifier=verifier, tool="update", arguments=None)
    await guarded({"type": "websocket", "path": "/"}, never, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


