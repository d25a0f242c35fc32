"""What most tests of the guard need: a guard over real files, and what it left in its log and its traces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from zt_agents import Channel, Guard, Session
from zt_agents.errors import AuditError
from zt_agents.stores.sqlite_audit import SqliteAuditSink
from zt_agents.testing import SpanNode, SpanRecorder, write_policy

HEAD = """
version: 1
trust_domain: acme.example
environment: test
agents:
  helpdesk: {id: spiffe://acme.example/agent/helpdesk, version: "1", owner: dana@acme.example, purpose: tests}
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
        self.guard.audit.flush(5)
        with SqliteAuditSink(self.guard.policy.audit_path).snapshot() as snapshot:
            return list(snapshot.read())

    def decisions(self) -> list[tuple[str, str]]:
        """Return outcome and first reason of each decision in the log."""
        return [
            (record["outcome"], record["reasons"][0][0]) for record in self.records() if record["kind"] == "decision"
        ]

    def spans(self) -> list[SpanNode]:
        """Return the finished spans of tool calls."""
        return [span for span in self.recorder.spans() if span.name.startswith("execute_tool")]


MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[MakeWorld]:
    """Return a function that builds a guard over tools and seals them.

    Every tool has one rule, with the *outcome* and condition given; *tools* that are dicts of name to entry replace
    parts of a tool's catalog entry.
    """
    worlds: list[World] = []

    def make(
        *tools: Any,
        outcome: str = "allow",
        when: str = "",
        tier: str = "low",
        effects: str = "write",
        rules: str = "",
        channel: Channel | None = None,
        protect: bool = True,
        **parts: Any,
    ) -> World:
        folder = tmp_path / f"guard-{len(worlds)}"
        folder.mkdir()
        names = [tool.name for tool in tools]
        entry = f"{{tier: {tier}, effects: [{effects}], data_class: public, integrity: trusted}}"
        lines = [HEAD, "tools:", *(f"  {name}: {entry}" for name in names), "rules:"]
        if rules:
            lines.append(rules)
        else:
            condition = f", when: {when!r}" if when else ""
            lines.append(
                f"  - {{id: the-rule, agents: [helpdesk], tools: [{', '.join(names)}], outcome: {outcome}{condition}, "
                "reason: The threshold is 100.}"
            )
        world = World(folder, "\n".join(lines) + "\n", tools, channel, **parts)
        worlds.append(world)
        if protect:
            world.guard.protect(list(tools))
        return world

    yield make
    for world in worlds:
        try:
            world.guard.close()
        except AuditError:
            continue  # a test broke the log on purpose
