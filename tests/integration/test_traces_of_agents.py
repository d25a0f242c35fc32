"""Traces of agents: ``create_agent`` in each of its ways, parallel calls, ``AgentExecutor``, and what is denied."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from backends import Backend, Span, wait_for
from langchain_core.prompts import ChatPromptTemplate
from office import ALICE, HELPDESK, QUESTION, Office, run
from outlines import told

from zt_agents import AccessDeniedError
from zt_agents.integrations.langchain import ZeroTrustCallback
from zt_agents.integrations.langchain.scripted import ScriptedChatModel, calls

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # langchain-classic imports langchain-community, which warns
    from langchain_classic.agents import AgentExecutor, create_tool_calling_agent

OpenOffice = Callable[..., Office]
TICKET_THEN_ARTICLE = [[("read_ticket", {"n": 5})], [("read_article", {"title": "Printers"})]]


def tagged(spans: list[Span], name: str) -> dict[str, Any]:
    (span,) = [span for span in spans if span.name == name]
    return span.tags


# -- create_agent with the middleware --------------------------------------------------------------------------------


async def _astream(agent: Any) -> None:
    async for _ in agent.astream(QUESTION, stream_mode="updates"):
        pass


WAYS: dict[str, Callable[[Any], object]] = {
    "invoke": lambda agent: agent.invoke(QUESTION),
    "stream": lambda agent: list(agent.stream(QUESTION, stream_mode="updates")),
    "ainvoke": lambda agent: agent.ainvoke(QUESTION),
    "astream": _astream,
}


@pytest.mark.parametrize("way", WAYS)
async def test_an_agent(backend: Backend, open_office: OpenOffice, way: str) -> None:
    office = open_office(f"agent-{way}")
    agent = office.agent(*TICKET_THEN_ARTICLE)
    if way.startswith("a"):
        async with office.session():
            await WAYS[way](agent)  # type: ignore[misc]
    else:
        with office.session():
            WAYS[way](agent)
    told(
        backend,
        f"agent-{way}",
        """
        invoke_agent helpdesk
          execute_tool read_ticket [allow]
            SELECT
          execute_tool read_article [allow]
            SELECT
        """,
    )


async def test_a_stream_that_is_given_up(backend: Backend, open_office: OpenOffice) -> None:
    office = open_office("agent-abandoned")
    async with office.session():
        stream = office.agent(*TICKET_THEN_ARTICLE).astream(QUESTION, stream_mode="updates")
        async for update in stream:
            if "tools" in update:
                break
        await stream.aclose()
    told(
        backend,
        "agent-abandoned",
        """
        invoke_agent helpdesk
          execute_tool read_ticket [allow]
            SELECT
        """,
    )


def test_a_tool_that_streams(backend: Backend, open_office: OpenOffice) -> None:
    office = open_office("tool-stream")
    with office.session():
        assert list(office.tools["list_tickets"].invoke({})) == ["Ticket 1", "Ticket 2", "Ticket 3"]
    told(
        backend,
        "tool-stream",
        """
        invoke_agent helpdesk
          execute_tool list_tickets [allow]
            SELECT
            SELECT
            SELECT
        """,
    )


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_parallel_calls_of_one_turn(backend: Backend, open_office: OpenOffice, way: str) -> None:
    office = open_office(f"parallel-{way}")
    both = threading.Barrier(2)
    office.within_reading = lambda: both.wait(10)  # neither body goes on before the other has begun
    turn = [
        ("read_ticket", {"n": 1}),
        ("read_article", {"title": "Printers"}),
        ("send_mail", {"to": "eve@evil.example", "body": "x"}),
    ]
    with office.session():
        agent = office.agent(turn)
        asyncio.run(agent.ainvoke(QUESTION)) if way == "ainvoke" else agent.invoke(QUESTION)
    told(
        backend,
        f"parallel-{way}",
        """
        invoke_agent helpdesk
          execute_tool read_article [allow]
            SELECT
          execute_tool read_ticket [allow]
            SELECT
          execute_tool send_mail [deny] !
        """,
        parallel=True,
    )
    spans = {span.name: span for span in backend.spans(f"parallel-{way}")}
    one, other = spans["execute_tool read_article"], spans["execute_tool read_ticket"]
    assert max(one.start, other.start) < min(one.end, other.end), "they overlap"


# -- AgentExecutor with the callback ---------------------------------------------------------------------------------


def executor(office: Office) -> AgentExecutor:
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Help."), ("human", "{input}"), ("placeholder", "{agent_scratchpad}")]
    )
    tools = list(office.tools.values())
    model = ScriptedChatModel(turns=[*(calls(*turn) for turn in TICKET_THEN_ARTICLE), calls(say="That is all.")])
    return AgentExecutor(agent=create_tool_calling_agent(model, tools, prompt), tools=tools)


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_an_agent_executor_in_a_session(backend: Backend, open_office: OpenOffice, way: str) -> None:
    office = open_office(f"executor-{way}")
    with office.session() as session:
        config: Any = {"callbacks": [ZeroTrustCallback(office.guard, session)]}
        if way == "ainvoke":
            asyncio.run(executor(office).ainvoke({"input": "tickets"}, config=config))
        else:
            executor(office).invoke({"input": "tickets"}, config=config)
    told(
        backend,
        f"executor-{way}",
        """
        invoke_agent helpdesk
          execute_tool read_ticket [allow]
            SELECT
          execute_tool read_article [allow]
            SELECT
        """,
    )


def test_an_agent_executor_whose_session_only_the_callback_carries(backend: Backend, open_office: OpenOffice) -> None:
    office = open_office("executor-alone")
    callback = ZeroTrustCallback(office.guard, office.session())
    executor(office).invoke({"input": "tickets"}, config={"callbacks": [callback]})
    told(
        backend,
        "executor-alone",
        """
        execute_tool read_ticket [allow]
          SELECT
        execute_tool read_article [allow]
          SELECT
        """,
    )
    for name in ("execute_tool read_ticket", "execute_tool read_article"):  # each has to say all of who acts for whom
        tags = tagged(backend.spans("executor-alone"), name)
        assert (tags["user.id"], tags["gen_ai.agent.id"]) == (ALICE, HELPDESK)
        assert tags["zt_agents.agent.owner"] == "dana@acme.example"


# -- what is denied --------------------------------------------------------------------------------------------------


def test_denied_because_no_rule_allows_it(backend: Backend, open_office: OpenOffice) -> None:
    run(open_office("deny-default"), [("drop_tickets", {})])
    told(
        backend,
        "deny-default",
        """
        invoke_agent helpdesk
          execute_tool drop_tickets [deny] !
        """,
    )
    tags = tagged(wait_for(backend, "deny-default"), "execute_tool drop_tickets")
    assert tags["zt_agents.decision.reason"] == "no_rule"
    assert tags["error.type"] == "access_denied"
    assert "zt_agents.rule.id" not in tags


def test_denied_by_a_rule(backend: Backend, open_office: OpenOffice) -> None:
    office = open_office("deny-rule")
    with office.session(), pytest.raises(AccessDeniedError):
        office.tools["send_mail"].invoke({"to": "eve@evil.example", "body": "the pay list"})
    told(
        backend,
        "deny-rule",
        """
        invoke_agent helpdesk
          execute_tool send_mail [deny] !
        """,
    )
    tags = tagged(backend.spans("deny-rule"), "execute_tool send_mail")
    assert tags["zt_agents.decision.reason"] == "rule"
    assert tags["zt_agents.rule.id"] == tags["security_rule.name"] == "no-mail-outside"
    assert tags["error.type"] == "access_denied"


def test_a_body_that_fails_is_an_error_and_no_denial(backend: Backend, open_office: OpenOffice) -> None:
    office = open_office("body-fails")
    with office.session(), pytest.raises(RuntimeError):
        office.tools["post_note"].invoke({"text": "x"})
    told(
        backend,
        "body-fails",
        """
        invoke_agent helpdesk
          execute_tool post_note [allow] !
        """,
    )
    assert tagged(backend.spans("body-fails"), "execute_tool post_note")["error.type"] == "RuntimeError"
