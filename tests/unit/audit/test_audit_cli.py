from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zt_agents.audit import AuditLog, RecordKind
from zt_agents.cli.audit import audit_app
from zt_agents.stores.sqlite_audit import SqliteAuditSink


def run(*arguments: object, env: dict[str, str] | None = None):
    return CliRunner().invoke(audit_app, [str(argument) for argument in arguments], env=env)


@pytest.fixture
def filled(path: Path, make_record) -> Path:
    """Three calls: allowed and run, denied, approved and failed."""
    with AuditLog(SqliteAuditSink(path)) as log:
        log.append(make_record(decision_id="a", time=100.0, trace_id="0af7" * 8))
        log.append(
            make_record(decision_id="a", time=101.0, kind=RecordKind.OUTCOME, status="ok", duration_ms=12.34)
        )
        reasons = (("no_rule", "No rule allows it.", None),)
        log.append(
            make_record(
                decision_id="b",
                time=200.0,
                tool="wipe",
                outcome="deny",
                tier="high",
                reasons=reasons,
                rule_id=None,
            )
        )
        held = make_record(
            decision_id="c", time=300.0, user_id="lee", outcome="require_approval", rule_id=None
        )
        log.append(held)
        log.append(make_record(decision_id="c", time=301.0, user_id="lee", approved_by="dana", rule_id=None))
        log.append(
            make_record(
                decision_id="c",
                time=302.0,
                kind=RecordKind.OUTCOME,
                user_id="",
                agent="",
                status="error",
                error_type="OSError",
            )
        )
    return path


def shown(path: Path, *filters: str) -> list[str]:
    """Return the decision ids that ``show --json`` prints."""
    done = run("show", "--log", path, "--json", *filters)
    assert done.exit_code == 0, done.output
    return [json.loads(line)["decision"]["decision_id"] for line in done.stdout.splitlines()]


def head_of(path: Path) -> str:
    match = re.search(r"^Head (\d+:[0-9a-f]{64})$", run("verify", "--log", path).stdout, re.MULTILINE)
    assert match is not None
    return match[1]


# show


def test_show_prints_one_line_per_call_decision_and_outcome_together(filled) -> None:
    done = run("show", "--log", filled)
    assert done.exit_code == 0
    header, first, second, third, footer = done.stdout.splitlines()
    assert " ".join(header.split()) == "time agent for user tool tier outcome why status ms trace id decision"
    assert first.split() == (
        "1970-01-01 00:01:40Z helpdesk kim read_ticket low allow "
        "Helpdesk may read tickets. [rule read] ok 12.3 " + "0af7" * 8 + " a"
    ).split()  # fmt: skip
    assert " ".join(second.split()) == "1970-01-01 00:03:20Z helpdesk kim wipe high deny No rule allows it. b"
    assert "[approved by dana] error OSError" in " ".join(third.split())
    assert re.fullmatch(r"3 calls\. Head 6:[0-9a-f]{64}, unproven\.", footer)


def test_json_has_the_whole_records(filled) -> None:
    lines = run("show", "--log", filled, "--json").stdout.splitlines()
    first, second, third = map(json.loads, lines)
    assert (first["decision"]["seq"], first["outcome"]["seq"], first["earlier"]) == (1, 2, [])
    assert second["outcome"] is None
    assert [record["outcome"] for record in third["earlier"]] == ["require_approval"]
    assert re.fullmatch("[0-9a-f]{64}", first["decision"]["hash"])


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ((), "abc"),
        (("--tool", "wipe"), "b"),
        (("--user", "lee"), "c"),
        (("--agent", "helpdesk", "--user", "kim"), "ab"),
        (("--outcome", "deny"), "b"),
        (("--outcome", "allow"), "ac"),
        (("--outcome", "require_approval"), ""),
        (("--since", "1970-01-01T00:03:20"), "bc"),
        (("--until", "1970-01-01T01:03:20+01:00"), "a"),
        (("--since", "1h"), ""),
        (("--since", "last tuesday"), ""),
        (("--until", "2 weeks ago"), "abc"),
        (("--limit", "2"), "bc"),
        (("--outcome", "allow", "--limit", "1"), "c"),
    ],
)
def test_filters(filled, filters, expected) -> None:
    assert shown(filled, *filters) == list(expected)


@pytest.mark.parametrize("wrong", [("--outcome", "allowed"), ("--since", "next tuesday"), ("--limit", "0")])
def test_a_filter_that_means_nothing_is_refused_and_not_ignored(filled, wrong) -> None:
    assert run("show", "--log", filled, *wrong).exit_code == 2


HOSTILE = "[red]x[/red]\x1b[31m\x07\r\n\x9b\u202e\u2066\u200b\x7f\ud800"


@pytest.mark.parametrize("arguments", [("show",), ("show", "--json"), ("verify",), ("verify", "--json")])
def test_nothing_in_a_log_acts_on_the_terminal(path, make_record, arguments) -> None:
    hostile = make_record(
        tool=HOSTILE,
        agent=HOSTILE,
        user_id=HOSTILE,
        tier=HOSTILE,
        outcome=HOSTILE,
        reasons=((HOSTILE, HOSTILE, HOSTILE),),
        rule_id=HOSTILE,
        approved_by=HOSTILE,
        trace_id=HOSTILE,
        status=HOSTILE,
        decision_id=HOSTILE,
    )
    with AuditLog(SqliteAuditSink(path)) as log:
        log.append(hostile)
    done = run(*arguments, "--log", path)
    assert done.exit_code == 0
    assert all(" " <= character <= "~" or character == "\n" for character in done.output)
    if arguments == ("show",):
        assert "[red]x[/red]\\x1b[31m" in done.stdout.replace("\n", "")


def test_letters_of_other_alphabets_stay_readable(path, make_record) -> None:
    with AuditLog(SqliteAuditSink(path)) as log:
        log.append(make_record(user_id="Zoë Åkesson 王"))
    assert "Zoë Åkesson 王" in run("show", "--log", path).stdout


def test_an_outcome_without_a_decision_is_shown_as_such(path, make_record) -> None:
    with AuditLog(SqliteAuditSink(path)) as log:
        log.append(make_record(kind=RecordKind.OUTCOME, status="ok"))
    assert "no decision is on record" in run("show", "--log", path).stdout


def test_records_that_are_no_records_do_not_stop_show(path, make_record) -> None:
    with AuditLog(SqliteAuditSink(path)) as log:
        for time in (1e300, 1.0, 2.0):
            log.append(make_record(time=time))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE record SET body = 'x' WHERE seq = 2")
        connection.execute(
            "UPDATE record SET body = ? WHERE seq = 3", (b'{"reasons": 3, "time": [], "agent": {}}',)
        )
    done = run("show", "--log", path)
    assert done.exit_code == 0
    assert "record 2 is unreadable" in done.stdout


# verify


def test_verify_passes_an_untouched_log(filled) -> None:
    done = run("verify", "--log", filled)
    assert done.exit_code == 0
    assert "VERIFIED" in done.stdout
    assert "6 records" in done.stdout
    assert run("verify", "--log", filled, "--expect", head_of(filled)).exit_code == 0


def test_verify_names_what_is_broken(filled) -> None:
    with closing(sqlite3.connect(filled)) as connection, connection:
        connection.execute(
            "UPDATE record SET body = CAST(replace(body, 'deny', 'allo') AS BLOB) WHERE seq = 3"
        )
    done = run("verify", "--log", filled)
    assert done.exit_code == 1
    assert "BROKEN" in done.stdout
    assert "Record 3 does not follow from record 2" in done.stdout
    report = json.loads(run("verify", "--log", filled, "--json").stdout)
    assert (report["status"], report["findings"][0]["seq"]) == ("broken", 3)


def test_nothing_to_verify_is_not_a_pass(path) -> None:
    for _ in range(2):
        done = run("verify", "--log", path)
        assert done.exit_code == 3
        assert "NOTHING TO VERIFY" in done.stdout
        path.touch()
    SqliteAuditSink(path).close()
    assert run("verify", "--log", path).exit_code == 3


def test_a_log_that_is_gone_or_emptied_is_broken_when_a_head_is_expected(filled) -> None:
    head = head_of(filled)
    filled.unlink()
    assert run("verify", "--log", filled, "--expect", head).exit_code == 1
    SqliteAuditSink(filled).close()
    assert run("verify", "--log", filled, "--expect", head).exit_code == 1


@pytest.mark.parametrize("expect", ["", "6", "6:abc", "six:" + "0" * 64])
def test_an_expectation_that_cannot_be_read_is_refused_and_not_ignored(filled, expect) -> None:
    assert run("verify", "--log", filled, "--expect", expect).exit_code == 2


def test_what_is_no_log_cannot_be_opened(tmp_path) -> None:
    text = tmp_path / "text"
    text.write_text("not a database " * 500)
    for arguments in (("verify", "--log", text), ("verify", "--log", tmp_path), ("show", "--log", text)):
        done = run(*arguments)
        assert done.exit_code == 2
        assert "error:" in done.stderr
    assert run("show", "--log", tmp_path / "none").exit_code == 2


def test_the_log_is_found_through_the_environment_and_in_the_current_folder(filled, monkeypatch) -> None:
    assert run("verify", env={"ZT_AGENTS_AUDIT": str(filled)}).exit_code == 0
    monkeypatch.delenv("ZT_AGENTS_AUDIT", raising=False)
    monkeypatch.chdir(filled.parent)
    assert run("verify").exit_code == 3
    filled.rename(filled.parent / "zt-agents-audit.db")
    assert run("verify").exit_code == 0


def test_commands_do_not_change_or_create_a_log(filled, tmp_path) -> None:
    before = filled.read_bytes()
    for command in ("show", "verify"):
        run(command, "--log", filled)
        run(command, "--log", tmp_path / "none.db")
    assert filled.read_bytes() == before
    assert not (tmp_path / "none.db").exists()
