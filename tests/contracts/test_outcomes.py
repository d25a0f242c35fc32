"""Each outcome on each way in: what the caller gets, whether the body ran, what the log and the trace say."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.messages.tool import tool_call
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from outcomes import CALLBACK, CASES, DIRECT, MIDDLEWARE, TOOL_NODE, WAYS_IN, Case, Clock, render, summary
from pydantic import ValidationError

from zt_agents import AccessDeniedError
from zt_agents.errors import AuditWriteError
from zt_agents.integrations.langchain import ZeroTrustCallback
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # langchain-classic imports langchain-community, which warns
    from langchain_classic.agents import AgentExecutor, create_tool_calling_agent


def make_tool(ran: list[Any], description: str = "Add one.", name: str = "add") -> BaseTool:
    def add(a: int) -> int:
        ran.append(a)
        return a + 1

    async def aadd(a: int) -> int:
        ran.append(a)
        return a + 1

    return StructuredTool.from_function(add, coroutine=aadd, name=name, description=description)


class FullDisk:
    """The real sink, on a disk that has no room left."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    def append(self, records: Sequence[Any]) -> Sequence[int]:
        raise AuditWriteError("The audit log could not be written: the disk is full.")


class Scene:
    """A case that has been arranged, and can be played on a way in."""

    def __init__(self, case: Case, way: str, make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.case, self.way = case, way
        self.ran: list[Any] = []
        self.tool = make_tool(self.ran)
        self.clock = Clock()
        accepted = self.tool
        if case.name.startswith("tool changed"):
            accepted = make_tool([], "Add one, and tell a stranger.")
        if case.name.startswith("tool not in"):
            accepted = make_tool([], name="subtract")
        channel = case.channel() if case.channel else None
        self.world = make_world(accepted, channel=channel, protect=False, clock=self.clock, **case.policy)
        other = make_world(make_tool([]), protect=False, clock=self.clock)
        self.owner = other if case.name == "session of another guard" else self.world
        if way in (DIRECT, TOOL_NODE) or self.owner is other:
            self.world.guard.protect(self.tool)
        self.session = self.owner.session(ttl=60) if case.session else None
        if case.name == "session expired":
            self.clock.now += 61
        elif case.name == "session revoked":
            self.world.guard.revoke(self.session)
        elif case.name == "agent suspended":
            self.world.guard.registry.suspend("helpdesk")
        elif case.name == "the audit log cannot be written":
            writer = self.world.guard.audit._writer
            writer.sink = FullDisk(writer.sink)
        elif case.name == "the policy engine fails":

            def fail(_: object, call: object) -> Any:
                raise RuntimeError("threshold 100 of the-rule")

            monkeypatch.setattr(type(self.world.guard.policy.engine), "decide", fail)

    def play(self, *, use_async: bool) -> Any:
        """Return the result, or the tool message; raise what reaches the caller."""
        call = tool_call(name="add", args=dict(self.case.given), id="call-1")
        wanted = AIMessage("", tool_calls=[call])
        if self.way == DIRECT:
            return asyncio.run(self.tool.ainvoke(call)) if use_async else self.tool.invoke(call)
        if self.way == CALLBACK:
            prompt = ChatPromptTemplate.from_messages([("human", "{input}"), ("placeholder", "{agent_scratchpad}")])
            model = ScriptedChatModel(turns=[wanted, AIMessage("done")])
            app: Any = AgentExecutor(
                agent=create_tool_calling_agent(model, [self.tool], prompt),
                tools=[self.tool],
                return_intermediate_steps=True,
            )
            config: Any = {"callbacks": [ZeroTrustCallback(self.owner.guard, self.session)]}  # type: ignore[arg-type]
            given: Any = {"input": "x"}
            state = asyncio.run(app.ainvoke(given, config)) if use_async else app.invoke(given, config)
            return state["intermediate_steps"][0][1]
        if self.way == MIDDLEWARE:
            model = ScriptedChatModel(turns=[wanted, AIMessage("done")])
            app = create_agent(model, [self.tool], middleware=[ZeroTrustMiddleware(self.world.guard)])
            given = {"messages": [("user", "x")]}
        else:
            graph = StateGraph(MessagesState).add_node("tools", ToolNode([self.tool]))
            app = graph.add_edge(START, "tools").add_edge("tools", END).compile()
            given = {"messages": [wanted]}
        state = asyncio.run(app.ainvoke(given)) if use_async else app.invoke(given)
        return next(m for m in state["messages"] if isinstance(m, ToolMessage))

    def in_context(self) -> contextlib.AbstractContextManager[Any]:
        if self.session is None or self.way == CALLBACK:
            return contextlib.nullcontext()
        return self.session


PLAYS = [(case, way) for case in CASES for way in WAYS_IN if way not in case.not_on]


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("case", "way"), [pytest.param(c, w, id=f"{c.name}-{w}") for c, w in PLAYS])
def test_outcome(
    case: Case, way: str, use_async: bool, make_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(case, way, make_world, monkeypatch)
    denial: AccessDeniedError | None = None
    with scene.in_context():
        if case.error is None:
            result = scene.play(use_async=use_async)
            assert str(getattr(result, "content", result)) == "2"
        elif case.validated_by_langchain and way in (DIRECT, CALLBACK):
            with pytest.raises(ValidationError):
                scene.play(use_async=use_async)
        elif case.validated_by_langchain or way == MIDDLEWARE:
            shown = scene.play(use_async=use_async)
            assert (shown.status, shown.tool_call_id) == ("error", "call-1")
            if not case.validated_by_langchain:
                assert shown.content.startswith("Access denied: add was not executed. ")
                for secret in ("the-rule", "100", "subtract", "helpdesk", "stranger", "RuntimeError", "disk"):
                    assert secret not in shown.content
        else:
            with pytest.raises(AccessDeniedError) as caught:
                scene.play(use_async=use_async)
            denial = caught.value
    assert scene.ran == ([1] if case.error is None else [])
    if denial is not None:
        assert type(denial) is case.error
        assert denial.decision.reasons[0].code is case.reason
        assert "100" not in denial.message_for_model()
    if case.decisions:
        records = scene.world.records()
        decided = [record for record in records if record["kind"] == "decision"]
        assert tuple(record["outcome"] for record in decided) == case.decisions
        assert decided[-1]["reasons"][0][0] == case.reason
        ended = [record["status"] for record in records if record["kind"] == "outcome"]
        assert ended == (["ok"] if case.error is None else [])
        of_the_call = [record for record in records if record["kind"] != "change"]
        assert {record["decision_id"] for record in of_the_call} == {decided[0]["decision_id"]}
    (span,) = scene.world.spans()
    assert span.name == "execute_tool add"
    assert span.error == (case.error is not None)
    assert span.attributes["zt_agents.decision.outcome"] == ("allow" if case.error is None else "deny")
    assert span.attributes["zt_agents.decision.reason"] == case.reason


def test_a_low_tier_call_after_a_failed_write_is_denied_until_the_log_can_be_written(make_world: Any) -> None:
    ran: list[Any] = []
    add = make_tool(ran)
    world = make_world(add)
    audit = world.guard.audit
    real = audit.sink
    with world.session():
        add.invoke({"a": 1})
        audit.flush(5)
        audit._writer.sink = FullDisk(real)
        add.invoke({"a": 2})
        with pytest.raises(AuditWriteError):
            audit.flush(5)
        with pytest.raises(AccessDeniedError, match="could not be recorded"):
            add.invoke({"a": 3})
        audit._writer.sink = real
        for _ in range(200):
            with contextlib.suppress(AuditWriteError):
                audit.flush(0.05)
                break
        add.invoke({"a": 4})
    assert ran == [1, 2, 4]


def test_a_closed_guard_denies(make_world: Any) -> None:
    ran: list[Any] = []
    add = make_tool(ran)
    world = make_world(add)
    with world.session():
        world.guard.close()
        with pytest.raises(AccessDeniedError):
            add.invoke({"a": 1})
    assert ran == []


def test_the_table_renders(tmp_path: Path) -> None:
    lines = render().splitlines()
    assert len(lines) == len(CASES) + 2
    assert len({line.count("|") for line in lines}) == 1


def test_the_readme_shows_this_table() -> None:
    readme = Path(__file__).parents[2] / "README.md"
    assert summary() in readme.read_text(encoding="utf-8")
