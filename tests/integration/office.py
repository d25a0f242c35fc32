"""A small office: a helpdesk agent, a researcher it may ask, tools over a real database, and real export of its spans.

The driver of the database is instrumented connection by connection, so that several offices in one process each send
their spans to their own place, and the guard's own log stays out of the picture.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import BaseTool, tool
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from world import records_of

from zt_agents import Channel, Guard, Session
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel, calls
from zt_agents.testing import write_policy

POLICY = """
version: 1
trust_domain: acme.example
environment: test
agents:
  helpdesk:
    {id: spiffe://acme.example/agent/helpdesk, version: "1.4", owner: dana@acme.example, purpose: Answer tickets}
  researcher:
    {id: spiffe://acme.example/agent/researcher, version: "2", owner: erin@acme.example, purpose: Look things up}
tools:
  read_ticket: {tier: low, effects: [read], system: tickets, resource: "ticket/{args.n}"}
  read_article: {tier: low, effects: [read], system: articles}
  list_tickets: {tier: low, effects: [read], system: tickets}
  post_note: {tier: medium, effects: [write], system: tickets, content: [text]}
  send_mail: {tier: medium, effects: [egress], system: mail, destinations: [to], content: [body]}
  close_ticket: {tier: high, effects: [write], system: tickets, resource: "ticket/{args.n}"}
  drop_tickets: {tier: medium, effects: [delete], system: tickets}
  ask_researcher: {tier: low, effects: [execute]}
rules:
  - id: daily-work
    agents: [helpdesk]
    tools: [read_ticket, read_article, list_tickets, post_note, send_mail, close_ticket, ask_researcher]
    outcome: allow
  - {id: research, agents: [researcher], tools: [read_article], outcome: allow}
  - id: no-mail-outside
    agents: [helpdesk]
    tools: [send_mail]
    outcome: deny
    when: "!args.to.endsWith('@acme.example')"
    reason: Mail stays inside the company.
"""

HELPDESK = "spiffe://acme.example/agent/helpdesk"
RESEARCHER = "spiffe://acme.example/agent/researcher"
ALICE, BOB = "alice@acme.example", "bob@acme.example"


class Office:
    """A guard, its tools, and the tracer provider whose spans go to a server."""

    def __init__(
        self, folder: Path, resource: dict[str, str], export: dict[str, str], *, channel: Channel | None = None
    ) -> None:
        self.provider = TracerProvider(resource=Resource(resource), shutdown_on_exit=False)
        endpoint = f"{export['OTEL_EXPORTER_OTLP_ENDPOINT']}/v1/traces"
        self.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint), schedule_delay_millis=50))
        self.database = folder / "tickets.db"
        with contextlib.closing(sqlite3.connect(self.database)) as made:
            made.execute("CREATE TABLE ticket (n INTEGER PRIMARY KEY, title TEXT)")
            made.executemany("INSERT INTO ticket VALUES (?, ?)", [(n, f"Ticket {n}") for n in range(1, 9)])
            made.commit()
        self.within_reading: Callable[[], object] = lambda: None
        """What happens in the bodies of ``read_ticket`` and ``read_article`` before they read."""
        self.research: Callable[[str], str] = lambda question: "nothing is known"
        """The body of ``ask_researcher``."""
        self.tools = {each.name: each for each in self._tools()}
        self.guard = Guard.from_config(
            write_policy(folder, POLICY, self.tools.values()), tracer_provider=self.provider, channel=channel
        )
        self.guard.protect(list(self.tools.values()))

    def _tools(self) -> list[BaseTool]:
        @tool
        def read_ticket(n: int) -> str:
            """Read a ticket."""
            self.within_reading()
            return self.query("SELECT title FROM ticket WHERE n = ?", n)

        @tool
        def read_article(title: str) -> str:
            """Read an article."""
            self.within_reading()
            return self.query("SELECT ? || ' is explained'", title)

        @tool
        def list_tickets() -> Any:
            """List the tickets, one by one."""
            for n in range(1, 4):
                yield self.query("SELECT title FROM ticket WHERE n = ?", n)

        @tool
        def post_note(text: str) -> str:
            """Write a note; fails."""
            raise RuntimeError(f"the notes are full, cannot take {text}")

        @tool
        def send_mail(to: str, body: str) -> str:
            """Send an e-mail."""
            return f"sent to {to}: {body}"

        @tool
        def close_ticket(n: int, words: str = "") -> str:
            """Close a ticket."""
            self.query("UPDATE ticket SET title = ? WHERE n = ?", words or "closed", n)
            return f"closed: {words}"

        @tool
        def drop_tickets() -> str:
            """Drop all tickets."""
            return self.query("DELETE FROM ticket")

        @tool
        def ask_researcher(question: str) -> str:
            """Ask the researcher."""
            return self.research(question)

        return [
            read_ticket, read_article, list_tickets, post_note, send_mail, close_ticket, drop_tickets, ask_researcher,
        ]  # fmt: skip

    def query(self, sql: str, *values: object) -> str:
        """Run one statement through the instrumented driver."""
        with contextlib.closing(sqlite3.connect(self.database)) as plain:
            connection = SQLite3Instrumentor.instrument_connection(plain, tracer_provider=self.provider)
            cursor = connection.cursor()
            cursor.execute(sql, values)
            row = cursor.fetchone() if sql.startswith("SELECT") else None
            connection.commit()
            return str(row[0]) if row else ""

    def session(self, agent: str = "helpdesk", on_behalf_of: str = ALICE, **more: Any) -> Session:
        return self.guard.session(agent=agent, on_behalf_of=on_behalf_of, **more)

    def agent(self, *turns: Sequence[tuple[str, dict[str, Any]]]) -> Any:
        """Return a real agent whose model makes the calls of each turn, and then stops."""
        model = ScriptedChatModel(turns=[*(calls(*turn) for turn in turns), calls(say="That is all.")])
        return create_agent(model, list(self.tools.values()), middleware=[ZeroTrustMiddleware(self.guard)])

    def records(self) -> list[dict[str, Any]]:
        """Return what the audit log says, oldest first."""
        return records_of(self.guard)

    def close(self) -> None:
        self.guard.close()
        self.provider.shutdown()


QUESTION = {"messages": [("user", "Work through my tickets")]}


def run(office: Office, *turns: Sequence[tuple[str, dict[str, Any]]], **session: Any) -> Any:
    """Let the helpdesk's agent make its calls in a session, and return the state it ends in."""
    with office.session(**session):
        return office.agent(*turns).invoke(QUESTION)
