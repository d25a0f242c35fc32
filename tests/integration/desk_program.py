"""An application as a user would write it: the guard exports by itself, the drivers are instrumented by their packages.

Usage: ``python desk_program.py {sync,async} URL``, with ``OTEL_*`` variables, in an empty folder. The agent reads a
ticket out of a database through SQLAlchemy, fetches an article from the service at *URL* through httpx, and tries to
fetch the pay list, which a rule denies. Prints its trace id, and what the conversation came to.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
from langchain.agents import create_agent
from langchain_core.tools import BaseTool, StructuredTool, tool
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from sqlalchemy import Engine, create_engine, text

from zt_agents import Guard
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel, calls
from zt_agents.testing import write_policy

POLICY = """
version: 1
trust_domain: acme.example
environment: test
agents:
  helpdesk: {id: spiffe://acme.example/agent/helpdesk, version: "1", owner: dana@acme.example, purpose: Answer tickets}
tools:
  read_ticket: {tier: low, effects: [read], system: tickets, resource: "ticket/{args.n}"}
  fetch_article: {tier: low, effects: [read], system: articles}
rules:
  - {id: daily-work, agents: [helpdesk], tools: [read_ticket, fetch_article], outcome: allow}
  - id: pay-is-for-hr
    agents: [helpdesk]
    tools: [fetch_article]
    outcome: deny
    when: args.title == 'pay-list'
    reason: The pay list is for HR.
"""
QUESTION = {"messages": [("user", "Work through my tickets")]}


def make_tools(engine: Engine, url: str) -> list[BaseTool]:
    @tool
    def read_ticket(n: int) -> str:
        """Read a ticket."""
        with engine.connect() as connection:
            return str(connection.execute(text("SELECT title FROM ticket WHERE n = :n"), {"n": n}).scalar_one())

    def fetch(title: str) -> str:
        """Fetch an article."""
        return httpx.get(f"{url}/articles/{title}").raise_for_status().text

    async def afetch(title: str) -> str:
        """Fetch an article."""
        async with httpx.AsyncClient() as client:
            return (await client.get(f"{url}/articles/{title}")).raise_for_status().text

    return [read_ticket, StructuredTool.from_function(fetch, afetch, name="fetch_article")]


def main(way: str, url: str) -> None:
    engine = create_engine("sqlite:///tickets.db")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE ticket (n INTEGER PRIMARY KEY, title TEXT)"))
        connection.execute(text("INSERT INTO ticket VALUES (5, 'The printer is on fire')"))
    engine.dispose()
    tools = make_tools(engine, url)
    guard = Guard.from_config(write_policy(Path(), POLICY, tools))  # installs the provider that OTEL_* asks for
    SQLAlchemyInstrumentor().instrument(engine=engine)
    HTTPXClientInstrumentor().instrument()
    model = ScriptedChatModel(
        turns=[
            calls(("read_ticket", {"n": 5})),
            calls(("fetch_article", {"title": "printers"})),
            calls(("fetch_article", {"title": "pay-list"})),
            calls(say="That is all."),
        ]
    )
    agent: Any = create_agent(model, tools, middleware=[ZeroTrustMiddleware(guard)])
    with guard, guard.session(agent="helpdesk", on_behalf_of="alice@acme.example", intent="Work through my tickets"):
        state = asyncio.run(agent.ainvoke(QUESTION)) if way == "async" else agent.invoke(QUESTION)
        context = trace.get_current_span().get_span_context()
    engine.dispose()
    print(json.dumps({"trace": f"{context.trace_id:032x}", "messages": [str(m.content) for m in state["messages"]]}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
