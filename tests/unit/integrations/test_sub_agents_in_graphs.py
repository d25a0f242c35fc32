"""Sub-agents that graphs run: each run acts under its own identity, handed on by whoever runs it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command
from world import records_of

from zt_agents import Guard, Session, current_call, current_session
from zt_agents.errors import UnknownAgentError
from zt_agents.identity import SigningKey
from zt_agents.integrations.langchain import ZeroTrustCallback
from zt_agents.integrations.langchain.interrupts import InterruptChannel
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel, calls
from zt_agents.testing import SpanRecorder, write_policy

POLICY = """
version: 1
trust_domain: acme.example
environment: test
agents:
  front: {id: spiffe://acme.example/front, version: "1", owner: bo, purpose: Talks., delegates: [research, writer]}
  research: {id: spiffe://acme.example/research, version: "1", owner: bo, purpose: Reads., delegates: [archive]}
  writer: {id: spiffe://acme.example/writer, version: "1", owner: bo, purpose: Writes.}
  archive: {id: spiffe://acme.example/archive, version: "1", owner: bo, purpose: Keeps.}
tools:
  look: {tier: low, effects: [write]}
  sign: {tier: high, effects: [write]}
  ask: {tier: low, effects: [execute]}
  ask_more: {tier: low, effects: [execute]}
rules:
  - {id: work, agents: [research, writer, archive], tools: [look], outcome: allow}
  - {id: sign, agents: [research], tools: [sign], outcome: require_approval, reason: It counts.}
  - {id: asking, agents: [front, research], tools: [ask, ask_more], outcome: allow}
"""
USER: dict[str, Any] = {"messages": [("user", "go")]}


def names(session: Session) -> tuple[str, ...]:
    """Return the names of the agents on whose word *session* acts, its own first."""
    return tuple(link.agent for link in session.chain)


class Office:
    """A guard, sub-agents made on demand, and a tool whose body a test writes."""

    def __init__(self, folder: Path, **parts: Any) -> None:
        self.recorder = SpanRecorder()
        self.acted: list[Session] = []
        self.body: Callable[[int], Any] = lambda n: ""
        self.more: Callable[[], Any] = lambda: ""

        def acting() -> None:
            permit = current_call()
            assert permit is not None
            assert permit.session is not None
            self.acted.append(permit.session)

        @tool
        def look(n: int) -> str:
            """Look."""
            acting()
            return f"seen {n}"

        @tool
        def sign(n: int) -> str:
            """Sign."""
            acting()
            return f"signed {n}"

        @tool
        def ask(n: int) -> str:
            """Ask another agent."""
            return str(self.body(n))

        @tool
        def ask_more() -> str:
            """Ask yet another agent."""
            return str(self.more())

        self.tools: list[BaseTool] = [look, sign, ask, ask_more]
        path = write_policy(folder, POLICY, self.tools)
        self.guard = Guard.from_config(path, tracer_provider=self.recorder.provider, **parts)
        self.guard.protect(self.tools)

    def agent(self, name: str | None, *turns: Any, checkpointer: Any = None) -> Any:
        """Return the graph of an agent that makes these calls and then says ``done``."""
        middleware = [ZeroTrustMiddleware(self.guard, agent=name)]
        model = ScriptedChatModel(turns=[*turns, AIMessage("done")])
        return create_agent(model, self.tools, middleware=middleware, checkpointer=checkpointer)

    def session(self, agent: str = "front") -> Session:
        return self.guard.session(agent=agent, on_behalf_of="alice")

    def said(self, state: Any) -> list[str]:
        """Return what the tools of a conversation said."""
        return [message.text for message in state["messages"] if message.type == "tool"]

    def records(self) -> list[dict[str, Any]]:
        return records_of(self.guard)

    def refusals(self) -> list[str]:
        return [record["reasons"][0][1] for record in self.records() if record.get("outcome") == "deny"]


LOOK = ("look", {"n": 1})


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    with made.guard:
        yield made


@pytest.mark.parametrize("way", ["with", "callback", "token", "stream"])
def test_an_agent_as_a_tool_acts_as_itself(office: Office, way: str) -> None:
    office.body = lambda n: office.agent("research", calls(LOOK, LOOK)).invoke(USER)["messages"][-1].text
    front, session = office.agent(None, calls(("ask", {"n": 1}))), office.session()
    if way == "with":
        with session:
            front.invoke(USER)
    elif way == "stream":
        with session:
            list(front.stream(USER, stream_mode="values"))
    elif way == "callback":
        front.invoke(USER, {"callbacks": [ZeroTrustCallback(office.guard, session)]})
    else:
        front.invoke(USER, {"configurable": {"zt_session": session.token}})
    first, second = office.acted
    assert first is second  # one run, one session
    assert (names(first), first.outer) == (("research", "front"), session)
    assert first.claims.task == session.claims.task


def test_spans_of_a_sub_agent_hang_below_the_call_that_runs_it(office: Office) -> None:
    office.body = lambda n: office.agent("research", calls(LOOK)).invoke(USER)["messages"][-1].text
    with office.session():
        office.agent(None, calls(("ask", {"n": 1}))).invoke(USER)
    spans = {span.name: span for span in office.recorder.spans()}
    assert spans["invoke_agent research"].parent_id == spans["execute_tool ask"].span_id
    assert spans["execute_tool look"].parent_id == spans["invoke_agent research"].span_id
    assert spans["execute_tool look"].attributes["zt_agents.delegation.depth"] == 2
    changes = [record["change"] for record in office.records() if record["kind"] == "change"]
    (made,) = [change for change in changes if change["what"] == "delegation.made"]
    assert (made["by"], made["about"]) == ("front", "research")


async def test_sub_agents_side_by_side_have_a_session_each(office: Office) -> None:
    async def both(n: int) -> str:
        agents = [office.agent(name, calls(LOOK), calls(LOOK)) for name in ("research", "research", "writer")]
        await asyncio.gather(*(agent.ainvoke(USER) for agent in agents))
        assert current_session() is session
        return "asked"

    @tool
    async def ask(n: int) -> str:
        """Ask another agent."""
        return await both(n)

    ask.description = office.tools[2].description
    session = office.session()
    office.guard.protect([ask])
    front = create_agent(
        ScriptedChatModel(turns=[calls(("ask", {"n": 1}), ("ask", {"n": 2})), AIMessage("done")]),
        [ask],
        middleware=[ZeroTrustMiddleware(office.guard)],
    )
    async with session:
        await front.ainvoke(USER)
    assert len(office.acted) == 12
    assert len({each.id for each in office.acted}) == 6
    assert {names(each) for each in office.acted} == {("research", "front"), ("writer", "front")}


def test_graphs_that_run_side_by_side_have_a_session_each(office: Office) -> None:
    barrier = threading.Barrier(2, timeout=10)
    wait = lambda messages: (barrier.wait(), calls(LOOK))[1]  # noqa: E731 - both have opened their session by then

    with office.session() as session:
        agents = [office.agent("research", wait, wait, lambda _: (barrier.wait(), AIMessage("done"))[1]) for _ in "ab"]
        from langchain_core.runnables import RunnableParallel

        RunnableParallel(a=agents[0], b=agents[1]).invoke(USER)
        assert not session.sub_agents.working
    assert len(office.acted) == 4
    assert len({each.id for each in office.acted}) == 2


@pytest.mark.parametrize("way", ["with", "callback"])
def test_agents_as_nodes_of_one_graph_act_as_themselves(office: Office, way: str) -> None:
    graph: Any = StateGraph(MessagesState)
    graph.add_node("research", office.agent("research", calls(LOOK)))
    graph.add_node("writer", office.agent("writer", calls(LOOK)))
    graph.add_edge(START, "research")
    graph.add_edge("research", "writer")
    graph.add_edge("writer", END)
    session = office.session()
    if way == "with":
        with session:
            graph.compile().invoke(USER)
    else:
        graph.compile().invoke(USER, {"callbacks": [ZeroTrustCallback(office.guard, session)]})
    assert [names(each) for each in office.acted] == [("research", "front"), ("writer", "front")]
    assert not session.sub_agents.working
    assert [span.name for span in office.recorder.spans()].count("invoke_agent research") == 1


def test_three_deep(office: Office) -> None:
    office.more = lambda: office.agent("archive", calls(LOOK)).invoke(USER)["messages"][-1].text
    office.body = lambda n: office.agent("research", calls(("ask_more", {})), calls(LOOK)).invoke(USER)
    with office.session():
        office.agent(None, calls(("ask", {"n": 1}))).invoke(USER)
    assert [names(each) for each in office.acted] == [("archive", "research", "front"), ("research", "front")]


def test_an_agent_in_a_session_of_its_own_is_not_handed_anything(office: Office) -> None:
    with office.session("research") as session:
        office.agent("research", calls(LOOK)).invoke(USER)
    assert office.acted == [session]


def test_a_second_run_in_the_same_place_has_a_session_of_its_own(office: Office) -> None:
    with office.session():
        for _ in range(2):
            graph = office.agent("research", calls(LOOK), checkpointer=InMemorySaver())
            graph.invoke(USER, {"configurable": {"thread_id": "t"}})
    assert len({each.id for each in office.acted}) == 2


def test_a_sub_agent_does_not_act_as_whoever_is_carried_past_its_session(office: Office) -> None:
    ran: list[int] = []
    carried = {"configurable": {"zt_session": office.guard.session(agent="front", on_behalf_of="bob").token}}
    office.more = lambda: ran.append(1)  # front may ask that, research may ask it, too
    office.body = lambda n: office.agent("research", calls(("ask_more", {}))).invoke(USER, carried)["messages"][-1].text
    with office.session():
        office.agent(None, calls(("ask", {"n": 1}))).invoke(USER)
    assert not ran
    assert office.refusals() == ["Another session is carried past that of agent 'research'."]


def test_without_a_session_it_may_do_nothing(office: Office) -> None:
    state = office.agent("research", calls(LOOK)).invoke(USER)
    assert "no verified session" in office.said(state)[0]
    assert not office.acted


def test_to_whom_nobody_may_delegate_does_nothing_and_the_log_says_why(office: Office) -> None:
    with office.session():
        state = office.agent("archive", calls(LOOK)).invoke(USER)
        assert "front" not in office.said(state)[0]
    assert not office.acted
    assert office.refusals() == [
        "Agent 'front' may not delegate to 'archive'. In the policy: agents.front.delegates"
    ]


def test_what_a_sub_agent_is_made_of_is_not_taken_for_its_caller(office: Office) -> None:
    with office.session() as session:
        office.agent("research", calls(LOOK)).invoke(USER)
        office.agent("archive", calls(LOOK)).invoke(USER)  # which nobody may delegate to
    assert office.acted[0].seen
    assert session.seen == ()


async def test_graphs_of_one_event_loop_have_a_session_each(office: Office) -> None:
    async with office.session():
        agents = [office.agent("research", calls(LOOK), calls(LOOK)) for _ in range(5)]
        await asyncio.gather(*(agent.ainvoke(USER) for agent in agents))
    assert len(office.acted) == 10
    assert len({each.id for each in office.acted}) == 5


def test_a_caller_whose_session_ended_takes_its_sub_agents_along(office: Office) -> None:
    session = office.session()
    turns = [calls(LOOK), lambda _: (office.guard.revoke(session), calls(LOOK))[1]]
    with session:
        state = office.agent("research", *turns).invoke(USER)
    assert len(office.acted) == 1
    assert "could not be verified" in office.said(state)[1]


def test_who_is_no_agent_has_no_middleware(office: Office) -> None:
    with pytest.raises(UnknownAgentError, match="resaerch"):
        ZeroTrustMiddleware(office.guard, agent="resaerch")


def test_the_callers_tools_are_not_the_sub_agents(office: Office) -> None:
    """A confused deputy: what the sub-agent is talked into, it may not do, whatever its caller may."""
    office.body = lambda n: office.agent("writer", calls(("ask_more", {}))).invoke(USER)["messages"][-2].text
    with office.session():
        state = office.agent(None, calls(("ask", {"n": 1}))).invoke(USER)
    assert "Access denied" in office.said(state)[0]


def test_nothing_of_a_sub_agent_is_left_when_its_call_is_over(office: Office) -> None:
    def body(n: int) -> str:
        with pytest.raises(ZeroDivisionError):
            office.agent("research", calls(LOOK), lambda _: 1 / 0).invoke(USER)
        return "asked"

    office.body = body
    with office.session() as session:
        office.agent(None, calls(("ask", {"n": 1})), calls(("ask", {"n": 2}))).invoke(USER)
        assert not session.sub_agents.working
    first, second = office.acted
    assert first.id != second.id
    assert first.span is None


SIGN = calls(LOOK, ("sign", {"n": 7}))


def interrupted(office: Office, checkpointer: Any, *turns: Any) -> Any:
    office.body = lambda n: office.agent("research", SIGN).invoke(USER)["messages"][-1].text
    return office.agent(None, *turns, checkpointer=checkpointer)


def test_an_approval_inside_of_a_sub_agent_is_for_the_session_that_asked(tmp_path: Path) -> None:
    office = Office(tmp_path, channel=InterruptChannel())
    front, config = interrupted(office, InMemorySaver(), calls(("ask", {"n": 1}))), {"configurable": {"thread_id": "t"}}
    with office.guard, office.session():
        (asked,) = front.invoke(USER, config)["__interrupt__"]
        answer = office.guard.answer(asked.value, {"decisions": [{"type": "approve"}]}, approver="carol")
        state = front.invoke(Command(resume=answer), config)
        assert office.said(state) == ["done"]
    looked, signed = office.acted  # what ran before the pause was not run again
    assert looked is signed
    assert names(signed) == ("research", "front")


def test_an_approval_is_good_in_the_process_that_goes_on(tmp_path: Path) -> None:
    key, saver = SigningKey.generate(), InMemorySaver()
    here, there = (Office(tmp_path, channel=InterruptChannel(), signing_key=key) for _ in "ab")
    with here.guard, there.guard:
        config = {"configurable": {"thread_id": "t", "zt_session": here.session().token}}
        (asked,) = interrupted(here, saver, calls(("ask", {"n": 1}))).invoke(USER, config)["__interrupt__"]
        answer = there.guard.answer(asked.value, {"decisions": [{"type": "approve"}]}, approver="carol")
        assert there.said(interrupted(there, saver).invoke(Command(resume=answer), config)) == ["done"]
    assert {each.id for each in there.acted} == {each.id for each in here.acted}
