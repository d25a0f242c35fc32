"""What a session keeps in memory. What a rule keeps is in ``policy``."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from tests.benchmarks.tables import Table
from tests.benchmarks.worlds import ARGUMENTS, Governed

_CALLS = 10


def tables(folder: Path, *, quick: bool) -> list[Table]:
    """Measure in *folder*."""
    count = 100 if quick else 1000
    world = Governed(folder, TracerProvider())
    table = Table(
        f"Memory kept, bytes each, over {count:,}", ("", "bytes"), "By Python's own allocator (tracemalloc)."
    )
    try:
        _kept(lambda: _session(world), 10)  # whatever is made once
        table.add("an open session", _kept(lambda: _session(world), count))
        table.add(
            f"the same after {_CALLS} calls without an id",
            _kept(lambda: _after_calls(world, identified=False), count),
        )
        table.add(
            f"the same after {_CALLS} calls with an id each",
            _kept(lambda: _after_calls(world, identified=True), count),
        )
        table.add("a session that has ended, until its token expires", _kept(lambda: _ended(world), count))
    finally:
        world.close()
    return [table]


def _session(world: Governed) -> Any:
    return world.guard.session(agent="helpdesk", on_behalf_of="dana@bench.example", intent="Set up my VPN")


def _after_calls(world: Governed, *, identified: bool) -> Any:
    session = _session(world)
    config: Any = {"configurable": {"zt_session": session.token}}
    for number in range(_CALLS):
        if identified:
            call = {"type": "tool_call", "id": f"call-{number}", "name": "search", "args": ARGUMENTS}
            world.search.invoke(call, config)
        else:
            world.search.invoke(ARGUMENTS, config)
    return session


def _ended(world: Governed) -> None:
    world.guard.revoke(_session(world))


def _kept(make: Callable[[], Any], count: int) -> float:
    held = []
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    held.extend(make() for _ in range(count))
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / count
