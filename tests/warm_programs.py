"""Programs in processes of their own that do not load LangChain each anew: they are forked from a warm interpreter.

The interpreter has imported what other people wrote, and nothing of ``zt_agents``: each program imports that itself,
with the environment it was given, so that what the package makes when it is imported is the program's own. Where a
fresh interpreter is what a test is about (examples, the command line, settings of OpenTelemetry), start one instead.

It is this file, run as ``warm_programs.py SOCKET``, and not a fork server of :mod:`multiprocessing`: a process has one
of those, which imports whatever it was last told to.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import runpy
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path

WARM = ("langchain.agents", "langgraph.prebuilt", "langgraph.checkpoint.sqlite", "jwt", "cryptography.x509")


class WarmProgram:
    """``python SCRIPT ARGUMENTS...``, running with the environment *env*. What :mod:`atexit` would do is not done."""

    def __init__(self, script: Path, *arguments: str, env: Mapping[str, str]) -> None:
        self._arguments = [str(script), *arguments]
        self._said = tempfile.TemporaryDirectory()
        asked = {"arguments": self._arguments, "environment": dict(env), "said": self._said.name, "path": sys.path}
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(60)
        self._connection.connect(_interpreter())
        self._connection.sendall(json.dumps(asked).encode() + b"\n")
        self._answers = self._connection.makefile("rb")
        self._pid = int(self._answers.readline())

    def finish(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Wait so many seconds at most, and return what the program left."""
        with self._said as said, self._connection, self._answers:
            self._connection.settimeout(timeout)
            try:
                code = int(self._answers.readline())
            except TimeoutError:
                os.kill(self._pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(self._arguments, timeout) from None
            output, errors = ((Path(said) / name).read_text(encoding="utf-8") for name in ("output", "errors"))
        return subprocess.CompletedProcess(self._arguments, code, output, errors)


@functools.cache
def _interpreter() -> str:
    """Start the warm interpreter, which ends with this process; return where it listens."""
    folder = Path(tempfile.mkdtemp())
    command = [sys.executable, __file__, str(folder / "warm")]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == b"warm\n"

    def end() -> None:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)

    atexit.register(end)
    return str(folder / "warm")


class _Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    max_children = 100
    parent = os.getppid()

    def service_actions(self) -> None:
        super().service_actions()
        if os.getppid() != self.parent:  # who started it was killed
            sys.exit()


class _Asked(socketserver.StreamRequestHandler):
    """In a process of its own: runs the program in another, and says how it ended."""

    def handle(self) -> None:
        asked = json.loads(self.rfile.readline())
        program = os.fork()
        if program == 0:
            code = 1
            try:
                code = _run(**asked)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        self.wfile.write(b"%d\n" % program)
        _, status = os.waitpid(program, 0)
        self.wfile.write(b"%d\n" % os.waitstatus_to_exitcode(status))


def _run(arguments: list[str], environment: dict[str, str], said: str, path: list[str]) -> int:
    for stream, name in ((1, "output"), (2, "errors")):
        with (Path(said) / name).open("wb") as file:
            os.dup2(file.fileno(), stream)
    assert not any(name.startswith("zt_agents") for name in sys.modules), "the interpreter is warmer than it should be"
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    sys.path[:] = [str(Path(arguments[0]).parent), *path]
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    for module in WARM:
        importlib.import_module(module)
    with _Server(sys.argv[1], _Asked) as server:
        print("warm", flush=True)
        server.serve_forever()
