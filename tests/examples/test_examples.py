"""Each example runs as a newcomer would run it, says what it should, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import zt_agents
from zt_agents.catalog.lock import ToolLock, lock_path
from zt_agents.policy import load_policy

ROOT = Path(zt_agents.__file__).parent.parent
EXAMPLES = Path(__file__).parents[2] / "examples"

SAYS = {
    "create_agent_middleware": [
        "read_order: success: Order 7",
        "refund: error: Access denied",
        "refund: success: Refunded 40.00 EUR",
        "A human was asked 1 time: {'order_id': 7, 'amount': 40.0}",
    ],
    "agent_executor_callback": [
        "Milk.",
        "For the operator: share_note (medium tier) was denied. Notes are shared with people at acme.example only.",
        "For the model: Access denied: share_note was not executed.",
    ],
    "approval_in_another_process": [
        "resource: order/7",
        "The agent waits.",
        "alice@acme.example asked for it, and so may not approve it.",
        "Refunded 40.00 EUR for order 7.",
    ],
    "sql_toolkit": [
        "[('DE', 2143), ('FR', 1429), ('NL', 1428)]",
        "DROP TABLE orders\n  denied",
        "dRoP TABLE orders\n  denied",
        "UPDATE orders SET euros = 0\n  denied",
        "attempt to write a readonly database",
    ],
}


def in_folder(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts}


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::ResourceWarning"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_every_example_is_run_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_example_runs_and_says_what_happened(name: str, tmp_path: Path) -> None:
    before = in_folder(EXAMPLES)
    done = run(str(EXAMPLES / f"{name}.py"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for line in SAYS[name]:
        assert line in done.stdout
    assert "Traceback" not in done.stderr
    assert "Error in" not in done.stderr, "a callback failed aloud"
    assert in_folder(EXAMPLES) == before
    assert in_folder(tmp_path) == set()


@pytest.mark.parametrize("name", SAYS)
def test_the_lock_is_current_and_lists_just_the_policys_tools(name: str) -> None:
    done = run("-c", "from zt_agents.cli import main; main()", "check", f"{name}.yaml", cwd=EXAMPLES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 findings" in done.stdout
    lock = ToolLock.read(lock_path(EXAMPLES / f"{name}.yaml"))
    assert set(lock.accepted) == set(load_policy(EXAMPLES / f"{name}.yaml", parameters=lock.parameters).tools)


@pytest.mark.parametrize("name", SAYS)
def test_examples_are_short(name: str) -> None:
    assert (EXAMPLES / f"{name}.py").read_text(encoding="utf-8").count("\n") <= 80
