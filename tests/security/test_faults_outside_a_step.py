"""A fault of the guard that no step expects still denies, names its cause, and leaves a record."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.tools import tool

from zt_agents import EnforcementUnavailableError
from zt_agents.telemetry.attributes import SPAN_APPROVAL
from zt_agents.testing import AnsweringChannel


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_it_is_recorded_and_chained(make_world: Any, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    ran: list[int] = []

    @tool
    def add(a: int) -> int:
        """Add."""
        ran.append(a)
        return a

    world = make_world(add, tier="high", channel=AnsweringChannel(approve=True))
    start = world.guard.tracing.start
    broken = RuntimeError("no span today")

    def failing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == SPAN_APPROVAL:
            raise broken
        return start(name, *args, **kwargs)

    monkeypatch.setattr(world.guard.tracing, "start", failing)
    call = {"name": "add", "args": {"a": 1}, "id": "call_1", "type": "tool_call"}
    with world.session(), pytest.raises(EnforcementUnavailableError) as caught:
        asyncio.run(add.ainvoke(call)) if way == "ainvoke" else add.invoke(call)
    assert caught.value.__cause__ is broken
    assert ran == []
    assert world.decisions()[-1] == ("deny", "fault")
    assert [span.name for span in world.spans()] == ["execute_tool add"], "the call's span has ended"
