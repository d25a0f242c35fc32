"""What the system is asked to do before a record is acknowledged, and kills at one system call. Needs strace."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from zt_agents.audit import AuditLog, AuditRecord, RecordKind, verify
from zt_agents.audit.verify import VerifyStatus
from zt_agents.stores.sqlite_audit import SqliteAuditSink

ROOT = str(Path(__file__).parents[2])
PROGRAM = """
import os, sys
from zt_agents.audit import AuditLog, AuditRecord, RecordKind
from zt_agents.stores.sqlite_audit import SqliteAuditSink
with AuditLog(SqliteAuditSink(sys.argv[1])) as log:
    for number in range(int(sys.argv[2])):
        record = AuditRecord(RecordKind.DECISION, 1.0, str(number), "t", "allow")
        seq = log.append(record).wait(30)
        os.write(1, f"acknowledged {seq}\\n".encode())
"""


SIGNING = """
import sys
from pathlib import Path
from zt_agents.cli.proofs import checkpoint_log
checkpoint_log(Path(sys.argv[1]), None, sys.argv[1] + ".kept")
"""


def traced(*options: str, path: Path, count: int = 0, program: str = PROGRAM) -> subprocess.CompletedProcess[str]:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    probe = subprocess.run([strace, "-f", "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"strace may not trace: {probe.stderr.strip()[-100:]}")
    command = [strace, "-f", *options, sys.executable, "-c", program, str(path), str(count)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


def test_the_disk_is_told_to_keep_a_record_before_it_is_acknowledged(tmp_path) -> None:
    path, trace = tmp_path / "audit.db", tmp_path / "trace"
    calls = "trace=write,pwrite64,fdatasync,fsync"
    done = traced("-y", "-e", calls, "-e", "signal=none", "-o", str(trace), path=path, count=5)
    assert done.returncode == 0, done.stderr
    dirty, acknowledged, synced = False, 0, 0
    for line in trace.read_text().splitlines():
        if re.search(r"pwrite64\(\d+<[^>]*audit\.db-wal>", line):
            dirty = True
        elif re.search(r"(fdatasync|fsync)\(\d+<[^>]*audit\.db-wal>\) += 0|<\.\.\. f(data)?sync resumed>\) += 0", line):
            synced += dirty
            dirty = False
        elif "acknowledged" in line:
            assert not dirty, f"acknowledged before it was on disk: {line}"
            acknowledged += 1
    assert (acknowledged, synced >= 5) == (5, True)


def test_the_connection_that_appends_syncs_every_commit(tmp_path) -> None:
    """The same by asking SQLite, for machines without strace: FULL is 2."""
    sink = SqliteAuditSink(tmp_path / "audit.db")
    with closing(sink):
        connection = sink._open()
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.slow
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "ftruncate", "unlink"])
def test_killed_at_any_system_call_the_log_goes_on(tmp_path, call) -> None:
    """From the log's creation over commits to the write-ahead log's end: the first, second, ... such call kills."""
    killed = 0
    for when in (1, 2, 3, 5, 8, 13, 21):
        path = tmp_path / f"{call}-{when}.db"
        # By its file: Python's own calls while it starts do not count.
        near = [option for end in ("", "-wal", "-shm", "-journal") for option in ("-P", f"{path}{end}")]
        inject = f"inject={call}:signal=KILL:when={when}"
        done = traced("-qq", *near, "-e", f"trace={call}", "-e", inject, path=path, count=8)
        killed += done.returncode != 0
        said = [int(number) for number in re.findall(r"^acknowledged (\d+)$", done.stdout, re.MULTILINE)]
        with AuditLog(SqliteAuditSink(path)) as log:
            log.append(AuditRecord(RecordKind.DECISION, 2.0, "after", "t", "allow")).wait(5)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        source = SqliteAuditSink(path, create=False)
        with source.snapshot() as snapshot:
            rows = [(row["seq"], row["decision_id"]) for row in snapshot.read()]
        written = [*((number + 1, str(number)) for number in range(len(rows) - 1)), (len(rows), "after")]
        assert rows == written
        assert len(said) <= len(rows) - 1 <= len(said) + 1
        assert verify(source).status is VerifyStatus.VERIFIED
    assert killed, "nothing was killed, so nothing was shown"


@pytest.mark.parametrize("call", ["fsync", "link,linkat", "unlink,unlinkat"])
def test_killed_while_the_signing_key_is_made_the_next_checkpoint_is_signed(tmp_path, call) -> None:
    path = tmp_path / "audit.db"
    with AuditLog(SqliteAuditSink(path)) as log:
        log.append(AuditRecord(RecordKind.DECISION, 1.0, "0", "t", "allow")).wait(5)
    inject = f"inject={call}:signal=KILL:when=1"
    killed = traced("-qq", "-e", inject, path=path, program=SIGNING)
    assert killed.returncode != 0, "nothing was killed, so nothing was shown"
    command = [sys.executable, "-c", SIGNING, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(f"{path}.kept").stat().st_size
