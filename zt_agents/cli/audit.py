"""``zt-agents audit``: read the audit log, and prove it.

Values in a log were chosen by models and by strangers. They are shown, never obeyed: control characters,
direction overrides and the like are printed as escapes, and nothing is read as markup.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from zt_agents._internal.clock import as_datetime
from zt_agents._internal.display import visible
from zt_agents.audit.calls import Call, Selection, newest_calls, short, text
from zt_agents.audit.chain import Head
from zt_agents.audit.checkpoints import Checkpoint
from zt_agents.audit.content import ContentReport, check_content
from zt_agents.audit.sink import AuditSource, Snapshot
from zt_agents.audit.verify import Fault, Finding, VerifyReport, VerifyStatus, verify
from zt_agents.cli.checkpoints import checkpoints_to_hold
from zt_agents.cli.commands import Commands
from zt_agents.cli.display import say
from zt_agents.cli.moments import moment_option
from zt_agents.cli.sources import SegmentsOption, searchable, whole
from zt_agents.errors import AuditIntegrityError, ZeroTrustError
from zt_agents.stores.sqlite_content import SqliteContentStore

VERIFIED, BROKEN, CANNOT_OPEN, NOTHING_TO_VERIFY, NOT_VERIFIED = range(5)
"""Exit codes of ``verify``."""

_WIDTH_WITHOUT_TERMINAL = 200
_LONG = 20_000
"""Records from which a progress bar is worth drawing."""
_COLOURS = {"allow": "green", "deny": "red", "require_approval": "yellow", "error": "red"}

audit_app = Commands("audit", "Read the audit log, and prove it.")

LogOption = Annotated[Path, typer.Option("--log", envvar="ZT_AGENTS_AUDIT", help="The audit log.")]
DEFAULT_LOG = Path("zt-agents-audit.db")


@audit_app.command()
def show(
    log: LogOption = DEFAULT_LOG,
    agent: Annotated[str | None, typer.Option(help="Only calls by this agent.")] = None,
    user: Annotated[str | None, typer.Option(help="Only calls for this user.")] = None,
    tool: Annotated[str | None, typer.Option(help="Only calls of this tool.")] = None,
    outcome: Annotated[
        str | None, typer.Option(help="Only calls decided so: allow, deny or require_approval.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Such as 15m, 'last tuesday' or 2026-01-31T08:00; UTC.")] = None,
    until: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many calls, the newest ones.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per call and line.")] = False,
    segments: SegmentsOption = None,
) -> None:
    """Show what was decided and what came of it, oldest first. This proves nothing: see verify.

    Exit code 1: the log is damaged.
    """
    if outcome is not None and outcome not in {"allow", "deny", "require_approval"}:
        raise typer.BadParameter("an outcome is allow, deny or require_approval", param_hint="--outcome")
    filters = {
        "agent": agent,
        "user": user,
        "tool": tool,
        "since": moment_option(since, "--since"),
        "until": moment_option(until, "--until"),
    }
    with or_exit(), searchable(log, segments) as source, source.snapshot() as snapshot:
        calls = list(_newest_calls(snapshot, filters, outcome, limit))[::-1]
        head = snapshot.head
    if as_json:
        for call in calls:
            print_json({"decision": call.decision, "outcome": call.outcome, "earlier": call.earlier})
        return
    console = _console()
    console.print(_table(calls, console.width))
    console.print(
        Text(f"{len(calls)} call{'s' if len(calls) != 1 else ''}. Head {head}, unproven."), soft_wrap=True
    )


@audit_app.command("verify")
def verify_log(
    log: LogOption = DEFAULT_LOG,
    expect: Annotated[
        str | None, typer.Option(metavar="SEQ:HASH", help="A head that was noted elsewhere.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A checkpoint that was kept elsewhere.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="VKEY", help="Who must have signed it; otherwise the key beside the log."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object.")] = False,
    segments: SegmentsOption = None,
) -> None:
    """Prove the log. Exit code 0: verified, 1: broken, 2: it cannot be opened, 3: there is nothing to verify.

    4: not verified, since what --expect or --checkpoint speaks of lies in segments that are not at hand.

    Without --expect or --checkpoint, a log that was rewritten as a whole, or put back to an older state, still
    verifies.
    """
    try:
        head = Head.parse(expect) if expect is not None else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--expect") from error
    if key is not None and checkpoint is None:
        raise typer.BadParameter("a key is of use with a checkpoint only", param_hint="--key")
    with or_exit():
        held = checkpoints_to_hold(log, checkpoint, key) if checkpoint is not None else []
        if log.exists() and (not log.is_file() or log.stat().st_size):
            source = whole(log, segments)
            with verify_progress() as progress:
                report = verify(source, expect=head, checkpoints=held, progress=progress)
            content = compared_content(source, log, report)
        else:
            report, content = _report_without_log(head, held), None
    if as_json:
        print_json({**_report_as_dict(report), "content": asdict(content) if content else None})
    else:
        print_report(report, log, head, held)
        print_content(content)
    if content is not None and content.faults:
        raise typer.Exit(BROKEN)
    raise typer.Exit(
        {
            VerifyStatus.VERIFIED: VERIFIED,
            VerifyStatus.BROKEN: BROKEN,
            VerifyStatus.NOTHING: NOTHING_TO_VERIFY,
            VerifyStatus.NOT_VERIFIED: NOT_VERIFIED,
        }[report.status]
    )


def compared_content(source: AuditSource, log: Path, report: VerifyReport) -> ContentReport | None:
    """Return how what is kept beside *log* compares with its records; None where nothing was ever kept."""
    store = SqliteContentStore.beside(log)
    if not store.path.exists():
        gone = f"The records commit to what is kept in {store.path.name}: it is missing."
        return ContentReport(0, 0, (gone,)) if report.commits_to_content else None
    with verify_progress("comparing content") as progress, suppress(AuditIntegrityError):  # which verify has found
        return check_content(source, store, progress)
    return None


def print_content(report: ContentReport | None) -> None:
    if report is None:
        return
    for fault in report.faults:
        say(f"CONTENT: {fault}", style="bold red")
    if not report.faults:
        say(f"Content: {report.kept} kept as it was, {report.erased} erased and accounted for.")


def _newest_calls(
    snapshot: Snapshot, filters: dict[str, Any], outcome: str | None, limit: int
) -> Iterator[Call]:
    for call in newest_calls(snapshot, Selection(**filters)):
        if outcome is None or call.said.get("outcome") == outcome:
            yield call
            limit -= 1
            if limit == 0:
                return


def _table(calls: list[Call], width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = _WIDE if width >= _WIDE_ENOUGH else _NARROW
    for name in names:
        table.add_column(
            name, overflow="fold", justify="right" if name == "ms" else "left", no_wrap=name in _NEVER_FOLDED
        )
    for call in calls:
        cells = _cells(call)
        table.add_row(*(_cell(cells[name]) for name in names))
    return table


_WIDE = ("time", "agent", "for user", "tool", "tier", "outcome", "why", "status", "ms", "trace id", "decision")
_NARROW = ("time", "for user", "tool", "outcome", "why")
_NEVER_FOLDED = {"time", "tier", "outcome", "status", "ms", "decision"}
_WIDE_ENOUGH = 160
"""Characters a terminal needs for all columns to be readable."""


def _cells(call: Call) -> dict[str, object]:
    said = call.decision or call.outcome or {}
    done = call.outcome or {}
    duration = done.get("duration_ms")
    return {
        "time": _when(said.get("time")),
        "agent": " > ".join([*(short(agent_id) for agent_id, _ in reversed(call.delegators)), text(said, "agent")]),
        "for user": said.get("user_id"),
        "tool": said.get("tool"),
        "tier": said.get("tier"),
        "outcome": said.get("outcome"),
        "why": _why(call),
        "status": " ".join(str(done[name]) for name in ("status", "error_type") if name in done),
        "ms": f"{duration:.1f}" if isinstance(duration, int | float) else None,
        "trace id": said.get("trace_id"),
        "decision": said.get("decision_id"),
    }


def _why(call: Call) -> str:
    if call.decision is None:
        return "no decision is on record for this outcome"
    if "unreadable" in call.decision:
        return f"record {call.decision['seq']} is unreadable"
    reasons = call.decision.get("reasons")
    first = reasons[0] if isinstance(reasons, list) and reasons else None
    why = str(first[1]) if isinstance(first, list) and len(first) == 3 else ""
    rule = call.decision.get("rule_id")
    approver = call.decision.get("approved_by")
    if rule:
        why += f" [rule {rule}]"
    why = f"{why} [approved by {approver}]" if approver and str(approver) not in why else why
    shown = [f"{who}: {proof}, {factor}" for who, _, proof, factor, _, _ in call.approvals]
    return f"{why} [{'; '.join(shown)}]".replace(", none", "") if shown else why


def _when(seconds: object) -> str:
    try:
        return as_datetime(float(str(seconds))).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def _cell(value: object) -> Text:
    text = visible("" if value is None else str(value))
    return Text(text, style=_COLOURS.get(text, ""))


def print_json(document: object) -> None:
    line = json.dumps(document, ensure_ascii=True, separators=(",", ":"))
    typer.echo(line.replace("\x7f", "\\u007f"))  # the one control character that JSON lets through


def print_report(
    report: VerifyReport, log: Path, expect: Head | None, held: Sequence[Checkpoint] = ()
) -> None:
    console = _console()

    def say(text: str, style: str = "") -> None:
        console.print(Text(visible(text), style=style), soft_wrap=True)

    records = f"{report.records} record{'s' if report.records != 1 else ''}"
    if report.status is VerifyStatus.NOTHING:
        say(f"NOTHING TO VERIFY: {log} holds no records.", "yellow")
        return
    if report.status is VerifyStatus.BROKEN:
        say(f"BROKEN: {log}, {records}.", "bold red")
        for finding in report.findings:
            say(f"  {finding.fault}: {finding.text}")
        if report.findings_left_out:
            say(f"  and {report.findings_left_out} more")
        return
    sealed = _not_looked_at(report.not_looked_at)
    if report.status is VerifyStatus.NOT_VERIFIED:
        say(f"NOT VERIFIED: {log}, {records}. {sealed}", "bold yellow")
        for text in report.not_compared:
            say(f"  {text}")
        say("Give the folder of the segments: --segments FOLDER.")
        return
    say(f"VERIFIED: {log}, {records}.", "bold green")
    if report.not_looked_at:
        say(f"{sealed} With --segments FOLDER they are.", "yellow")
    say(f"Head {report.head}")
    for checkpoint in held:
        newer = report.records - checkpoint.size
        say(f"It continues the checkpoint of {checkpoint.size} records. Newer than that: {newer}.")
    if len(held) > 1:
        say(f"The given checkpoint is old: one of {held[-1].size} records was signed later.", "yellow")
    if expect is None and not held:
        say(
            "A log rewritten as a whole verifies too: note this head elsewhere, and --expect it next time."
        )
    elif expect is not None:
        say(f"It contains the expected record {expect.seq}, unchanged.")


def _not_looked_at(count: int) -> str:
    if count == 1:
        return "Record 1 lies in a segment and was not looked at."
    return f"Records 1 to {count} lie in segments and were not looked at."


def _report_as_dict(report: VerifyReport) -> dict[str, Any]:
    return {
        "status": report.status,
        "log_id": report.log_id,
        "records": report.records,
        "head": str(report.head) if report.head else None,
        "root": report.root.hex() if report.root else None,
        "findings": [{"fault": f.fault, "seq": f.seq, "text": f.text} for f in report.findings],
        "findings_left_out": report.findings_left_out,
        "not_looked_at": report.not_looked_at,
        "not_compared": list(report.not_compared),
    }


def _console(*, stderr: bool = False) -> Console:
    width = None if (sys.stderr if stderr else sys.stdout).isatty() else _WIDTH_WITHOUT_TERMINAL
    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


def _report_without_log(expect: Head | None, held: Sequence[Checkpoint]) -> VerifyReport:
    gone = []
    if expect is not None:
        gone.append(Finding(Fault.EXPECTED, expect.seq, f"Record {expect.seq} was expected; there is no log."))
    for checkpoint in held:
        text = f"The checkpoint has {checkpoint.size} records; there is no log."
        gone.append(Finding(Fault.CHECKPOINT, None, text))
    return VerifyReport(VerifyStatus.BROKEN if gone else VerifyStatus.NOTHING, "", 0, None, tuple(gone))


@contextmanager
def verify_progress(doing: str = "verifying") -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=_console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    task = bar.add_task("", total=None)

    def show_progress(done: int, of: int) -> None:
        if of >= _LONG:
            bar.start()  # only now: a bar that is started and not shown leaves an empty line behind
            bar.update(task, completed=done, total=of)

    try:
        yield show_progress
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def or_exit() -> Iterator[None]:
    try:
        yield
    except ZeroTrustError as error:
        console = _console(stderr=True)
        console.print(Text(visible(f"error: {error}"), style="red"), soft_wrap=True)
        raise typer.Exit(BROKEN if isinstance(error, AuditIntegrityError) else CANNOT_OPEN) from error
