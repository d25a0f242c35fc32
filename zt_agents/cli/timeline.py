"""``zt-agents audit timeline``: what an agent did, for whom, on which data, decided how, approved by whom.

The story is as good as the log: ``audit verify`` proves that. Why the user asked is not in the log; the task is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from zt_agents._internal.clock import as_datetime
from zt_agents._internal.display import visible
from zt_agents.audit.calls import Call, CallState, Selection, newest_calls, number, short, text
from zt_agents.cli.display import TIER_STYLES, console, say
from zt_agents.cli.moments import day_option, moment_option
from zt_agents.cli.sources import SegmentsOption, searchable
from zt_agents.errors import ConfigurationError


class Look(NamedTuple):
    """How a state is shown: never by colour alone."""

    mark: str
    style: str


LOOKS = {
    CallState.ALLOWED: Look("●", "green"),
    CallState.APPROVED: Look("◆", "blue"),
    CallState.FAILED: Look("■", "dark_orange"),
    CallState.STOPPED: Look("▬", "dark_orange"),
    CallState.OPEN: Look("○", "cyan"),
    CallState.WAITING: Look("◇", "yellow"),
    CallState.REFUSED: Look("▼", "magenta"),
    CallState.DENIED: Look("✘", "red"),
    CallState.UNCLEAR: Look("?", "bold red"),
}


@dataclass(frozen=True, slots=True)
class Story:
    """The calls that were asked for, oldest first, and what was asked."""

    calls: Sequence[Call]
    selection: Selection
    local: bool
    """Whether times are this machine's local time, rather than UTC."""
    more: bool
    """Whether there are older calls that were left out."""
    head: str

    @property
    def about(self) -> str:
        """Return whose calls these are."""
        who, whom, what = self.selection.agent, self.selection.user, self.selection.tool
        parts = ["What", f"agent {who}" if who else "every agent", "did"]
        parts += [f"for {whom}"] if whom else []
        parts += [f"with {what}"] if what else []
        return visible(" ".join(parts))

    @property
    def window(self) -> str:
        """Return the window of time, and which clock all times are by."""
        start = "the beginning" if self.selection.since is None else self.moment(self.selection.since)
        end = "now" if self.selection.until is None else self.moment(self.selection.until)
        return f"From {start} to {end}. All times are {'local time' if self.local else 'UTC'}."

    @property
    def count(self) -> str:
        """Return how many calls of each state there are."""
        states = [call.state for call in self.calls]
        each = [f"{states.count(state)} {state}" for state in CallState if state in states]
        total = f"{len(states)} call{'s' if len(states) != 1 else ''}"
        left_out = " There are older ones: narrow the window, or raise --limit." if self.more else ""
        return (f"{total}: {', '.join(each)}." if each else "No calls.") + left_out

    def when(self, seconds: float | None) -> datetime | None:
        """Return a time of a record by the story's clock, or None if it is none."""
        try:
            moment = as_datetime(float("nan") if seconds is None else seconds)
            return moment.astimezone() if self.local else moment
        except (ValueError, OverflowError, OSError):
            return None

    def moment(self, seconds: float | None) -> str:
        """Return a time as text; local times come with their offset."""
        moment = self.when(seconds)
        return moment.strftime("%Y-%m-%d %H:%M:%S" + ("%z" if self.local else "Z")) if moment else "unknown time"

    def day(self, call: Call) -> str:
        moment = self.when(call.start)
        return f"{moment:%A} {moment.day} {moment:%B %Y}" if moment else "On an unknown day"

    def chapters(self) -> Iterator[tuple[str, str, list[Call]]]:
        """Yield (day, who for whom on which task, calls), calls of one session together where they are on one day."""
        for day, calls in itertools.groupby(self.calls, self.day):
            sessions: dict[str, list[Call]] = {}
            for call in calls:
                sessions.setdefault(who(call), []).append(call)
            for name, theirs in sessions.items():
                yield day, name, theirs


def who(call: Call) -> str:
    """Return who acted, for whom, on whose word, on which task, in which session."""
    said = call.said
    agent = " ".join(filter(None, (text(said, "agent"), text(said, "agent_version")))) or "an unknown agent"
    parts = [f"{agent} for {text(said, 'user_id') or 'nobody known'}"]
    parts += [f"on the word of {short(other)} for {whom or 'nobody known'}" for other, whom in call.delegators]
    task, session = text(said, "task"), text(said, "session_id")
    parts += [f"task {task}"] if task and task != session else []
    parts += [f"session {session}"] if session else []
    return visible(", ".join(parts))


def data(call: Call) -> str:
    """Return what it was about: effects, resource, data class."""
    said = call.said
    where = text(said, "resource") or text(said, "system")
    data_class = text(said, "data_class")
    return visible(" ".join(filter(None, (", ".join(call.effects), where, data_class and f"({data_class})"))))


_SHOWN = {"totp": "a one-time code", "passkey": "a passkey"}


def why(call: Call) -> str:
    """Return how it was decided, and by whom it was approved."""
    if call.state is CallState.UNCLEAR:
        return "The log holds no readable decision."
    reasons = call.reasons
    sentence = reasons[0][1] if reasons else ""
    rule = text(call.said, "rule_id")
    parts = [sentence, f"[rule {rule}]" if rule else f"[{reasons[0][0]}]" if reasons else ""]
    approver = text(call.said, "approved_by")
    if approver and (approver not in sentence or call.waited is not None):
        answer = "Refused" if call.state is CallState.REFUSED else "Approved"
        waited = f" after {duration(call.waited)}" if call.waited is not None else ""
        parts.append(f"{answer} by {approver}{waited}.")
    parts += (f"{who} showed {_SHOWN[factor]}." for who, _, _, factor, _, _ in call.approvals if factor in _SHOWN)
    return visible(" ".join(filter(None, parts)))


def took(call: Call) -> str:
    """Return how long the body ran, and how it ended if not well."""
    done = call.outcome or {}
    milliseconds = number(done, "duration_ms")
    parts = [duration(milliseconds / 1000) if milliseconds is not None else ""]
    if call.state in {CallState.FAILED, CallState.STOPPED}:
        parts += [text(done, "error_type") or text(done, "status")]
    elif not done:
        parts = ["not known" if call.state is CallState.OPEN else "did not run"]
    return visible(" ".join(filter(None, parts)))


def duration(seconds: float) -> str:
    """Return a span of time in the largest units that say enough."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    hours, days = minutes // 60, minutes // 1440
    if minutes < 120:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{days} d {hours % 24} h"


def timeline(
    log: Annotated[Path, typer.Option("--log", envvar="ZT_AGENTS_AUDIT", help="The audit log.")] = Path(
        "zt-agents-audit.db"
    ),
    agent: Annotated[str | None, typer.Option(help="Only calls by this agent.")] = None,
    user: Annotated[str | None, typer.Option(help="Only calls for this user.")] = None,
    tool: Annotated[str | None, typer.Option(help="Only calls of this tool.")] = None,
    on: Annotated[str | None, typer.Option(help="One day: yesterday, 'last tuesday', 2026-01-31.")] = None,
    since: Annotated[str | None, typer.Option(help="Such as '2 hours ago', 'last tuesday 14:00'.")] = None,
    until: Annotated[str | None, typer.Option(help="Likewise; this moment itself is left out.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Read and show local times, not UTC.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=20_000, help="At most this many calls, the newest ones.")] = 1000,
    html: Annotated[Path | None, typer.Option(help="Write a page with a picture to this file instead.")] = None,
    segments: SegmentsOption = None,
) -> None:
    """Tell what was done, for whom, on which data, decided how and approved by whom. Proves nothing: see verify.

    Exit code 1: the log is damaged.
    """
    start, end = moment_option(since, "--since", local=local), moment_option(until, "--until", local=local)
    if on is not None:
        if start is not None or end is not None:
            raise typer.BadParameter("a day has its own start and end", param_hint="--on")
        start, end = day_option(on, "--on", local=local)
    if start is not None and end is not None and start >= end:
        raise typer.BadParameter("the end is not after the start", param_hint="--until")
    selection = Selection(start, end, agent, user, tool)
    with searchable(log, segments) as source, source.snapshot() as snapshot:
        calls = list(itertools.islice(newest_calls(snapshot, selection), limit + 1))
        head = str(snapshot.head)
    ordered = sorted(calls[:limit], key=lambda call: call.start or 0.0)
    story = Story(ordered, selection, local, len(calls) > limit, head)
    if html is None:
        _tell(story)
        return
    from zt_agents.cli.timeline_page import page

    try:
        html.touch(mode=0o600)
        html.write_text(page(story), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{html} cannot be written: {error.strerror}.") from error
    say(f"{story.count} Written to {html}.")


def _tell(story: Story) -> None:
    out = console()
    out.print(Text(story.about, "bold"), soft_wrap=True)
    out.print(Text(story.window), soft_wrap=True)
    out.print(Text(story.count), soft_wrap=True)
    today = ""
    for day, name, calls in story.chapters():
        if day != today:
            today = day
            out.print()
            out.rule(Text(day, "bold"), align="left", style="dim")
        out.print()
        out.print(Text(name, "bold blue"), soft_wrap=True)
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for column in range(6):
            table.add_column(no_wrap=column in {0, 1}, overflow="fold")
        for call in calls:
            table.add_row(*_line(story, call))
        out.print(table)
    out.print()
    out.print(Text(f"Head {story.head}, unproven: see zt-agents audit verify.", "dim"), soft_wrap=True)


def _line(story: Story, call: Call) -> list[Text]:
    moment = story.when(call.start)
    look = LOOKS[call.state]
    tier = text(call.said, "tier")
    return [
        Text(f"  {moment:%H:%M:%S}" if moment else "  unknown", "dim"),
        Text(f"{look.mark} {call.state}", look.style),
        Text.assemble((visible(text(call.said, "tool") or "unknown tool"), "bold"), " ", _tier(tier)),
        Text(data(call)),
        Text(took(call)),
        Text(why(call)),
    ]


def _tier(tier: str) -> Text:
    return Text(visible(tier), TIER_STYLES.get(tier, ""))
