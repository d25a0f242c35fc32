"""The token of a delegated call names everybody on whose word it is made, and ends with any of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from call_bodies import ISSUER, POLICY, TICKETS, Bodies, permit

from zt_agents.credentials import CallTokenError, CallTokenReason, CallTokenVerifier
from zt_agents.identity.revocations import Revoked

HELPDESK, OTHER = "spiffe://acme.example/agent/helpdesk", "spiffe://acme.example/agent/other"
DELEGATING = POLICY.replace(
    'helpdesk, version: "1", owner: dana@acme.example,',
    'helpdesk, version: "1", owner: dana@acme.example, delegates: [other],',
).replace("agents: [helpdesk]", "agents: [helpdesk, other]")


def test_it_names_the_chain(tmp_path: Path) -> None:
    bodies = Bodies(tmp_path, policy=DELEGATING)
    bodies.body = lambda: (permit().token(audience=TICKETS), permit().session.id)
    guard = bodies.world.guard
    with bodies.world.session(task="task-7") as outer, outer.delegate(agent="other", tools=["update"]):
        token, inner = bodies.update.invoke({"number": 5})
        claims = bodies.verify(token)
        assert claims.agents == (OTHER, HELPDESK)
        assert claims.sessions == (inner, outer.id)
        assert (claims.user_id, claims.task) == ("alice@acme.example", "task-7")
        another = bodies.update.invoke({"number": 5})[0]
        service = CallTokenVerifier(
            keys=guard.call_keys, issuer=ISSUER, audience=TICKETS, revocations=guard.revocations
        )
        guard.revocations.revoke(Revoked.SESSION, outer.id, by="os:dana", why="a test", now=guard.clock())
        with pytest.raises(CallTokenError) as refusal:
            service.verify(another, tool="update", arguments={"number": 5, "note": ""})
        assert refusal.value.reason is CallTokenReason.REVOKED
    guard.close()
