"""What holds for every command: what is missing, what a group does alone, where the policy is, what shells complete."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner
from world import HEAD

from zt_agents.cli import app
from zt_agents.cli.roster import open_roster
from zt_agents.identity import Agent
from zt_agents.identity.lifecycle import register

POLICY = """
keys: {rotate: 30d}
tools:
  read_ticket: {tier: low, effects: [read]}
rules:
  - {id: read, agents: [helpdesk], tools: [read_ticket], outcome: allow}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "zt-agents.yaml").write_text(HEAD + POLICY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(app, words, env=environment)


def commands(at: Any = None, *path: str) -> Iterator[tuple[str, Any]]:
    at = at or typer.main.get_command(app)
    if not hasattr(at, "commands"):
        yield " ".join(path), at
        return
    for name, each in at.commands.items():
        yield from commands(each, *path, name)


EVERY = dict(commands())


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        ("agents register", "NAME, --owner, --purpose, --version"),
        ("agents register fin --owner eve@acme.example", "--purpose, --version"),
        ("agents transfer", "NAME, OWNER"),
        ("explain --tool read_ticket", "--agent, --user"),
        ("reinstate", "ID, --reason"),
    ],
)
def test_all_that_is_missing_is_named_at_once(folder: Path, words: str, missing: str) -> None:
    done = run(*words.split())
    assert done.exit_code == 2
    assert f"Missing: {missing}." in done.output


def test_what_is_given_in_the_environment_is_not_missing(folder: Path) -> None:
    done = run("approvers", "add", ZT_AGENTS_TRUST_DOMAIN="acme.example")
    assert "Missing: NAME, --signing-key." in done.output


def test_what_is_given_and_wrong_is_said_first(folder: Path) -> None:
    done = run("approvals", "ahead", "--uses", "many")
    assert "Invalid value for '--uses'" in done.output


def test_help_is_given_though_all_is_missing(folder: Path) -> None:
    assert run("agents", "register", "--help").exit_code == 0


@pytest.mark.parametrize("group", ["agents", "keys", "approvers"])
def test_a_group_that_can_list_lists(folder: Path, group: str) -> None:
    bare, named = run(group), run(group, "list")
    assert bare.exit_code == named.exit_code == 0
    assert bare.output == named.output != ""


def test_what_comes_before_a_command_is_not_passed_over(folder: Path) -> None:
    assert run("agents", "--json").output.startswith("[")
    assert run("agents", "--policy", "zt-agents.yaml", "suspend", "helpdesk").exit_code == 2
    assert '"active"' in run("agents", "--json").output


def test_a_group_shows_its_commands_when_asked() -> None:
    assert "suspend" in run("agents", "--help").output
    assert "verify" in run("audit").output  # it cannot list


def test_the_policy_is_an_option_of_every_command_that_reads_one(folder: Path) -> None:
    (folder / "zt-agents.yaml").rename(folder / "other.yaml")
    assert run("check").exit_code == 2
    for words in (["check", "--policy"], ["check"], ["agents", "list", "--policy"], ["keys", "list", "--policy"]):
        assert run(*words, "other.yaml").exit_code in (0, 1), words
    takes = {name for name, each in EVERY.items() if any(p.name.startswith("policy") for p in each.params)}
    assert takes == {name for name, each in EVERY.items() if any("--policy" in p.opts for p in each.params)}
    assert {"check", "explain", "revoke", "login", "agents show", "certs ca", "idp check", "issuer serve"} <= takes


def test_what_is_to_be_typed_next_is_about_the_same_policy(folder: Path) -> None:
    (folder / "zt-agents.yaml").rename(folder / "the policy.yaml")
    checked = run("check", "--policy", "the policy.yaml").output
    assert "zt-agents check --accept --policy 'the policy.yaml'" in checked
    done = run("revoke", "--all", "--policy", "the policy.yaml", "--store", "other.db").output
    (undo,) = [line.removeprefix("To undo it: zt-agents ") for line in done.splitlines() if "To undo it" in line]
    assert run(*shlex.split(undo), "--yes").exit_code == 0


@pytest.mark.parametrize("name", EVERY)
def test_help_states_the_exit_codes(name: str) -> None:
    assert "Exit code" in EVERY[name].help


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("zt-agents agents suspend ", {"fin", "helpdesk", "other"}),
        ("zt-agents agents suspend h", {"helpdesk"}),
        ("zt-agents agents suspend --policy none.yaml ", set()),
        ("zt-agents explain --agent o", {"other"}),
        ("zt-agents revoke --agent f", {"fin"}),
        ("zt-agents keys new --agent he", {"helpdesk"}),
        ("zt-agents idp register he", {"helpdesk"}),
    ],
)
def test_a_shell_completes_names_of_agents(folder: Path, words: str, expected: set[str]) -> None:
    fin = Agent("fin", "spiffe://acme.example/agent/fin", "1", "dana@acme.example", "Pay")
    open_roster(folder / "zt-agents.yaml", None, None).store.change(fin.id, register(fin))
    last = len(words.split(" ")) - 1
    asked = {"_ZT_AGENTS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(last)}
    assert set(CliRunner().invoke(app, [], prog_name="zt-agents", env=asked).output.split()) == expected


def test_a_shell_is_given_no_name_that_could_be_a_command(folder: Path) -> None:
    text = HEAD.replace("  other:", "  '$(reboot)': {}\n  'o; reboot': {}\n  7: {}\n  other:")
    (folder / "zt-agents.yaml").write_text(text + POLICY)
    asked = {"_ZT_AGENTS_COMPLETE": "complete_bash", "COMP_WORDS": "zt-agents agents show ", "COMP_CWORD": "3"}
    done = CliRunner().invoke(app, [], prog_name="zt-agents", env=asked)
    assert set(done.output.split()) <= {"7", "helpdesk", "other"}
    assert [path.name for path in folder.iterdir()] == ["zt-agents.yaml"]  # and asking makes no file


def test_nobody_at_the_terminal_is_a_no(folder: Path) -> None:
    done = run("agents", "retire", "helpdesk")
    assert done.exit_code == 1
    assert "--yes" in done.output
    assert "Nothing was changed." in done.output
    assert '"active"' in run("agents", "--json").output
