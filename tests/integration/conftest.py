"""A real Jaeger on loopback: started on free ports, stopped at the end, built from its Go module if asked for.

``ZT_AGENTS_JAEGER`` names a binary. ``ZT_AGENTS_SERVERS=1`` lets the tests build one with Go into the user's cache
folder (once; about five minutes on two cores). Without either, the tests are skipped and say so.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

MODULE = "github.com/jaegertracing/jaeger@v1.76.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zt-agents" / "jaeger-v1.76.0"

CONFIG = """
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {{receivers: [otlp], processors: [batch], exporters: [jaeger_storage_exporter]}}
  telemetry: {{metrics: {{level: none}}}}
extensions:
  jaeger_storage: {{backends: {{memory: {{memory: {{max_traces: 10000}}}}}}}}
  jaeger_query:
    storage: {{traces: memory}}
    http: {{endpoint: "127.0.0.1:{query}"}}
    grpc: {{endpoint: "127.0.0.1:{query_grpc}"}}
receivers:
  otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{otlp}"}}}}}}
processors: {{batch: {{timeout: 50ms}}}}
exporters: {{jaeger_storage_exporter: {{trace_storage: memory}}}}
"""


@dataclass(frozen=True)
class Span:
    """A span as Jaeger tells it."""

    name: str
    id: str
    parent: str
    trace: str
    tags: dict[str, Any]


class Jaeger:
    """Asks Jaeger's query API."""

    def __init__(self, otlp: int, query: int) -> None:
        self.otlp = f"http://127.0.0.1:{otlp}"
        self._query = f"http://127.0.0.1:{query}/api"

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"{self._query}/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as reply:
            return json.load(reply)["data"]

    def services(self) -> list[str]:
        return list(self._get("services") or ())

    def find(self, service: str, *, seconds: float = 20, **tags: str) -> list[Span]:
        """Return the spans of the traces of *service* in which one span has all *tags*; wait until there are some."""
        end = time.monotonic() + seconds
        while True:
            found = self._get("traces", service=service, tags=json.dumps(tags), limit="100", lookback="1h")
            if found or time.monotonic() > end:
                return [_span(raw) for trace in found for raw in trace["spans"]]
            time.sleep(0.1)


def _span(raw: dict[str, Any]) -> Span:
    parents = [each["spanID"] for each in raw["references"] if each["refType"] == "CHILD_OF"]
    tags = {each["key"]: each["value"] for each in raw["tags"]}
    return Span(raw["operationName"], raw["spanID"], parents[0] if parents else "", raw["traceID"], tags)


@pytest.fixture(scope="session")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    binary = _binary()
    otlp, query, query_grpc = _free_ports(3)
    folder = tmp_path_factory.mktemp("jaeger")
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(otlp=otlp, query=query, query_grpc=query_grpc), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, "--config", str(config)], stdout=log, stderr=log, cwd=folder)
        try:
            server = Jaeger(otlp, query)
            end = time.monotonic() + 30
            while True:
                try:
                    server.services()
                    break
                except OSError:
                    told = (folder / "log").read_text(errors="replace")[-2000:]
                    assert process.poll() is None, f"Jaeger did not start: {told}"
                    assert time.monotonic() < end, f"Jaeger did not answer: {told}"
                    time.sleep(0.1)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=20)


def _binary() -> str:
    named = os.environ.get("ZT_AGENTS_JAEGER")
    if named:
        return named
    built = CACHE / "jaeger"
    if built.exists():
        return str(built)
    if os.environ.get("ZT_AGENTS_SERVERS") != "1":
        pytest.skip("no Jaeger: set ZT_AGENTS_JAEGER to a binary, or ZT_AGENTS_SERVERS=1 to build one with Go")
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Jaeger: Go, which would build it, is not installed")
    # Built as its own main module, in its own folder: so its go.sum and its one replacement count.
    told = subprocess.run([go, "mod", "download", "-json", MODULE], capture_output=True, text=True, check=True)
    source = json.loads(told.stdout)["Dir"]
    CACHE.mkdir(parents=True, exist_ok=True)
    partial = CACHE / f"jaeger.{os.getpid()}"
    subprocess.run([go, "build", "-C", source, "-o", str(partial), "./cmd/jaeger"], check=True)
    partial.replace(built)
    return str(built)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
