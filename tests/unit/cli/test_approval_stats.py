"""How often humans are asked, counted from the audit log."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from zt_agents.audit import AuditRecord, RecordKind
from zt_agents.cli import app
from zt_agents.stores.sqlite_audit import SqliteAuditSink


def decision(number: int, outcome: str, time: float, **changes: Any) -> AuditRecord:
    made = AuditRecord(RecordKind.DECISION, time, f"d-{number}", "read", outcome, agent="helpdesk", user_id="alice")
    return made._replace(**changes)


def held(
    number: int, tool: str, answer: str | None, after: float, approval: str = "", approvals: Any = ()
) -> list[AuditRecord]:
    """Return the records of a call that was held, and answered *after* so many seconds."""
    changes = {"tool": tool, "approval_id": approval or f"a-{number}"}
    records = [decision(number, "require_approval", 100.0 + number, **changes)]
    if answer is not None:
        by: dict[str, Any] = {"approved_by": "dana", "approvals": approvals} if answer == "allow" else {}
        records.append(decision(number, answer, 100.0 + number + after, **changes, **by))
    return records


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.db"
    with closing(SqliteAuditSink(path)) as sink:
        sink.append(
            [
                *(decision(number, "allow", float(number)) for number in range(10)),
                *held(20, "pay", "allow", 4.0),
                *held(21, "pay", "deny", 2.0),
                *held(22, "pay", None, 0.0),
                *held(23, "pay", None, 0.0, approval="again"),  # a graph that stopped, and was resumed
                *held(24, "pay", "allow", 0.0, approval="again"),
                *held(25, "wipe", "allow", 8.0),
                decision(26, "deny", 130.0, tool="pay"),
                *held(27, "pay", "allow", 0.0, approvals=(("dana", "yes", "credential", "none", "s-1", "00"),)),
            ]
        )
    return path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["approvals", "stats", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_each_call_is_counted_once_by_what_became_of_it(log: Path) -> None:
    pay, *_, every = map(json.loads, run("--log", log, "--json").splitlines())
    assert pay == {
        "tool": "pay",
        "calls": 6,
        "asked": 4,
        "in_advance": 1,
        "approved": 2,
        "refused": 1,
        "open": 1,
        "asked_per_100_calls": 66.67,
        "median_wait_s": 2.0,
    }
    assert (every["tool"], every["calls"], every["asked"]) == (None, 17, 5)


def test_people_see_the_tools_they_are_asked_about_the_most_first(log: Path) -> None:
    lines = run("--log", log).splitlines()
    assert [line.split()[:3] for line in lines[1:4]] == [["pay", "6", "4"], ["wipe", "1", "1"], ["all", "calls", "17"]]
    assert lines[-1] == "A human was asked 29.4 times in 100 calls."


def test_a_window_and_a_log_without_calls(log: Path, tmp_path: Path) -> None:
    assert "A human was asked 0.0 times" in run("--log", log, "--until", "1970-01-01T00:01:00")
    SqliteAuditSink(tmp_path / "new.db").close()
    assert "A human was asked 0.0 times" in run("--log", tmp_path / "new.db")
