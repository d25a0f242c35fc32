"""The command as people run it: a process that says where it is, lets an approver in, and ends when it is told to."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from langchain_core.tools import tool
from typer.testing import CliRunner
from world import HEAD

from zt_agents.cli import app
from zt_agents.identity import SigningKey
from zt_agents.stores.sqlite_audit import SqliteAuditSink
from zt_agents.testing import write_policy


@tool
def pay(amount: int) -> str:
    """Pay somebody."""
    return f"paid {amount}"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.skipif(sys.platform == "win32", reason="signals are not sent to processes on Windows")
def test_a_console_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    key, store, port = tmp_path / "key.pem", tmp_path / "approvals.db", free_port()
    SigningKey.generate().save(key)
    common = ["--signing-key", str(key), "--trust-domain", "acme.example", "--store", str(store)]
    approver = tmp_path / "dana.approver"
    run("approvers", "add", "dana@acme.example", *common, "--out", str(approver))
    origin = f"http://localhost:{port}"
    tools = "tools:\n  pay: {tier: high, effects: [money]}\n"
    rules = "rules:\n  - {id: pay, agents: [helpdesk], tools: [pay], outcome: allow}\n"
    policy = write_policy(tmp_path, f"{HEAD}{tools}{rules}", [pay])
    log = tmp_path / "audit.db"
    SqliteAuditSink(log).close()
    common += ["--policy", str(policy), "--log", str(log)]
    command = [sys.executable, "-c", "from zt_agents.cli import main; main()", "console", *common, "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"Approvals: {origin}")
        link = run("approvals", "login", "--as", str(approver), "--console", origin).strip()
        assert link.startswith(f"{origin}/login#")
        with httpx.Client(base_url=origin, headers={"origin": origin, "sec-fetch-site": "same-origin"}) as browser:
            assert browser.post("/login", data={"token": link.partition("#")[2]}).status_code == 204
            page = browser.get("/")
            assert "dana@acme.example" in page.text
            assert "server" not in page.headers
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=10)
    assert said == ""


def test_what_is_missing_is_said_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key.pem"
    SigningKey.generate().save(key)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(app, ["console", "--signing-key", str(key), "--trust-domain", "acme.example"])
    assert result.exit_code == 2
    assert 'zt-agents[console]"' in " ".join(result.output.split())
