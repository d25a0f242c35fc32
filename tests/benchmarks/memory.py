"""What a session and a queued audit record keep in memory. What a rule keeps is in ``policy``."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from tests.benchmarks.audit import RECORD
from tests.benchmarks.tables import Table
from tests.benchmarks.worlds import ARGUMENTS, Governed
from zt_agents.audit import AuditLog, AuditRecord

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
    return [table, _queued(1_000 if quick else 100_000)]


def _queued(count: int) -> Table:
    """Keep *count* records waiting for a store that hangs, as a disk does."""
    table = Table(f"Memory of a queued audit record, bytes each, over {count:,}", ("", "bytes"))
    stalled = _StalledSink()
    log = AuditLog(stalled, capacity=count + 10)
    try:
        log.append(RECORD)
        stalled.reached.wait()  # the writer is in the store now, and takes no more
        table.add("its receipt and place in the queue", _kept(lambda: log.append(RECORD), count))
        stalled.let_go()
        log.flush(60)
        stalled.stall()
        log.append(RECORD)
        stalled.reached.wait()
        fresh = _kept(lambda: log.append(_fresh()), count)
        table.add("with a record of its own (none of its texts shared)", fresh)
        stalled.let_go()
        log.flush(60)
    finally:
        stalled.let_go()
        log.close()
    return table


def _fresh() -> AuditRecord:
    """Return a record that shares nothing with another, as after a decoding: the most one can take."""
    return AuditRecord(*(f"{value}-"[:-1] if type(value) is str and value else value for value in RECORD))


class _StalledSink:
    def __init__(self) -> None:
        self._open = threading.Event()
        self.reached = threading.Event()

    def stall(self) -> None:
        self._open.clear()
        self.reached.clear()

    def let_go(self) -> None:
        self._open.set()

    def append(self, records: Sequence[AuditRecord]) -> range:
        self.reached.set()
        self._open.wait()
        return range(1, len(records) + 1)

    def release(self) -> None: ...

    close = release


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
