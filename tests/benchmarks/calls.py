"""What a governed call costs over the bare ``tool.invoke``."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.tables import Table, comparison
from tests.benchmarks.timing import (
    ROUNDS,
    AsyncSubject,
    Pair,
    Subject,
    atake_turns,
    processor_time,
    take_turns,
)
from tests.benchmarks.worlds import (
    ARGUMENTS,
    DENIED,
    Discarding,
    Governed,
    NoOp,
    batching,
    make_tool,
    refused,
)

BARE = "bare tool"
GOVERNED = "governed, low tier, everything on"
OBSERVED = "bare tool, a handler that does nothing"
DENIAL = "denied, recorded and traced"
DURABLE = "governed, medium tier: durable first"
SYNCED = "bare tool + write and fdatasync"


def tables(folder: Path, *, quick: bool) -> list[Table]:
    """Measure in *folder*."""
    calls = 100 if quick else 600
    provider = batching(Discarding())
    world = Governed(folder, provider)
    try:
        bare, *others = _subjects(world)
        sync = [take_turns(bare, other, calls) for other in others]
        alternating = Subject(
            f"{GOVERNED}; turns of one call", lambda: world.search.invoke(ARGUMENTS), world.context
        )
        sync.append(take_turns(bare, alternating, calls, stretch=1))
        asynchronous = asyncio.run(_async_pairs(world, calls))
        durable = [take_turns(*_durable_subjects(world, folder), calls // 4, stretch=5)]
        effort = _effort(world, provider, calls)
    finally:
        world.close()
        provider.shutdown()
    everything = (
        "Everything on: token, decision with one condition, two audit records, one span that is encoded for OTLP in"
        " the background, arguments hashed."
    )
    return [
        comparison("tool.invoke", sync, everything),
        comparison("tool.ainvoke", asynchronous, everything),
        comparison(f"Durable before the body runs, against: {SYNCED}", durable),
        effort,
    ]


async def _async_pairs(world: Governed, calls: int) -> list[Pair]:
    bare, *others = _async_subjects(world)
    pairs = [await atake_turns(bare, other, calls) for other in others]
    alternating = AsyncSubject(
        f"{GOVERNED}; turns of one call", lambda: world.search.ainvoke(ARGUMENTS), world.context
    )
    return [*pairs, await atake_turns(bare, alternating, calls, stretch=1)]


def _subjects(world: Governed) -> list[Subject]:
    bare, observed, handler = make_tool(), make_tool(), NoOp()
    observing: Any = {"callbacks": [handler]}
    return [
        Subject(BARE, lambda: bare.invoke(ARGUMENTS), world.bare_context),
        Subject(OBSERVED, lambda: observed.invoke(ARGUMENTS, observing), world.bare_context.copy()),
        Subject(GOVERNED, lambda: world.search.invoke(ARGUMENTS), world.context),
        Subject(DENIAL, refused(lambda: world.search.invoke(DENIED)), world.context),
    ]


def _async_subjects(world: Governed) -> list[AsyncSubject]:
    bare, observed, handler = make_tool(), make_tool(), NoOp()
    observing: Any = {"callbacks": [handler]}
    return [
        AsyncSubject(BARE, lambda: bare.ainvoke(ARGUMENTS), world.bare_context),
        AsyncSubject(OBSERVED, lambda: observed.ainvoke(ARGUMENTS, observing), world.bare_context.copy()),
        AsyncSubject(GOVERNED, lambda: world.search.ainvoke(ARGUMENTS), world.context),
    ]


def _durable_subjects(world: Governed, folder: Path) -> tuple[Subject, Subject]:
    bare = make_tool("update")
    sync = getattr(os, "fdatasync", os.fsync)
    file = os.open(folder / "bare", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def synced() -> Any:
        os.write(file, b"x" * 800)
        sync(file)
        return bare.invoke(ARGUMENTS)

    return (
        Subject(SYNCED, synced, world.bare_context),
        Subject(DURABLE, lambda: world.update.invoke(ARGUMENTS), world.context),
    )


def _effort(world: Governed, provider: Any, calls: int) -> Table:
    """What no caller waits for is paid for all the same: processor time in all threads."""

    def settle() -> None:
        provider.force_flush()
        world.guard.audit.flush(60)

    note = "Encoding of spans and writing of records included."
    table = Table("Processor time in all threads", ("", "us per call", "x"), note)
    bare, _, governed, _ = _subjects(world)
    rounds = [[processor_time(subject, calls, settle) for subject in (bare, governed)] for _ in range(ROUNDS)]
    for subject, spent in zip((bare, governed), zip(*rounds, strict=True), strict=True):
        table.add(
            subject.name,
            median(spent),
            median(mine / base for mine, (base, _) in zip(spent, rounds, strict=True)),
        )
    return table
