"""Programs of others that tests run on loopback, and how those in Go are had: built once, into the user's cache folder.

What is not in the cache folder is fetched only with ZT_AGENTS_SERVERS=1.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zt-agents"
_LONGEST_BUILD = 3600.0
"""Seconds: a large server, on two cores that do other things as well."""


def missing(*programs: str) -> str:
    """Return what keeps a server from being run, or an empty text."""
    if os.environ.get("ZT_AGENTS_SERVERS") != "1":
        return "needs ZT_AGENTS_SERVERS=1"
    absent = [program for program in programs if shutil.which(program) is None]
    return f"needs {', '.join(absent)}" if absent else ""


def build(home: Path, module: str, *packages: str) -> None:
    """Build *packages* of a Go module, as their own main module, into *home*: its go.sum and replacements count."""
    _build(home, _downloaded(home, module), packages)


def build_fitted(home: Path, module: str, *packages: str, fit: Callable[[Path], None], options: Sequence[str]) -> None:
    """Build as :func:`build`, from a copy of the source that *fit* has changed."""
    copy = home.with_name(f"{home.name}.source")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(_downloaded(home, module), copy, copy_function=shutil.copyfile)  # the original is read-only
    for folder, _, _ in os.walk(copy):
        Path(folder).chmod(0o755)
    fit(copy)
    _build(home, copy, packages, *options)
    shutil.rmtree(copy)


def _downloaded(home: Path, module: str) -> Path:
    home.parent.mkdir(parents=True, exist_ok=True)
    download = ["go", "mod", "download", "-json", module]
    done = subprocess.run(download, capture_output=True, text=True, check=True, timeout=600)
    return Path(json.loads(done.stdout)["Dir"])


def _build(home: Path, source: Path, packages: Sequence[str], *options: str) -> None:
    with home.with_name(f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests that run beside each other build it once
        if home.exists():
            return
        partial = home.with_name(f"{home.name}.partial")
        partial.mkdir(exist_ok=True)
        command = ["go", "build", "-C", str(source), *options, "-o", f"{partial}{os.sep}", *packages]
        subprocess.run(command, check=True, timeout=_LONGEST_BUILD)
        partial.replace(home)


@contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    ready: Callable[[], bool],
    *,
    seconds: float,
    end: signal.Signals = signal.SIGKILL,
    **options: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a session of its own until the block ends. *ready* is asked until it says so.

    The signal *end* is for the program and its children, as nothing that most of them hold is to be kept.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHON"))}
    environment = {**clean, **options.pop("env", {})}
    with log.open("ab") as output:
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        process = subprocess.Popen([*command], **streams, env=environment, start_new_session=True, **options)
        try:
            wait_until(lambda: ready() or _ended(process, log), seconds=seconds)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):  # a test has ended it
                os.killpg(process.pid, end)
            process.wait(30)


def _ended(process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text(errors="replace")[-2000:]
    return False


def wait_until(holds: Callable[[], bool], *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
