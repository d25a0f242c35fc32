"""Files of one user alone that are whole or not there: keys.

A process may be killed at any moment, and another may make the same file at that moment. So the bytes go to a file
of another name first and are on disk before they get the right one, which fails where there is one already.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

_MAX_BYTES = 4_000_000


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


def read_own(path: Path) -> bytes:
    """Return what the file *path* holds, up to 4 MB.

    Raises:
        OSError: it cannot be read, or is a link.
        ValueError: it is no file, or not this user's alone.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        require_own(os.fstat(file.fileno()), stat.S_ISREG)
        return file.read(_MAX_BYTES)


def require_own(found: os.stat_result, kind: Callable[[int], bool]) -> None:
    """Refuse what is not of *kind* (``stat.S_ISREG``, ``stat.S_ISDIR``), or not this user's alone.

    Raises:
        ValueError: says which.
    """
    if not kind(found.st_mode):
        raise ValueError("a link, or something else that is neither a folder nor a file")
    if found.st_uid != os.geteuid():
        raise ValueError("it belongs to another user")
    if found.st_mode & 0o077:
        raise ValueError("other users can reach it (the folder is to have mode 700, its files 600)")
