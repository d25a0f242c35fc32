"""A call waits in one process, and a human answers in another."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import tool
from typer.testing import CliRunner
from world import HEAD, World

from zt_agents import AccessDeniedError
from zt_agents.approvals import Answer, ApprovalState, StoreChannel
from zt_agents.cli import app
from zt_agents.identity import SigningKey

ANSWERER = """
import sys, time
from pathlib import Path
from zt_agents.desk import ApprovalDesk
from zt_agents.approvals import Answer
from zt_agents.config import answer_proofs
from zt_agents.identity import SigningKey
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore
from zt_agents.stores.sqlite_approvers import SqliteApproverRegistry

folder, count = Path(sys.argv[1]), int(sys.argv[2])
store = SqliteApprovalStore(folder / "zt-agents-approvals.db", create=False)
key, registry = SigningKey.from_file(folder / "signing.pem"), SqliteApproverRegistry.beside(store.path)
proofs = answer_proofs("acme.example", key, registry)
desk = ApprovalDesk(store=store, proofs=proofs, channel=None, clock=time.time, retention=1e9)
while count:
    for stored in store.pending() if store.path.exists() else ():
        time.sleep(0.15)
        print(time.time(), flush=True)
        assert desk.file(Answer(stored.binding_hash, True, "bob")) is None
        count -= 1
    time.sleep(0.005)
"""


class Waiting:
    def __init__(self, folder: Path, timeout: str = "1m") -> None:
        self.folder = folder
        self.ran: list[tuple[int, float]] = []

        @tool
        def pay(amount: int) -> str:
            """Pay."""
            self.ran.append((amount, time.time()))
            return "paid"

        self.pay = pay
        SigningKey.generate().save(folder / "signing.pem")
        text = (
            f"{HEAD}approvals: {{timeout: {timeout}}}\ntools:\n  pay: {{tier: high, effects: [money]}}\nrules:\n"
            "  - {id: pay, agents: [helpdesk], tools: [pay], outcome: allow}\n"
        )
        key = SigningKey.from_file(folder / "signing.pem")
        self.world = World(folder, text, [pay], StoreChannel(), signing_key=key)
        self.world.guard.protect([pay])


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Waiting]:
    made = Waiting(tmp_path)
    yield made
    made.world.guard.close()


@pytest.mark.parametrize("use_async", [False, True])
def test_an_answer_in_another_process_reaches_the_body_soon(use_async: bool, waiting: Waiting) -> None:
    count = 8
    process = subprocess.Popen(
        [sys.executable, "-c", ANSWERER, str(waiting.folder), str(count)], stdout=subprocess.PIPE, text=True
    )
    with waiting.world.session():
        for amount in range(count):
            if use_async:
                asyncio.run(waiting.pay.ainvoke({"amount": amount}))
            else:
                waiting.pay.invoke({"amount": amount})
    out, _ = process.communicate(timeout=30)
    delays = [ran - float(answered) for (_, ran), answered in zip(waiting.ran, out.split(), strict=True)]
    assert len(delays) == count
    print(f"median {statistics.median(delays) * 1e3:.0f} ms, most {max(delays) * 1e3:.0f} ms")
    assert statistics.median(delays) < 0.5, "a loaded machine; 150 ms otherwise"


def in_background(waiting: Waiting) -> tuple[threading.Thread, list[Any]]:
    out: list[Any] = []
    session = waiting.world.session()

    def work() -> None:
        with session:
            try:
                out.append(waiting.pay.invoke({"amount": 7}))
            except AccessDeniedError as error:
                out.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, out


def command(waiting: Waiting, *arguments: str, code: int = 0, **options: Any) -> str:
    path = str(waiting.folder / "zt-agents-approvals.db")
    result = CliRunner().invoke(app, ["approvals", *arguments, "--store", path], **options)
    assert result.exit_code == code, result.output
    return result.output


def pending_id(waiting: Waiting) -> str:
    store = waiting.world.guard.desk.store
    for _ in range(500):
        if found := store.pending() if (waiting.folder / "zt-agents-approvals.db").exists() else ():
            return found[0].id
        time.sleep(0.01)
    raise AssertionError("nobody asked")


def test_who_waits_looks_when_somebody_has_written_and_leaves_the_store_alone_meanwhile(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, looks = waiting.world.guard.desk, 0
    look = desk.look

    def counted(request_id: str) -> ApprovalState:
        nonlocal looks
        looks += 1
        return look(request_id)

    monkeypatch.setattr(desk, "look", counted)
    monkeypatch.setattr("zt_agents.approvals.waiting._LOOK", 60.0)
    thread, out = in_background(waiting)
    request_id = pending_id(waiting)
    time.sleep(0.3)
    before = looks
    time.sleep(0.7)
    assert looks == before
    for number in range(5):  # a write at any moment is seen, also when it comes close behind another one
        desk.store.notice(request_id, now=time.time())
        desk.store.surface(f"slot-{number}", "x")
    stored = desk.store.get(request_id)
    assert stored is not None
    desk.file(Answer(stored.binding_hash, True, "bob"))
    thread.join(5)
    assert out == ["paid"]
    assert looks < before + 30


@pytest.mark.parametrize("approve", [True, False])
def test_a_human_answers_on_the_command_line(approve: bool, waiting: Waiting) -> None:
    thread, out = in_background(waiting)
    request_id = pending_id(waiting)
    assert "pay (high)" in command(waiting, "list")
    assert "amount" in command(waiting, "show", request_id[:6])
    key = ["--signing-key", str(waiting.folder / "signing.pem"), "--trust-domain", "acme.example"]
    if approve:
        command(waiting, "approve", request_id, *key, code=1, input="n\n")
        assert waiting.ran == []
        assert "is approved" in command(waiting, "approve", request_id, *key, input="y\n")
    else:
        assert "is denied" in command(waiting, "deny", request_id, *key)
    thread.join(10)
    assert [amount for amount, _ in waiting.ran] == ([7] if approve else [])
    assert (out == ["paid"]) is approve
    assert "0 waiting." in command(waiting, "list")
    if approve:
        decided = [record for record in waiting.world.records() if record.get("approved_by")]
        assert decided[-1]["approved_by"].startswith("os:")


def test_an_answer_with_another_key_is_none(waiting: Waiting) -> None:
    thread, out = in_background(waiting)
    request_id = pending_id(waiting)
    SigningKey.generate().save(waiting.folder / "other.pem")
    key = ["--signing-key", str(waiting.folder / "other.pem"), "--trust-domain", "acme.example"]
    assert "not the signing key" in command(waiting, "approve", request_id, *key, "--yes", code=1)
    assert waiting.ran == []
    waiting.world.guard.desk.withdraw(request_id)
    thread.join(10)
    assert waiting.ran == []
    assert isinstance(out[0], AccessDeniedError)


def test_nothing_by_that_name(waiting: Waiting) -> None:
    waiting.world.guard.desk.store.purge(before=0)
    assert "There is no request" in command(waiting, "show", "abc", code=2)


def test_nobody_answers(tmp_path: Path) -> None:
    made = Waiting(tmp_path, "1s")
    with made.world.session(), pytest.raises(AccessDeniedError, match="expired"):
        made.pay.invoke({"amount": 1})
    with made.world.session(), pytest.raises(AccessDeniedError, match="expired"):
        asyncio.run(made.pay.ainvoke({"amount": 1}))
    made.world.guard.close()
    assert made.ran == []


def test_a_store_that_is_not_there_is_said(tmp_path: Path) -> None:
    for command_name in (["list"], ["show", "x"], ["watch"], ["withdraw", "x"]):
        done = CliRunner().invoke(app, ["approvals", *command_name, "--store", str(tmp_path / "none.db")])
        assert done.exit_code == 2
        assert "There is no store of approvals" in done.output
    assert not list(tmp_path.iterdir())
