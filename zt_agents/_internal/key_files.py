"""Files that are written once and are whole or not there: keys.

A process may be killed at any moment, and another may make the same file at that moment. So the bytes go to a file
of another name first and are on disk before they get the right one, which fails where there is one already.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_once(path: Path, content: bytes) -> None:
    """Write *content* to the new file *path*, readable by its owner alone.

    Raises:
        FileExistsError: there is such a file; it was not touched.
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_whole(path: Path, content: bytes) -> None:
    """Write *content* to the file *path*, readable by its owner alone, in place of what is there.

    Raises:
        OSError: it cannot be written; what was there was not touched.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        write_once(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
