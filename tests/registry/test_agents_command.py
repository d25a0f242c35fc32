"""``zt-agents agents``: what people do with agents, and what they are shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import tool
from typer.testing import CliRunner

from zt_agents import Guard
from zt_agents.cli import app
from zt_agents.errors import AgentInactiveError
from zt_agents.testing import write_policy

POLICY = """\
version: 1
trust_domain: acme.example
environment: test
owners: {grace: 2d}
agents:
  helpdesk: {id: spiffe://acme.example/agent/helpdesk, version: "1", owner: dana@acme.example, purpose: Answer tickets}
  old: {id: spiffe://acme.example/agent/old, version: "1", owner: erin@acme.example, purpose: Gone, status: suspended}
tools:
  add: {tier: low, effects: [read], data_class: public, integrity: trusted}
rules:
  - {id: the-rule, agents: [AGENTS], tools: [add], outcome: allow}
"""


@tool
def add(a: int) -> int:
    """Add one."""
    return a + 1


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_policy(tmp_path, POLICY.replace("AGENTS", "helpdesk"), [add])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["agents", *words])
    assert result.exit_code == code, result.output
    return result.output


def listed() -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(run("list", "--json"))}


def call(name: str) -> int:
    """Make a call as a process that was started anew."""
    with Guard.from_config("zt-agents.yaml") as guard:
        guard.protect([mine := add.model_copy()])
        with guard.session(agent=name, on_behalf_of="alice@acme.example"):
            return int(mine.invoke({"a": 1}))


def register(*more: str, name: str = "scout", owner: str = "frank@acme.example", code: int = 0) -> str:
    return run("register", name, "--owner", owner, "--purpose", "Look around", "--version", "2", *more, code=code)


def test_the_life_of_a_registered_agent(folder: Path) -> None:
    assert "spiffe://acme.example/agent/scout" in register("--tool", "add", "--by", "dana@acme.example")
    write_policy(folder, POLICY.replace("AGENTS", "helpdesk, scout"), [add])
    assert listed()["scout"]["status"] == "registered"
    with pytest.raises(AgentInactiveError):
        call("scout")
    run("activate", "scout")
    assert call("scout") == 2
    run("suspend", "scout", "--reason", "odd calls")
    with pytest.raises(AgentInactiveError):
        call("scout")
    run("activate", "scout")
    run("transfer", "scout", "dana@acme.example")
    assert listed()["scout"]["owner"] == "dana@acme.example"
    run("retire", "scout", "--yes")
    assert "retired, and stays so" in run("activate", "scout", code=2)
    assert "is, or was" in register(code=2)
    assert "is, or was" in register("--id", "spiffe://acme.example/agent/scout", name="scout-2", code=2)
    shown = json.loads(run("history", "scout", "--json"))
    assert [each["what"].partition(".")[2] for each in shown] == [
        "registered", "activated", "suspended", "activated", "transferred", "retired"
    ]  # fmt: skip
    assert shown[0]["by"] == "dana@acme.example"
    assert shown[0]["login"].startswith("os:")
    assert shown[2]["why"] == "odd calls"


@pytest.mark.parametrize(
    ("name", "more", "why"),
    [
        ("helpdesk", (), "The policy file declares agent 'helpdesk'"),
        ("HelpDesk", (), "The policy file declares agent 'helpdesk'"),
        ("x", ("--id", "spiffe://acme.example/agent/helpdesk"), "The policy file declares agent 'helpdesk'"),
        ("x", ("--id", "spiffe://evil.example/agent/x"), "not in the trust domain"),
        ("x", ("--id", "https://acme.example/x"), "starts with 'spiffe://'"),
        ("x y", (), "cannot be"),
        ("x", ("--tool", "ad"), "Did you mean 'add'?"),
        ("x", ("--owner", "helpdesk"), "its owner is a human"),
        ("x", ("--owner", "anyone"), "no human"),
        ("x", ("--purpose", "two\nlines"), "one line"),
        ("x", ("--version", ""), "version"),
    ],
)
def test_what_cannot_be_registered_is_not(folder: Path, name: str, more: tuple[str, ...], why: str) -> None:
    assert why in " ".join(register(*more, name=name, code=2).split())
    assert not (folder / "zt-agents-agents.db").exists()
    assert not (folder / "zt-agents-audit.db").exists()


def test_one_of_the_policy_is_suspended_though_its_rules_have_mistakes(folder: Path) -> None:
    write_policy(folder, POLICY.replace("AGENTS", "nobody"), [add])
    run("suspend", "helpdesk")
    assert listed()["helpdesk"]["status"] == "suspended"
    write_policy(folder, POLICY.replace("AGENTS", "helpdesk"), [add])
    with pytest.raises(AgentInactiveError):
        call("helpdesk")


def test_what_the_policy_file_says_is_changed_there(folder: Path) -> None:
    assert "agents.old.status" in run("activate", "old", code=2)
    assert "agents.helpdesk.owner" in run("transfer", "helpdesk", "erin@acme.example", code=2)
    assert "Did you mean 'helpdesk'?" in run("suspend", "helpdsk", code=2)


def test_retired_is_asked_first(folder: Path) -> None:
    assert CliRunner().invoke(app, ["agents", "retire", "helpdesk"], input="n\n").exit_code == 1
    assert call("helpdesk") == 2
    assert CliRunner().invoke(app, ["agents", "retire", "helpdesk"], input="y\n").exit_code == 0
    with pytest.raises(AgentInactiveError):
        call("helpdesk")


def test_an_owner_who_left_is_listed_with_the_date_and_comes_back(folder: Path) -> None:
    shown = run("owner-left", "Dana@acme.example", "--at", "2026-01-31")
    assert "helpdesk is denied from 2026-02-02 00:00 UTC" in shown
    assert listed()["helpdesk"]["denied_from"] == "2026-02-02T00:00:00.000000Z"
    assert not listed()["helpdesk"]["may_act"]
    assert "denied since 2026-02-02" in run("list")
    with pytest.raises(AgentInactiveError):
        call("helpdesk")
    assert [each["what"] for each in json.loads(run("history", "helpdesk", "--json"))] == ["owner.left"]
    run("owner-back", "dana@acme.example")
    assert call("helpdesk") == 2
    run("owner-back", "dana@acme.example", code=1)
    assert "owns no agent. Did you mean" in run("owner-left", "dina@acme.example", code=1)


def test_a_review_from_the_change_to_the_owner_s_word(folder: Path) -> None:
    assert "never seen" in run("review", "helpdesk")
    with Guard.from_config("zt-agents.yaml") as guard:
        guard.observe("helpdesk", model="m-1", prompt="Be kind.")
    first = json.loads(run("review", "helpdesk", "--json", code=1))
    assert {each["part"] for each in first["changes"]} == {"version", "environment", "model", "prompt"}
    assert "Until dana@acme.example accepts it: it acts all the same." in run("review", "helpdesk", code=1)
    said = ["--by", "dana@acme.example"]
    assert "The owner of agent 'helpdesk' is dana" in run("review", "helpdesk", "--accept", first["difference"], code=2)
    run("review", "helpdesk", "--accept", first["difference"][:16], *said)
    assert "accepted by dana@acme.example" in run("show", "helpdesk")
    with Guard.from_config("zt-agents.yaml") as guard:
        guard.observe("helpdesk", model="m-2", prompt="Be kind.")
    assert "not the difference there is now" in run(
        "review", "helpdesk", "--accept", first["difference"], *said, code=2
    )
    assert "its calls are denied" in run("review", "helpdesk", code=1)
    assert listed()["helpdesk"]["under_review"] == "deny"
    assert "differs in 1 part" in run("show", "helpdesk")
    second = json.loads(run("review", "helpdesk", "--json", code=1))
    assert second["changes"] == [{"part": "model", "before": "m-1", "after": "m-2"}]
    assert "is what dana@acme.example accepted" in run("review", "helpdesk", "--accept", second["difference"], *said)
    whats = [each["what"] for each in json.loads(run("history", "helpdesk", "--json"))]
    assert whats == ["agent.accepted", "agent.changed", "agent.accepted"]


@pytest.mark.parametrize(
    ("said", "stopped", "why"),
    [
        (("--agent", "helpdesk"), {"helpdesk"}, "revoked by"),
        (("--owner", "dana@acme.example"), {"helpdesk"}, "revoked with its owner by"),
        (("--all",), {"helpdesk", "old"}, "revoked with everything by"),
        (("--user", "alice@acme.example"), set(), ""),
    ],
)
def test_who_is_revoked_is_listed_until_it_is_reinstated(
    folder: Path, said: tuple[str, ...], stopped: set[str], why: str
) -> None:
    assert not any(each["revoked"] for each in listed().values())
    done = CliRunner().invoke(app, ["revoke", *said, "--reason", "odd calls", "--json"])
    (revoked,) = json.loads(done.stdout)["revoked"]
    agents = listed()
    assert {name for name, each in agents.items() if each["revoked"] == [revoked]} == stopped
    assert agents["helpdesk"]["may_act"] is ("helpdesk" not in stopped)
    for shown in (run("list"), run("show", "helpdesk")):
        assert (f"{why} os:" in " ".join(shown.split())) is bool(stopped)
    lifted = CliRunner().invoke(app, ["reinstate", revoked["id"], "--reason", "fine", "--yes", "--json"])
    assert json.loads(lifted.stdout) == revoked
    assert not any(each["revoked"] for each in listed().values())


def test_who_is_revoked_is_not_left_open_where_nobody_can_tell(folder: Path) -> None:
    (folder / "zt-agents-revocations.db").write_bytes(b"x" * 1000)
    assert "revocations" in run("list", code=2)


def test_all_reasons_against_an_agent_are_named_at_once(folder: Path) -> None:
    said = register("--owner", "", "--version", "", "--id", "x", "--tool", "ad", name="x y", code=2)
    for part in ("name: ", "owner: ", "version: ", "id: ", "tools: there is no tool 'ad'. Did you mean 'add'?"):
        assert part in " ".join(said.split())


def test_a_change_says_what_it_did_as_json(folder: Path) -> None:
    said = ["--owner", "frank@acme.example", "--purpose", "Pay", "--version", "1", "--json"]
    made = json.loads(CliRunner().invoke(app, ["agents", "register", "fin", *said]).stdout)
    assert made == {"name": "fin", "id": "spiffe://acme.example/agent/fin", "status": "registered"}
    assert json.loads(run("activate", "fin", "--json"))["status"] == "active"
    assert json.loads(run("transfer", "fin", "bo@acme.example", "--json"))["owner"] == "bo@acme.example"
    left = json.loads(run("owner-left", "bo@acme.example", "--at", "2026-01-31", "--json"))
    assert left["denied_from"] == {"fin": "2026-02-02T00:00:00.000000Z"}
    assert json.loads(run("owner-back", "bo@acme.example", "--json")) == {"owner": "bo@acme.example"}


def test_without_a_name_all_that_changed_are_listed(folder: Path) -> None:
    assert "Nothing changed" in run("review")
    with Guard.from_config("zt-agents.yaml") as guard:
        guard.observe("helpdesk", model="m-1")
    shown = run("review", code=1)
    assert "zt-agents agents review helpdesk" in shown
    assert "it acts all the same" in shown
    (listed_one,) = json.loads(run("review", "--json", code=1))
    assert listed_one == json.loads(run("review", "helpdesk", "--json", code=1))
    assert "say whose" in run("review", "--accept", listed_one["difference"], code=2)


def test_a_history_says_what_changed(folder: Path) -> None:
    with Guard.from_config("zt-agents.yaml") as guard:
        guard.observe("helpdesk", model="m-1")
    shown = json.loads(run("review", "helpdesk", "--json", code=1))["difference"]
    assert f"To accept it: zt-agents agents review helpdesk --accept {shown[:16]}" in run("review", "helpdesk", code=1)
    run("review", "helpdesk", "--accept", shown[:16], "--by", "dana@acme.example")
    with Guard.from_config("zt-agents.yaml") as guard:
        guard.observe("helpdesk", model="m-2")
    assert "parts=model" in run("history", "helpdesk")


def test_names_of_strangers_are_shown_and_not_obeyed(folder: Path) -> None:
    with Guard.from_config("zt-agents.yaml") as guard:
        guard.observe("helpdesk", model="\x1b[2J[red]\u202egpt")
    for shown in (run("review", "helpdesk", code=1), run("show", "helpdesk")):
        assert "\\x1b[2J[red]\\u202egpt" in shown.replace("\n", "")


def test_a_policy_that_cannot_be_read_is_said(folder: Path) -> None:
    assert "there is no such file" in run("list", "--policy", "none.yaml", code=2)
    (folder / "zt-agents-agents.db").write_bytes(b"x" * 1000)
    assert "store of agents" in run("list", code=2)
