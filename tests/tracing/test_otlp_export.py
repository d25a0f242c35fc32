"""Export by the standard variables, to a real OTLP/HTTP receiver on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PROGRAM = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from zt_agents.telemetry import Tracing, export_from_environment
import sys
if "own" in sys.argv:
    own = TracerProvider(); trace.set_tracer_provider(own)
print(export_from_environment())
Tracing().start("execute_tool look", {"gen_ai.tool.name": "look"}).end()
if "own" in sys.argv:
    assert trace.get_tracer_provider() is own
else:
    provider = trace.get_tracer_provider()
    getattr(provider, "shutdown", lambda: None)()
"""


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    received: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            import gzip

            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


def run(*arguments: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**clean, **environment}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_spans_arrive(receiver: tuple[str, list[ExportTraceServiceRequest]]) -> None:
    url, received = receiver
    assert run(OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_SERVICE_NAME="payroll") == "True"
    (batch,) = received[0].resource_spans
    service = {item.key: item.value.string_value for item in batch.resource.attributes}["service.name"]
    assert service == "payroll"
    assert batch.scope_spans[0].scope.name == "zt_agents"
    assert batch.scope_spans[0].spans[0].name == "execute_tool look"


def test_nothing_is_installed_unasked() -> None:
    assert run() == "False"


def test_the_applications_own_provider_is_left_alone(
    receiver: tuple[str, list[ExportTraceServiceRequest]],
) -> None:
    url, received = receiver
    assert run("own", OTEL_EXPORTER_OTLP_ENDPOINT=url) == "False"
    assert received == []
