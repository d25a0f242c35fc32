"""Receivers of notices for the tests: real servers on loopback, that behave badly when told to."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import hmac
import io
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from approval_requests import request
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typer.main import get_command

from zt_agents.approvals import ApprovalRequest, binding_hash
from zt_agents.cli import app, notifying
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore

COMMAND = get_command(app)
SECRET = bytes(range(32))
DROP, SLOW = 0, -1
"""Answers of a receiver: it closes the connection; it says nothing for a while, and then closes it."""


def ask(store: SqliteApprovalStore, call_id: str = "call-1", *, seconds: float = 300, **arguments: Any) -> str:
    """Put a request that waits for *seconds* into *store*; return its id."""
    return store.put(asked_now(request(call_id=call_id, arguments=arguments or None), seconds)).id


def asked_now(made: ApprovalRequest, seconds: float = 300) -> ApprovalRequest:
    now = time.time()
    call = made.call._replace(time=now)
    return replace(made, call=call, expires_at=now + seconds, binding_hash=binding_hash(call, nonce=made.nonce))


class Ran(NamedTuple):
    """What a run of ``zt-agents`` in this process came to."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


def notify_once(*arguments: object, code: int = 0) -> Ran:
    """Run ``zt-agents approvals notify --once``, which is to end with *code*."""
    out, errors, ended = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(errors), pytest.MonkeyPatch.context() as patch:
        patch.setattr(notifying, "_PATIENCE", 0.1 if code else 20.0)  # where it is not to succeed, sooner
        try:
            COMMAND.main(["approvals", "notify", "--once", *map(str, arguments)], prog_name="zt-agents")
        except SystemExit as end:
            ended = int(end.code or 0)
    ran = Ran(ended, out.getvalue(), errors.getvalue())
    assert ran.exit_code == code, ran.output
    return ran


def secret_file(folder: Path, *secrets: bytes) -> Path:
    path = folder / f"secret-{len(list(folder.iterdir()))}"
    path.write_text("".join(f"whsec_{base64.b64encode(secret).decode()}\n" for secret in secrets or (SECRET,)))
    path.chmod(0o600)
    return path


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted, and answers as it is told: each answer once, then 204."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[int] = []
        self.always: int | None = None
        self.headers: dict[str, str] = {}
        self.posts: list[tuple[dict[str, str], bytes, int, float]] = []
        self.silent = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?token=t0ken"

    def taken(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body, status, _ in list(self.posts) if 200 <= status < 300]

    def told(self) -> list[tuple[str, str]]:
        """Return type and request of each event that was taken."""
        return [(event["type"], event["data"]["request"]) for event in self.taken()]

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _, _, _ in list(self.posts)]

    def handle_error(self, *_: Any) -> None:
        """A client that was killed is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server: Any = self.server
        status = server.answers.pop(0) if server.answers else 204 if server.always is None else server.always
        headers = {name.lower(): value for name, value in self.headers.items()}
        server.posts.append(({**headers, "path": self.path}, body, status, time.time()))
        if status in (DROP, SLOW):
            if status == SLOW:
                server.silent.wait(30)
            self.close_connection = True
            return
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        for name, value in server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    server = Receiver()
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.silent.set()
        server.shutdown()
        thread.join()
        server.server_close()


def verified(headers: dict[str, str], body: bytes, secret: bytes = SECRET) -> bool:
    """Return whether a post is signed as Standard Webhooks says it. Written from the specification, not our code."""
    if abs(time.time() - int(headers["webhook-timestamp"])) > 300:
        return False
    signed = headers["webhook-id"].encode() + b"." + headers["webhook-timestamp"].encode() + b"." + body
    for each in headers["webhook-signature"].split(" "):
        version, _, value = each.partition(",")
        mac = hmac.new(secret, signed, hashlib.sha256).digest()
        if version == "v1" and hmac.compare_digest(base64.b64decode(value), mac):
            return True
    return False


def eventually(condition: Callable[[], object], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Make a certificate that lives for a day; return it as a file, and the context of a server that shows it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    alternative = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "server.pem", folder / "server.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context
