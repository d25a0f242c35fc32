"""One trace over two services: human -> agent -> decision -> tool -> data, and no further where the decision is no."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from backends import Backend
from outlines import told

HERE = Path(__file__).parent

TREE = """
invoke_agent helpdesk
  execute_tool read_ticket [allow]
    connect
    SELECT tickets.db
  execute_tool fetch_article [allow]
    GET
      articles: GET /articles/{title}
        articles: SELECT
  execute_tool fetch_article [deny] !
"""


@pytest.fixture
def drivers() -> None:
    """Skip where the drivers are not instrumented."""
    pytest.importorskip("opentelemetry.instrumentation.sqlalchemy", reason="SQLAlchemy's instrumentation is missing")
    pytest.importorskip("opentelemetry.instrumentation.httpx", reason="httpx's instrumentation is missing")
    if tuple(map(int, sqlalchemy.__version__.split(".")[:2])) >= (2, 1):
        pytest.skip(f"its instrumentation refuses SQLAlchemy {sqlalchemy.__version__}")


def start_articles(backend: Backend, story: str, folder: Path) -> subprocess.Popen[str]:
    variables = backend.export_to(story) | {"OTEL_SERVICE_NAME": "articles"}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.Popen(
        [sys.executable, str(HERE / "articles_service.py"), str(folder)],
        env={**clean, **variables}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("way", ["sync", "async"])
def test_from_the_human_to_the_data(
    backend: Backend, run_program: Callable[..., Any], drivers: None, tmp_path: Path, way: str
) -> None:
    story = f"two-services-{way}"
    with start_articles(backend, story, tmp_path) as service:
        assert service.stdout is not None
        url = f"http://127.0.0.1:{int(service.stdout.readline())}"
        done = run_program(str(HERE / "desk_program.py"), way, url, env=backend.export_to(story), cwd=tmp_path)
        asked = json.loads(service.communicate(timeout=30)[0])
    said = json.loads(done.stdout)
    assert "printers is explained" in said["messages"]
    assert "The printer is on fire" in said["messages"]
    assert asked == ["/articles/printers"], "what was denied never left the process"

    told(backend, story, TREE if backend.keeps_services else TREE.replace("articles: ", ""))
    spans = backend.spans(story)
    assert {span.trace for span in spans} == {said["trace"]}
    if backend.keeps_services:
        assert {span.service for span in spans} == {story, "articles"}
        assert {span.trace for span in backend.spans("articles")} >= {said["trace"]}, "found from the other end, too"
    (root,) = [span for span in spans if not span.parent]
    assert root.tags["user.id"] == "alice@acme.example"
    (ticket,) = [span for span in spans if span.name == "execute_tool read_ticket"]
    assert ticket.tags["zt_agents.resource.id"] == "ticket/5"
