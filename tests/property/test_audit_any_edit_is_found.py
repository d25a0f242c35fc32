"""Whatever single edit is made to a log, verification finds it; and a log nobody edited always verifies."""

from __future__ import annotations

import shutil
import sqlite3
import string
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zt_agents.audit import AuditRecord, RecordKind, verify
from zt_agents.audit.verify import VerifyStatus
from zt_agents.errors import StoreError
from zt_agents.stores.sqlite_audit import SqliteAuditSink
from zt_agents.stores.sqlite_audit_file import checksum

RECORDS = 12
COLUMNS = "seq, body, hash, time, agent, user, decision"

texts = st.text(st.characters(exclude_categories=[]), max_size=20)
said = st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers(), max_size=2)
records = st.builds(
    AuditRecord,
    kind=st.sampled_from(RecordKind),
    time=st.floats() | st.integers(),
    decision_id=texts,
    tool=texts,
    outcome=texts,
    agent=texts,
    user_id=texts,
    rule_id=st.none() | texts,
    reasons=st.lists(st.tuples(texts, texts, st.none() | texts), max_size=2).map(tuple),
    duration_ms=st.none() | st.floats(),
    result_bytes=st.none() | st.integers(),
    erasure=said,
    change=said,
)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("log") / "original.db"
    sink = SqliteAuditSink(path)
    for number in range(RECORDS):
        record = AuditRecord(
            RecordKind.DECISION, 1.5, f"d-{number}", "read_ticket", "allow", agent="helpdesk", user_id="kim"
        )
        sink.append([record])
    sink.close()
    assert verify(sink).status is VerifyStatus.VERIFIED
    return path


def status_after(original: Path, edit) -> VerifyStatus:
    path = original.with_name("edited.db")
    shutil.copy(original, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        edit(connection)
    return verify(SqliteAuditSink(path, create=False)).status


seqs = st.integers(1, RECORDS)
module_settings = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@module_settings
@given(seq=seqs, data=st.data())
def test_a_changed_byte(original, seq, data) -> None:
    def edit(connection: sqlite3.Connection) -> None:
        column = data.draw(st.sampled_from(["body", "hash"]))
        (value,) = connection.execute(f"SELECT {column} FROM record WHERE seq = ?", (seq,)).fetchone()
        at = data.draw(st.integers(0, len(value) - 1))
        changed = bytearray(value)
        changed[at] ^= data.draw(st.integers(1, 255))
        connection.execute(f"UPDATE record SET {column} = ? WHERE seq = ?", (bytes(changed), seq))

    assert status_after(original, edit) is VerifyStatus.BROKEN


@module_settings
@given(seq=seqs, data=st.data())
def test_bytes_added_or_removed(original, seq, data) -> None:
    def edit(connection: sqlite3.Connection) -> None:
        (body,) = connection.execute("SELECT body FROM record WHERE seq = ?", (seq,)).fetchone()
        start, stop = sorted((data.draw(st.integers(0, len(body))), data.draw(st.integers(0, len(body)))))
        changed = body[:start] + data.draw(st.binary(max_size=5)) + body[stop:]
        if changed == body:
            changed += b" "
        connection.execute("UPDATE record SET body = ? WHERE seq = ?", (changed, seq))

    assert status_after(original, edit) is VerifyStatus.BROKEN


@module_settings
@given(first=seqs, last=seqs, renumber=st.booleans(), head=st.booleans())
def test_records_removed(original, first, last, renumber, head) -> None:
    """Anywhere, with the gap closed or not, and with the number in the head row adjusted or not."""
    first, last = min(first, last), max(first, last)
    count = last - first + 1

    def edit(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM record WHERE seq BETWEEN ? AND ?", (first, last))
        if renumber:
            connection.execute("UPDATE record SET seq = seq - ? WHERE seq > ?", (count, last))
        if head:
            connection.execute("UPDATE head SET seq = seq - ?", (count,))

    assert status_after(original, edit) is VerifyStatus.BROKEN


@module_settings
@given(one=seqs, other=seqs.filter(lambda seq: seq > 1))
def test_records_swapped(original, one, other) -> None:
    other = 1 if one == other else other

    def edit(connection: sqlite3.Connection) -> None:
        for source, target in ((one, -1), (other, one), (-1, other)):
            connection.execute("UPDATE record SET seq = ? WHERE seq = ?", (target, source))

    assert status_after(original, edit) is VerifyStatus.BROKEN


@module_settings
@given(source=seqs, at=st.integers(1, RECORDS + 1), head=st.booleans(), data=st.data())
def test_a_record_repeated_or_made_up(original, source, at, head, data) -> None:
    def edit(connection: sqlite3.Connection) -> None:
        row: list[Any] = list(
            connection.execute(f"SELECT {COLUMNS} FROM record WHERE seq = ?", (source,)).fetchone()
        )
        row[0] = at
        if data.draw(st.booleans()):
            row[2] = data.draw(st.binary(min_size=32, max_size=32))
        connection.execute("UPDATE record SET seq = -seq - 1 WHERE seq >= ?", (at,))
        connection.execute("UPDATE record SET seq = -seq WHERE seq < 0")
        connection.execute("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        if head:
            connection.execute("UPDATE head SET seq = seq + 1")

    assert status_after(original, edit) is VerifyStatus.BROKEN


@module_settings
@given(seq=seqs, column=st.sampled_from(["agent", "user", "decision"]), value=st.none() | st.text(
    string.printable, max_size=10) | st.binary(max_size=5) | st.integers(-9, 9))  # fmt: skip
def test_a_column_that_lies(original, seq, column, value) -> None:
    def edit(connection: sqlite3.Connection) -> None:
        connection.execute(f"UPDATE record SET {column} = ? WHERE seq = ?", (value, seq))

    truth = {"agent": "helpdesk", "user": "kim", "decision": f"d-{seq - 1}"}
    expected = VerifyStatus.VERIFIED if value == checksum(truth[column]) else VerifyStatus.BROKEN
    assert status_after(original, edit) is expected


@module_settings
@given(data=st.data())
def test_a_flipped_bit_of_the_file_is_found_or_changes_no_record(original, data) -> None:
    raw = bytearray(original.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    path = original.with_name("flipped.db")
    path.write_bytes(raw)
    try:
        status = verify(SqliteAuditSink(path, create=False)).status
    except StoreError:
        return  # no longer a database at all
    if status is not VerifyStatus.BROKEN:
        flipped, untouched = (SqliteAuditSink(file, create=False) for file in (path, original))
        with flipped.snapshot() as found, untouched.snapshot() as truth:
            assert list(found.stored()) == list(truth.stored())


@module_settings
@given(data=st.data())
def test_a_truncated_file_never_verifies(original, data) -> None:
    raw = original.read_bytes()
    path = original.with_name("torn.db")
    path.write_bytes(raw[: data.draw(st.integers(1, len(raw) - 1))])
    try:
        status = verify(SqliteAuditSink(path, create=False)).status
    except StoreError:
        return
    assert status is VerifyStatus.BROKEN


@module_settings
@given(batches=st.lists(st.lists(records, max_size=4), min_size=1, max_size=4))
def test_whatever_is_recorded_verifies_and_is_found_again(tmp_path_factory, batches) -> None:
    sink = SqliteAuditSink(tmp_path_factory.mktemp("log") / "audit.db")
    try:
        seqs = [seq for batch in batches for seq in sink.append(batch)]
        report = verify(sink)
        assert report.findings == ()
        assert seqs == list(range(1, report.records + 1))
        with sink.snapshot() as snapshot:
            assert [record["seq"] for record in snapshot.read()] == seqs
    finally:
        sink.close()
