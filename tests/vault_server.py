"""A server on loopback that answers as Vault's documented HTTP API does, for tests. It is neither Vault nor OpenBao.

It knows KV version 2, database credentials, AppRole and the revocation of leases; and it can be told to misbehave.
"""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from serving import serving

TOKEN = "hvs.CANARY-token-of-the-process"
ROLE, SECRET_ID = "role-1", "CANARY-secret-id"
PASSWORD = "CANARY-database-password"
STRIPE = "CANARY-stripe-key"

Answer = tuple[int, Any]


class VaultServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tokens = {TOKEN}
        self.logins = 0
        self.leases: dict[str, str] = {}
        """Lease id to the state it is in: live or revoked."""
        self.asked: list[str] = []
        self.callers: set[int] = set()
        """Ports that were asked from."""
        self.answers: dict[str, Callable[[_Handler], Answer | None]] = {}
        """By path: what to answer in place of the documented. None: the handler has answered by itself."""

        self.instead: Callable[[_Handler], Answer | None] | None = None
        """What to answer to everything."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def token(self) -> str:
        return TOKEN

    def live(self) -> list[str]:
        """Return the leases that are out."""
        return [lease for lease, state in self.leases.items() if state == "live"]

    def live_logins(self) -> int:
        """Return how many tokens of AppRole are good."""
        return len(self.tokens - {TOKEN})

    def forget_logins(self) -> None:
        self.tokens &= {TOKEN}

    @contextmanager
    def sealed(self) -> Iterator[None]:
        self.instead = lambda _: (503, {"errors": ["Vault is sealed"]})
        try:
            yield
        finally:
            self.instead = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Take connections and say nothing."""
        over = threading.Event()

        def wait(handler: _Handler) -> None:
            over.wait(30)

        self.instead = wait
        try:
            yield
        finally:
            self.instead = None
            over.set()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: VaultServer

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_PUT(self) -> None:
        self._answer(self._put)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, documented: Callable[[str], Answer]) -> None:
        path = self.path.removeprefix("/v1/")
        self.server.asked.append(path)
        self.server.callers.add(self.client_address[1])
        known = path.startswith("auth/") or self.headers.get("X-Vault-Token") in self.server.tokens
        answer: Answer | None
        if self.server.instead is not None:
            answer = self.server.instead(self)
        elif path in self.server.answers:
            answer = self.server.answers[path](self)
        elif not known or self.headers.get("X-Vault-Request") != "true":
            answer = 403, {"errors": ["permission denied"]}
        else:
            answer = documented(path)
        if answer is not None:
            self.reply(*answer)

    def reply(self, status: int, body: Any, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _get(self, path: str) -> Answer:
        if path == "secret/data/stripe":
            return 200, _said({"data": {"api_key": STRIPE, "note": "for charges"}, "metadata": {"version": 3}})
        if path == "database/creds/readonly":
            lease = f"database/creds/readonly/{len(self.server.leases)}"
            self.server.leases[lease] = "live"
            return 200, _said({"username": f"v-{len(self.server.leases)}", "password": PASSWORD}, lease)
        return 404, {"errors": []}

    def _put(self, path: str) -> Answer:
        body = self._body()
        lease = body.get("lease_id")
        if path != "sys/leases/revoke" or not lease:
            return 400, {"errors": ["lease_id must be specified"]}
        if lease in self.server.leases:  # Vault is content with one that it does not know
            self.server.leases[lease] = "revoked"
        return (204, None) if body.get("sync") is True else (202, None)  # done, or only begun: no default is relied on

    def _post(self, path: str) -> Answer:
        if path != "auth/approle/login" or self._body() != {"role_id": ROLE, "secret_id": SECRET_ID}:
            return 400, {"errors": ["invalid role or secret ID"]}
        self.server.logins += 1
        token = f"hvs.CANARY-login-{self.server.logins}"
        self.server.tokens.add(token)
        return 200, {**_said(None), "auth": {"client_token": token, "lease_duration": 3600, "renewable": True}}

    def _body(self) -> dict[str, Any]:
        said = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        assert isinstance(said, dict)
        return said

    def log_message(self, *_: Any) -> None:
        pass


def _said(data: Any, lease: str = "") -> dict[str, Any]:
    duration = 3600 if lease else 0
    return {"request_id": "1", "lease_id": lease, "renewable": bool(lease), "lease_duration": duration, "data": data}


def vault_server() -> AbstractContextManager[VaultServer]:
    return serving(VaultServer())


def slowly(handler: _Handler) -> None:
    """Answer a byte at a time, for longer than anybody waits."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    try:
        for _ in range(300):
            handler.wfile.write(b" ")
            time.sleep(0.02)
    except OSError:
        pass
