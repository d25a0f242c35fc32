"""What of calls is kept, as a policy says it; a path that could never match does not load."""

from __future__ import annotations

from typing import Any

import pytest

from zt_agents._internal.json_paths import parse_path
from zt_agents.errors import PolicyFileError
from zt_agents.policy import Policy, parse_policy
from zt_agents.provenance.labels import DataClass

POLICY = """
version: 1
trust_domain: acme.example
environment: test
audit: AUDIT
agents:
  bot: {id: spiffe://acme.example/agent/bot, version: "1", owner: dana@acme.example, purpose: tests}
tools:
  pay: {tier: medium, effects: [money]}
  "mail:send": {tier: medium, effects: [egress]}
rules:
  - {id: allow, agents: [bot], tools: [pay, "mail:send"], outcome: allow}
"""
PAY = {"type": "object", "properties": {"iban": {"type": "string"}, "amount": {"type": "integer"}}}
SEND = {"type": "object", "properties": {"body": {"type": "string"}}}


def load(audit: str, **parameters: Any) -> Policy:
    schemas = parameters or {"pay": PAY, "mail:send": SEND}
    return parse_policy(POLICY.replace("AUDIT", audit), name="p.yaml", parameters=schemas)


def test_nothing_is_kept_by_default() -> None:
    assert load("{}").content is None
    assert load("{content: {}}").content is None


def test_paths_of_all_tools_and_of_one() -> None:
    paths = "['$.arguments.iban', 'mail:send:$.arguments.body', '$..card', '$.*.x', '$.result', \"$['result'][':$x']\"]"
    content = load(f"{{content: {{keep: internal, redact: {paths}}}}}").content
    assert content is not None
    assert content.keep is DataClass.INTERNAL
    assert content.redact == (
        ("", parse_path("$.arguments.iban")),
        ("mail:send", parse_path("$.arguments.body")),
        *(("", parse_path(path)) for path in ("$..card", "$.*.x", "$.result", "$.result[':$x']")),
    )


def test_where_a_schema_is_not_known_an_argument_may_be() -> None:
    assert load("{content: {keep: public, redact: [$.arguments.iban]}}", pay=SEND).content is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{keep: secret}", "public"),
        ("{keep: true}", "public"),
        ("{kep: public}", "content has no key 'kep'. Did you mean 'keep'?"),
        ("", "must be a mapping of keys and values"),
        ("{redact: [$.result]}", "nothing is kept: say what, with the key 'keep'"),
        ("{keep: public, redact: [iban]}", "a path begins with '$'"),
        ("{keep: public, redact: [$]}", "'$' alone"),
        ("{keep: public, redact: ['$.arguments.iban[1:2]']}", "no step of a path"),
        ("{keep: public, redact: [$.iban]}", "begins with $.arguments or $.result, not with $.iban"),
        ("{keep: public, redact: ['$[0]']}", "begins with $.arguments or $.result"),
        ("{keep: public, redact: [$.arguments.ibna]}", "no tool has an argument 'ibna'. Did you mean 'iban'?"),
        ("{keep: public, redact: ['$.arguments[0]']}", "no tool has an argument 0"),
        ("{keep: public, redact: ['pya:$.arguments.iban']}", "there is no tool 'pya'. Did you mean 'pay'?"),
        ("{keep: public, redact: ['pay:$.arguments.body']}", "tool 'pay' has no argument 'body'"),
    ],
)
def test_mistakes(content: str, message: str) -> None:
    with pytest.raises(PolicyFileError) as error:
        load(f"{{content: {content}}}")
    assert message in str(error.value)
    assert error.value.problems[0].line == 5
