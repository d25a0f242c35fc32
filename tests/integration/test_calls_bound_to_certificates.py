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
from zt_agents.errors import CertificateRefusedError
from zt_agents.identity.x509.authority import CertificateAuthority
from zt_agents.identity.x509.workload import IssuedIdentity
from zt_agents.integrations.asgi import CallTokenMiddleware
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
    return CertificateAuthority.new("acme.example", now=time.time())


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


def test_a_server_that_says_nothing_of_certificates_is_found_out() -> None:
    with pytest.raises(CertificateRefusedError, match="does not say"):
        client_certificate({"type": "http", "state": {}})
    assert client_certificate({"type": "http", "state": {"zt_agents.client_certificate": None}}) is None
