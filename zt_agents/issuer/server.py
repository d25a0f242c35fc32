"""Serving an issuer."""

from __future__ import annotations

from pathlib import Path

import uvicorn

from zt_agents.console.prompt import prompt_server
from zt_agents.issuer.app import Issuer


def server(issuer: Issuer, *, certificate: Path | None = None, key: Path | None = None) -> uvicorn.Server:
    """Return a server of *issuer*, to be run on a socket; with *certificate* and *key* (PEM), by TLS."""
    return prompt_server(issuer.application(), certificate=certificate, key=key)
