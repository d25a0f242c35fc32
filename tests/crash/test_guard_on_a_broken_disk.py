"""A whole guard while its disk fails: full, read-only, no permission, the log gone. And once it works again.

What a caller sees, by tier, from the first record that cannot be written until one can be:

| tier   | the call that finds it | every later call | once the log can be written    |
|--------|------------------------|------------------|--------------------------------|
| low    | runs                   | denied           | runs, without a restart        |
| medium | denied                 | denied           | runs, without a restart        |
| high   | asked, then denied     | denied           | asked, runs, without a restart |

A denied body does not run. Each denial is raised, is a span, and names the file and the trouble. The records of low
tier calls and of the denials, which nobody waits for, are written later, in order.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
from langchain_core.tools import tool
from world import HEAD, World

from zt_agents.audit import verify
from zt_agents.audit.verify import VerifyStatus
from zt_agents.errors import AccessDeniedError, AuditError, AuditWriteError
from zt_agents.stores.sqlite_audit import SqliteAuditSink
from zt_agents.testing import AnsweringChannel

SMALL = 512 * 1024
TIERS = {"look": "low", "change": "medium", "pay": "high"}


class Disk:
    """A small disk of its own that can really be full or read-only."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def fill(self) -> None:
        with suppress(OSError), (self.place / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        (self.place / "filler").unlink()

    def remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.place)], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    if sys.platform != "linux":
        pytest.skip("needs a tmpfs of its own, which is Linux")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "none", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"may not mount a tmpfs: {done.stderr.strip()}")
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


class Tools:
    """One tool of each tier, and what really ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

        @tool
        def look(what: str) -> str:
            """Look at something."""
            self.ran.append(f"look {what}")
            return what

        @tool
        def change(what: str) -> str:
            """Change something."""
            self.ran.append(f"change {what}")
            return what

        @tool
        def pay(what: str) -> str:
            """Pay for something."""
            self.ran.append(f"pay {what}")
            return what

        self.all = {"look": look, "change": change, "pay": pay}


class Governed:
    """A guard over the three tools with its log in *place*."""

    def __init__(self, folder: Path, place: Path, *, asynchronous: bool) -> None:
        folder.mkdir(exist_ok=True)
        entries = [
            f"  {name}: {{tier: {tier}, effects: [write], data_class: public, integrity: trusted}}"
            for name, tier in TIERS.items()
        ]
        rule = f"  - {{id: all, agents: [helpdesk], tools: [{', '.join(TIERS)}], outcome: allow}}"
        text = "\n".join([HEAD, "tools:", *entries, "rules:", rule, ""])
        self.tools = Tools()
        self.path = place / "audit.db"
        self.channel = AnsweringChannel(approve=True)
        self.world = World(
            folder,
            text,
            list(self.tools.all.values()),
            self.channel,
            audit_path=self.path,
            approvals_path=folder / "approvals.db",  # what breaks here is the log alone
        )
        self.world.guard.protect(list(self.tools.all.values()))
        self.asynchronous = asynchronous

    def call(self, name: str, what: str) -> str:
        """Return the result of a call, or the text of its denial in brackets."""
        with self.world.session():
            try:
                if self.asynchronous:
                    return str(asyncio.run(self.tools.all[name].ainvoke({"what": what})))
                return str(self.tools.all[name].invoke({"what": what}))
            except AccessDeniedError as denial:
                return f"[{denial}]"

    def written(self) -> list[tuple[str, str, str]]:
        """Return kind and tool of each record, and what was decided or how the body ended."""
        tools: dict[str, str] = {}  # by decision id: the second record of a call need not repeat the first
        with SqliteAuditSink(self.path, create=False).snapshot() as snapshot:
            return [
                (
                    row["kind"],
                    tools.setdefault(row["decision_id"], row.get("tool", "")),
                    row["outcome"] if row["kind"] == "decision" else row["status"],
                )
                for row in snapshot.read()
            ]

    def fails(self) -> None:
        """Return once the log knows that it cannot be written; what is queued then has been tried."""
        with pytest.raises(AuditWriteError):
            self.world.guard.audit.flush(10)

    def recovers(self) -> float:
        """Return the seconds until calls are permitted again; fail after ten."""
        start = time.monotonic()
        while True:
            try:
                self.world.guard.audit.check()
            except AuditError:
                assert time.monotonic() < start + 10, "calls stay denied, though the disk works again"
                time.sleep(0.005)
            else:
                return time.monotonic() - start

    def close(self) -> None:
        with suppress(AuditError):
            self.world.guard.close()


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def asynchronous(request) -> bool:
    return request.param


def goes_through(
    governed: Governed, breaks: Callable[[], Any], mends: Callable[[], Any], trouble: str
) -> None:
    """Hold the table at the top of this file, whatever breaks."""
    assert [governed.call(name, "before") for name in TIERS] == ["before"] * 3
    governed.world.guard.audit.flush(10)
    before = governed.written()
    asked = len(governed.channel.asked)

    breaks()
    assert governed.call("look", "finds it") == "finds it", "a low tier call does not wait for its record"
    governed.fails()
    ran = list(governed.tools.ran)
    spans = len(governed.world.spans())
    denials = [governed.call(name, "during") for name in TIERS]
    for denial in denials:
        assert denial.startswith("[")
        assert str(governed.path) in denial, "which file"
        assert trouble in denial, "what is wrong with it"
        assert "tried again by itself" in denial, "what to do"
    assert governed.tools.ran == ran, "a denied body ran"
    assert len(governed.world.spans()) == spans + 3, "a denial without a span"
    assert len(governed.channel.asked) == asked + 1

    mends()
    assert governed.recovers() < 5
    assert [governed.call(name, "after") for name in TIERS] == ["after"] * 3
    governed.world.guard.audit.flush(10)
    new = governed.written()[len(before) :]
    asks = ("decision", "pay", "require_approval")
    allowed = [[("decision", name, "allow"), ("outcome", name, "ok")] for name in TIERS]
    denied = [("decision", name, "deny") for name in TIERS]
    look, change, pay = allowed
    assert new == [*look, *denied[:2], asks, denied[2], *look, *change, asks, *pay]
    report = verify(SqliteAuditSink(governed.path, create=False))
    assert (report.status, report.findings) == (VerifyStatus.VERIFIED, ())


@pytest.fixture
def governed_on(tmp_path: Path, asynchronous: bool) -> Iterator[Callable[[Path], Governed]]:
    made: list[Governed] = []

    def make(place: Path) -> Governed:
        made.append(Governed(tmp_path / "guard", place, asynchronous=asynchronous))
        return made[0]

    yield make
    for governed in made:
        governed.close()


def test_a_full_disk(disk, governed_on) -> None:
    governed = governed_on(disk.place)

    def breaks() -> None:
        governed.world.guard.audit.sink.release()  # a write-ahead log that is kept has room for some records
        disk.fill()

    goes_through(governed, breaks, disk.free, "its disk is full")


def test_a_disk_that_becomes_read_only(disk, governed_on) -> None:
    governed = governed_on(disk.place)

    def breaks() -> None:
        governed.world.guard.audit.sink.release()  # a disk with a file open for writing cannot be made read-only
        disk.remount("ro")

    goes_through(governed, breaks, lambda: disk.remount("rw"), "its disk is read-only")


def test_a_log_that_is_moved_away(tmp_path, governed_on) -> None:
    governed = governed_on(tmp_path)
    aside = tmp_path / "aside.db"

    def breaks() -> None:
        governed.world.guard.audit.sink.release()
        governed.path.rename(aside)

    goes_through(governed, breaks, lambda: aside.rename(governed.path), "gone")


def test_a_log_that_is_replaced_by_another(tmp_path, governed_on) -> None:
    governed = governed_on(tmp_path)
    aside = tmp_path / "aside.db"

    def breaks() -> None:
        governed.world.guard.audit.sink.release()
        governed.path.rename(aside)
        SqliteAuditSink(governed.path).close()

    goes_through(governed, breaks, lambda: aside.replace(governed.path), "replaced")


NOBODY = 65534
CLOSED = 77


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork and POSIX permissions, which this platform lacks")
def test_permission_lost_and_given_back() -> None:
    """Root may write anything, so that a root runs this as somebody else, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if os.geteuid() == 0:
            os.chown(place, NOBODY, NOBODY)
        pid = os.fork()
        if pid == 0:
            _in_a_child(place)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == CLOSED:
        pytest.skip(f"the folder for temporary files is closed to user {NOBODY}")
    assert code == 0, "see what the child printed"


def _in_a_child(place: Path) -> NoReturn:
    code = 1
    try:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        if not os.access(place, os.W_OK):
            os._exit(CLOSED)
        for asynchronous in (False, True):
            for what, mode in (("folder", 0o500), ("file", 0o400)):
                log = place / f"{what}-{asynchronous}"
                log.mkdir()
                governed = Governed(place / f"guard-{log.name}", log, asynchronous=asynchronous)
                _loses_permission(governed, log if what == "folder" else governed.path, mode)
                governed.close()
        code = 0
    except BaseException:  # the traceback is what the parent's failure refers to
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def _loses_permission(governed: Governed, place: Path, mode: int) -> None:
    usual = place.stat().st_mode & 0o777

    def breaks() -> None:
        governed.world.guard.audit.sink.release()
        place.chmod(mode)
        if place == governed.path:
            governed.written()  # a reader meanwhile leaves SQLite's files beside the log, read-only like the log

    goes_through(governed, breaks, lambda: place.chmod(usual), f"may not write to {place}")
