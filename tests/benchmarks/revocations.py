"""How soon a revocation stops eight processes, and what it costs each call that nothing was revoked.

Run ``python -m tests.benchmarks revocations --folder FOLDER``.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.tables import Table
from zt_agents.identity.revocations import Bearing, Revoked
from zt_agents.stores.sqlite_revocations import SqliteRevocations

_CROWD = Path(__file__).parents[1] / "security" / "revocation_crowd.py"
_NOBODY = Bearing(("spiffe://bench.example/agent/helpdesk",), "kim", ("s",), "t", "j", "dana")


def tables(folder: Path, *, quick: bool) -> list[Table]:
    """Measure in *folder*."""
    return [_reach(folder, 10 if quick else 200), _cost(folder, 1_000 if quick else 100_000)]


def _reach(folder: Path, rounds: int) -> Table:
    place = folder / "reach"
    place.mkdir()
    done = subprocess.run(
        [sys.executable, str(_CROWD), str(place), str(rounds)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120 + 2 * rounds,
        env={**os.environ, "PYTHONPATH": str(_CROWD.parents[2])},
    )
    seen = json.loads(done.stdout)
    took = sorted(1e3 * seconds for seconds in seen["seconds"])
    table = Table(
        "From the command to the last body that begins, in eight processes that call without a pause",
        ("", "p50 ms", "p99 ms", "slowest ms"),
        f"{rounds} revocations, {seen['calls']:,} calls. Writing the revocation is part of it. Target: p99 under 1 s.",
    )
    table.add("agent, user, owner, task and all in turns", statistics.median(took), _p99(took), took[-1])
    return table


def _cost(folder: Path, many: int) -> Table:
    table = Table(
        "What it costs to ask",
        ("", "p50 us", "p99 us"),
        "A call asks once or twice. The file is read again when it changed, and every quarter of a second.",
    )
    for number in (0, many):
        _ask(folder / f"revoked-{number}.db", number, table)
    return table


def _ask(path: Path, number: int, table: Table) -> None:
    store = SqliteRevocations(path)
    store.open()
    _fill(store, number)
    tracemalloc.start()
    reader = SqliteRevocations(path)
    reader.open()
    memory = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    asks = _timed(lambda: reader.find(_NOBODY, now=1.0), 20_000)
    table.add(f"{number:,} revoked: find", statistics.median(asks), _p99(asks))
    asks = _timed(lambda: _find_later(reader), 20_000)
    table.add(f"{number:,} revoked: find, more than 10 ms after another", statistics.median(asks), _p99(asks))
    writes, sees = list[float](), list[float]()
    for _ in range(50):
        writes += _timed(lambda: store.revoke(Revoked.TASK, "another", by="b", why="", now=1.0), 1)
        sees += _timed(lambda: _find_later(reader), 1)
    table.add(f"{number:,} revoked: find after one more", statistics.median(sees), _p99(sorted(sees)))
    table.add(f"{number:,} revoked: revoke one more, durable", statistics.median(writes), _p99(sorted(writes)))
    starts = _timed(lambda: SqliteRevocations(path).open(), 5)
    table.add(f"{number:,} revoked: a process that starts ({memory:.1f} MB)", statistics.median(starts), starts[-1])


def _find_later(reader: SqliteRevocations) -> None:
    reader._glanced_at = 0.0
    reader.find(_NOBODY, now=1.0)


def _fill(store: SqliteRevocations, number: int) -> None:
    with store._file.writing() as connection:
        rest = (1.0, "os:root", "", None, None)
        rows = ((f"{n:032x}", n + 1, "user", f"user-{n}@bench.example", *rest) for n in range(number))
        connection.executemany("INSERT INTO revocation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute("UPDATE store SET generation = ?", (number + 1,))
    store._file.empty_wal()


def _timed(work: Callable[[], object], times: int) -> list[float]:
    """Return the microseconds that each took, shortest first."""
    took = []
    for _ in range(times):
        began = time.perf_counter_ns()
        work()
        took.append((time.perf_counter_ns() - began) / 1e3)
    return sorted(took)


def _p99(ordered: list[float]) -> float:
    return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
