"""Notices by mail, to a real SMTP server on loopback."""

from __future__ import annotations

import contextlib
import importlib
import socket
import ssl
import time
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from approval_requests import answer
from hostile_requests import ACTIVE, ANY, both, hostile, plain
from hypothesis import given, settings
from notices_received import Ran, ask, certificate, notify_once

from zt_agents.approvals import ApprovalState
from zt_agents.approvals.notices import Notice, NoticeEvent, as_mail
from zt_agents.cli import notifying
from zt_agents.cli.destinations import Mailbox, MailServer
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore

smtp_server = pytest.importorskip("aiosmtpd.smtp", reason="aiosmtpd is not installed")
FROM, DANA, EVE = "zt@acme.example", "dana@acme.example", "eve@acme.example"


@pytest.fixture
def store(tmp_path: Path) -> SqliteApprovalStore:
    return SqliteApprovalStore(tmp_path / "approvals.db")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifying, "_FIRST_WAIT", 0.005)


class Post:
    """Keeps the mail that it takes, and answers as it is told."""

    def __init__(self) -> None:
        self.mail: list[tuple[str, EmailMessage, bytes]] = []
        self.answers: list[str] = []
        self.rejected: dict[str, str] = {}
        self.encrypted: list[bool] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address in self.rejected:
            return self.rejected[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        said = self.answers.pop(0) if self.answers else "250 taken"
        content = envelope.content or b""
        assert isinstance(content, bytes)
        if said.startswith("250"):
            message = message_from_bytes(content, policy=default)
            assert isinstance(message, EmailMessage)
            (to,) = envelope.rcpt_tos
            self.mail.append((to, message, content))
            self.encrypted.append(session.ssl is not None)
        return said


@contextlib.contextmanager
def office(**options: Any) -> Iterator[tuple[Post, str]]:
    post = Post()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = importlib.import_module("aiosmtpd.controller").Controller(
        post, hostname="127.0.0.1", port=port, ready_timeout=10, **options
    )
    controller.start()
    try:
        yield post, f"127.0.0.1:{port}"
    finally:
        controller.stop()


def run(store: SqliteApprovalStore, smtp: str, *arguments: object, to: tuple[str, ...] = (DANA,), code: int = 0) -> Ran:
    addresses = [part for address in to for part in ("--mail-to", address)]
    return notify_once("--store", store.path, "--smtp", smtp, "--mail-from", FROM, *addresses, *arguments, code=code)


def test_a_mail_is_one_message_and_the_end_is_in_its_thread(store) -> None:
    with office() as (post, smtp):
        request_id = ask(store)
        done = run(store, smtp, "--console", "https://zt.example", to=(DANA, EVE))
        assert f"told {DANA}" in done.stdout
        stored = store.get(request_id)
        store.file(request_id, "dana", answer(stored.request, DANA, False), now=time.time())
        store.settle(request_id, ApprovalState.DENIED, now=time.time())
        run(store, smtp, to=(DANA, EVE))
        run(store, smtp, to=(DANA, EVE))
    assert sorted(to for to, _, _ in post.mail) == [DANA, DANA, EVE, EVE]
    asked, ended = [message for to, message, _ in post.mail if to == DANA]
    assert asked["Subject"] == "Approval needed: pay (high tier)"
    assert (asked["From"], asked["To"]) == (FROM, DANA)
    assert asked["Auto-Submitted"] == "auto-generated"
    text = asked.get_content()
    assert f"Open in the console: https://zt.example/requests/{request_id}" in text.splitlines()
    assert "for: alice@acme.example" in text.splitlines()
    assert "bob" not in text
    assert ended["Subject"] == "Denied: pay (high tier)"
    assert ended["In-Reply-To"] == ended["References"] == asked["Message-ID"]
    assert f"answers: {DANA} said no" in ended.get_content().splitlines()


def test_a_failure_that_may_pass_is_tried_again_with_the_same_id(store) -> None:
    ask(store)
    with office() as (post, smtp):
        post.answers = ["451 try later", "452 full"]
        done = run(store, smtp)
        assert done.stderr.count("tried again") == 2
        assert "try later" not in done.stderr
        assert len(post.mail) == 1


def test_a_mailbox_that_refuses_holds_up_no_other(store) -> None:
    ask(store)
    with office() as (post, smtp):
        post.rejected = {DANA: "550 no such user \x1b[2J"}
        done = run(store, smtp, to=(DANA, EVE), code=1)
        assert f"{DANA} the server answered 550, for good." in done.stderr
        assert [to for to, _, _ in post.mail] == [EVE]
        assert run(store, smtp, to=(DANA, EVE)).stderr == ""


def test_a_server_that_is_not_there_is_tried_again_by_the_next_run(store) -> None:
    ask(store)
    with office() as (_, smtp):
        pass
    done = run(store, smtp, code=1)
    assert "127.0.0.1 cannot be reached" in done.stderr


@pytest.mark.parametrize("way", ["--starttls", "--tls"])
def test_tls_is_verified_and_a_password_never_sent_without(store, tmp_path, way) -> None:
    trusted, context = certificate(tmp_path)
    given: list[Any] = []

    def check(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        given.append((data, session.ssl is not None or way == "--tls"))
        return smtp_server.AuthResult(success=data == smtp_server.LoginPassword(b"kim", b"passw0rd"), handled=False)

    options: dict[str, Any] = {"tls_context": context, "require_starttls": True}
    if way == "--tls":
        options = {"ssl_context": context, "auth_require_tls": False}  # aiosmtpd does not know of the TLS around it
    password = tmp_path / "password"
    password.write_text("passw0rd\n")
    password.chmod(0o600)
    login = ("--smtp-user", "kim", "--smtp-password-file", password)
    with office(authenticator=check, **options) as (post, smtp):
        ask(store)
        assert "CERTIFICATE_VERIFY_FAILED" in run(store, smtp, way, *login, code=1).stderr
        other = smtp.replace("127.0.0.1", "localhost")
        assert "Hostname mismatch" in run(store, other, way, "--ca", trusted, *login, code=1).stderr
        assert given == []
        store.path.with_name("approvals.db.notices").unlink()
        done = run(store, smtp, way, "--ca", trusted, *login)
        assert given == [(smtp_server.LoginPassword(b"kim", b"passw0rd"), True)]
        assert len(post.mail) == 1
        assert "passw0rd" not in done.output
        password.write_text("wrong")
        ask(store, "second")
        assert "answered 535, for good" in run(store, smtp, way, "--ca", trusted, *login, code=1).stderr
        assert len(post.mail) == 1


def test_a_server_without_starttls_gets_nothing(store) -> None:
    ask(store)
    with office() as (post, smtp):
        done = run(store, smtp, "--starttls", code=1)
        assert "STARTTLS extension not supported" in done.stderr
        assert post.mail == []


def test_a_password_does_not_leave_the_machine_unencrypted(store, tmp_path) -> None:
    ask(store)
    password = tmp_path / "password"
    password.write_text("passw0rd")
    password.chmod(0o600)
    login = ("--smtp-user", "kim", "--smtp-password-file", password, "--allow-unencrypted")
    done = run(store, "mx.example:25", *login, code=2)
    assert "unencrypted" in done.stderr
    assert "passw0rd" not in done.output


HEADERS = {
    *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
    *("Content-Type", "Content-Transfer-Encoding", "MIME-Version"),
}


def is_as_told(message: EmailMessage, content: bytes, told: Notice) -> None:
    subject, text = as_mail(told)
    assert (message["From"], message["To"], message["Subject"]) == (FROM, DANA, subject)
    reply = {"In-Reply-To", "References"} if told.event is NoticeEvent.SETTLED else set()
    assert sorted(message.keys()) == sorted(HEADERS | reply)
    assert message.get_content().replace("\r\n", "\n") == text
    assert plain(message["Subject"])
    assert not message.defects
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= 998


def test_whatever_is_in_it_arrives_as_one_message_with_its_own_headers() -> None:
    texts = [*ACTIVE, "".join(ACTIVE), "ü" * 300, "x" * 3000, "\n.\n.\r\nQUIT\r\n", "From x", ". ", "=?" * 90]
    with office() as (post, smtp):
        host, _, port = smtp.partition(":")
        box = Mailbox(MailServer(host, int(port)), sender=FROM, to=DANA)
        made = [each for text in texts for each in both(hostile(text))]
        for told in made:
            assert box.deliver(told, now=time.time()).delivered
    assert len(post.mail) == len(made)
    for told, (to, message, content) in zip(made, post.mail, strict=True):
        assert to == DANA
        is_as_told(message, content, told)


@settings(max_examples=60, deadline=None)
@given(ANY)
def test_whatever_is_in_it_it_parses_as_one_message_with_its_own_headers(text: str) -> None:
    box = Mailbox(MailServer("127.0.0.1", 25), sender=FROM, to=DANA)
    for told in both(hostile(text)):
        content = box.message(told, now=time.time()).as_bytes()
        message = message_from_bytes(content, policy=default)
        assert isinstance(message, EmailMessage)
        is_as_told(message, content, told)


def test_the_context_of_tls_checks_names() -> None:
    from zt_agents.cli.connections import tls_context

    context = tls_context(None)
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
