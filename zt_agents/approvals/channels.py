"""How a human is reached. A guard without a channel denies whatever needs a human.

Rules of the terminal:

1. Only a terminal answers: input from a file or a pipe is not a human, and nobody is asked there.
2. One question at a time, whichever thread asks, and what was typed before a question stood there is no answer to it.
3. What a panel does not show, it says it does not show.
"""

from __future__ import annotations

import asyncio
import re
import select
import sys
import threading
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from zt_agents._internal.display import visible
from zt_agents._internal.login import login
from zt_agents.approvals.requests import Answer, ApprovalRequest, ApprovalState
from zt_agents.approvals.rulings import silent_yes_after
from zt_agents.approvals.store import ApprovalStore
from zt_agents.errors import ConfigurationError
from zt_agents.identity.approving.attestations import AnswerClaims

_HEAD, _TAIL = 1500, 500
"""Characters of a value that a panel shows: its beginning and its end."""
_MOST_ARGUMENTS = 40
_LABEL_WIDTH = 24
_GAP = re.compile(" {4,}")
_terminal = threading.Lock()
"""A process has one terminal."""


class Desk(Protocol):
    """What a durable channel may use of the guard."""

    @property
    def store(self) -> ApprovalStore: ...

    def read(self, proof: str) -> AnswerClaims | None:
        """Return what the signed answer *proof* says, if its signature holds."""

    def file(self, answer: Answer) -> str | None:
        """File *answer* under the request it is about. Returns why it does not count, in one sentence, or None."""

    def notice(self, request_id: str) -> None:
        """Note that somebody is told of a request now."""

    def look(self, request_id: str) -> ApprovalState:
        """Return where a request stands by its answers and the time; one that is unknown has failed."""


class Channel(Protocol):
    """Asks a human and waits for the answer.

    Whatever a channel raises counts as "not approved", and so does None.
    """

    def ask(self, request: ApprovalRequest) -> Answer | None:
        """Ask about *request* until ``request.expires_at`` (seconds since the epoch); None is no answer."""

    async def aask(self, request: ApprovalRequest) -> Answer | None:
        """The async twin of :meth:`ask`; it is cancelled when the request expires."""


@runtime_checkable
class DurableChannel(Channel, Protocol):
    """A channel whose question outlives the process that asks it.

    It may raise its framework's way to pause a program; the call then waits in the store and is made again later. It
    files answers itself, which may be about other requests too, and returns none when the request is settled.
    """

    def bind(self, desk: Desk) -> None:
        """Told by the guard, once, where requests are kept and answers are filed."""

    def again(self, request: ApprovalRequest) -> None:
        """Told that a call is made again whose request is settled, so that it need not be asked."""

    def paused(self, error: BaseException) -> None:
        """Told that a tool's body has paused the program by *error*, perhaps beside a question of this channel."""


class TerminalChannel:
    """Asks whoever sits at this terminal.

    It knows the approver only as the operating system's user: enough for a developer's machine, not proof of who
    answered. Anything but ``y`` or ``yes`` is a no. The end of input, and time running out, are no answer.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    def ask(self, request: ApprovalRequest) -> Answer | None:
        """Show *request* and read the answer.

        Raises:
            ConfigurationError: standard input is no terminal.
        """
        if sys.stdin is None or not sys.stdin.isatty():
            raise ConfigurationError("There is no terminal to ask at: use StoreChannel(), and answer elsewhere.")
        with _terminal:
            self._console.print(approval_panel(request))
            _forget_what_was_typed()
            patience, silence = request.expires_at - request.call.time, "Nobody answered, so the call is not approved."
            grace = silent_yes_after(request)
            if grace is not None:
                patience, silence = min(patience, grace), "Nobody objected."
                self._console.print(Text(f"It runs in {grace} s unless you say no.", style="yellow"))
            self._console.print(Text.assemble(("Approve this call?", "bold"), " [y/N] "), end="")
            reply = _read_line(patience)
        if not reply:
            self._console.print(Text(f"\n{silence}", style="yellow"))
            return None
        return Answer(
            binding_hash=request.binding_hash,
            approved=reply.strip().lower() in {"y", "yes"},
            approver=f"os:{login()}",
        )

    async def aask(self, request: ApprovalRequest) -> Answer | None:
        """The async twin of :meth:`ask`, in another thread."""
        return await asyncio.to_thread(self.ask, request)


def approval_panel(request: ApprovalRequest) -> Panel:
    """Return what a human needs to decide: who asks, for whom, why, and the exact arguments, made safe to show."""
    call, decision = request.call, request.decision
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", max_width=_LABEL_WIDTH, overflow="fold")
    table.add_column(overflow="fold")

    def row(label: str, value: str, style: str = "") -> None:
        table.add_row(label, _shown(value, style))

    row("tool", f"{call.tool} ({decision.tier} tier)", "bold")
    if call.spec is not None:
        row("effect", ", ".join(sorted(call.spec.effects)))
    if call.resource:
        row("resource", call.resource)
    for number, (name, value) in enumerate(call.arguments.items()):
        if number == _MOST_ARGUMENTS:
            table.add_row("", _warning(f"{len(call.arguments) - number} more arguments are NOT SHOWN"))
            break
        risky = call.spec is not None and name in {*call.spec.destinations, *call.spec.content}
        label = f"  {visible(name, limit=4 * _LABEL_WIDTH)}"
        row(label, repr(value) if isinstance(value, str) else str(value), "bold yellow" if risky else "")
    row("agent", f"{call.agent.name} {call.agent.version}, owner {call.agent.owner}" if call.agent else "unknown")
    if call.callers:
        row("on the word of", ", ".join(call.callers))
    row("for", call.user.id if call.user else "unknown")
    row("asked for", call.intent or "(no words recorded)")
    row("has seen", f"{call.label.integrity} / {call.label.data_class}")
    for reason in decision.reasons:
        row("why you", reason.text)
    return Panel(table, title="Approval needed", border_style="yellow")


def _shown(value: str, style: str) -> Text:
    hidden = len(value) - _HEAD - _TAIL
    if hidden <= 0:
        return Text(_readable(value), style=style)
    warning = _warning(f" [{hidden:,} characters are NOT SHOWN] ")
    return Text.assemble((_readable(value[:_HEAD]), style), warning, (_readable(value[-_TAIL:]), style))


def _readable(text: str) -> str:
    # A long gap could push what follows to where it looks like a row of its own.
    return _GAP.sub(lambda gap: f" [{len(gap[0])} spaces] ", visible(text))


def _warning(text: str) -> Text:
    return Text(text, style="bold red")


def _forget_what_was_typed() -> None:
    if sys.platform != "win32":
        import termios

        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    else:
        import msvcrt

        while msvcrt.kbhit():
            msvcrt.getwch()


def _read_line(timeout: float) -> str:
    """Return the line that is typed within *timeout* seconds, or an empty text. Windows waits without end."""
    if sys.platform != "win32" and not select.select([sys.stdin], [], [], max(0.0, timeout))[0]:
        return ""
    return sys.stdin.readline()
