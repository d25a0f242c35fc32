"""The writer: when something is durable, what happens when it cannot be, and who is told."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from zt_agents.audit import AuditLog, AuditRecord
from zt_agents.audit.verify import VerifyStatus, verify
from zt_agents.errors import AuditWriteError
from zt_agents.stores.sqlite_audit import SqliteAuditSink


class GatedSink(SqliteAuditSink):
    """A real log whose disk can be made to hang or to fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.entered = threading.Event()
        self.go = threading.Event()
        self.go.set()
        self.broken: BaseException | None = None
        self.forgets = 0
        self.batches: list[int] = []
        self.attempts = 0

    def append(self, records: Sequence[AuditRecord]) -> range:
        self.attempts += 1
        self.entered.set()
        assert self.go.wait(30)
        if self.broken is not None:
            raise self.broken
        self.batches.append(len(records))
        numbers = super().append(records)
        return numbers[: len(numbers) - self.forgets]


@pytest.fixture
def gated(path: Path) -> Iterator[tuple[AuditLog, GatedSink]]:
    sink = GatedSink(path)
    with AuditLog(sink) as log:
        yield log, sink
        sink.broken = None
        sink.go.set()


def ids(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT body FROM record ORDER BY seq")
        return [json.loads(body)["decision_id"] for (body,) in rows]


def eventually(condition, timeout: float = 5.0) -> bool:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


def recovered(log: AuditLog) -> bool:
    try:
        log.check()
    except AuditWriteError:
        return False
    return True


# Durability


def test_a_waited_for_record_is_there_for_another_connection_when_wait_returns(
    log, path, make_record
) -> None:
    assert log.append(make_record(decision_id="a")).wait(5) == 1
    assert ids(path) == ["a"]
    assert log.append(make_record(decision_id="b")).wait(5) == 2
    assert ids(path) == ["a", "b"]


def test_a_record_nobody_waits_for_is_durable_soon(log, path, make_record) -> None:
    log.append(make_record(decision_id="a"))
    assert eventually(lambda: ids(path) == ["a"], timeout=1.0)


def test_append_does_not_wait_for_a_hanging_disk(gated, make_record) -> None:
    log, sink = gated
    sink.go.clear()
    log.append(make_record())
    assert sink.entered.wait(5)
    for _ in range(1000):
        log.append(make_record())
    sink.go.set()
    log.flush(5)
    assert sum(sink.batches) == 1001


def test_waiting_for_one_record_writes_all_that_came_before_it_in_order(log, path, make_record) -> None:
    for number in range(50):
        log.append(make_record(decision_id=str(number)))
    assert log.append(make_record(decision_id="last")).wait(5) == 51
    assert ids(path) == [*map(str, range(50)), "last"]


def test_callers_that_wait_together_share_commits(gated, make_record) -> None:
    log, sink = gated
    sink.go.clear()
    log.append(make_record())
    assert sink.entered.wait(5)
    seqs: list[int] = []
    callers = [
        threading.Thread(target=lambda: seqs.append(log.append(make_record()).wait(10))) for _ in range(20)
    ]
    for caller in callers:
        caller.start()
    assert eventually(lambda: log._writer.queue.qsize() == 20)
    sink.go.set()
    for caller in callers:
        caller.join()
    assert sorted(seqs) == list(range(2, 22))
    assert sink.batches == [1, 20]


def test_a_backlog_longer_than_a_batch_is_written_in_order(gated, path, make_record) -> None:
    log, sink = gated
    sink.go.clear()
    for number in range(3000):
        log.append(make_record(decision_id=str(number)))
    sink.go.set()
    log.flush(10)
    assert ids(path) == list(map(str, range(3000)))
    assert max(sink.batches) <= 1024


@pytest.mark.parametrize("awaited", [True, False])
def test_two_may_wait_for_the_same_record_and_again_later(gated, make_record, awaited) -> None:
    log, sink = gated
    sink.go.clear()
    receipt = log.append(make_record(), awaited=awaited)
    seqs: list[int] = []
    waiters = [threading.Thread(target=lambda: seqs.append(receipt.wait(10))) for _ in range(2)]
    for waiter in waiters:
        waiter.start()
    if awaited:
        time.sleep(0.1)  # both wait at the gate that was made for one
    else:
        assert eventually(lambda: len(receipt.wakes or ()) == 2)
    sink.go.set()
    for waiter in waiters:
        waiter.join(5)
        assert not waiter.is_alive()
    assert [*seqs, receipt.wait(0)] == [1, 1, 1]


# Async


def test_awaiting_leaves_the_event_loop_free(gated, make_record) -> None:
    log, sink = gated

    async def scenario() -> tuple[list[int], int]:
        sink.go.clear()
        waiting = asyncio.gather(*(log.append(make_record()).await_durable(10) for _ in range(100)))
        ticks = 0
        for _ in range(10):
            await asyncio.sleep(0.001)
            ticks += 1
        assert not waiting.done()
        threads = threading.active_count()
        sink.go.set()
        seqs = await waiting
        assert threading.active_count() <= threads
        return seqs, ticks

    seqs, ticks = asyncio.run(scenario())
    assert sorted(seqs) == list(range(1, 101))
    assert ticks == 10


def test_awaiting_fails_as_waiting_does(gated, make_record) -> None:
    log, sink = gated
    sink.broken = OSError("no")
    with pytest.raises(AuditWriteError):
        asyncio.run(log.append(make_record()).await_durable(5))


def test_awaiting_times_out(gated, path, make_record) -> None:
    log, sink = gated
    sink.go.clear()
    log.append(make_record(decision_id="first"))
    assert sink.entered.wait(5)
    with pytest.raises(AuditWriteError, match=r"not durable after 0\.01 s"):
        asyncio.run(log.append(make_record(decision_id="late")).await_durable(0.01))
    sink.go.set()
    log.flush(5)
    assert ids(path) == ["first"]


def test_a_loop_that_is_gone_does_not_hurt_the_writer(gated, path, make_record) -> None:
    log, sink = gated
    sink.go.clear()

    async def give_up() -> None:
        task = asyncio.create_task(log.append(make_record(decision_id="a")).await_durable(10))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    sink.go.set()
    assert log.append(make_record(decision_id="b")).wait(5) == 2
    assert ids(path) == ["a", "b"], "a cancelled await leaves the record of the decision in the queue"


# Failure


def test_a_waited_for_record_that_fails_is_never_written(gated, path, make_record) -> None:
    log, sink = gated
    sink.broken = OSError("no")
    with pytest.raises(AuditWriteError, match="could not be written: OSError"):
        log.append(make_record(decision_id="denied")).wait(5)
    sink.broken = None
    assert eventually(lambda: recovered(log))
    log.append(make_record(decision_id="later")).wait(5)
    assert ids(path) == ["later"]


def test_records_nobody_waits_for_are_kept_and_written_in_order_once_the_log_is_back(
    gated, path, make_record
) -> None:
    log, sink = gated
    sink.broken = OSError("no")
    log.append(make_record(decision_id="1"))
    assert eventually(lambda: not recovered(log))
    log.append(make_record(decision_id="2"))
    with pytest.raises(AuditWriteError):
        log.append(make_record(decision_id="denied")).wait(5)
    log.append(make_record(decision_id="3"))
    sink.broken = None
    log.flush(5)
    assert ids(path) == ["1", "2", "3"]
    assert verify(sink).status is VerifyStatus.VERIFIED


def test_check_raises_from_the_failure_until_the_log_recovers_by_itself(gated, make_record) -> None:
    log, sink = gated
    log.check()
    sink.broken = OSError("no")
    with pytest.raises(AuditWriteError):
        log.append(make_record()).wait(5)
    with pytest.raises(AuditWriteError, match="could not be written"):
        log.check()
    sink.broken = None  # and nothing else is appended: the writer has to find out alone
    assert eventually(lambda: recovered(log))


def test_check_goes_on_raising_while_the_log_stays_broken_and_nothing_is_queued(
    gated, make_record, monkeypatch
) -> None:
    monkeypatch.setattr("zt_agents.audit.writer._RETRY_AFTER", 0.01)
    log, sink = gated
    sink.broken = OSError("no")
    with pytest.raises(AuditWriteError):
        log.append(make_record()).wait(5)
    assert eventually(lambda: sink.attempts > 5), "the writer probes the log"
    assert not recovered(log)


def test_a_failing_log_fails_those_who_wait_promptly(gated, make_record) -> None:
    log, sink = gated
    sink.broken = OSError("no")
    for _ in range(2000):
        log.append(make_record())
    assert eventually(lambda: not recovered(log))
    start = time.monotonic()
    with pytest.raises(AuditWriteError, match="could not be written"):
        log.append(make_record()).wait(30)
    assert time.monotonic() - start < 10


def test_a_waiter_that_gives_up_takes_its_record_back(gated, path, make_record) -> None:
    log, sink = gated
    sink.go.clear()
    log.append(make_record(decision_id="first"))
    assert sink.entered.wait(5)
    with pytest.raises(AuditWriteError, match="not durable"):
        log.append(make_record(decision_id="late")).wait(0.01)
    sink.go.set()
    log.append(make_record(decision_id="next")).wait(5)
    assert ids(path) == ["first", "next"]


def test_a_waiter_that_gave_up_during_a_commit_that_fails_is_not_written_later(
    gated, path, make_record
) -> None:
    log, sink = gated
    sink.go.clear()
    receipt = log.append(make_record(decision_id="denied"))
    with pytest.raises(AuditWriteError):
        receipt.wait(0.05)
    assert sink.entered.wait(5)
    sink.broken = OSError("no")
    sink.go.set()
    assert eventually(lambda: not recovered(log))
    sink.broken = None
    assert eventually(lambda: recovered(log))
    assert ids(path) == []


def test_negative_and_endless_timeouts_are_timeouts(gated, make_record) -> None:
    log, sink = gated
    sink.go.clear()
    with pytest.raises(AuditWriteError):
        log.append(make_record()).wait(-1)
    sink.go.set()
    assert log.append(make_record()).wait(float("inf")) >= 1


def test_append_refuses_when_too_much_is_waiting(path, make_record) -> None:
    sink = GatedSink(path)
    log = AuditLog(sink, capacity=10)
    sink.broken = OSError("no")
    log.append(make_record())
    assert eventually(lambda: not recovered(log))
    for _ in range(9):
        log.append(make_record())
    with pytest.raises(AuditWriteError, match="could not be written"):
        log.append(make_record())
    sink.broken = None
    assert eventually(lambda: recovered(log))
    log.append(make_record()).wait(5)
    log.close()
    assert len(ids(path)) == 11


def test_a_hanging_disk_is_noticed_by_check(gated, make_record, monkeypatch) -> None:
    monkeypatch.setattr("zt_agents.audit.log._STALLED_AFTER", 0.05)
    log, sink = gated
    sink.go.clear()
    log.append(make_record())
    assert sink.entered.wait(5)
    assert eventually(lambda: not recovered(log))
    sink.go.set()
    assert eventually(lambda: recovered(log))


# The end


def test_close_writes_what_is_queued_and_then_refuses(path, make_record) -> None:
    log = AuditLog(SqliteAuditSink(path))
    for number in range(100):
        log.append(make_record(decision_id=str(number)))
    log.close()
    log.close()
    assert ids(path) == list(map(str, range(100)))
    with pytest.raises(AuditWriteError, match="closed"):
        log.append(make_record())


def test_close_says_how_many_records_were_lost(path, make_record) -> None:
    sink = GatedSink(path)
    log = AuditLog(sink)
    sink.broken = OSError("no")
    for _ in range(3):
        log.append(make_record())
    with pytest.raises(AuditWriteError, match="3 records unwritten"):
        log.close()


def test_a_log_closed_while_its_disk_hung_refuses_records_from_then_on(path, make_record) -> None:
    sink = GatedSink(path)
    log = AuditLog(sink)
    sink.go.clear()
    log.append(make_record(decision_id="a"))
    writer = log._writer.thread
    assert writer is not None
    with pytest.raises(AuditWriteError, match="stuck"):
        log.close(0.1)
    with pytest.raises(AuditWriteError, match="closed"):
        log.append(make_record(decision_id="b"))
    sink.go.set()
    writer.join(5)
    with pytest.raises(AuditWriteError, match="closed"):
        log.append(make_record(decision_id="c"))
    sink.close()
    assert ids(path) == ["a"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("fault", [{"broken": KeyboardInterrupt()}, {"forgets": 1}], ids=["stops", "forgets a number"])
def test_a_writer_that_stopped_tells_all_who_wait_and_refuses_the_rest(path, make_record, caplog, fault) -> None:
    sink = GatedSink(path)
    with closing(sink), AuditLog(sink) as log:
        sink.go.clear()
        taken = log.append(make_record(), awaited=True)
        assert sink.entered.wait(5)
        for name, value in fault.items():
            setattr(sink, name, value)
        log.append(make_record())
        queued = log.append(make_record(), awaited=True)
        threading.Timer(0.1, sink.go.set).start()
        for receipt in (taken, queued):
            began = time.monotonic()
            with pytest.raises(AuditWriteError, match="writer stopped"):
                receipt.wait(10)
            assert time.monotonic() - began < 5
        with pytest.raises(AuditWriteError, match="closed"):
            log.append(make_record())
        with pytest.raises(AuditWriteError, match="writer stopped"):
            log.check()
        assert eventually(lambda: "may be unwritten: 3" in caplog.text)  # said once everybody has been told


def test_a_log_that_was_never_used_starts_no_thread(path) -> None:
    before = threading.active_count()
    with AuditLog(SqliteAuditSink(path)) as log:
        log.check()
        log.flush(1)
        assert threading.active_count() == before


@pytest.mark.parametrize("awaited", [True, False])
def test_who_waits_is_never_kept_by_records_that_nobody_waits_for(path, make_record, monkeypatch, awaited) -> None:
    monkeypatch.setattr("zt_agents.audit.writer._LINGER", 5.0)
    done = threading.Event()
    with AuditLog(SqliteAuditSink(path)) as log:

        def others() -> None:
            while not done.is_set():
                log.append(make_record())
                time.sleep(0.0003)

        thread = threading.Thread(target=others)
        thread.start()
        try:
            for _ in range(300):
                began = time.monotonic()
                log.append(make_record(), awaited=awaited).wait(10)
                assert time.monotonic() - began < 2
        finally:
            done.set()
            thread.join()


def test_who_was_expected_to_wait_may_wait_twice_late_asynchronously_or_not_at_all(path, make_record) -> None:
    with AuditLog(SqliteAuditSink(path)) as log:
        receipts = [log.append(make_record(), awaited=True) for _ in range(4)]
        log.flush(5)
        assert [receipts[0].wait(5), receipts[0].wait(5), receipts[1].wait(0)] == [1, 1, 2]
        assert asyncio.run(receipts[2].await_durable(5)) == 3
    assert verify(SqliteAuditSink(path, create=False)).records == 4
