"""``zt-agents keys``."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from zt_agents.cli import app
from zt_agents.identity import SigningKey


def test_a_key_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    made = CliRunner().invoke(app, ["keys", "new", str(path)])
    assert made.exit_code == 0
    assert path.stat().st_mode & 0o077 == 0
    assert SigningKey.from_file(str(path)).thumbprint in made.output
    assert "PRIVATE" not in made.output
    before = path.read_bytes()
    assert CliRunner().invoke(app, ["keys", "new", str(path)]).exit_code == 2
    assert path.read_bytes() == before
    assert CliRunner().invoke(app, ["keys", "new", str(tmp_path / "none" / "x.pem")]).exit_code == 2
