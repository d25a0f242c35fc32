"""Beside other instrumentors: ours is below theirs, everything ends, and the driver's span is below ours."""

from __future__ import annotations

import importlib.util
import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
from warm_programs import WarmProgram

SCRIPT = Path(__file__).with_name("neighbour_run.py")
NEEDS = {
    "openinference": "openinference.instrumentation.langchain",
    "langchain": "opentelemetry.instrumentation.langchain",
    "sqlite3": "opentelemetry.instrumentation.sqlite3",
    "none": "opentelemetry",
}
Spans = list[tuple[int, str, str | None]]


def run(neighbour: str, folder: Path, way: str) -> Spans:
    try:
        found = importlib.util.find_spec(NEEDS[neighbour])
    except ModuleNotFoundError:
        found = None
    if found is None:
        pytest.skip(f"{NEEDS[neighbour]} is not installed")
    done = WarmProgram(SCRIPT, neighbour, str(folder), way, env=os.environ).finish(120)
    assert done.returncode == 0, done.stderr[-3000:]
    if way != "astream-abandoned" or neighbour != "langchain":  # its own context leaks when a stream is abandoned
        assert "Failed to detach context" not in done.stderr
    return [tuple(line) for line in json.loads(done.stdout.splitlines()[-1])]


def parent(spans: Spans, index: int) -> str:
    depth = spans[index][0]
    return next((name for d, name, _ in reversed(spans[:index]) if d < depth), "")


def ours(spans: Spans) -> list[int]:
    return [i for i, (_, name, error) in enumerate(spans) if name in {"execute_tool look", "execute_tool drop"}]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_alone(tmp_path: Path, way: str) -> None:
    agent, *parallel = run("none", tmp_path, way)
    assert agent == (0, "invoke_agent helpdesk", None)
    assert sorted(parallel, key=str) == [
        (1, "execute_tool drop", "access_denied"),
        (1, "execute_tool look", None),
    ]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_an_instrumented_driver_is_below_the_tool(tmp_path: Path, way: str) -> None:
    spans = run("sqlite3", tmp_path, way)
    data = [i for i, (_, name, _) in enumerate(spans) if name.startswith("SELECT")]
    assert len(data) == 1
    assert parent(spans, data[0]) == "execute_tool look"


@pytest.mark.parametrize("way", ["sync", "async"])
def test_openinference(tmp_path: Path, way: str) -> None:
    spans = run("openinference", tmp_path, way)
    assert spans[0][:2] == (0, "invoke_agent helpdesk")
    assert [depth for depth, _, _ in spans].count(0) == 1
    assert {(spans[i][1], parent(spans, i)) for i in ours(spans)} == {
        ("execute_tool look", "look"),
        ("execute_tool drop", "drop"),
    }


@pytest.mark.parametrize("way", ["sync", "async"])
def test_opentelemetry_instrumentation_langchain(tmp_path: Path, way: str) -> None:
    spans = run("langchain", tmp_path, way)
    assert spans[0][:2] == (0, "invoke_agent helpdesk")
    assert [depth for depth, _, _ in spans].count(0) == 1
    denied = [i for i in ours(spans) if spans[i][2] == "access_denied"]
    assert [(spans[i][1], parent(spans, i)) for i in denied] == [("execute_tool drop", "execute_tool drop")]


@pytest.mark.parametrize("neighbour", ["none", "openinference", "langchain"])
def test_an_abandoned_agent_stream(tmp_path: Path, neighbour: str) -> None:
    spans = run(neighbour, tmp_path, "astream-abandoned")
    assert "invoke_agent helpdesk" in {name for _, name, _ in spans}


BESIDE_OPENINFERENCE = """
invoke_agent helpdesk
  LangGraph
    model
      ScriptedChatModel
    tools
      look
        execute_tool look
    tools
      drop
        execute_tool drop !access_denied
    model
      ScriptedChatModel
"""
BESIDE_OPENTELEMETRY_INSTRUMENTATION_LANGCHAIN = """
invoke_agent helpdesk
  invoke_agent LangGraph
    LangGraph.workflow
      execute_task ZeroTrustMiddleware.before_agent
        execute_task ZeroTrustMiddleware.before_agent
      execute_task ZeroTrustMiddleware.before_model
        execute_task ZeroTrustMiddleware.before_model
      execute_task model
        ScriptedChatModel.chat
      execute_task ZeroTrustMiddleware.after_model
        execute_task ZeroTrustMiddleware.after_model
      execute_task tools
        execute_tool look
          execute_tool look
      execute_task tools
        execute_tool drop !AccessDeniedError
          execute_tool drop !access_denied
      execute_task ZeroTrustMiddleware.before_model
        execute_task ZeroTrustMiddleware.before_model
      execute_task model
        ScriptedChatModel.chat
      execute_task ZeroTrustMiddleware.after_model
        execute_task ZeroTrustMiddleware.after_model
      execute_task ZeroTrustMiddleware.after_agent
        execute_task ZeroTrustMiddleware.after_agent
"""


def blocks(lines: list[str]) -> list[str]:
    """Return an outline with siblings in the order of their text: calls side by side start in any order."""
    edges = [*(i for i, line in enumerate(lines) if not line.startswith(" ")), len(lines)]
    found = []
    for start, end in pairwise(edges):
        below = blocks([line[2:] for line in lines[start + 1 : end]])
        found.append("\n".join([lines[start], *(f"  {line}" for block in below for line in block.split("\n"))]))
    return sorted(found)


@pytest.mark.parametrize(
    ("neighbour", "tree"),
    [
        ("openinference", BESIDE_OPENINFERENCE),
        ("langchain", BESIDE_OPENTELEMETRY_INSTRUMENTATION_LANGCHAIN),
    ],
)
def test_the_whole_tree(tmp_path: Path, neighbour: str, tree: str) -> None:
    spans = run(neighbour, tmp_path, "sync")
    drawn = ["  " * depth + name + (f" !{error}" if error else "") for depth, name, error in spans]
    assert blocks(drawn) == blocks(tree.strip().split("\n"))
