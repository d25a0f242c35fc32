"""Serving a console: uvicorn, told to say, to believe and to wait as little as it can."""

from __future__ import annotations

import uvicorn

from zt_agents.console import prompt
from zt_agents.console.app import application
from zt_agents.console.origins import is_address
from zt_agents.console.parts import Console
from zt_agents.errors import ConfigurationError


def server(console: Console, *, proxy: str = "") -> uvicorn.Server:
    """Return a server of *console*, to be run on a socket.

    Args:
        console: what is served.
        proxy: the address whose word about clients is believed; an empty text is none.

    Raises:
        ConfigurationError: *proxy* is more than one address, or none.
    """
    if proxy and not is_address(proxy):
        raise ConfigurationError("--proxy is the IP address of one proxy: any other client could say who it is.")
    config = uvicorn.Config(
        application(console),
        http=prompt.Prompt,  # and no other that happens to be installed, which may take headers without end
        proxy_headers=bool(proxy),
        forwarded_allow_ips=proxy or None,
        server_header=False,
        access_log=False,
        log_level="warning",
        ws="none",
        lifespan="off",
        limit_concurrency=prompt.MOST_CONNECTIONS,
        timeout_keep_alive=prompt.IDLE,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)
