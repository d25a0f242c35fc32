"""One request that cannot be read does not hide the others, and nobody can approve it."""

from __future__ import annotations

import copy
import dataclasses
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from approval_requests import NOW, answer, request
from rich.console import Console
from typer.testing import CliRunner

from zt_agents.approvals import ApprovalRequest, approval_panel, binding_hash, read_request, write_request
from zt_agents.approvals.questions import question
from zt_agents.cli import app
from zt_agents.cli import approvals as command
from zt_agents.decisions import ApprovalTerms, ToolCall
from zt_agents.desk import ApprovalDesk
from zt_agents.desk.proofs import AnswerProofs
from zt_agents.errors import ArgumentsError, StoreError
from zt_agents.identity import ApprovalSigner, SigningKey
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore

SIGNER = ApprovalSigner(issuer="i", audience="a", key=SigningKey.generate())


@pytest.fixture
def desk(tmp_path: Path) -> ApprovalDesk:
    store = SqliteApprovalStore(tmp_path / "approvals.db")
    return ApprovalDesk(store=store, proofs=AnswerProofs(SIGNER), channel=None, clock=lambda: NOW, retention=3600)


def put(desk: ApprovalDesk, number: int) -> ApprovalRequest:
    asked = dataclasses.replace(request(call_id=f"call-{number}"), signer=SIGNER.id)
    desk.store.put(asked)
    return asked


def change(desk: ApprovalDesk, sql: str, *values: object) -> None:
    assert isinstance(desk.store, SqliteApprovalStore)
    with closing(sqlite3.connect(desk.store.path)) as connection, connection:
        assert connection.execute(sql, values).rowcount == 1


WAYS = {
    "no JSON": ("UPDATE request SET body = 'x' WHERE id = ?",),
    "no body": ("UPDATE request SET body = NULL WHERE id = ?",),
    "no request": ("UPDATE request SET body = '[]' WHERE id = ?",),
    "no text": ("UPDATE request SET binding = CAST(x'ff' AS TEXT) WHERE id = ?",),
    "a broken grant": ("UPDATE request SET grant_token = CAST(x'ff' AS TEXT), body = NULL WHERE id = ?",),
    "a broken answer": ("INSERT INTO answer VALUES (?, 'bob', 1, 0, 'x')",),
    "another's": ("UPDATE request SET body = (SELECT body FROM request ORDER BY asked_at, id) WHERE id = ?",),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_request_is_listed_as_such_between_the_others(way: str, desk: ApprovalDesk) -> None:
    first, broken, last = sorted((put(desk, number) for number in range(3)), key=lambda each: each.id)
    (sql,) = WAYS[way]
    change(desk, sql, broken.id)
    listed = desk.store.pending(now=NOW)
    assert [(each.id, each.damaged) for each in listed] == [(first.id, False), (broken.id, True), (last.id, False)]
    assert [each.request is None for each in listed] == [False, True, False]
    assert desk.store.named(broken.id, limit=2) == [listed[1]]
    assert desk.store.count_pending(now=NOW) == 3


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_request_is_not_decided_on(way: str, desk: ApprovalDesk) -> None:
    other, broken = sorted((put(desk, number) for number in range(2)), key=lambda each: each.id)
    (sql,) = WAYS[way]
    change(desk, sql, broken.id)
    with pytest.raises(StoreError):
        desk.look(broken.id)
    if way != "no text":  # then it is not found by its binding at all
        with pytest.raises(StoreError):
            desk.file(answer(broken, "bob"))
    assert desk.file(answer(other, "bob")) is None
    assert desk.store.purge(before=broken.expires_at + 1) == 1 + (way not in {"no body", "a broken grant"})


def test_the_id_itself_is_no_text(desk: ApprovalDesk) -> None:
    asked, broken = sorted((put(desk, number) for number in range(2)), key=lambda each: each.id)
    for value in (b"\xff\xfe", 5):
        change(desk, "UPDATE request SET id = CAST(? AS BLOB) WHERE binding = ?", value, broken.binding_hash)
        assert [each.damaged for each in desk.store.pending()] == [False, True]
        assert asked.id in desk.store.pending_ids()


def test_the_command_lists_what_is_damaged_and_answers_nothing_for_it(
    desk: ApprovalDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, broken = put(desk, 0), put(desk, 1)
    change(desk, "UPDATE request SET body = 'x' WHERE id = ?", broken.id)
    monkeypatch.setattr(command, "system_clock", lambda: NOW)
    SigningKey.generate().save(tmp_path / "signing.pem")
    store = ["--store", str(tmp_path / "approvals.db")]

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["approvals", *arguments, *store])
        return f"{result.exit_code} {result.output}"

    out = run("list")
    assert out.startswith("0 ")
    assert f"{broken.id[:8]}  is damaged" in out
    assert f"{asked.id[:8]}  pay (high)" in out
    assert "2 waiting." in out
    key = ["--signing-key", str(tmp_path / "signing.pem"), "--trust-domain", "acme.example"]
    for name in (broken.id, broken.id[:8]):
        for answered in (["show", name], ["approve", name, "--yes", *key], ["deny", name, *key]):
            out = run(*answered)
            assert not out.startswith("0 "), out
            assert "damaged" in out


def _places(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield (*path, name)
        yield from _places(item, *path, name)


def _put_at(values: Any, path: tuple[Any, ...], other: Any) -> bytes:
    changed = copy.deepcopy(values)
    inner = changed
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = other
    call = changed["call"]
    try:  # the hash has no key: whoever writes another request can make it fit
        bound = _bound(call)
        changed["binding_hash"] = binding_hash(bound) if path[0] != "binding_hash" else other
    except (TypeError, KeyError, IndexError, AttributeError, ArgumentsError, ValueError):
        pass
    return orjson.dumps(changed)


def _bound(call: dict[str, Any]) -> ToolCall:
    asked = request().call
    assert asked.agent is not None
    assert asked.user is not None
    agent = dataclasses.replace(asked.agent, id=call["agent"][1]) if call["agent"] else None
    user = asked.user
    if call["user"]:
        user = copy.copy(asked.user)
        object.__setattr__(user, "id", call["user"][0])
    spec = asked.spec
    assert spec is not None
    return asked._replace(
        tool=call["tool"],
        arguments=call["arguments"],
        agent=agent,
        user=user if call["user"] else None,
        session_id=call["session_id"],
        call_id=call["call_id"],
        resource=call["resource"],
        spec=dataclasses.replace(spec, system=call["spec"]["system"]) if call["spec"] else None,
    )


def test_whatever_is_read_can_be_shown() -> None:
    """Each value of a stored request in turn becomes something else: it is refused, or whoever lists it can show it."""
    values = orjson.loads(write_request(request(ApprovalTerms(("user:bob",), 2, 60))))
    read = refused = 0
    for path in _places(values):
        for other in (None, True, 5, -1, 1e300, "x", "\x1b[2J", [], [5], [[]], {}, {"x": []}):
            text = _put_at(values, path, other)
            try:
                shown = read_request(text)
            except (ValueError, KeyError, TypeError, ArgumentsError):
                refused += 1
                continue
            read += 1
            Console(quiet=True).print(approval_panel(shown))
            question(shown)
            assert "\x1b" not in command._line(_stored(shown))
    assert read > 100
    assert refused > 300


def _stored(shown: ApprovalRequest) -> Any:
    from zt_agents.approvals import ApprovalState, StoredApproval

    return StoredApproval(shown.id, shown.binding_hash, ApprovalState.PENDING, shown)
