"""What the commands print, and how they print what others wrote.

The names, descriptions and arguments of tools come from strangers. On the way to a terminal they are data:
control characters, direction overrides and invisible characters are shown as escapes, and rich markup is off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zt_agents._internal.display import visible
from zt_agents.errors import ZeroTrustError

_WIDTH_WITHOUT_TERMINAL = 140

TIER_STYLES = {"low": "green", "medium": "yellow", "high": "bold red"}


def console(*, stderr: bool = False) -> Console:
    """Return a console that takes text literally: no markup, no emoji codes, no highlighting."""
    out = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not out.is_terminal and "COLUMNS" not in os.environ:
        out.width = _WIDTH_WITHOUT_TERMINAL
    return out


def say(text: str = "", *, style: str = "", stderr: bool = False) -> None:
    """Print lines of *text*, which may hold anything."""
    console(stderr=stderr).print(Text(visible(text, keep_newlines=True), style=style), soft_wrap=True)


Cell = str | tuple[str, ...]
"""One line, or several. A line break inside a line is shown as an escape: it could forge a line or a row."""


def say_table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print a table of cells, which may hold anything. Cells that name a tier are coloured."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*map(_text, row))
    console().print(table)


def _text(cell: Cell) -> Text:
    if isinstance(cell, str):
        return Text(visible(cell), style=TIER_STYLES.get(cell, ""))
    return Text("\n".join(map(visible, cell)))


def say_json(document: Any) -> None:
    """Print *document* as JSON in ASCII, so that no character of it can act on a terminal."""
    console().print(Text(json.dumps(document, indent=2, ensure_ascii=True)), soft_wrap=True)


def say_error(error: ZeroTrustError) -> None:
    """Print what was refused, why, and the way out, to standard error."""
    say(f"error: {error.message}", style="red", stderr=True)
    if error.hint:
        say(f"hint: {error.hint}", stderr=True)


def confirmed(question: str, *, otherwise: str = "Nothing was changed.") -> bool:
    """Return whether somebody at the terminal says yes; where nobody is, it is no. *otherwise* is said if not."""
    try:
        if typer.confirm(question, err=True):
            return True
    except typer.Abort:
        say("\nNobody answered: --yes goes without.", stderr=True)
    say(otherwise, stderr=True)
    return False
