"""A collector that is down, slow or failing holds up neither calls nor the exit; what is lost is counted."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import ThreadingHTTPServer

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from serving import QuietHandler, serving

from zt_agents.telemetry.delivery import CountingExporter, Losses

SPANS = 40
PROGRAM = f"""
import json, time
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from zt_agents.telemetry import Tracing, export_from_environment
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
assert export_from_environment()
def dropped():
    data = reader.get_metrics_data()
    return next(m.data.data_points[0].value for r in data.resource_metrics for s in r.scope_metrics
                for m in s.metrics if m.name == "zt_agents.spans.dropped")
tracing, slowest = Tracing(), 0.0
for _ in range({SPANS}):
    start = time.perf_counter()
    tracing.start("execute_tool look", {{}}).end()
    slowest = max(slowest, time.perf_counter() - start)
deadline = time.monotonic() + 6
while dropped() < {SPANS} and time.monotonic() < deadline:
    time.sleep(0.05)
print(json.dumps([slowest, dropped(), time.time()]), flush=True)
"""


@contextmanager
def answering(status: int) -> Iterator[int]:
    class Handler(QuietHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield server.server_port


@contextmanager
def silent() -> Iterator[int]:
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield server.getsockname()[1]


@contextmanager
def refusing() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield port


COLLECTORS = {"refuses": refusing, "silent": silent, "500": lambda: answering(500), "503": lambda: answering(503)}


def run(port: int, **environment: str) -> tuple[float, int, float, list[str]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**clean, **settings},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    slowest, dropped, ended = json.loads(done.stdout)
    return slowest, dropped, time.time() - ended, done.stderr.splitlines()


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("collector", COLLECTORS)
def test_spans_are_lost_and_counted_and_one_line_says_so(collector: str, protocol: str) -> None:
    with ExitStack() as stack:
        port = stack.enter_context(COLLECTORS[collector]())
        slowest, dropped, exit_took, lines = run(port, OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
    assert dropped == SPANS
    assert slowest < 0.5
    assert exit_took < 5
    assert len(lines) == 1, lines
    assert lines[0].startswith("Spans are being lost: the exporter cannot deliver them")


def test_what_a_full_queue_pushes_out_is_counted() -> None:
    with silent() as port:
        _, dropped, exit_took, lines = run(
            port, OTEL_BSP_MAX_QUEUE_SIZE="4", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4", OTEL_EXPORTER_OTLP_TIMEOUT="20"
        )
    assert SPANS - 8 <= dropped < SPANS  # up to four are on their way, and four wait
    assert exit_took < 5
    assert len(lines) == 1
    assert lines[0].startswith("Spans are being lost: the queue is full")


def test_a_healthy_collector_loses_nothing() -> None:
    with answering(200) as port:
        _, dropped, _, lines = run(port)
    assert (dropped, lines) == (0, [])


def test_an_exporter_that_breaks_is_counted_like_one_that_fails() -> None:
    class Breaks(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            raise RuntimeError("nobody foresaw this")

    losses = Losses(10)
    assert CountingExporter(Breaks(), losses).export([ReadableSpan("a"), ReadableSpan("b")]) is SpanExportResult.FAILURE
    assert losses.count == 2
