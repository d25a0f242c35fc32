"""How long one question to a long log takes: a window of time, by agent or user, as ``audit timeline`` asks.

Run ``python -m tests.benchmarks query [--records 1000000] --folder FOLDER``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

from tests.benchmarks.audit import OUTCOME, RECORD
from tests.benchmarks.tables import Table
from zt_agents.audit.calls import Selection, newest_calls, records_after
from zt_agents.stores.sqlite_audit import SqliteAuditSink

RECORDS = 200_000
_BATCH = 1000
_DAYS = 30
_AGENTS, _USERS = 20, 500
_START = 1_700_000_000.0
_DAY = 86_400.0


def fill(path: Path, count: int) -> None:
    """Write *count* records, two a call, spread evenly over 30 days, 20 agents and 500 users."""
    step = _DAYS * _DAY / count
    with closing(SqliteAuditSink(path)) as sink:
        for first in range(0, count, _BATCH):
            batch = []
            for number in range(first, min(first + _BATCH, count), 2):
                decision = RECORD._replace(
                    time=_START + number * step,
                    decision_id=f"9f2c61aa03de-{number:x}",
                    agent=f"agent-{number // 2 % _AGENTS}",
                    user_id=f"user-{number // 2 * 7 % _USERS}@corp.example",
                )
                outcome = OUTCOME._replace(
                    time=decision.time + 0.01,
                    decision_id=decision.decision_id,
                    agent=decision.agent,
                    user_id=decision.user_id,
                )
                batch += [decision, outcome]
            sink.append(batch)


def questions() -> Iterator[tuple[str, Selection, int]]:
    """Yield what is asked: its name, the selection, and at most how many calls are wanted."""
    tuesday = Selection(since=_START + 20 * _DAY, until=_START + 21 * _DAY)
    hour = Selection(since=_START + 20 * _DAY, until=_START + 20 * _DAY + 3600)
    agent, user = "agent-3", "user-42@corp.example"
    yield "one day, one user: all", tuesday._replace(user=user), 10**9
    yield "one day, one agent: the newest 1,000", tuesday._replace(agent=agent), 1000
    yield "one hour, one agent: all", hour._replace(agent=agent), 10**9
    yield "30 days, one user: the newest 50", Selection(user=user), 50
    yield "30 days, one user: all", Selection(user=user), 10**9
    yield "30 days, one agent: the newest 50", Selection(agent=agent), 50
    yield "30 days, a user who is not there", Selection(user="nobody"), 50
    yield "30 days, no condition: the newest 50", Selection(), 50


def tables(folder: Path, *, quick: bool) -> list[Table]:
    """Measure in *folder*."""
    count = 20_000 if quick else RECORDS
    path = folder / "query.db"
    fill(path, count)
    size = path.stat().st_size / count
    table = Table(
        f"Questions to a log of {count:,} records",
        ("", "calls", "ms", "slowest ms"),
        f"Median of 5, file warm, {size:.0f} bytes a record. Target: under 200 ms for a window by agent or user.",
    )
    sink = SqliteAuditSink(path, create=False)
    for name, selection, most in questions():

        def ask(selection: Selection = selection, most: int = most) -> int:
            with sink.snapshot() as snapshot:
                return sum(1 for _ in islice(newest_calls(snapshot, selection), most))

        table.add(name, *_timed(ask))

    def look_for_new() -> int:
        with sink.snapshot() as snapshot:
            return sum(1 for _ in records_after(snapshot, count - 100, Selection()))

    table.add("export --follow: the last 100 records", *_timed(look_for_new))
    return [table]


def _timed(ask: Callable[[], int]) -> tuple[str, float, float]:
    found, taken = 0, []
    for _ in range(5):
        start = time.perf_counter()
        found = ask()
        taken.append((time.perf_counter() - start) * 1e3)
    return f"{found:,}", statistics.median(taken), max(taken)
