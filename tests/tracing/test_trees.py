"""Parents and children: human's agent -> tool -> data, however a tool is called."""

from __future__ import annotations

import asyncio
import gc
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
from langchain.agents import create_agent
from langchain_core.tools import BaseTool, tool
from opentelemetry import propagate, trace

from zt_agents import AccessDeniedError, Guard, Session
from zt_agents.integrations.langchain import ZeroTrustCallback
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel, calls
from zt_agents.testing import AnsweringChannel, SpanRecorder

Outline = Callable[[], list[str]]
Tools = dict[str, BaseTool]

LOOK = ["invoke_agent helpdesk", "  execute_tool look", "    SELECT tickets"]


def session(guard: Guard) -> Session:
    return guard.session(agent="helpdesk", on_behalf_of="alice@acme.example", intent="look", task="task-1")


def agent_run(tools: list[BaseTool], guard: Guard, *turns: object) -> object:
    return create_agent(ScriptedChatModel(turns=list(turns)), tools, middleware=[ZeroTrustMiddleware(guard)])


def test_a_sync_call(guard: Guard, tools: Tools, outline: Outline) -> None:
    with session(guard):
        tools["look"].invoke({"n": 1})
    assert outline() == LOOK


def test_the_tools_span_is_current_in_the_body(
    guard: Guard, tools: Tools, seen: list[str], recorder: SpanRecorder
) -> None:
    with session(guard):
        tools["look"].invoke({"n": 1})
    (call,) = [span for span in recorder.spans() if span.name == "execute_tool look"]
    assert seen == [call.span_id]
    assert not trace.get_current_span().get_span_context().is_valid


async def test_async_calls_side_by_side(guard: Guard, tools: Tools, outline: Outline) -> None:
    async with session(guard):
        await asyncio.gather(*(tools["alook"].ainvoke({"n": n}) for n in range(3)))
    assert outline() == [
        "invoke_agent helpdesk",
        *["  execute_tool alook", "    SELECT tickets", "    SELECT tickets"] * 3,
    ]


def test_threads_that_carry_the_context(guard: Guard, tools: Tools, outline: Outline) -> None:
    with session(guard), ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(copy_context().run, tools["look"].invoke, {"n": n}) for n in range(2)]
        for job in jobs:
            job.result()
    assert outline() == [LOOK[0], *LOOK[1:] * 2]


def test_batch(guard: Guard, tools: Tools, outline: Outline) -> None:
    with session(guard):
        tools["look"].batch([{"n": 1}, {"n": 2}])
    assert outline() == [LOOK[0], *LOOK[1:] * 2]


def test_a_tool_in_a_tool(guard: Guard, tools: Tools, outline: Outline) -> None:
    with session(guard):
        tools["outer"].invoke({"n": 1})
    assert outline() == [
        "invoke_agent helpdesk",
        "  execute_tool outer",
        "    execute_tool look",
        "      SELECT tickets",
    ]


@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke", "astream"])
def test_an_agent_with_parallel_calls(guard: Guard, tools: Tools, outline: Outline, way: str) -> None:
    agent = agent_run([tools["look"], tools["alook"]], guard, calls(("look", {"n": 1}), ("look", {"n": 2})), calls())
    question = {"messages": [("user", "look")]}

    async def run_async() -> None:
        async with session(guard):
            if way == "ainvoke":
                await agent.ainvoke(question)  # type: ignore[attr-defined]
            else:
                async for _ in agent.astream(question):  # type: ignore[attr-defined]
                    pass

    if way.startswith("a"):
        asyncio.run(run_async())
    else:
        with session(guard):
            list(agent.stream(question)) if way == "stream" else agent.invoke(question)  # type: ignore[attr-defined]
    assert outline() == [LOOK[0], *LOOK[1:] * 2]


def test_a_denied_call_ends_as_an_error_and_has_no_data(guard: Guard, tools: Tools, outline: Outline) -> None:
    with session(guard), pytest.raises(AccessDeniedError):
        tools["look"].invoke({"n": 13})
    assert outline() == ["invoke_agent helpdesk", "  execute_tool look !"]


def test_a_human_is_a_span_of_its_own(
    guard: Guard, tools: Tools, outline: Outline, recorder: SpanRecorder, channel: AnsweringChannel
) -> None:
    with session(guard):
        tools["wipe"].invoke({"n": 1})
    assert outline() == [
        "invoke_agent helpdesk",
        "  execute_tool wipe",
        "    zt_agents.approval",
        "    SELECT tickets",
    ]
    (asked,) = channel.asked
    by_name = {span.name: span.attributes for span in recorder.spans()}
    assert by_name["zt_agents.approval"]["zt_agents.approval.id"] == asked.id
    assert by_name["execute_tool wipe"]["zt_agents.approval.id"] == asked.id
    assert by_name["execute_tool wipe"]["zt_agents.decision.outcome"] == "allow"


async def test_a_human_is_asked_without_losing_the_trace(guard: Guard, tools: Tools, outline: Outline) -> None:
    async with session(guard):
        await tools["wipe"].ainvoke({"n": 1})
    assert outline()[1:3] == ["  execute_tool wipe", "    zt_agents.approval"]


async def test_a_cancelled_call_ends_its_span(guard: Guard, tools: Tools, outline: Outline) -> None:
    async with session(guard):
        task = asyncio.create_task(tools["slow"].ainvoke({}))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert outline() == ["invoke_agent helpdesk", "  execute_tool slow !", "    SELECT tickets"]


def test_a_stream_is_inside_its_span_at_every_step_and_at_no_other_time(
    guard: Guard, tools: Tools, outline: Outline, recorder: SpanRecorder, seen: list[str]
) -> None:
    with session(guard) as current:
        stream = tools["lines"].invoke({})
        outside = []
        for _ in stream:
            outside.append(format(trace.get_current_span().get_span_context().span_id, "016x"))
        assert current.span is not None
        assert set(outside) == {current.span.span_id}
    assert outline() == ["invoke_agent helpdesk", "  execute_tool lines", *["    SELECT tickets"] * 3]
    assert len(set(seen)) == 1


async def test_an_async_stream(guard: Guard, tools: Tools, outline: Outline) -> None:
    async with session(guard):
        assert [item async for item in tools["alines"].invoke({})] == [0, 1, 2]
    assert outline() == ["invoke_agent helpdesk", "  execute_tool alines", *["    SELECT tickets"] * 3]


@pytest.mark.parametrize("steps", [0, 1])
def test_an_abandoned_stream_ends_its_span(guard: Guard, tools: Tools, outline: Outline, steps: int) -> None:
    with session(guard):
        stream = tools["lines"].invoke({})
        for _ in range(steps):
            next(stream)
        del stream
        gc.collect()
        assert "execute_tool lines" in [line.strip() for line in outline()]
    assert outline() == ["invoke_agent helpdesk", "  execute_tool lines", *["    SELECT tickets"] * steps]


async def test_an_abandoned_async_stream_ends_its_span(guard: Guard, tools: Tools, outline: Outline) -> None:
    async with session(guard):
        stream = tools["alines"].invoke({})
        await anext(stream)
        await stream.aclose()
    assert outline() == ["invoke_agent helpdesk", "  execute_tool alines", "    SELECT tickets"]


def test_a_callback_without_a_with_block_starts_a_trace_of_its_own(
    guard: Guard, tools: Tools, recorder: SpanRecorder
) -> None:
    callback = ZeroTrustCallback(guard, session(guard))
    tools["look"].invoke({"n": 1}, config={"callbacks": [callback]})
    (root,) = recorder.trees()
    assert root.name == "execute_tool look"
    assert root.attributes["zt_agents.agent.owner"] == "dana@acme.example"
    assert root.attributes["zt_agents.delegation.depth"] == 1


def test_the_attributes_are_those_of_the_conventions(guard: Guard, tools: Tools, recorder: SpanRecorder) -> None:
    call = {"name": "look", "args": {"n": 7}, "id": "call_7", "type": "tool_call"}
    with session(guard) as current:
        tools["look"].invoke(call)
    agent, execute, _ = recorder.spans()
    assert agent.attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "zt_agents",
        "gen_ai.agent.id": "spiffe://acme.example/agent/helpdesk",
        "gen_ai.agent.name": "helpdesk",
        "gen_ai.agent.version": "1.4",
        "gen_ai.conversation.id": "task-1",
        "user.id": "alice@acme.example",
        "zt_agents.agent.owner": "dana@acme.example",
        "zt_agents.agent.spiffe_id": "spiffe://acme.example/agent/helpdesk",
        "zt_agents.task.id": "task-1",
        "zt_agents.token.jti": current.id,
        "zt_agents.delegation.chain": ("spiffe://acme.example/agent/helpdesk",),
        "zt_agents.delegation.depth": 1,
        "zt_agents.policy.id": guard.policy.id,
        "zt_agents.policy.version": guard.policy.version,
    }
    varying = {"zt_agents.decision.id", "zt_agents.tool.args_hash", "zt_agents.tool.fingerprint"}
    assert varying <= execute.attributes.keys()
    assert {name: value for name, value in execute.attributes.items() if name not in varying} == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "call_7",
        "gen_ai.agent.id": "spiffe://acme.example/agent/helpdesk",
        "gen_ai.conversation.id": "task-1",
        "gen_ai.data_source.id": "tickets",
        "user.id": "alice@acme.example",
        "zt_agents.decision.outcome": "allow",
        "zt_agents.decision.reason": "rule",
        "zt_agents.decision.tier": "low",
        "zt_agents.decision.enforced": True,
        "zt_agents.rule.id": "reads",
        "security_rule.name": "reads",
        "zt_agents.resource.id": "ticket/7",
        "zt_agents.resource.data_class": "internal",
        "zt_agents.target.system": "tickets",
        "zt_agents.token.jti": current.id,
        "zt_agents.provenance.integrity": "user",
    }


def test_a_medium_tier_span_knows_its_audit_record(guard: Guard, tools: Tools, recorder: SpanRecorder) -> None:
    with session(guard):
        tools["change"].invoke({"n": 1})
    (call,) = [span for span in recorder.spans() if span.name == "execute_tool change"]
    assert call.attributes["zt_agents.audit.seq"] == 1


def test_neither_arguments_nor_results_nor_messages_are_on_spans(
    guard: Guard, tools: Tools, recorder: SpanRecorder
) -> None:
    with session(guard):
        tools["look"].invoke({"n": 987654321})
        with pytest.raises(AccessDeniedError):
            tools["look"].invoke({"n": 13})
    shown = repr([(span.name, span.attributes) for span in recorder.spans() if span.name != "SELECT tickets"])
    assert "987654321" in shown  # in the resource id, which the policy's author asked for
    shown = shown.replace("ticket/987654321", "")
    assert "987654321" not in shown
    assert "taboo" not in shown


def test_content_is_captured_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, recorder: SpanRecorder
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    guard: Guard = request.getfixturevalue("guard")
    with session(guard):
        request.getfixturevalue("tools")["look"].invoke({"n": 5})
    assert recorder.spans()[1].attributes["gen_ai.tool.call.arguments"] == '{"n":5}'


def test_user_ids_can_be_kept_off_spans(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, recorder: SpanRecorder
) -> None:
    monkeypatch.setenv("ZT_AGENTS_TRACE_USER_IDS", "off")
    guard: Guard = request.getfixturevalue("guard")
    with session(guard):
        request.getfixturevalue("tools")["look"].invoke({"n": 5})
    assert all("user.id" not in span.attributes for span in recorder.spans())
    shown = recorder.spans()[0].attributes["user.hash"]
    assert len(shown) == 32
    assert shown != hashlib.sha256(b"alice@acme.example").hexdigest()  # a guess could be tried
    assert "alice" not in repr(recorder.spans())


def test_a_service_called_by_a_body_or_its_thread_gets_the_trace(guard: Guard, recorder: SpanRecorder) -> None:
    sent: list[dict[str, str]] = []

    def post() -> None:
        headers: dict[str, str] = {}
        propagate.inject(headers)
        sent.append(headers)

    @tool("look")
    def calling(n: int) -> str:
        """Read a ticket."""
        post()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(copy_context().run, post).result()
        return f"ticket {n}"

    guard.protect(calling)
    with session(guard):
        calling.invoke({"n": 1})
    (call,) = [span for span in recorder.spans() if span.name == "execute_tool look"]
    carried = [headers["traceparent"].rpartition("-")[0] for headers in sent]
    assert carried == [f"00-{call.trace_id}-{call.span_id}"] * 2
