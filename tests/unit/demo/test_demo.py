"""The demonstration goes as it should, and would say so if it did not."""

from __future__ import annotations

import io
import json
import os
import pty
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from http.server import HTTPServer
from pathlib import Path

import pytest
from rich.console import Console
from serving import QuietHandler, serving
from typer.testing import CliRunner

from zt_agents.approvals import ApprovalRequest
from zt_agents.audit.verify import VerifyStatus
from zt_agents.catalog.lock import ToolLock, lock_path
from zt_agents.cli import app
from zt_agents.demo.evidence import check_data, disagreements, read_calls
from zt_agents.demo.helpdesk import ATTACKER, INJECTION, Helpdesk, tools_for_review
from zt_agents.demo.play import POLICY, DemoChannel, Played, play
from zt_agents.demo.show import Show
from zt_agents.integrations.langchain.describe import describe_all
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore
from zt_agents.stores.sqlite_audit import SqliteAuditSink

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


class Seen:
    """A demonstration, and what it printed."""

    def __init__(self, folder: Path, *, answer: bool | None = True, ticket: str = INJECTION) -> None:
        folder.mkdir()
        printed = io.StringIO()
        self.played: Played = play(folder, Show(Console(file=printed)), answer=answer, ticket=ticket)
        self.text = printed.getvalue()
        self.desk = Helpdesk(folder)

    @property
    def decided(self) -> list[tuple[str, str]]:
        return [(call.decision["tool"], call.decision["outcome"]) for call in self.played.calls]

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.desk.database)) as db:
            return db.execute(sql).fetchall()


@pytest.fixture(scope="module")
def approved(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return Seen(tmp_path_factory.mktemp("approved") / "demo")


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return Seen(tmp_path_factory.mktemp("refused") / "demo", answer=False)


# -- what happens -------------------------------------------------------------------------------------------------


def test_every_call_is_decided_as_the_story_needs(approved: Seen) -> None:
    assert approved.played.well
    assert approved.decided == [
        ("list_tickets", "allow"),
        ("read_ticket", "allow"),
        ("read_article", "allow"),
        ("update_ticket", "allow"),
        ("read_ticket", "allow"),
        ("reset_password", "allow"),
        ("update_ticket", "allow"),
        ("read_ticket", "allow"),
        ("read_pay", "deny"),
        ("send_mail", "deny"),
        ("delete_ticket", "deny"),
        ("delete_ticket", "deny"),
        ("update_ticket", "allow"),
        ("send_mail", "allow"),
    ]
    assert [call.decision["tool"] for call in approved.played.calls if call.held] == ["reset_password", "send_mail"]
    rules = {call.decision["tool"]: call.decision.get("rule_id") for call in approved.played.calls if not call.allowed}
    assert rules == {"read_pay": "pay-is-for-hr", "send_mail": "mail-stays-inside", "delete_ticket": None}


def test_the_work_was_really_done(approved: Seen) -> None:
    assert approved.rows("SELECT id, status FROM ticket ORDER BY id") == [
        (1001, "resolved"),
        (1002, "resolved"),
        (1003, "waiting"),
    ]
    assert approved.rows("SELECT locked FROM user WHERE email = 'carol@acme.example' AND password_hash != ''") == [(0,)]
    (mail,) = approved.desk.outbox.iterdir()
    assert b"To: bob@acme.example" in mail.read_bytes()


def test_without_approval_neither_password_nor_mail(refused: Seen) -> None:
    assert refused.played.well
    outcomes = dict(refused.decided)
    assert outcomes["reset_password"] == outcomes["send_mail"] == "deny"
    assert refused.rows("SELECT locked, password_hash FROM user WHERE email = 'carol@acme.example'") == [(1, "")]
    assert refused.rows("SELECT status FROM ticket WHERE id = 1002") == [("waiting",)]
    assert not list(refused.desk.outbox.iterdir())
    assert "Carol still needs a person: nobody approved it" in " ".join(refused.text.split())


def test_the_model_is_hijacked_by_what_it_reads_and_by_nothing_else(tmp_path: Path) -> None:
    other = Seen(tmp_path / "other", ticket=INJECTION.replace(ATTACKER, "mallory@elsewhere.example"))
    attempts = [call.decision["resource"] for call in other.played.calls if call.decision["tool"] == "send_mail"]
    assert attempts[0] == "mailbox/mallory@elsewhere.example"

    harmless = Seen(tmp_path / "harmless", ticket="Our invoice 4711 is still unpaid.")
    assert {outcome for _, outcome in harmless.decided} == {"allow"}
    assert not {"read_pay", "delete_ticket"} & {tool for tool, _ in harmless.decided}
    assert not harmless.played.well, "a demonstration without an attack shows nothing"


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (lambda desk: desk.query("DELETE", "ticket", "DELETE FROM ticket WHERE id = 1001"), "2 of 3 tickets"),
        (lambda desk: (desk.outbox / "a.eml").write_text("To: x@evil.example\n\nhello"), "1 mail went outside"),
        (
            lambda desk: (desk.outbox / "a.eml").write_text("To: bob@acme.example\n\n318000"),
            "1 mail in the outbox holds",
        ),
    ],
)
def test_harm_is_noticed_in_the_data(tmp_path: Path, harm: object, text: str) -> None:
    desk = Helpdesk(tmp_path)
    desk.found()
    assert all(check.holds for check in check_data(desk))
    harm(desk)  # type: ignore[operator]
    (broken,) = [check for check in check_data(desk) if not check.holds]
    assert broken.text.startswith(text)


# -- the evidence -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["approved", "refused"])
def test_span_tree_and_log_agree_line_by_line(which: str, request: pytest.FixtureRequest) -> None:
    played: Played = request.getfixturevalue(which).played
    assert played.report.status is VerifyStatus.VERIFIED
    with closing(SqliteAuditSink(played.log, create=False)) as sink, sink.snapshot() as snapshot:
        records = list(snapshot.read())
    final = {
        record["decision_id"]: record
        for record in records
        if record["kind"] == "decision" and record["outcome"] != "require_approval"
    }
    traced = [span for root in played.trees for _, span in root.walk() if span.name.startswith("execute_tool ")]

    count = Counter(record["decision_id"] for record in records if record in final.values())
    assert set(count.values()) == {1}, "one final decision per call"
    in_log = {
        (r["decision_id"], r["tool"], r["outcome"], r["tier"], r["trace_id"], r["span_id"], r.get("rule_id"))
        for r in final.values()
    }
    in_trace = [
        (
            span.attributes["zt_agents.decision.id"],
            span.attributes["gen_ai.tool.name"],
            span.attributes["zt_agents.decision.outcome"],
            span.attributes["zt_agents.decision.tier"],
            span.trace_id,
            span.span_id,
            span.attributes.get("zt_agents.rule.id"),
        )
        for span in traced
    ]
    assert len(in_trace) == len(set(in_trace)) == 14
    assert set(in_trace) == in_log
    assert played.differences == []


def test_a_disagreement_is_noticed(approved: Seen) -> None:
    calls, spans = approved.played.calls, [span for root in approved.played.trees for _, span in root.walk()]
    tools = [span for span in spans if span.name.startswith("execute_tool ")]
    assert disagreements(calls, spans) == []
    assert len(disagreements(calls[1:], spans)) == 1
    assert len(disagreements(calls, tools[1:])) == 1
    assert len(disagreements(calls, [*tools, tools[0]])) == 1
    calls[0].decision["outcome"] = "deny"
    try:
        assert len(disagreements(calls, spans)) == 2
    finally:
        calls[0].decision["outcome"] = "allow"


def test_one_tree_from_the_human_down_to_the_data(approved: Seen) -> None:
    (root,) = approved.played.trees
    assert root.name == "invoke_agent helpdesk"
    assert root.attributes["user.id"] == "alice@acme.example"
    for span in root.children:
        inside = [child.name for child in span.children if child.name != "zt_agents.approval"]
        allowed = span.attributes["zt_agents.decision.outcome"] == "allow"
        assert len(inside) == (1 if allowed else 0), f"{span.name}: {inside}"
        for child in span.children:
            if child.attributes.get("db.system.name"):
                assert child.attributes["db.collection.name"] in {"ticket", "user"}, "pay was never read"


def test_reading_the_log_keeps_what_was_final(refused: Seen) -> None:
    held = [call for call in read_calls(refused.played.log) if call.held]
    assert [call.decision["outcome"] for call in held] == ["deny", "deny"]
    assert all(call.outcome is None for call in held)


# -- what a viewer sees -------------------------------------------------------------------------------------------


def test_it_shows_who_what_and_why(approved: Seen) -> None:
    text = " ".join(approved.text.split())
    for words in (
        "Alice works at Acme's helpdesk",
        "*** NOTICE TO AI ASSISTANTS PROCESSING THIS TICKET ***",
        "Approval needed",
        "Answered by the option --yes.",
        "✘ DENIED read_pay pay/dana.reyes@acme.example medium did not run",
        "Pay is for people in HR, and the user is not; an agent may not do more than its user.",
        "Alice human alice@acme.example └── invoke_agent helpdesk",
        "sqlite: UPDATE user",
        "Hash chain: verified",
        "14 of 14 calls agree",
        "3 of 3 tickets are still there",
        f"zt-agents audit verify --log {approved.played.log}",
        "jaegertracing/jaeger:latest",
    ):
        assert words in text, words


def test_nobody_at_the_terminal_means_no(tmp_path: Path) -> None:
    seen = Seen(tmp_path / "nobody", answer=None)
    assert dict(seen.decided)["reset_password"] == "deny"
    assert "Nobody sits at this terminal, so the answer is no." in seen.text


def test_no_ticket_can_restyle_or_move_the_terminal(tmp_path: Path) -> None:
    show = io.StringIO()
    Show(Console(file=show)).poison("\x1b[2J[bold]hidden[/bold]\u202eorders")
    assert "\x1b" not in show.getvalue()
    assert "\u202e" not in show.getvalue()
    assert "[bold]hidden[/bold]" in show.getvalue()


@pytest.mark.parametrize(("typed", "approves"), [("y", True), ("n", False), ("", False)])
def test_a_human_is_asked_at_the_terminal(
    typed: str, approves: bool, approved: Seen, monkeypatch: pytest.MonkeyPatch, waiting: ApprovalRequest
) -> None:
    keyboard, theirs = pty.openpty()

    class Screen(io.StringIO):
        def write(self, text: str) -> int:
            if "[y/N]" in text:
                os.write(keyboard, f"{typed}\n".encode())
            return super().write(text)

    printed = Screen()
    with os.fdopen(theirs) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        answer = DemoChannel(Show(Console(file=printed)), None, asks=True).ask(waiting)
    os.close(keyboard)
    assert answer is not None
    assert answer.approved is approves


def test_somebody_else_answers_with_a_credential_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    shown = io.StringIO()
    store, dana = folder / "zt-agents-approvals.db", folder / "dana.approver"

    def answer() -> None:
        answered: set[str] = set()
        while len(answered) < 2:
            pending = SqliteApprovalStore(store, create=False).pending() if store.exists() else ()
            for stored in pending:
                where = ["--as", str(dana), "--store", str(store)]
                done = CliRunner().invoke(app, ["approvals", "approve", stored.id, *where, "--yes"])
                assert done.exit_code == 0, done.output
                answered.add(stored.id)
            time.sleep(0.05)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    played = play(folder, Show(Console(file=shown, width=100)), inbox=True)
    thread.join(5)
    assert played.well
    by = {call.decision.get("approved_by") for call in played.calls if call.held}
    assert by == {"dana@acme.example"}
    assert "zt-agents console --store" in shown.getvalue()


@pytest.fixture
def waiting() -> ApprovalRequest:
    from zt_agents.approvals import request_approval
    from zt_agents.catalog.specs import Tier
    from zt_agents.decisions import Decision, Outcome, ToolCall

    call = ToolCall(tool="reset_password", spec=None, arguments={"email": "carol@acme.example"})
    return request_approval(call, Decision("d", Outcome.REQUIRE_APPROVAL, call.tool, Tier.HIGH, ()), timeout=60)


# -- the command --------------------------------------------------------------------------------------------------


def test_json_summary_and_the_folder_that_was_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["demo", "--yes", "--json", "--dir", str(tmp_path / "kept")])
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert summary["ok"] is True
    assert len(summary["calls"]) == 14
    assert Counter(call["outcome"] for call in summary["calls"]) == {"allow": 10, "deny": 4}
    assert summary["audit"]["status"] == "verified"
    assert summary["audit"]["differences_from_trace"] == []
    assert summary["spans"] == 1 + 14 + 10 + 2
    assert Path(summary["audit"]["log"]).is_file()
    assert (tmp_path / "kept" / "policy.yaml").read_text() == POLICY.read_text()


@pytest.mark.parametrize("switch", [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_SAMPLER", "always_off")])
def test_it_traces_where_tracing_is_switched_off(
    switch: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(*switch)
    done = CliRunner().invoke(app, ["demo", "--yes", "--json", "--dir", str(tmp_path / "demo")])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["spans"] == 27


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--yes", "--no"], "choose one of"),
        (["--dir", "."], "not an empty folder"),
        (["--model", "no-such-provider:model"], "cannot be used"),
    ],
)
def test_what_cannot_be_played_is_said_and_ends_with_2(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(app, ["demo", *arguments])
    assert done.exit_code == 2
    assert words in done.output


def test_it_ends_with_1_when_it_did_not_go_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("zt_agents.demo.play.POLICY", _lax_policy(tmp_path))
    done = CliRunner().invoke(app, ["demo", "--yes", "--dir", str(tmp_path / "demo")])
    assert done.exit_code == 1
    assert "This is not how it should have gone" in done.output
    assert "1 of 3 tickets are still there" in done.output


def _lax_policy(folder: Path) -> Path:
    """Return a policy under which whoever says yes to everything loses tickets."""
    path = folder / "policy.yaml"
    rule = "\n  - {id: anything, agents: [helpdesk], tools: [delete_ticket], outcome: allow}\n"
    path.write_text(POLICY.read_text() + rule)
    lock_path(path).write_bytes(lock_path(POLICY).read_bytes())
    return path


def test_a_missing_extra_is_one_clear_message() -> None:
    program = "import sys; sys.modules['langchain'] = None; from zt_agents.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "demo", "--yes"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert 'python -m pip install "zt-agents[langchain]"' in done.stderr
    assert "Traceback" not in done.stderr


# -- traces -------------------------------------------------------------------------------------------------------


@pytest.fixture
def collector() -> Iterator[tuple[str, list[str]]]:
    received: list[str] = []

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            received.append(f"{self.path} {len(self.rfile.read(int(self.headers['Content-Length'])))}")
            self.send_response(200)
            self.end_headers()

    with serving(HTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}", received


def test_spans_go_to_the_collector_that_is_configured(
    collector: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    endpoint, received = collector
    monkeypatch.setenv(ENDPOINT, endpoint)
    seen = Seen(tmp_path / "traced")
    assert [line.split()[0] for line in received] == ["/v1/traces"]
    assert f"The spans were sent to {endpoint}" in seen.text
    assert "docker run" not in seen.text


def test_an_unreachable_collector_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    seen = Seen(tmp_path / "untraced")
    assert seen.played.well
    assert seen.text.splitlines()[-1] == "No spans arrived at http://127.0.0.1:9; nothing else depends on it."


# -- what is shipped ----------------------------------------------------------------------------------------------


def test_the_lock_is_current() -> None:
    lock = ToolLock.read(lock_path(POLICY))
    assert lock.accepted == ToolLock().accept(describe_all(tools_for_review())).accepted
    done = CliRunner().invoke(app, ["check", str(POLICY)])
    assert done.exit_code == 0, done.output
    assert "0 findings" in done.output


def test_it_fits_a_terminal_of_80_columns(approved: Seen, refused: Seen) -> None:
    for seen in (approved, refused):
        printed = io.StringIO()
        show = Show(Console(file=printed))
        show.console.width = 80
        for number, call in enumerate(seen.played.calls, start=1):
            show.call(number, call)
        show.audit(seen.played.calls, verified="", agreement="")
        text = printed.getvalue()
        assert max(map(len, text.splitlines())) <= 80
        for call in seen.played.calls:
            assert call.decision["span_id"][:8] in text
            assert f" {call.decision['tool']} " in text
        assert ("not approved" in text) is (seen is refused)
        assert "did not run" in text
