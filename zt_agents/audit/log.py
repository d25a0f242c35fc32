"""The way into the audit log: callers queue records, one writer thread per process makes batches durable.

Rules:

1. ``append`` never waits for the disk. What costs time (JSON, hashes, SQL) happens on the writer thread.
2. A record somebody waits for is committed at once, together with all others that are queued. A record
   nobody waits for is committed within about 10 ms: the writer lets some gather, so that it seldom takes
   the interpreter from callers.
3. ``wait`` returns only when the record is durable. Otherwise it raises: the call must be denied.
4. A batch that fails is split. What somebody waits for fails now and is *never* tried again, since its call
   is denied. The rest is kept, in order, and tried again until it succeeds, at most *capacity* records;
   then ``append`` refuses.
5. ``check`` raises from the first failed batch until a later one succeeds. With nothing to write the writer
   probes the log, so that it recovers by itself.
6. A waiter that gives up takes its record back out of the queue. When the commit is already under way that
   cannot be done: such a record may turn up although its call was denied. The log then holds a decision
   without an outcome, never an outcome without a decision: it may say too much, not too little.
7. What is kept of a call (:mod:`zt_agents.audit.content`) is durable before the record that commits to it. If it cannot
   be, nor can the record.
8. No connection crosses a fork: it is closed before, and both sides open their own. A child starts with an
   empty queue, since the parent writes what the parent queued.

What a process loses when it is killed: records nobody waited for, of the last 10 ms and the commit under way.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import multiprocessing
import os
import queue
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from types import TracebackType
from typing import Self

from zt_agents.audit.content import Content, ContentStore
from zt_agents.audit.records import AuditRecord
from zt_agents.audit.sink import AuditSink
from zt_agents.errors import AuditWriteError, ZeroTrustError

_LINGER = 0.01
_RETRY_AFTER = 0.25
_STALLED_AFTER = 2.0
_MAX_BATCH = 1024
_FAREWELL = 5.0

_logger = logging.getLogger("zt_agents.audit")

_Wake = Callable[[], object]


class _Phase(Enum):
    QUEUED = 0
    TAKEN = 1
    WITHDRAWN = 2


_QUEUED = _Phase.QUEUED  # a global is found faster than an attribute of an Enum


class Receipt:
    """The promise that a record will be durable. Costs next to nothing unless somebody waits for it."""

    __slots__ = ("_content", "_gate", "_log", "_outcome", "_phase", "_record", "_wakes")

    def __init__(self, log: AuditLog, record: AuditRecord | None, content: Content | None = None) -> None:
        self._log = log
        self._record = record
        self._content = content
        self._outcome: int | AuditWriteError | None = None
        self._phase = _QUEUED
        self._gate: threading.Lock | None = None
        """Held until there is an outcome, if somebody was expected to wait."""
        self._wakes: list[_Wake] | None = None

    def _expect(self) -> None:
        """Prepare for :meth:`wait`, as long as the receipt is nobody else's: then it takes no lock."""
        self._gate = gate = threading.Lock()
        gate.acquire()
        self._wakes = [gate.release]

    def wait(self, timeout: float) -> int:
        """Block until the record is durable and return its number.

        Raises:
            AuditWriteError: it is not durable after *timeout* seconds, or cannot become so. Deny the call.
        """
        if self._outcome is None:
            gate = self._gate
            if gate is None:
                gate = threading.Lock()
                gate.acquire()
                self._on_outcome(gate.release)
            if gate.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX)):
                gate.release()  # for whoever else waits
        return self._conclude(timeout)

    async def await_durable(self, timeout: float) -> int:
        """Do what :meth:`wait` does without blocking the event loop or occupying a thread.

        A cancelled await leaves the record in the queue: the decision was made.
        """
        if self._outcome is None:
            loop = asyncio.get_running_loop()
            done: asyncio.Future[None] = loop.create_future()

            def finish() -> None:
                if not done.done():
                    done.set_result(None)

            self._on_outcome(lambda: loop.call_soon_threadsafe(finish))
            await asyncio.wait((done,), timeout=max(timeout, 0.0))
        return self._conclude(timeout)

    def _on_outcome(self, wake: _Wake) -> None:
        log = self._log
        with log._mutex:
            if waiting := self._outcome is None:
                self._wakes = [*(self._wakes or ()), wake]
        if not waiting:
            wake()
        else:
            log._bell.ring()

    def _conclude(self, timeout: float) -> int:
        if (outcome := self._outcome) is None:
            with self._log._mutex:
                outcome = self._outcome
                if outcome is None and self._phase is _Phase.QUEUED:
                    self._phase = _Phase.WITHDRAWN
        if isinstance(outcome, int):
            return outcome
        if outcome is None:
            raise AuditWriteError(
                f"The audit record was not durable after {timeout:g} s.",
                hint="The disk is slow or another process holds the log.",
            )
        raise AuditWriteError(outcome.message, hint=outcome.hint, details=outcome.details) from outcome


class _Bell:
    """Wakes the writer: a ``threading.Event`` for one listener, at a fraction of the cost.

    It is cleared before the queue is read, so no record is missed that was queued before a ring.
    """

    __slots__ = ("_rings", "_rung")

    def __init__(self) -> None:
        self._rung = False
        self._rings: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self) -> None:
        if not self._rung:
            self._rung = True
            self._rings.put(None)

    def wait(self, timeout: float) -> None:
        if not self._rung:
            with contextlib.suppress(queue.Empty):
                self._rings.get(timeout=timeout)

    def clear(self) -> None:
        self._rung = False
        for _ in range(self._rings.qsize()):
            self._rings.get()


class AuditLog:
    """Appends records to a sink. One per process and log; safe to use from any thread.

    It does not read, prove or filter records, and it never drops one without saying so to somebody.
    """

    def __init__(self, sink: AuditSink, *, contents: ContentStore | None = None, capacity: int = 100_000) -> None:
        self.sink = sink
        self._contents = contents
        self._capacity = capacity
        self._closed = False
        self._io = threading.Lock()
        """Held while the sink is in use; a fork holds it too."""
        self._reset()
        _logs.add(self)

    def _reset(self) -> None:
        self._queue: queue.SimpleQueue[Receipt] = queue.SimpleQueue()
        self._kept: deque[Receipt] = deque()
        """Taken from the queue and not yet written. Belongs to the writer."""
        self._taken: list[Receipt] = []
        """What is being written. Likewise."""
        self._mutex = threading.Lock()
        """Guards phases, outcomes and who waits."""
        self._bell = _Bell()
        self._company = 0
        """How many waited for the last commit."""
        self._failure: AuditWriteError | None = None
        self._busy_since: float | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None

    # The calling thread

    def append(self, record: AuditRecord, content: Content | None = None, *, awaited: bool = False) -> Receipt:
        """Queue *record*, and *content* that it commits to, and return at once.

        *awaited* says that somebody is about to wait for it: the writer then need not be woken a second time.

        Raises:
            AuditWriteError: the log is closed, or *capacity* records already wait for a log that cannot be
            written.
        """
        if self._thread is None or self._queue.qsize() + len(self._kept) >= self._capacity:
            self._start_or_refuse()
        receipt = Receipt(self, record, content)
        if awaited:
            receipt._expect()
        self._queue.put(receipt)
        if awaited:  # only now: a ring before it could be cleared before it is seen
            self._bell.ring()
        if self._thread is None:  # closed meanwhile: the record may have come too late to be written or counted
            raise AuditWriteError("The audit log is closed.")
        return receipt

    def check(self) -> None:
        """Raise :class:`AuditWriteError` while the log cannot be written. Ask before each low-tier call."""
        if self._failure is not None:
            failure = self._failure
            raise AuditWriteError(failure.message, hint=failure.hint, details=failure.details) from failure
        since = self._busy_since
        if since is not None and time.monotonic() - since > _STALLED_AFTER:
            raise AuditWriteError(
                f"The audit log has been waiting for its store for more than {_STALLED_AFTER:g} s.",
                hint="The disk hangs or another process holds the log.",
            )

    def flush(self, timeout: float) -> None:
        """Block until everything queued so far is durable, or raise :class:`AuditWriteError`."""
        if self._thread is not None:
            marker = Receipt(self, None)
            self._queue.put(marker)
            marker.wait(timeout)

    def close(self, timeout: float = _FAREWELL) -> None:
        """Write what is queued, stop the writer and close the sink. Closing twice does nothing.

        Raises:
            AuditWriteError: some records could not be written in *timeout* seconds; the message says how
            many.
        """
        with self._mutex:
            if self._closed:
                return
            self._closed = True
        thread, failure = self._thread, None
        if thread is not None:
            try:
                self.flush(timeout)
            except AuditWriteError as error:
                failure = error
            self._stopping = True
            self._bell.ring()
            self._queue.put(Receipt(self, None))
            thread.join(timeout)
            self._thread = None  # from here on, append refuses
            if thread.is_alive():
                raise AuditWriteError(
                    "The audit log's writer is stuck; the last records may be unwritten."
                ) from failure
        left = self._abandon(AuditWriteError("The audit log is closed."))
        lost = sum(receipt._record is not None for receipt in left)
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
        with self._mutex:
            if self._closed:
                raise AuditWriteError("The audit log is closed.")
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="zt-agents-audit", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    raise AuditWriteError("The audit log's writer could not be started.") from error
                self._thread = thread
                _close_with_child_process()
        if self._queue.qsize() + len(self._kept) >= self._capacity:
            self.check()
            raise AuditWriteError(
                f"{self._capacity} audit records wait to be written.",
                hint="The disk is slower than the callers.",
            )

    # The writer thread

    def _run(self) -> None:
        try:
            while self._step():
                pass
        except BaseException:
            stopped = AuditWriteError("The audit log's writer stopped.", hint="Restart the process.")
            self._failure = stopped
            with self._mutex:
                self._closed = True
                self._thread = None  # from here on, append refuses
            if lost := len(self._abandon(stopped)):
                _logger.critical("The audit log's writer stopped; records that may be unwritten: %d.", lost)
            raise

    def _step(self) -> bool:
        if self._failure is not None:
            self._bell.wait(_RETRY_AFTER)
        elif not self._kept:
            first = self._queue.get()
            self._kept.append(first)
            if first._gate is None:
                self._bell.wait(_LINGER)
        self._bell.clear()
        self._collect()
        if len(self._kept) < self._company:
            self._gather()
        self._taken = self._take()
        self._write(self._taken)
        self._taken = []
        return not self._stopping or (self._failure is None and bool(self._kept or self._queue.qsize()))

    def _gather(self) -> None:
        """Let those who waited for the last commit queue their next records, as long as they come: one commit does."""
        before = -1
        while before < len(self._kept) < self._company:
            before = len(self._kept)
            time.sleep(0)  # lets others have the interpreter
            self._collect()

    def _collect(self) -> None:
        for _ in range(self._queue.qsize()):
            self._kept.append(self._queue.get_nowait())

    def _take(self) -> list[Receipt]:
        batch: list[Receipt] = []
        with self._mutex:
            while self._kept and len(batch) < _MAX_BATCH:
                receipt = self._kept.popleft()
                if receipt._phase is _QUEUED:
                    receipt._phase = _Phase.TAKEN
                    batch.append(receipt)
        return batch

    def _write(self, batch: list[Receipt]) -> None:
        records = [receipt._record for receipt in batch if receipt._record is not None]
        self._busy_since = time.monotonic()
        try:
            with self._io:
                contents = [receipt._content for receipt in batch if receipt._content is not None]
                if contents and self._contents is not None:
                    self._contents.keep(contents)
                seqs = self.sink.append(records) if records or self._failure else ()
        except Exception as error:  # noqa: BLE001 - whatever failed, nothing was promised and callers must be told
            self._fail(batch, error)
        else:
            self._succeed(batch, seqs)
        finally:
            self._busy_since = None

    def _succeed(self, batch: list[Receipt], seqs: Iterable[int]) -> None:
        wakes: list[_Wake] = []
        numbers = iter(seqs)
        with self._mutex:
            self._failure = None
            for receipt in batch:
                receipt._outcome = 0 if receipt._record is None else next(numbers)
                if receipt._wakes:
                    wakes += receipt._wakes
        self._company = len(wakes)
        _call(wakes)

    def _fail(self, batch: list[Receipt], error: Exception) -> None:
        if isinstance(error, ZeroTrustError):
            failure = AuditWriteError(error.message, hint=error.hint, details=error.details)
        else:
            failure = AuditWriteError(f"The audit log could not be written: {type(error).__name__}.")
        failure.__cause__ = error
        self._collect()
        wakes: list[_Wake] = []
        with self._mutex:
            self._failure = failure
            undecided = [*batch, *self._kept]
            self._kept.clear()
            for receipt in undecided:
                if receipt._wakes:
                    receipt._outcome = failure
                    wakes += receipt._wakes
                elif receipt._phase is not _Phase.WITHDRAWN:
                    receipt._phase = _QUEUED
                    self._kept.append(receipt)
        _call(wakes)

    # The end of a process, and forks

    def _abandon(self, why: AuditWriteError) -> list[Receipt]:
        """Tell whoever waits that nothing more is written, and return what has no outcome otherwise."""
        self._collect()
        with self._mutex:
            unwoken = [receipt for receipt in (*self._taken, *self._kept) if receipt._phase is not _Phase.WITHDRAWN]
            left = [receipt for receipt in unwoken if receipt._outcome is None]
            self._kept.clear()
            for receipt in left:
                receipt._outcome = why
            wakes = [wake for receipt in unwoken for wake in receipt._wakes or ()]
        _call(wakes)
        return left


def _call(wakes: Iterable[_Wake]) -> None:
    for wake in wakes:
        try:
            wake()
        except RuntimeError:  # the waiter's event loop is closed: nobody waits any more
            continue


_logs: weakref.WeakSet[AuditLog] = weakref.WeakSet()
"""A log that was written to is kept alive by its writer thread."""
_forking = threading.Lock()
_quiet: list[AuditLog] = []
"""The logs that are held still for the fork under way."""


def _before_fork() -> None:
    _forking.acquire()
    for log in list(_logs):
        log._io.acquire()
        _quiet.append(log)
        log.sink.release()


def _after_fork_in_parent() -> None:
    for log in _quiet:
        log._io.release()
    _quiet.clear()
    _forking.release()


def _after_fork_in_child() -> None:
    global _forking
    _forking = threading.Lock()
    for log in _quiet:
        log._io = threading.Lock()
        log._reset()
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
