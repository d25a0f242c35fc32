"""A session that a graph's config carries leaves no token in the graph's checkpoints, nor in its traces' metadata."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from world import World

from zt_agents import AccessDeniedError
from zt_agents.integrations.langchain.middleware import ZeroTrustMiddleware
from zt_agents.integrations.langchain.scripted import ScriptedChatModel, calls

MakeWorld = Callable[..., World]


def ping() -> BaseTool:
    """Return a tool."""

    @tool("ping")
    def answer() -> str:
        """Answer."""
        return "pong"

    return answer


class _Told(BaseCallbackHandler):
    """Keeps what tracers are told."""

    def __init__(self) -> None:
        self.said = ""

    def on_chain_start(self, *args: Any, **kwargs: Any) -> None:
        self.said += repr((args, kwargs))

    on_tool_start = on_chat_model_start = on_chain_start


def _run(world: World, tool: BaseTool, carried: Any) -> tuple[str, list[Any]]:
    saver, told = InMemorySaver(), _Told()
    agent = create_agent(
        ScriptedChatModel(turns=[calls(("ping", {})), calls(say="Done.")]),
        [tool],
        middleware=[ZeroTrustMiddleware(world.guard)],
        checkpointer=saver,
    )
    config: Any = {"configurable": {"thread_id": "t", "zt_session": carried}, "callbacks": [told]}
    streamed = list(agent.stream({"messages": [("user", "ping")]}, config, stream_mode=["updates", "debug"]))
    kept = [repr(each) for each in saver.list(config)] + [repr(saver.storage), repr(saver.writes), repr(saver.blobs)]
    assert "pong" in "".join(kept)
    return "".join(kept) + told.said + repr(streamed), agent.get_state(config).values["messages"]


def test_a_session_in_the_config_leaves_no_token(make_world: MakeWorld) -> None:
    world = make_world(sealed := ping())
    session = world.session()
    left, messages = _run(world, sealed, session)
    assert [message.content for message in messages if message.type == "tool"] == ["pong"]
    assert all(part not in left for part in session.token.split(".")[1:])
    session.end()
    with pytest.raises(AccessDeniedError):
        sealed.invoke({}, {"configurable": {"zt_session": session}})  # which proves nothing by itself


def test_the_search_would_find_a_token(make_world: MakeWorld) -> None:
    world = make_world(sealed := ping())
    with world.session() as session:
        left, _ = _run(world, sealed, session.token)
        assert session.token in left


def test_what_carries_a_session_is_one(make_world: MakeWorld, tmp_path: Path) -> None:
    world, other = make_world(sealed := ping()), make_world(ping())
    for carried in (7, b"token", {"session": "x"}, other.session()):
        with world.session(), pytest.raises(AccessDeniedError):
            sealed.invoke({}, {"configurable": {"zt_session": carried}})
