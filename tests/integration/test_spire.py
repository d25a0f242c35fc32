"""Certificates by the SPIFFE Workload API, from a server of this test on loopback. It is not SPIRE: nobody is attested.

It speaks the API's own protocol (gRPC over a Unix socket, the messages of the package ``spiffe``).
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from spiffe._proto import workload_pb2, workload_pb2_grpc

from zt_agents.credentials.tls import client_context, server_context
from zt_agents.errors import IdentityError
from zt_agents.identity.x509.authority import CertificateAuthority
from zt_agents.identity.x509.certificates import X509Identity, verify_peer
from zt_agents.identity.x509.spire import SpireIdentity
from zt_agents.identity.x509.workload import IssuedIdentity

AGENT = "spiffe://acme.example/agent/helpdesk"
TICKETS = "spiffe://acme.example/service/tickets"
DER = serialization.Encoding.DER


class WorkloadApi(workload_pb2_grpc.SpiffeWorkloadAPIServicer):  # type: ignore[misc]
    """Sends each connection what it is given, as it is given."""

    def __init__(self) -> None:
        self.sent: queue.Queue[Any] = queue.Queue()

    def FetchX509SVID(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        if ("workload.spiffe.io", "true") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing")
        while context.is_active():
            try:
                response = self.sent.get(timeout=0.05)
            except queue.Empty:
                continue
            if isinstance(response, grpc.StatusCode):
                context.abort(response, "no identity issued")
            yield response


def response(authority: CertificateAuthority, *svids: X509Identity) -> Any:
    now = time.time()
    bundle = b"".join(each.public_bytes(DER) for each in authority.bundle(now=now).authorities)
    return workload_pb2.X509SVIDResponse(
        svids=[
            workload_pb2.X509SVID(
                spiffe_id=each.spiffe_id,
                x509_svid=b"".join(certificate.public_bytes(DER) for certificate in each.chain),
                x509_svid_key=each.key.private_bytes(
                    DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                ),
                bundle=bundle,
            )
            for each in svids
        ]
    )


@contextmanager
def serving(folder: Path) -> Iterator[tuple[WorkloadApi, str]]:
    api, socket = WorkloadApi(), f"unix://{folder}/api.sock"
    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads)
        workload_pb2_grpc.add_SpiffeWorkloadAPIServicer_to_server(api, server)
        server.add_insecure_port(f"unix:{folder}/api.sock")
        server.start()
        try:
            yield api, socket
        finally:
            server.stop(0).wait(10)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_certificate_is_taken_and_renewed_as_the_workload_api_sends_it(tmp_path: Path) -> None:
    now = time.time()
    authority = CertificateAuthority.new("acme.example", now=now)
    first, second, other = (authority.issue(each, now=now) for each in (AGENT, AGENT, TICKETS))
    with serving(tmp_path) as (api, socket):
        api.sent.put(response(authority, other, first))
        with SpireIdentity(AGENT, socket=socket) as identity:
            assert identity.svid().certificate == first.certificate
            assert identity.svid() is identity.svid()
            assert verify_peer([first.certificate], identity.bundle(), now=now) == AGENT
            context = client_context(identity, expects=TICKETS)
            rotated = authority.rotated(now=now, overlap=60)
            api.sent.put(response(rotated, second))
            until(lambda: identity.svid().certificate == second.certificate)
            assert len(identity.bundle().authorities) == 2
            talk(context, server_context(IssuedIdentity(authority, TICKETS), admits=[AGENT]))
        with pytest.raises(IdentityError, match="any more"):
            identity.svid()


def talk(client: Any, server: Any) -> None:
    """Shake hands in memory: both ends accept the other."""
    import ssl

    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    done = [False, False]
    for _ in range(10):
        for index, end in enumerate(ends):
            if not done[index]:
                try:
                    end.do_handshake()
                    done[index] = True
                except ssl.SSLWantReadError:
                    pass
    assert done == [True, True]


def test_a_certificate_for_somebody_else_is_not_taken(tmp_path: Path) -> None:
    now = time.time()
    authority = CertificateAuthority.new("acme.example", now=now)
    with serving(tmp_path) as (api, socket):
        api.sent.put(response(authority, authority.issue(TICKETS, now=now)))
        with pytest.raises(IdentityError, match="gave no certificate"):
            SpireIdentity(AGENT, socket=socket, timeout=0.5)


@pytest.mark.parametrize("taken_away", ["left out", "denied"])
def test_a_certificate_that_is_taken_away_is_over_until_it_is_given_again(tmp_path: Path, taken_away: str) -> None:
    now = time.time()
    authority = CertificateAuthority.new("acme.example", now=now)
    first, second, other = (authority.issue(each, now=now) for each in (AGENT, AGENT, TICKETS))
    with serving(tmp_path) as (api, socket):
        api.sent.put(response(authority, first, other))
        with SpireIdentity(AGENT, socket=socket) as identity:
            assert identity.svid().certificate == first.certificate
            denied = taken_away == "denied"
            api.sent.put(grpc.StatusCode.PERMISSION_DENIED if denied else response(authority, other))
            until(lambda: refused(identity.svid))
            assert refused(identity.bundle)
            api.sent.put(response(authority, second))
            until(lambda: not refused(identity.svid))
            assert identity.svid().certificate == second.certificate


@pytest.mark.parametrize("ended", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED])
def test_while_the_workload_api_is_away_the_last_certificate_counts(tmp_path: Path, ended: grpc.StatusCode) -> None:
    now = time.time()
    authority = CertificateAuthority.new("acme.example", now=now)
    first, second = (authority.issue(AGENT, now=now) for _ in range(2))
    with serving(tmp_path) as (api, socket):
        api.sent.put(response(authority, first))
        with SpireIdentity(AGENT, socket=socket) as identity:
            api.sent.put(ended)
            until(api.sent.empty)
            for _ in range(20):
                assert identity.svid().certificate == first.certificate
                time.sleep(0.01)
            api.sent.put(response(authority, second))
            until(lambda: identity.svid().certificate == second.certificate)


def refused(ask: Callable[[], Any]) -> bool:
    try:
        ask()
    except IdentityError:
        return True
    return False


def test_who_is_not_attested_gets_no_certificate(tmp_path: Path) -> None:
    with serving(tmp_path) as (api, socket):
        api.sent.put(grpc.StatusCode.PERMISSION_DENIED)
        with pytest.raises(IdentityError, match="gave no certificate"):
            SpireIdentity(AGENT, socket=socket, timeout=1)


@pytest.mark.parametrize("socket", ["unix:///nowhere/api.sock", "https://spire.example", ""])
def test_where_there_is_no_workload_api_there_is_no_certificate(
    socket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
    with pytest.raises(IdentityError):
        SpireIdentity(AGENT, socket=socket, timeout=0.2)


def test_an_id_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="spiffe://"):
        SpireIdentity("helpdesk")
