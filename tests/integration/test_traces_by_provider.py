"""Whose provider exports, and how: the application's own, or the one that ``OTEL_*`` variables ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import pytest
from backends import Backend
from outlines import told
from serving import QuietHandler, serving

PROGRAM = str(Path(__file__).with_name("own_provider_program.py"))
REQUEST = """
POST /ask
  invoke_agent helpdesk
    execute_tool look [allow]
      SELECT
"""


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """An endpoint, and the paths that were posted to it. Servers of traces drop a span that comes twice."""
    heard: list[str] = []

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            heard.append(self.path)
            self.send_response(200)
            self.end_headers()

    with serving(HTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}", heard


def test_an_application_keeps_its_own_provider(
    backend: Backend, run_program: Callable[..., Any], listener: tuple[str, list[str]], tmp_path: Path
) -> None:
    """And the guard adds no exporter to it, though variables are set that would make it install one of its own."""
    variables = backend.export_to("own-provider")
    theirs = variables["OTEL_EXPORTER_OTLP_ENDPOINT"]
    configured, heard = listener
    run_program(PROGRAM, "own", str(tmp_path), theirs, env=variables | {"OTEL_EXPORTER_OTLP_ENDPOINT": configured})
    told(backend, "own-provider", REQUEST + "GET /later")
    assert heard == []


def test_the_listener_would_hear(
    run_program: Callable[..., Any], backend: Backend, listener: tuple[str, list[str]], tmp_path: Path
) -> None:
    configured, heard = listener
    variables = backend.export_to("heard") | {"OTEL_EXPORTER_OTLP_ENDPOINT": configured}
    run_program(PROGRAM, "guards", str(tmp_path), env=variables)
    assert heard == ["/v1/traces"]


def test_without_one_the_variables_decide(backend: Backend, run_program: Callable[..., Any], tmp_path: Path) -> None:
    run_program(PROGRAM, "guards", str(tmp_path), env=backend.export_to("by-http"))
    told(backend, "by-http", REQUEST)


def test_by_grpc(backend: Backend, run_program: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="the OTLP/gRPC exporter is not installed")
    variables = backend.export_to("by-grpc", grpc=True)
    unheard = run_program(
        PROGRAM, "guards", str(tmp_path), env=variables | {"OTEL_EXPORTER_OTLP_PROTOCOL": "pigeon"}, check=False
    )
    if unheard.returncode == 0:  # a protocol that does not exist was not noticed
        pytest.skip("zt_agents.telemetry does not read OTEL_EXPORTER_OTLP_PROTOCOL")
    run_program(PROGRAM, "guards", str(tmp_path), env=variables)
    told(backend, "by-grpc", REQUEST)
