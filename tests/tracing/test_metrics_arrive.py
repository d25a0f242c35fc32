"""The metrics that a guard keeps arrive at a collector, by the standard variables, and name no user and no argument."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from serving import QuietHandler, serving

CANARY = "canary-4711"
PROGRAM = f"""
import sys
from pathlib import Path
from langchain_core.tools import tool
from zt_agents import AccessDeniedError, Guard
from zt_agents.testing import AnsweringChannel, write_policy

POLICY = '''
version: 1
trust_domain: acme.example
environment: test
agents:
  helpdesk: {{id: spiffe://acme.example/agent/helpdesk, version: "1", owner: dana@acme.example, purpose: tests}}
tools:
  look: {{tier: low, effects: [read], resource: "ticket/{{args.what}}"}}
  close: {{tier: high, effects: [write]}}
rules:
  - {{id: work, agents: [helpdesk], tools: [look, close], outcome: allow, when: args.what != "denied"}}
'''

@tool
def look(what: str) -> str:
    '''Look.'''
    return "seen"

@tool
def close(what: str) -> str:
    '''Close.'''
    return "closed"

channel = AnsweringChannel(approve=True, approver="dana@acme.example")
with Guard.from_config(write_policy(Path(sys.argv[1]), POLICY, [look, close]), channel=channel) as guard:
    guard.protect([look, close])
    with guard.session(agent="helpdesk", on_behalf_of="{CANARY}@acme.example", intent="{CANARY}"):
        look.invoke({{"what": "{CANARY}"}})
        look.invoke({{"what": "{CANARY}"}})
        close.invoke({{"what": "{CANARY}"}})
        try:
            look.invoke({{"what": "denied"}})
        except AccessDeniedError:
            pass
"""
Points = dict[str, tuple[str, list[dict[str, Any]]]]


@pytest.fixture
def collector() -> Iterator[tuple[str, dict[str, list[bytes]]]]:
    received: dict[str, list[bytes]] = {}

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            packed = self.headers.get("Content-Encoding") == "gzip"
            received.setdefault(self.path, []).append(gzip.decompress(body) if packed else body)
            self.send_response(200)
            self.end_headers()

    with serving(HTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}", received


def points(bodies: list[bytes]) -> Points:
    """Return, of the last that came: by metric, its unit, and each point's attributes with count or value."""
    found: Points = {}
    for resource in ExportMetricsServiceRequest.FromString(bodies[-1]).resource_metrics:
        for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
            data = getattr(metric, str(metric.WhichOneof("data"))).data_points
            found[metric.name] = (
                metric.unit,
                [
                    {item.key: item.value.string_value for item in point.attributes}
                    | {"n": getattr(point, "count", None) or getattr(point, "as_int", None)}
                    for point in data
                ],
            )
    return found


def test_metrics_arrive_with_the_names_of_the_conventions(
    collector: tuple[str, dict[str, list[bytes]]], tmp_path: Path
) -> None:
    url, received = collector
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_METRICS_EXPORTER": "otlp"}
    paths = {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], env=clean | settings | paths, timeout=60, check=True)

    found = points(received["/v1/metrics"])
    outcome, tier = "zt_agents.decision.outcome", "zt_agents.decision.tier"
    unit, decisions = found["zt_agents.decisions"]
    assert unit == "{decision}"
    assert sorted((point[outcome], point[tier], point["n"]) for point in decisions) == [
        ("allow", "high", 1),
        ("allow", "low", 2),
        ("deny", "low", 1),
        ("require_approval", "high", 1),
    ]
    unit, durations = found["gen_ai.execute_tool.duration"]
    assert unit == "s"
    assert sorted((p["gen_ai.tool.name"], p.get("error.type", ""), p["n"]) for p in durations) == [
        ("close", "", 1),
        ("look", "", 2),
        ("look", "access_denied", 1),
    ]
    assert {point["gen_ai.operation.name"] for point in durations} == {"execute_tool"}
    assert found["zt_agents.approval.wait"] == ("s", [{"zt_agents.approval.status": "approved", "n": 1}])
    assert found["zt_agents.spans.dropped"][0] == "{span}"
    assert not any(CANARY.encode() in body for body in received["/v1/metrics"])
    assert any(CANARY.encode() in body for body in received["/v1/traces"]), "a canary that is nowhere proves nothing"
