"""Serving a console: uvicorn, told to say and to believe as little as it can."""

from __future__ import annotations

import socket

import uvicorn

from zt_agents.console.app import application
from zt_agents.console.parts import Console
from zt_agents.errors import ConfigurationError

_MOST_CONNECTIONS = 500
_IDLE = 10
"""Seconds for which a connection without a request stays open."""


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigurationError: it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_MOST_CONNECTIONS)
    except OSError as error:
        raise ConfigurationError(f"The console cannot listen on {host}, port {port}: {error.strerror}.") from error


def server(console: Console, *, proxy: str = "") -> uvicorn.Server:
    """Return a server of *console*, to be run on a socket.

    Args:
        console: what is served.
        proxy: the address whose word about clients is believed; an empty text is none.
    """
    config = uvicorn.Config(
        application(console),
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
