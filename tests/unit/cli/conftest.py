from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TOOLS = '''
from langchain_core.tools import tool

@tool
def read_ticket(ticket_id: int) -> str:
    """Read one ticket of the helpdesk."""
    return ""

@tool
def send_email(to: str, subject: str, body: str) -> str:
    """Send an email."""
    return ""

@tool
def delete_user(user_id: str) -> str:
    """Delete a user."""
    return ""

TOOLS = [read_ticket, send_email, delete_user]
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An application's folder, being the current one, with ``my_app.tools:TOOLS`` in it."""
    (tmp_path / "my_app").mkdir()
    (tmp_path / "my_app" / "__init__.py").touch()
    (tmp_path / "my_app" / "tools.py").write_text(TOOLS)
    path = list(sys.path)
    forget()
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.path[:] = path
    forget()


def forget() -> None:
    """Forget the application's modules, as a new process would."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_app"]:
        del sys.modules[name]
