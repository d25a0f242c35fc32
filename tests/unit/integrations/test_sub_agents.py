"""A sub-agent as a tool: it acts under its own identity where the body says so, under its caller's otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool, tool

from zt_agents import Guard, current_call
from zt_agents.integrations.langchain import ZeroTrustCallback
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel, calls
from zt_agents.testing import SpanRecorder, write_policy

POLICY = """
version: 1
trust_domain: acme.example
environment: test
agents:
  front: {id: spiffe://acme.example/agent/front, version: "1", owner: bo@acme.example, purpose: Talks.}
  researcher: {id: spiffe://acme.example/agent/researcher, version: "1", owner: bo@acme.example, purpose: Reads.}
tools:
  research: {tier: low, effects: [execute]}
  read_note: {tier: low, effects: [read]}
rules:
  - {id: delegate, agents: [front], tools: [research], outcome: allow}
  - {id: read, agents: [researcher], tools: [read_note], outcome: allow}
"""
USER: dict[str, Any] = {"messages": [("user", "What do the notes say?")]}


@tool
def read_note(name: str) -> str:
    """Read a note."""
    return f"note {name}"


class World:
    def __init__(self, folder: Path, own_session: bool) -> None:
        self.recorder = SpanRecorder()
        turns = [calls(("read_note", {"name": "x"})), lambda messages: AIMessage(messages[-1].text)]
        sub: Any = create_agent(ScriptedChatModel(turns=turns), [note := read_note.model_copy()])

        @tool
        def research(question: str) -> str:
            """Let the researcher find out."""
            asked = {"messages": [("user", question)]}
            if own_session:
                with self.guard.session(agent="researcher", on_behalf_of="alice@acme.example", intent=question):
                    return str(sub.invoke(asked)["messages"][-1].text)
            return str(sub.invoke(asked)["messages"][-1].text)

        tools: list[BaseTool] = [research, note]
        path = write_policy(folder, POLICY, tools)
        self.guard = Guard.from_config(path, tracer_provider=self.recorder.provider)
        self.guard.protect(tools)
        self.research = research

    def run(self, way: str) -> str:
        session = self.guard.session(agent="front", on_behalf_of="alice@acme.example")
        script = [calls(("research", {"question": "?"})), lambda messages: AIMessage(messages[-1].text)]
        agent: Any = create_agent(
            ScriptedChatModel(turns=script), [self.research], middleware=[ZeroTrustMiddleware(self.guard)]
        )
        if way == "with":
            with session:
                answer = agent.invoke(USER)
        elif way == "callback":
            answer = agent.invoke(USER, {"callbacks": [ZeroTrustCallback(self.guard, session)]})
        else:
            answer = agent.invoke(USER, {"configurable": {"zt_session": session.token}})
        return str(answer["messages"][-1].text)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, own_session=True)
    with world.guard:
        yield world


@pytest.fixture
def borrowed(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, own_session=False)
    with world.guard:
        yield world


@pytest.mark.parametrize("way", ["with", "callback", "token"])
def test_a_session_entered_in_a_body_goes_before_its_callers(own: World, way: str) -> None:
    assert own.run(way) == "note x"
    who = {
        span.attributes["gen_ai.tool.name"]: span.attributes["gen_ai.agent.id"]
        for span in own.recorder.spans()
        if span.name.startswith("execute_tool")
    }
    assert who == {
        "research": "spiffe://acme.example/agent/front",
        "read_note": "spiffe://acme.example/agent/researcher",
    }


@pytest.mark.parametrize("way", ["with", "callback", "token"])
def test_without_one_it_acts_as_its_caller(borrowed: World, way: str) -> None:
    assert borrowed.run(way) == "This tool call could not be completed. Do not repeat it."  # names no inner tool
    refused = [span for span in borrowed.recorder.spans() if span.attributes.get("error.type") == "access_denied"]
    assert [span.attributes["gen_ai.agent.id"] for span in refused] == ["spiffe://acme.example/agent/front"]


def test_a_session_two_bodies_deep_goes_before_the_outermost(make_world: Any) -> None:
    @tool
    def inner() -> str:
        """Read."""
        return str(current_call().session.agent.name)  # type: ignore[union-attr]

    @tool
    def middle() -> str:
        """Delegate once more."""
        with world.session(agent="other"):
            return str(inner.invoke({}))

    @tool
    def outer() -> str:
        """Delegate."""
        with world.session(agent="helpdesk"):
            return str(middle.invoke({}))

    rules = "  - {id: all, agents: [helpdesk, other], tools: [inner, middle, outer], outcome: allow}"
    world = make_world(inner, middle, outer, rules=rules)
    session = world.session(agent="helpdesk")
    assert outer.invoke({}, {"callbacks": [ZeroTrustCallback(world.guard, session)]}) == "other"
    assert outer.invoke({}, {"configurable": {"zt_session": session.token}}) == "other"
