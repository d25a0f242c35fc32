"""A tool's body, and the CallToken that it asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from call_bodies import MAIL, POLICY, TICKETS, Bodies, permit
from langchain_core.tools import tool

import zt_agents
from zt_agents.credentials import CallTokenError, CallTokenReason
from zt_agents.errors import CredentialError


@pytest.fixture
def bodies(tmp_path: Path) -> Iterator[Bodies]:
    made = Bodies(tmp_path)
    yield made
    made.world.guard.close()


def test_it_says_what_was_decided(bodies: Bodies) -> None:
    token, session = bodies.run(lambda: (permit().token(audience=TICKETS), permit().session.id), task="task-7")
    claims = bodies.verify(token)
    assert claims.user_id == "alice@acme.example"
    assert claims.agents == ("spiffe://acme.example/agent/helpdesk",)
    assert (claims.sessions, claims.task, claims.owner) == ((session,), "task-7", "dana@acme.example")
    assert (claims.tool, claims.resource, claims.system) == ("update", "ticket/5", "tickets")
    assert claims.effects == ("read", "write")
    assert claims.expires_at - claims.issued_at == 60


def test_each_is_another(bodies: Bodies) -> None:
    first, second = bodies.run(lambda: [permit().token(audience=TICKETS) for _ in range(2)])
    assert bodies.verify(first).token_id != bodies.verify(second).token_id


def test_it_is_for_one_service(bodies: Bodies) -> None:
    token = bodies.run(lambda: permit().token(audience=MAIL))
    bodies.verify(token, MAIL)
    with pytest.raises(CallTokenError) as refusal:
        bodies.verify(token, TICKETS)
    assert refusal.value.reason is CallTokenReason.WRONG_AUDIENCE


def test_a_tool_has_none_for_a_service_that_the_policy_does_not_name(bodies: Bodies) -> None:
    with pytest.raises(CredentialError, match=r"tools: \{update: \{audiences: \[https://hr.acme.example\]\}\}"):
        bodies.run(lambda: permit().token(audience="https://hr.acme.example"))


def test_a_tool_for_which_the_policy_names_no_service_has_none(bodies: Bodies) -> None:
    with pytest.raises(CredentialError, match="'plain' may not have a token"):
        bodies.run(lambda: permit().token(audience=TICKETS), bodies.plain)


def test_there_is_none_after_the_body(bodies: Bodies) -> None:
    kept = bodies.run(lambda: [permit()])[0]
    with pytest.raises(CredentialError, match="body is not running"):
        kept.token(audience=TICKETS)


def test_there_is_none_after_a_body_that_failed(bodies: Bodies) -> None:
    kept: list[Any] = []

    def fail() -> None:
        kept.append(permit())
        raise OSError

    with pytest.raises(OSError):
        bodies.run(fail)
    with pytest.raises(CredentialError):
        kept[0].token(audience=TICKETS)


def test_there_is_none_in_a_context_that_outlives_the_body(bodies: Bodies) -> None:
    context = bodies.run(lambda: [copy_context()])[0]
    with pytest.raises(CredentialError):
        context.run(lambda: permit().token(audience=TICKETS))


def test_there_is_none_once_the_session_was_revoked(bodies: Bodies) -> None:
    def revoked() -> str:
        bodies.world.guard.revoke(permit().session)
        return permit().token(audience=TICKETS)

    with pytest.raises(CredentialError, match="no longer good"):
        bodies.run(revoked)


def test_it_ends_with_its_session(bodies: Bodies) -> None:
    claims = bodies.verify(bodies.run(lambda: permit().token(audience=TICKETS), ttl=10))
    assert claims.expires_at - claims.issued_at <= 10


@pytest.mark.parametrize("ttl", [0, -1, 61])
def test_it_lives_for_a_minute_at_most(bodies: Bodies, ttl: int) -> None:
    with pytest.raises(ValueError):
        bodies.run(lambda: permit().token(audience=TICKETS, ttl=ttl))


def test_it_is_bound_to_one_thing(bodies: Bodies) -> None:
    with pytest.raises(ValueError):
        bodies.run(lambda: permit().token(audience=TICKETS, key_thumbprint="x", certificate_thumbprint="y"))


async def test_async_bodies_have_one(bodies: Bodies) -> None:
    @tool
    async def update(number: int, note: str = "") -> str:
        """Update a ticket."""
        return permit().token(audience=TICKETS)

    guarded = bodies.world.guard.protect(update)
    async with bodies.world.session():
        bodies.verify(await guarded.ainvoke({"number": 5}))


def test_a_tool_within_a_tool_has_its_own_or_none(bodies: Bodies) -> None:
    def outer() -> list[str]:
        tokens = [permit().token(audience=TICKETS)]
        bodies.body = lambda: permit().token(audience=TICKETS)
        with pytest.raises(CredentialError, match="'plain' may not"):
            bodies.plain.invoke({"number": 6})
        tokens.append(permit().token(audience=TICKETS))
        tokens.append(bodies.update.invoke({"number": 7}))
        return tokens

    *own, inner = bodies.run(outer)
    assert [bodies.verify(token).resource for token in own] == ["ticket/5", "ticket/5"]
    assert bodies.verify(inner, arguments={"number": 7, "note": ""}).resource == "ticket/7"


def test_a_stream_has_tokens_until_it_ends(bodies: Bodies) -> None:
    @tool
    def update(number: int, note: str = "") -> Any:
        """Update a ticket."""
        return (permit().token(audience=TICKETS) for _ in range(2))

    guarded = bodies.world.guard.protect(update)
    with bodies.world.session():
        assert len({bodies.verify(token).token_id for token in guarded.invoke({"number": 5})}) == 2


def test_a_model_that_reads_the_refusal_learns_nothing_of_the_policy(bodies: Bodies) -> None:
    with pytest.raises(CredentialError) as refusal:
        bodies.run(lambda: permit().token(audience="https://hr.acme.example"))
    assert "hr.acme" not in repr(refusal.value) + refusal.value.message_for_model()


@pytest.mark.parametrize("audience", ["tickets", "https:", "https://a b", "HTTPS://a", "https://ä.example", ""])
def test_a_policy_names_services_by_uri(tmp_path: Path, audience: str) -> None:
    (tmp_path / "zt-agents.yaml").write_text(POLICY.replace(MAIL, audience), encoding="utf-8")
    with pytest.raises(zt_agents.PolicyFileError, match="a service is named by a URI"):
        zt_agents.Guard.from_config(tmp_path / "zt-agents.yaml")
