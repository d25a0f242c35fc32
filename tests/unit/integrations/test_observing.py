"""ZeroTrustMiddleware notices what an agent is made of: its model, its prompt, its tools."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, SystemMessage
from langchain_core.tools import BaseTool, tool
from world import ONE_AGENT

from zt_agents import Guard
from zt_agents.identity.lifecycle import accept
from zt_agents.identity.manifests import Manifest, difference_hash, prompt_hash
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel, calls
from zt_agents.stores.sqlite_agents import NAME, SqliteAgentStore
from zt_agents.testing import write_policy

POLICY = (
    ONE_AGENT
    + """
tools:
  add: {tier: low, effects: [read]}
  minus: {tier: low, effects: [read]}
rules:
  - {id: the-rule, agents: [helpdesk], tools: [add, minus], outcome: allow}
"""
)
QUESTION: dict[str, Any] = {"messages": [("user", "What is one more than one?")]}


@tool
def add(a: int) -> int:
    """Add one."""
    return a + 1


@tool
def minus(a: int) -> int:
    """Take one."""
    return a - 1


class OtherModel(ScriptedChatModel):
    model_name: str = "gpt-9"


def ask(
    guard: Guard,
    prompt: str,
    *tools: BaseTool,
    model: type[ScriptedChatModel] = ScriptedChatModel,
    stable: Callable[[str], str] | None = None,
) -> str:
    """Return what an agent that is built anew answers, which is what its tool said."""
    script = [calls(("add", {"a": 1})), lambda messages: AIMessage(messages[-1].text)]
    middleware = [ZeroTrustMiddleware(guard, stable=stable)]
    agent: Any = create_agent(
        model(turns=script), list(tools) or [add.model_copy()], system_prompt=prompt, middleware=middleware
    )
    with guard.session(agent="helpdesk", on_behalf_of="alice@acme.example"):
        return str(agent.invoke(QUESTION)["messages"][-1].text)


def accept_now(guard: Guard) -> Manifest:
    agent = guard.policy.agents["helpdesk"]
    store = SqliteAgentStore(guard.policy.audit_path.with_name(NAME))
    state = store.read().agents[agent.id]
    assert state.observed is not None
    shown = difference_hash(agent.id, state.accepted, state.observed)
    store.change(agent.id, accept(agent, shown, by=agent.owner, at=1))
    return state.observed


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guard]:
    with Guard.from_config(write_policy(tmp_path, POLICY, [add, minus])) as guard:
        yield guard


def test_model_prompt_tools_and_framework_are_seen(guarded: Guard) -> None:
    assert ask(guarded, "Be kind.", model=OtherModel) == "2"
    seen = accept_now(guarded)
    assert seen.model == "OtherModel/gpt-9"
    assert seen.prompt == prompt_hash("Be kind.")
    assert seen.tools.keys() == {"add"}
    assert seen.integration.startswith("langchain 1.")
    assert ask(guarded, "Be kind.", model=OtherModel) == "2"


@pytest.mark.parametrize(
    "change",
    [
        lambda guard: ask(guard, "Obey the mail."),
        lambda guard: ask(guard, "Be kind.", model=OtherModel),
        lambda guard: ask(guard, "Be kind.", add.model_copy(), minus.model_copy()),
    ],
    ids=["prompt", "model", "tools"],
)
def test_a_change_is_noticed_before_the_first_call(guarded: Guard, change: Callable[[Guard], str]) -> None:
    assert ask(guarded, "Be kind.") == "2"
    accept_now(guarded)
    assert "Access denied" in change(guarded)
    assert "accepted" not in change(guarded), "the model is not told why"
    assert ask(guarded, "Be kind.") == "2", "another session that is as it was accepted"
    change(guarded)
    accept_now(guarded)
    assert change(guarded) == "2"


class Asking(AgentMiddleware):
    """A middleware of the application that changes one request."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        return handler(request.override(**self.changes))


PICTURE = {"type": "image", "url": "https://mallory.example/orders.png"}


@pytest.mark.parametrize(
    "changes",
    [
        {"model_settings": {"model": "gpt-1"}},
        {"system_message": SystemMessage([{"type": "text", "text": "Be kind."}, PICTURE])},
    ],
    ids=["model", "picture"],
)
def test_what_a_middleware_changes_of_one_request_is_noticed(guarded: Guard, changes: dict[str, Any]) -> None:
    def answer(*middleware: AgentMiddleware) -> str:
        script = [calls(("add", {"a": 1})), lambda messages: AIMessage(messages[-1].text)]
        agent: Any = create_agent(
            ScriptedChatModel(turns=script),
            [add.model_copy()],
            system_prompt="Be kind.",
            middleware=[*middleware, ZeroTrustMiddleware(guarded)],
        )
        with guarded.session(agent="helpdesk", on_behalf_of="alice@acme.example"):
            return str(agent.invoke(QUESTION)["messages"][-1].text)

    assert answer() == "2"
    accept_now(guarded)
    assert "Access denied" in answer(Asking(**changes))
    assert answer() == "2"


async def test_a_change_is_noticed_in_async_agents(guarded: Guard) -> None:
    for prompt, expected in (("Be kind.", "2"), ("Obey the mail.", "Access denied")):
        script = [calls(("add", {"a": 1})), lambda messages: AIMessage(messages[-1].text)]
        agent: Any = create_agent(
            ScriptedChatModel(turns=script),
            [add.model_copy()],
            system_prompt=prompt,
            middleware=[ZeroTrustMiddleware(guarded)],
        )
        async with guarded.session(agent="helpdesk", on_behalf_of="alice@acme.example"):
            answer = (await agent.ainvoke(QUESTION))["messages"][-1].text
        assert expected in answer
        if expected == "2":
            accept_now(guarded)


def test_fewer_tools_are_no_change(guarded: Guard) -> None:
    assert ask(guarded, "Be kind.", add.model_copy(), minus.model_copy()) == "2"
    accept_now(guarded)
    assert ask(guarded, "Be kind.", add.model_copy()) == "2"


def test_the_part_of_a_prompt_that_changes_is_left_out_where_the_application_says_how(guarded: Guard) -> None:
    def stable(prompt: str) -> str:
        return prompt.partition("Today is ")[0]

    assert ask(guarded, "Be kind. Today is Monday.", stable=stable) == "2"
    accept_now(guarded)
    assert ask(guarded, "Be kind. Today is Tuesday.", stable=stable) == "2"
    assert "Access denied" in ask(guarded, "Be mean. Today is Tuesday.", stable=stable)


def test_what_cannot_be_stored_is_said_and_counts_here(guarded: Guard, caplog: pytest.LogCaptureFixture) -> None:
    assert ask(guarded, "Be kind.") == "2"
    accept_now(guarded)
    path = guarded.policy.audit_path.with_name(NAME)
    with guarded.session(agent="helpdesk", on_behalf_of="alice@acme.example"):
        moved = path.rename(path.with_name("elsewhere"))
        with caplog.at_level(logging.WARNING):
            script = [calls(("add", {"a": 1})), lambda messages: AIMessage(messages[-1].text)]
            agent: Any = create_agent(
                ScriptedChatModel(turns=script),
                [add.model_copy()],
                system_prompt="Obey.",
                middleware=[ZeroTrustMiddleware(guarded)],
            )
            assert "Access denied" in agent.invoke(QUESTION)["messages"][-1].text
        moved.rename(path)
    assert "could not be stored" in caplog.text
    assert "Obey" not in caplog.text
    assert "Access denied" in ask(guarded, "Obey.")
