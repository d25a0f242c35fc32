from __future__ import annotations

import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from zt_agents.audit import AuditRecord, RecordKind, verify
from zt_agents.audit.verify import VerifyStatus
from zt_agents.errors import AuditIntegrityError, AuditWriteError, StoreError
from zt_agents.stores.sqlite_audit import SqliteAuditSink
from zt_agents.stores.sqlite_audit_file import checksum

RECORD = AuditRecord(RecordKind.DECISION, 100.0, "d-1", "read_ticket", "allow", agent="helpdesk", user_id="kim")


def records(count: int, **changes: object) -> list[AuditRecord]:
    return [RECORD._replace(decision_id=f"d-{n}", **changes) for n in range(count)]  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


@pytest.fixture
def sink(path: Path):
    sink = SqliteAuditSink(path)
    yield sink
    sink.close()


@pytest.mark.parametrize("count", [1, 2, 3, 63, 64, 511, 512, 513, 1500])
def test_batches_of_any_size_get_contiguous_numbers(sink, count) -> None:
    assert list(sink.append(records(count))) == list(range(1, count + 1))
    assert list(sink.append(records(2))) == [count + 1, count + 2]
    assert verify(sink).status is VerifyStatus.VERIFIED


def test_an_empty_batch_is_a_probe_that_adds_nothing(sink) -> None:
    sink.append(records(3))
    assert list(sink.append([])) == []
    assert verify(sink).records == 3


def test_a_new_log_is_readable_by_its_owner_only(sink, path) -> None:
    sink.append(records(1))
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_log_is_written_with_full_synchronisation(sink, path) -> None:
    connection = sink._open()
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_log_continues_where_it_was_left(path) -> None:
    for start in (1, 4):
        sink = SqliteAuditSink(path)
        assert sink.append(records(3)).start == start
        sink.close()
    assert verify(sink).records == 6


def test_names_with_special_characters_are_names(tmp_path) -> None:
    path = tmp_path / "a b?mode=memory#%20.db"
    sink = SqliteAuditSink(path)
    sink.append(records(1))
    sink.close()
    assert path.is_file()
    assert verify(SqliteAuditSink(path, create=False)).records == 1


def test_reading_filters(sink) -> None:
    sink.append(
        [
            RECORD._replace(decision_id=f"d-{n}", time=float(n), agent=f"a{n % 2}", user_id=f"u{n % 3}")
            for n in range(12)
        ]
    )

    def seqs(**filters: object) -> list[int]:
        with sink.snapshot() as snapshot:
            return [record["seq"] for record in snapshot.read(**filters)]

    assert seqs() == list(range(1, 13))
    assert seqs(since=3.0, until=6.0) == [4, 5, 6]
    assert seqs(agent="a1", user="u0") == [4, 10]
    assert seqs(tool="read_ticket", limit=2) == [1, 2]
    assert seqs(newest_first=True, limit=2) == [12, 11]
    assert seqs(decision_id="d-7") == [8]
    assert seqs(agent="a1' OR 1=1 --") == []
    assert seqs(after=9) == [10, 11, 12]
    assert seqs(after=9, agent="a1") == [10, 12]
    assert seqs(after=12) == []
    assert seqs(since=3.25, until=5.5) == [5, 6]


def test_names_with_the_same_checksum_are_different_names(sink) -> None:
    one, other = "plumless", "buckeroo"
    assert checksum(one) == checksum(other)
    sink.append([RECORD._replace(agent=one), RECORD._replace(agent=other)])
    with sink.snapshot() as snapshot:
        assert [record["agent"] for record in snapshot.read(agent=other)] == [other]


def test_a_log_of_another_format_is_refused_in_words(path) -> None:
    SqliteAuditSink(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 0")
    with pytest.raises(StoreError, match="is an audit log of format 1, and this version"):
        SqliteAuditSink(path)
    with pytest.raises(StoreError, match="format 1"), SqliteAuditSink(path, create=False).snapshot():
        pass


def test_reading_gives_the_record_its_number_and_its_hash(sink) -> None:
    sink.append([RECORD._replace(task="x")])
    with sink.snapshot() as snapshot:
        (record,) = snapshot.read()
        (stored,) = snapshot.stored()
    assert record["task"] == "x"
    assert record["seq"] == 1
    assert record["hash"] == stored[2].hex()


def test_an_unreadable_body_does_not_stop_reading(sink, path) -> None:
    sink.append(records(2))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE record SET body = '{\"seq\": 99' WHERE seq = 1")
    with sink.snapshot() as snapshot:
        assert [(r["seq"], "unreadable" in r) for r in snapshot.read()] == [(1, True), (2, False)]


def test_a_snapshot_cannot_write(sink) -> None:
    with sink.snapshot() as snapshot, pytest.raises(sqlite3.OperationalError, match="readonly"):
        snapshot._connection.execute("UPDATE head SET seq = 0")


# Refusals at start


def test_a_missing_log_is_not_created_when_only_read(path) -> None:
    with pytest.raises(StoreError, match="no audit log"):
        SqliteAuditSink(path, create=False)
    assert not path.exists()


def test_a_missing_folder_is_named(tmp_path) -> None:
    with pytest.raises(StoreError, match="There is no folder"):
        SqliteAuditSink(tmp_path / "nowhere" / "audit.db")


def test_other_files_are_left_alone(tmp_path) -> None:
    text = tmp_path / "text"
    text.write_text("not a database at all, and long enough to be one " * 100)
    with pytest.raises(StoreError, match="not a database"):
        SqliteAuditSink(text)
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE accounts (a)")
    before = other.read_bytes()
    with pytest.raises(StoreError, match="not an audit log"):
        SqliteAuditSink(other)
    with pytest.raises(StoreError, match="not an audit log"), SqliteAuditSink(other, create=False).snapshot():
        pass
    assert other.read_bytes() == before


def test_a_log_with_a_trigger_is_refused(path) -> None:
    SqliteAuditSink(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TRIGGER t AFTER INSERT ON record BEGIN DELETE FROM record; END")
    with pytest.raises(StoreError, match="'t' does not belong"):
        SqliteAuditSink(path)


def test_a_log_without_its_head_row_is_refused(path) -> None:
    SqliteAuditSink(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM head")
    with pytest.raises(AuditIntegrityError, match="lost its head row"):
        SqliteAuditSink(path)


# A log that changes while it is in use


def test_a_log_that_is_removed_is_noticed_by_the_next_write(sink, path) -> None:
    sink.append(records(1))
    path.unlink()
    with pytest.raises(AuditWriteError, match="is gone"):
        sink.append(records(1))
    assert not path.exists(), "a fresh log would hide what happened to the old one"


def test_a_log_that_is_refused_is_not_held_against_other_writers(sink, path) -> None:
    sink.append(records(1))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM head")
    with pytest.raises(AuditIntegrityError):
        sink.append(records(1))
    with closing(sqlite3.connect(path, timeout=0)) as connection, connection:
        connection.execute("BEGIN IMMEDIATE")


def test_a_log_that_is_replaced_is_noticed(sink, path, tmp_path) -> None:
    sink.append(records(1))
    other = SqliteAuditSink(tmp_path / "other.db")
    other.append(records(5))
    other.close()
    (tmp_path / "other.db").replace(path)
    for _ in range(2):
        with pytest.raises(AuditIntegrityError, match="replaced by another file"):
            sink.append(records(1))


def test_a_log_whose_content_is_replaced_is_noticed(sink, path, tmp_path) -> None:
    sink.append(records(1))
    sink.release()
    other = SqliteAuditSink(tmp_path / "other.db")
    other.append(records(5))
    other.close()
    shutil.copyfile(tmp_path / "other.db", path)
    with pytest.raises(AuditIntegrityError, match="replaced by another log"):
        sink.append(records(1))


def test_a_log_that_is_put_back_to_an_older_state_is_noticed(path, tmp_path) -> None:
    sink = SqliteAuditSink(path)
    sink.append(records(1))
    sink.release()
    shutil.copy(path, tmp_path / "old.db")
    sink.append(records(1))
    sink.release()
    shutil.copyfile(tmp_path / "old.db", path)
    with pytest.raises(AuditIntegrityError, match="was cut or changed"):
        sink.append(records(1))


def test_a_log_that_is_emptied_by_another_connection_is_noticed(sink, path) -> None:
    sink.append(records(3))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM record")
        connection.execute("UPDATE head SET seq = 0")
    with pytest.raises(AuditIntegrityError, match="was cut or changed"):
        sink.append(records(1))


def test_a_log_that_another_process_holds_is_an_error_in_time_and_no_record_is_lost(path) -> None:
    sink = SqliteAuditSink(path, busy_timeout=0.05)
    sink.append(records(1))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(AuditWriteError, match="locked"):
            sink.append(records(1))
        other.execute("ROLLBACK")
    assert list(sink.append(records(1))) == [2]
    sink.close()


def test_a_full_disk_is_an_error_and_leaves_whole_batches_only(sink, path) -> None:
    sink.append(records(10))
    pages = sink._open().execute("PRAGMA page_count").fetchone()[0]
    sink._open().execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(AuditWriteError, match="disk is full"):
        sink.append(records(500))
    assert verify(sink).records == 10
    assert list(sink.append(records(500))) == list(range(11, 511))  # a new connection has no such limit
    assert verify(sink).status is VerifyStatus.VERIFIED


class _Name(str):
    """A kind of text, as an application may use for ids."""

    __slots__ = ()


def test_a_kind_of_text_is_filed_as_the_text_it_is(path) -> None:
    with closing(SqliteAuditSink(path)) as sink:
        sink.append([RECORD._replace(agent=_Name("helpdesk"), user_id=_Name("kim"), decision_id=_Name("d-1"))])
        assert verify(sink).status is VerifyStatus.VERIFIED
        with sink.snapshot() as snapshot:
            for asked in ({"agent": "helpdesk"}, {"user": _Name("kim")}, {"decision_id": "d-1"}):
                assert [record["seq"] for record in snapshot.read(**asked)] == [1]
