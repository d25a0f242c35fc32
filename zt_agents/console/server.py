"""Serving a console: uvicorn, told to say and to believe as little as it can."""

from __future__ import annotations

import uvicorn

from zt_agents.console.app import application
from zt_agents.console.parts import Console

_MOST_CONNECTIONS = 500
_IDLE = 10
"""Seconds for which a connection without a request stays open."""


def server(console: Console, *, host: str, port: int, proxy: str = "") -> uvicorn.Server:
    """Return a server of *console*, ready to run; *proxy* is the address whose word about clients is believed."""
    config = uvicorn.Config(
        application(console),
        host=host,
        port=port,
        proxy_headers=bool(proxy),
        forwarded_allow_ips=proxy or None,
        server_header=False,
        access_log=False,
        log_level="warning",
        ws="none",
        lifespan="off",
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=_IDLE,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)
