"""``zt-agents audit changes``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zt_agents.audit import AuditRecord, RecordKind
from zt_agents.audit.records import change_record
from zt_agents.cli import app
from zt_agents.stores.sqlite_audit import SqliteAuditSink

DAY = 1_760_000_000.0
DELEGATION = {
    "actors": [["spiffe://acme.example/agent/research", "9" * 32], ["spiffe://acme.example/agent/helpdesk", "8" * 32]],
    "expires_at": DAY + 60,
    "scope": [{"type": "zt_agents_task_scope", "tools": ["read_ticket"], "resources": ["ticket/5"]}],
    "task": "7" * 32,
}


@pytest.fixture
def changes(tmp_path: Path) -> Callable[..., str]:
    log = tmp_path / "audit.db"
    sink = SqliteAuditSink(log)
    sink.append(
        [
            change_record("agent.suspended", "helpdesk", by="os:dana", why="odd calls", time=DAY, version="2"),
            AuditRecord(RecordKind.DECISION, DAY + 1, "d-1", "read_ticket", "allow", agent="helpdesk"),
            change_record("revocation.made", "alice", by="os:\x1b[2Jdana", why="", time=DAY + 2),
            change_record("agent.resumed", "helpdesk", by="os:dana", why="", time=DAY + 3),
        ]
    )
    sink.close()

    def run(*options: str) -> str:
        done = CliRunner().invoke(app, ["audit", "changes", "--log", str(log), *options])
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_every_change_and_nothing_else(changes) -> None:
    shown = changes()
    assert shown.index("agent.suspended") < shown.index("revocation.made") < shown.index("agent.resumed")
    assert "odd calls" in shown
    assert "version=2" in shown
    assert "read_ticket" not in shown
    assert "\x1b[2J" not in shown


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--what", "agent"], ["agent.suspended", "agent.resumed"]),
        (["--what", "agent.resumed"], ["agent.resumed"]),
        (["--what", "age"], []),
        (["--about", "alice"], ["revocation.made"]),
        (["--limit", "1"], ["agent.resumed"]),
        (["--since", "2025-10-09T08:53:22", "--what", "revocation"], ["revocation.made"]),
        (["--until", "2025-10-09T08:53:21"], ["agent.suspended"]),
    ],
)
def test_what_was_asked_for(changes, options: list[str], expected: list[str]) -> None:
    lines = changes("--json", *options).splitlines()
    assert [json.loads(line)["change"]["what"] for line in lines] == expected


def test_what_is_said_besides_is_for_readers(tmp_path: Path) -> None:
    log = tmp_path / "audit.db"
    sink = SqliteAuditSink(log)
    sink.append([change_record("delegation.made", "research", by="helpdesk", why="", time=DAY, **DELEGATION)])
    sink.close()
    shown = CliRunner().invoke(app, ["audit", "changes", "--log", str(log)]).output
    for line in (
        "actors=helpdesk > research",
        "expires_at=2025-10-09 08:54:20",
        "scope=resources ticket/5; tools read_ticket",
        "task=77777777…",
    ):
        assert line in " ".join(shown.split())


def test_nothing_is_said(changes) -> None:
    assert "No such change" in changes("--about", "bob")
