"""The wall clock jumps by hours, back and forth, while records are written. Only the times in the records show it."""

from __future__ import annotations

import time

from zt_agents.audit import AuditLog, AuditRecord, RecordKind, verify
from zt_agents.audit.verify import VerifyStatus
from zt_agents.stores.sqlite_audit import SqliteAuditSink

HOUR = 3600.0


def test_a_clock_that_jumps_changes_neither_order_nor_waits(tmp_path, monkeypatch) -> None:
    path = tmp_path / "audit.db"
    now = [1_700_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])  # whoever measured a wait with it would wait for hours
    times = []
    with AuditLog(SqliteAuditSink(path)) as log:
        for number, jump in enumerate((0, 5, -9, 0.5, -0.5, 100, -100, 24, -48)):
            receipt = log.append(AuditRecord(RecordKind.DECISION, now[0], f"{number}", "t", "allow"))
            times.append(now[0])
            now[0] += jump * HOUR
            assert receipt.wait(5) == number + 1
            log.check()
    source = SqliteAuditSink(path, create=False)
    with source.snapshot() as snapshot:
        rows = list(snapshot.read())
        in_the_past = list(snapshot.read(until=times[0]))
    assert [row["time"] for row in rows] == times
    assert [row["decision_id"] for row in rows] == [str(number) for number in range(len(times))]
    assert [row["time"] for row in in_the_past] == [each for each in times if each < times[0]]
    assert verify(source).status is VerifyStatus.VERIFIED
