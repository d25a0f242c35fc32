"""The server that keeps the traces, and the offices whose traces it keeps. See ``servers`` for where it comes from."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("outlines")

import servers  # noqa: E402
from backends import Backend  # noqa: E402
from office import Office  # noqa: E402


@pytest.fixture(scope="session", params=[servers.named()])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A running server; which one is part of each test's name."""
    if request.param == "no server":
        pytest.skip(
            "no Jaeger and no Phoenix: set ZT_AGENTS_JAEGER or ZT_AGENTS_PHOENIX to a program, "
            "or ZT_AGENTS_SERVERS=1 to build or install one"
        )
    with servers.keeping(request.param, tmp_path_factory.mktemp(request.param)) as server:
        yield server


MakeOffice = Callable[..., Office]


@pytest.fixture
def open_office(backend: Backend, tmp_path: Path) -> Iterator[MakeOffice]:
    """Return a function that opens an office whose spans go to the server, to be found under the name of the story."""
    opened: list[Office] = []

    def make(story: str, **parts: Any) -> Office:
        folder = tmp_path / story
        folder.mkdir()
        opened.append(Office(folder, backend.resource(story), backend.export_to(story), **parts))
        return opened[-1]

    yield make
    for office in opened:
        office.close()


RunProgram = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def run_program() -> RunProgram:
    """Return a function that runs a Python program of this folder, or a module, in a process of its own."""

    def run(
        *command: str, env: dict[str, str], cwd: Path | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        # This process's own paths, so that a program finds the same packages wherever they are.
        paths = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            [sys.executable, *command],
            env={**clean, "PYTHONPATH": paths, **env}, cwd=cwd,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr[-3000:]
        return done

    return run
