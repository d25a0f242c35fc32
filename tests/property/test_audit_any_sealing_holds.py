"""Sealing loses nothing: old checkpoints hold, every record stays provable, and whatever is edited is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zt_agents.audit import AuditRecord, RecordKind, verify
from zt_agents.audit.checkpoints import Checkpoint, origin
from zt_agents.audit.proofs import prove_consistency, prove_inclusion
from zt_agents.audit.segments import WholeLog
from zt_agents.audit.verify import VerifyStatus
from zt_agents.errors import StoreError
from zt_agents.stores.segment_files import SegmentFolder
from zt_agents.stores.sqlite_audit import SqliteAuditSink

RECORD = AuditRecord(RecordKind.DECISION, 1.0, "d", "read_ticket", "allow")
steps = st.lists(
    st.tuples(st.just("append"), st.integers(1, 5))
    | st.tuples(st.just("seal"), st.integers(1, 30))
    | st.tuples(st.just("checkpoint"), st.just(0)),
    max_size=14,
)


def checkpoint_of(source) -> Checkpoint:
    report = verify(source)
    assert report.status is VerifyStatus.VERIFIED
    assert report.root is not None
    return Checkpoint(origin(bytes.fromhex(report.log_id)), report.records, report.root)


@settings(deadline=None, max_examples=60)
@given(steps=steps)
def test_whatever_is_sealed_and_signed_every_checkpoint_and_record_stays_provable(tmp_path_factory, steps) -> None:
    where = tmp_path_factory.mktemp("log")
    sink, folder, kept = SqliteAuditSink(where / "audit.db"), SegmentFolder(where), []
    total = 0
    for step, number in [("append", 1), *steps]:
        if step == "append":
            total = sink.append([RECORD] * number)[-1]
        elif step == "seal":
            while sealing := folder.seal(sink, min(number, total), 2.0):
                total = sealing.noted
        else:
            kept.append(checkpoint_of(sink))
    sink.close()
    whole, now = WholeLog(sink, folder), checkpoint_of(sink)
    assert checkpoint_of(whole) == now
    assert verify(whole, checkpoints=[*kept, now]).status is VerifyStatus.VERIFIED
    for proof in prove_inclusion(whole, range(1, total + 1), now):
        proof.check(now)
    with sink.snapshot() as snapshot:
        begin = snapshot.begin.seq
        assert [record["seq"] for record in snapshot.read()] == list(range(begin + 1, total + 1))
    prove_inclusion(sink, range(begin + 1, total + 1), now)
    for old in kept:
        prove_consistency(whole, old, now).check(old, now)
        report = verify(sink, checkpoints=[old])
        if old.size >= begin:
            prove_consistency(sink, old, now).check(old, now)
            assert report.status is VerifyStatus.VERIFIED
        else:
            assert report.status is VerifyStatus.NOT_VERIFIED
    if begin:
        with pytest.raises(StoreError, match="--segments"):
            prove_inclusion(sink, [1], now)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sealed")
    sink = SqliteAuditSink(folder / "audit.db")
    for _ in range(3):
        sink.append([RECORD] * 5)
        with sink.snapshot() as snapshot:
            last = snapshot.head.seq
        SegmentFolder(folder).seal(sink, last - 1, 2.0)
    sink.close()
    return folder


@settings(deadline=None)
@given(data=st.data())
def test_a_changed_segment_is_found(sealed, data) -> None:
    copy = sealed.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(sealed, copy)
    path = data.draw(st.sampled_from(sorted(copy.glob("*.zst"))))
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw[: data.draw(st.integers(at + 1, len(raw)))])
    report = verify(WholeLog(SqliteAuditSink(copy / "audit.db", create=False), SegmentFolder(copy)))
    assert report.status is VerifyStatus.BROKEN
    assert path.name in report.findings[0].text
