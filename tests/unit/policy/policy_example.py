"""One policy that loads, and the tools it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zt_agents.decisions import ToolCall
from zt_agents.identity.principals import User
from zt_agents.policy import Policy, parse_policy

POLICY = """\
version: 1
trust_domain: acme.example
environment: production
sources: [my_app.tools:TOOLS]
session: {ttl: 10m}
approvals: {timeout: 90s}
agents:
  helpdesk:
    id: spiffe://acme.example/agent/helpdesk
    version: "1.4"
    owner: dana@acme.example
    purpose: Answer the tickets of Acme's staff
  finance:
    id: spiffe://acme.example/agent/finance
    version: "2"
    owner: frank@acme.example
    purpose: Pay what was approved
  old-bot:
    id: spiffe://acme.example/agent/old-bot
    version: "1"
    owner: frank@acme.example
    purpose: Retired long ago
    status: retired
tools:
  read_ticket:
    tier: low
    effects: [read]
    system: helpdesk-db
    resource: "ticket/{args.ticket_id}"
  pay:
    tier: medium
    effects: [money, write]
    system: bank
    destinations: [to]
    content: [note]
    data_class: confidential
    integrity: trusted
  delete_account:
    tier: medium
    effects: [delete]
  web_search:
    tier: medium
    effects: [read, egress]
    unmediated: true
tier_patterns:
  - {pattern: "delete_*", at_least: high}
rules:
  - id: read-tickets
    agents: [helpdesk, finance]
    tools: [read_ticket]
    outcome: allow
    when: args.ticket_id > 0
  - id: pay-small
    agents: [finance]
    tools: [pay]
    outcome: allow
    when: >
      args.amount <= 100.0
      && args.currency in ['EUR', 'USD']
  - id: pay-large
    agents: [finance]
    tools: [pay]
    outcome: require_approval
    when: args.amount > 100.0
    raise_tier: high
    reason: Large payments are looked at by a human
  - id: never-after-strangers
    agents: ["*"]
    tools: [pay]
    outcome: deny
    when: provenance.integrity == 'untrusted'
    reason: No payment on a stranger's word
  - id: close-accounts
    agents: [helpdesk]
    tools: [delete_account]
    outcome: allow
"""

PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "read_ticket": {
        "type": "object",
        "properties": {"ticket_id": {"type": "integer"}},
        "required": ["ticket_id"],
    },
    "pay": {
        "type": "object",
        "properties": {
            "amount": {"type": "number"},
            "to": {"type": "string"},
            "currency": {"enum": ["EUR", "USD", "GBP"]},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            "urgent": {"type": "boolean"},
            "count": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "payee": {"$ref": "#/$defs/Payee"},
        },
        "required": ["amount", "to", "currency", "urgent", "count", "tags", "payee"],
        "$defs": {
            "Payee": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "account": {"type": "object"}},
                "required": ["city", "account"],
            }
        },
    },
    "delete_account": {"type": "object", "properties": {"user": {"type": "object"}}, "required": ["user"]},
}

ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "read_ticket": {"ticket_id": 7},
    "pay": {
        "amount": 50,
        "to": "DE02",
        "currency": "EUR",
        "note": None,
        "urgent": False,
        "count": 1,
        "tags": ["rent"],
        "payee": {"city": "Berlin", "account": {"iban": "DE02"}},
    },
    "delete_account": {"user": {"role": "admin"}},
}


def load(text: str = POLICY, parameters: Mapping[str, Mapping[str, Any]] = PARAMETERS) -> Policy:
    return parse_policy(text, name="zt-agents.yaml", parameters=parameters)


def call_for(
    policy: Policy, agent: str, tool: str, arguments: Mapping[str, Any] | None = None, **more: Any
) -> ToolCall:
    return ToolCall(
        tool=tool,
        spec=policy.tools.get(tool),
        arguments={**ARGUMENTS[tool], **(arguments or {})},
        agent=policy.agents[agent],
        **{"user": User("alice", groups=("staff",)), "time": 1_700_000_000.0, **more},
    )
