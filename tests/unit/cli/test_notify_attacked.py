"""Attacks on the notifier by servers that notices go to, and by whoever writes its store."""

from __future__ import annotations

import base64
import contextlib
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from notices_received import SECRET, ask, receiving

from zt_agents._internal.hidden import Hidden
from zt_agents.approvals.notices import NoticeEvent, notice
from zt_agents.cli import connections, destinations
from zt_agents.cli.connections import tls_context
from zt_agents.cli.destinations import Delivery, Mailbox, MailServer, Webhook, WebhookFormat
from zt_agents.cli.notifying import Notifier
from zt_agents.errors import StoreError
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore
from zt_agents.stores.sqlite_notices import SqliteNoticeStore

Serve = Callable[[socket.socket], None]


@pytest.fixture
def store(tmp_path: Path) -> SqliteApprovalStore:
    return SqliteApprovalStore(tmp_path / "approvals.db")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LONGEST", 0.5)
    monkeypatch.setattr(destinations, "LONGEST", 0.5)


@contextlib.contextmanager
def serving(serve: Serve) -> Iterator[int]:
    """Serve connections by *serve*, and give the port."""
    ended = threading.Event()

    def run(listener: socket.socket) -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                client, _ = listener.accept()
                with client:
                    serve(client)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        thread = threading.Thread(target=run, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            thread.join()


def drip(part: bytes) -> Serve:
    """A server that always has something to say and never comes to an end."""

    def serve(client: socket.socket) -> None:
        client.settimeout(0.05)
        until = time.monotonic() + 3
        while time.monotonic() < until:
            client.sendall(part)
            with contextlib.suppress(TimeoutError):
                if not client.recv(65_536):
                    return

    return serve


def delivered(destination: Any, store: SqliteApprovalStore) -> tuple[Delivery, float]:
    """Return what came of an attempt, and the seconds that it took."""
    stored = store.get(ask(store))
    assert stored is not None
    told = notice(stored, NoticeEvent.REQUESTED)
    assert told is not None
    began = time.monotonic()
    return destination.deliver(told, now=time.time()), time.monotonic() - began


def mailbox(port: int, **options: Any) -> Mailbox:
    return Mailbox(MailServer("127.0.0.1", port, **options), sender="zt@acme.example", to="dana@acme.example")


RECORD = b"\x16\x03\x03\x40\x00"
"""The beginning of a TLS record of 16 KB."""


def test_a_handshake_that_never_ends_is_given_up(store: SqliteApprovalStore) -> None:
    def serve(client: socket.socket) -> None:
        client.sendall(RECORD)
        drip(b"\x02")(client)

    with serving(serve) as port:
        webhook = Webhook(f"https://127.0.0.1:{port}/", WebhookFormat.JSON, secrets=[SECRET])
        came, took = delivered(webhook, store)
        assert not came.delivered
        assert not came.final
        assert took < 2
        came, took = delivered(mailbox(port, tls=tls_context(None)), store)
        assert not came.delivered
        assert took < 2


@pytest.mark.parametrize("said", [b"220-welcome\r\n", b"2"])
def test_a_greeting_that_never_ends_is_given_up(store: SqliteApprovalStore, said: bytes) -> None:
    with serving(drip(said)) as port:
        came, took = delivered(mailbox(port), store)
    assert not came.delivered
    assert not came.final
    assert took < 2


def lines(*answers: bytes) -> Serve:
    """A mail server that says *answers*, one for each line."""

    def serve(client: socket.socket) -> None:
        client.settimeout(2)
        for answer in answers:
            client.sendall(answer + b"\r\n")
            if not client.recv(65_536):
                return

    return serve


@pytest.mark.parametrize(
    "answers",
    [
        (b"220 hello", b"250-me\r\n250 AUTH CRAM-MD5", b"334 !", b"535 no"),  # no base64
        (b"220 hello", b"250-me\r\n250 AUTH CRAM-MD5", b"334 a", b"535 no"),
        (b"220 hello", b"250-me\r\n250 AUTH \xff\xfe", b"535 no"),
        (b"\xff\xfe\x00",),
        (b"220 hello", b"250-me\r\n250 SIZE x", b"250 ok", b"250 ok", b"999"),
    ],
)
def test_no_answer_of_a_mail_server_ends_the_notifier(store: SqliteApprovalStore, answers: tuple[bytes, ...]) -> None:
    with serving(lines(*answers)) as port:
        came, _ = delivered(mailbox(port, user="zt", password=Hidden("hunter2 hunter2")), store)
    assert not came.delivered
    assert not came.final or b"535 no" in answers
    assert "hunter2" not in came.why


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n",
        b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n\r\n",
        b"HTTP/1.1 503 x\r\nRetry-After: Mon, 1 Jan 99999999999 0:0:0 +99999999999\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 5_000 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 2_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 2_000,
        b"HTTP/1.1 307 x\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
        b"\x1b]0;owned\x07\r\n",
    ],
)
def test_no_answer_of_a_webhook_ends_the_notifier(store: SqliteApprovalStore, answer: bytes) -> None:
    def serve(client: socket.socket) -> None:
        client.recv(65_536)
        client.sendall(answer)

    with serving(serve) as port:
        webhook = Webhook(f"http://127.0.0.1:{port}/t0ken", WebhookFormat.JSON, secrets=[SECRET])
        came, took = delivered(webhook, store)
    assert took < 2
    assert came.wait <= 3600
    assert came.why.isprintable()
    assert "t0ken" not in came.why


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE notice SET not_before = 'soon'",
        "UPDATE notice SET attempts = 'many'",
        "UPDATE notice SET event = 'whatever'",
        "UPDATE notice SET expires = 'never'",
        "INSERT INTO destination VALUES ({name}, 'all', 0)",
        "INSERT INTO destination VALUES ({name}, 0, 'later')",
        "UPDATE notice SET request = CAST(x'ff' AS TEXT)",
    ],
)
def test_what_is_written_into_its_store_ends_it_with_a_sentence_at_most(
    store: SqliteApprovalStore, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(store)
    with receiving() as receiver:
        receiver.always = 503
        webhook = Webhook(receiver.url, WebhookFormat.JSON, secrets=[SECRET])
        notices = SqliteNoticeStore.beside(store.path)
        first = Notifier(store, notices, [webhook])
        first._look()
        with contextlib.closing(sqlite3.connect(notices.path)) as connection, connection:
            connection.execute(damage.format(name=f"'{webhook.name}'"))
        notifier = Notifier(store, notices, [webhook])
        threading.Timer(0.5, notifier.end).start()
        with contextlib.suppress(StoreError):
            notifier.run(every=0.1, once=False)
    assert "Traceback" not in capsys.readouterr().err


def test_who_knows_no_secret_signs_nothing(store: SqliteApprovalStore) -> None:
    """What is signed cannot be taken apart in two ways: an id has no dot, and a time only digits."""
    with receiving() as receiver:
        came, _ = delivered(Webhook(receiver.url, WebhookFormat.JSON, secrets=[SECRET]), store)
        ((headers, _, _, _),) = receiver.posts
    assert came.delivered
    assert "." not in headers["webhook-id"]
    assert headers["webhook-timestamp"].isdigit()
    assert base64.b64encode(SECRET).decode() not in str(headers)
