"""``zt-agents keys``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner
from world import HEAD

from zt_agents.cli import app
from zt_agents.identity import KeyRing, SigningKey, VerificationKey
from zt_agents.identity.signing.key_folder import client_folder
from zt_agents.stores.sqlite_audit import SqliteAuditSink

POLICY = """
tools:
  read_ticket: {tier: low, effects: [read]}
rules:
  - {id: read, agents: [helpdesk], tools: [read_ticket], outcome: allow}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "zt-agents.yaml"
    path.write_text(HEAD + "keys: {rotate: 30d}" + POLICY)
    return path


def run(policy: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments, "--policy", str(policy)])


def changes(policy: Path) -> list[dict[str, Any]]:
    with SqliteAuditSink(policy.parent / "zt-agents-audit.db").snapshot() as snapshot:
        return [record["change"] for record in snapshot.read()]


def test_a_ring_is_listed_and_rotated_and_that_is_on_record(policy: Path) -> None:
    (first,) = json.loads(run(policy, "list", "--json").output)
    assert first["state"] == "current"
    assert run(policy, "rotate", "--reason", "spring", "--by", "dana@acme.example").exit_code == 0
    assert [key["state"] for key in json.loads(run(policy, "list", "--json").output)] == ["current", "next"]
    done = json.loads(run(policy, "rotate", "--now", "--json").output)
    states = {key["kid"]: key["state"] for key in json.loads(run(policy, "list", "--json").output)}
    assert states[done["kid"]] == "current"
    assert states[first["kid"]] == "previous"
    assert run(policy, "rotate", "--withdraw").exit_code == 0
    assert len(json.loads(run(policy, "list", "--json").output)) == 1
    said = changes(policy)
    assert [change["what"] for change in said] == ["key.rotated"] * 3
    assert (said[0]["by"], said[0]["why"], said[2]["withdrawn"]) == ("dana@acme.example", "spring", True)
    shown = run(policy, "list").output
    assert "current" in shown
    assert "30 days" in shown


def test_a_timer_rotates_when_it_is_time_and_not_before(policy: Path) -> None:
    KeyRing.in_folder(policy.parent / "zt-agents-keys", create=True, clock=lambda: 1_600_000_000.0)
    assert run(policy, "rotate", "--every", "30d").exit_code == 0
    assert run(policy, "rotate", "--every", "30d").exit_code == 1
    assert run(policy, "rotate", "--every", "soon").exit_code == 2


def test_public_keys_are_printed_and_nothing_else(policy: Path) -> None:
    printed = json.loads(run(policy, "jwks").output)["keys"]
    assert len(printed) == 2
    assert {VerificationKey.from_jwk(key).kid for key in printed} == {key["kid"] for key in printed}


def test_agents_and_services_have_rings_of_their_own(policy: Path) -> None:
    assert run(policy, "new", "--agent", "helpdesk", "--algorithm", "EdDSA").exit_code == 0
    assert run(policy, "new", "--service", "tickets").exit_code == 0
    keys = policy.parent / "zt-agents-keys"
    ring = KeyRing.in_folder(client_folder(keys, "helpdesk"))
    (key,) = json.loads(run(policy, "jwks", "--agent", "helpdesk").output)["keys"]
    assert key["alg"] == "EdDSA"
    assert ring.find(key["kid"], 1.8e9) is not None
    assert not (ring.path / "root.pem").exists()
    assert json.loads(run(policy, "jwks", "--service", "tickets").output)["keys"][0]["kid"] != key["kid"]
    again = run(policy, "new", "--agent", "helpdesk")
    assert again.exit_code == 2
    assert changes(policy)[0]["of"] == "helpdesk"


@pytest.mark.parametrize(
    "arguments",
    [
        ("new",),
        ("new", "--agent", "helpdesk", "--service", "x"),
        ("new", "--agent", "nobody"),
        ("new", "--service", "../../elsewhere"),
        ("new", "--service", ".."),
        ("new", "--agent", "helpdesk", "--algorithm", "HS256"),
        ("list", "--agent", "helpdesk"),
    ],
)
def test_what_cannot_be_done_is_said(policy: Path, arguments: tuple[str, ...]) -> None:
    result = run(policy, *arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_without_a_folder_in_the_policy_the_way_out_is_said(policy: Path) -> None:
    policy.write_text(HEAD + POLICY)
    result = run(policy, "list")
    assert result.exit_code == 2
    assert "keys: {rotate: 30d}" in result.output


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
