"""Callbacks of a sealed tool are shown what those of the bare tool are shown: never an injected argument."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tools import BaseTool, InjectedToolArg, StructuredTool, Tool
from pydantic import BaseModel

from zt_agents import AccessDeniedError, Guard
from zt_agents.integrations.langchain import injected
from zt_agents.testing import write_policy

POLICY = """
version: 1
trust_domain: corp.example
environment: test
agents:
  helpdesk: {id: spiffe://corp.example/agent/helpdesk, version: "1", owner: kim@corp.example, purpose: Tests.}
tools:
  search: {tier: low, effects: [read]}
rules:
  - {id: search, agents: [helpdesk], tools: [search], outcome: allow}
"""
SECRET = "s3cret"


class Question(BaseModel):
    q: str
    key: Annotated[str, InjectedToolArg] = ""


class Answers(BaseModel):
    q: str
    key: str = ""


def body(q: str, key: Annotated[str, InjectedToolArg] = "") -> str:
    return q


class Search(BaseTool):
    name: str = "search"
    description: str = "Searches."
    args_schema: type[BaseModel] = Question

    def _run(self, q: str, key: str = "") -> str:
        return q


class Recorder(BaseCallbackHandler):
    def __init__(self) -> None:
        self.shown: list[Any] = []

    def on_tool_start(self, serialized: dict[str, Any], input_str: str, **kwargs: Any) -> None:
        self.shown.append((input_str, kwargs.get("inputs")))


def from_signature() -> BaseTool:
    return StructuredTool.from_function(body, name="search", description="Searches.")


def from_schema() -> BaseTool:
    return StructuredTool.from_function(body, name="search", description="Searches.", args_schema=Question)


def from_json_schema() -> BaseTool:
    schema = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
    return StructuredTool.from_function(body, name="search", description="Searches.", args_schema=schema)


def single_input() -> BaseTool:
    return Tool("search", lambda q: q, "Searches.")


def guard_of(tool: BaseTool, folder: Path) -> Guard:
    guard = Guard.from_config(write_policy(folder, POLICY, [tool]))
    guard.protect(tool)
    return guard


def shown(tool: BaseTool, arguments: dict[str, Any]) -> list[Any]:
    recorder = Recorder()
    tool.invoke(arguments, {"callbacks": [recorder]})
    return recorder.shown


@pytest.mark.parametrize("make", [from_signature, from_schema, Search])
def test_an_injected_argument_is_hidden_as_before(make: Callable[[], BaseTool], tmp_path: Path) -> None:
    before = shown(make(), {"q": "vpn", "key": SECRET})
    tool = make()
    with guard_of(tool, tmp_path) as guard, guard.session(agent="helpdesk", on_behalf_of="dana"):
        after = shown(tool, {"q": "vpn", "key": injected(SECRET)})
    assert before == after
    assert SECRET not in repr(after)
    assert "vpn" in repr(after)


@pytest.mark.parametrize("make", [from_json_schema, single_input])
def test_without_injected_arguments_all_is_shown_as_before(make: Callable[[], BaseTool], tmp_path: Path) -> None:
    arguments = {next(iter(make().args)): "vpn"}
    before = shown(make(), dict(arguments))
    tool = make()
    with guard_of(tool, tmp_path) as guard, guard.session(agent="helpdesk", on_behalf_of="dana"):
        assert shown(tool, dict(arguments)) == before


def test_a_copy_with_another_schema_is_judged_by_that_schema(tmp_path: Path) -> None:
    """It is refused as tampered; what its callbacks see until then is still not an injected argument."""
    tool = StructuredTool.from_function(
        lambda q, key="": q, name="search", description="Searches.", args_schema=Answers
    )
    with guard_of(tool, tmp_path) as guard, guard.session(agent="helpdesk", on_behalf_of="dana"):
        copy = tool.model_copy(update={"args_schema": Question})
        recorder = Recorder()
        with pytest.raises(AccessDeniedError):
            copy.invoke({"q": "vpn", "key": SECRET}, {"callbacks": [recorder]})
    assert recorder.shown
    assert SECRET not in repr(recorder.shown)
