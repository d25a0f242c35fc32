"""A search finds what going over all records finds, whatever the columns and indexes are used for."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from zt_agents.audit import AuditRecord, RecordKind
from zt_agents.stores.sqlite_audit import SqliteAuditSink

FAR = 2.0**62
NAMES = st.sampled_from(["", "a", "é", "plumless", "buckeroo", "\udcff", "\\udcff"])  # two of one checksum
TOOLS = st.sampled_from(["read", "pay"])
TIMES = st.sampled_from(
    [0.0, 0.5, 1.25, -1.5, 3, FAR, -FAR, 1e300, -1e300, 2**63, 10**25, float("inf"), float("nan"), True, None, "1"]
)
BOUNDS = st.none() | st.sampled_from([0.0, 0.5, 1, 1.25, 2, -1.5, FAR, 1e300, -1e300, float("inf"), float("-inf")])
SEARCHES = st.fixed_dictionaries(
    {},
    optional={
        "after": st.integers(0, 13),
        "since": BOUNDS,
        "until": BOUNDS,
        "agent": st.none() | NAMES,
        "user": st.none() | NAMES,
        "tool": st.none() | TOOLS,
        "decision_id": st.none() | NAMES,
        "limit": st.none() | st.integers(0, 5),
        "newest_first": st.booleans(),
    },
)


def wanted(record: dict[str, Any], search: dict[str, Any]) -> bool:
    for name, column in (("agent", "agent"), ("user", "user_id"), ("tool", "tool"), ("decision_id", "decision_id")):
        if search.get(name) is not None and record.get(column) != search[name]:
            return False
    since, until, time = search.get("since"), search.get("until"), record.get("time")
    if (since is not None or until is not None) and (isinstance(time, bool) or not isinstance(time, int | float)):
        return False
    return (
        record["seq"] > search.get("after", 0) and (since is None or time >= since) and (until is None or time < until)
    )


def gone_over(records: list[dict[str, Any]], search: dict[str, Any]) -> Iterator[dict[str, Any]]:
    ordered = reversed(records) if search.get("newest_first") else records
    return islice((record for record in ordered if wanted(record, search)), search.get("limit"))


@settings(max_examples=60)
@given(
    st.lists(st.tuples(TIMES, NAMES, NAMES, TOOLS, NAMES), max_size=12),
    st.lists(SEARCHES, min_size=8, max_size=24),
)
def test_a_search_finds_what_going_over_all_records_finds(written: list[Any], searches: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder, closing(SqliteAuditSink(Path(folder) / "audit.db")) as sink:
        sink.append(
            [
                AuditRecord(RecordKind.DECISION, time, decision, tool, "allow", agent=agent, user_id=user)
                for time, agent, user, tool, decision in written
            ]
        )
        with sink.snapshot() as snapshot:
            records = list(snapshot.read())
            assert len(records) == len(written)
            for search in searches:
                assert list(snapshot.read(**search)) == list(gone_over(records, search)), search


def test_text_that_no_record_can_hold_is_not_found(tmp_path: Path) -> None:
    with closing(SqliteAuditSink(tmp_path / "audit.db")) as sink:
        sink.append([AuditRecord(RecordKind.DECISION, 1.0, "d-1", "read", "allow", agent="\udcff")])
        with sink.snapshot() as snapshot:
            for name in ("agent", "user", "tool", "decision_id"):
                assert list(snapshot.read(**{name: "\udcff"})) == []


def test_a_search_for_a_decision_begins_after_a_record_too(tmp_path: Path) -> None:
    with closing(SqliteAuditSink(tmp_path / "audit.db")) as sink:
        sink.append([AuditRecord(RecordKind.DECISION, 1.0, "d-1", "read", "allow")] * 3)
        with sink.snapshot() as snapshot:
            assert [record["seq"] for record in snapshot.read(decision_id="d-1", after=2)] == [3]
