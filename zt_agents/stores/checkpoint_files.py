"""Where checkpoints of a log are kept: beside it, in a file elsewhere, or with a server that takes them.

Beside the log AUDIT.db stand ``AUDIT.db.checkpoint-key``, which signs, and ``AUDIT.db.checkpoint``, the last
note that was signed, so that the next one cannot contradict it. Neither protects from whoever can write to
that folder: what protects is the copy that went elsewhere.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from zt_agents.errors import StoreError

_TIMEOUT = 10.0
"""Seconds a server has to answer."""


def key_beside(log: Path) -> Path:
    """Return the place of the key with which *log* signs."""
    return log.with_name(f"{log.name}.checkpoint-key")


def last_beside(log: Path) -> Path:
    """Return the place of the last checkpoint that was signed for *log*."""
    return log.with_name(f"{log.name}.checkpoint")


def read_note(path: Path) -> bytes:
    """Return the note in *path*. Nothing about it is proven."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"The checkpoint {path} could not be read: {error.strerror}.") from error


def write_note(path: Path, note: str) -> None:
    """Put *note* into *path*, durably and at once: a crash leaves the old note or the new one."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with new.open("wb") as file:
            file.write(note.encode())
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise StoreError(f"The checkpoint {path} could not be written: {error.strerror}.") from error


def is_url(target: str) -> bool:
    """Return whether *target* is the address of a server rather than a file."""
    return target.lower().startswith(("http://", "https://"))


def post_note(url: str, note: str) -> None:
    """Send *note* to *url* in a POST request. A redirect is an error: it would drop the note on the way.

    Raises:
        StoreError: the server was not reached, or did not take it (any status but 2xx).
    """
    request = urllib.request.Request(  # noqa: S310 - is_url
        url, data=note.encode(), method="POST", headers={"Content-Type": "text/plain; charset=utf-8"}
    )
    try:
        urllib.request.build_opener(_NoRedirect).open(request, timeout=_TIMEOUT).close()
    except urllib.error.HTTPError as error:
        error.close()
        raise StoreError(f"The server did not take the checkpoint: status {error.code}.") from error
    except (OSError, HTTPException, ValueError) as error:
        raise StoreError(f"The checkpoint could not be sent: {type(error).__name__}.") from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None
