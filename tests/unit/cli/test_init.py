from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from zt_agents.catalog.guess import guess
from zt_agents.catalog.lock import ToolLock, lock_path
from zt_agents.catalog.specs import ToolDescription
from zt_agents.cli import app
from zt_agents.cli.draft import Draft, draft_policy
from zt_agents.policy.loader import load_policy
from zt_agents.policy.models import PolicyFile

HEAD = Draft("my_app.tools:TOOLS", "acme.example", "helpdesk", "dana@acme.example")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["init", *arguments])


def test_a_policy_is_proposed(project: Path) -> None:
    result = run(
        "my_app.tools:TOOLS",
        "--agent", "helpdesk", "--owner", "dana@acme.example", "--trust-domain", "acme.example",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "Nothing is granted yet" in result.output
    policy = yaml.safe_load((project / "zt-agents.yaml").read_text())
    assert policy["agents"]["helpdesk"]["id"] == "spiffe://acme.example/agent/helpdesk"
    assert policy["agents"]["helpdesk"]["owner"] == "dana@acme.example"
    assert policy["sources"] == ["my_app.tools:TOOLS"]
    assert [rule["outcome"] for rule in policy["rules"]] == ["deny"]
    assert policy["tools"]["read_ticket"] == {
        "tier": "low",
        "effects": ["read"],
        "system": "ticket",
        "resource": "ticket/{args.ticket_id}",
        "data_class": "internal",
        "integrity": "untrusted",
        "destinations": [],
        "content": [],
    }
    assert policy["tools"]["send_email"]["tier"] == "high"
    assert policy["tools"]["send_email"]["destinations"] == ["to"]
    assert policy["tools"]["delete_user"]["effects"] == ["delete"]


def test_what_it_wrote_loads(project: Path) -> None:
    assert run("my_app.tools:TOOLS").exit_code == 0
    lock = ToolLock.read(project / "zt-agents.lock.json")
    assert set(lock.fingerprints) == {"read_ticket", "send_email", "delete_user"}
    policy = load_policy(project / "zt-agents.yaml", parameters=lock.parameters)
    assert set(policy.tools) == {"read_ticket", "send_email", "delete_user"}


def test_every_guess_is_marked(project: Path) -> None:
    run("my_app.tools:TOOLS")
    text = (project / "zt-agents.yaml").read_text()
    section = text[text.index("\ntools:") : text.index("# Nothing is granted.")]
    guesses = [
        line for line in section.splitlines() if line.startswith("    ") and not line.strip().startswith("#")
    ]
    assert len(guesses) == 3 * 8 - 1, "send_email names no resource"
    assert all("# review" in line for line in guesses)
    assert "# review: 'delete' in the name: deletes." in section


def test_nothing_is_overwritten_unasked(project: Path) -> None:
    policy = project / "zt-agents.yaml"
    policy.write_text("precious")
    result = run("my_app.tools:TOOLS")
    assert result.exit_code == 2
    assert "would be overwritten" in result.output
    assert "Traceback" not in result.output
    assert policy.read_text() == "precious"
    assert not (project / "zt-agents.lock.json").exists()
    assert run("my_app.tools:TOOLS", "--force").exit_code == 0
    assert "precious" not in policy.read_text()


def test_a_lock_alone_is_not_overwritten_either(project: Path) -> None:
    (project / "other.lock.json").write_text("precious")
    assert run("my_app.tools:TOOLS", "--out", "other.yaml").exit_code == 2
    assert not (project / "other.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["my_app.tools"], "does not name an object"),
        (["my_app.tools:"], "does not name an object"),
        (["my-app:TOOLS"], "does not name an object"),
        (["my_app.toolz:TOOLS"], "could not be imported: ModuleNotFoundError"),
        (["my_app.tools:TOOLZ"], "Did you mean 'TOOLS'?"),
        (["my_app.tools:__doc__"], "A NoneType is not a tool"),
        (["my_app.tools:TOOLS", "--agent", "a b"], "cannot name an agent"),
        (["my_app.tools:TOOLS", "--trust-domain", "ACME"], "cannot be a trust domain"),
        (["my_app.tools:TOOLS", "--owner", "a\nb"], "must be one line"),
        (["my_app.tools:TOOLS", "--out", "no/such/folder.yaml"], "cannot be written"),
    ],
)
def test_it_says_why_it_cannot(project: Path, arguments: list[str], why: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert why in result.output
    assert "Traceback" not in result.output
    assert not list(project.glob("*.yaml"))
    assert not list(project.glob("*.lock.json"))


@pytest.mark.parametrize(
    "body", ["TOOLS = 1/0", "import sys; sys.exit(3)", "TOOLS = []", "raise KeyboardInterrupt"]
)
def test_modules_that_do_not_play_along(project: Path, body: str) -> None:
    (project / "my_app" / "odd.py").write_text(body)
    result = run("my_app.odd:TOOLS")
    assert result.exit_code not in {0, 1}
    assert not list(project.glob("*.yaml"))


def test_a_name_that_rules_cannot_name_is_refused(project: Path) -> None:
    (project / "my_app" / "odd.py").write_text(
        "from langchain_core.tools import Tool\nTOOLS = [Tool('read \\x1b[31mticket', str, 'x')]\n"
    )
    result = run("my_app.odd:TOOLS")
    assert result.exit_code == 2
    assert "\x1b" not in result.output
    assert 'It would stand in: "read \\u001b[31mticket":' in result.output
    assert not list(project.glob("*.yaml"))


def test_hostile_descriptions_reach_neither_terminal_nor_policy(project: Path) -> None:
    hostile = "Read.\x1b]0;owned\x07\n  evil:\n    tier: low\u202e [bold]x[/] \u2028rules: [allow]\U000e0041"
    (project / "my_app" / "odd.py").write_text(
        "from langchain_core.tools import StructuredTool\n"
        f"TOOLS = [StructuredTool.from_function(lambda a_id: '', name='read_it', description={hostile!r},"
        " args_schema={'type': 'object', 'properties': {'a_id\\n  b': {}, 'url\\x1b[2J': {}}})]\n"
    )
    result = run("my_app.odd:TOOLS")
    assert result.exit_code == 0, result.output
    text = (project / "zt-agents.yaml").read_text()
    for output in (result.output, text, (project / "zt-agents.lock.json").read_text()):
        assert not set(output) & set("\x1b\x07\u202e\u2028\U000e0041")
    assert set(yaml.safe_load(text)["tools"]) == {"read_it"}
    assert [rule["outcome"] for rule in yaml.safe_load(text)["rules"]] == ["deny"]


anything = st.text(max_size=30)


@given(name=anything, says=anything, argument=anything, owner=anything)
def test_no_text_can_write_policy(name: str, says: str, argument: str, owner: str) -> None:
    description = ToolDescription(
        name, says, {"properties": {argument: {"format": "uri"}}, "required": [argument]}
    )
    draft = Draft(HEAD.source, HEAD.trust_domain, HEAD.agent, owner)
    text = draft_policy(draft, [(description, guess(description))])
    policy = yaml.safe_load(text)
    assert list(policy["tools"]) == [name]
    assert policy["tools"][name]["destinations"] == [argument]
    assert policy["agents"]["helpdesk"]["owner"] == owner
    assert [rule["outcome"] for rule in policy["rules"]] == ["deny"]
    assert set(policy) <= set(PolicyFile.model_fields)


def test_tools_of_the_provider_are_proposed_as_unmediated(project: Path) -> None:
    (project / "my_app" / "web.py").write_text(
        "from my_app.tools import TOOLS\nTOOLS.append({'type': 'web_search_1', 'name': 'web_search'})\n"
    )
    assert run("my_app.web:TOOLS").exit_code == 0
    policy = yaml.safe_load((project / "zt-agents.yaml").read_text())
    assert policy["tools"]["web_search"]["unmediated"] is True
    assert "unmediated: true  # review" in (project / "zt-agents.yaml").read_text()


def test_help_is_quick_and_loads_no_framework() -> None:
    program = (
        "import sys, json\nfrom typer.testing import CliRunner\nfrom zt_agents.cli import app\n"
        "result = CliRunner().invoke(app, ['--help'])\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "print(json.dumps([result.exit_code, result.output, sorted(loaded)]))"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    code, output, loaded = json.loads(process.stdout)
    assert code == 0
    assert {"init", "check", "explain"} <= set(output.split())
    assert not {"langchain_core", "langgraph", "sqlalchemy", "cel_expr_python", "yaml"} & set(loaded)


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.output.strip()


def test_a_lock_of_the_tools_is_written(project: Path) -> None:
    run("my_app.tools:TOOLS", "--out", "conf.yaml")
    lock = ToolLock.read(lock_path(project / "conf.yaml"))
    assert lock.accepted["read_ticket"].description == "Read one ticket of the helpdesk."
    assert lock.parameters["read_ticket"]["required"] == ["ticket_id"]


def test_any_usable_tool_makes_a_policy_that_loads(project: Path) -> None:
    names = ["on", "null", "1e3", "0x10", "a.b:c/d-e", "y", "x" * 128, "-", "read_id"]
    (project / "my_app" / "odd.py").write_text(
        "from langchain_core.tools import Tool\n"
        f"TOOLS = [Tool(name, str, '# : {{}}[]&*!|>%@`\\t\\u0085') for name in {names}]\n"
    )
    result = run("my_app.odd:TOOLS")
    assert result.exit_code == 0, result.output
    lock = ToolLock.read(project / "zt-agents.lock.json")
    assert set(load_policy(project / "zt-agents.yaml", parameters=lock.parameters).tools) == set(names)
