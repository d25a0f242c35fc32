"""``zt-agents revoke``, ``revocations`` and ``reinstate``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from approval_requests import request
from typer.testing import CliRunner, Result
from world import ONE_AGENT

from zt_agents import Guard
from zt_agents.approvals import ApprovalState
from zt_agents.audit import AuditRecord, RecordKind
from zt_agents.cli import app
from zt_agents.decisions import ApprovalTerms
from zt_agents.errors import TokenRevokedError
from zt_agents.identity.revocations import Revoked
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore
from zt_agents.stores.sqlite_audit import SqliteAuditSink
from zt_agents.stores.sqlite_revocations import SqliteRevocations
from zt_agents.testing import write_policy

HELPDESK = "spiffe://acme.example/agent/helpdesk"
POLICY = (
    ONE_AGENT
    + """
tools:
  act: {tier: low, effects: [read]}
rules:
  - {id: act, agents: [helpdesk], tools: [act], outcome: allow}
"""
)
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    from langchain_core.tools import tool

    @tool
    def act(a: int) -> str:
        """Act."""
        return ""

    monkeypatch.chdir(tmp_path)
    write_policy(tmp_path, POLICY, [act])
    SqliteRevocations("zt-agents-revocations.db").open()  # as a guard does when it starts
    sink = SqliteAuditSink("zt-agents-audit.db")
    record = AuditRecord(RecordKind.DECISION, time.time(), "d-1", "act", "allow", agent="helpdesk", session_id="s-1")
    record = record._replace(agent_id=HELPDESK, user_id="alice@acme.example", owner="dana@acme.example", task="t-1")
    sink.append([record])
    sink.close()

    def invoke(*options: str, input: str = "") -> Result:
        return CliRunner().invoke(app, options, input=input)

    return invoke


def in_force() -> list[tuple[str, str, str]]:
    found = SqliteRevocations("zt-agents-revocations.db", create=False).list()
    return [(each.kind, each.value, each.by) for each in found]


def changes() -> list[dict[str, Any]]:
    with SqliteAuditSink("zt-agents-audit.db").snapshot() as snapshot:
        return [record["change"] for record in snapshot.read() if record["kind"] == "change"]


@pytest.mark.parametrize("named", ["helpdesk", HELPDESK])
def test_an_agent_is_stopped_by_its_name_or_id_and_reinstated(run: Run, named: str) -> None:
    done = run("revoke", "--agent", named, "--reason", "key leaked", "--by", "dana")
    assert done.exit_code == 0, done.output
    assert "calls of agent" in done.output.lower()
    assert "warning" not in done.output
    assert in_force() == [("agent", HELPDESK, "dana")]
    with Guard.from_config("zt-agents.yaml") as guard, pytest.raises(TokenRevokedError, match="by dana"):
        guard.session(agent="helpdesk", on_behalf_of="alice@acme.example")
    (listed,) = json.loads(run("revocations", "--json").output)
    assert (listed["kind"], listed["value"], listed["by"], listed["why"]) == ("agent", HELPDESK, "dana", "key leaked")
    asked = run("reinstate", listed["id"][:6], "--reason", "all is well", input="n\n")
    assert asked.exit_code == 1
    assert "key leaked" in asked.output
    assert in_force()
    assert run("reinstate", listed["id"][:6], "--reason", "all is well", "--yes").exit_code == 0
    assert not in_force()
    assert [(each["what"], each["why"]) for each in changes()] == [
        ("revocation.made", "key leaked"),
        ("revocation.lifted", "all is well"),
    ]


def test_everything_is_stopped_at_once_and_nothing_is_asked(run: Run) -> None:
    assert run("revoke", "--all").exit_code == 0
    ((kind, value, by),) = in_force()
    assert (kind, value) == ("all", "")
    assert by.startswith("os:")


def test_several_are_stopped_by_one_command(run: Run) -> None:
    done = run("revoke", "--user", "alice@acme.example", "--user", "bob@acme.example", "--user", "bob@acme.example")
    assert done.exit_code == 0
    assert [value for _, value, _ in in_force()] == ["alice@acme.example", "bob@acme.example"]


@pytest.mark.parametrize(
    "options", [[], ["--all", "--user", "alice"], ["--agent", "helpdesk", "--owner", "dana@acme.example"]]
)
def test_one_kind_at_a_time(run: Run, options: list[str]) -> None:
    assert run("revoke", *options).exit_code == 2
    assert not in_force()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--agent", "helpdsk"], "Did you mean 'helpdesk'?"),
        (["--agent", "helpdsk", "--force"], "SPIFFE-format id"),
        (["--agent", f"{HELPDESK}x"], "--force"),
        (["--agent", ""], "names no agent"),
        (["--user", " "], "names no user"),
        (["--user", "al\udcffice"], "is no text"),
        (["--policy", "other.yaml", "--all"], "--store"),
    ],
)
def test_what_is_not_understood_is_refused(run: Run, options: list[str], said: str) -> None:
    done = run("revoke", *options)
    assert done.exit_code == 2
    assert said in done.output
    assert not in_force()


def test_an_agent_of_another_policy_is_stopped_by_its_id_and_force(run: Run) -> None:
    assert run("revoke", "--agent", "spiffe://acme.example/agent/elsewhere", "--force").exit_code == 0
    assert [value for _, value, _ in in_force()] == ["spiffe://acme.example/agent/elsewhere"]


@pytest.mark.parametrize(
    ("value", "warnings"),
    [
        ("alice@acme.example", []),
        ("Alice@acme.example", ["matches nothing", "Did you mean 'alice@acme.example'?"]),
        ("аlice@acme.example", ["Cyrillic", "Did you mean 'alice@acme.example'?"]),
        ("alice@acme.example ", ["begins or ends with a space", "Did you mean"]),
        ("ali\u200bce@acme.example", ["nobody sees"]),
        ("rene\u0301@acme.example", ["NFC"]),
        ("bob", ["matches nothing"]),
    ],
)
def test_what_is_likely_a_mistake_is_said_and_revoked_as_it_is(run: Run, value: str, warnings: list[str]) -> None:
    done = run("revoke", "--user", value)
    assert done.exit_code == 0
    assert [each for _, each, _ in in_force()] == [value]
    for warning in warnings:
        assert warning in done.output
    assert ("warning" in done.output) == bool(warnings)


@pytest.mark.parametrize(
    ("options", "known"),
    [
        (["--agent", "helpdesk"], 1),
        (["--user", "alice@acme.example"], 1),
        (["--session", "s-1"], 1),
        (["--task", "t-1"], 1),
        (["--owner", "dana@acme.example"], 1),
        (["--all"], 1),
        (["--token", "j-1"], 0),
    ],
)
def test_a_dry_run_says_what_is_known_and_revokes_nothing(run: Run, options: list[str], known: int) -> None:
    store = SqliteApprovalStore("zt-agents-approvals.db")
    asked = request(ApprovalTerms(), call_id="c-1")
    store.put(asked)
    done = run("revoke", *options, "--dry-run", "--json")
    said = json.loads(done.stdout)
    assert done.exit_code == 0
    assert list(said["calls"].values()) == [known]
    assert said["revoked"] == []
    assert (in_force(), changes()) == ([], [])
    stored = store.get(asked.id)
    assert stored is not None
    assert stored.state is ApprovalState.PENDING


def test_a_store_that_no_guard_has_opened_is_noticed(run: Run, tmp_path: Path) -> None:
    done = run("revoke", "--all", "--store", str(tmp_path / "elsewhere.db"))
    assert done.exit_code == 0
    assert "No guard has ever looked" in done.output
    assert not in_force()
    assert run("revocations", "--store", "nowhere.db").exit_code == 2


def test_a_policy_that_does_not_load_keeps_nobody_from_stopping(run: Run, tmp_path: Path) -> None:
    (tmp_path / "zt-agents.yaml").write_text("version: 1\nagents: [\n")
    assert run("revoke", "--agent", "helpdesk").exit_code == 2
    assert run("revoke", "--agent", HELPDESK, "--force").exit_code == 0
    assert run("revoke", "--all").exit_code == 0
    assert [kind for kind, _, _ in in_force()] == ["agent", "all"]


def test_a_policy_with_a_place_of_its_own_is_followed(run: Run, tmp_path: Path) -> None:
    with (tmp_path / "zt-agents.yaml").open("a") as file:
        file.write("revocation: {path: stopped.db, max_staleness: 2s}\n")
    with Guard.from_config("zt-agents.yaml") as guard:
        done = run("revoke", "--owner", "dana@acme.example")
        assert "warning" not in done.output
        assert not in_force()
        assert [each.kind for each in guard.revocations.list()] == [Revoked.OWNER]


def test_a_log_that_cannot_be_written_is_said_after_it_was_revoked(run: Run, tmp_path: Path) -> None:
    (tmp_path / "zt-agents-audit.db").write_bytes(b"no log at all, but long enough to look like something else" * 20)
    done = run("revoke", "--all")
    assert done.exit_code == 1
    assert "zt-agents-audit.db" in done.output
    assert [kind for kind, _, _ in in_force()] == ["all"]
    (each,) = SqliteRevocations("zt-agents-revocations.db").list()
    assert run("reinstate", each.id, "--reason", "r", "--yes").exit_code == 2
    assert in_force()


def test_a_store_that_is_gone_is_not_made_anew(run: Run, tmp_path: Path) -> None:
    Path("zt-agents-revocations.db").unlink()
    for command in (["revoke", "--all"], ["revocations"], ["reinstate", "x", "--reason", "r"]):
        done = run(*command)
        assert done.exit_code == 2, command
        assert "is gone" in done.output
    assert not (tmp_path / "zt-agents-revocations.db").exists()


@pytest.mark.parametrize(("reference", "code"), [("", 1), ("zzz", 1)])
def test_what_is_not_in_force_is_not_reinstated(run: Run, reference: str, code: int) -> None:
    run("revoke", "--user", "alice@acme.example")
    assert run("reinstate", reference, "--reason", "r", "--yes").exit_code == code
    assert run("reinstate", reference, "--yes").exit_code == 2
    assert len(in_force()) == 1


def test_reinstating_says_what_else_stops_the_same(run: Run) -> None:
    run("revoke", "--user", "alice@acme.example", "--by", "dana")
    run("revoke", "--user", "alice@acme.example", "--by", "erin")
    first, _ = SqliteRevocations("zt-agents-revocations.db").list()
    done = run("reinstate", first.id, "--reason", "r", "--yes")
    assert "once more, by erin" in done.output
    assert [by for _, _, by in in_force()] == ["erin"]


def test_what_strangers_chose_does_nothing_to_a_terminal(run: Run) -> None:
    run("revoke", "--user", "\x1b[2Jalice", "--reason", "\x1b[31mred")
    for command in (["revocations"], ["revocations", "--json"], ["revoke", "--user", "\x1b[2Jalice"]):
        assert "\x1b[" not in run(*command).output
