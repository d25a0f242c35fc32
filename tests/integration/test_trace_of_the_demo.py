"""The demonstration's story, as a real server tells it: human -> agent -> tool -> data, and findable."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from backends import Backend, wait_for

STORY = "zt-agents-demo"
"""The service name that the demonstration gives itself."""


@pytest.fixture(scope="module")
def played(
    backend: Backend, run_program: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Play the demonstration with its spans going to the server; return its own summary."""
    variables = backend.export_to(STORY)
    del variables["OTEL_SERVICE_NAME"]
    folder = tmp_path_factory.mktemp("demo") / "desk"
    start = "from zt_agents.cli import main; main()"
    done = run_program("-c", start, "demo", "--yes", "--json", "--dir", str(folder), env=variables)
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def test_one_trace_tells_the_whole_story(backend: Backend, played: dict[str, Any]) -> None:
    spans = wait_for(backend, STORY)
    assert len({span.trace for span in spans}) == 1
    by_id = {span.id: span for span in spans}
    (root,) = [span for span in spans if not span.parent]
    assert root.name == "invoke_agent helpdesk"
    assert root.tags["user.id"] == "alice@acme.example"
    assert all(span.parent in by_id for span in spans if span is not root)
    tools = [span for span in spans if span.name.startswith("execute_tool ")]
    assert {by_id[span.parent].name for span in tools} == {root.name}
    assert Counter(span.tags["zt_agents.decision.outcome"] for span in tools) == {"allow": 10, "deny": 4}
    inside = [span for span in spans if span.parent and span not in tools]
    allowed = {span.id for span in tools if span.tags["zt_agents.decision.outcome"] == "allow"}
    assert {span.parent for span in inside} == allowed, "data and humans are asked by allowed calls alone"
    assert Counter(span.name for span in inside)["zt_agents.approval"] == 2


def test_the_trace_and_the_audit_log_tell_the_same(backend: Backend, played: dict[str, Any]) -> None:
    spans = {
        span.tags["zt_agents.decision.id"]: span
        for span in wait_for(backend, STORY)
        if span.name.startswith("execute_tool ")
    }
    calls = {call["decision_id"]: call for call in played["calls"]}
    assert spans.keys() == calls.keys()
    for decision_id, call in calls.items():
        span = spans[decision_id]
        assert span.tags["gen_ai.tool.name"] == call["tool"]
        assert span.tags["zt_agents.decision.tier"] == call["tier"]
        assert span.trace == call["trace_id"]


@pytest.mark.parametrize(
    ("tags", "tools"),
    [
        ({"user.id": "alice@acme.example"}, 14),
        ({"gen_ai.agent.id": "spiffe://acme.example/agent/helpdesk"}, 14),
        ({"zt_agents.decision.outcome": "deny", "zt_agents.rule.id": "pay-is-for-hr"}, 14),
        ({"zt_agents.decision.outcome": "deny", "zt_agents.rule.id": "read-tickets"}, 0),
    ],
)
def test_a_search_finds_it(backend: Backend, played: dict[str, Any], tags: dict[str, str], tools: int) -> None:
    found = wait_for(backend, STORY, seconds=10 if tools else 1, **tags)
    assert sum(span.name.startswith("execute_tool ") for span in found) == tools
