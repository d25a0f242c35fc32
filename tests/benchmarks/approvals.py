"""How long after a human's yes a body begins, with two processes: one waits, the other one answers.

Run ``python -m tests.benchmarks approvals --folder FOLDER``.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.benchmarks.tables import Table
from zt_agents.identity import SigningKey

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
    count = 5 if quick else 60
    SigningKey.generate().save(folder / "signing.pem")
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        asked = pool.submit(_ask, folder, count)
        answered = pool.submit(_answer, folder, count)
        waits = sorted(began - said for began, said in zip(asked.result(300), answered.result(300), strict=True))
    table = Table(
        "From a human's yes to the body, across two processes",
        ("", "p50 ms", "p95 ms", "slowest ms"),
        f"{count} calls by StoreChannel, each approved in the other process. Target: p95 under 150 ms.",
    )
    at = [statistics.median(waits), waits[int(len(waits) * 0.95)], waits[-1]]
    table.add("the answer is filed, until the body begins", *(each * 1e3 for each in at))
    return [table]


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
    from zt_agents.approval_desk import ApprovalDesk
    from zt_agents.approvals import Answer
    from zt_agents.config import answer_proofs
    from zt_agents.stores.sqlite_approvals import SqliteApprovalStore
    from zt_agents.stores.sqlite_approvers import SqliteApproverRegistry

    path = folder / "zt-agents-approvals.db"
    while not path.exists():
        time.sleep(0.01)
    store = SqliteApprovalStore(path, create=False)
    key, registry = SigningKey.from_file(folder / "signing.pem"), SqliteApproverRegistry.beside(store.path)
    proofs = answer_proofs("bench.example", key, registry)
    desk = ApprovalDesk(store=store, proofs=proofs, channel=None, clock=time.time, retention=3600)
    said: list[float] = []
    while len(said) < count:
        time.sleep(0.001 * (17 + len(said) * 7 % 60))  # at no fixed moment between two looks of the one who waits
        for stored in store.pending():
            said.append(time.time())
            if (why := desk.file(Answer(stored.binding_hash, True, "kim@bench.example"))) is not None:
                raise RuntimeError(why)
    return said
