"""Tokens exchanged in a second: by the issuer's core in one process, and over HTTP on loopback, on record each time.

Run: ``PYTHONPATH=. python tests/benchmarks/token_exchange.py``. Assertions are signed beforehand, as by other machines.
"""

from __future__ import annotations

import http.client
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

from langchain_core.tools import tool

from zt_agents import Guard
from zt_agents.identity.signing.client_assertions import sign_assertion
from zt_agents.identity.signing.key_folder import FolderKeyRing, client_folder
from zt_agents.issuer.app import ACCESS_TOKEN, JWT_BEARER, TOKEN_EXCHANGE
from zt_agents.issuer.clients import Client, Clients
from zt_agents.issuer.exchanges import Exchanges
from zt_agents.testing import write_policy

POLICY = """
version: 1
trust_domain: acme.example
environment: benchmark
keys: {algorithm: ALGORITHM}
agents:
  helpdesk: {id: spiffe://acme.example/agent/helpdesk, version: "1", owner: dana@acme.example, purpose: tests,
    delegates: [research]}
  research: {id: spiffe://acme.example/agent/research, version: "1", owner: dana@acme.example, purpose: tests}
tools:
  read_ticket: {tier: low, effects: [read]}
rules:
  - {id: read, agents: [helpdesk, research], tools: [read_ticket], outcome: allow}
"""
COUNT = 2_000
THREADS = 64
RESEARCH = "spiffe://acme.example/agent/research"


@tool
def read_ticket(ticket_id: int) -> str:
    """Read one ticket."""
    return "open"


def main() -> None:
    for algorithm in ("ES256", "EdDSA"):
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), algorithm)


def measure(folder: Path, algorithm: str) -> None:
    policy = write_policy(folder, POLICY.replace("ALGORITHM", algorithm), [read_ticket])
    with Guard.from_config(policy) as guard:
        ring = FolderKeyRing(client_folder(folder / "zt-agents-keys", "research"), algorithm=algorithm)
        ring.create(guard.clock(), root=False)
        key = ring.current(guard.clock())
        subjects = [
            guard.session(agent="helpdesk", on_behalf_of="alice@acme.example", ttl=3600).token for _ in range(COUNT)
        ]

        def assertions(audience: str) -> list[str]:
            now = guard.clock()
            return [sign_assertion(key, client=RESEARCH, audience=audience, now=now) for _ in range(COUNT)]

        clients = Clients(
            guard.registry, folder / "zt-agents-keys", audiences=frozenset({"x"}), clock=guard.clock, per_second=10**6
        )
        exchanges = Exchanges(guard)
        shown = assertions("x")
        started, used = time.perf_counter(), time.process_time()
        for subject, assertion in zip(subjects, shown, strict=True):
            client = clients.authenticated(assertion, "127.0.0.1")
            assert isinstance(client, Client)
            assert client.agent is not None
            last = exchanges.exchange(subject, client.agent, None)
        last.receipt.wait(10)
        core, processor = COUNT / (time.perf_counter() - started), (time.process_time() - used) / COUNT
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = "from zt_agents.cli import main; main()"
    command = [sys.executable, "-c", program, "issuer", "serve", "--policy", str(policy), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            time.sleep(1)
            now = time.time()
            url = f"http://localhost:{port}"
            shown = [sign_assertion(key, client=RESEARCH, audience=url, now=now) for _ in range(COUNT)]
            rate, waits = over_http(port, subjects, shown)
        finally:
            server.terminate()
            server.wait(10)
    waits.sort()
    print(
        f"{algorithm}: core {core:.0f}/s, {processor * 1e3:.2f} ms of processor each; "
        f"HTTP {rate:.0f}/s with {THREADS} connections,"
        f" median {statistics.median(waits) * 1e3:.1f} ms, 99th percentile {waits[int(len(waits) * 0.99)] * 1e3:.1f} ms"
    )


def over_http(port: int, subjects: list[str], shown: list[str]) -> tuple[float, list[float]]:
    waits: list[float] = []
    failed: list[int] = []

    def work(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for subject, assertion in list(zip(subjects, shown, strict=True))[number::THREADS]:
            body = urlencode(
                {
                    "grant_type": TOKEN_EXCHANGE,
                    "subject_token": subject,
                    "subject_token_type": ACCESS_TOKEN,
                    "client_assertion_type": JWT_BEARER,
                    "client_assertion": assertion,
                }
            )
            started = time.perf_counter()
            connection.request("POST", "/token", body, {"Content-Type": "application/x-www-form-urlencoded"})
            answer = connection.getresponse()
            answer.read()
            waits.append(time.perf_counter() - started)
            if answer.status != 200:
                failed.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise SystemExit(f"{len(failed)} exchanges failed: {sorted(set(failed))}")
    return COUNT / (time.perf_counter() - started), waits


if __name__ == "__main__":
    main()
