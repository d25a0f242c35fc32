"""The README's programs run, and print what it says they print."""

from __future__ import annotations

import difflib
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"^```(\w+)(?: ([\w./-]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> Iterator[tuple[str, str, str]]:
    """Yield (language, file name or empty, text) of each fenced block."""
    for match in BLOCK.finditer(README.read_text(encoding="utf-8")):
        yield match[1], match[2] or "", match[3]


def on_a_terminal(command: str, folder: Path, typed: str) -> str:
    """Run *command* on a pseudo-terminal, type *typed*, and return all that the terminal shows."""
    ours, theirs = pty.openpty()
    environment = {
        **os.environ,
        "COLUMNS": "100",
        "TERM": "dumb",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{README.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "USER": "dana",
        "LOGNAME": "dana",
    }
    process = subprocess.Popen(
        command, shell=True, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # Linux reports the end of a pseudo-terminal as an error
            break
        if not chunk:
            break
        shown += chunk
        if typed and b"[y/N]" in shown:
            os.write(ours, typed.encode())
            typed = ""
    os.close(ours)
    assert process.wait(timeout=60) == 0, shown.decode()
    return shown.decode().replace("\r\n", "\n")


def as_pattern(expected: str) -> str:
    """Return a regular expression for shown output, in which ``...`` stands for anything within a line."""
    lines = [re.escape(line.rstrip()).replace(r"\.\.\.", ".*") for line in expected.splitlines()]
    return "\n".join(lines)


def test_the_first_program(tmp_path: Path) -> None:
    ran = 0
    for language, name, text in blocks():
        if name:
            (tmp_path / name).write_text(text, encoding="utf-8")
        if language != "console" or not text.startswith("$ "):
            continue
        command, _, expected = text.removeprefix("$ ").partition("\n")
        typed = "y\n" if "[y/N] y" in expected else ""
        shown = "\n".join(line.rstrip() for line in on_a_terminal(command, tmp_path, typed).splitlines())
        ran += 1
        if expected and not re.fullmatch(as_pattern(expected), shown):
            difference = "\n".join(difflib.unified_diff(expected.splitlines(), shown.splitlines(), "README", "shown"))
            pytest.fail(f"{command}\n{difference}")
    assert ran >= 3


def test_the_sections_of_a_policy_that_are_shown_load(tmp_path: Path) -> None:
    named = {name: text for _, name, text in blocks() if name}
    shown = [text for language, name, text in blocks() if language == "yaml" and not name]
    assert len(shown) == 2
    (tmp_path / "my_tools.py").write_text(named["my_tools.py"], encoding="utf-8")
    (tmp_path / "zt-agents.yaml").write_text("".join([named["zt-agents.yaml"], *shown]), encoding="utf-8")
    on_a_terminal("zt-agents check --accept", tmp_path, "")


def test_every_python_block_is_a_program() -> None:
    for language, name, text in blocks():
        if language == "python":
            compile(text, name or "README.md", "exec")


def test_the_commands_are_those_that_exist() -> None:
    from typer.main import get_command

    from zt_agents.cli import app

    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"zt-agents ([a-z]+)", README.read_text(encoding="utf-8")))
    assert named <= known
    assert named >= {"demo", "init", "check", "explain", "audit"}
