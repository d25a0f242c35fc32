"""Each notebook runs from top to bottom, shows what it promises, and is committed with clean outputs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

import zt_agents

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
NAMES = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))


# In a process of its own, since the notebook client leaves sockets open.
EXECUTE = Path(__file__).with_name("execute_notebook.py")


def texts(notebook: Any) -> str:
    """Return what was printed. A busy kernel may send in several pieces what it sends in one at other times."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(output.get("text", "") for output in outputs)


def pictures(notebook: Any) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_there_are_notebooks() -> None:
    assert "01_first_governed_agent.ipynb" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_notebook_runs(name: str, tmp_path: Path) -> None:
    target = tmp_path / name
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(zt_agents.__file__).parent.parent),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    command = [sys.executable, str(EXECUTE), str(NOTEBOOKS / name), str(target)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    committed, fresh = (nbformat.read(path, as_version=4) for path in (NOTEBOOKS / name, target))
    assert texts(fresh) == texts(committed), f"run {EXECUTE.name} and commit the outputs"
    assert pictures(fresh) == pictures(committed) > 0


def test_the_first_notebook_shows_each_answer() -> None:
    shown = texts(nbformat.read(NOTEBOOKS / "01_first_governed_agent.ipynb", as_version=4))
    assert "send_mail -> success" in shown
    assert "read_pay -> error\n   Access denied" in shown
    assert "reset_password -> success" in shown
    assert "Approved by bo@acme.example." in shown
    assert "The agent has read what strangers wrote." in shown
    assert "verified: 10 records" in shown


@pytest.mark.parametrize("name", NAMES)
def test_outputs_hold_nothing_of_a_machine(name: str) -> None:
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    nbformat.validate(notebook)
    shown = texts(notebook)
    assert not [word for word in ("/tmp", "/home", "/Users", "/root", "\\Users", "\x1b", "Warning") if word in shown]
    assert not any(output.output_type == "error" for cell in notebook.cells for output in cell.get("outputs", ()))
    assert all("execution" not in cell.metadata for cell in notebook.cells)


def test_the_second_notebook_reconstructs_proves_and_catches() -> None:
    shown = texts(nbformat.read(NOTEBOOKS / "02_what_did_the_agent_do.ipynb", as_version=4))
    assert "5 calls: 2 allowed, 1 approved, 2 denied." in shown
    assert "PROVEN: this is record 17 of the 25" in shown
    assert "error: This is not record 17 of the log that the checkpoint is of." in shown
    assert "missing: Records 16 to 17 are missing." in shown
    assert "The checkpoint has 25 records, the log has 15: records 16 to 25 are gone." in shown


def test_the_third_notebook_goes_from_a_login_to_the_data_and_stops_the_agent() -> None:
    shown = texts(nbformat.read(NOTEBOOKS / "03_identity_and_delegation.ipynb", as_version=4))
    assert "alice@acme.example -> helpdesk -> clerk -> update_ticket -> ticket/1001" in shown
    assert re.findall(r"401 \w+", shown) == ["401 missing", "401 replayed", "401 other_arguments"]
    assert "stopped within a second of the command's end: True" in shown
    assert not re.search(r"eyJ[A-Za-z0-9_-]{20}", shown), "a token is shown"
