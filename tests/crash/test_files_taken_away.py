"""Somebody deletes, moves or replaces the log's files while it is written. Nothing is acknowledged into the void."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest

from zt_agents.audit import AuditLog, AuditRecord, RecordKind, verify
from zt_agents.audit.verify import VerifyStatus
from zt_agents.errors import AuditWriteError
from zt_agents.stores.sqlite_audit import SqliteAuditSink

_numbers = itertools.count(1)


def record(name: str = "") -> AuditRecord:
    name = name or f"d-{next(_numbers)}"
    return AuditRecord(RecordKind.DECISION, 1.0, name, "t", "allow", agent="helpdesk", user_id="kim")


def names(path: Path) -> list[str]:
    with SqliteAuditSink(path, create=False).snapshot() as snapshot:
        return [row["decision_id"] for row in snapshot.read()]


def recovers(log: AuditLog) -> None:
    """Return once the log may be written again; fail after ten seconds."""
    until = time.monotonic() + 10
    while True:
        try:
            log.check()
        except AuditWriteError:
            assert time.monotonic() < until, "it does not recover by itself"
            time.sleep(0.005)
        else:
            return


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_record_is_not_acknowledged_into_a_deleted_file(tmp_path, suffix) -> None:
    """What SQLite keeps beside the log is gone, though the process still holds it open: a crash would lose it."""
    path = tmp_path / "audit.db"
    with AuditLog(SqliteAuditSink(path)) as log:
        log.append(record("before")).wait(5)
        path.with_name(f"{path.name}{suffix}").unlink()
        with pytest.raises(AuditWriteError, match=f"audit.db{suffix} .*removed"):
            log.append(record("denied")).wait(5)
        recovers(log)
        log.append(record("after")).wait(5)
    assert names(path) == ["before", "after"]
    assert verify(SqliteAuditSink(path, create=False)).status is VerifyStatus.VERIFIED


@pytest.mark.parametrize("how", ["deleted", "replaced", "moved"])
def test_without_its_file_the_log_is_denied_and_goes_on_once_the_same_file_is_back(tmp_path, how) -> None:
    path, aside = tmp_path / "audit.db", tmp_path / "aside.db"
    with AuditLog(SqliteAuditSink(path)) as log:
        log.append(record("before")).wait(5)
        log.sink.release()  # so that nothing of it is in the write-ahead log
        os.link(path, aside)
        path.unlink()
        if how == "replaced":
            SqliteAuditSink(path).close()
        with pytest.raises(AuditWriteError, match=r"audit\.db (is gone|was replaced)"):
            log.append(record("denied")).wait(5)
        low = log.append(record("queued meanwhile"))
        with pytest.raises(AuditWriteError):
            log.check()
        aside.replace(path)
        recovers(log)
        low.wait(5)
        log.append(record("after")).wait(5)
    assert names(path) == ["before", "queued meanwhile", "after"]
    assert verify(SqliteAuditSink(path, create=False)).status is VerifyStatus.VERIFIED
