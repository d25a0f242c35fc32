from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zt_agents.audit import AuditLog, AuditRecord, RecordKind
from zt_agents.stores.sqlite_audit import SqliteAuditSink

MakeRecord = Callable[..., AuditRecord]


@pytest.fixture
def make_record() -> MakeRecord:
    """Return records that differ in their decision id, with any field replaced."""
    numbers = itertools.count(1)

    def make(**changes: object) -> AuditRecord:
        record = AuditRecord(
            RecordKind.DECISION,
            time=1_700_000_000.25,
            decision_id=f"d-{next(numbers)}",
            tool="read_ticket",
            outcome="allow",
            tier="low",
            reasons=(("rule", "Helpdesk may read tickets.", "read"),),
            rule_id="read",
            agent="helpdesk",
            user_id="kim",
        )
        return record._replace(**changes)  # type: ignore[arg-type]

    return make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


@pytest.fixture
def log(path: Path) -> Iterator[AuditLog]:
    with AuditLog(SqliteAuditSink(path)) as log:
        yield log
