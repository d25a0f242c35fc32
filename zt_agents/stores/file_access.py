"""Files of databases: made whole, and what the disk says about them where SQLite only says that it cannot open one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zt_agents.errors import AuditWriteError

AGAIN = "it is tried again by itself."


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a new file beside *path*, its owner's alone; it gets that name when it is ready, if nobody has it by then.

    So nobody opens half a file, and of several processes that make it at once each finds one that is whole.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        yield temporary
        with suppress(FileExistsError):  # another process was first
            os.link(temporary, path)
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Make the names in *folder* durable, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def require_writable(path: Path) -> None:
    """Refuse a log that SQLite would open for reading only, and undo what such an opening has left behind.

    SQLite gives the files beside the log the log's own permissions. One made while the log was read-only stays so,
    and nothing could be written when the log itself may be again.
    """
    if not os.access(path, os.W_OK):
        raise AuditWriteError(
            f"The audit log {path} could not be written{cause(path)}.",
            hint=f"Calls are denied until it can be; {AGAIN}",
        )
    for place in beside(path):
        if place.is_file() and not place.is_symlink() and not os.access(place, os.W_OK):
            with suppress(OSError):
                place.chmod(path.stat().st_mode & 0o777)


def cause(path: Path) -> str:
    """Return what the system says is wrong with the place of *path*: SQLite often only says that it cannot open it."""
    try:
        disk = os.statvfs(path.parent)
    except (AttributeError, OSError):  # Windows has no statvfs
        return ""
    if disk.f_flag & os.ST_RDONLY:
        return " (its disk is read-only)"
    if not disk.f_bavail:
        return " (its disk is full)"
    places = [place for place in (path.parent, path, *beside(path)) if place.exists()]
    denied = [place for place in places if not os.access(place, os.W_OK)]
    return f" (this process may not write to {denied[0]})" if denied else ""


def beside(path: Path) -> tuple[Path, Path]:
    """Return where SQLite keeps the write-ahead log of *path* and the index to it."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of *path*, or None where there is nothing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
