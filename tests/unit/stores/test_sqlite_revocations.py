"""The store of revocations: what was taken back is never forgotten by accident, whatever becomes of its file."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from zt_agents.errors import StoreError
from zt_agents.identity.revocations import Bearing, Revoked
from zt_agents.stores import sqlite_revocations
from zt_agents.stores.sqlite_revocations import SqliteRevocations

ALICE = Bearing(("spiffe://acme.example/agent/helpdesk",), "alice", ("s-1",), "t-1", "j-1", "dana")
ROOT = os.geteuid() == 0 if hasattr(os, "geteuid") else False


def revoke(store: SqliteRevocations, value: str = "alice", kind: Revoked = Revoked.USER, now: float = 1.0) -> str:
    return store.revoke(kind, value, by="os:root", why="", now=now).id


def found(store: SqliteRevocations, bearing: Bearing = ALICE) -> str | None:
    time.sleep(sqlite_revocations._GLANCE)
    revocation = store.find(bearing, now=1.0)
    return None if revocation is None else revocation.id


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "revocations.db"


def test_whoever_revokes_sees_it_at_once(path: Path) -> None:
    store = SqliteRevocations(path)
    for _ in range(20):
        made = revoke(store)
        assert store.find(ALICE, now=1.0) is not None
        store.lift(made, now=2.0)
        assert store.find(ALICE, now=1.0) is None


def test_another_process_sees_a_revocation_at_its_next_look(path: Path) -> None:
    mine, other = SqliteRevocations(path), SqliteRevocations(path)
    assert (found(mine), found(other)) == (None, None)
    made = revoke(other)
    assert (found(mine), found(other)) == (made, made)
    lifted = other.lift(made, now=2.0)
    assert lifted is not None
    assert (lifted.id, lifted.value, lifted.by) == (made, "alice", "os:root")
    assert (found(mine), found(other)) == (None, None)
    assert other.lift(made, now=3.0) is None


def test_it_survives_a_restart(path: Path) -> None:
    made = revoke(SqliteRevocations(path), "", Revoked.ALL)
    assert found(SqliteRevocations(path)) == made
    assert [each.id for each in SqliteRevocations(path).list()] == [made]


def test_only_what_is_lifted_is_lifted(path: Path) -> None:
    store, other = SqliteRevocations(path), SqliteRevocations(path)
    first, second = revoke(store), revoke(store)
    store.lift(first, now=2.0)
    assert found(other) == second
    other.lift(second, now=3.0)
    assert found(store) is None


@pytest.mark.parametrize(("kind", "value"), [(Revoked.USER, ""), (Revoked.ALL, "alice")])
def test_all_is_nothing_else_and_has_no_name(path: Path, kind: Revoked, value: str) -> None:
    store = SqliteRevocations(path)
    with pytest.raises(ValueError, match="has a name"):
        revoke(store, value, kind)
    assert store.list() == []


def test_what_a_token_does_not_say_is_not_revoked_by_an_empty_name(path: Path) -> None:
    store = SqliteRevocations(path)
    store.open()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO revocation VALUES ('x', 1, 'owner', '', 1.0, '', '', NULL, NULL)")
        connection.execute("UPDATE store SET generation = 1")
    with pytest.raises(StoreError, match="damaged"):
        SqliteRevocations(path).open()


@pytest.mark.parametrize("column", ["kind = 'something'", "at = 'yesterday'", "value = x'ff'"])
def test_a_row_that_cannot_be_read_is_a_failure(path: Path, column: str) -> None:
    revoke(SqliteRevocations(path))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE revocation SET {column}")
    with pytest.raises(StoreError, match="damaged"):
        found(SqliteRevocations(path))


def away(path: Path) -> None:
    for each in path.parent.iterdir():
        if not each.name.endswith(".id"):
            each.unlink()


def emptied(path: Path) -> None:
    away(path)
    elsewhere = path.parent.parent / "other.db"
    SqliteRevocations(elsewhere).open()
    shutil.move(elsewhere, path)


def older(path: Path) -> None:
    shutil.copy(path.parent.parent / "backup.db", path)


def cut(path: Path) -> None:
    path.write_bytes(b"")


def garbled(path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)


@pytest.mark.parametrize("happens", [away, emptied, older, cut, garbled])
def test_what_was_read_counts_for_a_while_and_then_nobody_can_tell(tmp_path: Path, happens: object) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    path = folder / "revocations.db"
    store = SqliteRevocations(path, max_staleness=0.3)
    store.open()
    revoke(store, "bob")
    shutil.copy(path, tmp_path / "backup.db")
    made = revoke(store)
    began = time.monotonic()
    happens(path)  # type: ignore[operator]
    assert found(store) == made
    carol = ALICE._replace(user="carol")

    def look_for_ever() -> None:
        while time.monotonic() - began < 5:
            assert found(store, carol) is None
            time.sleep(0.01)

    with pytest.raises(StoreError, match="Nobody can tell"):
        look_for_ever()
    assert 0.25 <= time.monotonic() - began < 1.5
    with pytest.raises(StoreError):
        store.list()
    with pytest.raises(StoreError):
        revoke(store, "dave")


@pytest.mark.parametrize("happens", [away, emptied, cut])
def test_a_file_that_is_gone_or_another_one_is_noticed_after_a_restart_too(tmp_path: Path, happens: object) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    path = folder / "revocations.db"
    revoke(SqliteRevocations(path))
    happens(path)  # type: ignore[operator]
    for attempt in (SqliteRevocations.open, SqliteRevocations.list, revoke, found):
        with pytest.raises(StoreError):
            attempt(SqliteRevocations(path))
    if happens is away:
        assert not path.exists()
    if happens is not cut:
        path.with_name(f"{path.name}.id").unlink()  # somebody says that it may begin anew
        SqliteRevocations(path).open()


def test_it_goes_on_once_the_file_is_back(path: Path) -> None:
    store = SqliteRevocations(path, max_staleness=0.2)
    made = revoke(store)
    path.rename(path.with_name("aside.db"))
    time.sleep(0.3)
    with pytest.raises(StoreError, match="unable to open"):
        found(store)
    path.with_name("aside.db").rename(path)
    time.sleep(0.1)
    assert found(store) == made
    assert found(store, ALICE._replace(user="bob")) is None


@pytest.mark.skipif(ROOT, reason="root may read everything")
def test_a_file_that_may_not_be_read_any_more_is_a_failure(path: Path) -> None:
    store = SqliteRevocations(path, max_staleness=0.3)
    store.open()
    path.chmod(0)
    time.sleep(0.4)
    with pytest.raises(StoreError, match="Nobody can tell"):
        found(store)
    path.chmod(0o600)
    time.sleep(0.1)
    assert found(store) is None


def test_no_write_is_missed_that_the_file_system_does_not_show(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = SqliteRevocations(path), SqliteRevocations(path)
    mine.open()
    monkeypatch.setattr(mine._watched, "version", lambda: "as ever")
    assert found(mine) is None
    began, made = time.monotonic(), revoke(other)
    while found(mine) != made:
        assert time.monotonic() - began < 1
        time.sleep(0.005)


def test_of_many_writes_each_is_seen_at_the_next_look(path: Path) -> None:
    """As fast as one process can write, often within one tick of the clock of files; a look follows each of them."""
    writer, reader = SqliteRevocations(path), SqliteRevocations(path)
    late = 0
    for _ in range(40):
        made = revoke(writer)
        late += found(reader) != made
        writer.lift(made, now=2.0)
        late += found(reader) is not None
    assert late <= 3, "a look at the file system shows nearly every write at once"
    time.sleep(0.3)
    assert found(reader) is None


def test_threads_that_look_while_others_write_never_see_what_is_in_force_as_not(path: Path) -> None:
    writer, reader = SqliteRevocations(path), SqliteRevocations(path)
    made, missed, faults, ended = revoke(writer), list[str](), list[BaseException](), threading.Event()
    assert found(reader) == made

    def look() -> None:
        try:
            while not ended.is_set():
                if reader.find(ALICE, now=1.0) is None:
                    missed.append("")
                time.sleep(0.001)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(40):  # alice is revoked all the time, twice now and then
        again = revoke(writer)
        writer.lift(again if number % 2 else made, now=2.0)
        made = made if number % 2 else again
        revoke(writer, f"u-{number}")
    ended.set()
    for thread in threads:
        thread.join(10)
    assert (missed, faults) == ([], [])


def test_what_sessions_and_tokens_left_is_forgotten_after_a_week_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_revocations, "_FORGOTTEN_AT_ONCE", 4)
    day = 86_400.0
    store, reader = SqliteRevocations(path), SqliteRevocations(path)
    kept = [revoke(store, f"x-{kind}" if kind is not Revoked.ALL else "", kind, now=0) for kind in Revoked]
    for number in range(3):
        revoke(store, f"j-{number}", Revoked.TOKEN, now=0)
    assert found(reader, ALICE._replace(token="j-0")) is not None
    assert len(reader._index) == 10
    revoke(store, "later", now=6 * day)
    assert len(store.list()) == 11
    revoke(store, "much later", now=8 * day)
    assert found(reader) is not None
    assert len(reader._index) == len(SqliteRevocations(path).list()) == 7
    short_lived = {kept[list(Revoked).index(kind)] for kind in (Revoked.SESSION, Revoked.TOKEN)}
    assert {each.id for each in store.list()} >= set(kept) - short_lived


def test_no_clock_that_is_set_back_or_forward_brings_anything_back(path: Path) -> None:
    store = SqliteRevocations(path)
    made = revoke(store, now=1_000_000.0)
    for now in (0.0, 1e12):
        revoke(store, "somebody", now=now)
        found_again = store.find(ALICE, now=now)
        assert found_again is not None
        assert found_again.id == made


def test_its_files_are_its_owners_alone(path: Path) -> None:
    store = SqliteRevocations(path)
    revoke(store)
    if os.name == "posix":
        assert {each.stat().st_mode & 0o777 for each in path.parent.iterdir()} == {0o600}


def test_a_forked_child_sees_what_is_revoked_later(path: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork, which this platform lacks")
    store = SqliteRevocations(path)
    assert found(store) is None
    store._lock.acquire()  # another thread of the parent reads in this moment
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            until = time.monotonic() + 5
            while found(store) is None and time.monotonic() < until:
                time.sleep(0.01)
            code = 0 if found(store) else 2
        finally:
            os._exit(code)
    store._lock.release()
    revoke(store)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


_FULL = """
import resource, signal, sys
from zt_agents.errors import StoreError
from zt_agents.identity.revocations import Revoked
from zt_agents.stores.sqlite_revocations import SqliteRevocations
store = SqliteRevocations(sys.argv[1])
store.open()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
for number in range(1_000):
    try:
        print(store.revoke(Revoked.USER, f"u-{number}", by="os:root", why="x" * 3_000, now=1.0).value)
    except StoreError as error:
        print(error.message, file=sys.stderr)
        break
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files, which this platform lacks")
def test_on_a_full_disk_what_is_not_revoked_is_said_and_the_rest_is_in_force(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        check=True,
    )
    said = done.stdout.split()
    assert 3 < len(said) < 1_000
    assert "store of revocations" in done.stderr
    store = SqliteRevocations(path)
    assert [each.value for each in store.list()] == said
    assert found(store, ALICE._replace(user=said[-1])) is not None


def test_a_file_that_somebody_has_locked_is_a_failure_after_a_while(path: Path) -> None:
    store = SqliteRevocations(path, max_staleness=0.3)
    made = revoke(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE store SET generation = generation")
        time.sleep(0.35)
        with pytest.raises(StoreError, match="locked"):
            found(store)
        connection.execute("ROLLBACK")
    time.sleep(0.1)
    assert found(store) == made
