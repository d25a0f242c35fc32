from __future__ import annotations

import asyncio
import copy
import functools
import pickle
from typing import Annotated, Any, Literal

import pytest
from langchain_core._api import LangChainBetaWarning
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import (
    BaseTool,
    BaseToolkit,
    InjectedToolArg,
    InjectedToolCallId,
    StructuredTool,
    Tool,
    tool,
)
from langchain_mcp_adapters.tools import convert_mcp_tool_to_langchain_tool
from langgraph.prebuilt import InjectedState, ToolRuntime
from mcp.types import Tool as MCPTool
from mcp.types import ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field
from pydantic.v1 import BaseModel as BaseModelV1

from zt_agents.catalog.fingerprints import fingerprint
from zt_agents.errors import ConfigurationError
from zt_agents.integrations.langchain.describe import describe, describe_all


@tool
def read_ticket(ticket_id: int, verbose: bool = False) -> str:
    """Read a ticket."""
    return str(ticket_id)


class Old(BaseModelV1):
    amount: int


class WithoutSchema(BaseTool):
    name: str = "classy"
    description: str = "A class."

    def _run(self, target: str, count: int = 1) -> str:
        return target * count


class Kit(BaseToolkit):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    tools: list[Any] = Field(default_factory=lambda: [read_ticket, WithoutSchema()])

    def get_tools(self) -> list[BaseTool]:
        return list(self.tools)


def mcp_tool(**annotations: Any) -> BaseTool:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    listed = MCPTool(
        name="remove_file",
        description="Remove a file.",
        inputSchema=schema,
        annotations=ToolAnnotations(**annotations),
        _meta={"origin": "somewhere"},
    )
    return convert_mcp_tool_to_langchain_tool(
        None, listed, connection={"transport": "stdio", "command": "x", "args": []}
    )


def test_a_function() -> None:
    description = describe(read_ticket)
    assert description.name == "read_ticket"
    assert description.description == "Read a ticket."
    assert description.parameters == {
        "type": "object",
        "properties": {
            "ticket_id": {"title": "Ticket Id", "type": "integer"},
            "verbose": {"title": "Verbose", "type": "boolean", "default": False},
        },
        "required": ["ticket_id"],
    }


def test_injected_arguments_are_left_out() -> None:
    @tool
    def act(
        what: str,
        user_id: Annotated[str, InjectedToolArg],
        call_id: Annotated[str, InjectedToolCallId],
        state: Annotated[dict[str, Any], InjectedState],
        runtime: ToolRuntime,
    ) -> str:
        """Act."""
        return what

    assert set(describe(act).parameters["properties"]) == {"what"}
    assert "$defs" not in describe(act).parameters


def test_each_kind_of_schema() -> None:
    old = StructuredTool.from_function(lambda amount: "", name="old", description="Old.", args_schema=Old)
    assert describe(old).parameters["properties"]["amount"]["type"] == "integer"
    raw = {"type": "object", "properties": {"x": {"enum": ["a", "b"]}}, "additionalProperties": False}
    plain = StructuredTool.from_function(lambda **_: "", name="plain", description="Plain.", args_schema=raw)
    assert describe(plain).parameters == raw
    assert describe(WithoutSchema()).parameters["required"] == ["target"]
    assert describe(Tool("simple", str, "One text.")).parameters == {
        "type": "object",
        "properties": {"tool_input": {"type": "string"}},
        "required": ["tool_input"],
    }
    with pytest.warns(LangChainBetaWarning):
        runnable = RunnableLambda(len).as_tool(arg_types={"a": int}, name="lifted", description="Lifted.")
    assert describe(runnable).parameters["properties"]["a"]["type"] == "integer"


def test_a_schema_of_ones_own_keeps_its_own_words() -> None:
    raw = {"title": "Injected words", "type": "object", "properties": {}}
    described = describe(
        StructuredTool.from_function(lambda: "", name="t", description="D.", args_schema=raw)
    )
    assert described.parameters["title"] == "Injected words"


def test_hints_come_from_where_the_mcp_adapter_puts_them() -> None:
    described = describe(mcp_tool(title="Rm", readOnlyHint=False, destructiveHint=True))
    assert described.annotations == {"readOnlyHint": False, "destructiveHint": True}
    assert set(described.parameters["properties"]) == {"path"}


def test_other_metadata_is_no_evidence() -> None:
    odd = read_ticket.model_copy(
        update={"metadata": {"readOnlyHint": "yes", "unmediated": True, "tier": "low"}}
    )
    assert describe(odd) == describe(read_ticket)
    assert describe(odd).unmediated is False


def test_the_description_is_a_copy() -> None:
    before = describe(read_ticket)
    before.parameters["properties"]["ticket_id"]["type"] = "string"  # type: ignore[index]
    assert describe(read_ticket).parameters["properties"]["ticket_id"]["type"] == "integer"


def _seal(target: BaseTool) -> None:
    """Do to a tool's class what sealing does."""
    cls = type(target)
    body = cls._run

    @functools.wraps(body)
    def _run(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError

    sealed = type(f"Sealed{cls.__name__}", (cls,), {"_run": _run, "__module__": cls.__module__})
    object.__setattr__(target, "__class__", sealed)


@pytest.mark.parametrize("warm", [True, False])
def test_sealing_changes_no_description(warm: bool) -> None:
    def fresh() -> list[BaseTool]:
        return [
            read_ticket.model_copy(),
            WithoutSchema(),
            Tool("simple", str, "One text."),
            mcp_tool(readOnlyHint=True),
        ]

    for untouched, target in zip(fresh(), fresh(), strict=True):
        if warm:
            describe(target)
        _seal(target)
        assert type(target) is not type(untouched)
        assert describe(target) == describe(untouched)
        assert fingerprint(describe(copy.deepcopy(target))) == fingerprint(describe(untouched))


def test_a_change_after_the_first_look_is_seen() -> None:
    changed = read_ticket.model_copy()
    before = fingerprint(describe(changed))
    changed.description = "Read a ticket, and forward it."
    assert fingerprint(describe(changed)) != before


@pytest.mark.parametrize(
    "source",
    [
        [read_ticket, WithoutSchema()],
        (read_ticket, WithoutSchema()),
        Kit(),
        [Kit()],
        lambda: [read_ticket, WithoutSchema()],
        lambda: Kit(),
        Kit().get_tools,
        functools.partial(list, [read_ticket, WithoutSchema()]),
    ],
)
def test_sources(source: object) -> None:
    assert [each.name for each in describe_all(source)] == ["read_ticket", "classy"]


def test_one_tool_is_a_source() -> None:
    assert describe_all(read_ticket) == [describe(read_ticket)]


def test_async_loaders() -> None:
    async def load() -> list[BaseTool]:
        await asyncio.sleep(0)
        return [read_ticket]

    assert describe_all(load) == [describe(read_ticket)]


def test_the_same_tool_twice_is_one() -> None:
    assert len(describe_all([read_ticket, read_ticket])) == 1


def test_twins_are_refused() -> None:
    twin = read_ticket.model_copy(update={"description": "Read any ticket."})
    with pytest.raises(ConfigurationError, match="Two different tools are named 'read_ticket'"):
        describe_all([read_ticket, twin])


def _untooled(x: int) -> int:
    return x


def _broken() -> list[BaseTool]:
    raise OSError("no server")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (None, "A NoneType is not a tool"),
        ("read_ticket", "A str is not a tool"),
        (Kit, "is not a tool"),
        ({"read": read_ticket}, "A dict is not a tool"),
        ([read_ticket, _untooled], "holds a function, which cannot be guarded"),
        ([{"type": "function", "function": {"name": "f"}}], "describes no provider's tool"),
        ([{"name": "f", "input_schema": {}}], "describes no provider's tool"),
        ([[read_ticket]], "holds a list"),
        (_broken, r"_broken\(\) returned no tools: OSError: no server"),
        (lambda: _broken, "returned another function"),
    ],
)
def test_what_is_not_a_tool_is_refused(source: object, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        describe_all(source)


def test_parameters_without_json_schema_are_refused() -> None:
    class Opaque:
        pass

    class Arguments(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        thing: Opaque

    odd = StructuredTool.from_function(
        lambda thing: "", name="odd", description="Odd.", args_schema=Arguments
    )
    with pytest.raises(ConfigurationError, match="'odd' have no JSON Schema"):
        describe(odd)


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ({"type": "web_search_20250305", "name": "web_search", "max_uses": 5}, "web_search"),
        ({"type": "code_interpreter", "container": {"type": "auto"}}, "code_interpreter"),
        ({"google_search": {}}, "google_search"),
        ({"type": "mcp", "server_label": "wiki", "server_url": "https://x.example/mcp"}, "wiki"),
    ],
)
def test_tools_of_the_provider_are_marked(provider: dict[str, Any], name: str) -> None:
    (description,) = describe_all([provider])
    assert description.name == name
    assert description.unmediated
    assert fingerprint(description)


def test_secrets_of_a_provider_tool_stay_out() -> None:
    connector = {
        "type": "mcp",
        "server_label": "wiki",
        "server_url": "https://user:hunter2@x.example/mcp?key=hunter2",
        "authorization": "Bearer hunter2",
        "headers": {"X-Key": "hunter2"},
    }
    (description,) = describe_all([connector])
    assert "hunter2" not in repr(description)
    (moved,) = describe_all([{**connector, "server_url": "https://evil.example/mcp"}])
    assert fingerprint(moved) != fingerprint(description)


class Part(BaseModel):
    kind: Literal["a", "b"]


def test_literal_types_and_nested_models() -> None:
    @tool
    def build(parts: list[Part]) -> str:
        """Build."""
        return ""

    assert describe(build).parameters["$defs"]["Part"]["properties"]["kind"]["enum"] == ["a", "b"]
    assert pickle.loads(pickle.dumps(describe(build))) == describe(build)
