"""The way into the audit log: callers queue records, and a thread of its own makes them durable.

Rules:

1. ``append`` never waits for the disk. What costs time (JSON, hashes, SQL) happens on the writer thread
   (:mod:`zt_agents.audit.writer`), and who has to know that a record is durable waits for its receipt
   (:mod:`zt_agents.audit.receipts`).
2. At most *capacity* records wait for a log that cannot be written; then ``append`` refuses.
3. ``check`` raises from the first failed batch until a later one succeeds, and while the disk hangs.
4. No connection crosses a fork: it is closed before, and both sides open their own. A child starts with an
   empty queue, since the parent writes what the parent queued.

What a process loses when it is killed: records nobody waited for, of the last 10 ms and the commit under way.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import sys
import threading
import time
import weakref
from types import TracebackType
from typing import Self

from zt_agents.audit.content import Content, ContentStore
from zt_agents.audit.receipts import Receipt
from zt_agents.audit.records import AuditRecord
from zt_agents.audit.sink import AuditSink
from zt_agents.audit.writer import Writer
from zt_agents.errors import AuditWriteError

_STALLED_AFTER = 2.0
_FAREWELL = 5.0

_logger = logging.getLogger("zt_agents.audit")


class AuditLog:
    """Appends records to a sink. One per process and log; safe to use from any thread.

    It does not read, prove or filter records, and it never drops one without saying so to somebody.
    """

    def __init__(self, sink: AuditSink, *, contents: ContentStore | None = None, capacity: int = 100_000) -> None:
        self._writer = Writer(sink, contents)
        self._capacity = capacity
        _logs.add(self)

    @property
    def sink(self) -> AuditSink:
        """Where the records go."""
        return self._writer.sink

    def append(self, record: AuditRecord, content: Content | None = None, *, awaited: bool = False) -> Receipt:
        """Queue *record*, and *content* that it commits to, and return at once.

        *awaited* says that somebody is about to wait for it: the writer then need not be woken a second time.

        Raises:
            AuditWriteError: the log is closed, or *capacity* records already wait for a log that cannot be
            written.
        """
        writer = self._writer
        if writer.thread is None or writer.queue.qsize() + len(writer.kept) >= self._capacity:
            self._start_or_refuse()
        receipt = Receipt(writer, record, content)
        if awaited:
            receipt.expect()
        writer.queue.put(receipt)
        if awaited:  # only now: a ring before it could be cleared before it is seen
            writer.bell.ring()
        if writer.thread is None:  # closed meanwhile: the record may have come too late to be written or counted
            raise AuditWriteError("The audit log is closed.")
        return receipt

    def check(self) -> None:
        """Raise :class:`AuditWriteError` while the log cannot be written. Ask before each low-tier call."""
        writer = self._writer
        failure = writer.failure
        if failure is not None:
            raise AuditWriteError(failure.message, hint=failure.hint, details=failure.details) from failure
        since = writer.busy_since
        if since is not None and time.monotonic() - since > _STALLED_AFTER:
            raise AuditWriteError(
                f"The audit log has been waiting for its store for more than {_STALLED_AFTER:g} s.",
                hint="The disk hangs or another process holds the log.",
            )

    def flush(self, timeout: float) -> None:
        """Block until everything queued so far is durable, or raise :class:`AuditWriteError`."""
        writer = self._writer
        if writer.thread is not None:
            marker = Receipt(writer, None)
            writer.queue.put(marker)
            marker.wait(timeout)

    def close(self, timeout: float = _FAREWELL) -> None:
        """Write what is queued, stop the writer and close the sink. Closing twice does nothing.

        Raises:
            AuditWriteError: some records could not be written in *timeout* seconds; the message says how
            many.
        """
        writer = self._writer
        with writer.mutex:
            if writer.closed:
                return
            writer.closed = True
        thread, failure = writer.thread, None
        if thread is not None:
            try:
                self.flush(timeout)
            except AuditWriteError as error:
                failure = error
            writer.stopping = True
            writer.bell.ring()
            writer.queue.put(Receipt(writer, None))
            thread.join(timeout)
            writer.thread = None  # from here on, append refuses
            if thread.is_alive():
                raise AuditWriteError(
                    "The audit log's writer is stuck; the last records may be unwritten."
                ) from failure
        left = writer.abandon(AuditWriteError("The audit log is closed."))
        lost = sum(receipt.record is not None for receipt in left)
        self.sink.close()
        if lost:
            raise AuditWriteError(
                f"The audit log was closed with {lost} record{'s' if lost != 1 else ''} unwritten.",
                hint=failure.message if failure else None,
            ) from failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start_or_refuse(self) -> None:
        writer = self._writer
        with writer.mutex:
            if writer.closed:
                raise AuditWriteError("The audit log is closed.")
            if writer.thread is None:
                thread = threading.Thread(target=self._run, name="zt-agents-audit", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    raise AuditWriteError("The audit log's writer could not be started.") from error
                writer.thread = thread
                _close_with_child_process()
        if writer.queue.qsize() + len(writer.kept) >= self._capacity:
            self.check()
            raise AuditWriteError(
                f"{self._capacity} audit records wait to be written.",
                hint="The disk is slower than the callers.",
            )

    def _run(self) -> None:
        self._writer.run()  # by way of the log: its thread keeps it alive, to be closed when the process ends


_logs: weakref.WeakSet[AuditLog] = weakref.WeakSet()
_forking = threading.Lock()
_quiet: list[AuditLog] = []
"""The logs that are held still for the fork under way."""


def _before_fork() -> None:
    _forking.acquire()
    for log in list(_logs):
        log._writer.io.acquire()
        _quiet.append(log)
        log.sink.release()


def _after_fork_in_parent() -> None:
    for log in _quiet:
        log._writer.io.release()
    _quiet.clear()
    _forking.release()


def _after_fork_in_child() -> None:
    global _forking
    _forking = threading.Lock()
    for log in _quiet:
        log._writer.reset()
    _quiet.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )


@atexit.register
def _close_all() -> None:
    for log in list(_logs):
        try:
            log.close()
        except AuditWriteError as error:
            _logger.critical("%s", error)


def _close_with_child_process() -> None:
    util = sys.modules.get("multiprocessing.util")
    if util is not None and multiprocessing.parent_process() is not None:
        util.Finalize(None, _close_all, exitpriority=0)  # children of multiprocessing skip atexit
