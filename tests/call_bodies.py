"""Guarded tools whose body is whatever a test says, and a service that verifies their calls' tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.tools import BaseTool, tool
from world import HEAD, World

import zt_agents
from zt_agents.credentials import CallClaims, CallTokenVerifier
from zt_agents.permit import Permit

ISSUER = "spiffe://acme.example/zt-agents"
TICKETS, MAIL = "https://tickets.acme.example", "urn:acme:mail"
POLICY = f"""{HEAD}
tools:
  update: {{tier: medium, effects: [write, read], system: tickets, resource: "ticket/{{args.number}}",
           audiences: ["{TICKETS}", "{MAIL}"]}}
  plain: {{tier: low, effects: [read]}}
rules:
  - {{id: all, agents: [helpdesk], tools: [update, plain], outcome: allow}}
"""

Body = Callable[..., Any]


class Bodies:
    """Two guarded tools whose body is whatever a test says."""

    def __init__(self, folder: Path, *, policy: str = POLICY, **parts: Any) -> None:
        self.body: Body = lambda: None

        @tool
        def update(number: int, note: str = "") -> Any:
            """Update a ticket."""
            return self.body()

        @tool
        def plain(number: int) -> Any:
            """Do something plain."""
            return self.body()

        self.world = World(folder, policy, [update, plain], None, **parts)
        self.update, self.plain = self.world.guard.protect([update, plain])

    def run(self, body: Body, which: BaseTool | None = None, **session: Any) -> Any:
        self.body = body
        with self.world.session(**session):
            return (which or self.update).invoke({"number": 5})

    def verify(self, token: str, audience: str = TICKETS, **changes: Any) -> CallClaims:
        service = CallTokenVerifier(
            keys=self.world.guard.call_keys, issuer=ISSUER, audience=audience, clock=self.world.guard.clock
        )
        return service.verify(token, **{"tool": "update", "arguments": {"number": 5, "note": ""}, **changes})


def permit() -> Permit:
    """Return the permit of the running body."""
    found = zt_agents.current_call()
    assert found is not None
    return found
