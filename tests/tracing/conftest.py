"""A guard with recorded spans over a real database that is reached through an instrumented driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool, tool
from opentelemetry import trace

from zt_agents import Guard
from zt_agents.testing import AnsweringChannel, SpanNode, SpanRecorder, write_policy

POLICY = """
version: 1
trust_domain: acme.example
environment: test
agents:
  helpdesk: {id: spiffe://acme.example/agent/helpdesk, version: "1.4", owner: dana@acme.example, purpose: tests}
tools:
  look: {tier: low, effects: [read], system: tickets, resource: "ticket/{args.n}", data_class: internal}
  alook: {tier: low, effects: [read], system: tickets}
  slow: {tier: low, effects: [read]}
  lines: {tier: low, effects: [read]}
  alines: {tier: low, effects: [read]}
  outer: {tier: low, effects: [read]}
  change: {tier: medium, effects: [write]}
  wipe: {tier: high, effects: [delete]}
rules:
  - id: reads
    agents: [helpdesk]
    tools: [look, alook, slow, lines, alines, outer, change, wipe]
    outcome: allow
  - {id: not-13, agents: [helpdesk], tools: [look], outcome: deny, when: args.n == 13, reason: Thirteen is taboo.}
"""


@pytest.fixture
def recorder() -> SpanRecorder:
    return SpanRecorder()


@pytest.fixture
def seen() -> list[str]:
    """Span ids that were current inside bodies."""
    return []


@pytest.fixture
def tools(recorder: SpanRecorder, seen: list[str]) -> dict[str, BaseTool]:
    import asyncio

    driver = recorder.provider.get_tracer("driver")

    def query() -> None:
        seen.append(format(trace.get_current_span().get_span_context().span_id, "016x"))
        with driver.start_as_current_span("SELECT tickets"):
            pass

    @tool
    def look(n: int) -> str:
        """Read a ticket."""
        query()
        return f"ticket {n}"

    @tool
    async def alook(n: int) -> str:
        """Read a ticket, asynchronously."""
        query()
        await asyncio.sleep(0)
        query()
        return f"ticket {n}"

    @tool
    async def slow() -> str:
        """Take long."""
        query()
        await asyncio.sleep(30)
        return "done"

    @tool
    def lines() -> Any:
        """Stream lines."""
        for number in range(3):
            query()
            yield number

    @tool
    def alines() -> Any:
        """Stream lines, asynchronously."""

        async def produce() -> Any:
            for number in range(3):
                query()
                yield number

        return produce()

    @tool
    def outer(n: int) -> str:
        """Call another tool."""
        return str(look.invoke({"n": n}))

    @tool
    def change(n: int) -> str:
        """Change a ticket."""
        query()
        return "changed"

    @tool
    def wipe(n: int) -> str:
        """Wipe a ticket."""
        query()
        return "wiped"

    return {each.name: each for each in (look, alook, slow, lines, alines, outer, change, wipe)}


@pytest.fixture
def channel() -> AnsweringChannel:
    return AnsweringChannel(approve=True)


@pytest.fixture
def guard(
    tmp_path: Path, recorder: SpanRecorder, tools: dict[str, BaseTool], channel: AnsweringChannel
) -> Iterator[Guard]:
    path = write_policy(tmp_path, POLICY, tools.values())
    with Guard.from_config(path, tracer_provider=recorder.provider, channel=channel) as guard:
        guard.protect(list(tools.values()))
        yield guard


@pytest.fixture
def outline(recorder: SpanRecorder) -> Callable[[], list[str]]:
    """Return the recorded trees as indented lines."""

    def draw() -> list[str]:
        def line(depth: int, node: SpanNode) -> str:
            return "  " * depth + node.name + (" !" if node.attributes.get("error.type") else "")

        return [line(depth, node) for root in recorder.trees() for depth, node in root.walk()]

    return draw
