"""A tool's body, over mutual TLS, to a back end that admits one agent: real sockets, real handshakes."""

from __future__ import annotations

import asyncio
import http.server
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from forged_certificates import AGENT, AUTHORITY, Made, Recipe, make
from langchain_core.tools import tool
from serving import QuietHandler, serving
from world import HEAD, World

from zt_agents.credentials.tls import certificate_thumbprint, client_context, peer_certificate, server_context
from zt_agents.errors import CertificateRefusedError, IdentityError
from zt_agents.identity.x509.authority import CertificateAuthority
from zt_agents.identity.x509.certificates import TrustBundle, X509Identity
from zt_agents.identity.x509.workload import IssuedIdentity, WorkloadIdentity

OTHER = "spiffe://acme.example/agent/other"
TICKETS = "spiffe://acme.example/service/tickets"
POLICY = (
    HEAD
    + """
tools:
  read_ticket: {tier: low, effects: [read]}
rules:
  - {id: read, agents: [helpdesk], tools: [read_ticket], outcome: allow}
"""
)


class Held:
    """A certificate and a bundle that stay as they are, good or bad."""

    def __init__(self, svid: X509Identity, bundle: TrustBundle) -> None:
        self._svid, self._bundle = svid, bundle

    def svid(self) -> X509Identity:
        return self._svid

    def bundle(self) -> TrustBundle:
        return self._bundle


class BackEnd(QuietHandler):
    served: list[str]

    def do_GET(self) -> None:
        assert isinstance(self.connection, ssl.SSLSocket)
        thumbprint = certificate_thumbprint(peer_certificate(self.connection))
        self.server.served.append(thumbprint)  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ticket 7")


class Server(http.server.ThreadingHTTPServer):
    served: list[str]
    daemon_threads = True


@contextmanager
def back_end(context: ssl.SSLContext) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), BackEnd) as server:
        server.served = []
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.socket.settimeout(10)
        with serving(server):
            yield server


def url(server: Server) -> str:
    return f"https://127.0.0.1:{server.server_address[1]}/"


def fetch(server: Server, context: ssl.SSLContext) -> str:
    with httpx.Client(verify=context, timeout=10, trust_env=False) as http_client:
        return http_client.get(url(server)).text


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority.new("acme.example", now=time.time())


@pytest.fixture(scope="module")
def server(authority: CertificateAuthority) -> Iterator[Server]:
    with back_end(server_context(IssuedIdentity(authority, TICKETS), admits=[AGENT])) as running:
        yield running


class Lost:
    """A certificate that is taken away from time to time, as SPIRE does."""

    def __init__(self, identity: WorkloadIdentity) -> None:
        self._identity = identity
        self.lost = False

    def svid(self) -> X509Identity:
        if self.lost:
            raise IdentityError("It gives no certificate any more.")
        return self._identity.svid()

    def bundle(self) -> TrustBundle:
        return self._identity.bundle()


def test_a_server_whose_certificate_is_taken_away_serves_nobody_until_it_is_back(
    authority: CertificateAuthority,
) -> None:
    tickets = Lost(IssuedIdentity(authority, TICKETS))
    me = client_context(IssuedIdentity(authority, AGENT), expects=TICKETS)
    with back_end(server_context(tickets, admits=[AGENT])) as running:
        assert fetch(running, me) == "ticket 7"
        tickets.lost = True
        for _ in range(3):
            with pytest.raises(httpx.TransportError):
                fetch(running, me)
        assert len(running.served) == 1
        tickets.lost = False
        assert fetch(running, me) == "ticket 7"


def test_a_client_whose_certificate_is_taken_away_says_so(authority: CertificateAuthority, server: Server) -> None:
    agent = Lost(IssuedIdentity(authority, AGENT))
    context = client_context(agent, expects=TICKETS)
    agent.lost = True
    with pytest.raises(IdentityError, match="no certificate any more"):
        fetch(server, context)


def test_a_tools_body_reaches_the_back_end_that_admits_its_agent(
    tmp_path: Path, server: Server, authority: CertificateAuthority
) -> None:
    me = IssuedIdentity(authority, AGENT)
    context = client_context(me, expects=TICKETS)

    @tool
    def read_ticket() -> str:
        """Read the ticket."""
        return fetch(server, context)

    world = World(tmp_path, POLICY, [read_ticket], None)
    (guarded,) = world.guard.protect([read_ticket])
    with world.guard, world.session():
        assert guarded.invoke({}) == "ticket 7"
    assert server.served[-1] == certificate_thumbprint(me.svid().certificate)


def forged(recipe: Recipe, by: Made | None = None) -> Callable[[CertificateAuthority], WorkloadIdentity]:
    def present(authority: CertificateAuthority) -> WorkloadIdentity:
        made = make(recipe, by)
        return Held(X509Identity(AGENT, (made.certificate,), made.key), authority.bundle(now=time.time()))

    return present


def issued(spiffe_id: str, *, age: float = 0, ttl: float = 3600) -> Callable[[CertificateAuthority], WorkloadIdentity]:
    def present(authority: CertificateAuthority) -> WorkloadIdentity:
        old = CertificateAuthority(authority.trust_domain, authority._roots)
        return Held(old.issue(spiffe_id, now=time.time() - age, ttl=ttl), authority.bundle(now=time.time()))

    return present


HERE_AND_NOW = Recipe(starts=-400_000_000, ends=400_000_000)


@pytest.mark.parametrize(
    "presented",
    [
        issued(OTHER),
        issued(TICKETS),
        issued(AGENT, ttl=1, age=3),
        forged(HERE_AND_NOW, make(AUTHORITY.but(starts=-400_000_000, ends=400_000_000))),
        forged(HERE_AND_NOW),
    ],
    ids=["another agent", "the service itself", "expired", "another authority", "signed by itself"],
)
def test_everybody_else_is_refused_before_a_byte_is_read(
    server: Server, authority: CertificateAuthority, presented: Callable[[CertificateAuthority], WorkloadIdentity]
) -> None:
    served = len(server.served)
    with pytest.raises((httpx.TransportError, ssl.SSLError)):
        fetch(server, client_context(presented(authority), expects=TICKETS))
    assert len(server.served) == served


def test_an_expired_certificate_that_openssl_would_take_is_refused_by_our_clock(
    authority: CertificateAuthority,
) -> None:
    late = time.time() + 7200
    context = server_context(IssuedIdentity(authority, TICKETS), admits=[AGENT], clock=lambda: late)
    with back_end(context) as running, pytest.raises(httpx.TransportError):
        fetch(running, client_context(IssuedIdentity(authority, AGENT), expects=TICKETS))
    assert running.served == []


def test_a_client_without_a_certificate_is_refused(server: Server, authority: CertificateAuthority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=authority.bundle(now=time.time()).pem.decode())
    served = len(server.served)
    with pytest.raises(httpx.TransportError):
        fetch(server, context)
    assert len(server.served) == served


def test_tls_1_2_is_refused(server: Server, authority: CertificateAuthority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.raises(httpx.ConnectError):
        fetch(server, context)


def test_a_client_refuses_a_server_that_is_not_the_one_it_expects(authority: CertificateAuthority) -> None:
    with back_end(server_context(IssuedIdentity(authority, OTHER), admits=[AGENT])) as running:
        with pytest.raises(httpx.ConnectError, match="not expected here"):
            fetch(running, client_context(IssuedIdentity(authority, AGENT), expects=TICKETS))
        assert running.served == []


def test_a_connection_that_was_refused_carries_nothing_any_more(authority: CertificateAuthority) -> None:
    """The handshake itself is over by then, and a client may go on after an error."""
    context = client_context(IssuedIdentity(authority, AGENT), expects=TICKETS)
    with back_end(server_context(IssuedIdentity(authority, OTHER), admits=[AGENT])) as running:
        with context.wrap_socket(socket.socket()) as connection:
            connection.settimeout(10)
            with pytest.raises(ssl.SSLCertVerificationError, match="not expected here"):
                connection.connect(running.server_address)
            with pytest.raises(OSError, match="Bad file descriptor"):
                connection.sendall(b"GET /secret HTTP/1.1\r\n\r\n")
        assert running.served == []


def test_nobody_is_admitted_where_nobody_is_named(authority: CertificateAuthority) -> None:
    with back_end(server_context(IssuedIdentity(authority, TICKETS), admits=[])) as running:
        with pytest.raises(httpx.TransportError):
            fetch(running, client_context(IssuedIdentity(authority, AGENT), expects=TICKETS))
        assert running.served == []


def test_a_text_or_a_bad_id_is_no_list_of_who_is_admitted(authority: CertificateAuthority) -> None:
    me = IssuedIdentity(authority, TICKETS)
    with pytest.raises(ValueError, match="a list"):
        server_context(me, admits=AGENT)
    with pytest.raises(ValueError, match="spiffe://"):
        server_context(me, admits=["helpdesk"])
    with pytest.raises(ValueError, match="spiffe://"):
        client_context(me, expects="tickets.acme.example")


def test_a_renewed_certificate_is_shown_by_the_same_context(server: Server, authority: CertificateAuthority) -> None:
    ahead = [0.0]
    me = IssuedIdentity(authority, AGENT, ttl=60, clock=lambda: time.time() + ahead[0])
    context = client_context(me, expects=TICKETS)
    fetch(server, context)
    ahead[0] = 29.0  # certificates are good from 30 seconds before they were issued
    fetch(server, context)
    ahead[0] = 45.0
    first = server.served[-1]
    assert first == server.served[-2]
    with pytest.raises(httpx.TransportError):
        fetch(server, context)  # the new one, which is not valid yet by the server's clock


def test_an_authority_that_left_the_bundle_is_refused_by_contexts_that_knew_it() -> None:
    now = time.time()
    old, new = (CertificateAuthority.new("acme.example", now=now) for _ in range(2))
    both = TrustBundle("acme.example", old.bundle(now=now).authorities + new.bundle(now=now).authorities)
    service = Held(new.issue(TICKETS, now=now), both)
    with back_end(server_context(service, admits=[AGENT])) as running:
        assert fetch(running, client_context(Held(old.issue(AGENT, now=now), both), expects=TICKETS)) == "ticket 7"
        service._bundle = new.bundle(now=now)
        with pytest.raises(httpx.TransportError):
            fetch(running, client_context(Held(old.issue(AGENT, now=now), both), expects=TICKETS))
        assert len(running.served) == 1


def test_the_handshake_cannot_be_put_off(authority: CertificateAuthority) -> None:
    context = client_context(IssuedIdentity(authority, AGENT), expects=TICKETS)
    with socket.socket() as plain, pytest.raises(ValueError, match="put off"):
        context.wrap_socket(plain, do_handshake_on_connect=False)
    unshaken = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    with pytest.raises(ssl.SSLError, match="comes first"):
        unshaken.write(b"GET /")
    with pytest.raises(ssl.SSLError, match="comes first"):
        unshaken.read(1)


async def test_asyncio_servers_and_clients_refuse_alike(authority: CertificateAuthority) -> None:
    met: list[bytes] = []

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(await reader.read(100))
        writer.write(b"welcome")
        await writer.drain()
        writer.close()

    admitting = server_context(IssuedIdentity(authority, TICKETS), admits=[AGENT])
    running = await asyncio.start_server(meet, "127.0.0.1", 0, ssl=admitting)
    async with running:
        port = running.sockets[0].getsockname()[1]

        async def say(spiffe_id: str, expects: str) -> bytes:
            context = client_context(IssuedIdentity(authority, spiffe_id), expects=expects)
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            try:
                writer.write(b"hello")
                return await asyncio.wait_for(reader.read(100), 10)
            finally:
                writer.transport.abort()

        assert await say(AGENT, TICKETS) == b"welcome"
        with suppress(ssl.SSLError, ConnectionError):
            assert await say(OTHER, TICKETS) == b""
        with pytest.raises(ssl.SSLError, match="not expected here"):
            await say(AGENT, OTHER)
    assert met == [b"hello"]


def test_no_file_ever_holds_a_key_in_the_clear(
    authority: CertificateAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    load = ssl.SSLContext.load_cert_chain

    def watch(self: ssl.SSLContext, path: Path, *rest: Any, **options: Any) -> None:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        seen.append(path.read_bytes())
        load(self, path, *rest, **options)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watch)
    client_context(IssuedIdentity(authority, AGENT), expects=TICKETS)
    (content,) = seen
    assert b"ENCRYPTED PRIVATE KEY" in content
    assert b"-----BEGIN PRIVATE KEY" not in content
    assert list(tmp_path.iterdir()) == []


def test_a_certificate_that_nobody_verified_is_given_to_nobody() -> None:
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="a")
    with pytest.raises((CertificateRefusedError, ValueError)):
        peer_certificate(plain)
