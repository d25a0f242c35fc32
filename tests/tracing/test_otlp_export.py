"""Export by the standard variables, to a real OTLP/HTTP receiver on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from serving import QuietHandler, serving

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

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            import gzip

            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

    with serving(HTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}", received


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


@pytest.mark.parametrize("settings", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_export_can_be_switched_off(
    receiver: tuple[str, list[ExportTraceServiceRequest]], settings: dict[str, str]
) -> None:
    url, received = receiver
    assert run(OTEL_EXPORTER_OTLP_ENDPOINT=url, **settings) == "False"
    assert received == []


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "http/json"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "zipkin"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, "http://"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "many"}, "many"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "max_queue_size"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], named: str
) -> None:
    from zt_agents.errors import ConfigurationError
    from zt_agents.telemetry import export_from_environment

    for name, value in {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", **settings}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=named):
        export_from_environment()


def test_spans_arrive_by_grpc() -> None:
    grpc = pytest.importorskip("grpc", reason="the extra 'grpc' is not installed")
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service

    received: list[ExportTraceServiceRequest] = []

    class Collector(service.TraceServiceServicer):
        def Export(self, request: ExportTraceServiceRequest, context: object) -> object:
            from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

            received.append(request)
            return ExportTraceServiceResponse()

    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(1))
    service.add_TraceServiceServicer_to_server(Collector(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        shown = run(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    finally:
        server.stop(None).wait()
    assert shown == "True"
    assert received[0].resource_spans[0].scope_spans[0].spans[0].name == "execute_tool look"
