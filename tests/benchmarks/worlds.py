"""What is measured: a tool, bare and governed, with everything real except the trace collector."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tools import BaseTool, StructuredTool
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

_POLICY = """
version: 1
trust_domain: bench.example
environment: production
session: {ttl: 1h}
agents:
  helpdesk:
    id: spiffe://bench.example/agent/helpdesk
    version: "1.0"
    owner: kim@bench.example
    purpose: Answers employees' questions.
tools:
  search: {tier: low, effects: [read], system: wiki, resource: "article/{args.q}"}
  update: {tier: medium, effects: [write], system: wiki, resource: "article/{args.q}"}
rules:
  - id: everybody-reads-and-writes
    agents: [helpdesk]
    tools: [search, update]
    outcome: allow
    when: args.q != "denied"
"""

ARGUMENTS = {"q": "vpn"}
DENIED = {"q": "denied"}


class Discarding(SpanExporter):
    """Encodes spans for OTLP as the real exporter does, and sends them nowhere."""

    def __init__(self) -> None:
        self.spans = 0
        self.bytes = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += len(spans)
        self.bytes += len(encode_spans(spans).SerializeToString())
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        return None


class NoOp(BaseCallbackHandler):
    """A callback handler that does nothing."""


def batching(exporter: SpanExporter) -> TracerProvider:
    """Return a provider that exports in the background, as in production."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def make_tool(name: str = "search") -> BaseTool:
    """Return a tool whose body does nothing, so that all of its time is the framework's."""

    def body(q: str) -> str:
        return q

    async def abody(q: str) -> str:
        return q

    for function in (body, abody):
        # Types, not text: LangChain resolves text anew on every call of a bare tool, and not of a sealed one.
        function.__annotations__ = {"q": str, "return": str}
    return StructuredTool.from_function(
        body, abody, name=name, description="Looks for an article in the wiki."
    )


class Governed:
    """A guard with two sealed tools, and an open session."""

    def __init__(self, folder: Path, provider: TracerProvider) -> None:
        from zt_agents import Guard
        from zt_agents.integrations.langchain import tripwire
        from zt_agents.testing import write_policy

        self.search, self.update = make_tool("search"), make_tool("update")
        path = write_policy(folder, _POLICY, [self.search, self.update])
        self.guard = Guard.from_config(path, tracer_provider=provider)
        self.guard.protect([self.search, self.update])
        self._session = self.guard.session(
            agent="helpdesk", on_behalf_of="dana@bench.example", intent="Set up my VPN"
        )
        self.context = contextvars.copy_context()
        self.context.run(self._session.__enter__)
        self.bare_context = contextvars.copy_context()
        """Without session, and without the tripwire, which is installed for the whole process."""
        self.bare_context.run(tripwire._handler.set, None)

    def close(self) -> None:
        self.context.run(self._session.__exit__, None, None, None)
        self.guard.close()


def refused(call: Callable[[], Any]) -> Callable[[], None]:
    """Return *call* as something that must be denied."""
    from zt_agents import AccessDeniedError

    def attempt() -> None:
        try:
            call()
        except AccessDeniedError:
            return
        raise AssertionError("the call was not denied")

    return attempt
