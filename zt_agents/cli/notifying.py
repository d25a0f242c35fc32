"""Telling people of requests for approval: one watcher of the store, and one courier for each destination.

Rules:

1. At least once: a notice counts as delivered after its destination has acknowledged it, and what waits survives
   whatever becomes of this process. What is sent again has the id that it had.
2. Destinations do not wait for each other, and a notice that one of them chokes on does not hold up the next.
3. What is tried again is tried ever less often, with jitter, and until its request has ended for good.
4. Nobody is asked what no longer needs an answer.
"""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from zt_agents._internal.clock import Clock, system_clock
from zt_agents._internal.display import visible
from zt_agents.approvals import ApprovalRequest, ApprovalState, StoredApproval
from zt_agents.approvals.notices import Notice, NoticeEvent, escalates_at, notice
from zt_agents.cli.destinations import Delivery, Destination
from zt_agents.cli.display import say
from zt_agents.errors import StoreError
from zt_agents.stores.sqlite_notices import NewNotice, NoticeState, Pause, SqliteNoticeStore, WaitingNotice

_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
_LONGEST_PAUSE = 3600.0
"""Seconds for which anything is put off at most: what is put off for longer is so because the clock was set back."""
_PATIENCE = 20.0
"""Seconds for which a run that is to end waits for another attempt."""
_GRACE = 2.0
"""Seconds after its end in which a request may yet be settled by an answer that came in time."""
_KEPT = 3600.0
"""Seconds after the end of a request in which people are told what became of it."""
_TICK = 0.02
_PARTING = 15.0
"""Seconds that couriers have to finish when all is to end."""


class Requests(Protocol):
    """What is asked of a store of approvals, and noted there: that somebody was told."""

    def get(self, request_id: str) -> StoredApproval | None: ...

    def pending_ids(self, *, now: float | None = None) -> Sequence[str]: ...

    def notice(self, *request_ids: str, now: float) -> None: ...


class Notifier:
    """Tells *destinations* of each request that waits, and of what became of it."""

    def __init__(
        self,
        requests: Requests,
        notices: SqliteNoticeStore,
        destinations: Sequence[Destination],
        *,
        console: str = "",
        with_arguments: bool = False,
        clock: Clock = system_clock,
    ) -> None:
        self.requests = requests
        self.notices = notices
        self.clock = clock
        self._console, self._with_arguments = console, with_arguments
        self._couriers = [Courier(self, destination) for destination in destinations]
        self._stop = threading.Event()
        self._said: dict[str, str] = {}
        self._tidied, self._lost = -_KEPT, 0

    def run(self, *, every: float, once: bool) -> bool:
        """Tell of what there is, and unless *once* of what comes, looking *every* so many seconds, until interrupted.

        Returns whether everything that was to be told has been.

        Raises:
            StoreError: a store cannot be used at the start, or at the end.
        """
        try:
            self._look()
            for courier in self._couriers:
                courier.begin(once=once)
            while not self._stop.wait(_TICK if once else every):
                if not once:
                    with self.complaining("look"):
                        self._look()
                elif not any(courier.works for courier in self._couriers):
                    break
        except KeyboardInterrupt:
            pass
        self.end()
        until = time.monotonic() + _PARTING
        for courier in self._couriers:
            courier.join(max(0.0, until - time.monotonic()))
        for courier in self._couriers:
            if courier.fault is not None:
                raise courier.fault
        now, couriers = self.clock(), self._couriers
        return not self._lost and not any(each.refused or self.notices.is_late(each.name, now=now) for each in couriers)

    def end(self) -> None:
        """Have all couriers finish what they are doing, and stop."""
        self._stop.set()
        for courier in self._couriers:
            courier.news.set()

    @property
    def ending(self) -> bool:
        return self._stop.is_set()

    def told(self, request_id: str, event: NoticeEvent) -> Notice | None:
        """Return what is to be told, or None if there is nothing any more."""
        stored = self.requests.get(request_id)
        if stored is None:
            return None
        try:
            if stored.request is not None and stored.state is ApprovalState.PENDING:
                ran_out = stored.request.expires_at <= self.clock()
                if ran_out is (event is not NoticeEvent.SETTLED):
                    return None
            return notice(stored, event, console=self._console, with_arguments=self._with_arguments)
        except (AttributeError, TypeError, ValueError) as error:
            raise StoreError(f"The request for approval {request_id!r} is damaged.") from error

    @contextlib.contextmanager
    def complaining(self, who: str) -> Iterator[None]:
        """Say what is wrong with a store, once until it changes, and go on."""
        try:
            yield
        except StoreError as error:
            if self._said.get(who) != error.message:
                self._said[who] = error.message
                say(f"{error.message} It is tried again.", style="yellow", stderr=True)
        else:
            self._said.pop(who, None)

    def _look(self) -> None:
        """Note what is new in the store of approvals, and what is settled."""
        now = self.clock()
        # In this order: whatever is known here was pending, and is settled if it no longer is.
        known = {(request, destination): expires for request, destination, expires in self.notices.open()}
        waiting = self.requests.pending_ids(now=now)
        fresh: list[NewNotice] = []
        for request_id in waiting:
            missing = [each.name for each in self._couriers if (request_id, each.name) not in known]
            if missing:
                fresh += self._questions(request_id, missing)
        pending = set(waiting)
        over = [
            question
            for question, expires in known.items()
            if question[0] not in pending and not now - _GRACE < expires <= now
        ]
        if fresh:
            self.notices.add(fresh)
        if over:
            self.notices.settled(over)
        if fresh or over:
            for courier in self._couriers:
                courier.news.set()
        if time.monotonic() - self._tidied >= _LONGEST_WAIT:
            self._tidied = time.monotonic()
            names = {courier.name for courier in self._couriers}
            lost = sum(name in names for name in self.notices.forget(before=now - _KEPT))
            self._lost += lost
            if lost:
                say(f"{lost} notices were given up: their requests ended an hour ago.", style="red", stderr=True)

    def _questions(self, request_id: str, names: Iterable[str]) -> list[NewNotice]:
        """Return what is to be told of a new request to the destinations of these *names*."""
        made: list[NewNotice] = []
        with self.complaining(request_id):
            stored = self.requests.get(request_id)
            if stored is not None and stored.request is not None:
                made = _questions(stored.request, names)
        return made


class Courier:
    """Brings the notices of one destination there, one after the other, in a thread of its own."""

    def __init__(self, notifier: Notifier, destination: Destination) -> None:
        self.name = destination.name
        self.news = threading.Event()
        """Set when there may be something to do."""
        self.refused = False
        """Whether the destination has refused a notice."""
        self.fault: BaseException | None = None
        """What ended it before its time."""
        self._notifier, self._destination = notifier, destination
        self._thread: threading.Thread | None = None
        self._came: tuple[WaitingNotice, Delivery, Pause] | None = None

    def begin(self, *, once: bool) -> None:
        self._thread = threading.Thread(target=self._run, args=(once,), name=self._destination.label, daemon=True)
        self._thread.start()

    @property
    def works(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def join(self, timeout: float) -> None:
        """Wait for its end. One that hangs is left behind: what it was doing counts as not done."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self, once: bool) -> None:
        patience = time.monotonic() + _PATIENCE
        try:
            while not self._notifier.ending:
                self.news.clear()
                wait: float | None = _FIRST_WAIT
                with self._notifier.complaining(self.name):
                    wait = self._step()
                if wait == 0.0:
                    continue
                if once and (wait is None or time.monotonic() + wait > patience):
                    return
                if not self._notifier.ending:
                    self.news.wait(_LONGEST_WAIT if wait is None else min(wait, _LONGEST_WAIT))
        except BaseException as error:  # noqa: BLE001 - a courier that dies unseen would leave people unasked
            self.fault = error
            self._notifier.end()

    def _step(self) -> float | None:
        """Do one thing. Returns the seconds until the next, or None if there is nothing to be done."""
        notifier, notices = self._notifier, self._notifier.notices
        if self._came is not None:
            self._note(*self._came)
        waiting = notices.next(self.name)
        if waiting is None:
            return None
        pause, now = notices.pause(self.name), notifier.clock()
        wait = max(pause.not_before, waiting.not_before) - now
        if 0 < wait <= _LONGEST_PAUSE:
            return wait
        try:
            told = notifier.told(waiting.request, waiting.event)
        except StoreError:
            # Others may be readable, and this one soon.
            notices.postpone(self.name, waiting, not_before=now + _backoff(waiting.attempts + 1))
            raise
        if told is None:
            notices.end(self.name, waiting, NoticeState.MOOT)
            return 0.0
        notices.begin(self.name, waiting)
        # Kept until it is written down: what was delivered is not sent again because a disk is full.
        self._came = waiting, self._destination.deliver(told, now=notifier.clock()), pause
        self._note(*self._came)
        return 0.0

    def _note(self, waiting: WaitingNotice, came: Delivery, pause: Pause) -> None:
        notices = self._notifier.notices
        what = f"{visible(waiting.request[:8])} {waiting.event}"
        if came.delivered:
            if waiting.event is not NoticeEvent.SETTLED:
                with contextlib.suppress(StoreError):  # then silence is no yes until somebody else is told
                    self._notifier.requests.notice(waiting.request, now=self._notifier.clock())
            notices.end(self.name, waiting, NoticeState.DELIVERED)
            self._came = None
            say(f"{what}: told {self._destination.label}")
        elif came.final:
            notices.end(self.name, waiting, NoticeState.REFUSED)
            self._came = None
            self.refused = True
            say(f"{what}: {self._destination.label} {came.why}, for good.", style="red", stderr=True)
        else:
            now, failures = self._notifier.clock(), pause.failures + 1
            wait = max(came.wait, _backoff(failures))
            again = max(came.wait, _backoff(waiting.attempts + 1))
            notices.postpone(self.name, waiting, not_before=now + again, pause=Pause(failures, now + wait))
            self._came = None
            label = self._destination.label
            say(f"{what}: {label} {came.why}; tried again in {max(wait, again):.1f} s.", style="yellow", stderr=True)


def _backoff(failures: int) -> float:
    longest = min(_FIRST_WAIT * 2.0 ** min(failures - 1, 16), _LONGEST_WAIT)
    return random.uniform(longest / 2, longest)  # noqa: S311 - nothing depends on nobody guessing it


def _questions(request: ApprovalRequest, names: Iterable[str]) -> list[NewNotice]:
    try:
        ends, escalates = request.expires_at, escalates_at(request)
        if not math.isfinite(ends) or not math.isfinite(escalates or 0):
            raise ValueError("a time is a number")  # noqa: TRY301 - one kind of damage among others
    except (AttributeError, TypeError, ValueError) as error:
        raise StoreError(f"The request for approval {request.id!r} is damaged.") from error
    made = []
    for name in names:
        made.append(NewNotice(request.id, NoticeEvent.REQUESTED, name, ends))
        if escalates is not None:
            made.append(NewNotice(request.id, NoticeEvent.ESCALATED, name, ends, escalates))
    return made
