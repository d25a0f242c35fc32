"""Make strangers' text safe to show: what it says stays visible, what it would do to a terminal is taken away."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_HIDDEN_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that render as nothing."""
_MOST_MARKS = 4
"""Accents and the like on one letter, as many as any language needs; a pile of them covers the lines around it."""


def visible(text: str, *, limit: int | None = None, keep_newlines: bool = False) -> str:
    """Return *text* with whatever would hide, move or restyle what a reader sees turned into escapes."""
    shown = "".join(visible_characters(text, keep_newlines=keep_newlines))
    return shown if limit is None or len(shown) <= limit else shown[: limit - 1] + "…"


def visible_characters(text: str, *, keep_newlines: bool = False) -> Iterator[str]:
    """Yield what is shown for each character of *text*: itself or an escape."""
    marks = 0
    for character in text:
        marks = 0 if character.isascii() or unicodedata.category(character)[0] != "M" else marks + 1
        if character == "\n" and keep_newlines:
            yield character
        else:
            yield _escape(character) if marks > _MOST_MARKS else _visible_character(character)


def is_hidden(character: str) -> bool:
    """Return whether *character* is one that nobody sees, and no space."""
    point = ord(character)
    return (
        unicodedata.category(character) in _HIDDEN_CATEGORIES
        or character in _HIDDEN_LETTERS
        or 0xFE00 <= point <= 0xFE0F  # variation selectors can carry a hidden text
        or 0xE0100 <= point <= 0xE01EF
    )


def _visible_character(character: str) -> str:
    if " " <= character <= "~":
        return character
    if not is_hidden(character) and unicodedata.category(character) != "Zs":
        return character
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character) or _escape(character)


def _escape(character: str) -> str:
    point = ord(character)
    return f"\\x{point:02x}" if point <= 0xFF else f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"
