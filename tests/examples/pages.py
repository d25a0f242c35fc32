"""The README and the pages of ``docs/``, and how what they show is carried out as a reader would.

A block of code is what its first line says:

- ```` ```python my_tools.py ````, ```` ```yaml zt-agents.yaml ````: this file.
- ```` ```yaml +zt-agents.yaml ````: what is added to this file.
- ```` ```yaml ````: what could be added to the policy: it loads, and is left out again.
- ```` ```console ```` with ``$ `` before a command: it is run, and prints what is below it. One that ends in ``&`` is
  left running when it has printed that; ``fg`` waits for its end and for the rest. Without ``$ ``, it is to be read.

In what is printed, ``...`` stands for anything within a line, and ids, dates and times for those of this run: an id
that is shown again, by a later command too, is the same. Ports are free ones.

Each command is a process of its own, on a terminal. Those that need no shell are forked from one that has imported what
all of them import, which is most of their time.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import multiprocessing
import os
import pty
import re
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from zt_agents.catalog.lock import ToolLock, lock_path
from zt_agents.policy import load_policy

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]

_LONGEST = 120.0
"""Seconds for one command."""
_WARM = multiprocessing.get_context("forkserver")
_WARM.set_forkserver_preload(
    ["zt_agents.cli", "zt_agents.config", "zt_agents.integrations.langchain.middleware", "langchain_core.tools"]
)
_BLOCK = re.compile(r"^```(\w+)(?: (\+?)([\w./-]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PORT = re.compile(r"(?<=[: ])8[78]\d\d\b")
_VARIES = re.compile(
    r"(?P<id>\b[0-9a-f]{8,64}\b)|(?P<time>\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?)|(?P<any>\.\.\.)"
)


class Block(NamedTuple):
    """A block of code."""

    language: str
    name: str
    """Of the file that it is, if any."""
    more: bool
    """It is added to that file, which is there."""
    text: str


def blocks(text: str) -> Iterator[Block]:
    """Yield each fenced block of a page, or of a part of one."""
    for match in _BLOCK.finditer(text):
        yield Block(match[1], match[3] or "", bool(match[2]), match[4])


def prose(text: str) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def section(text: str, heading: str) -> str:
    """Return the part of a page below *heading*, up to the next heading of its level."""
    _, found, rest = text.partition(f"\n{heading}\n")
    assert found, f"no heading {heading!r}"
    level = len(heading.split()[0])
    return re.split(rf"^#{{1,{level}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield (command, what it prints) of a console's block."""
    command, shown = "", ""
    for line in text.splitlines(keepends=True):
        if not shown and command.endswith("\\\n"):
            command += line
        elif line.startswith("$ "):
            if command:
                yield command.strip(), shown
            command, shown = line.removeprefix("$ "), ""
        else:
            shown += line
    if command:
        yield command.strip(), shown


class _Job(NamedTuple):
    command: str
    process: subprocess.Popen[bytes]
    output: Path
    seen: int
    """Bytes of the output that were looked at."""


class Reader:
    """Carries out pages in a folder; a context manager, which ends what still runs."""

    def __init__(self, folder: Path, *, replace: Mapping[str, str] | None = None) -> None:
        """Read in *folder*. A text of *replace* that a page shows is another one here."""
        self.folder = folder
        self.ran = 0
        self._replace = dict(replace or {})
        self._ids: dict[str, str] = {}
        self._jobs: list[_Job] = []

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for job in self._jobs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.process.pid, signal.SIGTERM)
            try:
                job.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(job.process.pid, signal.SIGKILL)
                job.process.wait()

    def read(self, text: str) -> None:
        """Write the files of a page, and run its commands, from top to bottom."""
        for block in blocks(text):
            if (block.language == "yaml" and not block.name) or block.more:
                self._add(self._here(block.text), self.folder / (block.name or "zt-agents.yaml"), keep=block.more)
            elif block.name:
                (self.folder / block.name).write_text(self._here(block.text), encoding="utf-8")
            elif block.language == "console" and block.text.startswith("$ "):
                for command, shown in commands(block.text):
                    self._run(command, shown)

    def _add(self, text: str, path: Path, *, keep: bool) -> None:
        before = path.read_text(encoding="utf-8")
        both = _merged(yaml.safe_load(before), yaml.safe_load(text))
        path.write_text(yaml.safe_dump(both, sort_keys=False), encoding="utf-8")
        if not keep:
            load_policy(path, parameters=ToolLock.read(lock_path(path)).parameters)
            path.write_text(before, encoding="utf-8")

    def _run(self, command: str, shown: str) -> None:
        self.ran += 1
        real = self._here(command)
        if command.endswith("&"):
            self._start(real.removesuffix("&"), shown)
        elif command == "fg":
            job = self._jobs.pop()
            job.process.wait(_LONGEST)
            self._compare(job.command, shown, job.output.read_bytes()[job.seen :].decode())
        else:
            printed, code = on_a_terminal(real, self.folder, "y\n" if "[y/N] y" in shown else "")
            if code and not shown:
                pytest.fail(f"{command}\nexit code {code}\n{printed}")
            self._compare(command, shown, printed)

    def _start(self, command: str, shown: str) -> None:
        output = self.folder / f".output-{self.ran}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, shell=True, cwd=self.folder, env=_environment(), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._jobs.append(_Job(command, process, output, 0))
        until = time.monotonic() + _LONGEST
        while shown and not self._agrees(shown, output.read_text()):
            if process.poll() is not None or time.monotonic() > until:
                self._compare(command, shown, output.read_text())
                return
            time.sleep(0.02)
        self._jobs[-1] = self._jobs[-1]._replace(seen=output.stat().st_size if shown else 0)

    def _compare(self, command: str, shown: str, printed: str) -> None:
        if shown and not self._agrees(shown, printed):
            lines = difflib.unified_diff(
                self._here(shown).splitlines(), printed.splitlines(), "shown", "printed", lineterm=""
            )
            pytest.fail("\n".join([command, *lines]))

    def _agrees(self, shown: str, printed: str) -> bool:
        """Whether this was *printed*. Ids of the page are those that were printed from now on."""
        pattern, ids = self._pattern(_stripped(self._here(shown)))
        found = re.fullmatch(pattern, _stripped(printed))
        if found:
            self._ids.update({name: found[group] for name, group in ids.items()})
        return bool(found)

    def _pattern(self, shown: str) -> tuple[str, dict[str, str]]:
        """Return a regular expression for *shown*, and its groups by the ids that are new."""
        pattern, end = "", 0
        ids: dict[str, str] = {}
        for match in _VARIES.finditer(shown):
            pattern += re.escape(shown[end : match.start()])
            end = match.end()
            if match["any"]:
                pattern += ".*"
            elif match["time"]:
                pattern += re.sub(r"\d", r"\\d", match["time"])
            elif match["id"] in self._ids.values():
                pattern += match["id"]
            elif match["id"] in ids:
                pattern += f"(?P={ids[match['id']]})"
            else:
                ids[match["id"]] = f"id{len(ids)}"
                pattern += f"(?P<{ids[match['id']]}>[0-9a-f]{{{len(match['id'])}}})"
        return pattern + re.escape(shown[end:]), ids

    def _here(self, text: str) -> str:
        for port in _PORT.findall(text):
            self._replace.setdefault(port, _free_port())
        for shown, real in {**self._replace, **self._ids}.items():
            text = text.replace(shown, real)
        return text


def on_a_terminal(command: str, folder: Path, typed: str = "") -> tuple[str, int]:
    """Run *command* on a pseudo-terminal, type *typed* where it asks; return all that is shown, and the exit code."""
    ours, theirs = pty.openpty()
    process = _WARM.Process(target=_typed, args=(command, str(folder), _environment(), os.ttyname(theirs)))
    process.start()
    shown, until = b"", time.monotonic() + _LONGEST
    while True:
        ended = not process.is_alive()  # asked before the last look: what it said at its end is there by then
        if select.select([ours], [], [], 0.02)[0]:
            shown += os.read(ours, 65536)
        elif ended:
            break
        elif time.monotonic() > until:
            process.kill()
        if typed and b"[y/N]" in shown:
            os.write(ours, typed.encode())
            typed = ""
    os.close(theirs)
    os.close(ours)
    code = process.exitcode
    process.close()
    assert code is not None
    return shown.decode().replace("\r\n", "\n"), code


def _typed(command: str, folder: str, environment: dict[str, str], terminal: str) -> None:
    """Be the process of *command*."""
    os.setsid()
    place = os.open(terminal, os.O_RDWR)
    for number in range(3):
        os.dup2(place, number)
    os.chdir(folder)
    words = shlex.split(command)
    if words[0] not in {"zt-agents", "python"} or words[1].startswith("-") or set(command) & set("|&;<>$"):
        os.execve("/bin/sh", ["sh", "-c", command], environment)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = open(0)  # noqa: SIM115 - until the process ends
    sys.stdout, sys.stderr = open(1, "w", buffering=1), open(2, "w", buffering=1)  # noqa: SIM115
    sys.argv = words if words[0] == "zt-agents" else words[1:]
    if words[0] == "zt-agents":
        importlib.import_module("zt_agents.cli").main()
    else:
        sys.path.insert(0, folder)
        runpy.run_path(words[1], run_name="__main__")


def _merged(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return {**one, **{key: _merged(one.get(key), value) for key, value in other.items()}}
    if isinstance(one, list) and isinstance(other, list) and all(isinstance(each, dict) for each in other):
        return [*one, *other]
    return other


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "COLUMNS": "100",
        "TERM": "dumb",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "USER": "dana",
        "LOGNAME": "dana",
    }


def _stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines())


def _free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])
