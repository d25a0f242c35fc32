"""The writer of an audit log: one thread per process, which makes what callers queued durable, in batches.

Rules:

1. A record somebody waits for is committed at once, together with all others that are queued. A record
   nobody waits for is committed within about 10 ms: the writer lets some gather, so that it seldom takes
   the interpreter from callers.
2. A batch that fails is split. What somebody waits for fails now and is *never* tried again, since its call
   is denied. The rest is kept, in order, and tried again until it succeeds.
3. From the first failed batch until a later one succeeds, the failure stands for all to see. With nothing to write
   the writer probes the log, so that it recovers by itself.
4. What is kept of a call (:mod:`zt_agents.audit.content`) is durable before the record that commits to it. If it cannot
   be, nor can the record.
5. A writer that stops tells all who wait, and how many records may be lost.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable

from zt_agents.audit.content import ContentStore
from zt_agents.audit.receipts import QUEUED, Phase, Receipt, Wake
from zt_agents.audit.sink import AuditSink
from zt_agents.errors import AuditWriteError, ZeroTrustError

_LINGER = 0.01
_RETRY_AFTER = 0.25
_MAX_BATCH = 1024

_logger = logging.getLogger("zt_agents.audit")


class Bell:
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


class Writer:
    """The queue of one log and the thread that empties it. Its fields are the log's and its receipts'."""

    def __init__(self, sink: AuditSink, contents: ContentStore | None) -> None:
        self.sink = sink
        self._contents = contents
        self.closed = False
        self.reset()

    def reset(self) -> None:
        """Begin with an empty queue and no thread: as new, and in a child after a fork."""
        self.queue: queue.SimpleQueue[Receipt] = queue.SimpleQueue()
        self.kept: deque[Receipt] = deque()
        """Taken from the queue and not yet written. Belongs to the writer."""
        self._taken: list[Receipt] = []
        """What is being written. Likewise."""
        self.io = threading.Lock()
        """Held while the sink is in use; a fork holds it too."""
        self.mutex = threading.Lock()
        """Guards phases, outcomes and who waits."""
        self.bell = Bell()
        self._company = 0
        """How many waited for the last commit."""
        self.failure: AuditWriteError | None = None
        self.busy_since: float | None = None
        self.stopping = False
        self.thread: threading.Thread | None = None

    def run(self) -> None:
        """Write until the log is closed. The body of the writer thread."""
        try:
            while self._step():
                pass
        except BaseException:  # nobody sees this thread die: whoever waits is told, and append refuses from here on
            stopped = AuditWriteError("The audit log's writer stopped.", hint="Restart the process.")
            self.failure = stopped
            with self.mutex:
                self.closed = True
                self.thread = None  # from here on, append refuses
            if lost := len(self.abandon(stopped)):
                _logger.critical("The audit log's writer stopped; records that may be unwritten: %d.", lost)
            raise

    def _step(self) -> bool:
        if self.failure is not None:
            self.bell.wait(_RETRY_AFTER)
        elif not self.kept:
            first = self.queue.get()
            self.kept.append(first)
            if first.gate is None:
                self.bell.wait(_LINGER)
        self.bell.clear()
        self._collect()
        if len(self.kept) < self._company:
            self._gather()
        self._taken = self._take()
        self._write(self._taken)
        self._taken = []
        return not self.stopping or (self.failure is None and bool(self.kept or self.queue.qsize()))

    def _gather(self) -> None:
        """Let those who waited for the last commit queue their next records, as long as they come: one commit does."""
        before = -1
        while before < len(self.kept) < self._company:
            before = len(self.kept)
            time.sleep(0)  # lets others have the interpreter
            self._collect()

    def _collect(self) -> None:
        for _ in range(self.queue.qsize()):
            self.kept.append(self.queue.get_nowait())

    def _take(self) -> list[Receipt]:
        batch: list[Receipt] = []
        with self.mutex:
            while self.kept and len(batch) < _MAX_BATCH:
                receipt = self.kept.popleft()
                if receipt.phase is QUEUED:
                    receipt.phase = Phase.TAKEN
                    batch.append(receipt)
        return batch

    def _write(self, batch: list[Receipt]) -> None:
        records = [receipt.record for receipt in batch if receipt.record is not None]
        self.busy_since = time.monotonic()
        try:
            with self.io:
                contents = [receipt.content for receipt in batch if receipt.content is not None]
                if contents and self._contents is not None:
                    self._contents.keep(contents)
                seqs = self.sink.append(records) if records or self.failure else ()
        except Exception as error:  # noqa: BLE001 - whatever failed, nothing was promised and callers must be told
            self._fail(batch, error)
        else:
            self._succeed(batch, seqs)
        finally:
            self.busy_since = None

    def _succeed(self, batch: list[Receipt], seqs: Iterable[int]) -> None:
        wakes: list[Wake] = []
        numbers = iter(seqs)
        with self.mutex:
            self.failure = None
            for receipt in batch:
                receipt.outcome = 0 if receipt.record is None else next(numbers)
                if receipt.wakes:
                    wakes += receipt.wakes
        self._company = len(wakes)
        _call(wakes)

    def _fail(self, batch: list[Receipt], error: Exception) -> None:
        if isinstance(error, ZeroTrustError):
            failure = AuditWriteError(error.message, hint=error.hint, details=error.details)
        else:
            failure = AuditWriteError(f"The audit log could not be written: {type(error).__name__}.")
        failure.__cause__ = error
        self._collect()
        wakes: list[Wake] = []
        with self.mutex:
            self.failure = failure
            undecided = [*batch, *self.kept]
            self.kept.clear()
            for receipt in undecided:
                if receipt.wakes:
                    receipt.outcome = failure
                    wakes += receipt.wakes
                elif receipt.phase is not Phase.WITHDRAWN:
                    receipt.phase = QUEUED
                    self.kept.append(receipt)
        _call(wakes)

    def abandon(self, why: AuditWriteError) -> list[Receipt]:
        """Tell whoever waits that nothing more is written, and return what has no outcome otherwise."""
        self._collect()
        with self.mutex:
            unwoken = [receipt for receipt in (*self._taken, *self.kept) if receipt.phase is not Phase.WITHDRAWN]
            left = [receipt for receipt in unwoken if receipt.outcome is None]
            self.kept.clear()
            for receipt in left:
                receipt.outcome = why
            wakes = [wake for receipt in unwoken for wake in receipt.wakes or ()]
        _call(wakes)
        return left


def _call(wakes: Iterable[Wake]) -> None:
    for wake in wakes:
        try:
            wake()
        except RuntimeError:  # the waiter's event loop is closed: nobody waits any more
            continue
