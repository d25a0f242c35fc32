"""Time two calls that take turns, and say how they compare."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

ROUNDS = 9
"""One more comes before them, and does not count."""
STRETCH = 50
"""Calls in a row before it is the other's turn. With one call each, the interpreter keeps forgetting what it
learned about either (specialised bytecode, caches): both get slower, the bare call more, and the ratio
looks better than it is.
"""

_S = TypeVar("_S")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to call, and the context to call it in."""

    name: str
    call: Callable[[], object]
    context: Context = field(default_factory=Context)
    before: Callable[[], None] | None = None
    """Done before each call, and not timed."""


@dataclass(frozen=True, slots=True)
class AsyncSubject:
    """The async twin of :class:`Subject`."""

    name: str
    call: Callable[[], Awaitable[object]]
    context: Context = field(default_factory=Context)
    before: Callable[[], None] | None = None


class Timing:
    """How long the calls of one subject took."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rounds: list[list[int]] = []
        """Nanoseconds."""

    @property
    def p50(self) -> float:
        """Median, microseconds."""
        return self.quantile(0.5)

    def quantile(self, share: float) -> float:
        """The time, in microseconds, that *share* of the calls stay below."""
        ordered = sorted(each for taken in self.rounds for each in taken)
        return ordered[int(len(ordered) * share)] / 1e3


class Pair(NamedTuple):
    """A subject, and the baseline that it took turns with."""

    baseline: Timing
    timing: Timing

    def ratios(self) -> list[float]:
        """Return the ratio of medians in each round, lowest first."""
        rounds = zip(self.timing.rounds, self.baseline.rounds, strict=True)
        return sorted(statistics.median(mine) / statistics.median(base) for mine, base in rounds)


def take_turns(baseline: Subject, other: Subject, calls: int, *, stretch: int = STRETCH) -> Pair:
    """Call *baseline* and *other*, each *calls* times a round, taking turns after *stretch* calls."""
    pair = Pair(Timing(baseline.name), Timing(other.name))
    clock = time.perf_counter_ns
    for _ in range(1 + ROUNDS):
        taken: tuple[list[int], list[int]] = ([], [])
        gc.collect()
        for turn in range(max(1, calls // stretch)):
            for subject, times in _in_order((baseline, other), taken, turn):
                if subject.before is not None:
                    subject.before()
                run, call = subject.context.run, subject.call
                for _ in range(stretch):
                    start = clock()
                    run(call)
                    times.append(clock() - start)
        _keep(pair, taken)
    return _without_warm_up(pair)


async def atake_turns(
    baseline: AsyncSubject, other: AsyncSubject, calls: int, *, stretch: int = STRETCH
) -> Pair:
    """The async twin of :func:`take_turns`. Each subject lives in one task: a task per call would be timed too."""
    pair = Pair(Timing(baseline.name), Timing(other.name))
    clock = time.perf_counter_ns
    asked: tuple[asyncio.Queue[list[int]], asyncio.Queue[list[int]]] = (asyncio.Queue(), asyncio.Queue())
    answered: asyncio.Queue[None] = asyncio.Queue()

    async def live(subject: AsyncSubject, questions: asyncio.Queue[list[int]]) -> None:
        while True:
            times = await questions.get()
            for _ in range(stretch):
                start = clock()
                await subject.call()
                times.append(clock() - start)
            answered.put_nowait(None)

    async def ask() -> None:
        for _ in range(1 + ROUNDS):
            taken: tuple[list[int], list[int]] = ([], [])
            gc.collect()
            for turn in range(max(1, calls // stretch)):
                sheets = list(zip(asked, taken, strict=True))
                for subject, (questions, times) in _in_order((baseline, other), sheets, turn):
                    if subject.before is not None:
                        subject.before()
                    questions.put_nowait(times)
                    await answered.get()
            _keep(pair, taken)

    lives = [
        asyncio.create_task(live(subject, questions), context=subject.context)
        for subject, questions in zip((baseline, other), asked, strict=True)
    ]
    asking = asyncio.create_task(ask())
    done, _ = await asyncio.wait([asking, *lives], return_when=asyncio.FIRST_COMPLETED)
    for task in (asking, *lives):
        task.cancel()
    await asyncio.gather(asking, *lives, return_exceptions=True)
    for task in done:
        task.result()
    return _without_warm_up(pair)


def processor_time(subject: Subject, calls: int, settle: Callable[[], object]) -> float:
    """Return microseconds of processor time per call in all threads; *settle* waits for what goes on behind."""
    settle()
    start = time.process_time()
    for _ in range(calls):
        subject.context.run(subject.call)
    settle()
    return (time.process_time() - start) / calls * 1e6


def _in_order(subjects: Sequence[_S], sheets: Sequence[_T], turn: int) -> list[tuple[_S, _T]]:
    # Who goes first changes from turn to turn.
    order = list(zip(subjects, sheets, strict=True))
    return order if turn % 2 else order[::-1]


def _keep(pair: Pair, taken: tuple[list[int], list[int]]) -> None:
    for timing, times in zip(pair, taken, strict=True):
        timing.rounds.append(times)


def _without_warm_up(pair: Pair) -> Pair:
    for timing in pair:
        del timing.rounds[0]
    return pair
