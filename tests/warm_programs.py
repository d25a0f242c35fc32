"""Programs in processes of their own that do not load LangChain each anew: they are forked from a warm interpreter.

The interpreter has imported what other people wrote, and nothing of ``zt_agents``: each program imports that itself,
with the environment it was given, so that what the package makes when it is imported is the program's own. Where a
fresh interpreter is what a test is about (examples, the command line, settings of OpenTelemetry), start one instead.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(
    ["langchain.agents", "langgraph.prebuilt", "langgraph.checkpoint.sqlite", "jwt", "cryptography.x509"]
)


class WarmProgram:
    """``python SCRIPT ARGUMENTS...``, running with the environment *env*. What :mod:`atexit` would do is not done."""

    def __init__(self, script: Path, *arguments: str, env: Mapping[str, str]) -> None:
        self._arguments = [str(script), *arguments]
        self._said = tempfile.TemporaryDirectory()
        self._process = _FORKING.Process(target=_run, args=(self._arguments, dict(env), Path(self._said.name)))
        self._process.start()

    def finish(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Wait so many seconds at most, and return what the program left."""
        with self._said as said:
            self._process.join(timeout)
            code = self._process.exitcode
            if code is None:
                self._process.kill()
                self._process.join()
            output, errors = ((Path(said) / name).read_text(encoding="utf-8") for name in ("output", "errors"))
            self._process.close()
        if code is None:
            raise subprocess.TimeoutExpired(self._arguments, timeout, output, errors)
        return subprocess.CompletedProcess(self._arguments, code, output, errors)


def _run(arguments: list[str], environment: dict[str, str], said: Path) -> None:
    for stream, name in ((1, "output"), (2, "errors")):
        with (said / name).open("wb") as file:
            os.dup2(file.fileno(), stream)
    assert not any(name.startswith("zt_agents") for name in sys.modules), "the interpreter is warmer than it should be"
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    sys.path.insert(0, str(Path(arguments[0]).parent))
    runpy.run_path(arguments[0], run_name="__main__")
