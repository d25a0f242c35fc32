"""HTTP for clients that say what they want, and take it: nobody holds a connection for nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from zt_agents.errors import ConfigurationError

MOST_CONNECTIONS = 500
IDLE = 10
"""Seconds for which a connection without a request, or with one that is not whole, stays open."""
UNREAD = 60
"""Seconds that a client has to read what it asked for."""


class Prompt(H11Protocol):
    """HTTP whose clients say what they want, and take it: uvicorn waits for a first request, and a reader, for ever."""

    _late: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._late = self.loop.call_later(IDLE, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._in_time()
        elif self._late is None:
            self._late = self.loop.call_later(IDLE, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD, self.transport.abort)

    def resume_writing(self) -> None:
        self._read()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.transport.abort()  # closing waits for whoever does not read

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        self._read()
        super().connection_lost(exc)

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def prompt_server(app: ASGIApp, *, proxy: str = "", tls: ssl.SSLContext | None = None) -> uvicorn.Server:
    """Return a server of *app*: uvicorn, told to say, to believe and to wait as little as it can.

    Args:
        app: what is served.
        proxy: the address whose word about clients is believed; an empty text is none.
        tls: serves by TLS; it may renew its certificate by itself.
    """
    config = uvicorn.Config(
        app,
        http=Prompt,  # and no other that happens to be installed, which may take headers without end
        proxy_headers=bool(proxy),
        forwarded_allow_ips=proxy or None,
        server_header=False,
        access_log=False,
        log_level="warning",
        ws="none",
        lifespan="off",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=2,
    )
    if tls is not None:
        config.load()
        config.ssl = tls
    return uvicorn.Server(config)


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigurationError: it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=MOST_CONNECTIONS)
    except OSError as error:
        raise ConfigurationError(f"The server cannot listen on {host}, port {port}: {error.strerror}.") from error
