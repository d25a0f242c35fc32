"""What a call is decided on stands in the field that is named for it."""

from __future__ import annotations

from typing import Any

from langchain_core.tools import tool

from zt_agents import ToolCall, User, current_call
from zt_agents.decisions import ChainLink
from zt_agents.provenance.labels import Label


def test_each_part_of_the_question(make_world: Any) -> None:
    asked: list[ToolCall] = []

    @tool
    def act(a: int) -> str:
        """Act."""
        asked.append(current_call().call)  # type: ignore[union-attr]
        return "done"

    world = make_world(act)
    world.guard.clock = lambda: 1_900_000_000.5
    alice = User("alice@acme.example", groups=("hr",))
    opened = world.session(
        on_behalf_of=alice, intent="Do it", task="ticket-7", tenant="north", attributes={"site": "oslo"}
    )
    with opened as session:
        act.invoke({"type": "tool_call", "name": "act", "args": {"a": 1}, "id": "call-1"})
    agent = world.guard.registry.get("helpdesk")
    assert asked[0]._asdict() == {
        "tool": "act",
        "spec": world.guard.catalog.get("act"),
        "arguments": {"a": 1},
        "agent": agent,
        "user": alice,
        "session_id": session.id,
        "intent": "Do it",
        "task": "ticket-7",
        "call_id": "call-1",
        "resource": "",
        "label": Label(),
        "time": 1_900_000_000.5,
        "environment": "test",
        "attributes": {"site": "oslo"},
        "tenant": "north",
        "chain": (
            ChainLink("helpdesk", agent.id, "dana@acme.example", "alice@acme.example", session.id, "ticket-7"),
        ),
    }
