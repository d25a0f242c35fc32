"""The store of approvals: each step once, whoever else tries; what was decided is erased; a failure is a StoreError."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from approval_requests import NOW, answer, request

from zt_agents.approvals import ApprovalState
from zt_agents.errors import StoreError
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore


@pytest.fixture
def store(tmp_path: Path) -> SqliteApprovalStore:
    return SqliteApprovalStore(tmp_path / "approvals.db")


def test_nothing_is_made_before_it_is_used(store: SqliteApprovalStore) -> None:
    assert not store.path.exists()
    store.put(request())
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in store.path.parent.iterdir()) == ["approvals.db"]


def test_the_same_call_is_kept_once_and_found_by_id_and_binding(store: SqliteApprovalStore) -> None:
    first, second = request(), request()
    assert store.put(first).id == store.put(second).id == first.id
    found = store.find(first.binding_hash)
    assert found is not None
    assert found == store.get(first.id)
    assert found.request is not None
    assert found.request.call == first.call
    assert store.get(second.id) is None
    assert store.find("unknown") is None


def test_a_state_changes_once(store: SqliteApprovalStore) -> None:
    asked = store.put(request())
    assert store.settle(asked.id, ApprovalState.DENIED, now=NOW).state is ApprovalState.DENIED
    for state in (ApprovalState.EXPIRED, ApprovalState.CANCELLED):
        assert store.settle(asked.id, state, now=NOW).state is ApprovalState.DENIED
    assert store.settle(asked.id, ApprovalState.APPROVED, now=NOW, grant="g").state is ApprovalState.DENIED
    assert not store.consume(asked.id, now=NOW)


def test_who_settles_has_seen_every_answer(store: SqliteApprovalStore) -> None:
    asked = request()
    store.put(asked)
    store.file(asked.id, "bob", answer(asked, "bob"), now=NOW)
    for seen in (0, 2):
        still = store.settle(asked.id, ApprovalState.APPROVED, now=NOW, grant="g", answers=seen)
        assert (still.state, len(still.answers)) == (ApprovalState.PENDING, 1)
    assert store.settle(asked.id, ApprovalState.APPROVED, now=NOW, grant="g", answers=1).state is ApprovalState.APPROVED


def test_there_is_no_approval_without_a_grant_and_no_way_back(store: SqliteApprovalStore) -> None:
    asked = store.put(request())
    for state, grant in ((ApprovalState.APPROVED, ""), (ApprovalState.DENIED, "g"), (ApprovalState.PENDING, "")):
        with pytest.raises(ValueError):
            store.settle(asked.id, state, now=NOW, grant=grant)
    with pytest.raises(StoreError):
        store.settle("unknown", ApprovalState.DENIED, now=NOW)


def test_answers_are_kept_while_pending_one_yes_and_one_no_a_person(store: SqliteApprovalStore) -> None:
    asked = request()
    store.put(asked)
    assert store.file(asked.id, "bob", answer(asked, "bob"), now=NOW)
    assert not store.file(asked.id, "bob", answer(asked, "Bob"), now=NOW)
    assert store.file(asked.id, "bob", answer(asked, "bob", False), now=NOW), "a changed mind"
    assert not store.file(asked.id, "eve", answer(request(arguments={}), "eve"), now=NOW), "for another call"
    assert not store.file(asked.id, "eve", answer(asked, "eve"), now=asked.expires_at), "too late"
    store.settle(asked.id, ApprovalState.DENIED, now=NOW)
    assert not store.file(asked.id, "eve", answer(asked, "eve"), now=NOW), "settled"
    found = store.get(asked.id)
    assert found is not None
    assert [(each.approver, each.approved) for each in found.answers] == [("bob", True), ("bob", False)]


def _consume(path: Path, request_id: str, results: Any) -> None:
    results.put(SqliteApprovalStore(path).consume(request_id, now=NOW))


def test_of_many_threads_and_processes_one_consumes(store: SqliteApprovalStore) -> None:
    asked = store.put(request())
    store.settle(asked.id, ApprovalState.APPROVED, now=NOW, grant="g")
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers: list[Any] = [context.Process(target=_consume, args=(store.path, asked.id, results)) for _ in range(3)]
    workers += [threading.Thread(target=_consume, args=(store.path, asked.id, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    outcomes = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    results.close()
    results.join_thread()
    assert sorted(outcomes) == [False] * 5 + [True]


def test_the_first_question_at_a_place_stays(store: SqliteApprovalStore) -> None:
    first, second = request(), request(arguments={})
    store.put(first)
    store.put(second)
    assert store.surfaced("t#0") is None
    assert store.surface("t#0", first.binding_hash) == first.binding_hash
    assert store.surface("t#0", second.binding_hash) == first.binding_hash
    assert store.surfaced("t#0") == first.binding_hash


def test_what_was_decided_is_erased_from_the_file_and_still_cannot_be_used_again(store: SqliteApprovalStore) -> None:
    secret = "a-very-secret-argument"
    asked, waiting = request(arguments={"note": secret}), request()
    store.put(asked)
    store.put(waiting)
    store.file(asked.id, "bob", answer(asked, "bob"), now=NOW)
    store.settle(asked.id, ApprovalState.APPROVED, now=NOW, grant="g")
    assert store.consume(asked.id, now=NOW)
    assert secret.encode() in _bytes(store.path)
    assert store.purge(before=NOW) == 0
    assert store.purge(before=NOW + 1) == 1
    assert secret.encode() not in _bytes(store.path)
    found = store.put(asked)
    assert (found.request, found.answers, found.state) == (None, (), ApprovalState.APPROVED)
    assert not store.consume(asked.id, now=NOW)
    assert [each.id for each in store.pending()] == [waiting.id]
    store.purge(before=waiting.expires_at + 1)
    assert store.pending() == []
    store.purge(before=NOW + 90_000)
    assert store.get(asked.id) is None


def _bytes(path: Path) -> bytes:
    return b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))


def test_a_store_that_is_gone_or_something_else_is_a_store_error(store: SqliteApprovalStore) -> None:
    store.put(request())
    store.path.unlink()
    with pytest.raises(StoreError):
        store.put(request())
    other = store.path.with_name("other.db")
    other.write_bytes(b"no database at all, but long enough to look at")
    with pytest.raises(StoreError):
        SqliteApprovalStore(other).pending()
    plain = store.path.with_name("plain.db")
    with sqlite3.connect(plain) as connection:
        connection.execute("CREATE TABLE x (y)")
    connection.close()
    with pytest.raises(StoreError):
        SqliteApprovalStore(plain).pending()
    with pytest.raises(StoreError):
        SqliteApprovalStore(store.path.parent / "nowhere" / "a.db").put(request())
    with pytest.raises(StoreError):
        SqliteApprovalStore(store.path.with_name("absent.db"), create=False).pending()


def test_a_damaged_request_is_a_store_error(store: SqliteApprovalStore) -> None:
    asked = store.put(request())
    connection = sqlite3.connect(store.path)
    connection.execute("UPDATE request SET body = '{}'")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError):
        store.get(asked.id)


def test_a_file_of_another_layout_is_refused_by_name(tmp_path: Path) -> None:
    store = SqliteApprovalStore(tmp_path / "approvals.db")
    store.put(request())
    connection = sqlite3.connect(store.path)
    connection.execute("PRAGMA user_version = 5")
    connection.close()
    with pytest.raises(StoreError, match="made by another version"):
        store.pending()
