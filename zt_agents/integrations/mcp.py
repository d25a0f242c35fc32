"""The credential of a call between an MCP client and an MCP server: in ``_meta`` of ``tools/call``.

The client, which is where the guard is::

    async with CallTokenSession(read, write, audience="urn:acme:files") as client:
        tools = guard.protect(await load_mcp_tools(client))

The server, which runs no tool for anything else (resources and prompts are not tools, and not its part)::

    server = CallTokenServer("files", verifier=verifier)

    @server.tool()
    def read(path: str) -> str: ...

Rules:

1. Each ``tools/call`` has a token of its own. One outside of a governed call is sent without, and refused there.
2. The server compares the tool's name and the arguments as they were sent, before it looks at them in any other way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zt_agents._internal.optional import require
from zt_agents.credentials.verification import CallTokenVerifier
from zt_agents.permit import current_call

if TYPE_CHECKING:
    from mcp import ClientSession
    from mcp.server.fastmcp import FastMCP
else:
    ClientSession = require("mcp", extra="mcp", purpose="CallTokenSession").ClientSession
    FastMCP = require("mcp.server.fastmcp", extra="mcp", purpose="CallTokenServer").FastMCP

META = "zt-agents/call-token"
"""Name in ``_meta``; the part before the slash is its prefix, as MCP asks for."""


class CallTokenSession(ClientSession):
    """A client session whose calls carry the CallToken of the governed call in whose body they are made."""

    def __init__(self, *args: Any, audience: str, **options: Any) -> None:
        """Name the server by its URI, *audience*, as the policy names it for its tools; the rest is as for MCP's."""
        super().__init__(*args, **options)
        self._audience = audience

    async def call_tool(self, *args: Any, meta: dict[str, Any] | None = None, **options: Any) -> Any:
        """Call a tool, with a token.

        Raises:
            CredentialError: the policy names no such service for the tool in whose body this is.
        """
        permit = current_call()
        if permit is not None:
            meta = {**(meta or {}), META: permit.token(audience=self._audience)}
        return await super().call_tool(*args, meta=meta, **options)


class CallTokenServer(FastMCP):
    """A server that runs a tool only with the token of a call of this tool with these arguments."""

    def __init__(self, *args: Any, verifier: CallTokenVerifier, prefix: str = "", **options: Any) -> None:
        """Say whose tokens are good.

        Args:
            *args: as for MCP's own server.
            verifier: whose tokens, for which service.
            prefix: what the client puts before the names of this server's tools.
            **options: as for MCP's own server.
        """
        super().__init__(*args, **options)
        self._verifier = verifier
        self._prefix = prefix

    async def call_tool(self, name: str, arguments: dict[str, Any]) -> Sequence[Any] | dict[str, Any]:
        """Run a tool, if the call's token is good.

        Raises:
            CallTokenError: it is not; the client is told why.
        """
        meta = self.get_context().request_context.meta
        token = (meta.model_extra or {}).get(META) if meta is not None else None
        await asyncio.to_thread(
            self._verifier.verify, token, tool=f"{self._prefix}{name}", arguments=arguments
        )
        return await super().call_tool(name, arguments)
