"""``zt-agents audit export``: hand the log to other systems, at least once.

Rules:

1. A call is one OCSF event or one CSV row, and each record one JSON line. A call that goes on after it was exported
   (its body ends, a human answers) comes again, with the same decision id and more to say: the later one counts.
2. The cursor is written after the batch was delivered. So after a crash some events come twice, and none is left out.
3. The cursor names the log, and the hash of the record it stands at. A log that was cut, changed or replaced since then
   is refused.
4. Memory does not grow with the log.
5. Values in a log were chosen by strangers: JSON is ASCII, and no cell of a CSV file begins as a formula does.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from zt_agents._internal.clock import rfc3339
from zt_agents._internal.display import visible
from zt_agents.audit.calls import (
    Call,
    CallState,
    Selection,
    call_ending_with,
    is_of_a_call,
    number,
    records_after,
    text,
)
from zt_agents.audit.ocsf import as_event
from zt_agents.audit.sink import AuditSource, Snapshot
from zt_agents.cli.display import say
from zt_agents.cli.moments import moment_option
from zt_agents.cli.outlets import FileOutlet, HttpOutlet, Line, Outlet, SyslogOutlet
from zt_agents.cli.sources import SegmentsOption, searchable
from zt_agents.errors import AuditIntegrityError, ConfigurationError, StoreError

_BATCH = 500
_ATTEMPTS = 6
"""So often a batch is tried, unless the log is followed: then for ever."""
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_ALARMING = {CallState.DENIED, CallState.REFUSED}
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a spreadsheet compute a cell (OWASP: CSV Injection), also in full width."""
_COLUMNS = (
    *("seq", "time", "decision_id", "state", "outcome", "agent", "agent_id", "owner", "user_id", "session_id", "task"),
    *("tool", "tier", "effects", "system", "resource", "data_class", "rule_id", "why", "approved_by"),
    *(
        "approval_wait_s",
        "status",
        "error_type",
        "duration_ms",
        "result_hash",
        "result_bytes",
        "args_hash",
        "policy_version",
        "trace_id",
    ),
    "span_id",
)


class ExportFormat(StrEnum):
    OCSF = "ocsf"
    JSONL = "jsonl"
    CSV = "csv"


class Cursor(NamedTuple):
    """How far an export has come."""

    seq: int = 0
    hash: str | None = None
    """Hash (hex) of record *seq*, where it is known."""
    log_id: str | None = None

    @classmethod
    def load(cls, path: Path) -> Cursor:
        """Return what *path* holds, or a new cursor where there is no such file."""
        try:
            known = json.loads(path.read_text("ascii"))
            cursor = cls(known["seq"], known["hash"], known["log_id"])
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigurationError(f"{path} is not a cursor file.", hint="Start anew with another file.") from error
        if type(cursor.seq) is not int or cursor.seq < 0 or not all(isinstance(v, str) for v in cursor[1:]):
            raise ConfigurationError(f"{path} is not a cursor file.", hint="Start anew with another file.")
        return cursor

    def save(self, path: Path) -> None:
        """Replace *path* as a whole, durably."""
        fresh = path.with_name(path.name + ".new")
        try:
            with fresh.open("w", encoding="ascii") as file:
                json.dump(self._asdict(), file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError as error:
            raise StoreError(f"The cursor {path} cannot be written: {error.strerror}.") from error


@dataclass(frozen=True, slots=True)
class Export:
    """What goes where."""

    form: ExportFormat
    selection: Selection
    outlet: Outlet
    cursor_file: Path | None
    attempts: int | None
    """How often a batch is tried; None for ever."""

    def run(self, source: AuditSource, cursor: Cursor) -> tuple[Cursor, int]:
        """Deliver what comes after *cursor*; return the new one, and the number of lines delivered."""
        delivered = 0
        with source.snapshot() as snapshot:
            log_id = snapshot.log_id.hex() if isinstance(snapshot.log_id, bytes) else ""
            if cursor.log_id not in (None, log_id):
                raise AuditIntegrityError("The cursor belongs to another log.")
            batch: list[Line] = []
            start = cursor
            for record, selected in records_after(snapshot, start.seq, self.selection, known=start.hash):
                if selected and (line := self._line(snapshot, record, log_id)) is not None:
                    batch.append(line)
                cursor = Cursor(record["seq"], record["hash"], log_id)
                if len(batch) == _BATCH:
                    self._deliver(batch, cursor)
                    delivered += len(batch)
                    batch = []
            if cursor is not start:
                self._deliver(batch, cursor)
        return cursor, delivered + len(batch)

    def _line(self, snapshot: Snapshot, record: dict[str, Any], log_id: str) -> Line | None:
        if self.form is ExportFormat.JSONL:
            return Line(_ascii(record), _time(number(record, "time")), record.get("outcome") == "deny")
        if not is_of_a_call(record):
            return None
        call = call_ending_with(snapshot, record, self.selection)
        if call is None:
            return None
        body = _row(call) if self.form is ExportFormat.CSV else _ascii(as_event(call, log_id=log_id))
        return Line(body, _time(call.start), call.state in _ALARMING)

    def _deliver(self, batch: Sequence[Line], cursor: Cursor) -> None:
        if batch:
            self._insist(batch)
        if self.cursor_file is not None:
            cursor.save(self.cursor_file)

    def _insist(self, batch: Sequence[Line]) -> None:
        wait = _FIRST_WAIT
        for attempt in itertools.count(1):
            try:
                self.outlet.deliver(batch)
            except OSError as error:
                if attempt == self.attempts:
                    raise StoreError(f"{error}, tried {attempt} times.", hint="Go on later with the cursor.") from error
                say(f"{error}; tried again in {wait:g} s.", style="yellow", stderr=True)
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                return


def export(
    log: Annotated[Path, typer.Option("--log", envvar="ZT_AGENTS_AUDIT", help="The audit log.")] = Path(
        "zt-agents-audit.db"
    ),
    form: Annotated[
        ExportFormat, typer.Option("--format", help="ocsf: API Activity events; jsonl: the records; csv: a row a call.")
    ] = ExportFormat.OCSF,
    agent: Annotated[str | None, typer.Option(help="Only calls by this agent.")] = None,
    user: Annotated[str | None, typer.Option(help="Only calls for this user.")] = None,
    tool: Annotated[str | None, typer.Option(help="Only calls of this tool.")] = None,
    since: Annotated[str | None, typer.Option(help="Such as 15m, 'last tuesday' or 2026-01-31T08:00; UTC.")] = None,
    until: Annotated[str | None, typer.Option(help="Likewise; this moment itself is left out.")] = None,
    out: Annotated[Path | None, typer.Option(help="To a file, which must not exist unless the export goes on.")] = None,
    post: Annotated[
        str | None,
        typer.Option(metavar="URL", help="To an HTTP endpoint. ZT_AGENTS_EXPORT_AUTHORIZATION is sent along."),
    ] = None,
    syslog: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="To a syslog server, over TLS; tcp://HOST:PORT is plain.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="The certificates to trust, instead of the system's.")] = None,
    after: Annotated[int | None, typer.Option(min=0, metavar="SEQ", help="Go on after this record.")] = None,
    cursor: Annotated[Path | None, typer.Option(help="Go on after what this file says; keep it up to date.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for more, until interrupted.")] = False,
    every: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks at the log.")] = 1.0,
    segments: SegmentsOption = None,
) -> None:
    """Export the log to a file, standard output, an HTTP endpoint or a syslog server, at least once. Proves nothing.

    Exit code 1: the log is damaged.
    """
    selection = Selection(moment_option(since, "--since"), moment_option(until, "--until"), agent, user, tool)
    _require_sense(form, selection, follow=follow, targets=(out, post, syslog), starts=(after, cursor))
    if segments is not None and follow:
        raise typer.BadParameter("a log that is followed is read without its segments", param_hint="--segments")
    position = Cursor.load(cursor) if cursor else Cursor(after or 0)
    resume = after is not None or position.seq > 0
    outlet: Outlet
    if post is not None:
        outlet = HttpOutlet(post, authorization=os.environ.get("ZT_AGENTS_EXPORT_AUTHORIZATION", ""), ca=ca)
    elif syslog is not None:
        outlet = SyslogOutlet(syslog, ca=ca)
    else:
        heading = _csv(_COLUMNS) + b"\n" if form is ExportFormat.CSV and (out or not resume) else b""
        outlet = FileOutlet(out, resume=resume, heading=heading)
    attempts = None if follow else _ATTEMPTS
    total = 0
    try:
        job = Export(form, selection, outlet, cursor, attempts)
        with searchable(log, segments) as source:
            while True:
                position, count = job.run(source, position)
                total += count
                if not follow:
                    break
                time.sleep(every)
    except KeyboardInterrupt:
        if not follow:
            raise
    finally:
        outlet.close()
    lines = f"{total} line{'s' if total != 1 else ''}"
    say(f"{lines} exported, up to record {position.seq}. Go on with --after {position.seq}.", stderr=True)


def _require_sense(
    form: ExportFormat, selection: Selection, *, follow: bool, targets: Sequence[object], starts: Sequence[object]
) -> None:
    if sum(target is not None for target in targets) > 1:
        raise typer.BadParameter("name one of --out, --post and --syslog")
    if sum(start is not None for start in starts) > 1:
        raise typer.BadParameter("name one of --after and --cursor")
    if form is ExportFormat.CSV and any(target is not None for target in targets[1:]):
        raise typer.BadParameter("csv goes to a file or to standard output", param_hint="--format")
    if selection.until is not None and follow:
        raise typer.BadParameter("a log that is followed has no end", param_hint="--until")
    if selection.since is not None and selection.until is not None and selection.since >= selection.until:
        raise typer.BadParameter("the end is not after the start", param_hint="--until")


def _ascii(document: Any) -> bytes:
    line = json.dumps(document, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return line.replace("\x7f", "\\u007f").encode("ascii")  # the one control character that JSON lets through


def _time(seconds: float | None) -> float:
    return seconds if seconds is not None and 0 <= seconds < 2e11 else 0.0


def _row(call: Call) -> bytes:
    said, done = call.said, call.outcome or {}
    computed = {
        "time": "" if call.start is None else rfc3339(_time(call.start)),
        "state": str(call.state),
        "effects": " ".join(call.effects),
        "why": call.reasons[0][1] if call.reasons else "",
        "approval_wait_s": "" if call.waited is None else f"{call.waited:.3f}",
        **{name: text(done, name) for name in ("status", "error_type", "duration_ms", "result_hash", "result_bytes")},
    }
    return _csv([computed.get(name, text(said, name)) for name in _COLUMNS])


def _csv(cells: Sequence[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="").writerow([_cell(cell) for cell in cells])
    return line.getvalue().encode("utf-8")


def _cell(value: str) -> str:
    shown = visible(value)
    return f"'{shown}" if value.lstrip(" ").startswith(_FORMULA) or shown.startswith(_FORMULA) else shown
