"""Attacks on a log by someone who can write the file, and what of them is found."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from zt_agents.audit import AuditLog, Head, verify
from zt_agents.audit.chain import encode, genesis, link
from zt_agents.audit.tree import leaf_hash
from zt_agents.audit.verify import Fault, VerifyReport, VerifyStatus
from zt_agents.stores.sqlite_audit import SqliteAuditSink
from zt_agents.stores.sqlite_audit_file import filing

COPY_LAST_TO = (
    "INSERT INTO record (seq, body, hash, time, agent, user, decision) "
    "SELECT {}, body, hash, time, agent, user, decision FROM record WHERE seq = 10"
)


@pytest.fixture
def ten(path: Path, make_record) -> Path:
    """A log of ten records."""
    with AuditLog(SqliteAuditSink(path)) as log:
        for _ in range(10):
            log.append(make_record())
    return path


def attack(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA writable_schema = ON;" + ";".join(statements))


def prove(path: Path, expect: Head | None = None) -> VerifyReport:
    return verify(SqliteAuditSink(path, create=False), expect=expect)


def found(path: Path, expect: Head | None = None) -> set[tuple[Fault, int | None]]:
    report = prove(path, expect)
    assert report.status is VerifyStatus.BROKEN
    return {(finding.fault, finding.seq) for finding in report.findings}


def test_an_untouched_log_verifies(ten) -> None:
    report = prove(ten)
    assert (report.status, report.records, report.findings) == (VerifyStatus.VERIFIED, 10, ())
    assert report.head is not None
    assert report.head.seq == 10
    assert prove(ten, report.head).status is VerifyStatus.VERIFIED


def test_a_log_that_grew_still_contains_an_older_head(ten, make_record) -> None:
    noted = prove(ten).head
    with AuditLog(SqliteAuditSink(ten)) as log:
        log.append(make_record())
    assert prove(ten, noted).status is VerifyStatus.VERIFIED


def test_an_empty_log_is_not_verified(path) -> None:
    SqliteAuditSink(path).close()
    report = prove(path)
    assert report.status is VerifyStatus.NOTHING
    assert report.status is not VerifyStatus.VERIFIED


def test_a_report_cannot_be_mistaken_for_a_boolean(ten) -> None:
    with pytest.raises(TypeError):
        bool(prove(ten))


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ("UPDATE record SET body = CAST(body || ' ' AS BLOB) WHERE seq = 4", (Fault.CHANGED, 4)),
        ("UPDATE record SET hash = zeroblob(32) WHERE seq = 4", (Fault.CHANGED, 4)),
        ("DELETE FROM record WHERE seq = 4", (Fault.MISSING, 4)),
        ("DELETE FROM record WHERE seq = 1", (Fault.MISSING, 1)),
        ("DELETE FROM record WHERE seq BETWEEN 4 AND 6", (Fault.MISSING, 4)),
        (
            "DELETE FROM record WHERE seq = 4; UPDATE record SET seq = seq - 1 WHERE seq > 4;"
            "UPDATE head SET seq = 9",
            (Fault.CHANGED, 4),
        ),
        (
            "UPDATE record SET seq = -1 WHERE seq = 4; UPDATE record SET seq = 4 WHERE seq = 7;"
            "UPDATE record SET seq = 7 WHERE seq = -1",
            (Fault.CHANGED, 4),
        ),
        (COPY_LAST_TO.format(11), (Fault.CHANGED, 11)),
        (COPY_LAST_TO.format(0), (Fault.CHANGED, 0)),
        ("DELETE FROM record WHERE seq > 7", (Fault.HEAD, 8)),
        ("DELETE FROM record", (Fault.HEAD, 1)),
        ("DELETE FROM head", (Fault.HEAD, None)),
        ("UPDATE head SET log_id = zeroblob(16)", (Fault.CHANGED, 1)),
        ("UPDATE head SET log_id = 'text'", (Fault.HEAD, None)),
        ("UPDATE head SET seq = 'many'", (Fault.HEAD, None)),
        ("UPDATE head SET hash = zeroblob(32)", (Fault.HEAD, 10)),
        ("UPDATE head SET seq = 9", (Fault.HEAD, 10)),
        ("UPDATE record SET agent = 7 WHERE seq = 4", (Fault.FILED, 4)),
        ("UPDATE record SET user = NULL WHERE seq = 4", (Fault.FILED, 4)),
        ("UPDATE record SET agent = x'00ff' WHERE seq = 4", (Fault.FILED, 4)),
        ("UPDATE record SET user = CAST(x'ff' AS TEXT) WHERE seq = 4", (Fault.FILED, 4)),
        ("UPDATE record SET time = time + 1 WHERE seq = 4", (Fault.FILED, 4)),
        ("UPDATE record SET decision = decision + 1 WHERE seq = 4", (Fault.FILED, 4)),
        ("UPDATE record SET body = 'text' WHERE seq = 4", (Fault.CHANGED, 4)),
        ("UPDATE record SET hash = 7 WHERE seq = 4", (Fault.CHANGED, 4)),
        ("DROP INDEX record_decision", (Fault.DAMAGED, None)),
        ("CREATE TABLE more (a)", (Fault.DAMAGED, None)),
        ("CREATE TRIGGER t AFTER INSERT ON record BEGIN DELETE FROM record WHERE seq = new.seq; END",
         (Fault.DAMAGED, None)),
        ("DROP TABLE record", (Fault.DAMAGED, None)),
        ("DROP TABLE head", (Fault.DAMAGED, None)),
        ("DROP TABLE head; DROP TABLE record", (Fault.DAMAGED, None)),
        ("ALTER TABLE record RENAME COLUMN user TO person", (Fault.DAMAGED, None)),
    ],
)  # fmt: skip
def test_an_edit_is_found_where_it_was_made(ten, edit, expected) -> None:
    attack(ten, edit)
    assert expected in found(ten)


def test_one_change_is_reported_once(ten) -> None:
    attack(ten, "UPDATE record SET body = CAST(replace(body, 'allow', 'denyy') AS BLOB) WHERE seq = 4")
    assert found(ten) == {(Fault.CHANGED, 4)}


def test_findings_are_bounded_and_counted(path, make_record) -> None:
    with AuditLog(SqliteAuditSink(path)) as log:
        for _ in range(250):
            log.append(make_record())
    attack(path, "UPDATE record SET user = 1")
    report = prove(path)
    assert (len(report.findings), report.findings_left_out) == (100, 150)


def rewrite(path: Path, change: Callable[[int, bytes], bytes]) -> None:
    """Do what an attacker who knows the code would: change records, compute chain and head again."""
    with closing(sqlite3.connect(path)) as connection, connection:
        digest = genesis(connection.execute("SELECT log_id FROM head").fetchone()[0])
        for seq, body in connection.execute("SELECT seq, body FROM record ORDER BY seq").fetchall():
            changed = change(seq, body)
            digest = link(digest, leaf_hash(changed))
            connection.execute("UPDATE record SET body = ?, hash = ? WHERE seq = ?", (changed, digest, seq))
        connection.execute("UPDATE head SET hash = ?", (digest,))


def test_a_log_rewritten_by_an_expert_is_found_with_a_head_noted_elsewhere_and_only_then(ten) -> None:
    noted = prove(ten).head
    rewrite(ten, lambda seq, body: body.replace(b"allow", b"denyy") if seq == 4 else body)
    assert prove(ten).status is VerifyStatus.VERIFIED, "this is the limit the documentation states"
    assert found(ten, noted) == {(Fault.EXPECTED, 10)}


def test_a_tail_cut_by_an_expert_is_found_with_a_head_noted_elsewhere(ten) -> None:
    noted = prove(ten).head
    attack(
        ten,
        "DELETE FROM record WHERE seq > 7",
        "UPDATE head SET seq = 7, hash = (SELECT hash FROM record WHERE seq = 7)",
    )
    assert prove(ten).status is VerifyStatus.VERIFIED
    assert found(ten, noted) == {(Fault.EXPECTED, 10)}


def test_an_older_copy_put_back_is_found_with_a_head_noted_elsewhere(ten, tmp_path, make_record) -> None:
    copy = tmp_path / "copy.db"
    shutil.copy(ten, copy)
    with AuditLog(SqliteAuditSink(ten)) as log:
        log.append(make_record())
    noted = prove(ten).head
    copy.replace(ten)
    assert found(ten, noted) == {(Fault.EXPECTED, 11)}


def test_another_log_is_not_the_expected_one(ten, tmp_path, make_record) -> None:
    other = tmp_path / "other.db"
    with AuditLog(SqliteAuditSink(other)) as log:
        for _ in range(20):
            log.append(make_record())
    assert (Fault.EXPECTED, 10) in found(other, prove(ten).head)


def test_an_emptied_log_is_not_the_expected_one_even_at_zero(path, tmp_path) -> None:
    other = tmp_path / "other.db"
    SqliteAuditSink(path).close()
    SqliteAuditSink(other).close()
    start = prove(path).head
    assert start is not None
    assert prove(path, start).status is VerifyStatus.NOTHING
    assert found(other, start) == {(Fault.EXPECTED, None)}


def test_a_torn_file_is_broken_and_no_crash(path, make_record) -> None:
    with AuditLog(SqliteAuditSink(path)) as log:
        for _ in range(500):
            log.append(make_record())
    os.truncate(path, path.stat().st_size // 2)
    assert any(fault is Fault.DAMAGED for fault, _ in found(path))


def test_an_index_that_hides_a_record_is_found(ten) -> None:
    """A search by decision id goes through the index: it must hold what the table holds."""
    original = "CREATE INDEX record_decision ON record (decision)"
    partial = f"{original} WHERE seq <> 4"
    attack(
        ten,
        "DROP INDEX record_decision",
        partial,
        f"UPDATE sqlite_schema SET sql = '{original}' WHERE name = 'record_decision'",
    )
    assert any(fault is Fault.DAMAGED for fault, _ in found(ten))


def test_verifying_reads_one_moment_while_others_append(path, make_record) -> None:
    sink = SqliteAuditSink(path)
    with AuditLog(sink) as log:
        log.append(make_record()).wait(5)
        with sink.snapshot() as snapshot:
            log.append(make_record()).wait(5)
            assert snapshot.head is not None
            assert snapshot.head.seq == len(list(snapshot.stored())) == 1
        assert verify(sink).records == 2


def test_a_changed_body_with_everything_recomputed_up_to_there_breaks_at_the_next_record(ten, make_record) -> None:
    with closing(sqlite3.connect(ten)) as connection, connection:
        (previous,) = connection.execute("SELECT hash FROM record WHERE seq = 3").fetchone()
        said, body = encode(make_record(user_id="mallory"))
        connection.execute(
            "UPDATE record SET body=?, hash=?, time=?, agent=?, user=?, decision=? WHERE seq = 4",
            (body, link(previous, leaf_hash(body)), *filing(said)),
        )
    assert found(ten) == {(Fault.CHANGED, 5)}
