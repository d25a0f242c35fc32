"""A call's token that is good only over the connection of the agent it was made for: mutual TLS, on uvicorn."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from call_bodies import ISSUER, TICKETS, Bodies, permit

from zt_agents.credentials import CallTokenVerifier
from zt_agents.credentials.tls import certificate_thumbprint, client_context, server_context
from zt_agents.errors import CertificateRefusedError, ConfigurationError
from zt_agents.identity import SigningKey
from zt_agents.identity.x509.authority import CertificateAuthority
from zt_agents.identity.x509.workload import IssuedIdentity
from zt_agents.integrations.asgi import CallTokenMiddleware
from zt_agents.integrations.httpx import CallAuth
from zt_agents.integrations.uvicorn import ClientCertificates, client_certificate

AGENT, OTHER = "spiffe://acme.example/agent/helpdesk", "spiffe://acme.example/agent/other"
SERVICE = "spiffe://acme.example/service/tickets"


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"updated"})


class Service:
    """A service on loopback that admits two agents, and only tokens that are bound to a certificate."""

    def __init__(self, bodies: Bodies, authority: CertificateAuthority) -> None:
        verifier = CallTokenVerifier(keys=bodies.world.guard.call_keys, issuer=ISSUER, audience=TICKETS, bound=True)
        guarded = CallTokenMiddleware(
            app, verifier=verifier, tool="update", arguments=None, certificate=client_certificate
        )
        context = server_context(IssuedIdentity(authority, SERVICE), admits=[AGENT, OTHER])
        config = uvicorn.Config(
            guarded,
            http=ClientCertificates,
            lifespan="off",
            log_config=None,
            ssl_context_factory=lambda config, default: context,
        )
        self.server = uvicorn.Server(config)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})

    def __enter__(self) -> str:
        self.thread.start()
        deadline = time.monotonic() + 10
        while not self.server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return f"https://127.0.0.1:{self.socket.getsockname()[1]}/"

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        self.socket.close()


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority.new("acme.example", now=time.time() - 7200)


@pytest.fixture
def bodies(tmp_path: Path) -> Iterator[Bodies]:
    made = Bodies(tmp_path)
    with made.world.guard:
        yield made


def test_a_token_is_good_over_the_connection_it_is_bound_to_and_no_other(
    bodies: Bodies, authority: CertificateAuthority
) -> None:
    me, other = IssuedIdentity(authority, AGENT), IssuedIdentity(authority, OTHER)

    def ask(url: str, identity: IssuedIdentity, bound_to: str) -> tuple[int, str]:
        token = permit().token(audience=TICKETS, certificate_thumbprint=bound_to)
        with httpx.Client(verify=client_context(identity, expects=SERVICE), timeout=10, trust_env=False) as client:
            answer = client.post(url, headers={"Authorization": f"Bearer {token}"})
        return answer.status_code, "" if answer.is_success else answer.json()["reason"]

    mine = certificate_thumbprint(me.svid().certificate)
    with Service(bodies, authority) as url:
        assert bodies.run(lambda: ask(url, me, mine)) == (200, "")
        assert bodies.run(lambda: ask(url, other, mine)) == (401, "certificate_wrong")  # stolen by another agent
        assert bodies.run(lambda: ask(url, me, "")) == (401, "unbound")


def test_a_renewed_certificate_needs_no_new_client(bodies: Bodies, authority: CertificateAuthority) -> None:
    now = [time.time() - 1850]
    me = IssuedIdentity(authority, AGENT, clock=lambda: now[0])
    shown = set[str]()

    def twice(client: httpx.Client, url: str) -> list[int]:
        return [client.post(url).status_code for _ in range(2)]

    with Service(bodies, authority) as url:
        context = client_context(me, expects=SERVICE)
        renewing = CallAuth(audience=TICKETS, origin=url.rstrip("/"), certificate=me)
        fixed = CallAuth(
            audience=TICKETS,
            origin=url.rstrip("/"),
            certificate_thumbprint=certificate_thumbprint(me.svid().certificate),
        )
        with httpx.Client(verify=context, timeout=10, trust_env=False) as client:
            for _ in range(2):
                client.auth = renewing
                assert bodies.run(lambda: twice(client, url)) == [200, 200]
                shown.add(certificate_thumbprint(me.svid().certificate))
                now[0] = time.time()  # more than half of its life has passed
            client.auth = fixed
            assert bodies.run(lambda: twice(client, url)) == [401, 401]
    assert len(shown) == 2


def test_one_that_is_renewed_in_between_is_asked_for_again(bodies: Bodies, authority: CertificateAuthority) -> None:
    now = [time.time() - 1850]
    me = IssuedIdentity(authority, AGENT, clock=lambda: now[0])

    class Late(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if not asked:
                now[0] = time.time()  # after the token was made, and before the connection
            asked.append(request.headers["Authorization"])
            return super().handle_request(request)

    asked = list[str]()
    with Service(bodies, authority) as url:
        auth = CallAuth(audience=TICKETS, origin=url.rstrip("/"), certificate=me)
        with httpx.Client(transport=Late(verify=client_context(me, expects=SERVICE)), auth=auth, timeout=10) as client:
            assert bodies.run(lambda: client.post(url).status_code) == 200
    assert len(set(asked)) == 2


def test_a_token_is_bound_to_one_thing(authority: CertificateAuthority) -> None:
    me = IssuedIdentity(authority, AGENT)
    for more in ({"certificate_thumbprint": "x"}, {"dpop_key": SigningKey.generate()}):
        with pytest.raises(ConfigurationError, match="to a key or to a certificate"):
            CallAuth(audience=TICKETS, certificate=me, **more)  # type: ignore[arg-type]


def test_a_server_that_says_nothing_of_certificates_is_found_out() -> None:
    with pytest.raises(CertificateRefusedError, match="does not say"):
        client_certificate({"type": "http", "state": {}})
    assert client_certificate({"type": "http", "state": {"zt_agents.client_certificate": None}}) is None
