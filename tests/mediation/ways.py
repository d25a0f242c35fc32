"""Every way to a tool's body: how to make the tool, and how to walk the way with ``a=1``."""

from __future__ import annotations

import asyncio
import copy
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from langchain.agents import create_agent
from langchain.tools import ToolRuntime
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.messages.tool import tool_call
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import BaseTool, StructuredTool, Tool, convert_runnable_to_tool, create_retriever_tool, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from pydantic import PrivateAttr

from zt_agents.integrations.langchain.scripted import ScriptedChatModel

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # langchain-classic imports langchain-community, which warns
    from langchain_classic.agents import AgentExecutor, create_tool_calling_agent

Bodies = list[Any]
"""What bodies were called with, one entry per run of a body."""


# -- tools: each appends to *ran* what its body was called with ------------------------------------------------------


def function_tool(ran: Bodies) -> BaseTool:
    def add(a: int, b: int = 7) -> int:
        """Add two numbers."""
        ran.append((a, b))
        return a + b

    async def aadd(a: int, b: int = 7) -> int:
        """Add two numbers."""
        ran.append((a, b))
        return a + b

    return StructuredTool.from_function(func=add, coroutine=aadd, name="add", description="Add two numbers.")


def sync_tool(ran: Bodies) -> BaseTool:
    def add(a: int, b: int = 7) -> int:
        """Add two numbers."""
        ran.append((a, b))
        return a + b

    return StructuredTool.from_function(func=add, name="add", description="Add two numbers.")


def text_tool(ran: Bodies) -> BaseTool:
    def echo(text: str) -> str:
        ran.append(text)
        return text

    return Tool(name="add", func=echo, description="Echo a text.")


class ClassTool(BaseTool):
    name: str = "add"
    description: str = "Add two numbers."
    _ran: Bodies = PrivateAttr()

    def __init__(self, ran: Bodies, **values: Any) -> None:
        super().__init__(**values)
        self._ran = ran

    def _run(self, a: int, b: int = 7, run_manager: Any = None) -> int:
        self._ran.append((a, b))
        return a + b

    async def _arun(self, a: int, b: int = 7, run_manager: Any = None) -> int:
        self._ran.append((a, b))
        return a + b


class SyncClassTool(BaseTool):
    name: str = "add"
    description: str = "Add two numbers."
    _ran: Bodies = PrivateAttr()

    def __init__(self, ran: Bodies, **values: Any) -> None:
        super().__init__(**values)
        self._ran = ran

    def _run(self, a: int, b: int = 7) -> int:
        self._ran.append((a, b))
        return a + b


class OwnInvoke(ClassTool):
    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        self._ran.append((input["a"], input.get("b", 7)))
        return 8

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return self.invoke(input, config, **kwargs)


class OwnRun(ClassTool):
    def run(self, tool_input: Any, *args: Any, **kwargs: Any) -> Any:
        self._ran.append((tool_input["a"], tool_input.get("b", 7)))
        return 8

    async def arun(self, tool_input: Any, *args: Any, **kwargs: Any) -> Any:
        return self.run(tool_input, *args, **kwargs)


class RunCallsSuper(ClassTool):
    def run(self, tool_input: Any, *args: Any, **kwargs: Any) -> Any:
        return super().run(tool_input, *args, **kwargs)


class OwnBatch(ClassTool):
    def batch(self, inputs: Any, config: Any = None, **kwargs: Any) -> Any:
        self._ran.extend((each["a"], 7) for each in inputs)
        return [each["a"] + 7 for each in inputs]


class OwnStream(ClassTool):
    def stream(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        self._ran.append((input["a"], 7))
        yield input["a"] + 7


class Documents(BaseRetriever):
    ran: Any

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        self.ran.append(query)
        return [Document(page_content=f"found {query}")]


def retriever_tool(ran: Bodies) -> BaseTool:
    return create_retriever_tool(Documents(ran=ran), "add", "Find documents.")


def runnable_as_tool(ran: Bodies) -> BaseTool:
    def body(given: dict[str, Any]) -> int:
        ran.append((given["a"], 7))
        return int(given["a"]) + 7

    # What Runnable.as_tool() calls, without its warning about being in beta.
    return convert_runnable_to_tool(RunnableLambda(body), name="add", description="Add seven.", arg_types={"a": int})


# -- frames around a tool --------------------------------------------------------------------------------------------


def call(name: str = "add", call_id: str = "call-1", **arguments: Any) -> Any:
    return tool_call(name=name, args=arguments or {"a": 1}, id=call_id)


def message(*calls: Any) -> AIMessage:
    return AIMessage(content="", tool_calls=list(calls))


def node(*tools: Any, **options: Any) -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode(list(tools), **options))
    graph.add_edge(START, "tools")
    graph.add_edge("tools", END)
    return graph.compile()


def model(*turns: AIMessage) -> ScriptedChatModel:
    return ScriptedChatModel(turns=[*turns, AIMessage("done")])


def agent(*tools: Any, calls: Sequence[Any] = (), **options: Any) -> Any:
    return create_agent(model(message(*(calls or [call()]))), list(tools), **options)


def executor(*tools: Any, **options: Any) -> AgentExecutor:
    prompt = ChatPromptTemplate.from_messages(
        [("system", "s"), ("human", "{input}"), ("placeholder", "{agent_scratchpad}")]
    )
    planner = create_tool_calling_agent(model(message(call())), list(tools), prompt)
    return AgentExecutor(agent=planner, tools=list(tools), return_intermediate_steps=True, **options)


USER = {"messages": [("user", "add")]}


def last(state: Any) -> Any:
    """Return the content of the last tool message: the result as the model sees it."""
    return next(m.content for m in reversed(state["messages"]) if isinstance(m, ToolMessage))


def bare_thread(function: Callable[[], Any]) -> Any:
    """Run *function* where no context was copied, and raise what it raised."""
    out: list[Any] = []

    def target() -> None:
        try:
            out.append((function(), None))
        except BaseException as error:
            out.append((None, error))

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    result, error = out[0]
    if error is not None:
        raise error
    return result


async def _chunks(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


def caller(inner: BaseTool) -> BaseTool:
    @tool
    def outer(x: int) -> str:
        """Call the other tool."""
        return str(inner.invoke({"a": x}))

    return outer


def silent_caller(inner: BaseTool) -> BaseTool:
    @tool
    def outer(x: int) -> str:
        """Call the other tool and tell nobody."""
        return str(inner.invoke({"a": x}, {"callbacks": []}))

    return outer


def sibling_caller(inner: BaseTool) -> BaseTool:
    @tool
    def outer(x: int, runtime: ToolRuntime) -> str:
        """Reach for the other tool through the runtime."""
        return str(next(t for t in runtime.tools if t.name == inner.name).invoke({"a": x}))

    return outer


# -- the ways --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """One way to a body."""

    name: str
    walk: Callable[..., Any]
    """Called with the tool, and with the helper tool where there is one; may return an awaitable."""
    make: Callable[[Bodies], BaseTool] = function_tool
    ran: Any = (1, 7)
    """What the body is called with."""
    helper: Callable[[BaseTool], BaseTool] | None = None
    """A second tool, sealed and allowed in every case, through which the first is reached."""


def _query(tool: BaseTool) -> Any:
    return tool.invoke({"query": "x"})


WAYS = [
    Way("invoke(dict)", lambda t: t.invoke({"a": 1})),
    Way("invoke(dict), text coerced", lambda t: t.invoke({"a": "1"})),
    Way("invoke(ToolCall)", lambda t: t.invoke(call()).content),
    Way("invoke(callbacks=[])", lambda t: t.invoke({"a": 1}, {"callbacks": []})),
    Way("ainvoke, coroutine", lambda t: t.ainvoke({"a": 1})),
    Way("ainvoke, sync-only", lambda t: t.ainvoke({"a": 1}), sync_tool),
    Way("run", lambda t: t.run({"a": 1})),
    Way("arun", lambda t: t.arun({"a": 1})),
    Way('Tool.run("str")', lambda t: t.run("x"), text_tool, "x"),
    Way("batch", lambda t: t.batch([{"a": 1}])),
    Way("abatch", lambda t: t.abatch([{"a": 1}])),
    Way("batch_as_completed", lambda t: list(t.batch_as_completed([{"a": 1}]))),
    Way("stream", lambda t: list(t.stream({"a": 1}))),
    Way("astream", lambda t: _chunks(t.astream({"a": 1}))),
    Way("transform", lambda t: list(t.transform(iter([{"a": 1}])))),
    Way("RunnableParallel", lambda t: RunnableParallel(p=t).invoke({"a": 1})),
    Way("RunnableParallel, async", lambda t: RunnableParallel(p=t).ainvoke({"a": 1})),
    Way("pipe", lambda t: (RunnableLambda(lambda x: {"a": x}) | t).invoke(1)),
    Way("with_retry", lambda t: t.with_retry(stop_after_attempt=2).invoke({"a": 1})),
    Way("with_config", lambda t: t.with_config(tags=["x"]).invoke({"a": 1})),
    Way("bind", lambda t: t.bind().invoke({"a": 1})),
    Way("map", lambda t: t.map().invoke([{"a": 1}])),
    Way("with_fallbacks", lambda t: t.with_fallbacks([t]).invoke({"a": 1})),
    Way("nested in a tool", lambda t, h: h.invoke({"x": 1}), helper=caller),
    Way("nested in a tool, callbacks=[]", lambda t, h: h.invoke({"x": 1}), helper=silent_caller),
    Way("ToolNode", lambda t: last(node(t).invoke({"messages": [message(call())]}))),
    Way("ToolNode, async", lambda t: _alast(node(t).ainvoke({"messages": [message(call())]}))),
    Way("create_agent", lambda t: last(agent(t).invoke(USER))),
    Way("create_agent, async", lambda t: _alast(agent(t).ainvoke(USER))),
    Way("create_agent, stream", lambda t: last(list(agent(t).stream(USER, stream_mode="values"))[-1])),
    Way("create_agent, astream", lambda t: _alast_chunk(agent(t).astream(USER, stream_mode="values"))),
    Way("AgentExecutor", lambda t: executor(t).invoke({"input": "x"})["intermediate_steps"][0][1]),
    Way("AgentExecutor, async", lambda t: _astep(executor(t).ainvoke({"input": "x"}))),
    Way("AgentExecutor, stream", lambda t: _steps(executor(t).stream({"input": "x"}))),
    Way(
        "sibling through runtime.tools",
        lambda t, h: last(agent(t, h, calls=[call("outer", x=1)]).invoke(USER)),
        helper=sibling_caller,
    ),
    Way("class tool, invoke", lambda t: t.invoke({"a": 1}), ClassTool),
    Way("class tool, ainvoke", lambda t: t.ainvoke({"a": 1}), ClassTool),
    Way("class tool, ToolNode", lambda t: last(node(t).invoke({"messages": [message(call())]})), ClassTool),
    Way("class tool, sync-only, ainvoke", lambda t: t.ainvoke({"a": 1}), SyncClassTool),
    Way("class overriding invoke", lambda t: t.invoke({"a": 1}), OwnInvoke),
    Way("class overriding ainvoke", lambda t: t.ainvoke({"a": 1}), OwnInvoke),
    Way("class overriding run", lambda t: t.invoke({"a": 1}), OwnRun),
    Way("class overriding arun", lambda t: t.ainvoke({"a": 1}), OwnRun),
    Way("class overriding run, AgentExecutor", lambda t: executor(t).invoke({"input": "x"})["output"], OwnRun),
    Way("class overriding run, calling LangChain's", lambda t: t.invoke({"a": 1}), RunCallsSuper),
    Way("class overriding batch", lambda t: t.batch([{"a": 1}]), OwnBatch),
    Way("class overriding stream", lambda t: list(t.stream({"a": 1})), OwnStream),
    Way("_run()", lambda t: t._run(a=1, config={})),
    Way("_arun()", lambda t: t._arun(a=1, config={})),
    Way("_run() of a class", lambda t: t._run(a=1), ClassTool),
    Way("_run() of a class, positional", lambda t: t._run(1), ClassTool),
    Way("_arun() of a class", lambda t: t._arun(a=1), ClassTool),
    Way(".func()", lambda t: t.func(a=1)),
    Way(".func(), positional", lambda t: t.func(1)),
    Way(".coroutine()", lambda t: t.coroutine(a=1)),
    Way("StructuredTool._run(tool, ...)", lambda t: StructuredTool._run(t, a=1, config={})),
    Way("StructuredTool._arun(tool, ...)", lambda t: StructuredTool._arun(t, a=1, config={})),
    Way("BaseTool.run(tool, ...)", lambda t: BaseTool.run(t, {"a": 1})),
    Way("BaseTool.invoke(tool, ...)", lambda t: BaseTool.invoke(t, {"a": 1})),
    Way("model_copy", lambda t: t.model_copy().invoke({"a": 1})),
    Way("model_copy(deep=True)", lambda t: t.model_copy(deep=True).invoke({"a": 1})),
    Way("copy", lambda t: copy.copy(t).invoke({"a": 1})),
    Way("deepcopy", lambda t: copy.deepcopy(t).invoke({"a": 1})),
    Way("a new tool around .func", lambda t: _rewrapped(t).invoke({"a": 1})),
    Way("as_tool() runnable", lambda t: t.invoke({"a": 1}), runnable_as_tool),
    Way("retriever tool", _query, retriever_tool, "x"),
    Way("retriever tool, async", lambda t: t.ainvoke({"query": "x"}), retriever_tool, "x"),
]


def _rewrapped(tool: Any) -> Any:
    return RunnableLambda(lambda given: tool.func(**given))


async def _alast(state: Any) -> Any:
    return last(await state)


async def _alast_chunk(stream: Any) -> Any:
    return last([chunk async for chunk in stream][-1])


async def _astep(result: Any) -> Any:
    return (await result)["intermediate_steps"][0][1]


def _steps(stream: Any) -> Any:
    return [chunk["steps"][0].observation for chunk in stream if "steps" in chunk]


def walk(way: Way, tool: BaseTool, helper: BaseTool | None = None) -> Any:
    """Walk *way* and return what comes back."""
    result = way.walk(tool, helper) if helper is not None else way.walk(tool)
    if asyncio.iscoroutine(result):
        return asyncio.run(result)
    return result
