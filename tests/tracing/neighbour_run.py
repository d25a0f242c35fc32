"""One agent run beside another instrumentor, in a process of its own: instrumentors cannot be taken out again.

Usage: ``python neighbour_run.py {none,openinference,langchain,sqlite3} FOLDER {sync,async,astream-abandoned}``.
Prints the finished spans as a JSON list of ``[depth, name, error type]``.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import tool
from opentelemetry import trace

from zt_agents import Guard
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel, calls
from zt_agents.testing import SpanRecorder, write_policy

POLICY = """
version: 1
trust_domain: acme.example
environment: test
agents:
  helpdesk: {id: spiffe://acme.example/agent/helpdesk, version: "1", owner: dana@acme.example, purpose: tests}
tools:
  look: {tier: low, effects: [read]}
  drop: {tier: low, effects: [delete]}
rules:
  - {id: reads, agents: [helpdesk], tools: [look], outcome: allow}
"""
INSTRUMENTORS = {
    "openinference": ("openinference.instrumentation.langchain", "LangChainInstrumentor"),
    "langchain": ("opentelemetry.instrumentation.langchain", "LangchainInstrumentor"),
    "sqlite3": ("opentelemetry.instrumentation.sqlite3", "SQLite3Instrumentor"),
}


def main(neighbour: str, folder: Path, way: str) -> None:
    recorder = SpanRecorder()
    trace.set_tracer_provider(recorder.provider)
    if neighbour in INSTRUMENTORS:
        module, name = INSTRUMENTORS[neighbour]
        getattr(importlib.import_module(module), name)().instrument(tracer_provider=recorder.provider)

    def query(n: int) -> int:
        with contextlib.closing(sqlite3.connect(folder / "data.db")) as connection:
            return int(connection.cursor().execute("SELECT ?", (n,)).fetchone()[0])

    @tool
    def look(n: int) -> int:
        """Look."""
        return query(n)

    @tool
    def drop(n: int) -> int:
        """Drop."""
        return query(n)

    guard = Guard.from_config(write_policy(folder, POLICY, [look, drop]), tracer_provider=recorder.provider)
    model = ScriptedChatModel(turns=[calls(("look", {"n": 1}), ("drop", {"n": 2})), calls()])
    agent: Any = create_agent(model, [look, drop], middleware=[ZeroTrustMiddleware(guard)])
    question = {"messages": [("user", "look")]}

    async def run_async() -> None:
        async with guard.session(agent="helpdesk", on_behalf_of="alice", intent="look"):
            if way == "async":
                await agent.ainvoke(question)
                return
            stream = agent.astream(question)
            await anext(stream)
            await stream.aclose()

    if way == "sync":
        with guard.session(agent="helpdesk", on_behalf_of="alice", intent="look"):
            agent.invoke(question)
    else:
        asyncio.run(run_async())
    guard.close()
    nodes = [item for root in recorder.trees() for item in root.walk()]
    print(json.dumps([[depth, node.name, node.attributes.get("error.type")] for depth, node in nodes]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
