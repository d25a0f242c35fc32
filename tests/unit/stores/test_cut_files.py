"""A log's file is cut with a hex editor: what is left is read, and what is missing is named."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from zt_agents.audit import AuditLog, AuditRecord, RecordKind, verify
from zt_agents.audit.verify import VerifyStatus
from zt_agents.errors import StoreError
from zt_agents.stores.cut_files import bytes_cut_off
from zt_agents.stores.sqlite_audit import SqliteAuditSink

PAGE = 4096
RECORDS = 60


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "audit.db"
    with AuditLog(SqliteAuditSink(path)) as log:
        for number in range(RECORDS):
            record = AuditRecord(RecordKind.DECISION, float(number), str(number), "t", "allow", resource="x" * 700)
            log.append(record).wait(5)
    return path


def findings(path: Path) -> list[str]:
    report = verify(SqliteAuditSink(path, create=False))
    assert report.status is VerifyStatus.BROKEN
    return [finding.text for finding in report.findings]


@pytest.mark.parametrize("pages", range(1, 11))
def test_what_is_missing_is_named_and_what_is_left_is_proven(path: Path, pages: int) -> None:
    before = path.read_bytes()
    os.truncate(path, len(before) - pages * PAGE)
    left = path.read_bytes()
    texts = findings(path)
    assert f"The file is {pages * PAGE:,} bytes shorter than it says: its end was cut off." in texts
    (stop,) = [text for text in texts if text.startswith("Reading stops before record ")]
    first = int(stop.split()[4].rstrip("."))
    assert 0 < first <= RECORDS
    wanted = f"Records {first} to {RECORDS} are" if first < RECORDS else f"Record {RECORDS} is"
    assert stop.endswith(f"{wanted} out of reach.")
    assert str(path) in stop, "the log is named, not the copy it was read from"
    assert path.read_bytes() == left, "evidence is not touched"


@pytest.mark.parametrize("left", [0, 1, 99, 100, 4095, PAGE])
def test_hardly_anything_is_left(path: Path, left: int) -> None:
    os.truncate(path, left)
    status = None
    with suppress(StoreError):  # not even a log is to be seen
        status = verify(SqliteAuditSink(path, create=False)).status
    assert status in {None, VerifyStatus.BROKEN}


def test_a_whole_file_is_not_cut(path: Path, tmp_path: Path) -> None:
    assert bytes_cut_off(path) == 0
    assert bytes_cut_off(tmp_path / "none") == 0
    (tmp_path / "text").write_text("SQLite format 4\0" * 20)
    assert bytes_cut_off(tmp_path / "text") == 0
