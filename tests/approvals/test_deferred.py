"""A call that is put off: the agent goes on, and the same call runs once when a human has said yes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from world import HEAD, World

from zt_agents import AccessDeniedError, ApprovalPendingError, DeferringChannel, ReasonCode
from zt_agents.approvals import Answer, ApprovalState, StoredApproval
from zt_agents.errors import ConfigurationError
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel

POLICY = HEAD + """
approvals: {timeout: 2s}
tools:
  pay: {tier: high, effects: [money]}
  look: {tier: low, effects: [read]}
rules:
  - {id: all, agents: [helpdesk, other], tools: [pay, look], outcome: allow}
"""


class Office:
    def __init__(self, folder: Path) -> None:
        self.ran: list[int] = []

        @tool
        def pay(amount: int) -> str:
            """Pay."""
            self.ran.append(amount)
            return f"paid {amount}"

        @tool
        def look(at: str) -> str:
            """Look."""
            return f"saw {at}"

        self.pay, self.look = pay, look
        self.world = World(folder, POLICY, [pay, look], DeferringChannel())
        self.world.guard.protect([pay, look])

    def waiting(self) -> StoredApproval:
        (stored,) = self.world.guard.desk.store.pending()
        return stored

    def say(self, approved: bool, by: str = "bob") -> None:
        answer = Answer(self.waiting().binding_hash, approved, by)
        assert self.world.guard.desk.file(answer) is None

    def call(self, amount: int, call_id: str | None = None) -> Any:
        if call_id is None:
            return self.pay.invoke({"amount": amount})
        return self.pay.invoke({"name": "pay", "args": {"amount": amount}, "id": call_id, "type": "tool_call"})


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    built = Office(tmp_path)
    yield built
    built.world.guard.close()


def test_the_agent_goes_on_and_the_same_call_runs_once_later(office: Office) -> None:
    with office.world.session():
        with pytest.raises(ApprovalPendingError) as put_off:
            office.call(5, "a")
        ticket = put_off.value.ticket
        assert office.world.guard.approval(ticket) is ApprovalState.PENDING
        assert office.look.invoke({"at": "tickets"}) == "saw tickets"
        with pytest.raises(ApprovalPendingError) as again:
            office.call(5, "b")
        assert again.value.ticket == ticket
        office.say(True)
        assert office.world.guard.approval(ticket) is ApprovalState.APPROVED
        assert office.call(5, "c").content == "paid 5"
        with pytest.raises(ApprovalPendingError) as anew:
            office.call(5, "d")
        assert anew.value.ticket != ticket
    assert office.ran == [5]


def test_the_same_id_may_be_retried(office: Office) -> None:
    with office.world.session():
        with pytest.raises(ApprovalPendingError):
            office.call(5, "a")
        office.say(True)
        assert office.call(5, "a").content == "paid 5"
        assert office.call(5, "a").content == "paid 5", "the recorded result"
    assert office.ran == [5]


def test_a_yes_to_one_call_is_none_to_another(office: Office) -> None:
    with office.world.session():
        for call_id in ("a", None):
            with pytest.raises(ApprovalPendingError):
                office.call(5, call_id)
        office.say(True)
        with pytest.raises(ApprovalPendingError):
            office.call(6, "a")
    with office.world.session(), pytest.raises(ApprovalPendingError):
        office.call(5, "a")
    with office.world.session(agent="other"), pytest.raises(ApprovalPendingError):
        office.call(5, "a")
    assert office.ran == []


def test_a_no_is_final_for_the_session(office: Office) -> None:
    with office.world.session():
        with pytest.raises(ApprovalPendingError):
            office.call(5, "a")
        office.say(False)
        for call_id in ("a", "b", None):
            with pytest.raises(AccessDeniedError) as denial:
                office.call(5, call_id)
            assert denial.value.decision.reasons[0].code is ReasonCode.NOT_APPROVED
            assert "Do not repeat" in denial.value.message_for_model()


def test_what_nobody_answered_in_time_is_asked_anew(office: Office) -> None:
    import time

    with office.world.session():
        with pytest.raises(ApprovalPendingError) as first:
            office.call(5, "a")
        time.sleep(2.1)
        assert office.world.guard.approval(first.value.ticket) is ApprovalState.EXPIRED
        with pytest.raises(ApprovalPendingError) as second:
            office.call(5, "b")
        assert second.value.ticket != first.value.ticket
        office.say(True)
        assert office.call(5, "c").content == "paid 5"


def test_two_of_the_same_at_once_run_once_for_one_yes(office: Office) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from contextvars import copy_context

    with office.world.session():
        with pytest.raises(ApprovalPendingError):
            office.call(5, "a")
        office.say(True)

        def attempt(call_id: str) -> bool:
            try:
                office.call(5, call_id)
            except AccessDeniedError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(copy_context().run, attempt, f"call-{number}") for number in range(16)]
        assert sum(each.result() for each in waiting) == 1
    assert office.ran == [5]


async def test_async_and_a_store_that_is_gone(office: Office) -> None:
    with office.world.session():
        with pytest.raises(ApprovalPendingError):
            await office.pay.ainvoke({"amount": 5})
        await asyncio.to_thread(office.say, True)
        assert await office.pay.ainvoke({"amount": 5}) == "paid 5"
        office.world.guard.desk.store.path.unlink()  # type: ignore[attr-defined]
        with pytest.raises(AccessDeniedError) as denial:
            await office.pay.ainvoke({"amount": 5})
        assert not isinstance(denial.value, ApprovalPendingError)


def test_an_agent_is_told_to_go_on_and_comes_back(office: Office) -> None:
    def asks(amount: int, call_id: str) -> AIMessage:
        return AIMessage("", tool_calls=[{"name": "pay", "args": {"amount": amount}, "id": call_id}])

    def looks(messages: list[Any]) -> AIMessage:
        assert "waits for a human's approval" in str(messages[-1].content)
        office.say(True)
        return AIMessage("", tool_calls=[{"name": "look", "args": {"at": "x"}, "id": "2"}])

    model = ScriptedChatModel(turns=[asks(7, "1"), looks, asks(7, "3"), AIMessage("done")])
    agent = create_agent(model, [office.pay, office.look], middleware=[ZeroTrustMiddleware(office.world.guard)])
    with office.world.session():
        messages = agent.invoke({"messages": [("user", "pay 7")]})["messages"]
    told = [message for message in messages if isinstance(message, ToolMessage)]
    assert [message.content for message in told][1:] == ["saw x", "paid 7"]
    assert told[0].status == "error"
    assert office.ran == [7]


def test_the_record_says_what_waited_and_what_became_of_it(office: Office) -> None:
    with office.world.session():
        with pytest.raises(ApprovalPendingError):
            office.call(5, "a")
        office.say(True)
        office.call(5, "b")
    records = office.world.records()
    assert [(r["kind"], r.get("outcome"), r.get("status")) for r in records] == [
        ("decision", "require_approval", None),
        ("outcome", None, "suspended"),
        ("decision", "require_approval", None),
        ("decision", "allow", None),
        ("outcome", None, "ok"),
    ]
    assert len({r["approval_id"] for r in records if r["kind"] == "decision"}) == 1


def test_a_channel_belongs_to_one_guard(tmp_path: Path, office: Office) -> None:
    with pytest.raises(ConfigurationError, match="no guard"):
        DeferringChannel().ask(None)  # type: ignore[arg-type]
    channel = office.world.guard.desk.channel
    assert isinstance(channel, DeferringChannel)
    with pytest.raises(ConfigurationError, match="another guard"):
        channel.bind(object())  # type: ignore[arg-type]
