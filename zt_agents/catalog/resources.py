"""Resource ids: the template of a tool filled in with the arguments of one call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

_PLACEHOLDER = re.compile(r"\{args\.([A-Za-z_][A-Za-z0-9_]*)\}")
_LONGEST = 512


def placeholders(template: str) -> list[str]:
    """Return the names of the arguments that *template* uses, in order."""
    return list(_pieces(template)[1::2])


def fill(template: str, arguments: Mapping[str, Any]) -> str:
    """Return *template* with each ``{args.name}`` replaced by that argument, percent-encoded, at most 512 characters.

    Encoding keeps an argument from naming another resource: ``1/../2`` becomes ``1%2F..%2F2``.
    """
    if not template:
        return ""
    pieces = _pieces(template)
    if len(pieces) == 1:
        return template
    filled = [
        quote(str(arguments.get(piece, "")), safe="@:+,") if index % 2 else piece
        for index, piece in enumerate(pieces)
    ]
    return "".join(filled)[:_LONGEST]


@lru_cache(maxsize=4096)
def _pieces(template: str) -> tuple[str, ...]:
    return tuple(_PLACEHOLDER.split(template))
