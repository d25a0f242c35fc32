"""Notices by webhook, to real servers on loopback that fail in every way they know."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from approval_requests import answer
from notices_received import (
    DROP,
    SECRET,
    SLOW,
    Ran,
    Receiver,
    ask,
    certificate,
    eventually,
    notify_once,
    receiving,
    secret_file,
    verified,
)

from zt_agents.approvals import ApprovalState
from zt_agents.cli import notifying
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path: Path) -> SqliteApprovalStore:
    (tmp_path / "store").mkdir()
    return SqliteApprovalStore(tmp_path / "store" / "approvals.db")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return secret_file(tmp_path)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a little less, where the notifier runs in this process."""
    monkeypatch.setattr(notifying, "_FIRST_WAIT", 0.005)


def run(store: SqliteApprovalStore, *arguments: object, code: int = 0) -> Ran:
    return notify_once("--store", store.path, *arguments, code=code)


@contextlib.contextmanager
def following(store: SqliteApprovalStore, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    hurry = "notifying._FIRST_WAIT = 0.02; notifying._LONGEST_WAIT = 0.2"
    start = f"from zt_agents.cli import notifying, main; {hurry}; main()"
    command = [sys.executable, "-c", start, "approvals", "notify", "--every", "0.05", "--store", str(store.path)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [*command, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


# what is told


def test_a_request_is_told_once_signed_and_without_its_arguments(store, receiver, secret) -> None:
    request_id = ask(store)
    done = run(store, "--webhook", receiver.url, "--secret-file", secret, "--console", "https://zt.example/")
    assert f"{request_id[:8]} requested: told 127.0.0.1 (json)" in done.stdout
    run(store, "--webhook", receiver.url, "--secret-file", secret)
    ((headers, body, _, _),) = receiver.posts
    assert verified(headers, body)
    assert not verified(headers, body + b" ")
    assert not verified({**headers, "webhook-id": "other"}, body)
    assert not verified(headers, body, b"another secret")
    assert headers["content-type"] == "application/json"
    assert headers["path"] == "/hook?token=t0ken"
    event = json.loads(body)
    assert event["type"] == "approval.requested"
    data = event["data"]
    assert data.pop("expires").endswith("Z")
    assert data == {
        "request": request_id,
        "state": "pending",
        "tool": "pay",
        "tier": "high",
        "effects": "money",
        "system": "bank",
        "resource": "account/{args.to}",
        "agent": "helpdesk 1",
        "owner": "dana@acme.example",
        "user": "alice@acme.example",
        "why": "Money goes out.",
        "approvers": "anyone",
        "link": f"https://zt.example/requests/{request_id}",
    }
    assert "t0ken" not in done.output, "the address of a webhook is a credential"


def test_who_was_told_was_given_notice_and_who_could_not_be_was_not(store, receiver, secret) -> None:
    def noticed(request_id: str) -> float | None:
        stored = store.get(request_id)
        assert stored is not None
        return stored.noticed_at

    told = ask(store)
    run(store, "--webhook", receiver.url, "--secret-file", secret)
    assert noticed(told) is not None
    receiver.always = 500
    untold = ask(store, "call-2")
    run(store, "--webhook", receiver.url, "--secret-file", secret, code=1)
    assert noticed(untold) is None


def test_arguments_are_shown_where_it_was_asked_for(store, receiver, secret) -> None:
    ask(store)
    run(store, "--webhook", receiver.url, "--secret-file", secret, "--with-arguments")
    data = receiver.taken()[0]["data"]
    assert data["resource"] == "account/bob"
    assert {each["name"]: each["value"] for each in data["arguments"]} == {
        "to": '"bob"',
        "amount": "1.5",
        "note": '["ü", null]',
    }


def test_what_became_of_it_is_told_who_was_asked(store, receiver, secret) -> None:
    where = ("--webhook", receiver.url, "--secret-file", secret)
    states = {ask(store, state): state for state in ("approved", "denied", "cancelled", "failed")}
    run(store, *where)
    for request_id, state in states.items():
        stored = store.get(request_id)
        store.file(request_id, "dana", answer(stored.request, "dana@acme.example"), now=time.time())
        store.settle(request_id, ApprovalState(state), now=time.time(), grant="g" if state == "approved" else "")
    run(store, *where)
    run(store, *where)
    settled = [event["data"] for event in receiver.taken() if event["type"] == "approval.settled"]
    assert {data["request"]: data["state"] for data in settled} == states
    assert [data["answers"] for data in settled] == ["dana@acme.example said yes"] * 4
    assert len(receiver.posts) == len(set(receiver.ids())) == 8


def test_a_request_that_ran_out_is_told_as_expired(store, receiver, secret, monkeypatch) -> None:
    ahead = 0.0
    monkeypatch.setitem(notifying.Notifier.__init__.__kwdefaults__, "clock", lambda: time.time() + ahead)
    where = ("--webhook", receiver.url, "--secret-file", secret)
    ask(store, seconds=120)
    run(store, *where)
    ahead = 120 + notifying._GRACE
    run(store, *where)
    assert [event["data"]["state"] for event in receiver.taken()] == ["pending", "expired"]


def test_nobody_is_told_of_a_request_that_was_over_before_they_could_be_asked(store, receiver, secret) -> None:
    ask(store, "ran out", seconds=-1)
    denied, tried = ask(store, "denied"), ask(store, "tried")
    receiver.always = 503
    run(store, "--webhook", receiver.url, "--secret-file", secret, code=1)
    assert len(set(receiver.ids())) == 2
    store.settle(denied, ApprovalState.DENIED, now=time.time())
    receiver.always = None
    with receiving() as other:
        both = ("--webhook", receiver.url, "--webhook", other.url, "--secret-file", secret)
        run(store, *both)
        assert other.told() == [("approval.requested", tried)]
    # Whoever may have got the question is told its end.
    assert sorted(receiver.told()) == [("approval.requested", tried), ("approval.settled", denied)]


def test_a_request_that_was_erased_is_told_by_its_id_alone(store, receiver, secret) -> None:
    where = ("--webhook", receiver.url, "--secret-file", secret)
    request_id = ask(store)
    run(store, *where)
    store.settle(request_id, ApprovalState.DENIED, now=time.time() - 10)
    store.purge(before=time.time())
    run(store, *where)
    assert receiver.taken()[1]["data"] == {"request": request_id, "state": "denied"}


def test_two_secrets_sign_while_one_replaces_the_other(store, receiver, tmp_path) -> None:
    ask(store)
    new = bytes(range(64, 128))
    run(store, "--webhook", receiver.url, "--secret-file", secret_file(tmp_path, SECRET, new))
    ((headers, body, _, _),) = receiver.posts
    assert verified(headers, body, SECRET)
    assert verified(headers, body, new)


def test_each_webhook_has_its_own_format_and_secret(store, tmp_path, receiver) -> None:
    ask(store)
    address = tmp_path / "address"
    other_secret = secret_file(tmp_path, bytes(40))
    with receiving() as slack, receiving() as teams:
        address.write_text(slack.url + "\n")
        address.chmod(0o600)
        run(
            store,
            *("--webhook", receiver.url, "--webhook", f"@{address}", "--webhook", teams.url),
            *("--format", "json", "--format", "slack", "--format", "teams"),
            *("--secret-file", secret_file(tmp_path), "--secret-file", other_secret, "--secret-file", other_secret),
        )
        assert receiver.taken()[0]["type"] == "approval.requested"
        assert slack.taken()[0]["blocks"][0]["text"]["text"] == "Approval needed"
        assert teams.taken()[0]["attachments"][0]["content"]["type"] == "AdaptiveCard"
        assert len({*receiver.ids(), *slack.ids(), *teams.ids()}) == 3
        assert verified(*slack.posts[0][:2], bytes(40))
        assert not verified(*slack.posts[0][:2], SECRET)


# what goes wrong


def test_a_failure_that_may_pass_is_tried_again_with_the_same_id(store, receiver, secret) -> None:
    ask(store)
    receiver.answers = [500, 503, 429, 408, 425, DROP]  # each is waited for twice as long
    done = run(store, "--webhook", receiver.url, "--secret-file", secret)
    assert done.stderr.count("tried again in") == 6
    assert len(receiver.posts) == 7
    assert len(set(receiver.ids())) == 1
    assert all(verified(headers, body) for headers, body, _, _ in receiver.posts)
    assert len(receiver.taken()) == 1


def test_a_refusal_is_final_said_once_and_not_followed_elsewhere(store, receiver, secret) -> None:
    refusals = [400, 401, 403, 404, 410, 413, 302]
    for number in range(len(refusals) + 1):
        ask(store, f"call-{number}")
    receiver.answers = [*refusals]
    where = ("--webhook", receiver.url, "--secret-file", secret)
    done = run(store, *where, code=1)
    for refusal in refusals:
        assert done.stderr.count(f"127.0.0.1 (json) answered {refusal}, for good.") == 1
    assert len(receiver.taken()) == 1, "what was refused holds up nothing"
    assert run(store, *where).stderr == ""
    assert [headers["path"] for headers, _, _, _ in receiver.posts] == ["/hook?token=t0ken"] * 8


@pytest.mark.parametrize("in_words", [False, True])
def test_a_server_that_asks_to_be_left_alone_is_left_alone_also_by_the_next_run(
    store, receiver, secret, in_words
) -> None:
    ask(store, "first")
    where = ("--webhook", receiver.url, "--secret-file", secret)
    until = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 60))
    receiver.headers = {"Retry-After": until if in_words else "60"}
    receiver.answers = [429]
    assert "429" in run(store, *where, code=1).stderr
    ask(store, "second")
    started = time.monotonic()
    run(store, *where, code=1)
    assert time.monotonic() - started < 5
    assert len(receiver.posts) == 1


def test_one_notice_that_always_fails_holds_up_no_other(store, receiver, secret) -> None:
    ids = [ask(store, f"call-{n}") for n in range(4)]
    receiver.answers = [500]
    done = run(store, "--webhook", receiver.url, "--secret-file", secret)
    assert done.stderr.count("tried again") == 1
    assert sorted(request for _, request in receiver.told()) == sorted(ids)
    assert receiver.ids()[0] not in receiver.ids()[1:4], "the others came first"


def test_a_destination_that_is_dead_or_silent_holds_up_no_other(store, receiver, secret) -> None:
    ids = [ask(store, f"call-{n}") for n in range(3)]
    with receiving() as dead, receiving() as silent:
        dead_url, dead.always, silent.always = dead.url, DROP, SLOW
        where = [part for url in (dead_url, silent.url, receiver.url) for part in ("--webhook", url)]
        with following(store, *where, "--secret-file", secret) as process:
            eventually(lambda: len(receiver.taken()) == 3)
            assert sorted(request for _, request in receiver.told()) == sorted(ids)
            assert dead.posts
            dead.always = None
            eventually(lambda: len(dead.taken()) == 3)
            process.send_signal(signal.SIGTERM)
            silent.silent.set()
            process.communicate(timeout=20)
            assert process.returncode == 0


def test_https_is_verified(store, secret, tmp_path) -> None:
    ask(store)
    trusted, context = certificate(tmp_path)
    with receiving(context) as server:
        url = server.url.replace("http:", "https:")
        done = run(store, "--webhook", url, "--secret-file", secret, code=1)
        assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
        assert "t0ken" not in done.output
        named = url.replace("127.0.0.1", "localhost")
        done = run(store, "--webhook", named, "--secret-file", secret, "--ca", trusted, code=1)
        assert "Hostname mismatch" in done.stderr
        assert server.posts == []
        run(store, "--webhook", url, "--secret-file", secret, "--ca", trusted)
        assert len(server.taken()) == 1


def test_a_server_s_own_words_are_not_repeated(store, secret, tmp_path) -> None:
    ask(store)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def answer_nonsense() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(65_536)
                        connection.sendall(b"owned by \x1b[31m strangers\r\n\r\n")

        thread = threading.Thread(target=answer_nonsense, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        done = run(store, "--webhook", url, "--secret-file", secret, code=1)
        server.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert "BadStatusLine" in done.stderr
    assert "strangers" not in done.output


def test_a_request_that_cannot_be_read_hides_no_other(store, receiver, secret) -> None:
    broken, whole = ask(store, "broken"), ask(store, "whole")
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE request SET body = '{' WHERE id = ?", (broken,))
    done = run(store, "--webhook", receiver.url, "--secret-file", secret)
    assert receiver.told() == [("approval.requested", whole)]
    assert done.stderr.count("tried again") == 1


# across processes


def test_following_tells_soon_and_ends_when_told_to(store, receiver, secret) -> None:
    store.pending()
    with following(store, "--webhook", receiver.url, "--secret-file", secret) as process:
        first = ask(store)
        eventually(lambda: len(receiver.taken()) == 1)
        store.settle(first, ApprovalState.DENIED, now=time.time())
        eventually(lambda: len(receiver.taken()) == 2)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=20)
    assert time.monotonic() - started < 5
    assert (process.returncode, errors) == (0, "")
    assert out.count("told 127.0.0.1 (json)") == 2


def test_killed_between_deliveries_it_tells_all_of_them_with_the_same_ids(store, receiver, secret) -> None:
    ids = [ask(store, f"call-{n}") for n in range(12)]
    where = ("--webhook", receiver.url, "--secret-file", secret)
    for reached in (2, 7):
        with following(store, *where) as process:
            eventually(lambda wanted=reached: len(receiver.posts) >= wanted)
            process.kill()
    run(store, *where)
    told: dict[str, set[str]] = {}
    for headers, body, _, _ in receiver.posts:
        told.setdefault(json.loads(body)["data"]["request"], set()).add(headers["webhook-id"])
    assert sorted(told) == sorted(ids)
    assert all(len(names) == 1 for names in told.values())
    assert len({name for names in told.values() for name in names}) == len(ids)
    assert len(receiver.posts) <= len(ids) + 2, "at most the one that was under way comes again"


def test_killed_before_the_answer_came_it_tells_again_and_then_the_end(store, receiver, secret) -> None:
    request_id = ask(store)
    receiver.answers = [SLOW]
    with following(store, "--webhook", receiver.url, "--secret-file", secret) as process:
        eventually(lambda: len(receiver.posts) == 1)
        process.kill()
    store.settle(request_id, ApprovalState.DENIED, now=time.time())
    run(store, "--webhook", receiver.url, "--secret-file", secret)
    assert receiver.told() == [("approval.settled", request_id)], "it may have arrived, so its end is told"


# what is refused


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((), "name where to"),
        (("--webhook", "ftp://localhost/x"), "cannot use this address"),
        (("--webhook", "http://127.0.0.1:1/x"), "who sent a notice"),
        (("--webhook", "http://kim:t0ken@localhost/x", "--format", "slack"), "cannot use this address"),
        (("--webhook", "http://localhost/a b", "--format", "slack"), "cannot use this address"),
        (("--webhook", "http://a..b/", "--format", "slack"), "cannot use this address"),
        (("--webhook", "http://hooks.example/t0ken", "--format", "slack"), "unencrypted"),
        (("--webhook", "https://localhost/x", "--format", "slack", "--console", "http://zt.example"), "unencrypted"),
        (("--webhook", "https://localhost/x", "--format", "slack", "--console", "https://zt.example/?a=b"), "cannot"),
        (("--webhook", "https://localhost/x", "--format", "slack", "--console", "https://zt.example/>|x"), "cannot"),
        (("--webhook", "https://localhost/x", "--format", "slack", "--format", "json"), "once for each"),
        (("--webhook", "https://h/x", "--webhook", "https://h/x", "--format", "slack"), "each named once"),
        (("--webhook", "https://localhost/x", "--secret-file", "no-such-file"), "cannot be read"),
        (("--webhook", "https://localhost/x", "--format", "slack", "--ca", "no-such-file"), "cannot be read"),
        (("--smtp", "localhost:25"), "--mail-from"),
        (("--smtp", "localhost", "--mail-from", "a@b.example", "--mail-to", "c@d.example"), "HOST:PORT"),
        (("--smtp", "mx.example:25", "--mail-from", "a@b.example", "--mail-to", "c@d.example"), "unencrypted"),
        (("--smtp", "localhost:25", "--mail-from", "a@b.example", "--mail-to", "c@d.example\nBcc: x@y"), "no address"),
        (("--smtp", "localhost:25", "--mail-from", "a@b.example", "--mail-to", "C <c@d.example>"), "no address"),
        (("--mail-to", "c@d.example"), "needs --smtp"),
    ],
)
def test_what_makes_no_sense_is_refused(store, wrong, said) -> None:
    ask(store)
    done = run(store, *wrong, code=2)
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert "t0ken" not in done.output


@pytest.mark.parametrize("text", ["", "whsec_c2hvcnQ=", "whsec_!!!", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="])
def test_a_file_without_a_secret_is_refused_and_not_shown(store, tmp_path, text) -> None:
    path = tmp_path / "secret"
    path.write_text(text)
    path.chmod(0o600)
    ask(store)
    done = run(store, "--webhook", "https://localhost/x", "--secret-file", path, code=2)
    assert not text or text not in done.output


def test_a_secret_that_others_can_read_is_refused(store, secret) -> None:
    ask(store)
    secret.chmod(0o644)
    assert "chmod 600" in run(store, "--webhook", "https://localhost/x", "--secret-file", secret, code=2).stderr


def test_there_has_to_be_a_store(store, receiver, secret) -> None:
    assert "could not be used" in run(store, "--webhook", receiver.url, "--secret-file", secret, code=2).stderr
    assert not store.path.exists()


def test_what_is_remembered_is_private_and_holds_no_address(store, receiver, secret) -> None:
    ask(store)
    run(store, "--webhook", receiver.url, "--secret-file", secret)
    notices = store.path.with_name("approvals.db.notices")
    assert notices.stat().st_mode & 0o777 == 0o600
    content = notices.read_bytes()
    for text in (b"t0ken", b"127.0.0.1", b"bob", b"alice", b"helpdesk"):
        assert text not in content
