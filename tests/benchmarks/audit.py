"""What the audit log costs: the caller, and the disk.

Run ``python -m tests.benchmarks audit --folder FOLDER``. FOLDER says which disk; a RAM disk (often ``/tmp``)
has no figures worth quoting. Durable paths are quoted as multiples of a bare
``fdatasync`` of the same run: disks differ by a factor of a hundred between machines, ratios do not.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.tables import Table
from zt_agents.audit import AuditLog, AuditRecord, RecordKind, verify
from zt_agents.audit.verify import VerifyStatus
from zt_agents.stores.sqlite_audit import SqliteAuditSink

RECORD = AuditRecord(
    RecordKind.DECISION,
    time=1_700_000_000.25,
    decision_id="9f2c61aa03de-1f",
    tool="update_ticket",
    outcome="allow",
    tier="medium",
    reasons=(("rule", "Helpdesk may update tickets of the user it works for.", "helpdesk-update"),),
    rule_id="helpdesk-update",
    policy_id="corp",
    policy_version="sha256:" + "0" * 16,
    effects=("write",),
    system="ticketing",
    resource="ticket/4711",
    data_class="internal",
    tool_fingerprint="sha256:" + "0" * 64,
    args_hash="0" * 32,
    agent="helpdesk",
    agent_id="spiffe://corp.example/agent/helpdesk",
    agent_version="1.4.0",
    owner="dana@corp.example",
    user_id="kim@corp.example",
    session_id="5f0c1d3e9a7b4c2d8e6f0a1b2c3d4e5f",
    task="5f0c1d3e9a7b4c2d8e6f0a1b2c3d4e5f",
    call_id="call_Zk3nq8Xw1Ty6Vb2Mc9Lp4Rs7",
    token_jti="5f0c1d3e9a7b4c2d8e6f0a1b2c3d4e5f",
    trace_id="0" * 32,
    span_id="0" * 16,
    risk_state="untrusted/internal",
)
OUTCOME = AuditRecord(
    RecordKind.OUTCOME,
    time=1_700_000_000.26,
    decision_id=RECORD.decision_id,
    tool=RECORD.tool,
    outcome=RECORD.outcome,
    tier=RECORD.tier,
    agent=RECORD.agent,
    user_id=RECORD.user_id,
    session_id=RECORD.session_id,
    call_id=RECORD.call_id,
    trace_id=RECORD.trace_id,
    span_id=RECORD.span_id,
    status="ok",
    duration_ms=12.345678,
    result_hash="0" * 32,
    result_bytes=421,
)


class Row(NamedTuple):
    """One line of the table."""

    name: str
    p50: float
    """Microseconds."""
    p99: float
    """Microseconds."""
    per_second: float | None = None
    """Records."""
    against_fdatasync: float | None = None
    """Median per record, as a multiple of the median fdatasync."""


def rows(folder: Path, *, seconds: float = 1.0) -> list[Row]:
    """Measure in *folder*, about *seconds* per line."""
    table = [_fdatasync(folder, seconds)]
    fdatasync = table[0].p50
    with AuditLog(SqliteAuditSink(folder / "calls.db")) as log:
        table.append(_calling_thread("check", log.check, 200_000))
        table.append(_calling_thread("append, nobody waits", lambda: log.append(RECORD), 20_000))
        log.flush(60)
        table.append(_paced_calls(log, seconds))
    for callers in (1, 8, 64):
        table.append(_durable(folder, callers, seconds, fdatasync))
    table.append(_until_visible(folder, "low tier, until another process reads it", busy=False))
    table.append(_until_visible(folder, "the same beside a busy thread", busy=True))
    return table


def _summary(name: str, seconds: list[float], **more: float) -> Row:
    ordered = sorted(seconds)
    return Row(name, statistics.median(ordered) * 1e6, ordered[int(len(ordered) * 0.99)] * 1e6, **more)


def _fdatasync(folder: Path, seconds: float) -> Row:
    """Append one record's worth of bytes to a file and sync it: the least that durability can cost here."""
    taken = []
    sync = getattr(os, "fdatasync", os.fsync)
    with (folder / "bare").open("wb", buffering=0) as file:
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            file.write(b"x" * 800)
            sync(file.fileno())
            taken.append(time.perf_counter() - start)
    rate = len(taken) / seconds
    return _summary("bare write + fdatasync", taken, per_second=rate, against_fdatasync=1.0)


def _calling_thread(name: str, call: Callable[[], object], count: int) -> Row:
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return _summary(name, taken)


def _paced_calls(log: AuditLog, seconds: float) -> Row:
    """Append among other work, as a guard does, so that the writer interferes as often as in real life."""
    taken = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(3000))
        start = time.perf_counter()
        log.append(RECORD)
        taken.append(time.perf_counter() - start)
    return _summary("append, between 30 us of other work", taken)


def _durable(folder: Path, callers: int, seconds: float, fdatasync: float) -> Row:
    taken: list[float] = []
    with AuditLog(SqliteAuditSink(folder / f"durable-{callers}.db")) as log:
        log.append(RECORD, awaited=True).wait(60)
        gate = threading.Barrier(callers + 1)
        end = 0.0

        def caller() -> None:
            mine = []
            gate.wait()
            while (start := time.perf_counter()) < end:
                log.append(RECORD, awaited=True).wait(60)
                mine.append(time.perf_counter() - start)
            taken.extend(mine)

        threads = [threading.Thread(target=caller) for _ in range(callers)]
        for thread in threads:
            thread.start()
        end = (begin := time.perf_counter()) + seconds
        gate.wait()
        for thread in threads:
            thread.join()
        elapsed = time.perf_counter() - begin
    rate = len(taken) / elapsed
    name = f"durable, {callers} caller{'s' if callers > 1 else ''}"
    return _summary(name, taken, per_second=rate, against_fdatasync=1e6 / rate / fdatasync)


def _until_visible(folder: Path, name: str, *, busy: bool, count: int = 60) -> Row:
    """Append one record at a time; a reader in another process, with its own interpreter, notes each."""
    path = folder / f"visible-{busy}.db"
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(1000))

    appended = []
    with AuditLog(SqliteAuditSink(path)) as log, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        reader = pool.submit(_watch, path, count)
        while not path.with_suffix(".watched").exists():
            time.sleep(0.01)
        spinner = threading.Thread(target=spin)
        if busy:
            spinner.start()
        for _ in range(count):
            appended.append(time.monotonic())
            log.append(RECORD)
            time.sleep(0.2)
        seen = reader.result(60)
        stop.set()
        if busy:
            spinner.join()
    return _summary(name, [saw - start for start, saw in zip(appended, seen, strict=True)])


def _watch(path: Path, count: int) -> list[float]:
    seen: list[float] = []
    with closing(sqlite3.connect(path)) as reader:
        path.with_suffix(".watched").touch()
        while len(seen) < count:
            (seq,) = reader.execute("SELECT seq FROM head").fetchone()
            seen += [time.monotonic()] * (seq - len(seen))
            time.sleep(0.0002)
    return seen


_BLOB = b"x" * 570
"""As large as a record is on average."""


def against_raw_sqlite(folder: Path, *, seconds: float) -> Table:
    """Durable appends beside the least that SQLite can do: plain INSERTs of blobs, in batches, in turns."""
    text = "Records a second, best of 3 turns each. Target: 0.7. Raw: one thread inserts (seq, blob), nothing else."
    table = Table("Durable appends against raw SQLite", ("", "ours", "raw", "ours / raw"), text)
    for callers in (1, 8, 64):
        turns = []
        for turn in range(3):
            where = folder / f"turn-{callers}-{turn}"
            where.mkdir()
            turns.append((_rate(where / "ours.db", callers, seconds, raw=False),
                          _rate(where / "raw.db", callers, seconds, raw=True)))  # fmt: skip
        ours, raw = (max(rates) for rates in zip(*turns, strict=True))
        table.add(f"{callers} caller{'s' if callers > 1 else ''}", ours, raw, ours / raw)
    turns = []
    for turn in range(3):
        where = folder / f"turn-processes-{turn}"
        where.mkdir()
        ours = _processes(where / "ours.db", seconds, raw=False)
        turns.append((ours, _processes(where / "raw.db", seconds, raw=True)))
    ours, raw = (max(rates) for rates in zip(*turns, strict=True))
    table.add("4 processes of 8 callers", ours, raw, ours / raw)
    return table


def _processes(path: Path, seconds: float, *, raw: bool) -> float:
    if raw:
        _raw_connection(path).close()
    else:
        SqliteAuditSink(path).close()
    with ProcessPoolExecutor(4, get_context("spawn")) as pool:
        return sum(pool.map(_rate, [path] * 4, [8] * 4, [seconds] * 4, [raw] * 4))


def _rate(path: Path, callers: int, seconds: float, raw: bool) -> float:
    """Return how many records a second *callers* threads get durable, each waiting for its own."""
    if raw:
        writer = _RawWriter(path)
        close, write = writer.close, writer.write
    else:
        log = AuditLog(SqliteAuditSink(path))
        close, write = log.close, lambda: log.append(RECORD, awaited=True).wait(60)
    write()
    counts: list[int] = []
    gate = threading.Barrier(callers + 1)

    def caller() -> None:
        mine = 0
        gate.wait()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            write()
            mine += 1
        counts.append(mine)

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    for thread in threads:
        thread.start()
    gate.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - begin
    close()
    return sum(counts) / elapsed


def _raw_connection(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=60)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS record (seq INTEGER PRIMARY KEY, body BLOB)")
    return connection


class _RawWriter:
    """Group commit and nothing else."""

    def __init__(self, path: Path) -> None:
        self._connection = _raw_connection(path)
        self._queue: queue.SimpleQueue[threading.Lock | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def write(self) -> None:
        gate = threading.Lock()
        gate.acquire()
        self._queue.put(gate)
        gate.acquire()

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while (gate := self._queue.get()) is not None:
            batch = [gate]
            while self._queue.qsize() and (more := self._queue.get()) is not None:
                batch.append(more)
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT INTO record (body) VALUES (?)", [(_BLOB,)] * len(batch))
            self._connection.execute("COMMIT")
            for waiting in batch:
                waiting.release()


def size_and_proof(folder: Path, records: int) -> Table:
    """What a record takes on disk, and how fast records are proven: columns, structure and Merkle tree."""
    path, batch = folder / "proof.db", 1000
    with closing(SqliteAuditSink(path)) as sink:
        for first in range(0, records, batch):
            ids = [f"9f2c61aa03de-{number:x}" for number in range(first // 2, (first + batch) // 2)]
            sink.append([part._replace(decision_id=each) for each in ids for part in (RECORD, OUTCOME)])
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        report = verify(sink)
        taken.append(time.perf_counter() - start)
    assert report.status is VerifyStatus.VERIFIED
    table = Table(f"{records:,} records, a decision and an outcome a call", ("", "", "target"))
    table.add("bytes a record on disk", path.stat().st_size / records, "800")
    table.add("records verified a second", records / min(taken), "200,000")
    return table


def tables(folder: Path, *, quick: bool) -> list[Table]:
    """Measure in *folder*."""
    table = Table("The audit log", ("", "p50 us", "p99 us", "records a second", "x fdatasync"))
    for row in rows(folder, seconds=0.3 if quick else 2.0):
        table.add(*row)
    raw = against_raw_sqlite(folder, seconds=0.3 if quick else 2.0)
    return [table, raw, size_and_proof(folder, 20_000 if quick else 200_000)]
