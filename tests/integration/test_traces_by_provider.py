"""Whose provider exports, and how: the application's own, or the one that ``OTEL_*`` variables ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backends import Backend
from outlines import told

PROGRAM = str(Path(__file__).with_name("own_provider_program.py"))
REQUEST = """
POST /ask
  invoke_agent helpdesk
    execute_tool look [allow]
      SELECT
"""


def test_an_application_keeps_its_own_provider(
    backend: Backend, run_program: Callable[..., Any], tmp_path: Path
) -> None:
    """The variables that would make the guard install one are set: a second exporter would double each span."""
    run_program(PROGRAM, "own", str(tmp_path), env=backend.export_to("own-provider"))
    told(backend, "own-provider", REQUEST + "GET /later")


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
