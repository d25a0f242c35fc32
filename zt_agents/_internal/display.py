"""Make strangers' text safe to show in a terminal: what it says stays visible, what it does is taken away."""

from __future__ import annotations

import unicodedata

_LIMIT = 500


def visible(text: str, limit: int = _LIMIT) -> str:
    """Return *text* with control, format and unassigned characters written out, cut after *limit* characters.

    Escape sequences, right-to-left overrides and zero-width characters show as ``\\x1b``, ``\\u202e`` and so on.
    """
    shown = "".join(_visible(character) for character in text[:limit])
    return f"{shown}… ({len(text)} characters)" if len(text) > limit else shown


def _visible(character: str) -> str:
    if character == " " or unicodedata.category(character)[0] not in "CZ":
        return character
    return character.encode("unicode_escape").decode() if character != "\u00a0" else "\\xa0"
