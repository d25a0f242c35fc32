"""How a human is reached. A guard without a channel denies whatever needs a human."""

from __future__ import annotations

import asyncio
import getpass
from typing import Protocol

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from zt_agents._internal.display import visible
from zt_agents.approvals.requests import Answer, ApprovalRequest

_SHOWN = 500
"""Characters of a value that a panel shows; the rest is cut, visibly."""


class Channel(Protocol):
    """Asks a human and waits for the answer.

    Whatever a channel raises counts as "not approved", and so does None.
    """

    def ask(self, request: ApprovalRequest) -> Answer | None: ...

    async def aask(self, request: ApprovalRequest) -> Answer | None: ...


class TerminalChannel:
    """Asks whoever sits at this terminal.

    It knows the approver only as the operating system's user: enough for a developer's machine, not proof of who
    answered. Anything but ``y`` or ``yes`` is a no, and so is the end of input.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    def ask(self, request: ApprovalRequest) -> Answer | None:
        self._console.print(approval_panel(request))
        try:
            reply = self._console.input(r"[bold]Approve this call?[/] \[y/N] ")
        except EOFError:
            return None
        return Answer(
            binding_hash=request.binding_hash,
            approved=reply.strip().lower() in {"y", "yes"},
            approver=f"os:{getpass.getuser()}",
        )

    async def aask(self, request: ApprovalRequest) -> Answer | None:
        return await asyncio.to_thread(self.ask, request)


def approval_panel(request: ApprovalRequest) -> Panel:
    """Return what a human needs to decide: who asks, for whom, why, and the exact arguments, made safe to show."""
    call, decision = request.call, request.decision
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")

    def row(label: str, value: str, style: str = "") -> None:
        table.add_row(label, Text(visible(value, limit=_SHOWN), style=style))

    row("tool", f"{call.tool} ({decision.tier} tier)", "bold")
    if call.spec is not None:
        row("effect", ", ".join(sorted(call.spec.effects)))
    if call.resource:
        row("resource", call.resource)
    for name, value in call.arguments.items():
        risky = call.spec is not None and name in {*call.spec.destinations, *call.spec.content}
        row(f"  {visible(name)}", repr(value) if isinstance(value, str) else str(value), "bold yellow" if risky else "")
    row("agent", f"{call.agent.name} {call.agent.version}, owner {call.agent.owner}" if call.agent else "unknown")
    row("for", call.user.id if call.user else "unknown")
    row("asked for", call.intent or "(no words recorded)")
    row("has seen", f"{call.label.integrity} / {call.label.data_class}")
    for reason in decision.reasons:
        row("why you", reason.text)
    return Panel(table, title="Approval needed", border_style="yellow")
