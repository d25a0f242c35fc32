"""Secrets in the environment that a process was started with, and in files.

Rules:

1. A variable is taken out of the environment when the guard is made, unless the policy keeps it: programs started
   later do not inherit it, and code that looks through the environment finds nothing. ``/proc/PID/environ`` shows what
   the process was *started* with, to its own user, for as long as it runs; a file does not have that fault.
2. A file counts only if it is a plain file of this process's user or of root, and nobody else may read it; a link to it
   has to be theirs too. It is read anew for each call.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from threading import Lock

from zt_agents._internal.hidden import Hidden
from zt_agents.credentials.secrets import Fetched, Withheld

_LARGEST = 64 * 1024

_taken: dict[str, Hidden[bytes]] = {}
"""By variable: another guard of this process finds nothing in the environment any more."""
_lock = Lock()


class EnvironmentSecret:
    """A secret in an environment variable."""

    def __init__(self, variable: str, *, keep: bool = False) -> None:
        """Take the variable out of the environment, unless it is to *keep* it."""
        self._variable = variable
        self._keep = keep
        if not keep:
            with _lock:
                value = os.environ.pop(variable, None)
                if value is not None:
                    _taken[variable] = Hidden(value.encode("utf-8", "surrogateescape"))

    def fetch(self) -> Fetched:
        if self._keep:
            value = os.environ.get(self._variable, "")
        else:
            with _lock:
                held = _taken.get(self._variable, Hidden(b""))
            value = _text(held.reveal())
        if not value:
            raise Withheld("missing")
        return Fetched(Hidden({"value": value}))


class FileSecret:
    """A secret that is the whole content of a file, less a line break at its end."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fetch(self) -> Fetched:
        try:
            link = self._path.lstat()
            opened = os.open(self._path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError:
            raise Withheld("missing") from None
        except OSError:
            raise Withheld("unreachable") from None
        try:
            _check(link, os.fstat(opened))
            with os.fdopen(opened, "rb", closefd=False) as file:
                content = file.read(_LARGEST + 1)
        finally:
            os.close(opened)
        value = _text(content.removesuffix(b"\n").removesuffix(b"\r"))
        if not value or len(content) > _LARGEST:
            raise Withheld("malformed")
        return Fetched(Hidden({"value": value}))


def _check(link: os.stat_result, file: os.stat_result) -> None:
    if not stat.S_ISREG(file.st_mode):
        raise Withheld("malformed")
    if os.name == "posix":
        ours = {0, os.geteuid()}
        if file.st_mode & 0o077 or file.st_uid not in ours or link.st_uid not in ours:
            raise Withheld("unsafe")


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:  # which holds the content
        pass
    raise Withheld("malformed")
