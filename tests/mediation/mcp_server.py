"""A real MCP server on stdin and stdout: writes each call of its tool into the file named by its argument."""

from __future__ import annotations

import sys
from pathlib import Path

from mcp.server.fastmcp import FastMCP

server = FastMCP("files")


@server.tool()
def read(path: str, n: int = 3) -> str:
    """Read a file."""
    with Path(sys.argv[1]).open("a", encoding="utf-8") as log:
        log.write(f"{path}:{n}\n")
    return f"{path}:{n}"


if __name__ == "__main__":
    server.run()
