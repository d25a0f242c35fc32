"""Serving a console."""

from __future__ import annotations

import uvicorn

from zt_agents.console.app import application
from zt_agents.console.origins import is_address
from zt_agents.console.parts import Console
from zt_agents.console.prompt import prompt_server
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
    return prompt_server(application(console), proxy=proxy)
