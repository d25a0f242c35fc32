"""Name the resource that a call touches, by filling in the template of its tool.

The rules: a placeholder stands for one argument that is text, a number or a truth value. An argument that is
missing or empty names nothing, and one with a ``.`` or ``..`` segment, in plain text or as a back end decodes it
(``public/../payroll``, ``public/%2e%2e/payroll``), does not name what it seems to; both are refused, because conditions
decide on the name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from zt_agents.errors import ArgumentsError

_PLACEHOLDER = re.compile(r"\{args\.([^{}]*)\}")
_SEPARATOR = re.compile(r"[/\\]")


def fill_resource(template: str, arguments: Mapping[str, Any]) -> str:
    """Return ``ticket/5`` for the template ``ticket/{args.id}`` and the arguments ``{"id": 5}``.

    Raises:
        ArgumentsError: an argument is missing, or cannot be part of a name.
    """
    return "".join([_text(part, arguments) if odd else part for odd, part in _parts(template)])


def names_one(template: str, arguments: Mapping[str, Any]) -> bool:
    """Return whether the name that *template* gives can be read in one way only.

    ``{args.from}/{args.to}`` gives one name to ``a/b`` and ``c``, and to ``a`` and ``b/c``: what stands between two
    arguments must not be in the first.
    """
    parts = _parts(template)
    for place, (odd, part) in enumerate(parts[:-2]):
        if odd:
            value, between = _text(part, arguments), parts[place + 1][1]
            if f"{value}{between}".find(between) != len(value):
                return False
    return True


@lru_cache(maxsize=4096)
def _parts(template: str) -> tuple[tuple[int, str], ...]:
    """Return literal text (0) and paths of arguments (1), in order."""
    return tuple((index % 2, part) for index, part in enumerate(_PLACEHOLDER.split(template)))


def _text(path: str, arguments: Mapping[str, Any]) -> str:
    value: Any = arguments
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value) if isinstance(value, str | int | float) else ""
    if not text:
        raise ArgumentsError(
            f"The argument {path!r} names the resource of this call, and it is missing or empty."
        )
    if ("." in text or "%" in text) and not {".", ".."}.isdisjoint(_SEPARATOR.split(unquote(text))):
        raise ArgumentsError(
            f"The argument {path!r} names the resource of this call, and holds a '.' or '..' segment."
        )
    return text
