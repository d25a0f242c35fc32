"""Tables of figures, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from tests.benchmarks.timing import Pair


@dataclass(slots=True)
class Table:
    """A title, columns and rows; the first column says what was measured."""

    title: str
    columns: tuple[str, ...]
    note: str = ""
    rows: list[tuple[str | float | None, ...]] = field(default_factory=list)

    def add(self, *cells: str | float | None) -> None:
        assert len(cells) == len(self.columns)
        self.rows.append(cells)

    def show(self, console: Console) -> None:
        """Print it."""
        shown = RichTable(
            title=self.title, title_justify="left", title_style="bold", caption=self.note or None
        )
        shown.caption_justify = "left"
        for index, column in enumerate(self.columns):
            shown.add_column(column, justify="right" if index else "left")
        for row in self.rows:
            shown.add_row(*map(_text, row))
        console.print(shown)
        console.print()

    def as_json(self) -> dict[str, Any]:
        """Return it in the types of JSON."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"title": self.title, "note": self.note, "rows": rows}


COMPARED = ("", "p50 us", "p99 us", "x p50", "by round", "bare p50", "bare p99")


def comparison(title: str, pairs: Sequence[Pair], note: str = "") -> Table:
    """Return pairs as a table; each subject is compared with the baseline that it took turns with."""
    table = Table(title, COMPARED, note)
    for pair in pairs:
        table.add(*compared(pair))
    return table


def compared(pair: Pair) -> tuple[str | float, ...]:
    """Return the row of one pair."""
    ratios = pair.ratios()
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    mine, bare = pair.timing, pair.baseline
    return mine.name, mine.p50, mine.quantile(0.99), median(ratios), spread, bare.p50, bare.quantile(0.99)


def _text(cell: str | float | None) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str | int):
        return str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.2f}" if abs(cell) < 10 else f"{cell:.1f}"
