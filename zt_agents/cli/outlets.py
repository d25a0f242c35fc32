"""Where exported lines go: a file or standard output, an HTTP endpoint, a syslog server.

Rules:

1. ``deliver`` returns when the receiver has the batch, as far as its protocol lets anybody know, and raises otherwise.
   So a batch may arrive twice, and none is left out. Syslog has no acknowledgement (RFC 6587): what was under way when
   a connection broke may be lost. Where that matters, use HTTP or a file.
2. TLS checks the server's certificate and name. Plain connections must be asked for by name (``tcp://``, ``http://``),
   and no credential is sent over one that leaves the machine.
3. Redirects are not followed.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from zt_agents._internal.clock import rfc3339
from zt_agents.cli.connections import TIMEOUT, HttpPoster, own_name, split_address, stays_here, tls_context
from zt_agents.errors import ConfigurationError, StoreError

_LOG_AUDIT = 13
"""Syslog facility (RFC 5424, table 1)."""
_WARNING, _INFORMATIONAL = 4, 6
_SYSLOG_PORTS = {"tls": 6514, "tcp": 601}


class Line(NamedTuple):
    """One exported event."""

    body: bytes
    """One line, without its end. What goes over a network is ASCII."""
    time: float
    """Seconds since the epoch."""
    alarming: bool
    """Whether a receiver may want to wake somebody."""


class Outlet(Protocol):
    """A place that takes lines."""

    def deliver(self, lines: Sequence[Line]) -> None:
        """Hand over *lines*, none left out.

        Raises:
            OSError: they did not all arrive. Try the same batch again.
            StoreError: they will not arrive, however often it is tried.
        """

    def close(self) -> None:
        """Let go of the place."""


class FileOutlet:
    """Appends to a file, or writes to standard output. In a file, a batch is on disk when it is delivered."""

    def __init__(self, path: Path | None, *, resume: bool, heading: bytes = b"") -> None:
        """Open *path* for its owner only, or standard output where it is None.

        Args:
            resume: Whether to append to a file that is there already; otherwise such a file is refused.
            heading: The first line of a new file.

        Raises:
            ConfigurationError: the file exists, or cannot be written.
        """
        self._file: int | None = None
        if path is None:
            self._write(heading)
            return
        flags = os.O_CREAT | os.O_RDWR | os.O_APPEND | (0 if resume else os.O_EXCL)
        try:
            self._file = os.open(path, flags, 0o600)
        except FileExistsError as error:
            raise ConfigurationError(
                f"{path} exists.", hint="Remove it, or name where to go on with --after or --cursor."
            ) from error
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error
        size = os.fstat(self._file).st_size
        if size == 0:
            self._write(heading)
        elif os.pread(self._file, 1, size - 1) != b"\n":  # the last run was killed within a line
            self._write(b"\n")

    def deliver(self, lines: Sequence[Line]) -> None:
        self._write(b"".join(line.body + b"\n" for line in lines))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, content: bytes) -> None:
        if self._file is None:
            try:
                sys.stdout.buffer.write(content)
                sys.stdout.buffer.flush()
            except BrokenPipeError as error:
                raise StoreError("Standard output was closed.") from error
            return
        size = os.fstat(self._file).st_size
        try:
            while content:
                content = content[os.write(self._file, content) :]
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, size)
            raise


class HttpOutlet:
    """Posts each batch as a JSON array. Only an answer of 2xx means that it arrived."""

    def __init__(self, url: str, *, authorization: str = "", ca: Path | None = None) -> None:
        """Send to *url*, with *authorization* as the header of that name.

        Raises:
            ConfigurationError: the URL cannot be used, or the credential would leave the machine unencrypted.
        """
        parts = split_address(url, {"http", "https"}, "--post")
        if parts.username or parts.password:
            raise ConfigurationError(
                "The URL of --post must not hold a credential.", hint="Set ZT_AGENTS_EXPORT_AUTHORIZATION."
            )
        if authorization and parts.scheme == "http" and not stays_here(parts.hostname or ""):
            raise ConfigurationError("The credential would be sent unencrypted.", hint="Use https.")
        if re.search(r"[^\x20-\x7e]", authorization):
            raise ConfigurationError("ZT_AGENTS_EXPORT_AUTHORIZATION has characters that no header can hold.")
        self._poster = HttpPoster(parts, ca=ca)
        self._headers = {"Content-Type": "application/json"}
        if authorization:
            self._headers["Authorization"] = authorization

    def deliver(self, lines: Sequence[Line]) -> None:
        body = b"[" + b",".join(line.body for line in lines) + b"]"
        try:
            reply = self._poster.post(body, self._headers)
        except OSError as error:
            raise OSError(f"{self._poster.host} did not take the batch: {error}") from error
        if reply.taken:
            return
        said = f"{self._poster.host} answered {reply.status}"
        if reply.temporary:
            raise OSError(said)
        raise StoreError(f"{said} and will not take the batch.")

    def close(self) -> None:
        self._poster.close()


class SyslogOutlet:
    """Sends RFC 5424 messages over TLS (RFC 5425) or plain TCP, framed by their length in octets."""

    def __init__(self, address: str, *, ca: Path | None = None) -> None:
        """Send to *address*: ``host:port`` or ``tls://host:port``, or ``tcp://host:port`` for a plain connection.

        Raises:
            ConfigurationError: the address cannot be used.
        """
        parts = split_address(address if "://" in address else f"tls://{address}", _SYSLOG_PORTS.keys(), "--syslog")
        self._host, self._port = parts.hostname or "", parts.port or _SYSLOG_PORTS[parts.scheme]
        self._tls = tls_context(ca) if parts.scheme == "tls" else None
        self._name = own_name() or "-"
        self._socket: socket.socket | None = None

    def deliver(self, lines: Sequence[Line]) -> None:
        content = b"".join(self._frame(line) for line in lines)
        try:
            if self._socket is not None and _has_gone(self._socket):
                self.close()
            if self._socket is None:
                self._socket = self._connect()
            self._socket.sendall(content)
        except OSError as error:
            self.close()
            raise OSError(f"{self._host} did not take the batch: {error or type(error).__name__}") from error

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        plain = socket.create_connection((self._host, self._port), timeout=TIMEOUT)
        if self._tls is None:
            return plain
        try:
            return self._tls.wrap_socket(plain, server_hostname=self._host)
        except BaseException:  # however it ended, no connection is left open
            plain.close()
            raise

    def _frame(self, line: Line) -> bytes:
        priority = _LOG_AUDIT * 8 + (_WARNING if line.alarming else _INFORMATIONAL)
        head = f"<{priority}>1 {rfc3339(line.time)} {self._name} zt-agents {os.getpid()} call - "
        message = head.encode("ascii") + line.body
        return b"%d " % len(message) + message


def _has_gone(connection: socket.socket) -> bool:
    """Return whether the other side has closed the connection. A syslog server sends nothing but TLS's own messages."""
    connection.settimeout(0)
    try:
        return not connection.recv(4096)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    finally:
        connection.settimeout(TIMEOUT)
