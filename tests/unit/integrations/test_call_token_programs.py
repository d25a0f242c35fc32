"""CallTokens that leave the process in another way than HTTP: with a program's environment, and through MCP."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from call_bodies import ISSUER, MAIL, POLICY, TICKETS, Bodies
from world import World

from zt_agents.errors import CredentialError
from zt_agents.integrations.subprocess import VARIABLE, call_environment, call_token_from_environment

_PROGRAM = """
import json, os, sys
from zt_agents.credentials import CallTokenError, StaticKeys, verify
from zt_agents.integrations.subprocess import call_token_from_environment
parts = json.loads(sys.argv[1])
try:
    claims = verify(call_token_from_environment(), **parts)
    print(claims.user_id, claims.resource, "ZT_AGENTS_CALL_TOKEN" in os.environ)
except CallTokenError as error:
    print(error.reason)
"""


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bodies]:
    made = Bodies(tmp_path_factory.mktemp("bodies"))
    yield made
    made.world.guard.close()


def start(bodies: Bodies, environment: dict[str, str], number: int = 5) -> str:
    parts = {
        "keys": bodies.world.guard.call_keys,
        "issuer": ISSUER,
        "audience": TICKETS,
        "tool": "update",
        "arguments": {"number": number, "note": ""},
    }
    command = [sys.executable, "-c", _PROGRAM, json.dumps(parts)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_a_program_knows_for_which_call_it_was_started(bodies: Bodies) -> None:
    said = bodies.run(lambda: start(bodies, call_environment(audience=TICKETS)))
    assert said == "alice@acme.example ticket/5 False"


def test_a_program_that_is_told_something_else_refuses(bodies: Bodies) -> None:
    assert bodies.run(lambda: start(bodies, call_environment(audience=TICKETS), number=6)) == "other_arguments"


def test_outside_of_a_call_there_is_nothing_to_tell_a_program() -> None:
    with pytest.raises(CredentialError, match="no governed call"):
        call_environment(audience=TICKETS)


def test_a_token_is_taken_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "token")
    assert (call_token_from_environment(), call_token_from_environment()) == ("token", None)


# -- MCP ----------------------------------------------------------------------------------------------------------

mcp = pytest.importorskip("mcp", reason="needs the package mcp")
adapters = pytest.importorskip("langchain_mcp_adapters.tools", reason="needs the package langchain-mcp-adapters")

_SERVER = """
import json, sys
from pathlib import Path
from zt_agents.credentials import CallTokenVerifier, FileKeys
from zt_agents.integrations.mcp import CallTokenServer

verifier = CallTokenVerifier(keys=FileKeys(sys.argv[1]), issuer=sys.argv[2], audience=sys.argv[3])
server = CallTokenServer("tickets", verifier=verifier)

@server.tool()
def update(number: int, note: str = "") -> str:
    "Update a ticket."
    return f"updated {number}{note}"

server.run()
"""


def with_server(folder: Path, use: Callable[[Any, World], Awaitable[Any]]) -> Any:
    """Start the server, guard its tool, and call *use* with both."""
    from mcp import StdioServerParameters
    from mcp.client.stdio import stdio_client

    from zt_agents.integrations.mcp import CallTokenSession

    keys = folder / "jwks.json"
    server = StdioServerParameters(command=sys.executable, args=["-c", _SERVER, str(keys), ISSUER, MAIL])

    async def run() -> Any:
        async with (
            stdio_client(server) as (reader, writer),
            CallTokenSession(reader, writer, audience=MAIL) as client,
        ):
            await client.initialize()
            (tool,) = await adapters.load_mcp_tools(client)
            policy = POLICY.replace("  plain: {tier: low, effects: [read]}\n", "").replace(", plain]", "]")
            world = World(folder, policy, [tool], None)
            keys.write_text(json.dumps(world.guard.call_keys))
            try:
                return await use(tool, world)
            finally:
                world.guard.close()

    return asyncio.run(run())


def test_an_mcp_server_answers_governed_calls_and_nothing_else(tmp_path: Path) -> None:
    async def use(tool: Any, world: World) -> list[str]:
        answers = [str(await tool.ainvoke({"number": 5}))]
        world.guard.protect(tool)
        async with world.session():
            answers.append(str(await tool.ainvoke({"number": 5})))
            answers.append(str(await tool.ainvoke({"number": 6, "note": "!"})))
        return answers

    bare, first, second = with_server(tmp_path, use)
    assert "no token of a call" in bare
    assert "updated 5" in first
    assert "updated 6!" in second
