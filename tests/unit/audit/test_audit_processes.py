"""Real processes: several writers, kill -9, fork, a disk that is full."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from zt_agents.audit import AuditLog, verify
from zt_agents.audit.verify import VerifyStatus
from zt_agents.errors import AuditWriteError
from zt_agents.stores.sqlite_audit import SqliteAuditSink

WORKER = Path(__file__).with_name("audit_worker.py")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork, which this platform lacks")
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*use of fork:DeprecationWarning"
)  # forking beside threads is the test


def start(path: Path, name: str, count: int, how: str = "waited") -> subprocess.Popen[bytes]:
    root = str(WORKER.parents[3])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(WORKER), str(path), name, str(count), how]
    # Without a buffer: what is read until it is ready is no more than that.
    return subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0, env=environment)


def rows(path: Path) -> dict[int, str]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT seq, body FROM record ORDER BY seq")
        return {seq: json.loads(body)["decision_id"] for seq, body in rows}


def assert_verified(path: Path, records: int) -> None:
    report = verify(SqliteAuditSink(path, create=False))
    assert (report.status, report.records, report.findings) == (VerifyStatus.VERIFIED, records, ())


def acknowledged(output: bytes) -> dict[int, str]:
    """Return number and id of each record that *output* says is durable; the last line may be torn."""
    lines = output.decode().split("\n")[:-1]
    return {int(line.split()[0]): line.split()[1] for line in lines if line != "ready"}


def test_four_processes_append_to_one_log_that_none_of_them_created(path) -> None:
    workers = [start(path, f"w{number}", 250, "mixed") for number in range(4)]
    said = {}
    for worker in workers:
        output, _ = worker.communicate(timeout=120)
        assert worker.returncode == 0
        said |= acknowledged(output)
    found = rows(path)
    assert list(found) == list(range(1, 1001))
    assert said.items() <= found.items()
    for number in range(4):
        mine = [row for row in found.values() if row.startswith(f"w{number}-")]
        assert mine == [f"w{number}-{count}" for count in range(250)], "each process keeps its own order"
    assert_verified(path, 1000)


@pytest.mark.parametrize("seed", range(3))
def test_no_acknowledged_record_is_lost_when_a_process_is_killed(path, seed) -> None:
    chance = random.Random(seed)
    said: dict[int, str] = {}
    for life in range(8):
        worker = start(path, f"life{life}", 1_000_000)
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0.0, 0.05))
        worker.send_signal(signal.SIGKILL)
        said |= acknowledged(worker.communicate(timeout=30)[0])
    assert said, "a test in which nothing was acknowledged shows nothing"
    found = rows(path)
    assert said.items() <= found.items()
    assert_verified(path, len(found))


@needs_fork
def test_parent_and_children_of_a_fork_write_to_the_same_log(path, make_record) -> None:
    """Forked in the middle of traffic: nothing is written twice, nothing is lost, nobody hangs."""
    with AuditLog(SqliteAuditSink(path)) as log:
        done = threading.Event()
        written = []

        def traffic() -> None:
            while not done.is_set():
                written.append(log.append(make_record()).wait(30))

        threads = [threading.Thread(target=traffic) for _ in range(3)]
        for thread in threads:
            thread.start()
        for child in range(10):
            pid = os.fork()
            if pid == 0:
                try:
                    log.append(make_record(decision_id=f"child-{child}")).wait(30)
                    log.append(make_record(decision_id=f"child-{child}-low"))
                    log.close()
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        done.set()
        for thread in threads:
            thread.join()
    found = rows(path)
    children = [row for row in found.values() if row.startswith("child-")]
    assert children == [f"child-{child}{low}" for child in range(10) for low in ("", "-low")]
    assert len(found) == len(written) + 20
    assert len(set(found.values())) == len(found)
    assert_verified(path, len(found))


@needs_fork
def test_a_child_does_not_write_what_its_parent_queued(path, make_record) -> None:
    with AuditLog(SqliteAuditSink(path)) as log:
        receipt = log.append(make_record(decision_id="parent"))
        pid = os.fork()
        if pid == 0:
            try:
                log.flush(5)
                log.close()
                try:
                    receipt.wait(0.01)
                except AuditWriteError:
                    os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        receipt.wait(5)
    assert rows(path) == {1: "parent"}


@needs_fork
def test_a_sink_of_its_own_refuses_to_be_used_across_a_fork(path, make_record) -> None:
    sink = SqliteAuditSink(path)
    sink.append([make_record()])
    pid = os.fork()
    if pid == 0:
        try:
            for _ in range(2):
                with pytest.raises(AuditWriteError, match="across a fork"):
                    sink.append([make_record()])
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert list(sink.append([make_record()])) == [2]
    sink.close()


def _append_and_leave(log: AuditLog, record: object) -> None:
    log.append(record)  # type: ignore[arg-type]


@needs_fork
def test_a_child_of_multiprocessing_writes_its_last_records_when_it_ends(path, make_record) -> None:
    with AuditLog(SqliteAuditSink(path)) as log:
        child = multiprocessing.get_context("fork").Process(
            target=_append_and_leave, args=(log, make_record(decision_id="last words"))
        )
        child.start()
        child.join(30)
        assert child.exitcode == 0
    assert rows(path) == {1: "last words"}


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = str(WORKER.parents[3])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


PREAMBLE = """
import sys, time
from zt_agents.audit import AuditLog, AuditRecord, RecordKind
from zt_agents.errors import AuditWriteError
from zt_agents.stores.sqlite_audit import SqliteAuditSink
log = AuditLog(SqliteAuditSink(sys.argv[1]))
def record(name, task=""):
    return AuditRecord(RecordKind.DECISION, 1.0, decision_id=name, tool="t", outcome="allow", task=task)
"""


def test_a_process_that_just_ends_writes_what_it_queued(path) -> None:
    done = run(PREAMBLE + "for n in range(100): log.append(record(str(n)))", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert list(rows(path).values()) == [str(number) for number in range(100)]


def test_an_exit_that_loses_records_says_so(path) -> None:
    script = "import os; log.append(record('a')); os.unlink(sys.argv[1])"
    done = run(PREAMBLE + script, str(path))
    assert "closed with 1 record unwritten" in done.stderr


def test_a_file_that_may_not_grow_denies_and_recovers_when_it_may(path) -> None:
    """RLIMIT_FSIZE is as real as a full disk, and can be lifted again."""
    pytest.importorskip("resource")
    done = run(
        PREAMBLE
        + """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log.append(record("before")).wait(5)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
log.append(record("low", "x" * 400_000))
while True:
    try:
        log.check()
    except AuditWriteError as error:
        print(error)
        break
    time.sleep(0.001)
try:
    log.append(record("denied")).wait(5)
except AuditWriteError as error:
    print("denied:", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
while True:
    try:
        log.check()
        break
    except AuditWriteError:
        time.sleep(0.001)
print("after", log.append(record("after")).wait(5))
log.close()
""",
        str(path),
    )
    assert done.stderr == ""
    first, second, third = done.stdout.splitlines()
    assert "could not be written" in first
    assert second.startswith("denied:")
    assert third == "after 3"
    assert rows(path) == {1: "before", 2: "low", 3: "after"}
    assert_verified(path, 3)


@needs_fork
@pytest.mark.parametrize("empty", ["", "empty"], ids=["no file", "an empty file"])
def test_processes_that_create_one_log_at_the_same_moment_all_get_it(tmp_path, empty) -> None:
    program = [sys.executable, "-W", "ignore", str(WORKER.with_name("create_together.py")), str(tmp_path), "60", empty]
    environment = {**os.environ, "PYTHONPATH": str(WORKER.parents[3])}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "60 logs\n"), done.stdout + done.stderr
    assert {tuple(sorted(rows(path).values())) for path in tmp_path.glob("log-*.db")} == {("a", "b", "c")}
