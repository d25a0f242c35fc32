"""Certificates from SPIRE itself, whose agent attests this process: what it gives, renews, takes away, and to whom.

Runs with ZT_AGENTS_SERVERS=1 where Go can build SPIRE. What can be asked of any Workload API is in test_spire.py.
"""

from __future__ import annotations

import http.server
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import programs
import pytest
from spire_program import Spire, spire

from zt_agents.credentials.tls import client_context, server_context
from zt_agents.errors import IdentityError
from zt_agents.identity.x509.certificates import verify_peer
from zt_agents.identity.x509.spire import SpireIdentity

AGENT = "spiffe://acme.example/agent/helpdesk"
TICKETS = "spiffe://acme.example/service/tickets"
DAEMON, NOBODY = 1, 65534


@pytest.fixture(scope="module")
def server() -> Iterator[Spire]:
    if absent := programs.missing("go", "gcc"):
        pytest.skip(absent)
    with spire() as running:
        yield running


@pytest.fixture(scope="module")
def attesting(server: Spire) -> Iterator[Spire]:
    """SPIRE with its agent, which knows this process as the agent and as the service."""
    with server.agent():
        for each in (AGENT, TICKETS):
            server.enter(each, user=os.geteuid())
        yield server


def identity(server: Spire, spiffe_id: str, *, seconds: float = 20) -> SpireIdentity:
    """Return the identity as soon as the agent has heard of its entry."""
    end = time.monotonic() + seconds
    while True:
        try:
            return SpireIdentity(spiffe_id, socket=server.socket, timeout=2)
        except IdentityError:
            if time.monotonic() > end:
                raise


def test_who_is_attested_has_a_certificate_that_proves_it(attesting: Spire) -> None:
    with identity(attesting, AGENT) as agent:
        svid, bundle = agent.svid(), agent.bundle()
        chain = [svid.certificate]
        assert verify_peer(chain, bundle, now=time.time()) == svid.spiffe_id == AGENT
        assert svid.expires_at - time.time() <= 60
        assert agent.svid() is svid


class _Tickets(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ticket 7")

    def log_message(self, *_: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        pass


@contextmanager
def serving(context: ssl.SSLContext) -> Iterator[str]:
    with _Server(("127.0.0.1", 0), _Tickets) as running:
        running.socket = context.wrap_socket(running.socket, server_side=True)
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"https://127.0.0.1:{running.server_address[1]}/"
        finally:
            running.shutdown()
            thread.join(10)


def fetch(url: str, context: ssl.SSLContext) -> str:
    with httpx.Client(verify=context, timeout=10, trust_env=False) as http_client:
        return http_client.get(url).text


def test_agent_and_service_know_each_other(attesting: Spire) -> None:
    with identity(attesting, AGENT) as agent, identity(attesting, TICKETS) as tickets:
        with serving(server_context(tickets, admits=[AGENT])) as url:
            assert fetch(url, client_context(agent, expects=TICKETS)) == "ticket 7"
            with pytest.raises(httpx.ConnectError, match="not expected"):
                fetch(url, client_context(agent, expects=AGENT))
        with serving(server_context(tickets, admits=[TICKETS])) as url, pytest.raises(httpx.HTTPError):
            fetch(url, client_context(agent, expects=TICKETS))


def test_certificates_and_authorities_are_renewed_without_a_failed_connection(attesting: Spire) -> None:
    brief = [f"spiffe://acme.example/{kind}/brief" for kind in ("agent", "service")]
    for each in brief:
        attesting.enter(each, user=os.geteuid(), ttl=8)
    with identity(attesting, brief[0]) as agent, identity(attesting, brief[1]) as tickets:
        context = client_context(agent, expects=brief[1])
        certificates, authorities = set(), set()
        with serving(server_context(tickets, admits=[brief[0]])) as url:
            end = time.monotonic() + 20
            rotated = False
            while time.monotonic() < end:
                assert fetch(url, context) == "ticket 7"
                certificates.add(agent.svid().certificate)
                authorities.add(len(agent.bundle().authorities))
                if not rotated and len(certificates) > 1:
                    attesting.rotate_authority()
                    rotated = True
                time.sleep(0.1)
        assert len(certificates) >= 3
        assert authorities >= {1, 2}


IMPORTS = """
import sys
import spiffe
from zt_agents.errors import IdentityError
from zt_agents.identity.x509.spire import SpireIdentity
"""
ASK = """
try:
    with SpireIdentity(sys.argv[1], socket=sys.argv[2], timeout=5) as identity:
        print(identity.svid().spiffe_id)
except IdentityError as error:
    print(type(error).__name__)
"""


@contextmanager
def other_user(uid: int, code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run *code* as somebody else, who can import what root can: a process of root's becomes theirs before it asks."""
    becoming = f"import os; os.setgid({uid}); os.setuid({uid})\n"
    command = [sys.executable, "-c", IMPORTS + becoming + code, *arguments]
    paths = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **paths}) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="starts a process of another user: needs root")
def test_a_process_of_another_user_is_somebody_else(attesting: Spire) -> None:
    other = "spiffe://acme.example/agent/other"
    attesting.enter(other, user=NOBODY)

    def asked(spiffe_id: str) -> str:
        with other_user(NOBODY, ASK, spiffe_id, attesting.socket) as process:
            return process.communicate(timeout=60)[0].strip()

    programs.wait_until(lambda: asked(other) == other, seconds=30)
    assert asked(AGENT) == "IdentityError"
    with pytest.raises(IdentityError):
        SpireIdentity(other, socket=attesting.socket, timeout=2)


def test_who_has_no_entry_any_more_has_no_certificate_until_there_is_one_again(attesting: Spire) -> None:
    leaving = "spiffe://acme.example/agent/leaving"
    entry = attesting.enter(leaving, user=os.geteuid())
    with identity(attesting, leaving) as agent:
        assert agent.svid().spiffe_id == leaving
        attesting.remove(entry)
        programs.wait_until(lambda: _refused(agent), seconds=20)
        with pytest.raises(IdentityError):
            SpireIdentity(leaving, socket=attesting.socket, timeout=1)
        attesting.remove(attesting.enter(leaving, user=NOBODY))
        assert _refused(agent)
        attesting.enter(leaving, user=os.geteuid())
        programs.wait_until(lambda: not _refused(agent), seconds=20)
        assert verify_peer([agent.svid().certificate], agent.bundle(), now=time.time()) == leaving


def _refused(agent: SpireIdentity) -> bool:
    try:
        agent.svid()
    except IdentityError:
        return True
    return False


LAST = """
import time
with SpireIdentity(sys.argv[1], socket=sys.argv[2], timeout=20) as identity:
    print(identity.svid().spiffe_id, flush=True)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            identity.svid()
        except IdentityError:
            print("over", flush=True)
            break
        time.sleep(0.05)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="starts a process of another user: needs root")
def test_who_is_denied_everything_has_no_certificate_any_more(attesting: Spire) -> None:
    only = "spiffe://acme.example/agent/only"
    entry = attesting.enter(only, user=DAEMON)
    with other_user(DAEMON, LAST, only, attesting.socket) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == only
        attesting.remove(entry)
        assert process.stdout.readline().strip() == "over"


def test_while_the_agent_is_away_the_last_certificate_counts(attesting: Spire) -> None:
    with identity(attesting, AGENT) as agent, identity(attesting, TICKETS) as tickets:
        before = agent.svid()
        context = client_context(agent, expects=TICKETS)
        with serving(server_context(tickets, admits=[AGENT])) as url:
            with attesting.without_agent():
                assert agent.svid() is before
                assert fetch(url, context) == "ticket 7"
                with pytest.raises(IdentityError):
                    SpireIdentity(AGENT, socket=attesting.socket, timeout=0.5)
            programs.wait_until(lambda: agent.svid() is not before, seconds=60)
            assert fetch(url, context) == "ticket 7"
