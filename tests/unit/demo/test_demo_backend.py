"""The demonstration with a ticket service: calls get through, and whoever goes around the guard does not."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from zt_agents.demo.backend import Backend
from zt_agents.demo.play import play
from zt_agents.demo.show import Show

_DEMO = "import sys; from zt_agents.cli import app; app()"


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def test_it_goes_as_it_should_and_the_service_ends_with_it(tmp_path: Path) -> None:
    """And a token is nowhere but in the files that were left for it."""
    printed = io.StringIO()
    with Backend() as backend:
        played = play(tmp_path, Show(Console(file=printed)), answer=True, backend=backend)
    assert played.well
    assert [attempt.answer["reason"] for attempt in played.attempts] == ["missing", "replayed", "other_arguments"]
    assert {attempt.status for attempt in played.attempts} == {401}
    port = int(re.findall(r"127\.0\.0\.1:(\d+)", printed.getvalue())[0])
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    names = {span.name: span for root in played.trees for *_, span in root.walk()}
    changed = names["execute_tool update_ticket"]
    assert [child.name for child in changed.children] == ["UPDATE ticket"], "what the service does hangs below the call"

    headers = sorted(tmp_path.glob("*.header"))
    assert [path.stat().st_mode & 0o777 for path in headers] == [0o600, 0o600]
    for path in headers:
        token = path.read_text().split()[-1]
        signature = token.rpartition(".")[2]
        assert signature not in printed.getvalue() + json.dumps(played.to_dict())
        for other in tmp_path.rglob("*"):
            if other.is_file() and other not in headers:
                assert signature.encode() not in other.read_bytes(), other


@pytest.mark.skipif(os.environ.get("ZT_AGENTS_SERVERS") != "1", reason="runs only with ZT_AGENTS_SERVERS=1")
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs the program curl")
def test_what_it_says_to_try_can_be_tried_until_enter_is_pressed(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "400", "TERM": "dumb"}
    command = [sys.executable, "-c", _DEMO, "demo", "--backend", "--yes", "--dir", str(tmp_path / "d")]
    demo = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    try:
        assert demo.stdout is not None
        text, deadline = "", time.monotonic() + 60
        while "until you press Enter" not in text:
            assert time.monotonic() < deadline
            chunk = os.read(demo.stdout.fileno(), 65536).decode()
            assert chunk, text
            text += chunk
        commands = re.findall(r"^  (curl .*)$", text, re.MULTILINE)
        said = [subprocess.run(each, shell=True, capture_output=True, timeout=20, check=True) for each in commands]
        assert [json.loads(each.stdout)["reason"] for each in said] == ["missing", "replayed", "other_arguments"]
        os.write(ours, b"\n")
        assert demo.wait(20) == 0
    finally:
        demo.kill()
        demo.wait(10)
        assert demo.stdout is not None
        demo.stdout.close()
        os.close(ours)
        os.close(theirs)
