"""What was admitted before: in memory, and in a file that workers share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zt_agents.credentials import MemoryReplays, Replays
from zt_agents.errors import StoreError
from zt_agents.stores.sqlite_replays import SqliteReplays

MAKERS: list[Callable[[Path], Replays]] = [
    lambda _: MemoryReplays(),
    lambda folder: SqliteReplays(folder / "replays.db"),
    lambda folder: SqliteReplays(folder / "replays.db", durable=False),
]


@pytest.fixture(params=MAKERS, ids=["memory", "sqlite", "sqlite that stays open"])
def replays(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Replays]:
    made: Replays = request.param(tmp_path)
    yield made
    if isinstance(made, SqliteReplays):
        made.close()


def test_a_token_is_admitted_as_often_as_it_may_be(replays: Replays) -> None:
    assert [replays.admit("a", uses=3, until=60, now=0) for _ in range(5)] == [True, True, True, False, False]
    assert replays.admit("b", uses=1, until=60, now=0)


def test_it_is_remembered_until_it_has_expired(replays: Replays) -> None:
    assert replays.admit("a", uses=1, until=60, now=0)
    assert not replays.admit("a", uses=1, until=60, now=59.9)


def test_of_many_at_once_one_is_admitted(replays: Replays) -> None:
    with ThreadPoolExecutor(8) as pool:
        admitted = list(pool.map(lambda _: replays.admit("a", uses=1, until=60, now=0), range(40)))
    assert sum(admitted) == 1


def test_nothing_is_forgotten_to_make_room() -> None:
    replays = MemoryReplays(capacity=10)
    assert all(replays.admit(str(number), uses=1, until=60, now=0) for number in range(10))
    with pytest.raises(StoreError, match="none may be forgotten"):
        replays.admit("one more", uses=1, until=60, now=0)
    assert not replays.admit("3", uses=1, until=60, now=0)
    assert replays.admit("one more", uses=1, until=120, now=60)


def test_memory_does_not_grow_with_time() -> None:
    replays = MemoryReplays()
    for second in range(20_000):
        assert replays.admit(str(second), uses=1, until=second + 60, now=second)
    assert len(replays._admitted) < 2_000


def test_the_file_forgets_what_has_expired(tmp_path: Path) -> None:
    replays = SqliteReplays(tmp_path / "replays.db")
    for second in range(5):
        replays.admit(str(second), uses=1, until=second + 1, now=second)
    with replays._file.reading() as connection:
        assert connection.execute("SELECT count(*) FROM admitted").fetchone() == (1,)


_WORKER = """
import os, signal, sys
from zt_agents.stores.sqlite_replays import SqliteReplays
replays = SqliteReplays(sys.argv[1], durable=sys.argv[2] == "durable")
print(sum(replays.admit(str(n), uses=1, until=60, now=0) for n in range(20)), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("durable", ["durable", "not"])
def test_workers_share_a_file_that_outlives_them(tmp_path: Path, durable: str) -> None:
    command = [sys.executable, "-c", _WORKER, str(tmp_path / "replays.db"), durable]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sum(int(worker.communicate(timeout=60)[0]) for worker in workers) == 20
    assert int(subprocess.run(command, capture_output=True, text=True, timeout=60).stdout) == 0


def test_a_file_that_was_taken_away_admits_nothing(tmp_path: Path) -> None:
    path = tmp_path / "replays.db"
    replays = SqliteReplays(path)
    assert replays.admit("a", uses=1, until=60, now=0)
    path.unlink()
    with pytest.raises(StoreError):
        replays.admit("a", uses=1, until=60, now=0)
