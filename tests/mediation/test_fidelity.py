"""A sealed tool is the tool it was: same results through a real graph, same schemas, same class, same threads."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from langchain.tools import ToolRuntime
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.messages import ToolMessage
from langchain_core.messages.tool import tool_call
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import (
    BaseTool,
    InjectedToolCallId,
    StructuredTool,
    ToolException,
    convert_runnable_to_tool,
    create_retriever_tool,
    tool,
)
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, InjectedStore, ToolNode
from langgraph.prebuilt.tool_node import _get_all_injected_args
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command
from pydantic import BaseModel, Field, PrivateAttr, field_validator
from ways import message

Kind = Callable[[], tuple[BaseTool, dict[str, Any]]]
KINDS: dict[str, Kind] = {}


def kind(make: Kind) -> Kind:
    KINDS[make.__name__] = make
    return make


@kind
def plain() -> Any:
    @tool
    def plain(x: int, tag: str = "d") -> str:
        """Plain."""
        return f"{x}-{tag}"

    return plain, {"x": "3"}


@kind
def normalising() -> Any:
    class Path(BaseModel):
        path: str

        @field_validator("path")
        @classmethod
        def short(cls, value: str) -> str:
            return value.replace("/safe/../", "/")

    return StructuredTool.from_function(
        lambda path: path, name="normalising", description="n", args_schema=Path
    ), {"path": "/safe/../etc"}


@kind
def content_and_artifact() -> Any:
    @tool(response_format="content_and_artifact")
    def content_and_artifact(x: int) -> tuple[str, dict[str, int]]:
        """Content and artifact."""
        return "c", {"raw": x}

    return content_and_artifact, {"x": 1}


@kind
def injected_state() -> Any:
    @tool
    def injected_state(x: int, state: Annotated[dict[str, Any], InjectedState]) -> str:
        """State."""
        return f"{x}-{len(state['messages'])}"

    return injected_state, {"x": 1}


@kind
def injected_state_field() -> Any:
    @tool
    def injected_state_field(x: int, user: Annotated[str, InjectedState("user")]) -> str:
        """One field of the state, plain JSON, and no coroutine: LangChain moves to another thread under ainvoke."""
        return f"{x}-{user}"

    return injected_state_field, {"x": 1}


@kind
def injected_store() -> Any:
    @tool
    def injected_store(x: int, store: Annotated[Any, InjectedStore()]) -> str:
        """Store."""
        return f"{x}-{type(store).__name__}"

    return injected_store, {"x": 1}


@kind
def injected_call_id() -> Any:
    @tool
    def injected_call_id(x: int, tool_call_id: Annotated[str, InjectedToolCallId]) -> str:
        """Id."""
        return f"{x}-{tool_call_id}"

    return injected_call_id, {"x": 1}


@kind
def runtime() -> Any:
    @tool
    def runtime(x: int, runtime: ToolRuntime) -> str:
        """Runtime."""
        return f"{x}-{runtime.tool_call_id}-{runtime.config['configurable'].get('u')}"

    return runtime, {"x": 1}


@kind
def config_parameter() -> Any:
    @tool
    def config_parameter(x: int, config: RunnableConfig) -> str:
        """Config."""
        return f"{x}-{config['configurable'].get('u')}"

    return config_parameter, {"x": 1}


@kind
def command() -> Any:
    @tool
    def command(x: int, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Command."""
        return Command(update={"messages": [ToolMessage("via command", tool_call_id=tool_call_id)]})

    return command, {"x": 1}


@kind
def dict_schema() -> Any:
    async def call_tool(runtime: Any = None, **arguments: Any) -> Any:
        return [{"type": "text", "text": str(arguments)}], {"structured_content": arguments}

    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    return StructuredTool(
        name="dict_schema",
        description="d",
        args_schema=schema,
        coroutine=call_tool,
        response_format="content_and_artifact",
        metadata={"k": 1},
    ), {"x": 1}


@kind
def tool_exception() -> Any:
    def fail(x: int) -> None:
        raise ToolException("bad")

    return StructuredTool.from_function(fail, name="tool_exception", description="t", handle_tool_error=True), {"x": 1}


@kind
def validation_error() -> Any:
    @tool
    def typed(x: int) -> int:
        """Typed."""
        return x

    typed.name = "validation_error"
    typed.handle_validation_error = "those are not the arguments"
    return typed, {"x": "nope"}


@kind
def private_attributes() -> Any:
    class Arguments(BaseModel):
        x: int
        tag: str = "d"

    class Private(BaseTool):
        name: str = "private_attributes"
        description: str = "p"
        args_schema: Any = Arguments
        extras: Any = Field(default={"cache_control": 1})
        return_direct: bool = True
        _n: int = PrivateAttr(default=5)

        def _run(self, x: int, tag: str, run_manager: Any = None, config: RunnableConfig = None) -> str:  # type: ignore[assignment]
            return f"{x}{tag}{self._n}{run_manager is not None}{config is not None}"

    return Private(), {"x": 1}


@kind
def class_with_runtime() -> Any:
    class Runtime(BaseTool):
        name: str = "class_with_runtime"
        description: str = "r"

        def _run(self, x: int, runtime: ToolRuntime) -> str:
            return f"{x}-{runtime.tool_call_id}"

    return Runtime(), {"x": 1}


@kind
def retriever() -> Any:
    class Documents(BaseRetriever):
        def _get_relevant_documents(
            self, query: str, *, run_manager: CallbackManagerForRetrieverRun
        ) -> list[Document]:
            return [Document(page_content="D:" + query)]

    return create_retriever_tool(Documents(), "retriever", "r"), {"query": "q"}


@kind
def runnable() -> Any:
    body = RunnableLambda(lambda d: d["a"] + 1)
    return convert_runnable_to_tool(body, name="runnable", description="r", arg_types={"a": int}), {"a": 1}


@kind
def stream_writer() -> Any:
    @tool
    def stream_writer(x: int) -> str:
        """Write."""
        get_stream_writer()({"progress": x})
        return "w"

    return stream_writer, {"x": 1}


class State(MessagesState):
    user: str


async def through_graph(sealed: BaseTool, arguments: dict[str, Any], *, sync: bool) -> Any:
    graph = StateGraph(State)
    graph.add_node("tools", ToolNode([sealed]))
    graph.add_edge(START, "tools")
    graph.add_edge("tools", END)
    app = graph.compile(store=InMemoryStore())
    state: Any = {
        "messages": [message(tool_call(name=sealed.name, args=arguments, id="call-1"))],
        "user": "alice",
    }
    config: Any = {"configurable": {"u": "alice"}}
    custom, final = [], None
    try:
        if sync:
            chunks = list(app.stream(state, config, stream_mode=["values", "custom"]))
        else:
            chunks = [chunk async for chunk in app.astream(state, config, stream_mode=["values", "custom"])]
    except NotImplementedError as error:
        return str(error)  # a tool without a sync function
    for mode, chunk in chunks:
        if mode == "custom":
            custom.append(chunk)
        else:
            final = chunk
    assert final is not None
    said = final["messages"][-1]
    return said.content, said.artifact, said.status, said.name, said.tool_call_id, custom


@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_a_sealed_tool_gives_the_same_result_through_a_graph(make: Kind, sync: bool, make_world: Any) -> None:
    bare, arguments = make()
    sealed, _ = make()
    expected = asyncio.run(through_graph(bare, dict(arguments), sync=sync))
    world = make_world(sealed)

    async def run() -> Any:
        async with world.session():
            return await through_graph(sealed, dict(arguments), sync=sync)

    assert asyncio.run(run()) == expected
    assert world.decisions() or isinstance(expected, str), "the guard saw it"


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_a_sealed_tool_presents_itself_as_before(make: Kind, make_world: Any) -> None:
    sealed, _ = make()
    cls = type(sealed)
    before = (
        sealed.name,
        sealed.description,
        sealed.args_schema,
        sealed.args,
        sealed.return_direct,
        sealed.extras,
        sealed.response_format,
        sealed.metadata,
        convert_to_openai_tool(sealed),
        dataclasses.asdict(_get_all_injected_args(sealed)),
        cls.__name__,
        cls.__module__,
        getattr(sealed.tool_call_schema, "model_json_schema", lambda: sealed.tool_call_schema)(),
        sorted(sealed.get_input_schema().model_fields),
    )
    make_world(sealed)
    assert isinstance(sealed, cls)
    after = (
        sealed.name,
        sealed.description,
        sealed.args_schema,
        sealed.args,
        sealed.return_direct,
        sealed.extras,
        sealed.response_format,
        sealed.metadata,
        convert_to_openai_tool(sealed),
        dataclasses.asdict(_get_all_injected_args(sealed)),
        type(sealed).__name__,
        type(sealed).__module__,
        getattr(sealed.tool_call_schema, "model_json_schema", lambda: sealed.tool_call_schema)(),
        sorted(sealed.get_input_schema().model_fields),
    )
    assert after == before


def test_a_coroutine_stays_on_the_threads_and_the_loop_it_was_on(make_world: Any) -> None:
    seen: list[Any] = []

    @tool
    async def where(x: int) -> str:
        """Say where."""
        seen.append((threading.current_thread(), asyncio.get_running_loop(), asyncio.current_task() is not None))
        return "ok"

    world = make_world(where)

    async def run() -> None:
        with world.session():
            await where.ainvoke({"x": 1})
        assert seen == [(threading.current_thread(), asyncio.get_running_loop(), True)]

    asyncio.run(run())


def test_a_body_sees_the_contextvars_of_its_caller_and_a_tasks_session_stays_in_the_task(make_world: Any) -> None:
    @tool
    async def who(x: int) -> str:
        """Say on whose behalf."""
        await asyncio.sleep(0.01)
        from zt_agents import current_call, current_session

        permit, session = current_call(), current_session()
        assert permit is not None
        assert session is not None
        assert permit.session is session
        return session.user.id

    world = make_world(who)

    async def one(user: str) -> Any:
        async with world.session(on_behalf_of=user):
            return await who.ainvoke({"x": 1})

    async def run() -> Any:
        return await asyncio.gather(*(one(f"user-{n}") for n in range(20)))

    assert asyncio.run(run()) == [f"user-{n}" for n in range(20)]
    from zt_agents import current_call, current_session

    assert current_call() is None
    assert current_session() is None


def test_a_string_input_reaches_a_class_that_overrides_run_as_a_string(make_world: Any) -> None:
    class Loud(BaseTool):
        name: str = "loud"
        description: str = "l"

        def _run(self, text: str) -> str:
            return text

        def run(self, tool_input: Any, *args: Any, **kwargs: Any) -> str:
            return str(tool_input).upper()

    loud = Loud()
    world = make_world(loud)
    with world.session():
        assert loud.run("x") == "X"


def test_keyword_names_of_the_runnable_interface_keep_working(make_world: Any) -> None:
    class Own(BaseTool):
        name: str = "own"
        description: str = "o"

        def _run(self, a: int) -> int:
            return a

        def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
            return input["a"]

        def run(self, tool_input: Any, *args: Any, **kwargs: Any) -> Any:
            return tool_input["a"]

    own = Own()
    world = make_world(own)
    with world.session():
        assert own.invoke(input={"a": 1}) == 1
        assert own.run(tool_input={"a": 2}) == 2
