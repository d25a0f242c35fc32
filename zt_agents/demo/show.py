"""How the demonstration looks: the story, each call as it is decided, the span tree, the log, and what it came to."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from zt_agents._internal.clock import as_datetime
from zt_agents._internal.display import visible
from zt_agents.demo.evidence import Attempt, Call, Check
from zt_agents.telemetry import attributes as names
from zt_agents.telemetry.recording import SpanNode

_TIERS = {"low": "green", "medium": "yellow", "high": "bold magenta"}
_WIDTH = 100
_PAUSE = 0.15


class Show:
    """Prints to one console, with a progress display at its foot."""

    def __init__(self, console: Console) -> None:
        self.console = console
        if not console.is_terminal:
            console.width = _WIDTH
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("the agent starts", total=None)

    def pause(self, times: float = 1) -> None:
        """Leave a person time to read."""
        if self.console.is_terminal:
            time.sleep(_PAUSE * times)

    @contextmanager
    def running(self, total: int | None) -> Iterator[None]:
        """Keep the progress display up."""
        self._progress.update(self._task, total=total)
        with self._progress:
            yield

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Take the progress display away while a human is asked."""
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()

    def step(self, doing: str) -> None:
        self._progress.update(self._task, advance=1, description=doing)

    # -- the story ------------------------------------------------------------------------------------------------

    def opening(self, *, user: str, intent: str, agent: str, model: str, tools: int, attacker: str) -> None:
        who = Table.grid(padding=(0, 2))
        who.add_column(style="bold", no_wrap=True)
        who.add_column()
        who.add_row(Text(user, "bold cyan"), Text(f"works at Acme's helpdesk and tells her agent: “{intent}”"))
        who.add_row(
            Text(agent, "bold blue"),
            f"is that agent: model {visible(model)}, {tools} tools, each one sealed by guard.protect(tools)",
        )
        who.add_row(
            Text("an attacker", "bold red"),
            f"has no access at all. They ({attacker}) only wrote a ticket, and wait for the agent to read it",
        )
        self.console.print(Panel(who, title="zt-agents demo", border_style="cyan", padding=(1, 2)))
        self.pause(3)

    def words(self, agent: str, text: str) -> None:
        """Print what the agent says before it acts."""
        if text.strip():
            self.console.print()
            self.console.print(Text.assemble((f"{agent}: ", "bold blue"), (visible(text), "italic")))
        self.pause()

    def poison(self, text: str) -> None:
        """Print the poisoned ticket, as the agent reads it."""
        lines = Text("\n").join(Text(visible(line)) for line in text.splitlines())
        title = "what the agent just read: orders, hidden in a stranger's ticket"
        self.console.print(Panel(lines, title=title, border_style="red", padding=(0, 2)))
        self.pause(4)

    def call(self, number: int, call: Call) -> None:
        """Print one decided call and why."""
        decision, outcome = call.decision, call.outcome
        mark, word, style = _look(call)
        took = f"{outcome['duration_ms']:.1f} ms" if outcome else "did not run"
        line = Table.grid(padding=(0, 1))
        for width in (3, 14, 15, max(10, min(40, self.console.width - 54)), 6, 11):
            line.add_column(width=width, no_wrap=True, overflow="ellipsis")
        line.add_row(
            Text(str(number), "dim", justify="right"),
            Text(f"{mark} {word}", f"bold {style}"),
            Text(visible(decision["tool"]), "bold"),
            visible(decision.get("resource", "")),
            Text(decision["tier"], _TIERS[decision["tier"]]),
            Text(took, "dim"),
        )
        self.console.print(line)
        rule = decision.get("rule_id")
        why = Text(visible(call.why), style if not call.allowed else "dim")
        why.append(f"  [{f'rule {rule}' if rule else decision['reasons'][0][0]}]", "dim")
        self.console.print(_indented(why, 19))
        self.pause(0.5 if call.allowed else 2)

    # -- afterwards -----------------------------------------------------------------------------------------------

    def tree(self, roots: Sequence[SpanNode], *, user: str) -> None:
        """Print the spans below the human they were for."""
        self._heading("The trace: who, through whom, did what, to which data")
        for root in roots:
            user_id = str(root.attributes.get(names.USER_ID, ""))
            human = Tree(Text.assemble((user, "bold cyan"), ("  human  ", "dim"), visible(user_id)), guide_style="dim")
            _grow(human, root)
            self.console.print(human)
        self.pause(2)

    def audit(self, calls: Sequence[Call], *, verified: str, agreement: str) -> None:
        """Print the log's decisions."""
        self._heading("The audit log: the same calls, each tied to its span")
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        headings = ["time", "decision", "call", "rule or reason", "approved by", "span"]
        if self.console.width < _WIDTH:
            headings.remove("approved by")
        room = max(10, min(30, self.console.width - 56))
        for heading in headings:
            table.add_column(heading, no_wrap=True, overflow="ellipsis", max_width=room if heading == "call" else None)
        for call in calls:
            record = call.decision
            _, word, style = _look(call)
            cells: dict[str, str | Text] = {
                "time": as_datetime(record["time"]).strftime("%H:%M:%S"),
                "decision": Text(word, style),
                "call": visible(f"{record['tool']} {record.get('resource', '').partition('/')[2]}".strip()),
                "rule or reason": visible(record.get("rule_id") or record["reasons"][0][0]),
                "approved by": visible(record.get("approved_by", "") if call.allowed else ""),
                "span": Text(record["span_id"][:8], "dim"),
            }
            table.add_row(*(cells[heading] for heading in headings))
        self.console.print(table)
        self.console.print()
        self.console.print(Text(verified), soft_wrap=True)
        self.console.print(Text(agreement), soft_wrap=True)
        self.pause(2)

    def attempts(self, attempts: Sequence[Attempt]) -> None:
        """Print what somebody without a call got from the ticket service, and how to try it."""
        self._heading("The ticket service: who goes around the guard has no credential")
        for attempt in attempts:
            self.console.print(Text.assemble(("✘ ", "bold red"), (attempt.what, "bold")))
            self.console.print(Text(f"  {attempt.command}", "dim"), soft_wrap=True)
            answer = json.dumps(attempt.answer, separators=(", ", ": "))
            self.console.print(Text(f"  {attempt.status} {answer}"), soft_wrap=True)
        self.pause(2)

    def ending(self, calls: Sequence[Call], checks: Sequence[Check], *, well: bool) -> None:
        """Print what it came to."""
        refused = [call for call in calls if not call.allowed]
        stopped = Table.grid(padding=(0, 1))
        stopped.add_column(no_wrap=True)
        stopped.add_column()
        for call in refused:
            name = f"{call.decision['tool']}  {call.decision.get('resource', '')}"
            stopped.add_row(Text("✘", "bold red"), Text(visible(name), "bold"))
            stopped.add_row("", Text(visible(call.why)))
        looked = [Text.assemble(("✔ ", "green") if check.holds else ("✘ ", "bold red"), check.text) for check in checks]
        title = "What was stopped, why, and what the data says" if well else "This is not how it should have gone"
        parts = Group(stopped, *([Text()] if refused else []), *looked)
        self.console.print()
        self.console.print(Panel(parts, title=title, border_style="green" if well else "red", padding=(1, 2)))

    def look_yourself(self, commands: Sequence[tuple[str, str]], *, heading: str = "Look for yourself") -> None:
        """Print commands, each with what it shows. They are not wrapped, so that they can be copied."""
        self._heading(heading)
        for what, command in commands:
            if what:
                self.console.print(Text(what, "dim"))
            self.console.print(Text(f"  {command}", "bold"), soft_wrap=True)

    def say(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style))

    def _heading(self, text: str) -> None:
        self.console.print()
        self.console.rule(Text(text, "bold"), style="dim", align="left")


def _indented(text: Text, columns: int) -> Table:
    grid = Table.grid()
    grid.add_column(width=columns)
    grid.add_column()
    grid.add_row("", text)
    return grid


def _look(call: Call) -> tuple[str, str, str]:
    """Return the mark, the word and the colour of a call."""
    if call.allowed:
        return ("✔", "approved", "green") if call.held else ("✔", "allowed", "green")
    return ("✘", "not approved", "red") if call.held else ("✘", "DENIED", "red")


def _grow(parent: Tree, span: SpanNode) -> None:
    branch = parent.add(_span_line(span))
    for child in span.children:
        _grow(branch, child)


def _span_line(span: SpanNode) -> Text:
    values = span.attributes
    line = Text(visible(span.name))
    if values.get(names.OPERATION) == "execute_tool":
        allowed = values.get(names.DECISION_OUTCOME) == "allow"
        line = Text.assemble(("✔ " if allowed else "✘ ", "green" if allowed else "bold red"), line)
        line.stylize("bold", 2)
        if names.RESOURCE_ID in values:
            line.append(f"  {visible(str(values[names.RESOURCE_ID]))}")
        why = values.get(names.RULE_ID) or values.get(names.DECISION_REASON)
        line.append(f"  {values.get(names.DECISION_OUTCOME)}: {why}", "green" if allowed else "red")
    elif values.get(names.OPERATION) == "invoke_agent":
        line.stylize("bold blue")
        line.append(f"  agent  {values.get(names.AGENT_SPIFFE_ID)}", "not bold default")
    elif names.APPROVAL_ID in values:
        line = Text.assemble((visible(span.name), "yellow"), "  a human is asked")
    else:
        kind = values.get("db.system.name") or "file"
        line = Text.assemble((f"{kind}: ", "dim"), line, f" {visible(str(values.get('file.name', '')))}".rstrip())
    line.append(f"  {span.duration_ms:.1f} ms", "dim")
    return line
