from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from zt_agents.catalog.lock import ToolLock
from zt_agents.catalog.specs import ToolDescription
from zt_agents.cli import app

POLICY = """
version: 1
trust_domain: acme.example
environment: production
agents:
  helpdesk:
    {id: spiffe://acme.example/agent/helpdesk, version: "1", owner: dana@acme.example, purpose: tickets}
  auditor:
    {id: spiffe://acme.example/agent/auditor, version: "1", owner: dana@acme.example, purpose: reports}
tools:
  read_file: {tier: low, effects: [read], system: files, resource: "file/{args.path}"}
  refund: {tier: medium, effects: [money], system: shop}
rules:
  - id: public
    agents: [helpdesk]
    tools: [read_file]
    outcome: allow
    when: resource.id.startsWith("file/public/")
  - id: small-refunds
    agents: [helpdesk]
    tools: [refund]
    outcome: allow
    when: args.amount <= 100 && "support" in user.groups
  - id: tainted
    agents: [helpdesk]
    tools: [refund]
    outcome: deny
    when: provenance.integrity == "untrusted"
    reason: A stranger's text was seen.
  - id: at-night
    agents: [helpdesk]
    tools: [refund]
    outcome: require_approval
    when: context.time < timestamp("2026-01-01T00:00:00Z")
    reason: Before this year a human looks.
"""

SCHEMAS: dict[str, dict[str, Any]] = {
    "read_file": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    "refund": {
        "type": "object",
        "properties": {"amount": {"type": "integer"}, "note": {"type": "string", "default": ""}},
        "required": ["amount"],
    },
}


@pytest.fixture(autouse=True)
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "zt-agents.yaml").write_text(POLICY)
    lock = ToolLock().accept(ToolDescription(name, "", schema) for name, schema in SCHEMAS.items())
    lock.write(tmp_path / "zt-agents.lock.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(
    *arguments: str, tool: str = "refund", args: str = '{"amount": 50}', agent: str = "helpdesk"
) -> Result:
    who = ["--agent", agent, "--user", "mia@acme.example", "--time", "2026-06-01T12:00:00Z"]
    return CliRunner().invoke(app, ["explain", *who, "--tool", tool, "--args", args, *arguments])


def explained(*arguments: str, **call: str) -> dict[str, Any]:
    result = run("--json", *arguments, **call)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.output)
    return document


def test_what_held_and_what_did_not() -> None:
    result = run("--group", "sales")
    assert result.exit_code == 0
    assert "refund (medium tier) was denied" in result.output
    assert "small-refunds (allow) does not apply" in result.output
    lines = [line.strip() for line in result.output.splitlines()]
    assert [line.partition(":")[0] for line in lines if "args.amount" in line] == ["held"]
    assert [line.partition(":")[0] for line in lines if "user.groups" in line] == ["not held"]


def test_on_whose_word_and_for_which_tenant_count(policy: Path) -> None:
    rule = """
  - id: handed-on
    agents: [auditor]
    tools: [refund]
    outcome: allow
    when: session.depth == 2 && agent.chain[1] == "helpdesk" && session.tenant == "north"
"""
    (policy / "zt-agents.yaml").write_text(POLICY + rule)
    asked = {"agent": "auditor"}
    assert explained("--caller", "helpdesk", "--tenant", "north", **asked)["outcome"] == "allow"
    assert explained("--caller", "helpdesk", **asked)["outcome"] == "deny"
    assert explained("--tenant", "north", **asked)["outcome"] == "deny"
    assert run("--caller", "helpdeks", agent="auditor").exit_code == 2


def test_an_allowed_call() -> None:
    document = explained("--group", "sales", "--group", "support")
    assert document["outcome"] == "allow"
    assert document["reasons"][0]["rule"] == "small-refunds"


def test_roles_count(policy: Path) -> None:
    path = policy / "zt-agents.yaml"
    path.write_text(path.read_text().replace('"support" in user.groups', '"clerk" in user.roles'))
    assert explained("--role", "boss")["outcome"] == "deny"
    assert explained("--role", "boss", "--role", "clerk")["outcome"] == "allow"


def test_a_policy_that_is_not_there_has_no_line() -> None:
    result = run("--policy", "elsewhere.yaml")
    assert result.exit_code == 2
    assert "elsewhere.yaml: there is no such file" in result.output


def test_what_was_seen_counts() -> None:
    document = explained("--group", "support", "--seen", "untrusted/internal")
    assert document["outcome"] == "deny"
    applied = {rule["id"]: rule["applied"] for rule in document["rules"]}
    assert applied == {"small-refunds": "applies", "tainted": "applies", "at-night": "does not apply"}


def test_time_counts() -> None:
    assert (
        explained("--group", "support", "--time", "2025-06-01T12:00:00+02:00")["outcome"]
        == "require_approval"
    )


def test_the_resource_is_filled_in() -> None:
    assert explained(tool="read_file", args='{"path": "public/a.txt"}')["outcome"] == "allow"
    assert explained(tool="read_file", args='{"path": "secret/a.txt"}')["outcome"] == "deny"
    climbing = explained(tool="read_file", args='{"path": "public/../secret/a.txt"}')
    assert climbing["outcome"] == "deny"
    assert "before the policy is asked" in climbing["notes"][0]


def test_rules_for_other_agents_are_shown() -> None:
    document = explained(agent="auditor")
    assert document["outcome"] == "deny"
    assert document["rules"] == []
    assert {rule["id"] for rule in document["rules_for_other_agents"]} == {
        "small-refunds",
        "tainted",
        "at-night",
    }


def test_arguments_that_the_tool_would_not_take() -> None:
    assert "The guard denies this call before the policy is asked" in run(args='{"amount": "50"}').output
    assert "Argument 'note' was left out" in run().output


def test_a_tool_nobody_accepted(policy: Path) -> None:
    text = POLICY.replace("rules:", "  odd: {tier: low, effects: [read], system: x}\nrules:")
    (policy / "zt-agents.yaml").write_text(text)
    assert "was never accepted" in run(tool="odd", args="{}").output


@pytest.mark.parametrize(
    ("arguments", "call", "why"),
    [
        ([], {"agent": "helpdesc"}, "no agent 'helpdesc'.\nhint: Did you mean 'helpdesk'?"),
        ([], {"tool": "refnd"}, "no tool 'refnd'.\nhint: Did you mean 'refund'?"),
        ([], {"tool": "zzz"}, "hint: Known: read_file, refund."),
        ([], {"args": "amount=5"}, "--args is not JSON"),
        ([], {"args": "[5]"}, "--args is not a JSON object"),
        ([], {"args": '{"amount": 1, "amount": 2}'}, "a name is repeated"),
        ([], {"args": '{"amount": NaN}'}, "NaN is not a JSON number"),
        (["--seen", "untrustd"], {}, "Did you mean 'untrusted'?"),
        (["--seen", "user/secret"], {}, "--seen does not know 'secret'"),
        (["--time", "yesterday"], {}, "is not a time"),
        (["--time", "2026-01-01T00:00:00"], {}, "has no time zone"),
        (["--user", " "], {}, "a user needs an id"),
        (["--policy", "none.yaml"], {}, "none.yaml"),
    ],
)
def test_questions_that_make_no_sense(arguments: list[str], call: dict[str, str], why: str) -> None:
    result = run(*arguments, **call)
    assert result.exit_code == 2
    assert why in result.output
    assert "Traceback" not in result.output


def test_values_cannot_act_on_the_terminal() -> None:
    hostile = json.dumps({"amount": "\x1b]0;owned\x07[bold]\u202e", "\x1b[2J": 1})
    for arguments in ([], ["--json"]):
        result = run(*arguments, args=hostile)
        assert result.exit_code == 0
        assert not set(result.output) & {"\x1b", "\x07", "\u202e"}


def test_nothing_is_written(policy: Path) -> None:
    before = sorted((path.name, path.read_bytes()) for path in policy.iterdir())
    run()
    assert sorted((path.name, path.read_bytes()) for path in policy.iterdir()) == before
