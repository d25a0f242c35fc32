"""Many requests in one store: page by page, by how an id begins, and at a cost that does not grow with the others."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from approval_requests import NOW, answer, request
from typer.testing import CliRunner

from zt_agents.approvals import ApprovalRequest, ApprovalState
from zt_agents.cli import app
from zt_agents.cli import approvals as command
from zt_agents.stores import shared_file, sqlite_approvals
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore

DAY = 86_400


@pytest.fixture
def store(tmp_path: Path) -> SqliteApprovalStore:
    return SqliteApprovalStore(tmp_path / "approvals.db")


def asked_at(store: SqliteApprovalStore, *moments: float) -> list[ApprovalRequest]:
    """Put a request for each moment after NOW, and return them in that order."""
    made = []
    for number, moment in enumerate(moments):
        asked = request(call_id=f"call-{number}")
        call = asked.call._replace(time=NOW + moment)
        made.append(dataclasses.replace(asked, call=call, expires_at=asked.expires_at + moment))
        store.put(made[-1])
    return made


def test_page_by_page_each_request_is_seen_once_oldest_first(store: SqliteApprovalStore) -> None:
    made = asked_at(store, 3, 1, 1, 1, 0, 2)
    oldest_first = [each.id for each in sorted(made, key=lambda each: (each.call.time, each.id))]
    assert [each.id for each in store.pending()] == oldest_first
    assert list(store.pending_ids()) == oldest_first
    for size in (1, 2, 4, 100):
        seen: list[str] = []
        while page := store.pending(limit=size, after=seen[-1] if seen else None):
            assert len(page) <= size
            seen += [each.id for each in page]
        assert seen == oldest_first
    assert store.pending(limit=0) == []


def test_a_page_goes_on_behind_a_request_that_was_settled_and_starts_anew_behind_an_unknown_one(
    store: SqliteApprovalStore,
) -> None:
    first, second, third = asked_at(store, 0, 1, 2)
    store.settle(second.id, ApprovalState.DENIED, now=NOW)
    assert [each.id for each in store.pending(after=second.id)] == [third.id]
    assert [each.id for each in store.pending(after="long forgotten")] == [first.id, third.id]


def test_those_that_ran_out_do_not_fill_a_page(store: SqliteApprovalStore) -> None:
    *_, last = asked_at(store, 0, 1, 2, 100)
    assert store.count_pending() == 4
    now = NOW + 90
    assert [each.id for each in store.pending(limit=1, now=now)] == [last.id]
    assert (store.count_pending(now=now), store.pending_ids(now=now)) == (1, [last.id])
    assert store.count_pending(now=last.expires_at) == 0, "an answer counts strictly before it"


def test_by_how_an_id_begins_those_that_wait_first(store: SqliteApprovalStore) -> None:
    ids = ["aa1", "aa2", "aa3", "ab", "b%", "b_x", "B"]
    for number, name in enumerate(ids):
        store.put(dataclasses.replace(request(call_id=f"call-{number}"), id=name))
    store.settle("aa1", ApprovalState.DENIED, now=NOW)

    def named(beginning: str, limit: int = 10) -> list[str]:
        return [each.id for each in store.named(beginning, limit=limit)]

    assert named("aa") == ["aa2", "aa3", "aa1"]
    assert named("a", 2) == ["aa2", "aa3"]
    assert (named("aa1"), named("b%"), named("b_"), named("B"), named("c")) == (["aa1"], ["b%"], ["b_x"], ["B"], [])


@pytest.fixture
def run(store: SqliteApprovalStore, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setattr(command, "system_clock", lambda: NOW)

    def invoke(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["approvals", *arguments, "--store", str(store.path)])
        return f"{result.exit_code} {result.output}"

    return invoke


def test_the_command_shows_the_oldest_and_says_how_many_there_are(
    store: SqliteApprovalStore, run: Callable[..., str]
) -> None:
    made = asked_at(store, *range(5))
    out = run("list", "--limit", "2")
    assert [line.split()[0] for line in out.removeprefix("0 ").splitlines()[:2]] == [each.id[:8] for each in made[:2]]
    assert "5 waiting. 3 of them are not shown: see --limit." in out
    assert run("list", "--limit", "5").endswith("\n5 waiting.\n")


def test_to_list_many_is_one_step_to_the_store_and_none_when_they_were_listed_before(
    store: SqliteApprovalStore, run: Callable[..., str], statements: list[str]
) -> None:
    made = asked_at(store, *range(5))
    for steps in (1, 0):
        statements.clear()
        assert "5 waiting." in run("list")
        assert statements.count("BEGIN IMMEDIATE") == steps
    assert {each.noticed_at for each in store.pending()} == {NOW}
    store.notice(made[0].id, "nobody's", now=NOW + 1)
    assert {each.noticed_at for each in store.pending()} == {NOW}


def test_the_command_finds_a_request_by_how_its_id_begins(store: SqliteApprovalStore, run: Callable[..., str]) -> None:
    for number, name in enumerate(("aa1", "aa2", "ab")):
        store.put(dataclasses.replace(request(call_id=f"call-{number}"), id=name))
    assert "more than one request 'a'" in run("show", "a")
    assert "more than one request 'aa'" in run("show", "aa")
    store.settle("aa1", ApprovalState.DENIED, now=NOW)
    assert "aa2  pending" in run("show", "aa"), "what waits comes before what is settled"
    assert "aa1  denied" in run("show", "aa1")
    assert "no request 'x'" in run("show", "x")
    assert "no request ''" in run("show", "")


def test_erasing_much_does_not_keep_others_waiting(store: SqliteApprovalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is done in steps, and between two of them others write."""
    monkeypatch.setattr(sqlite_approvals, "_BATCH", 2)
    made = asked_at(store, *range(5))
    for each in made[1:]:
        store.file(each.id, "bob", answer(each, "bob"), now=NOW)
    for each in made[2:4]:
        store.settle(each.id, ApprovalState.DENIED, now=NOW)
    steps = 0
    writing = store._file.writing

    @contextmanager
    def counted() -> Iterator[sqlite3.Connection]:
        nonlocal steps
        steps += 1
        with writing() as connection:
            yield connection

    monkeypatch.setattr(store._file, "writing", counted)
    assert store.purge(before=NOW + 100) == 5
    assert steps == 3
    for each in made:
        found = store.get(each.id)
        assert found is not None
        assert (found.request, found.answers) == (None, ())
    steps = 0
    assert (store.purge(before=NOW + 100), steps) == (0, 1)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is executed, as it is executed."""
    seen: list[str] = []

    def connect(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection = sqlite3.Connection(*arguments, **named)
        connection.set_trace_callback(seen.append)
        return connection

    monkeypatch.setattr(shared_file.sqlite3, "connect", connect)
    yield seen
    monkeypatch.undo()


def test_nothing_scans(store: SqliteApprovalStore, statements: list[str]) -> None:
    """But what counts or pages reads the index of those that wait, and that alone."""
    asked = request()
    store.put(asked)
    statements.clear()
    store.put(request())
    store.get(asked.id)
    store.find(asked.binding_hash)
    store.pending(limit=10, after=asked.id, now=NOW)
    store.pending()
    store.pending_ids(now=NOW)
    store.count_pending()
    store.named(asked.id[:4], limit=2)
    store.answered("bob")
    store.notice(asked.id, now=NOW)
    store.file(asked.id, "bob", answer(asked, "bob"), now=NOW)
    store.settle(asked.id, ApprovalState.APPROVED, now=NOW, grant="g")
    store.consume(asked.id, now=NOW)
    store.release(asked.id)
    store.surface("t#0", asked.binding_hash)
    store.surfaced("t#0")
    store.purge(before=NOW + 1)
    asked_of = [sql for sql in statements if sql.split()[0] in {"SELECT", "INSERT", "UPDATE", "DELETE"}]
    assert len(asked_of) > 25
    indexes = [f"SCAN request USING COVERING INDEX {name}" for name in ("waiting", "running_out")]
    allowed = {*indexes, "SCAN CONSTANT ROW"}
    with closing(sqlite3.connect(store.path)) as connection:
        for sql in asked_of:
            explained = connection.execute(f"EXPLAIN QUERY PLAN {sql.replace('-Inf', '-9e999')}")
            plan = [row[3] for row in explained]
            scans = [step for step in plan if step.startswith("SCAN") and step not in allowed]
            assert not scans, (sql, plan)
            assert "ORDER BY asked_at" not in sql or not any("TEMP B-TREE" in step for step in plan), (sql, plan)


def test_the_cost_of_one_call_does_not_grow_with_the_others(store: SqliteApprovalStore) -> None:
    """Counted in steps of SQLite's virtual machine, which a busy machine does not change."""
    few = _steps(store, 100)
    many = _steps(store, 1_900)
    for name in few:
        assert many[name] <= 2 * few[name] + 100, (name, few, many)


def _steps(store: SqliteApprovalStore, more: int) -> dict[str, int]:
    """Put *more* that wait and that were decided long ago, and return how many steps each thing takes then."""
    waiting, told = request(call_id=f"waits-{more}"), request(call_id=f"told-{more}")
    for each in (waiting, told):
        store.put(each)
    columns = "id, binding, state, body, decided_at, asked_at, expires_at, grant_token"
    sql = (
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?) "
        f"INSERT INTO request ({columns}) SELECT n || '-' || id, n || '-' || binding, ?, "
        "CASE WHEN ? IS NULL THEN body END, ?, asked_at, expires_at, '' FROM request, numbers WHERE id = ?"
    )
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute(sql, (more, "pending", None, None, waiting.id))
        connection.execute(sql, (more, "denied", NOW - DAY / 2, NOW - DAY / 2, told.id))
    return {
        "get": _counted(lambda: store.get(waiting.id)),
        "put": _counted(lambda: store.put(request(call_id=f"new-{more}"))),
        "page": _counted(lambda: store.pending(limit=5)),
        "named": _counted(lambda: store.named(waiting.id, limit=2)),
        "file": _counted(lambda: store.file(waiting.id, "bob", answer(waiting, "bob"), now=NOW)),
        "settle": _counted(lambda: store.settle(waiting.id, ApprovalState.DENIED, now=NOW)),
        "purge": _counted(lambda: store.purge(before=NOW - 3600)),
    }


def _counted(work: Callable[[], object]) -> int:
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    connect = sqlite3.connect

    def watched(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **named)
        connection.set_progress_handler(step, 1)
        return connection

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shared_file.sqlite3, "connect", watched)
        work()
    assert steps
    return steps
