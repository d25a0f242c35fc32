"""How a page shows what models and strangers wrote: nothing hides, and what is not shown is counted.

A text becomes runs, each of one kind, which the template puts into elements. A run's text is safe to read and still has
to be escaped for HTML.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from zt_agents._internal.display import visible, visible_characters
from zt_agents.console.lookalikes import tokens

HEAD, TAIL = 1500, 500
"""Characters of a value that a page shows: its beginning and its end."""
_GAP = re.compile(r"( {5,}|\n{4,})")


class Kind(StrEnum):
    """What a run is."""

    PLAIN = "plain"
    ESCAPE = "escape"
    """Stands for a character that cannot be seen, or would move what can."""
    ALIKE = "alike"
    """A word or sign that may pass for another."""
    GAP = "gap"
    """Stands for a long gap, which could push what follows out of sight."""
    HIDDEN = "hidden"
    """Stands for what is not shown."""


class Run(NamedTuple):
    """A part of a text, as it is shown."""

    text: str
    kind: Kind = Kind.PLAIN
    note: str = ""
    """What is odd about it."""


class Shown(NamedTuple):
    """A text, as it is shown."""

    runs: tuple[Run, ...]
    characters: int
    """How long the text is."""
    hidden: int = 0
    """How many characters of it are not shown."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know about it, in words."""
        kinds = {run.kind for run in self.runs}
        found = list(dict.fromkeys(run.note for run in self.runs if run.note))
        if Kind.ESCAPE in kinds:
            found.append("characters that cannot be seen, shown as escapes")
        if any(unicodedata.bidirectional(character) in {"R", "AL"} for run in self.runs for character in run.text):
            found.append("letters written from right to left: what stands beside them may be shown out of order")
        return tuple(found)


def show(text: str, *, head: int = HEAD, tail: int = TAIL, lines: bool = False) -> Shown:
    """Return *text* as it is shown; with *lines*, its line breaks stay."""
    hidden = len(text) - head - tail
    if hidden <= 0:
        return Shown(tuple(_runs(text, lines)), len(text))
    gap = Run(f"{hidden:,} characters are not shown", Kind.HIDDEN)
    return Shown((*_runs(text[:head], lines), gap, *_runs(text[len(text) - tail :], lines)), len(text), hidden)


def show_line(text: str, limit: int = 200) -> Shown:
    """Return *text* for a place that has a line for it."""
    return show(text, head=limit, tail=0)


def written(value: Any) -> str:
    """Return a JSON value as text: a text is itself, anything else is JSON over several lines."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, indent=2)
    except (RecursionError, ValueError, TypeError):
        return visible(str(type(value).__name__)) + " that cannot be written as JSON"


def sort(value: Any) -> str:
    """Return what sort of value it is, in a reader's words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "yes or no"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float):
        return "number"
    count = len(value)
    if isinstance(value, dict):
        return f"object of {count:,}"
    return f"list of {count:,}"


def _runs(text: str, lines: bool) -> Iterator[Run]:
    for number, part in enumerate(_GAP.split(text)):
        if number % 2 and part[0] == " ":
            yield Run(f"{len(part):,} spaces", Kind.GAP)
        elif number % 2 and lines:
            yield Run("\n")
            yield Run(f"{len(part):,} line breaks", Kind.GAP)
            yield Run("\n")
        else:
            yield from _of_part(part, lines)


def _of_part(part: str, lines: bool) -> Iterator[Run]:
    shown = list(visible_characters(part, keep_newlines=lines))
    position = 0
    for token in tokens(part):
        kind = Kind.ALIKE if token.note else Kind.PLAIN
        pending = ""
        for character in token.text:
            as_shown = shown[position]
            position += 1
            if as_shown == character:
                pending += character
                continue
            if pending:
                yield Run(pending, kind, token.note)
                pending = ""
            yield Run(as_shown, Kind.ESCAPE)
        if pending:
            yield Run(pending, kind, token.note)
