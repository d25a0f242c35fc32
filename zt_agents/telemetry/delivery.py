"""Delivers spans without ever standing in a call's way, and counts those that it loses.

Rules:

1. A call hands its span to a queue and goes on. A full queue loses its oldest span.
2. A span that was lost is counted: pushed out of a full queue, or part of a batch that the exporter failed to send.
3. One line is logged per outage, at most one a minute; what the exporter logs about each attempt is kept back.
4. The interpreter's exit waits for the last spans at most :data:`EXIT_SECONDS`.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

EXIT_SECONDS = 3.0
_QUIET_SECONDS = 60.0
_QUEUE_SIZE = 2048
"""The SDK's default."""

_logger = logging.getLogger("zt_agents.telemetry")
_muted = threading.local()


class Losses:
    """Spans handed over, sent and lost."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._warned = float("-inf")
        self.forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin_again)

    def forget(self) -> None:
        self._ended = self._taken = self._failed = self._pushed_out = 0

    def _begin_again(self) -> None:
        self._lock = threading.Lock()  # another thread may have held it; the SDK empties the child's queue
        self.forget()

    @property
    def count(self) -> int:
        """Spans lost so far."""
        return self._failed + self._pushed_out

    def ended(self) -> bool:
        """Count a span on its way into the queue. Returns whether the queue has ever been full."""
        with self._lock:
            self._ended += 1
            # What was pushed out is never taken. A batch between the queue and the exporter looks like a loss, so that
            # this may be too many by one batch.
            lost = self._ended - self._taken - self._capacity
            full = lost > self._pushed_out
            self._pushed_out = max(self._pushed_out, lost)
        if full:
            self._warn("the queue is full")
        return self._pushed_out > 0

    def taken(self, spans: int) -> None:
        """Count spans taken out of the queue."""
        with self._lock:
            self._taken += spans

    def failed(self, spans: int) -> None:
        """Count spans that could not be sent."""
        with self._lock:
            self._failed += spans
        self._warn("the exporter cannot deliver them")

    def _warn(self, why: str) -> None:
        now = time.monotonic()
        with self._lock:
            if now < self._warned + _QUIET_SECONDS:
                return
            self._warned = now
        _logger.warning("Spans are being lost: %s (%d so far). Calls and the audit log go on.", why, self.count)


class CountingExporter(SpanExporter):
    """Sends by another exporter, and counts what that one fails to send."""

    def __init__(self, exporter: SpanExporter, losses: Losses) -> None:
        self._exporter = exporter
        self._losses = losses
        _mute_loggers_of(exporter)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._losses.taken(len(spans))
        try:
            with _quietly():
                result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001 - whatever a collector or an exporter does: counted, and said once
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            self._losses.failed(len(spans))
        return result

    def shutdown(self) -> None:
        with _quietly():
            self._exporter.shutdown()


class CountingProcessor(BatchSpanProcessor):
    """The SDK's queue, and a count of what it pushes out."""

    def __init__(self, exporter: SpanExporter) -> None:
        size = os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE", "")
        capacity = int(size) if size.strip() else _QUEUE_SIZE
        self.losses = Losses(capacity)
        super().__init__(CountingExporter(exporter, self.losses), max_queue_size=capacity)

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled and self.losses.ended():
            with _quietly():
                super().on_end(span)
        else:
            super().on_end(span)


class _KeepBack(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_muted, "on", False)


_keep_back = _KeepBack()


def _mute_loggers_of(exporter: SpanExporter) -> None:
    modules = {each.__module__ for each in type(exporter).__mro__ if each.__module__.startswith("opentelemetry.")}
    for name in {*modules, "opentelemetry.sdk._shared_internal", "opentelemetry.sdk.trace.export"}:
        logging.getLogger(name).addFilter(_keep_back)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep back what this thread logs about exporting; other exporters of the process are heard as before."""
    before = getattr(_muted, "on", False)
    _muted.on = True
    try:
        yield
    finally:
        _muted.on = before


def close_at_exit(shutdown: Callable[[], object]) -> None:
    """Call *shutdown* at the interpreter's exit, and wait for it no longer than :data:`EXIT_SECONDS`.

    Its thread is started now: at exit, newer interpreters start no more threads.
    """
    asked, done = threading.Event(), threading.Event()
    here = os.getpid()

    def wait() -> None:
        asked.wait()
        try:
            with _quietly():
                shutdown()
        finally:
            done.set()

    threading.Thread(target=wait, name="zt_agents-telemetry-exit", daemon=True).start()

    def leave() -> None:
        if os.getpid() == here:  # a forked child has no such thread
            asked.set()
            done.wait(EXIT_SECONDS)

    atexit.register(leave)
