"""Where the longest calls come from: background threads, and collections of a large heap.

Calls come one at a time with pauses between, as an agent makes them, in a process of its own for each way to treat the
heap: ``python -m tests.benchmarks.pauses WAY SECONDS FOLDER``.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.policy import SIZES, load
from tests.benchmarks.tables import Table
from tests.benchmarks.worlds import ARGUMENTS, Discarding, Governed, batching, make_tool

_PAUSE = 0.002
"""Seconds between two calls."""
_RULES = 10_000
_WAYS = {
    "bare tool": "10,000 rules on the heap, bare tool",
    "governed": "10,000 rules on the heap, governed",
    "frozen": "the same after gc.freeze()",
}


def tables(folder: Path, *, quick: bool) -> list[Table]:
    """Measure in *folder*."""
    columns = ("", "p50 us", "p99 us", "p99.9 us", "longest us", "full collections", "one, ms")
    note = "The last column: how long a full collection of that heap takes, when one is asked for."
    table = Table(f"One call every {_PAUSE * 1e3:g} ms, low tier, everything on", columns, note)
    for way, name in _WAYS.items():
        place = folder / way
        place.mkdir()
        command = [sys.executable, "-m", "tests.benchmarks.pauses", way, str(2 if quick else 20), str(place)]
        shown = subprocess.run(command, check=True, capture_output=True, text=True)
        table.add(name, *json.loads(shown.stdout))
    return [table]


class _Collections:
    """Counts full collections."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        self.count += phase == "stop" and info["generation"] == 2


def _measure(way: str, seconds: float, folder: Path) -> list[float]:
    policy = load(*SIZES[_RULES])
    provider = batching(Discarding())
    world = Governed(folder, provider)
    bare = make_tool()
    tool, context = (bare, world.bare_context) if way == "bare tool" else (world.search, world.context)
    for _ in range(300):
        context.run(tool.invoke, ARGUMENTS)
    gc.collect()
    if way == "frozen":
        gc.freeze()
    collections = _Collections()
    gc.callbacks.append(collections)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        context.run(tool.invoke, ARGUMENTS)
        taken.append((time.perf_counter() - start) * 1e6)
        time.sleep(_PAUSE)
    gc.callbacks.remove(collections)
    start = time.perf_counter()
    gc.collect()
    forced = time.perf_counter() - start
    world.close()
    provider.shutdown()
    assert len(policy.engine.rules) == _RULES
    taken.sort()
    p50, p99, p999 = (taken[int(len(taken) * share)] for share in (0.5, 0.99, 0.999))
    return [p50, p99, p999, taken[-1], collections.count, forced * 1e3]


if __name__ == "__main__":
    json.dump(_measure(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])), sys.stdout)
