"""Content under several processes: kept and erased at once, and killed at any moment."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zt_agents.audit.content import ContentReport, check_content
from zt_agents.audit.verify import VerifyStatus, verify
from zt_agents.cli import app
from zt_agents.stores.sqlite_audit import SqliteAuditSink
from zt_agents.stores.sqlite_content import SqliteContentStore

WORKER = Path(__file__).with_name("content_worker.py")


def start(log: Path, action: str, user: str, count: int) -> subprocess.Popen[bytes]:
    """Start a worker, and wait until it is ready; nothing beyond that is read of what it says."""
    environment = {**os.environ, "PYTHONPATH": str(WORKER.parents[3])}
    command = [sys.executable, "-W", "ignore", str(WORKER), str(log), action, user, str(count)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def erase(log: Path, user: str) -> int:
    return CliRunner().invoke(app, ["audit", "erase", "--log", str(log), "--user", user, "--yes"]).exit_code


def compared(log: Path) -> ContentReport:
    sink = SqliteAuditSink(log, create=False)
    assert verify(sink).status is VerifyStatus.VERIFIED
    return check_content(sink, SqliteContentStore.beside(log), lambda *_: None)


def on_disk(log: Path) -> bytes:
    return b"".join(path.read_bytes() for path in log.parent.glob(f"{log.name}*"))


def test_processes_keep_and_erase_at_once(path) -> None:
    processes = [start(path, "keep", user, 100) for user in ("alice", "alice", "bob")]
    processes += [start(path, "erase", "alice", 15) for _ in range(2)]
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error.decode()
    erase(path, "alice")

    report = compared(path)
    assert (report.kept, report.erased, report.faults) == (100, 200, ())
    assert b"canary of alice" not in on_disk(path)
    assert b"canary of bob" in on_disk(path)


@pytest.mark.parametrize("action", ["keep", "erase"])
def test_killed_at_any_moment_nothing_is_claimed_that_is_not_so(path, action: str) -> None:
    chance = random.Random(7)
    acknowledged: set[str] = set()
    for round_number in range(5):
        keeper = start(path, "keep", f"alice{round_number}", 40)
        if action == "erase":
            acknowledged |= set(keeper.communicate(timeout=60)[0].decode().split())
            victim = start(path, "erase", f"alice{round_number}", 1)
        else:
            victim = keeper
        time.sleep(chance.uniform(0.0, 0.06))
        victim.kill()
        said, _ = victim.communicate(timeout=60)
        if action == "keep":
            acknowledged |= set(said.decode().split("\n")[:-1])
        assert erase(path, f"alice{round_number}") in {0, 3}
        report = compared(path)
        assert report.faults == (), f"round {round_number}"
        assert f"canary of alice{round_number}".encode() not in on_disk(path)
    sink = SqliteAuditSink(path, create=False)
    with sink.snapshot() as snapshot:
        assert acknowledged <= {record.get("decision_id") for record in snapshot.read()}
