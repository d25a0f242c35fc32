"""``zt-agents audit changes``: who changed who may do what."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from zt_agents._internal.clock import as_datetime
from zt_agents.audit.calls import number, text
from zt_agents.audit.records import RecordKind
from zt_agents.cli.answers import SHOWN_ID
from zt_agents.cli.audit import DEFAULT_LOG, LogOption, audit_app, or_exit, print_json
from zt_agents.cli.display import Cell, say, say_table
from zt_agents.cli.moments import moment_option
from zt_agents.cli.sources import SegmentsOption, searchable

_SHOWN = ("what", "about", "by", "why")
_HASH = re.compile(r"\b[0-9a-f]{32,}\b")
_PART_OF_A_SECOND = re.compile(r"(?<=:\d\d)\.\d+Z$")


@audit_app.command()
def changes(
    log: LogOption = DEFAULT_LOG,
    what: Annotated[str, typer.Option(help="Only such changes: agent, or agent.suspended.")] = "",
    about: Annotated[str | None, typer.Option(help="Only of this agent, user, session ... by its name or id.")] = None,
    since: Annotated[str | None, typer.Option(help="Such as 15m, 'last tuesday' or 2026-01-31T08:00; UTC.")] = None,
    until: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the newest ones.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per change and line.")] = False,
    segments: SegmentsOption = None,
) -> None:
    """Show what was changed, oldest first: agents, delegations, revocations, keys. This proves nothing: see verify.

    Exit code 1: the log is damaged.
    """
    start, end = moment_option(since, "--since"), moment_option(until, "--until")
    with or_exit(), searchable(log, segments) as source, source.snapshot() as snapshot:
        records = snapshot.read(since=start, until=end)
        found = deque((record for record in records if _is_asked_for(record, what, about)), maxlen=limit)
    if as_json:
        for record in found:
            print_json(record)
        return
    if not found:
        say("No such change is on record.")
        return
    say_table(("time (UTC)", *_SHOWN, "besides"), map(_row, found))


def _is_asked_for(record: Mapping[str, Any], what: str, about: str | None) -> bool:
    change = record.get("change")
    if record.get("kind") != RecordKind.CHANGE or not isinstance(change, Mapping):
        return False
    named = text(change, "what")
    return (not what or named == what or named.startswith(f"{what}.")) and about in (None, text(change, "about"))


def when_and_besides(record: Mapping[str, Any]) -> tuple[str, Cell]:
    """Return the moment of a change, and a line for each thing that is said of it besides what every change says."""
    moment, change = number(record, "time"), record["change"]
    when = f"{as_datetime(moment):%Y-%m-%d %H:%M:%S}" if moment is not None else ""
    known = (*_SHOWN, "id") if text(change, "what").startswith("agent.") else _SHOWN  # its name says which
    return when, tuple(f"{name}={_value(name, value)}" for name, value in change.items() if name not in known) or ""


def _row(record: Mapping[str, Any]) -> tuple[Cell, ...]:
    when, besides = when_and_besides(record)
    return (when, *(text(record["change"], name) for name in _SHOWN), besides)


def _value(name: str, value: Any) -> str:
    """Return *value* for a reader; --json has all of it."""
    if name.endswith("_at") and isinstance(value, int | float):
        return f"{as_datetime(value):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_value(key, each)}" for key, each in value.items() if key != "type")
    if name == "actors" and isinstance(value, list):  # [id, session], the current one first
        return " > ".join(str(each[0]).rpartition("/")[2] for each in reversed(value) if each)
    if isinstance(value, list):
        return ", ".join(_value("", each) for each in value)
    return _PART_OF_A_SECOND.sub("Z", _HASH.sub(lambda found: f"{found[0][:SHOWN_ID]}…", str(value)))
