"""Names in the form in which they are compared where looking alike must not pass for being different."""

from __future__ import annotations

import unicodedata

from zt_agents._internal.display import is_hidden


def fold(name: str) -> str:
    """Return *name* without what people do not see: upper case, width, how much space there is, and what hides."""
    if not (name.isascii() and name.isprintable()):
        name = "".join(each for each in name if each.isspace() or not is_hidden(each))
    folded = " ".join(unicodedata.normalize("NFKC", name).split()).casefold()
    return unicodedata.normalize("NFKC", folded)  # to fold some Greek letters is to take them apart
