"""``zt-agents audit seal``: move the oldest records of a log into files that verify by themselves."""

from __future__ import annotations

from pathlib import Path
from time import time
from typing import Annotated

import typer

from zt_agents.audit.segments import Sealing
from zt_agents.audit.verify import VerifyStatus, verify
from zt_agents.cli.audit import (
    BROKEN,
    CANNOT_OPEN,
    DEFAULT_LOG,
    NOTHING_TO_VERIFY,
    LogOption,
    audit_app,
    or_exit,
    print_json,
    print_report,
    verify_progress,
)
from zt_agents.cli.display import confirmed, say
from zt_agents.cli.moments import moment_option
from zt_agents.errors import StoreError
from zt_agents.stores.segment_files import SegmentFolder
from zt_agents.stores.sqlite_audit import SqliteAuditSink


@audit_app.command()
def seal(
    log: LogOption = DEFAULT_LOG,
    before: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Seal what is older, such as 90d or 2026-01-31; UTC.")
    ] = None,
    upto: Annotated[int | None, typer.Option(min=1, metavar="SEQ", help="Seal up to this record.")] = None,
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the segments go.")] = Path("segments"),
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per segment and line.")] = False,
) -> None:
    """Move the oldest records into compressed segments, and give their space back. The log must verify.

    Exit code 0: sealed, 1: the log is broken, 2: it could not be done, 3: there is nothing to seal. Others may go on
    appending. Keep the segments: verify, prove, show, timeline and export read them with --segments FOLDER.
    """
    if (before is None) == (upto is None):
        raise typer.BadParameter("give one of --before and --upto", param_hint="seal")
    moment = moment_option(before, "--before")
    with or_exit():
        sink = SqliteAuditSink(log, create=False)
        if not to.is_dir():
            raise StoreError(f"There is no folder {to} for the segments.", hint=f"Make it: mkdir -p {to}")
        with verify_progress() as progress:
            report = verify(sink, progress=progress)
        if report.status is VerifyStatus.BROKEN:
            print_report(report, log, None)
            say("Nothing was sealed.", style="bold red", stderr=True)
            raise typer.Exit(BROKEN)
        first = report.not_looked_at + 1
        last = _last_before(sink, moment) if moment is not None else min(upto or 0, report.records)
        if last < first:
            say("NOTHING TO SEAL: no records are that old.", style="yellow", stderr=True)
            raise typer.Exit(NOTHING_TO_VERIFY)
        what = f"records {first} to {last} of {report.records}"
        if not yes and not confirmed(f"Move {what} from {log} to {to}?", otherwise="Nothing was sealed."):
            raise typer.Exit(CANNOT_OPEN)
        folder = SegmentFolder(to)
        try:
            while (sealing := folder.seal(sink, last, time())) is not None:
                _show(sealing, to, as_json=as_json)
        finally:
            sink.close()
        sink.give_back_space()


def _last_before(sink: SqliteAuditSink, moment: float) -> int:
    """Return the number of the record before the first one that is not older than *moment*."""
    with sink.snapshot() as snapshot:
        younger = next(snapshot.read(since=moment, limit=1), None)
        if younger is not None:
            return int(younger["seq"]) - 1
        return snapshot.head.seq if snapshot.head else 0


def _show(sealing: Sealing, folder: Path, *, as_json: bool) -> None:
    if as_json:
        said = sealing.said()
        print_json({name: said[name] for name in ("first", "last", "last_hash", "file", "sha256")})
    else:
        say(f"Sealed {sealing.span} into {folder / sealing.name}.", style="green")
