"""What all stores in shared files rest on: a glance is never older than it may be."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from zt_agents.errors import StoreError
from zt_agents.stores.shared_file import SharedFile


def shared(path: Path, *, busy_timeout: float = 5.0) -> SharedFile:
    return SharedFile(
        path, name="store", application_id=7, schema=("CREATE TABLE t (x)",), create=True, busy_timeout=busy_timeout
    )


def write(file: SharedFile, value: int) -> None:
    with file.writing() as connection:
        connection.execute("INSERT INTO t VALUES (?)", (value,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store.db"
    write(shared(path), 0)
    time.sleep(0.02)  # times of files are coarse
    return path


def test_a_glance_is_new_after_a_write_through_the_same_object(path: Path) -> None:
    file = shared(path)
    for value in range(20):
        before = file.glance()
        time.sleep(0.011)
        write(file, value)
        assert file.glance() == file.version() != before


def test_a_glance_sees_what_others_wrote_ten_milliseconds_later(path: Path) -> None:
    file, other = shared(path), shared(path)
    before = file.glance()
    write(other, 1)
    deadline = time.monotonic() + 0.011
    while time.monotonic() < deadline:
        file.glance()  # asking all the time does not put it off
    assert file.glance() == file.version() != before


def test_between_two_glances_the_file_system_is_not_asked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shared(path)
    file.glance()
    asked: list[None] = []
    monkeypatch.setattr(file, "version", lambda: asked.append(None))
    began = time.monotonic()
    for _ in range(1_000):
        file.glance()
    assert len(asked) <= (time.monotonic() - began) / 0.01 + 1


def test_of_a_damaged_file_it_says_the_way_out_and_of_one_that_is_busy_it_does_not(path: Path) -> None:
    with shared(path).writing(), pytest.raises(StoreError) as busy:
        write(shared(path, busy_timeout=0.05), 1)
    assert busy.value.hint is None
    path.write_bytes(bytes(range(256)) * 16)
    with pytest.raises(StoreError) as damaged:
        write(shared(path), 1)
    assert "move it away" in str(damaged.value.hint)
