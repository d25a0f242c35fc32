"""Kills processes that append to one log, again and again: ``kill_rounds.py FOLDER ROUNDS SEED``.

One warm interpreter without threads forks the processes of each round. Each of them appends from several threads:
callers that wait, and that write a record's number and decision id to a file of their own once it is durable, and a
caller nobody waits for. Some or all are killed at a random moment, the others are told to end. Then:

1. Every acknowledged record is in the log under the number that was given out.
2. No record is in it twice, each caller's are in the order they were made in and without a gap, and of a caller that
   waits there is at most one that was not acknowledged.
3. What ended by itself left nothing out.
4. The log verifies, and the next round opens it as it was left. Every tenth round begins a new one.
5. The checkpoint that was kept elsewhere, if any, is a whole one and the log continues it.

Prints a line of JSON: what happened how often. Exits with the seed and the round on stderr when a rule is broken.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter, defaultdict
from contextlib import closing, suppress
from pathlib import Path

import typer

from zt_agents.audit import AuditLog, AuditRecord, RecordKind, verify
from zt_agents.audit.checkpoints import open_checkpoint
from zt_agents.audit.verify import VerifyStatus
from zt_agents.cli.proofs import checkpoint_log
from zt_agents.identity.checkpoint_keys import CheckpointKey
from zt_agents.stores.checkpoint_files import key_beside, last_beside, read_note
from zt_agents.stores.sqlite_audit import SqliteAuditSink

ROUNDS_PER_LOG = 10
WAITING = 3
MAX_AHEAD = 500
"""Records nobody waits for that may be queued at once, so that a round has an end."""
KINDS = ("plain", "plain", "plain", "creation", "wal", "signing", "forking")


def record(caller: str, number: int) -> AuditRecord:
    return AuditRecord(
        RecordKind.DECISION, time.time(), f"{caller}/{number}", "t", "allow", agent=caller, user_id="kim"
    )


class Worker:
    """One process of a round. It never returns from :meth:`run`."""

    def __init__(self, log: Path, said: Path, name: str, kind: str, ready: int, go_on: int) -> None:
        self.log_path, self.said, self.name, self.kind = log, said, name, kind
        self.ready, self.go_on = ready, go_on
        self.done = threading.Event()

    def run(self) -> None:
        code = 1
        try:
            os.setpgid(0, 0)
            with AuditLog(SqliteAuditSink(self.log_path)) as log:
                self._append(log)
            code = 0
        except BaseException:  # the parent reads the exit code; the traceback is for people
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _append(self, log: AuditLog) -> None:
        jobs = [lambda i=i: self._waiting(log, f"{self.name}/wait{i}") for i in range(WAITING)]
        jobs.append(lambda: self._not_waiting(log, f"{self.name}/low"))
        extra = {"wal": self._checkpoint_wal, "signing": self._sign, "forking": lambda: self._fork(log)}
        if self.kind in extra:
            jobs.append(extra[self.kind])
        faults: list[BaseException] = []

        def guarded(job) -> None:
            try:
                job()
            except BaseException as error:
                faults.append(error)
                self.done.set()

        threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
        for thread in threads:
            thread.start()
        os.write(self.ready, b".")
        os.close(self.ready)  # so that the parent sees the end if one of us never gets here
        os.read(self.go_on, 1)  # until the parent closes its end
        self.done.set()
        for thread in threads:
            thread.join()
        if faults:
            raise faults[0]

    def _waiting(self, log: AuditLog, caller: str) -> None:
        number = 0
        with _said_by(self.said, caller) as file:
            while not self.done.is_set():
                seq = log.append(record(caller, number)).wait(30)
                file.write(f"{seq} {caller}/{number}\n".encode())
                number += 1

    def _not_waiting(self, log: AuditLog, caller: str) -> None:
        number = 0
        while not self.done.is_set():
            receipt = log.append(record(caller, number))
            number += 1
            if number % MAX_AHEAD == 0:
                receipt.wait(30)
        with _said_by(self.said, f"{caller}-ended") as file:
            file.write(f"{number}\n".encode())

    def _checkpoint_wal(self) -> None:
        with closing(sqlite3.connect(self.log_path, timeout=30)) as connection:
            while not self.done.is_set():
                for mode in ("PASSIVE", "TRUNCATE", "RESTART"):
                    connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()

    def _sign(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        while not self.done.is_set():
            with suppress(typer.Exit):  # nothing to sign yet, or another process makes the key at this moment
                checkpoint_log(self.log_path, None, str(_elsewhere(self.log_path)))

    def _fork(self, log: AuditLog) -> None:
        number = 0
        while not self.done.is_set():
            caller = f"{self.name}/child{number}"
            number += 1
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    with _said_by(self.said, caller) as file:
                        file.write(f"{log.append(record(caller, 0)).wait(30)} {caller}/0\n".encode())
                    log.close()
                    code = 0
                finally:
                    os._exit(code)
            if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
                raise RuntimeError(f"{caller} failed")


def _said_by(folder: Path, caller: str):
    return (folder / caller.replace("/", "_")).open("ab", buffering=0)


def _elsewhere(log: Path) -> Path:
    return log.with_name(f"{log.name}.kept-elsewhere")


def play(log: Path, folder: Path, kind: str, chance: random.Random, seen: Counter[str]) -> set[str]:
    """Start the processes of one round and kill some of them; once all have ended, return who did so by itself."""
    folder.mkdir()
    count = chance.randint(1, 4)
    ready_r, ready_w = os.pipe()
    go_r, go_w = os.pipe()
    alive_r, alive_w = os.pipe()  # at its end once every process that inherited the other side is gone
    workers = []
    for index in range(count):
        pid = os.fork()
        if pid == 0:
            for fd in (ready_r, go_w, alive_r):
                os.close(fd)
            Worker(log, folder, f"{folder.name}-{index}", kind, ready_w, go_r).run()
        workers.append(pid)
    for fd in (ready_w, go_r, alive_w):
        os.close(fd)
    if kind != "creation":
        for _ in range(count):
            if not os.read(ready_r, 1):
                raise AssertionError("a process ended before it was ready")
    time.sleep(chance.uniform(0.0, 0.03))  # the moment of the kill: any will do
    victims = set(chance.sample(workers, chance.choice((1, chance.randint(1, count), count))))
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if kind != "creation" and len(victims) < count:
        time.sleep(chance.uniform(0.0, 0.01))  # the others go on for a while
    os.close(go_w)
    survivors = set()
    for index, pid in enumerate(workers):
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if pid in victims:
            seen["killed"] += code == -signal.SIGKILL
        elif code != 0:
            raise AssertionError(f"a process nobody killed ended with {code}")
        if code == 0:
            survivors.add(f"{folder.name}-{index}")
    os.read(alive_r, 1)  # the children of a killed process end by themselves
    os.close(ready_r)
    os.close(alive_r)
    seen[kind] += 1
    seen["processes"] += count
    return survivors


class Log:
    """What is known of one log, over its rounds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[int, str] = {}

    def check(self, said: Path, survivors: set[str], seen: Counter[str]) -> None:
        if not self.path.exists() or not self.path.stat().st_size:
            assert not list(said.iterdir()), "something was acknowledged, and there is no log"
            return
        SqliteAuditSink(self.path).close()  # a log whose creation was cut short is finished by whoever opens it
        source = SqliteAuditSink(self.path, create=False)
        with source.snapshot() as snapshot:
            rows = {row["seq"]: row["decision_id"] for row in snapshot.read()}
        assert list(rows) == list(range(1, len(rows) + 1)), "the numbers are not contiguous"
        assert self.rows.items() <= rows.items(), "an earlier round's record is gone or changed"
        new = [name for seq, name in rows.items() if seq > len(self.rows)]
        assert len(set(new)) == len(new), "a record is in the log twice"
        self._check_callers(said, survivors, rows, new, seen)
        self.rows = rows
        checkpoints = []
        if _elsewhere(self.path).exists():
            key = CheckpointKey.from_file(key_beside(self.path)).verifier
            for place in (_elsewhere(self.path), last_beside(self.path)):
                checkpoints.append(open_checkpoint(read_note(place), [key]))
            seen["signed"] += 1
        report = verify(source, checkpoints=checkpoints)
        wanted = VerifyStatus.VERIFIED if rows else VerifyStatus.NOTHING
        assert (report.status, report.findings, report.records) == (wanted, (), len(rows)), report

    def _check_callers(
        self, said: Path, survivors: set[str], rows: dict[int, str], new: list[str], seen: Counter[str]
    ) -> None:
        written: dict[str, list[int]] = defaultdict(list)
        for name in new:
            caller, _, number = name.rpartition("/")
            written[caller.replace("/", "_")].append(int(number))
        for caller, numbers in written.items():
            assert numbers == list(range(len(numbers))), f"the records of {caller} have a gap or are not in order"
        for file in said.iterdir():
            lines = file.read_bytes().decode().split("\n")[:-1]  # the last line may be torn
            if file.name.endswith("-ended"):
                caller = file.name.removesuffix("-ended")
                if caller.split("_")[0] in survivors:
                    assert len(written[caller]) == int(lines[0]), f"{caller} ended, and its log leaves records out"
                    seen["ended with all written"] += 1
                continue
            acknowledged = {int(seq): name for seq, name in (line.split() for line in lines)}
            assert acknowledged.items() <= rows.items(), f"an acknowledged record of {file.name} is lost"
            assert len(written[file.name]) <= len(acknowledged) + 1, f"{file.name} left more than one unasked"
            seen["acknowledged"] += len(acknowledged)


def main(folder: Path, rounds: int, seed: int) -> None:
    seen: Counter[str] = Counter()
    log = Log(folder / "log-0.db")
    for number in range(rounds):
        chance = random.Random(f"{seed}-{number}")
        fresh = number % ROUNDS_PER_LOG == 0
        if fresh:
            log = Log(folder / f"log-{number}.db")
        kind = chance.choice(("creation", "plain")) if fresh else chance.choice(KINDS)
        said = folder / f"round{number}"
        try:
            survivors = play(log.path, said, kind, chance, seen)
            log.check(said, survivors, seen)
        except BaseException:
            print(f"round {number} ({kind}) of seed {seed}, log {log.path}", file=sys.stderr)
            raise
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
