"""An application that brings its own tracer provider, or leaves it to the guard.

Usage: ``python own_provider_program.py {own,guards} FOLDER [ENDPOINT]``, with ``OTEL_*`` variables; the application's
exporter goes to ENDPOINT. It handles one request, in a span of its own, in which the agent's tool is called.
"""

from __future__ import annotations

import sys
from pathlib import Path

from langchain_core.tools import tool
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from zt_agents import Guard
from zt_agents.testing import write_policy

POLICY = """
version: 1
trust_domain: acme.example
environment: test
agents:
  helpdesk: {id: spiffe://acme.example/agent/helpdesk, version: "1", owner: dana@acme.example, purpose: Answer tickets}
tools:
  look: {tier: low, effects: [read]}
rules:
  - {id: reads, agents: [helpdesk], tools: [look], outcome: allow}
"""


def main(whose: str, folder: Path, endpoint: str = "") -> None:
    own = None
    if whose == "own":
        own = TracerProvider()
        own.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces")))
        trace.set_tracer_provider(own)

    @tool
    def look(n: int) -> str:
        """Look."""
        with trace.get_tracer("driver").start_as_current_span("SELECT"):
            return "seen"

    with Guard.from_config(write_policy(folder, POLICY, [look])) as guard:
        guard.protect(look)
        with (
            trace.get_tracer("application").start_as_current_span("POST /ask"),
            guard.session(agent="helpdesk", on_behalf_of="alice@acme.example"),
        ):
            look.invoke({"n": 1})
    if own is not None:
        assert trace.get_tracer_provider() is own
        with trace.get_tracer("application").start_as_current_span("GET /later"):  # it still works
            pass
    print(type(trace.get_tracer_provider()).__name__)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
