"""``zt-agents approvals stats``: how often humans are asked, by the audit log. Whoever is asked too often says yes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from zt_agents._internal.display import visible
from zt_agents.audit.calls import Call, CallState, Selection, newest_calls, text
from zt_agents.cli.approvals import approvals_app
from zt_agents.cli.audit import DEFAULT_LOG, LogOption, or_exit, print_json
from zt_agents.cli.display import console, say
from zt_agents.cli.moments import moment_option
from zt_agents.cli.sources import SegmentsOption, searchable

_DECIDED = {CallState.REFUSED: "refused", CallState.WAITING: "open", CallState.UNCLEAR: "open"}


@dataclass(slots=True)
class _Asked:
    """What is counted of some calls."""

    calls: int = 0
    asked: int = 0
    in_advance: int = 0
    """Held, and approved before anybody had to be asked."""
    approved: int = 0
    refused: int = 0
    open: int = 0
    waits: list[float] = field(default_factory=list)
    """Seconds that each answer took."""

    def add(self, call: Call) -> None:
        self.calls += 1
        if call.held is None:
            return
        if call.approvals and all(standing for *_, standing, _ in call.approvals):
            self.in_advance += 1
            return
        self.asked += 1
        outcome = _DECIDED.get(call.state, "approved")
        setattr(self, outcome, getattr(self, outcome) + 1)
        if call.waited is not None:
            self.waits.append(call.waited)

    @property
    def per_100(self) -> float:
        """How often a human was asked in 100 calls."""
        return 100 * self.asked / self.calls if self.calls else 0.0

    @property
    def wait(self) -> float | None:
        """How long half of the answers took at most, seconds."""
        return median(self.waits) if self.waits else None

    def said(self) -> dict[str, float | int | None]:
        counts = {name: getattr(self, name) for name in ("calls", "asked", "in_advance", "approved", "refused", "open")}
        return {**counts, "asked_per_100_calls": round(self.per_100, 2), "median_wait_s": self.wait}


@approvals_app.command()
def stats(
    log: LogOption = DEFAULT_LOG,
    since: Annotated[str | None, typer.Option(help="Such as 15m, 'last tuesday' or 2026-01-31T08:00; UTC.")] = None,
    until: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per tool and line, all calls last.")] = False,
    segments: SegmentsOption = None,
) -> None:
    """Tell how often a human was asked, for which tools, and what came of it.

    A rule or a lower tier for what is always approved keeps the rest worth reading.
    """
    selection = Selection(moment_option(since, "--since"), moment_option(until, "--until"))
    with or_exit(), searchable(log, segments) as source, source.snapshot() as snapshot:
        tools, total = _counted(newest_calls(snapshot, selection))
    asked = sorted(tools.items(), key=lambda item: (-item[1].asked, item[0]))
    if as_json:
        for name, each in asked:
            print_json({"tool": name, **each.said()})
        print_json({"tool": None, **total.said()})
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("tool", "calls", "asked", "in advance", "approved", "refused", "open", "half answered within"):
        table.add_column(column, justify="left" if column == "tool" else "right")
    for name, each in [*((name, each) for name, each in asked if each.asked or each.in_advance), ("all calls", total)]:
        counts = (each.calls, each.asked, each.in_advance, each.approved, each.refused, each.open)
        wait = f"{each.wait:.1f} s" if each.wait is not None else ""
        table.add_row(Text(visible(name)), *map(str, counts), wait)
    console().print(table)
    say(f"A human was asked {total.per_100:.1f} times in 100 calls.")


def _counted(calls: Iterable[Call]) -> tuple[dict[str, _Asked], _Asked]:
    tools: defaultdict[str, _Asked] = defaultdict(_Asked)
    total, seen = _Asked(), set[str]()
    for call in calls:  # the newest first: a graph that was resumed has made the call again, and that one tells the end
        approval = text(call.said, "approval_id")
        if approval in seen:
            continue
        if approval:
            seen.add(approval)
        for each in (tools[text(call.said, "tool")], total):
            each.add(call)
    return dict(tools), total
