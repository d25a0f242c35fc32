"""Names in the form in which they are compared where looking alike must not pass for being different."""

from __future__ import annotations

import unicodedata


def fold(name: str) -> str:
    """Return *name* without what people do not see: upper case, width, and how much space there is."""
    folded = " ".join(unicodedata.normalize("NFKC", name).split()).casefold()
    return unicodedata.normalize("NFKC", folded)  # to fold some Greek letters is to take them apart
