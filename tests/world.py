"""A guard over real files, and what it left in its log and its traces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zt_agents import Channel, Guard, Session
from zt_agents.stores.sqlite_audit import SqliteAuditSink
from zt_agents.testing import SpanNode, SpanRecorder, write_policy

ONE_AGENT = """
version: 1
trust_domain: acme.example
environment: test
agents:
  helpdesk: {id: spiffe://acme.example/agent/helpdesk, version: "1", owner: dana@acme.example, purpose: tests}
"""
"""How the policies of most tests begin. What follows may be another agent."""
HEAD = ONE_AGENT + """\
  other: {id: spiffe://acme.example/agent/other, version: "1", owner: dana@acme.example, purpose: tests}
"""


class World:
    """A guard, with what it remembers."""

    def __init__(self, folder: Path, text: str, tools: Sequence[Any], channel: Channel | None, **parts: Any) -> None:
        self.recorder = SpanRecorder()
        self.policy = write_policy(folder, text, tools)
        self.guard = Guard.from_config(
            self.policy, channel=channel, tracer_provider=self.recorder.provider, **parts
        )

    def session(self, **changes: Any) -> Session:
        return self.guard.session(**{"agent": "helpdesk", "on_behalf_of": "alice@acme.example", **changes})

    def records(self) -> list[dict[str, Any]]:
        """Return everything in the audit log, oldest first."""
        return records_of(self.guard)

    def decisions(self) -> list[tuple[str, str]]:
        """Return outcome and first reason of each decision in the log."""
        return [
            (record["outcome"], record["reasons"][0][0]) for record in self.records() if record["kind"] == "decision"
        ]

    def spans(self) -> list[SpanNode]:
        """Return the finished spans of tool calls."""
        return [span for span in self.recorder.spans() if span.name.startswith("execute_tool")]


def records_of(guard: Guard) -> list[dict[str, Any]]:
    """Return everything in the audit log of *guard*, oldest first."""
    guard.audit.flush(5)
    with SqliteAuditSink(guard.policy.audit_path).snapshot() as snapshot:
        return list(snapshot.read())
