"""A database file whose end was cut off. SQLite reads nothing of such a file; what is left of it is evidence."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MAGIC = b"SQLite format 3\0"
_HEADER = 100
"""Bytes; https://sqlite.org/fileformat.html, 1.3."""


def bytes_cut_off(path: Path) -> int:
    """Return how many bytes the file is shorter than its own header says; 0 where it is not, or is no database."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return 0
    if len(header) < _HEADER or not header.startswith(_MAGIC):
        return 0
    page = int.from_bytes(header[16:18])
    pages = int.from_bytes(header[28:32])
    return max(0, pages * (65536 if page == 1 else page) - size)


@contextmanager
def filled_up(path: Path) -> Iterator[Path]:
    """Yield a copy of the cut file *path* that is as long as it was, with nothing where the end is gone."""
    with tempfile.TemporaryDirectory(prefix="zt-agents-") as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        os.truncate(copy, copy.stat().st_size + bytes_cut_off(path))
        yield copy
