"""Whoever keeps a checkpoint finds every rewriting of what it covers, even one with a flawless chain."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zt_agents.audit import AuditRecord, RecordKind, verify
from zt_agents.audit.checkpoints import Checkpoint, origin
from zt_agents.audit.proofs import prove_consistency, prove_inclusion
from zt_agents.audit.verify import Fault, VerifyStatus
from zt_agents.errors import AuditIntegrityError
from zt_agents.stores.sqlite_audit import SqliteAuditSink

names = st.sampled_from("abc")
histories = st.lists(names, min_size=1, max_size=12)


def log_of(folder, history: list[str]) -> SqliteAuditSink:
    sink = SqliteAuditSink(folder / "audit.db")
    sink.append([AuditRecord(RecordKind.DECISION, 1.0, "d", tool, "allow") for tool in history])
    sink.close()
    return sink


def checkpoint_of(sink: SqliteAuditSink) -> Checkpoint:
    report = verify(sink, checkpoints=[])
    assert report.root is not None
    return Checkpoint(origin(bytes.fromhex(report.log_id)), report.records, report.root)


@settings(deadline=None)
@given(signed=histories, found=histories)
def test_a_log_continues_a_checkpoint_exactly_when_it_begins_with_its_records(tmp_path_factory, signed, found) -> None:
    earlier = log_of(tmp_path_factory.mktemp("signed"), signed)
    log = log_of(tmp_path_factory.mktemp("found"), found)
    now = checkpoint_of(log)
    kept = Checkpoint(now.origin, len(signed), checkpoint_of(earlier).root)  # as if both were the same log
    report = verify(log, checkpoints=[kept])
    if found[: len(signed)] == signed:
        assert report.status is VerifyStatus.VERIFIED
        prove_consistency(log, kept, now).check(kept, now)
        for proof in prove_inclusion(log, range(1, kept.size + 1), kept):
            proof.check(kept)
        return
    assert report.status is VerifyStatus.BROKEN
    assert {finding.fault for finding in report.findings} == {Fault.CHECKPOINT}
    with pytest.raises(AuditIntegrityError):
        prove_inclusion(log, [1], kept)
    if kept.size <= now.size:
        with pytest.raises(AuditIntegrityError):
            prove_consistency(log, kept, now)
