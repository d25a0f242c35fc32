"""Paths to parts of a JSON document: the subset of RFC 9535 (JSONPath) that names places and tests no values.

::

    $.customer.iban     $['customer']["iban"]     $.cards[0]     $.cards[*].number     $..iban     $.customer.*

``..`` reaches every depth. Names are compared as they are written; ``[0]`` is the first item of an array and nothing
else. Slices, unions, filters, negative indexes and escapes are refused, never read as something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_STEP = re.compile(
    r"(?P<deep>\.\.)?(?:(?(deep)|\.)(?:(?P<name>[A-Za-z_\u0080-\U0010ffff][\w]*)|(?P<all>\*))"
    r"|\[(?:'(?P<single>[^'\\]+)'|\"(?P<double>[^\"\\]+)\"|(?P<index>0|[1-9][0-9]{0,8})|(?P<every>\*))\])"
)


class Step(NamedTuple):
    """One step of a path."""

    deep: bool
    """Whether it may be taken at any depth below."""
    name: str | int | None
    """Name of a member, index of an item, or None for each of them."""


Path = tuple[Step, ...]


def parse_path(text: str) -> Path:
    """Return the path written as *text*, with at least one step.

    Raises:
        ValueError: it is no path of this subset; the message says where that begins.
    """
    if not text.startswith("$"):
        raise ValueError("a path begins with '$'")
    steps, at = [], 1
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            raise ValueError(f"{text[at:]!r} is no step of a path, such as .name, ['name'], [0], [*], .* or ..name")
        name = match["name"] or match["single"] or match["double"]
        steps.append(Step(bool(match["deep"]), int(match["index"]) if match["index"] else name))
        at = match.end()
    if not steps:
        raise ValueError("'$' alone is the whole document")
    return tuple(steps)


class Walk(NamedTuple):
    """Where a walk down a document stands with respect to some paths."""

    ahead: tuple[tuple[Path, int], ...]
    """Each path that may still match below, and which of its steps is next."""
    led_here: bool = False
    """Whether a path has a step that led to this very place, and goes on from it."""

    @classmethod
    def along(cls, paths: Iterable[Path]) -> Walk:
        return cls(tuple((path, 0) for path in paths))

    def into(self, key: str | int) -> Walk | None:
        """Return the walk one level down, at the member or the item *key*; None where a path ends there."""
        ahead: dict[tuple[Path, int], None] = {}
        led_here = False
        for path, index in self.ahead:
            step = path[index]
            if step.deep:
                ahead[path, index] = None
            if step.name is None or (type(step.name) is type(key) and step.name == key):
                if index + 1 == len(path):
                    return None
                ahead[path, index + 1] = None
                led_here = True
        return Walk(tuple(ahead), led_here)
