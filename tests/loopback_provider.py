"""An OpenID provider on loopback that signs whatever a test wants signed, and serves whatever it wants served.

It proves nothing about real providers: those are in tests/integration. It says what a hostile or broken one would say.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

CLIENT = "zt-agents-login"
AUDIENCE = "https://agents.acme.example"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
Handler = Callable[[dict[str, str]], tuple[int, dict[str, Any]]]


def jwk(private: Any, kid: str, **more: Any) -> dict[str, Any]:
    """Return the public half of *private*."""
    match private:
        case rsa.RSAPrivateKey():
            text = jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key())
        case ec.EllipticCurvePrivateKey():
            text = jwt.algorithms.ECAlgorithm.to_jwk(private.public_key())
        case ed25519.Ed25519PrivateKey():
            text = jwt.algorithms.OKPAlgorithm.to_jwk(private.public_key())
        case _:
            raise TypeError(private)
    return {**json.loads(text), "kid": kid, "use": "sig", **more}


class LoopbackProvider:
    """What it publishes may be changed at any time."""

    def __init__(self, port: int) -> None:
        self.issuer = f"http://127.0.0.1:{port}/acme"
        self.keys: list[tuple[str, Any]] = [("one", RSA_KEY)]
        self.published: list[dict[str, Any]] | None = None
        """Instead of the keys."""
        self.document: dict[str, Any] = {
            "issuer": self.issuer,
            "authorization_response_iss_parameter_supported": True,
            **{
                name: f"{self.issuer}/{name}"
                for name in (
                    "jwks_uri",
                    "authorization_endpoint",
                    "token_endpoint",
                    "device_authorization_endpoint",
                    "registration_endpoint",
                    "revocation_endpoint",
                )
            },
        }
        self.raw: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        """By the last part of a path: answers in place of everything else."""
        self.forms: dict[str, Handler] = {}
        """By the last part of a path: answers a POST."""
        self.asked: list[str] = []
        self.posted: list[tuple[str, dict[str, str]]] = []

    def times_asked(self, name: str) -> int:
        return self.asked.count(name)

    def token(self, headers: dict[str, Any] | None = None, *, key: int = 0, alg: str = "RS256", **claims: Any) -> str:
        """Return a token; a claim that is None is left out."""
        now = int(time.time())
        kid, private = self.keys[key]
        said = {"iss": self.issuer, "sub": "f1f2", "iat": now, "exp": now + 300, **claims}
        said = {name: value for name, value in said.items() if value is not None}
        named = {"kid": kid, "typ": "JWT", **(headers or {})}
        return jwt.encode(said, private, algorithm=alg, headers=named)

    def id_token(self, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        return self.token(headers, **{"aud": CLIENT, "nonce": "n-1", "name": "Alice", **claims})

    def access_token(self, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        good = {"aud": AUDIENCE, "client_id": CLIENT, "jti": "j-1"}
        return self.token({"typ": "at+jwt", **(headers or {})}, **{**good, **claims})

    def answer(self, handler: BaseHTTPRequestHandler, form: dict[str, str] | None) -> None:
        name = urlsplit(handler.path).path.rpartition("/")[2]
        self.asked.append(name)
        if name in self.raw:
            self.raw[name](handler)
            return
        status, body = 404, {"error": "not_found"}
        if form is not None:
            self.posted.append((name, form))
            if name in self.forms:
                status, body = self.forms[name](form)
        elif name == "openid-configuration":
            status, body = 200, self.document
        elif name == "jwks_uri":
            keys = self.published if self.published is not None else [jwk(key, kid) for kid, key in self.keys]
            status, body = 200, {"keys": keys}
        send(handler, status, json.dumps(body).encode())


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def at_hash(access_token: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(access_token.encode()).digest()[:16]).rstrip(b"=").decode()


@contextmanager
def running() -> Iterator[LoopbackProvider]:
    """Serve one on a free port."""

    class _Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5

        def do_GET(self) -> None:
            provider.answer(self, None)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
            kind = self.headers["Content-Type"] or ""
            form = {"json": body} if kind.startswith("application/json") else dict(parse_qsl(body))
            if given := self.headers["Authorization"]:
                form["authorization"] = given
            provider.answer(self, form)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Requests)
    server.daemon_threads = True
    provider = LoopbackProvider(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
