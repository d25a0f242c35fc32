"""How long after a human's yes a body begins, with two processes: one waits, the other one answers.

And what each step of the store costs when many requests wait in it.

Run ``python -m tests.benchmarks approvals --folder FOLDER``.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

from tests.benchmarks.tables import Table
from zt_agents.approvals import Answer, ApprovalRequest, ApprovalState, request_approval, write_request
from zt_agents.catalog.specs import Effect, Tier, ToolSpec
from zt_agents.decisions import Decision, Outcome, Reason, ReasonCode, ToolCall
from zt_agents.identity import Agent, SigningKey, User
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore

_POLICY = """
version: 1
trust_domain: bench.example
environment: production
approvals: {timeout: 10m}
agents:
  helpdesk: {id: spiffe://bench.example/agent/helpdesk, version: "1.0", owner: kim@bench.example, purpose: Measures}
tools:
  search: {tier: high, effects: [write]}
rules:
  - {id: all, agents: [helpdesk], tools: [search], outcome: allow}
"""


def tables(folder: Path, *, quick: bool) -> list[Table]:
    """Measure in *folder*."""
    return [_yes_to_body(folder, quick=quick), _many(folder, 100 if quick else 10_000)]


def _yes_to_body(folder: Path, *, quick: bool) -> Table:
    count = 5 if quick else 60
    table = Table(
        "From a human's yes to the body, across two processes",
        ("the answer is filed, until the body begins", "p50 ms", "p95 ms", "slowest ms"),
        f"{count} calls by StoreChannel, each approved in the other process. Target: p95 under 150 ms.",
    )
    for others in (0, 20 if quick else 1_000):
        place = folder / f"beside-{others}"
        place.mkdir()
        SigningKey.generate().save(place / "signing.pem")
        _fill(place / "zt-agents-approvals.db", others)
        with ProcessPoolExecutor(2, get_context("spawn")) as pool:
            asked = pool.submit(_ask, place, count)
            answered = pool.submit(_answer, place, count)
            waits = sorted(began - said for began, said in zip(asked.result(300), answered.result(300), strict=True))
        at = [statistics.median(waits), waits[int(len(waits) * 0.95)], waits[-1]]
        table.add(f"beside {others:,} other requests that wait", *(each * 1e3 for each in at))
    return table


def _many(folder: Path, count: int) -> Table:
    """Measure each step on a store in which *count* requests wait, and as many were decided and erased."""
    made = _fill(folder / "many.db", count)
    store = SqliteApprovalStore(folder / "many.db", create=False)
    now, some = time.time(), iter(made)
    size = len(write_request(made[0])) if made else 0
    table = Table(
        f"The store of approvals when {count:,} requests wait",
        ("", "p50 ms", "slowest ms"),
        f"Requests of {size:,} bytes. What is written is synced to the disk.",
    )
    steps: dict[str, Callable[[], object]] = {
        "put": lambda: store.put(_request()),
        "get": lambda: store.get(next(some).id),
        "find": lambda: store.find(next(some).binding_hash),
        "file": lambda: store.file((each := next(some)).id, "kim", Answer(each.binding_hash, True, "kim"), now=now),
        "settle": lambda: store.settle(next(some).id, ApprovalState.DENIED, now=now),
        "purge, with nothing to erase": lambda: store.purge(before=now - 3600),
        "named: how an id begins": lambda: store.named(next(some).id[:8], limit=2),
        "count_pending": lambda: store.count_pending(now=now),
        "pending_ids": lambda: store.pending_ids(now=now),
        "pending: a page of 100": lambda: store.pending(limit=100, now=now),
        "pending: a page of 100 from the middle": lambda: store.pending(limit=100, after=made[count // 2].id, now=now),
        "pending: all of them": lambda: store.pending(now=now),
    }
    for name, step in steps.items():
        took = sorted(_took(step) for _ in range(3 if name.endswith("them") else 15))
        table.add(name, statistics.median(took) * 1e3, took[-1] * 1e3)
    took = [_took(lambda: store.purge(before=now + 7200))]
    table.add("purge, which erases all of them", took[0] * 1e3, took[0] * 1e3)
    return table


def _took(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def _request() -> ApprovalRequest:
    """Return a request of the size that a mail has."""
    reason = Reason(ReasonCode.RULE, "Mail to strangers needs a human.", "strangers")
    call = ToolCall(
        "send_mail",
        ToolSpec("send_mail", Tier.HIGH, frozenset({Effect.EGRESS}), "mail", "mail/{args.to}", destinations=("to",)),
        {"to": "customer@example.org", "subject": "Your refund", "body": "Dear customer, thank you. " * 80},
        agent=Agent("helpdesk", "spiffe://bench.example/agent/helpdesk", "1.0", "kim@bench.example", "Measures"),
        user=User("dana@bench.example", groups=("support",)),
        session_id="s",
        intent="Tell the customer that the refund is on its way",
        call_id=uuid.uuid4().hex,
        resource="mail/customer@example.org",
        time=time.time(),
    )
    decision = Decision("d", Outcome.REQUIRE_APPROVAL, call.tool, Tier.HIGH, (reason,))
    return request_approval(call, decision, timeout=3600)


def _fill(path: Path, count: int) -> list[ApprovalRequest]:
    """Make a store in which *count* requests wait, and as many were decided and erased half a day ago."""
    made = [_request() for _ in range(count)]
    SqliteApprovalStore(path).put(_request())
    old = time.time() - 43_200
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM request")
        for each in made:
            row = (each.id, each.binding_hash, "pending", write_request(each), each.call.time, each.expires_at, None)
            erased = (f"old-{each.id}", f"old-{each.id}", "approved", None, old, old, old)
            columns = "id, binding, state, body, asked_at, expires_at, decided_at, grant_token"
            connection.executemany(f"INSERT INTO request ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, '')", (row, erased))
    return made


def _ask(folder: Path, count: int) -> list[float]:
    """Make one call after the other, and return when each body began."""
    from langchain_core.tools import tool

    from zt_agents import Guard, StoreChannel
    from zt_agents.testing import write_policy

    began: list[float] = []

    @tool
    def search(q: str) -> str:
        """Look for an article."""
        began.append(time.time())
        return q

    path = write_policy(folder, _POLICY, [search])
    key = SigningKey.from_file(folder / "signing.pem")
    with Guard.from_config(path, channel=StoreChannel(), signing_key=key) as guard:
        guard.protect([search])
        with guard.session(agent="helpdesk", on_behalf_of="dana@bench.example"):
            for number in range(count):
                search.invoke({"q": str(number)})
    return began


def _answer(folder: Path, count: int) -> list[float]:
    """Approve each call as soon as it is in the store, after a moment; return when each answer was given."""
    from zt_agents.config import answer_proofs
    from zt_agents.desk import ApprovalDesk
    from zt_agents.stores.sqlite_approvers import SqliteApproverRegistry

    path = folder / "zt-agents-approvals.db"
    store = SqliteApprovalStore(path, create=False)
    key, registry = SigningKey.from_file(folder / "signing.pem"), SqliteApproverRegistry.beside(store.path)
    proofs = answer_proofs("bench.example", key, registry)
    desk = ApprovalDesk(store=store, proofs=proofs, channel=None, clock=time.time, retention=3600)
    said: list[float] = []
    known = set(store.pending_ids())
    while len(said) < count:
        time.sleep(0.001 * (17 + len(said) * 7 % 60))  # at no fixed moment between two looks of the one who waits
        for new in set(store.pending_ids()) - known:
            stored = store.get(new)
            if stored is None:
                raise RuntimeError("a request is gone")
            known.add(new)
            said.append(time.time())
            if (why := desk.file(Answer(stored.binding_hash, True, "kim@bench.example"))) is not None:
                raise RuntimeError(why)
    return said
