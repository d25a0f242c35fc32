"""Serving an issuer: uvicorn, told to say, to believe and to wait as little as it can."""

from __future__ import annotations

from pathlib import Path

import uvicorn

from zt_agents.console import prompt
from zt_agents.issuer.app import Issuer


def server(issuer: Issuer, *, certificate: Path | None = None, key: Path | None = None) -> uvicorn.Server:
    """Return a server of *issuer*, to be run on a socket; with *certificate* and *key* (PEM), by TLS."""
    config = uvicorn.Config(
        issuer.application(),
        http=prompt.Prompt,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="warning",
        ws="none",
        lifespan="off",
        limit_concurrency=prompt.MOST_CONNECTIONS,
        timeout_keep_alive=prompt.IDLE,
        timeout_graceful_shutdown=2,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    return uvicorn.Server(config)
