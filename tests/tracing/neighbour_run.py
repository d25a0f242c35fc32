"""One agent run beside another instrumentor, in a process of its own: instrumentors cannot be taken out again.

Usage: ``python neighbour_run.py {none,openinference,langchain,sqlalchemy} FOLDER {sync,async,astream-abandoned}``.
Prints the finished spans as a JSON list of ``[depth, name, error type]``.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import sqlalchemy
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
    "sqlalchemy": ("opentelemetry.instrumentation.sqlalchemy", "SQLAlchemyInstrumentor"),
}


def main(neighbour: str, folder: Path, way: str) -> None:
    recorder = SpanRecorder()
    trace.set_tracer_provider(recorder.provider)
    if neighbour in INSTRUMENTORS:
        module, name = INSTRUMENTORS[neighbour]
        getattr(importlib.import_module(module), name)().instrument(tracer_provider=recorder.provider)
    engine = sqlalchemy.create_engine(f"sqlite:///{folder / 'data.db'}")

    def query(n: int) -> int:
        with engine.connect() as connection:
            return int(connection.execute(sqlalchemy.text("SELECT :n"), {"n": n}).scalar_one())

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
    engine.dispose()
    nodes = [item for root in recorder.trees() for item in root.walk()]
    print(json.dumps([[depth, node.name, node.attributes.get("error.type")] for depth, node in nodes]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
