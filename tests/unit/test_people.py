"""Sessions for users whom an identity provider vouches for, and for those it does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import loopback_provider
import pytest
from langchain_core.tools import StructuredTool
from loopback_provider import AUDIENCE, CLIENT, LoopbackProvider
from world import HEAD, World

from zt_agents import AccessDeniedError, PolicyFileError, User
from zt_agents.errors import LoginRequiredError, TokenExpiredError, TokenInvalidError
from zt_agents.identity import SigningKey
from zt_agents.policy.loader import parse_policy

RULES = """
tools:
  look: {tier: low, effects: [read]}
rules:
  - {id: look, agents: [helpdesk], tools: [look], outcome: allow, when: "WHEN"}
identity_provider:
"""


def _look() -> str:
    return "seen"


TOOL = StructuredTool.from_function(_look, name="look", description="Look.")


@pytest.fixture(scope="module")
def idp() -> Iterator[LoopbackProvider]:
    with loopback_provider.running() as provider:
        yield provider


def policy(idp: LoopbackProvider, *lines: str, when: str = "user.id != ''") -> str:
    rules = RULES.replace("WHEN", when)
    head = [f"issuer: {idp.issuer}", f"client_id: {CLIENT}", f"audience: {AUDIENCE}", *lines]
    return HEAD + rules + "".join(f"  {line}\n" for line in head)


@pytest.fixture
def make(tmp_path: Path, idp: LoopbackProvider) -> Iterator[Any]:
    worlds: list[World] = []

    def made(*lines: str, when: str = "user.id != ''", **parts: Any) -> tuple[World, Any]:
        tool = TOOL.model_copy()
        world = World(tmp_path, policy(idp, *lines, when=when), [tool], None, **parts)
        worlds.append(world)
        return world, world.guard.protect(tool)

    yield made
    for world in worlds:
        world.guard.close()


def test_a_user_with_a_login_has_a_session_and_rules_see_it(idp: LoopbackProvider, make: Any) -> None:
    when = (
        "user.id == 'f1f2' && 'helpdesk' in user.groups && user.acr == 'gold' && 'otp' in user.amr"
        " && context.time - user.authenticated_at < duration('5m')"
    )
    world, tool = make("required: true", when=when)
    facts = {"groups": ["helpdesk"], "acr": "gold", "amr": ["otp"], "auth_time": int(time.time()) - 10}
    user = world.guard.user(id_token=idp.id_token(**facts), nonce="n-1")
    with world.session(on_behalf_of=user):
        assert tool.invoke({}) == "seen"
    (record,) = [record for record in world.records() if record["kind"] == "decision"]
    assert "f1f2" in str(record)
    weak = world.guard.user(access_token=idp.access_token(**{**facts, "acr": "silver"}))
    with world.session(on_behalf_of=weak), pytest.raises(AccessDeniedError):
        tool.invoke({})


def test_a_login_can_be_required(make: Any, idp: LoopbackProvider) -> None:
    world, _ = make("required: true")
    for user in ("alice@acme.example", "f1f2", User("f1f2", groups=("helpdesk",), attributes={"verified": True})):
        with pytest.raises(LoginRequiredError):
            world.session(on_behalf_of=user)
    with pytest.raises(LoginRequiredError):
        world.guard.user()


def test_what_a_program_changes_in_a_proven_user_does_not_count(make: Any, idp: LoopbackProvider) -> None:
    world, _ = make("required: true")
    user = world.guard.user(access_token=idp.access_token(groups=["helpdesk"]))
    forged = replace(user, id="mallory", groups=("admin",), attributes={"desk": 7})
    with world.session(on_behalf_of=forged) as session:
        assert (session.user.id, session.user.groups) == ("f1f2", ("helpdesk",))
        assert session.user.attributes == {"desk": 7}
    assert user.login is not None
    for changes in ({"token": "x.y.z"}, {"token": ""}, {"access": False}):
        with pytest.raises((TokenInvalidError, LoginRequiredError)):
            world.session(on_behalf_of=replace(user, login=replace(user.login, **changes)))


def test_a_session_ends_with_the_token_it_was_opened_with(make: Any, idp: LoopbackProvider) -> None:
    clock = [time.time()]
    world, tool = make(clock=lambda: clock[0])
    user = world.guard.user(access_token=idp.access_token(exp=int(clock[0]) + 30))
    with world.session(on_behalf_of=user):
        assert tool.invoke({}) == "seen"
        clock[0] += 31
        with pytest.raises(AccessDeniedError, match="expired"):
            tool.invoke({})
    with pytest.raises(TokenExpiredError):
        world.session(on_behalf_of=user)


def test_a_session_ends_when_its_login_is_too_old(make: Any, idp: LoopbackProvider) -> None:
    clock = [time.time()]
    world, tool = make("max_age: 10m", clock=lambda: clock[0])
    user = world.guard.user(access_token=idp.access_token(auth_time=int(clock[0]) - 590))
    with world.session(on_behalf_of=user):
        assert tool.invoke({}) == "seen"
        clock[0] += 11
        with pytest.raises(AccessDeniedError, match="expired"):
            tool.invoke({})
    with pytest.raises(LoginRequiredError):
        world.session(on_behalf_of=user)


def test_a_login_travels_with_the_session_and_one_without_is_denied(
    make: Any, idp: LoopbackProvider, tmp_path: Path
) -> None:
    key = SigningKey.generate()
    world, tool = make("required: true", when="user.acr == 'gold'", signing_key=key)
    user = world.guard.user(access_token=idp.access_token(acr="gold", amr=["otp"], auth_time=1_700_000_000))
    with world.session(on_behalf_of=user) as session:
        other, same = make("required: true", when="user.acr == 'gold'", signing_key=key)
        with other.guard.session_from_token(session.token) as passed_on:
            assert passed_on.user.login == session.user.login
            assert passed_on.user.login.token.reveal() == ""
            assert same.invoke({}) == "seen"
            with pytest.raises(LoginRequiredError):  # what is left of a login opens no further session
                other.session(on_behalf_of=passed_on.user)
    lax, _ = make("required: false", signing_key=key)  # the same keys, before the policy was changed
    unproven = lax.session(on_behalf_of="f1f2")
    strict, tool = make("required: true", signing_key=key)
    with strict.guard.session_from_token(unproven.token), pytest.raises(AccessDeniedError, match="logged in"):
        tool.invoke({})


def test_another_provider_s_login_does_not_do(make: Any, idp: LoopbackProvider) -> None:
    key = SigningKey.generate()
    world, _ = make(signing_key=key)
    user = world.guard.user(access_token=idp.access_token())
    session = world.session(on_behalf_of=user)
    elsewhere, tool = make("required: true", signing_key=key)
    people = elsewhere.guard.people
    assert people.provider is not None
    people.provider.terms = replace(people.provider.terms, issuer="https://login.other.example")
    with elsewhere.guard.session_from_token(session.token), pytest.raises(AccessDeniedError, match="logged in"):
        tool.invoke({})


def test_who_a_task_is_handed_on_to_acts_for_the_same_login(tmp_path: Path, idp: LoopbackProvider) -> None:
    text = policy(idp, "required: true", when="user.acr == 'gold'")
    text = text.replace("purpose: tests}", "purpose: tests, delegates: [other]}", 1)
    tool = TOOL.model_copy()
    world = World(tmp_path, text.replace("agents: [helpdesk]", "agents: [helpdesk, other]"), [tool], None)
    with world.guard as guard:
        guarded = guard.protect(tool)
        user = guard.user(access_token=idp.access_token(acr="gold"))
        with world.session(on_behalf_of=user) as session, session.delegate(agent="other") as handed_on:
            assert guarded.invoke({}) == "seen"
            assert handed_on.claims.login == session.claims.login == user.login


async def test_the_async_twin_and_many_at_once(make: Any, idp: LoopbackProvider) -> None:
    world, _ = make()
    before = idp.times_asked("jwks_uri")
    users = await asyncio.gather(*(world.guard.auser(access_token=idp.access_token()) for _ in range(20)))
    assert {user.id for user in users} == {"f1f2"}
    assert idp.times_asked("jwks_uri") == before + 1


def test_without_a_provider_nobody_is_proven(tmp_path: Path, idp: LoopbackProvider, make: Any) -> None:
    world, _ = make()
    user = world.guard.user(access_token=idp.access_token())
    (tmp_path / "other").mkdir()
    text = policy(idp).partition("identity_provider")[0]
    other = World(tmp_path / "other", text, [TOOL.model_copy()], None)
    with other.guard as guard:
        with pytest.raises(TokenInvalidError, match="names no identity provider"):
            guard.user(access_token=idp.access_token())
        with pytest.raises(TokenInvalidError, match="names no identity provider"):
            other.session(on_behalf_of=user)


MISTAKES = {
    "issuer: http://login.acme.example": "has to be https",
    "issuer: https://login.acme.example?x=1": "no query",
    f"audience: {CLIENT}": "other than client_id",
    "algorithms: [HS256]": "ES256",
    "algorithms: [none]": "ES256",
    "algorithms: []": "empty",
    "user: preferred_username": "is not one of",
    "max_age: 2d": "30s, 15m or 1h",
    "client_id: ''": "not accepted",
    "grops: [groups]": "Did you mean 'groups'",
    "groups: groups": "must be a list",
    "exchange: [{audience: tickets, tools: [lok]}]": "no tool is called 'lok'",
    "exchange: [{audience: tickets, tools: [look], scope: [x]}]": "Did you mean 'scopes'",
    f"exchange: [{{audience: '{AUDIENCE}', tools: [look]}}]": "our own audience",
}


@pytest.mark.parametrize(("line", "said"), MISTAKES.items(), ids=MISTAKES)
def test_mistakes_about_the_provider_do_not_load(line: str, said: str) -> None:
    key = line.partition(":")[0]
    good = ["issuer: https://login.acme.example", f"client_id: {CLIENT}", f"audience: {AUDIENCE}"]
    lines = {each.partition(":")[0]: each for each in good}
    lines[key] = line
    text = HEAD + RULES.replace("WHEN", "user.id != ''") + "".join(f"  {each}\n" for each in lines.values())
    with pytest.raises(PolicyFileError) as refusal:
        parse_policy(text, name="p.yaml", parameters={"look": {"type": "object", "properties": {}}})
    (problem,) = refusal.value.problems
    assert said in problem.message
