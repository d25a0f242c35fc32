"""Connections to other systems: addresses, TLS, and posts over HTTP.

Rules:

1. TLS checks the server's certificate and name, and is 1.2 at least.
2. Redirects are not followed, and no proxy is taken from the environment.
3. An address may be a credential itself: what goes wrong is said with the host alone.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from zt_agents._internal.clock import alarm
from zt_agents._internal.hidden import Hidden
from zt_agents.errors import ConfigurationError

TIMEOUT = 10.0
"""Seconds that a server may be silent."""
LONGEST = 60.0
"""Seconds that a request and its answer may take, however slowly the bytes come."""
_MAX_ANSWER = 65_536
_RETRIABLE = {408, 425, 429}


class Reply(NamedTuple):
    """What an HTTP server said."""

    status: int
    retry_after: str = ""
    """The header of that name, as it came."""

    @property
    def taken(self) -> bool:
        """Whether the server has what was posted."""
        return 200 <= self.status < 300

    @property
    def temporary(self) -> bool:
        """Whether the same may be taken later."""
        return self.status >= 500 or self.status in _RETRIABLE


class HttpPoster:
    """Posts to one URL, over one connection for as long as the server keeps it."""

    def __init__(self, parts: SplitResult, *, ca: Path | None = None) -> None:
        self.host = parts.hostname or ""
        self._port = parts.port
        self._target = Hidden((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        self._tls = tls_context(ca) if parts.scheme == "https" else None
        self._connection: http.client.HTTPConnection | None = None

    def post(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Post *body* once.

        Raises:
            OSError: there was no answer. Whether the server has it is not known.
        """
        try:
            connection = self._connected()
            with no_longer_than(LONGEST, connection.sock):
                connection.request("POST", self._target.reveal(), body, {"User-Agent": "zt-agents", **headers})
                answer = connection.getresponse()
                answer.read(_MAX_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            words = str(error) if isinstance(error, OSError) else ""  # HTTPException repeats the server's
            raise OSError(words or type(error).__name__) from error
        if answer.will_close or not answer.isclosed():
            self.close()
        return Reply(answer.status, answer.getheader("Retry-After") or "")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            if self._tls is not None:
                self._connection = http.client.HTTPSConnection(
                    self.host, self._port, timeout=TIMEOUT, context=self._tls
                )
            else:
                self._connection = http.client.HTTPConnection(self.host, self._port, timeout=TIMEOUT)
        if self._connection.sock is None:
            self._connection.connect()
        return self._connection


@contextlib.contextmanager
def no_longer_than(seconds: float, connection: socket.socket) -> Iterator[None]:
    """End *connection* after so long: one byte in ten seconds is no silence, and could go on for ever.

    Raises:
        OSError: it was ended.
    """
    ended = threading.Event()

    def end() -> None:
        ended.set()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # past SSLSocket's own, which is for its one reader

    with alarm(seconds, end):
        yield
    if ended.is_set():
        raise OSError(f"it took longer than {seconds:g} s")


def split_address(address: str, schemes: Collection[str], option: str) -> SplitResult:
    """Return the parts of *address*.

    Raises:
        ConfigurationError: it has another scheme, or no host. The address is not shown.
    """
    try:
        parts = urlsplit(address)
        usable = bool((parts.hostname or "").encode("idna")) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.scheme not in schemes:
        raise ConfigurationError(f"{option} cannot use this address.", hint="Write scheme://host:port.")
    return parts


class _PromptSocket(ssl.SSLSocket):
    """TLS whose handshake ends: otherwise it goes on for as long as some byte comes in time."""

    def do_handshake(self, block: bool = False) -> None:
        with no_longer_than(LONGEST, self):
            super().do_handshake(block)


def tls_context(ca: Path | None) -> ssl.SSLContext:
    """Return what a client of TLS trusts: the certificates in *ca*, or the system's.

    Raises:
        ConfigurationError: they cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"The certificates in {ca} cannot be read.") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _PromptSocket
    return context


def stays_here(host: str) -> bool:
    """Return whether what is sent to *host* does not leave the machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def own_name() -> str:
    """Return this machine's name in printable ASCII, or an empty text."""
    return re.sub(r"[^\x21-\x7e]", "", socket.gethostname())[:255]
