"""Tools of an MCP server, as langchain-mcp-adapters makes them: nothing validates or copies their arguments but we."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from ways import call, last, message, node

from zt_agents import AccessDeniedError, ReasonCode

pytest.importorskip("mcp", reason="needs the package mcp")
adapters = pytest.importorskip("langchain_mcp_adapters.tools", reason="needs the package langchain-mcp-adapters")

SERVER = Path(__file__).with_name("mcp_server.py")


def with_server(calls: Path, use: Callable[[Any], Awaitable[Any]]) -> Any:
    """Start the server in a process of its own and call *use* with its one tool."""
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    async def run() -> Any:
        server = StdioServerParameters(command=sys.executable, args=[str(SERVER), str(calls)])
        async with stdio_client(server) as (reader, writer), ClientSession(reader, writer) as client:
            await client.initialize()
            (tool,) = await adapters.load_mcp_tools(client)
            return await use(tool)

    return asyncio.run(run())


def seen(calls: Path) -> list[str]:
    return calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []


def test_an_mcp_tool_is_governed_on_every_way(tmp_path: Path, make_world: Any) -> None:
    calls = tmp_path / "calls"

    async def use(tool: Any) -> None:
        bare = await tool.ainvoke(call("read", path="/bare"))
        world = make_world(tool, when='args.path.startsWith("/ok")')
        async with world.session():
            sealed = await tool.ainvoke(call("read", path="/ok", n=2))
            assert (sealed.content[0]["text"], sealed.status) == ("/ok:2", bare.status)
            state = await node(tool).ainvoke({"messages": [message(call("read", "call-2", path="/ok/2"))]})
            assert "/ok/2:3" in str(last(state))
            for way in (
                lambda: tool.ainvoke({"path": "/etc"}),
                lambda: tool.arun({"path": "/etc"}),
                lambda: tool.coroutine(path="/etc"),
                lambda: tool._arun(path="/etc", config={}),
                lambda: tool.abatch([{"path": "/etc"}]),
                lambda: node(tool).ainvoke({"messages": [message(call("read", path="/etc"))]}),
            ):
                with pytest.raises(AccessDeniedError):
                    await way()
        with pytest.raises(AccessDeniedError) as denial:
            await tool.ainvoke({"path": "/ok"})
        assert denial.value.decision.reasons[0].code is ReasonCode.NO_SESSION

    with_server(calls, use)
    assert seen(calls) == ["/bare:3", "/ok:2", "/ok/2:3"]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"path": "/ok", "n": "5"}, id="a text where a number is declared"),
        pytest.param({"path": "/ok", "zz": 1}, id="an argument nobody declared"),
        pytest.param({"path": "/ok", "callbacks": ["x"]}, id="an argument called like the framework's"),
        pytest.param({"path": "/ok", "runtime": {"forged": 1}}, id="the adapter's own injected argument"),
        pytest.param({}, id="a required one missing"),
    ],
)
def test_arguments_that_the_servers_schema_does_not_declare_are_refused(
    arguments: dict[str, Any], tmp_path: Path, make_world: Any
) -> None:
    calls = tmp_path / "calls"

    async def use(tool: Any) -> None:
        world = make_world(tool)
        async with world.session():
            with pytest.raises(AccessDeniedError) as denial:
                await tool.ainvoke(arguments)
        assert denial.value.decision.reasons[0].code is ReasonCode.ARGUMENTS

    with_server(calls, use)
    assert seen(calls) == []


def test_what_the_framework_overwrites_never_reaches_the_server(tmp_path: Path, make_world: Any) -> None:
    calls = tmp_path / "calls"

    async def use(tool: Any) -> None:
        world = make_world(tool)
        async with world.session():
            await tool.ainvoke({"path": "/ok", "run_manager": "x", "config": {"x": 1}})

    with_server(calls, use)
    assert seen(calls) == ["/ok:3"]
