"""Traces may be sampled away or switched off; the audit log is whole all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, sys
from pathlib import Path
from langchain_core.tools import tool
from opentelemetry import trace
from zt_agents import Guard
from zt_agents.stores.sqlite_audit import SqliteAuditSink
from zt_agents.testing import write_policy
@tool
def look(n: int) -> str:
    "Look."
    return "x"
folder = Path(sys.argv[1])
path = write_policy(folder, '''
version: 1
trust_domain: acme.example
environment: test
agents: {a: {id: spiffe://acme.example/a, version: "1", owner: o, purpose: p}}
tools: {look: {tier: low, effects: [read]}}
rules: [{id: r, agents: [a], tools: [look], outcome: allow}]
''', [look])
if "parent" in sys.argv:
    from opentelemetry import context
    above = trace.SpanContext(1, 2, is_remote=True, trace_flags=trace.TraceFlags(0))
    context.attach(trace.set_span_in_context(trace.NonRecordingSpan(above)))
with Guard.from_config(path) as guard:
    guard.protect([look])
    with guard.session(agent="a", on_behalf_of="u"):
        look.invoke({"n": 1})
    where = guard.policy.audit_path
sink = SqliteAuditSink(where)
with sink.snapshot() as snapshot:
    print(json.dumps([[r["kind"], r.get("trace_id", ""), r.get("span_id", "")] for r in snapshot.read()]))
sink.close()
"""


def records(folder: Path, *arguments: str, **environment: str) -> list[list[str]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}  # nothing may be sent there
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), *arguments], env={**clean, **endpoint, **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "being lost" not in done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {"OTEL_TRACES_SAMPLER": "always_off"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
    ],
)
def test_unsampled_calls_are_recorded_with_their_trace(tmp_path: Path, settings: dict[str, str]) -> None:
    (kind, trace_id, span_id), outcome = records(tmp_path, **settings)
    assert (kind, len(trace_id), len(span_id)) == ("decision", 32, 16)
    assert outcome == ["outcome", "", ""], "an outcome leaves them to its decision"


def test_a_parent_that_is_not_sampled_lends_its_trace(tmp_path: Path) -> None:
    decision, _ = records(tmp_path, "parent")
    assert decision[1] == f"{1:032x}"


def test_without_an_sdk_records_are_complete_and_have_no_trace(tmp_path: Path) -> None:
    found = records(tmp_path, OTEL_SDK_DISABLED="true")
    assert found == [["decision", "", ""], ["outcome", "", ""]]
