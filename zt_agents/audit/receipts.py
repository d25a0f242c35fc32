"""What whoever appends a record holds in return: a promise that it will be durable, and the means to wait for that.

Rules:

1. ``wait`` returns only when the record is durable. Otherwise it raises: the call must be denied.
2. A waiter that gives up takes its record back out of the queue. When the commit is already under way that
   cannot be done: such a record may turn up although its call was denied. The log then holds a decision
   without an outcome, never an outcome without a decision: it may say too much, not too little.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from zt_agents.audit.content import Content
from zt_agents.audit.records import AuditRecord
from zt_agents.errors import AuditWriteError

if TYPE_CHECKING:
    from zt_agents.audit.writer import Writer

Wake = Callable[[], object]


class Phase(Enum):
    """How far a record has come: waiting, in the hands of the writer, or taken back by whoever waited."""

    QUEUED = 0
    TAKEN = 1
    WITHDRAWN = 2


QUEUED = Phase.QUEUED  # a global is found faster than an attribute of an Enum


class Receipt:
    """The promise that a record will be durable. Costs next to nothing unless somebody waits for it.

    Whoever appends may :meth:`wait`, or not; everything else is the writer's.
    """

    __slots__ = ("_writer", "content", "gate", "outcome", "phase", "record", "wakes")

    def __init__(self, writer: Writer, record: AuditRecord | None, content: Content | None = None) -> None:
        self._writer = writer
        self.record = record
        self.content = content
        self.outcome: int | AuditWriteError | None = None
        self.phase = QUEUED
        self.gate: threading.Lock | None = None
        """Held until there is an outcome, if somebody was expected to wait."""
        self.wakes: list[Wake] | None = None

    def expect(self) -> None:
        """Prepare for :meth:`wait`, as long as the receipt is nobody else's: then it takes no lock."""
        self.gate = gate = threading.Lock()
        gate.acquire()
        self.wakes = [gate.release]

    def wait(self, timeout: float) -> int:
        """Block until the record is durable and return its number.

        Raises:
            AuditWriteError: it is not durable after *timeout* seconds, or cannot become so. Deny the call.
        """
        if self.outcome is None:
            gate = self.gate
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
        if self.outcome is None:
            loop = asyncio.get_running_loop()
            done: asyncio.Future[None] = loop.create_future()

            def finish() -> None:
                if not done.done():
                    done.set_result(None)

            self._on_outcome(lambda: loop.call_soon_threadsafe(finish))
            await asyncio.wait((done,), timeout=max(timeout, 0.0))
        return self._conclude(timeout)

    def _on_outcome(self, wake: Wake) -> None:
        writer = self._writer
        with writer.mutex:
            if waiting := self.outcome is None:
                self.wakes = [*(self.wakes or ()), wake]
        if not waiting:
            wake()
        else:
            writer.bell.ring()

    def _conclude(self, timeout: float) -> int:
        if (outcome := self.outcome) is None:
            with self._writer.mutex:
                outcome = self.outcome
                if outcome is None and self.phase is Phase.QUEUED:
                    self.phase = Phase.WITHDRAWN
        if isinstance(outcome, int):
            return outcome
        if outcome is None:
            raise AuditWriteError(
                f"The audit record was not durable after {timeout:g} s.",
                hint="The disk is slow or another process holds the log.",
            )
        raise AuditWriteError(outcome.message, hint=outcome.hint, details=outcome.details) from outcome
