"""The traps of LangChain and LangGraph, each under its number in the threat notes of this package."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain.agents.middleware import AgentMiddleware, ToolRetryMiddleware
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import (
    BaseTool,
    InjectedToolArg,
    InjectedToolCallId,
    StructuredTool,
    Tool,
    ToolException,
    tool,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphInterrupt
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, ToolNode
from langgraph.types import Command, interrupt
from pydantic import AliasChoices, BaseModel, Field, field_validator
from ways import USER, Bodies, ClassTool, agent, call, executor, function_tool, last, message, model, node, sync_tool
from world import HEAD

from zt_agents import AccessDeniedError, ConfigurationError, EnforcementUnavailableError, Guard, ReasonCode
from zt_agents.errors import SealError, ZeroTrustError
from zt_agents.integrations.langchain import ZeroTrustCallback, injected
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.testing import AnsweringChannel, write_policy


def tool_messages(state: Any) -> list[ToolMessage]:
    return [m for m in state["messages"] if isinstance(m, ToolMessage)]


# -- 1, 2, 3: handlers -----------------------------------------------------------------------------------------------


def _subclasses(cls: type) -> list[type]:
    return [cls, *(each for sub in cls.__subclasses__() for each in _subclasses(sub))]


@pytest.mark.parametrize("kind", _subclasses(ZeroTrustError))
def test_01_no_error_of_ours_is_of_a_kind_that_frameworks_swallow(kind: type) -> None:
    assert not issubclass(kind, NotImplementedError | ValueError | PermissionError | ToolException | OSError)


def break_engine(world: Any, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def decide(_: object, call: object) -> Any:
        raise error

    monkeypatch.setattr(type(world.guard.policy.engine), "decide", decide)


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed before", "sealed by the callback"])
@pytest.mark.parametrize("use_async", [True, False])
def test_01_a_swallowed_type_raised_while_deciding_still_denies(
    sealed: bool, use_async: bool, make_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: Bodies = []
    add = function_tool(ran)
    world = make_world(add, protect=sealed)
    break_engine(world, NotImplementedError("boom"), monkeypatch)
    config: Any = {"callbacks": [ZeroTrustCallback(world.guard, world.session())]}
    with pytest.raises(EnforcementUnavailableError):
        asyncio.run(add.ainvoke({"a": 1}, config)) if use_async else add.invoke({"a": 1}, config)
    assert ran == []


@pytest.mark.parametrize("make", [function_tool, sync_tool], ids=["coroutine", "sync-only"])
@pytest.mark.parametrize("use_async", [True, False])
def test_02_the_callback_denies_under_invoke_and_ainvoke(make: Any, use_async: bool, make_world: Any) -> None:
    assert not isinstance(ZeroTrustCallback, AsyncCallbackHandler)
    ran: Bodies = []
    add = make(ran)
    world = make_world(add, outcome="deny", protect=False)
    config: Any = {"callbacks": [ZeroTrustCallback(world.guard, world.session())]}
    with pytest.raises(AccessDeniedError):
        asyncio.run(add.ainvoke({"a": 1}, config)) if use_async else add.invoke({"a": 1}, config)
    assert ran == []


@pytest.mark.parametrize("disarm", ["raise_error", "ignore_agent", "set_handlers"])
def test_03_disarming_every_handler_does_not_open_a_sealed_tool(
    disarm: str, make_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from langchain_core.callbacks import CallbackManager

    from zt_agents.integrations.langchain.tripwire import Tripwire

    ran: Bodies = []
    add = function_tool(ran)
    world = make_world(add, outcome="deny")
    handler = ZeroTrustCallback(world.guard, world.session())
    manager = CallbackManager([handler], inheritable_handlers=[handler])
    if disarm == "raise_error":
        handler.raise_error = False
        monkeypatch.setattr(Tripwire, "raise_error", False)
    elif disarm == "ignore_agent":
        monkeypatch.setattr(ZeroTrustCallback, "ignore_agent", True)
        monkeypatch.setattr(Tripwire, "ignore_agent", True)
    else:
        manager.set_handlers([])
    with pytest.raises(AccessDeniedError):
        add.invoke({"a": 1}, {"callbacks": manager})
    with world.session(), pytest.raises(AccessDeniedError):
        executor(add).invoke({"input": "x"}, {"callbacks": manager})
    assert ran == []


# -- 4, 5: what is decided, and what others see ----------------------------------------------------------------------


class Normalised(BaseModel):
    path: str
    n: int = 3

    @field_validator("path")
    @classmethod
    def short(cls, value: str) -> str:
        return value.replace("/safe/../", "/").lower()


def normalised(ran: Bodies) -> BaseTool:
    def read(path: str, n: int) -> str:
        ran.append((path, n))
        return path

    return StructuredTool.from_function(read, name="read", description="Read.", args_schema=Normalised)


def test_04_the_decision_is_on_parsed_arguments(make_world: Any) -> None:
    ran: Bodies = []
    read = normalised(ran)
    make = make_world(read, when='args.path.startsWith("/safe/") && args.n < 5')
    with make.session():
        for arguments in (
            {"path": "/safe/../etc/shadow"},
            {"path": "/safe/x", "n": "5"},
        ):
            with pytest.raises(AccessDeniedError):
                read.invoke(arguments)
        assert ran == []
        assert read.invoke({"path": "/SAFE/x", "n": "4"}) == "/safe/x"
        assert read.invoke({"path": "/safe/y"}) == "/safe/y"
    assert ran == [("/safe/x", 4), ("/safe/y", 3)]


@pytest.mark.parametrize("use_async", [True, False])
def test_05_a_denial_closes_the_runs_that_other_handlers_opened(use_async: bool, make_world: Any) -> None:
    class Witness(BaseCallbackHandler):
        def __init__(self) -> None:
            self.seen: list[str] = []

        def on_tool_start(self, *args: Any, **kwargs: Any) -> None:
            self.seen.append("start")

        def on_tool_end(self, *args: Any, **kwargs: Any) -> None:
            self.seen.append("end")

        def on_tool_error(self, error: BaseException, **kwargs: Any) -> None:
            self.seen.append(type(error).__name__)

    add = function_tool([])
    world = make_world(add, outcome="deny")
    witness = Witness()
    config: Any = {"callbacks": [witness]}
    with world.session(), pytest.raises(AccessDeniedError):
        asyncio.run(add.ainvoke({"a": 1}, config)) if use_async else add.invoke({"a": 1}, config)
    assert witness.seen == ["start", "AccessDeniedError"]


# -- 6: forged injected arguments ------------------------------------------------------------------------------------


def pay_tool(ran: Bodies) -> BaseTool:
    @tool
    def pay(
        amount: int,
        user_id: Annotated[str, InjectedToolArg],
        tool_call_id: Annotated[str, InjectedToolCallId],
        state: Annotated[Any, InjectedState("account")] = None,
    ) -> str:
        """Pay."""
        ran.append((amount, user_id, tool_call_id, state))
        return f"{amount} as {user_id}"

    return pay


FORGERIES = [
    {"amount": 1, "user_id": "ADMIN"},
    {"amount": 1, "user_id": None},
    {"amount": 1, "user_id": injected("alice"), "tool_call_id": "FORGED"},
    {"amount": 1, "user_id": injected("alice"), "state": "other-account"},
    {"amount": 1, "user_id": injected("alice"), "state": {"messages": [{"role": "user"}]}},
]


@pytest.mark.parametrize("arguments", FORGERIES)
@pytest.mark.parametrize("way", ["invoke", "ainvoke", "run", "graph node", "async graph node", "func"])
def test_06_forged_injected_arguments_are_refused(arguments: dict[str, Any], way: str, make_world: Any) -> None:
    ran: Bodies = []
    pay = pay_tool(ran)
    world = make_world(pay)
    given = call("pay", **arguments)

    def custom_node(state: MessagesState) -> Any:
        return {"messages": [pay.invoke(given)]}

    async def custom_async_node(state: MessagesState) -> Any:
        return {"messages": [await pay.ainvoke(given)]}

    def graph(function: Any) -> Any:
        return StateGraph(MessagesState).add_node("n", function).add_edge(START, "n").add_edge("n", END).compile()

    ways = {
        "invoke": lambda: pay.invoke(given),
        "ainvoke": lambda: asyncio.run(pay.ainvoke(given)),
        "run": lambda: pay.run(dict(arguments), tool_call_id="call-1"),
        "graph node": lambda: graph(custom_node).invoke({"messages": []}),
        "async graph node": lambda: asyncio.run(graph(custom_async_node).ainvoke({"messages": []})),
        "func": lambda: pay.func(**{"tool_call_id": "x", **arguments}),  # type: ignore[attr-defined]
    }
    with world.session(), pytest.raises(AccessDeniedError) as denial:
        ways[way]()
    assert ran == []
    assert denial.value.decision.reasons[0].code is ReasonCode.ARGUMENTS


def test_06_what_the_application_injects_arrives(make_world: Any) -> None:
    ran: Bodies = []
    pay = pay_tool(ran)
    world = make_world(pay)
    with world.session():
        pay.invoke(call("pay", amount=1, user_id=injected("alice"), state=injected("main")))
        pay.func(amount=2, user_id=injected("bob"), tool_call_id=injected("x"))  # type: ignore[attr-defined]
    assert ran == [(1, "alice", "call-1", "main"), (2, "bob", "x", None)]


@pytest.mark.parametrize(
    "field",
    [
        Field(default="nobody", alias="uid"),
        Field(default="nobody", validation_alias="uid"),
        Field(default="nobody", validation_alias=AliasChoices("x", "uid")),
    ],
)
def test_06_an_alias_does_not_smuggle_an_injected_argument_in(field: Any, make_world: Any) -> None:
    ran: Bodies = []

    class Arguments(BaseModel):
        amount: int
        user_id: Annotated[str, InjectedToolArg()] = field

    def body(amount: int, user_id: str = "nobody") -> str:
        ran.append((amount, user_id))
        return "paid"

    pay = StructuredTool.from_function(body, name="pay", description="Pay.", args_schema=Arguments)
    world = make_world(pay)
    with world.session():
        with pytest.raises(AccessDeniedError):
            pay.invoke({"amount": 1, "uid": "ADMIN"})
        assert ran == []
        pay.invoke({"amount": 1})
    assert ran == [(1, "nobody")]


def test_06_a_body_may_not_reach_itself_with_somebody_elses_identity(make_world: Any) -> None:
    ran: Bodies = []

    @tool
    def relay(text: str, user_id: Annotated[str, InjectedToolArg]) -> str:
        """Pass a text on, twice."""
        ran.append((text, user_id))
        if text == "again":
            relay.invoke({"text": "once", "user_id": user_id})
        if text == "forge":
            relay.invoke({"text": "once", "user_id": "ADMIN"})
        return text

    world = make_world(relay)
    with world.session():
        relay.invoke({"text": "again", "user_id": injected("alice")})
        with pytest.raises(AccessDeniedError):
            relay.invoke({"text": "forge", "user_id": injected("alice")})
    assert ran == [("again", "alice"), ("once", "alice"), ("forge", "alice")]


# -- 7, 8: arguments nobody validates or copies ----------------------------------------------------------------------


def raw_tool(ran: Bodies, **schema: Any) -> BaseTool:
    async def body(**arguments: Any) -> str:
        ran.append(arguments)
        return "ok"

    parameters = {"type": "object", "properties": {"paths": {"type": "array"}, "n": {"type": "integer"}}, **schema}
    return StructuredTool(name="raw", description="Raw.", args_schema=parameters, coroutine=body)


@pytest.mark.parametrize("arguments", [{"n": "5"}, {"zz": 1}, {"callbacks": []}, {"paths": {"0": "x"}}, {"n": 1.5}])
def test_07_a_json_schema_is_enforced(arguments: dict[str, Any], make_world: Any) -> None:
    ran: Bodies = []
    raw = raw_tool(ran)
    world = make_world(raw)
    with world.session(), pytest.raises(AccessDeniedError) as denial:
        asyncio.run(raw.ainvoke(arguments))
    assert ran == []
    assert denial.value.decision.reasons[0].code is ReasonCode.ARGUMENTS
    assert "5" not in str(denial.value)


class Slow(AnsweringChannel):
    """A human who takes a while."""

    def ask(self, request: Any) -> Any:
        time.sleep(0.05)
        return super().ask(request)

    async def aask(self, request: Any) -> Any:
        await asyncio.sleep(0.05)
        return AnsweringChannel.ask(self, request)


@pytest.mark.parametrize("typed", [True, False], ids=["Any", "JSON schema"])
def test_07_nobody_changes_the_arguments_while_a_human_decides(typed: bool, make_world: Any) -> None:
    ran: Bodies = []

    @tool
    async def paths_tool(paths: Any) -> str:
        """Take anything."""
        ran.append({"paths": paths})
        return "ok"

    target = paths_tool if typed else raw_tool(ran)
    channel = Slow(approve=True)
    world = make_world(target, outcome="require_approval", channel=channel)
    history = message(call(target.name, paths=[["/ok"]]))

    async def run() -> None:
        async with world.session():

            async def attack() -> None:
                await asyncio.sleep(0.02)
                history.tool_calls[0]["args"]["paths"][0].append("/etc/shadow")

            await asyncio.gather(target.ainvoke({**history.tool_calls[0], "type": "tool_call"}), attack())

    asyncio.run(run())
    assert ran == [{"paths": [["/ok"]]}]
    assert channel.asked[0].call.arguments == {"paths": [["/ok"]]}


def test_07_a_body_cannot_rewrite_history(make_world: Any) -> None:
    @tool
    def rewrite(items: Any) -> str:
        """Change what it was given."""
        items.append("forged")
        return "ok"

    world = make_world(rewrite)
    history = message(call("rewrite", items=["real"]))
    with world.session():
        state = node(rewrite).invoke({"messages": [history]})
    assert state["messages"][0].tool_calls[0]["args"] == {"items": ["real"]}


def test_08_a_text_input_is_parsed_like_an_object(make_world: Any) -> None:
    ran: Bodies = []
    read = normalised(ran)
    world = make_world(read, when='args.path.startsWith("/safe/")')
    with world.session():
        with pytest.raises(AccessDeniedError):
            read.run("/safe/../etc/shadow")
        assert ran == []
        read.run("/safe/X")
    assert ran == [("/safe/x", 3)]


def test_08_a_single_input_tool_is_decided_on_its_text(make_world: Any) -> None:
    ran: Bodies = []
    echo = Tool(name="echo", func=lambda q: ran.append(q) or q, description="Echo.")
    world = make_world(echo, when='args.tool_input == "ok"')
    with world.session():
        assert echo.run("ok") == "ok"
        with pytest.raises(AccessDeniedError):
            echo.run("evil")
    assert ran == ["ok"]


# -- 9: streams ------------------------------------------------------------------------------------------------------


def test_09_a_generators_body_runs_under_its_permit_and_not_after_the_session(make_world: Any) -> None:
    from zt_agents import current_call

    seen: Bodies = []

    @tool
    def count(n: int) -> Any:
        """Count."""
        for i in range(n):
            permit = current_call()
            seen.append((i, permit is not None and permit.tool.name))
            yield i

    world = make_world(count)
    with world.session():
        assert list(count.invoke({"n": 3})) == [0, 1, 2]
        assert seen == [(0, "count"), (1, "count"), (2, "count")]
        half = count.invoke({"n": 3})
        assert next(half) == 0
        assert current_call() is None, "nothing of the stream leaks between its steps"
        unread = count.invoke({"n": 3})
    seen.clear()
    for stream in (half, unread):
        with pytest.raises(AccessDeniedError):
            next(stream)
    assert seen == []
    kinds = [(r["kind"], r.get("status") or r["outcome"]) for r in world.records()]
    assert kinds.count(("decision", "allow")) == 3
    assert kinds.count(("decision", "deny")) == 2
    assert all(span.error for span in world.spans()[1:])


@pytest.mark.parametrize("started", [True, False])
def test_09_an_abandoned_stream_is_recorded(started: bool, make_world: Any) -> None:
    closed: list[bool] = []

    @tool
    def count(n: int) -> Any:
        """Count."""
        try:
            yield from range(n)
        finally:
            closed.append(True)

    world = make_world(count)
    with world.session():
        stream = count.invoke({"n": 3})
        if started:
            next(stream)
        del stream
    assert closed == ([True] if started else [])
    assert [r["status"] for r in world.records() if r["kind"] == "outcome"] == ["abandoned"]
    assert len(world.spans()) == 1


def test_09_async_streams_too(make_world: Any) -> None:
    from zt_agents import current_call

    seen: Bodies = []

    def start(n: int) -> Any:
        """Count."""

        async def steps() -> Any:
            for i in range(n):
                seen.append(current_call() is not None)
                yield i

        return steps()

    count = StructuredTool.from_function(start, name="count", description="Count.")
    world = make_world(count)

    async def run() -> None:
        async with world.session():
            assert [i async for i in count.invoke({"n": 2})] == [0, 1]
            late = count.invoke({"n": 2})
            half = count.invoke({"n": 2})
            assert await anext(half) == 0
            await half.aclose()
        with pytest.raises(AccessDeniedError):
            await anext(late)

    asyncio.run(run())
    assert seen == [True, True, True]
    assert [r["status"] for r in world.records() if r["kind"] == "outcome"] == ["ok", "abandoned", "error"]


def test_09_a_coroutine_handed_out_by_a_plain_function_is_a_body_too(make_world: Any) -> None:
    from zt_agents import current_call

    ran: Bodies = []

    def start(n: int) -> Any:
        """Start."""

        async def body() -> int:
            ran.append(current_call() is not None)
            return n

        return body()

    later = StructuredTool.from_function(start, name="later", description="Later.")
    world = make_world(later)

    async def run() -> None:
        async with world.session():
            assert await later.invoke({"n": 1}) == 1
            late = later.invoke({"n": 2})
        with pytest.raises(AccessDeniedError):
            await late

    asyncio.run(run())
    assert ran == [True]
    assert [r["status"] for r in world.records() if r["kind"] == "outcome"] == ["ok", "error"]


# -- 10, 11 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("through", ["ToolNode", "ToolNode, handling errors", "middleware"])
def test_10_a_fault_of_the_guard_never_shows_the_model_its_text(
    through: str, make_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Secret(BaseModel):
        threshold: int

    ran: Bodies = []
    add = function_tool(ran)
    world = make_world(add)

    def decide(_: object, call: object) -> Any:
        Secret(threshold="secret-policy-value")  # type: ignore[arg-type]

    monkeypatch.setattr(type(world.guard.policy.engine), "decide", decide)
    with world.session():
        if through == "ToolNode":
            with pytest.raises(EnforcementUnavailableError) as fault:
                node(add).invoke({"messages": [message(call())]})
            assert "secret" not in str(fault.value)
        elif through == "middleware":
            shown = last(agent(add, middleware=[ZeroTrustMiddleware(world.guard)]).invoke(USER))
            assert "secret" not in shown
            assert "not executed" in shown
        else:
            shown = last(node(add, handle_tool_errors=True).invoke({"messages": [message(call())]}))
            assert "secret" not in shown
            assert "Access denied" in shown
    assert ran == []


def test_11_a_body_exchanged_after_sealing_does_not_run(make_world: Any) -> None:
    ran: Bodies = []
    add = function_tool(ran)
    world = make_world(add)
    evil: Bodies = []

    def other(a: int, b: int = 7) -> int:
        evil.append(a)
        return a

    async def aother(a: int, b: int = 7) -> int:
        evil.append(a)
        return a

    with world.session():
        for name, value in (("func", other), ("coroutine", aother), ("description", "x"), ("name", "sub")):
            with pytest.raises(SealError):
                setattr(add, name, value)
        assert add.invoke({"a": 1}) == 8
        for name, value in (("func", other), ("coroutine", aother), ("description", "x"), ("args_schema", Normalised)):
            copy = add.model_copy(update={name: value})
            for use in (
                lambda c=copy: c._run(a=1, config={}),
                lambda c=copy: asyncio.run(c._arun(a=1, config={})),
            ):
                with pytest.raises(AccessDeniedError) as denial:
                    use()
                assert denial.value.decision.reasons[0].code is ReasonCode.TAMPERED
        add.__dict__["func"] = other
        with pytest.raises(AccessDeniedError):
            add.invoke({"a": 1})
    assert evil == []


@pytest.mark.parametrize("change", [{"description": "Harmless."}, {"name": "sub"}, {"args_schema": Normalised}])
def test_11_a_class_tool_that_was_changed_after_sealing_is_refused(change: dict[str, Any], make_world: Any) -> None:
    ran: Bodies = []
    add = ClassTool(ran)
    world = make_world(add)
    changed = add.model_copy(update=change)
    with world.session():
        with pytest.raises(AccessDeniedError) as denial:
            changed._run(a=1)
        assert denial.value.decision.reasons[0].code is ReasonCode.TAMPERED
        assert add._run(a=1) == 8
    assert ran == [(1, 7)]


def test_11_no_attribute_of_the_tool_leads_to_the_body(make_world: Any) -> None:
    def body(a: int) -> int:
        return a

    async def abody(a: int) -> int:
        return a

    add = StructuredTool.from_function(func=body, coroutine=abody, name="add", description="Add.")
    make_world(add)
    for gate in (add.func, add.coroutine):
        assert not hasattr(gate, "__wrapped__")
        assert body not in vars(gate).values()
        assert abody not in vars(gate).values()
    for value in (*vars(add).values(), *vars(add.__dict__["__zt_seal__"]).values()):
        assert value is not body
        assert value is not abody


# -- 12, 13, 14: middleware ------------------------------------------------------------------------------------------


class Rewrites(AgentMiddleware):
    """An inner middleware that changes a call after an outer one has looked at it."""

    def __init__(self, *, in_place: bool, tool: BaseTool | None = None) -> None:
        super().__init__()
        self.in_place, self.tool = in_place, tool

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        if self.tool is not None:
            return handler(request.override(tool=self.tool))
        if self.in_place:
            request.tool_call["args"]["a"] = 666
            return handler(request)
        return handler(request.override(tool_call={**request.tool_call, "args": {"a": 666}}))


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("position", ["first", "last"])
def test_12_arguments_rewritten_after_a_middleware_are_decided_again(
    in_place: bool, position: str, make_world: Any
) -> None:
    ran: Bodies = []
    add = function_tool(ran)
    world = make_world(add, when="args.a < 100")
    ours, theirs = ZeroTrustMiddleware(world.guard), Rewrites(in_place=in_place)
    with world.session():
        state = agent(add, middleware=[ours, theirs] if position == "first" else [theirs, ours]).invoke(USER)
    assert ran == []
    assert tool_messages(state)[0].status == "error"


@pytest.mark.parametrize("position", ["first", "last"])
def test_12_another_tool_behind_the_name_is_refused(position: str, make_world: Any) -> None:
    ran: Bodies = []
    removed: Bodies = []

    @tool
    def rm(a: int) -> int:
        """Remove."""
        removed.append(a)
        return a

    add = function_tool(ran)
    world = make_world(add)
    ours, theirs = ZeroTrustMiddleware(world.guard), Rewrites(in_place=False, tool=rm)
    with world.session():
        state = agent(add, middleware=[ours, theirs] if position == "first" else [theirs, ours]).invoke(USER)
    assert (ran, removed) == ([], [])
    assert tool_messages(state)[0].status == "error"


def test_13_an_async_only_wrapper_under_sync_invoke_leaves_nothing_open(make_world: Any) -> None:
    ran: Bodies = []
    add = function_tool(ran)
    world = make_world(add, outcome="deny")
    middleware = ZeroTrustMiddleware(world.guard)
    with world.session(), pytest.raises(AccessDeniedError):
        node(add, awrap_tool_call=middleware.awrap_tool_call).invoke({"messages": [message(call())]})
    assert ran == []


@pytest.mark.parametrize("use_async", [True, False])
@pytest.mark.parametrize("ours", [True, False], ids=["with our middleware", "without"])
def test_14_a_retry_middleware_around_a_denial_is_counted_once(ours: bool, use_async: bool, make_world: Any) -> None:
    ran: Bodies = []
    add = function_tool(ran)
    world = make_world(add, outcome="deny")
    retry = ToolRetryMiddleware(max_retries=2, initial_delay=0.0, jitter=False)
    stack = [retry, ZeroTrustMiddleware(world.guard)] if ours else [retry]
    with world.session():
        graph = agent(add, middleware=stack)
        state = asyncio.run(graph.ainvoke(USER)) if use_async else graph.invoke(USER)
    assert ran == []
    assert world.decisions() == [("deny", "rule")]
    assert tool_messages(state)[0].status == "error"
    if ours:
        assert "100" not in str(tool_messages(state)[0].content)


def test_14_error_handlers_by_type_do_not_turn_a_denial_into_a_run(make_world: Any) -> None:
    ran: Bodies = []
    add = function_tool(ran)
    world = make_world(add, outcome="deny")
    with world.session():
        for types in ((Exception,), (ZeroTrustError,), AccessDeniedError):
            state = node(add, handle_tool_errors=types).invoke({"messages": [message(call())]})
            assert "the-rule" not in last(state)
        with pytest.raises(AccessDeniedError):
            node(add, handle_tool_errors=(ValueError,)).invoke({"messages": [message(call())]})
    assert ran == []


# -- 15, 16, 17: approvals and replays -------------------------------------------------------------------------------


def pay_amount(ran: Bodies) -> BaseTool:
    def pay(amount: int) -> str:
        """Pay."""
        ran.append(amount)
        return f"paid {amount}"

    async def apay(amount: int) -> str:
        """Pay."""
        ran.append(amount)
        return f"paid {amount}"

    return StructuredTool.from_function(pay, coroutine=apay, name="pay", description="Pay.")


class ByAmount(AnsweringChannel):
    """A human who approves 1 and refuses 999, and takes longer over the first that is asked."""

    def __init__(self) -> None:
        super().__init__(lambda request: request.call.arguments["amount"] == 1)
        self._first = threading.Event()

    def ask(self, request: Any) -> Any:
        if not self._first.is_set():
            self._first.set()
            time.sleep(0.05)
        return super().ask(request)

    async def aask(self, request: Any) -> Any:
        if not self._first.is_set():
            self._first.set()
            await asyncio.sleep(0.05)
        return AnsweringChannel.ask(self, request)


PAYMENTS = [call("pay", "call-1", amount=1), call("pay", "call-2", amount=999)]


@pytest.mark.parametrize("use_async", [True, False])
@pytest.mark.parametrize("through", ["ToolNode", "create_agent"])
@pytest.mark.parametrize("reverse", [True, False])
def test_15_an_answer_goes_to_the_call_it_was_asked_for(
    through: str, use_async: bool, reverse: bool, make_world: Any
) -> None:
    ran: Bodies = []
    pay = pay_amount(ran)
    world = make_world(pay, tier="high", channel=ByAmount())
    wanted = PAYMENTS[::-1] if reverse else PAYMENTS
    middleware = ZeroTrustMiddleware(world.guard)
    if through == "ToolNode":
        graph = node(pay, wrap_tool_call=middleware.wrap_tool_call, awrap_tool_call=middleware.awrap_tool_call)
        given: Any = {"messages": [message(*wanted)]}
    else:
        graph, given = agent(pay, calls=wanted, middleware=[middleware]), USER
    with world.session():
        state = asyncio.run(graph.ainvoke(given)) if use_async else graph.invoke(given)
    assert ran == [1]
    assert {m.tool_call_id: m.status for m in tool_messages(state)} == {"call-1": "success", "call-2": "error"}


def test_15_an_answer_to_another_request_is_no_answer(make_world: Any) -> None:
    class Crossed(AnsweringChannel):
        """Hands every answer to the next request."""

        previous: Any = None

        def ask(self, request: Any) -> Any:
            answer = super().ask(request)
            self.previous, answer = answer, self.previous or answer
            return answer

    ran: Bodies = []
    pay = pay_amount(ran)
    world = make_world(pay, outcome="require_approval", channel=Crossed(lambda r: r.call.arguments["amount"] == 1))
    with world.session():
        pay.invoke(call("pay", "call-1", amount=1))
        with pytest.raises(AccessDeniedError, match="another call"):
            pay.invoke(call("pay", "call-2", amount=999))
        with pytest.raises(AccessDeniedError, match="another call"):
            pay.invoke(call("pay", "call-3", amount=1))
    assert ran == [1]


@pytest.mark.parametrize("use_async", [True, False])
def test_16_a_resumed_tool_node_does_not_run_a_body_twice(use_async: bool, make_world: Any) -> None:
    ran: Bodies = []
    pay = pay_amount(ran)
    asked: list[Any] = []

    @tool
    def confirm(text: str) -> str:
        """Ask the user, inside the body."""
        asked.append(interrupt({"confirm": text}))
        ran.append(text)
        return str(asked[-1])

    world = make_world(pay, confirm)
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([pay, confirm]))
    graph.add_edge(START, "tools")
    graph.add_edge("tools", END)
    app = graph.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    first = {"messages": [message(call("pay", "call-1", amount=1), call("confirm", "call-2", text="go"))]}

    def invoke(given: Any) -> Any:
        return asyncio.run(app.ainvoke(given, config)) if use_async else app.invoke(given, config)

    with world.session():
        assert "__interrupt__" in invoke(first)
        state = invoke(Command(resume="yes"))
    assert sorted(map(str, ran)) == ["1", "go"]
    assert asked == ["yes"]
    assert [m.content for m in tool_messages(state)] == ["paid 1", "yes"]
    statuses = [r["status"] for r in world.records() if r["kind"] == "outcome" and r["tool"] == "confirm"]
    assert statuses == ["suspended", "ok"]


@pytest.mark.parametrize("use_async", [True, False])
def test_17_an_interrupt_in_a_body_suspends_and_is_never_swallowed(use_async: bool, make_world: Any) -> None:
    ran: Bodies = []

    @tool
    def ask(x: int) -> str:
        """Ask."""
        answer = interrupt("?")
        ran.append(x)
        return str(answer)

    world = make_world(ask)
    app = agent(
        ask,
        calls=[call("ask", x=1)],
        middleware=[ZeroTrustMiddleware(world.guard)],
        checkpointer=InMemorySaver(),
    )
    config: Any = {"configurable": {"thread_id": "1"}}

    def invoke(given: Any) -> Any:
        return asyncio.run(app.ainvoke(given, config)) if use_async else app.invoke(given, config)

    with world.session():
        assert "__interrupt__" in invoke(USER)
        assert ran == []
        assert last(invoke(Command(resume="yes"))) == "yes"
    assert ran == [1]
    spans = world.spans()
    assert [span.error for span in spans] == [False, False]


def test_17_an_interrupt_outside_a_graph_runs_nothing(make_world: Any) -> None:
    ran: Bodies = []

    @tool
    def ask(x: int) -> str:
        """Ask."""
        interrupt("?")
        ran.append(x)
        return "x"

    world = make_world(ask)
    with world.session(), pytest.raises((KeyError, RuntimeError)):
        ask.invoke({"x": 1})
    assert ran == []
    assert [r["status"] for r in world.records() if r["kind"] == "outcome"] == ["error"]


def test_17_a_raised_interrupt_is_not_counted_as_executed(make_world: Any) -> None:
    attempts: list[int] = []

    @tool
    def pause(x: int) -> str:
        """Pause once."""
        attempts.append(x)
        if len(attempts) == 1:
            raise GraphInterrupt(())
        return "resumed"

    world = make_world(pause)
    with world.session():
        with pytest.raises(GraphInterrupt):
            pause.invoke(call("pause", x=1))
        assert pause.invoke(call("pause", x=1)).content == "resumed"
        assert pause.invoke(call("pause", x=1)).content == "resumed"
    assert attempts == [1, 1]


# -- 18, 19, 20 ------------------------------------------------------------------------------------------------------


def test_18_an_executor_without_call_ids_makes_each_of_its_calls(make_world: Any) -> None:
    ran: Bodies = []
    add = function_tool(ran)
    world = make_world(add)
    with world.session():
        executor(add).invoke({"input": "x"})
        executor(add).invoke({"input": "x"})
    assert ran == [(1, 7), (1, 7)]


@pytest.mark.parametrize("empty", ["", None])
def test_18_calls_without_an_id_are_different_calls(empty: Any, make_world: Any) -> None:
    ran: Bodies = []
    add = function_tool(ran)
    world = make_world(add)
    with world.session():
        for _ in range(2):
            add.invoke({**call(), "id": empty})
    assert ran == [(1, 7), (1, 7)]


def test_18_a_sub_agent_acts_under_the_session_of_its_caller(make_world: Any) -> None:
    ran: Bodies = []
    add = function_tool(ran)

    @tool
    def delegate(x: int) -> str:
        """Let another agent do it."""
        return str(last(agent(add).invoke(USER)))

    world = make_world(add, delegate)
    with world.session(on_behalf_of="bob@acme.example"):
        assert last(agent(delegate, calls=[call("delegate", x=1)]).invoke(USER)) == "8"
    assert ran == [(1, 7)]
    assert {r["user_id"] for r in world.records()} == {"bob@acme.example"}


def test_19_a_cancelled_tool_ends_its_span(make_world: Any) -> None:
    started: list[bool] = []

    @tool
    async def slow(x: int) -> str:
        """Wait."""
        started.append(True)
        await asyncio.sleep(10)
        return "x"

    world = make_world(slow)

    async def run() -> None:
        async with world.session():
            task = asyncio.create_task(slow.ainvoke({"x": 1}))
            while not started:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    (span,) = world.spans()
    assert span.error
    assert [r["status"] for r in world.records() if r["kind"] == "outcome"] == ["cancelled"]


def test_19_an_abandoned_agent_stream_leaves_no_current_span(make_world: Any, caplog: pytest.LogCaptureFixture) -> None:
    from opentelemetry import trace

    add = function_tool([])
    world = make_world(add)

    async def run() -> None:
        async with world.session():
            stream = agent(add).astream(USER)
            await anext(stream)
            await stream.aclose()
        assert not trace.get_current_span().get_span_context().is_valid

    asyncio.run(run())
    assert "detach" not in caplog.text


def test_20_tools_that_a_provider_runs_are_refused_unless_accepted_by_name(make_world: Any, tmp_path: Path) -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    add = function_tool([])
    world = make_world(add)
    with pytest.raises(ConfigurationError, match="never passes the guard"):
        world.guard.protect([add, search])
    ours = ZeroTrustMiddleware(world.guard)
    for app in (agent(add, search, middleware=[ours]), agent(add, middleware=[Binds(search), ours])):
        with world.session(), pytest.raises(ConfigurationError, match="never passes the guard"):
            app.invoke(USER)
    tools = "tools:\n  web_search: {tier: low, effects: [read], unmediated: true}\n"
    tools += "  add: {tier: low, effects: [read]}\n"
    rules = "rules:\n  - {id: r, agents: [helpdesk], tools: [add], outcome: allow}\n"
    path = write_policy(tmp_path, HEAD + tools + rules, [function_tool([]), search])
    with Guard.from_config(path) as accepting:
        assert accepting.protect([function_tool([]), search])[1] is search
        with pytest.raises(ConfigurationError, match="not the one that was accepted"):
            accepting.protect([function_tool([]), {**search, "allowed_domains": ["evil.example"]}])


def test_20_a_function_that_only_the_provider_knows_goes_by_its_own_name(make_world: Any) -> None:
    world = make_world(function_tool([]))
    for known in ({"type": "function", "function": {"name": "transfer"}}, {"type": "function", "name": "transfer"}):
        with pytest.raises(ConfigurationError, match="'transfer' is run by the model's provider"):
            world.guard.protect([function_tool([]), known])


class Binds(AgentMiddleware):
    """Adds a provider's tool to each request."""

    def __init__(self, extra: dict[str, Any]) -> None:
        super().__init__()
        self.extra = extra

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        return handler(request.override(tools=[*request.tools, self.extra]))


def test_a_model_that_names_a_tool_nobody_has_gets_a_refusal(make_world: Any) -> None:
    ran: Bodies = []
    add = function_tool(ran)
    world = make_world(add)
    for name in ("ADD", "add ", "аdd", "a\u200bdd", "__class__", "nothing", "\ud800"):
        with world.session():
            turns = model(message(call(name)))
            from langchain.agents import create_agent

            state = create_agent(turns, [add], middleware=[ZeroTrustMiddleware(world.guard)]).invoke(USER)
        (refusal,) = tool_messages(state)
        assert refusal.status == "error"
    assert ran == []
    assert isinstance(state["messages"][-1], AIMessage)
