"""Asks an identity provider over HTTP.

Rules:

1. TLS checks the server's certificate and name; http is for this machine alone.
2. Redirects are not followed, and no proxy is taken from the environment.
3. An answer has a size, and a time for all of it: one byte in a second is no answer.
4. What goes wrong is said with the provider's error code, never with its text, nor with what was sent.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from zt_agents._internal.clock import alarm
from zt_agents._internal.hidden import Hidden
from zt_agents._internal.optional import require
from zt_agents.errors import IdentityProviderError

if TYPE_CHECKING:
    import httpx

_SILENT = 5.0
"""Seconds that a provider may be silent."""
_LONGEST = 10.0
"""Seconds that an answer may take in all."""
_LARGEST = 512 * 1024
"""Bytes of an answer."""
_CODE = re.compile(r"[a-z_]{1,64}")
_NO_AUTHORITY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody."""


_OPENED = frozenset({"connection.connect_tcp.complete", "connection.start_tls.complete"})


@contextmanager
def _no_longer_than(seconds: float, opened: list[Any]) -> Iterator[None]:
    """End the connections in *opened* after so long: a time-out is about silence, and one byte in time breaks it."""

    def end() -> None:
        for stream in opened:
            with suppress(OSError):
                socket.socket.shutdown(stream.get_extra_info("socket"), socket.SHUT_RDWR)

    with alarm(seconds, end):
        yield


class ProviderAnswer(NamedTuple):
    """What a provider said."""

    status: int
    body: Hidden[dict[str, Any]]
    """Which may hold tokens."""

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300

    @property
    def error(self) -> str:
        """The OAuth error code (RFC 6749, section 5.2), or the status."""
        code = self.body.reveal().get("error")
        return code if isinstance(code, str) and _CODE.fullmatch(code) else f"http_{self.status}"


class ProviderHttp:
    """Short questions to one provider. Safe to share between threads."""

    def __init__(self) -> None:
        self._clients: dict[bool, httpx.Client] = {}
        """With TLS, and without: that is not made where nothing leaves the machine."""
        self._lock = threading.Lock()

    def get(self, address: str, *, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the JSON object at *address*.

        Raises:
            IdentityProviderError: it cannot be had.
        """
        answer = self.ask("GET", address, headers=headers)
        if not answer.good:
            raise IdentityProviderError("The identity provider did not answer as one.", error=answer.error)
        return answer.body.reveal()

    def ask(
        self,
        method: str,
        address: str,
        *,
        form: Mapping[str, str] | None = None,
        json: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ProviderAnswer:
        """Return the answer to one request.

        Raises:
            IdentityProviderError: nobody answers, or what comes is no JSON object, too large or too slow.
        """
        httpx = require("httpx", extra="identity", purpose="Asking an identity provider")
        opened: list[Any] = []

        def note(event: str, info: Mapping[str, Any]) -> None:
            if event in _OPENED:
                opened.append(info["return_value"])

        received = bytearray()
        kinds = {"Accept": "application/json", "Accept-Encoding": "identity"}
        sent = {**kinds, "User-Agent": "zt-agents", **(headers or {})}
        try:
            client = self._open(httpx, secure=address.startswith("https:"))
            asked = client.stream(method, address, data=form, json=json, headers=sent, extensions={"trace": note})
            with _no_longer_than(_LONGEST, opened), asked as response:
                for chunk in response.iter_raw():  # as it comes: what unpacks itself has no size
                    received += chunk
                    if len(received) > _LARGEST:
                        raise IdentityProviderError("The identity provider's answer is too large.", error="answer")
                status = response.status_code
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise IdentityProviderError("The identity provider cannot be reached.", error="unreachable") from error
        if not received:  # as RFC 7009 has it, section 2.2; who needs a word in it will miss it
            return ProviderAnswer(status, Hidden({}))
        try:
            body = orjson.loads(received)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            if 200 <= status < 300:
                raise IdentityProviderError("The identity provider's answer is no JSON object.", error="answer")
            body = {}
        return ProviderAnswer(status, Hidden(body))

    def _open(self, httpx: Any, *, secure: bool) -> httpx.Client:
        with self._lock:
            if secure not in self._clients:
                # The system's certificates, and nothing else of the environment.
                verify = ssl.create_default_context() if secure else _NO_AUTHORITY
                self._clients[secure] = httpx.Client(
                    verify=verify,
                    trust_env=False,
                    follow_redirects=False,
                    timeout=_SILENT,
                    limits=httpx.Limits(max_keepalive_connections=0),  # so that each question knows its connection
                )
            return self._clients[secure]

    def close(self) -> None:
        """End the connections. The next question opens new ones."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()
