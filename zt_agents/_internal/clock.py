"""The one source of time. Everything that decides takes the time as a value; only shells read a clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

Clock = Callable[[], float]
"""Returns seconds since the Unix epoch, UTC."""

system_clock: Clock = time.time


def as_datetime(seconds: float) -> datetime:
    """Return *seconds* since the epoch as an aware datetime in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def rfc3339(seconds: float) -> str:
    """Return *seconds* since the epoch in RFC 3339 form with microseconds, such as ``2026-01-31T08:00:00.000000Z``."""
    return as_datetime(seconds).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@contextmanager
def alarm(seconds: float, ring: Callable[[], object]) -> Iterator[None]:
    """Call *ring*, in another thread, if the block takes longer than so many seconds."""
    timer = threading.Timer(seconds, ring)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
