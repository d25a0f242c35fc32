"""What happens while a call waits, or after its caller has gone, is noticed and recorded."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import StructuredTool, tool

from zt_agents import AccessDeniedError, current_call
from zt_agents.catalog.specs import Tier
from zt_agents.decisions import Decision, Obligation, Outcome, Reason, ReasonCode
from zt_agents.errors import AuditWriteError, EnforcementUnavailableError, TokenRevokedError
from zt_agents.identity import Agent, SigningKey, TokenIssuer, User
from zt_agents.integrations.langchain.gates import Seal
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel, calls


def _tool(ran: list[int]) -> Any:
    @tool
    def act(a: int) -> str:
        """Act."""
        ran.append(a)
        return "done"

    return act


@pytest.mark.parametrize("change", ["revoked", "suspended"])
@pytest.mark.parametrize("use_async", [False, True])
def test_a_session_that_ends_while_its_record_is_written_gets_no_body(
    change: str, use_async: bool, make_world: Any
) -> None:
    ran: list[int] = []
    act = _tool(ran)
    world = make_world(act, tier="medium")
    session = world.session()
    append = world.guard.audit.sink.append

    def slow(records: Any) -> Any:
        if any(record.outcome is Outcome.ALLOW for record in records):
            if change == "revoked":
                world.guard.revoke(session)
            else:
                world.guard.registry.suspend("helpdesk")
        return append(records)

    world.guard.audit.sink.append = slow
    with session, pytest.raises(AccessDeniedError):
        asyncio.run(act.ainvoke({"a": 1})) if use_async else act.invoke({"a": 1})
    assert ran == []
    assert world.decisions() == [("allow", "rule"), ("deny", "identity")]


class _Answers:
    """A policy engine that changes another's answers."""

    def __init__(self, change: Any) -> None:
        self._change = change

    def decide(self, call: Any) -> Decision:
        answer: Decision = self._change(call)
        return answer


@pytest.mark.parametrize("outcome", ["allow", "require_approval"])
def test_an_obligation_that_nobody_can_fulfil_denies(outcome: str, make_world: Any) -> None:
    ran: list[int] = []
    act = _tool(ran)
    world = make_world(act, outcome=outcome)
    engine = world.guard.policy.engine
    obliged = _Answers(lambda call: engine.decide(call)._replace(obligations=(Obligation("1", "mask"),)))
    world.guard.policy = replace(world.guard.policy, engine=obliged)
    with world.session(), pytest.raises(AccessDeniedError, match="obligation"):
        act.invoke({"a": 1})
    assert ran == []
    assert world.decisions() == [("deny", "fault")]


def test_a_denial_raised_by_the_engine_is_a_fault_and_is_recorded(make_world: Any) -> None:
    ran: list[int] = []
    act = _tool(ran)
    world = make_world(act)
    other = Decision("1", Outcome.DENY, "another_tool", Tier.LOW, (Reason(ReasonCode.RULE, "No."),))

    def raise_it(call: Any) -> Decision:
        raise AccessDeniedError(other)

    world.guard.policy = replace(world.guard.policy, engine=_Answers(raise_it))
    with world.session(), pytest.raises(EnforcementUnavailableError, match="act"):
        act.invoke({"a": 1})
    assert ran == []
    assert world.decisions() == [("deny", "fault")]


def test_a_coroutine_dropped_with_its_loop_leaves_an_outcome_and_a_span(
    make_world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[str] = []

    async def wait(a: int) -> str:
        """Wait."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("body")
        return ""

    waits = StructuredTool.from_function(coroutine=wait, name="wait", description="Wait.")
    world = make_world(waits)

    async def start() -> Any:
        session = world.session()
        session.__enter__()
        coroutine = waits.coroutine(a=1)  # no task: nothing but the garbage collector will end it
        coroutine.send(None)
        return coroutine

    loop = asyncio.new_event_loop()
    coroutine = loop.run_until_complete(loop.create_task(start()))
    loop.close()
    coroutine.close()
    del coroutine
    gc.collect()
    assert ended == ["body"]
    assert [r["status"] for r in world.records() if r["kind"] == "outcome"] == ["cancelled"]
    (span,) = world.spans()
    assert span.error
    assert "Failed to detach" not in caplog.text


@pytest.mark.parametrize("end", ["read", "closed", "dropped"])
@pytest.mark.parametrize("use_async", [False, True])
def test_a_stream_read_in_another_session_stays_under_its_own(end: str, use_async: bool, make_world: Any) -> None:
    @tool
    def who() -> str:
        """Tell whose call this is."""
        return str(current_call().session.user.id)  # type: ignore[union-attr]

    seen: list[str] = []

    @tool
    def steps() -> Any:
        """Take steps."""

        def take() -> Any:
            try:
                for _ in range(2):
                    yield who.invoke({})
            finally:
                seen.append(who.invoke({}))

        async def atake() -> Any:
            for step in take():
                yield step

        return atake() if use_async else take()

    world = make_world(who, steps)

    async def next_of(stream: Any) -> Any:
        return await anext(stream) if use_async else next(stream)

    async def run() -> None:
        with world.session(on_behalf_of="alice@acme.example"):
            stream = steps.invoke({})
            seen.append(await next_of(stream))
            with world.session(on_behalf_of="bob@acme.example"):
                seen.append(await next_of(stream))
                if end == "read":
                    with pytest.raises((StopIteration, StopAsyncIteration, RuntimeError)):
                        await next_of(stream)
                elif end == "closed":
                    await stream.aclose() if use_async else stream.close()
                else:
                    del stream
                    gc.collect()
                    await asyncio.sleep(0.01)

    asyncio.run(run())
    assert seen == ["alice@acme.example"] * 3


def test_a_call_that_arrives_while_its_tool_is_sealed_waits_for_the_seal(
    make_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    act = _tool(ran)
    world = make_world(act, protect=False)
    attach, half = Seal.attach, threading.Event()

    def slowly(seal: Seal, tool: Any) -> None:
        half.set()
        time.sleep(0.1)
        attach(seal, tool)

    monkeypatch.setattr(Seal, "attach", slowly)
    sealer = threading.Thread(target=world.guard.protect, args=(act,))
    sealer.start()
    half.wait(5)
    with world.session():
        assert act.invoke({"a": 1}) == "done"
    sealer.join()
    assert world.decisions() == [("allow", "rule")]


def test_a_record_that_closing_has_overtaken_is_refused(make_world: Any) -> None:
    act = _tool([])
    world = make_world(act)
    log, records = world.guard.audit, []
    append = log.sink.append
    log.sink.append = lambda batch: records.extend(batch) or append(batch)
    with world.session():
        act.invoke({"a": 1})
    log.flush(5)
    queue = log._writer.queue

    class Overtaken:
        """The queue, seen by a caller that close() overtakes just before it puts its record in."""

        def qsize(self) -> int:
            return int(queue.qsize())

        def put(self, receipt: Any) -> None:
            log._writer.queue = queue
            log.close()
            queue.put(receipt)

    log._writer.queue = Overtaken()
    with pytest.raises(AuditWriteError, match="closed"):
        log.append(records[0])


def test_a_long_name_that_a_model_makes_up_stays_short_in_the_record(make_world: Any) -> None:
    from langchain.agents import create_agent

    act = _tool([])
    world = make_world(act)
    model = ScriptedChatModel(turns=[calls(("x" * 100_000, {})), AIMessage("bye")])
    agent: Any = create_agent(model, [act], middleware=[ZeroTrustMiddleware(world.guard)])
    with world.session():
        agent.invoke({"messages": [("user", "go")]})
    (record,) = [r for r in world.records() if r["kind"] == "decision"]
    assert len(str(record)) < 5_000


def test_revocations_of_expired_tokens_are_dropped_and_no_others() -> None:
    issuer = TokenIssuer(issuer="i", audience="a", keys=SigningKey.generate())
    agent = Agent("helpdesk", id="spiffe://acme.example/agent/helpdesk", version="1", owner="d", purpose="p")
    token, claims = issuer.issue(agent=agent, user=User("alice"), task="", ttl=3600, now=0)
    issuer.revoke(claims, now=0)
    for number in range(3_000):
        issuer.revoke(replace(claims, session_id=str(number), expires_at=number + 10), now=number)
    assert len(issuer._revoked) < 2_000
    with pytest.raises(TokenRevokedError):
        issuer.verify(token, now=3_599)
