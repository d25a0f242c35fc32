"""What breaks before anybody has decided, foreseen or not: the body does not run, and there is a record of it."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.tools import tool
from pydantic import ValidationError

from zt_agents import AccessDeniedError
from zt_agents.integrations.langchain.gates import Seal


class _Breaks:
    def iter_errors(self, instance: Any) -> Any:
        raise RuntimeError("nobody foresaw this")


def test_arguments_that_break_the_validator_are_refused_and_recorded(make_world: Any) -> None:
    ran: list[int] = []

    @tool(args_schema={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    def act(a: int) -> str:
        """Act."""
        ran.append(a)
        return "done"

    world = make_world(act)
    seal = Seal.of(act)
    assert seal is not None
    with world.session():
        act.invoke({"a": 1})
        seal.validator = _Breaks()  # type: ignore[assignment] # what it would be like if it broke
        with pytest.raises(AccessDeniedError):
            act.invoke({"a": 2})
    assert ran == [1]
    assert world.decisions() == [("allow", "rule"), ("deny", "arguments")]


def test_arguments_that_do_not_parse_leave_a_record_and_the_frameworks_own_error(make_world: Any) -> None:
    ran: list[int] = []

    @tool
    def act(a: int) -> str:
        """Act."""
        ran.append(a)
        return "done"

    world = make_world(act)
    with world.session(), pytest.raises(ValidationError):
        act.invoke({"a": "canary-4711"})
    assert ran == []
    assert world.decisions() == [("deny", "arguments")]
    assert "canary" not in str(world.records())
