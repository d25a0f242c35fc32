"""Sessions: how they are carried, and when they end."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator
from contextvars import Context
from pathlib import Path

import pytest
from langchain_core.tools import BaseTool, tool

from zt_agents import AccessDeniedError, ConfigurationError, Guard, IdentityError, ReasonCode, User, current_session
from zt_agents.errors import AgentInactiveError, UnknownAgentError
from zt_agents.identity import SigningKey, TokenIssuer
from zt_agents.integrations.langchain import ZeroTrustCallback
from zt_agents.testing import write_policy

POLICY = """
version: 1
trust_domain: acme.example
environment: test
session: {ttl: 10m}
agents:
  helpdesk: {id: spiffe://acme.example/agent/helpdesk, version: "1", owner: dana@acme.example, purpose: tests}
  night: {id: spiffe://acme.example/agent/night, version: "1", owner: dana@acme.example, purpose: t, status: suspended}
tools:
  add: {tier: low, effects: [read]}
rules:
  - id: add
    agents: [helpdesk, night]
    tools: [add]
    outcome: allow
    when: user.id == 'alice' || 'ops' in user.groups
"""


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def add() -> BaseTool:
    @tool
    def add(a: int) -> int:
        """Add one."""
        return a + 1

    return add


@pytest.fixture
def guard(tmp_path: Path, clock: Clock, add: BaseTool) -> Iterator[Guard]:
    with Guard.from_config(write_policy(tmp_path, POLICY, [add]), clock=clock) as guard:
        guard.protect([add])
        yield guard


def refused(call: object, code: ReasonCode) -> None:
    with pytest.raises(AccessDeniedError) as caught:
        call()  # type: ignore[operator]
    assert caught.value.decision.reasons[0].code is code


def test_no_session_is_no_access(guard: Guard, add: BaseTool) -> None:
    refused(lambda: add.invoke({"a": 1}), ReasonCode.NO_SESSION)


def test_a_session_is_current_inside_its_block_alone(guard: Guard, add: BaseTool) -> None:
    with guard.session(agent="helpdesk", on_behalf_of="alice") as session:
        assert current_session() is session
        assert add.invoke({"a": 1}) == 2
    assert current_session() is None


async def test_async_with(guard: Guard, add: BaseTool) -> None:
    async with guard.session(agent="helpdesk", on_behalf_of="alice") as session:
        assert current_session() is session
        assert await add.ainvoke({"a": 1}) == 2
    assert current_session() is None


async def test_two_tasks_have_two_sessions(guard: Guard) -> None:
    async def work(user: str) -> str:
        async with guard.session(agent="helpdesk", on_behalf_of=user):
            await asyncio.sleep(0.01)
            session = current_session()
            assert session is not None
            return session.user.id

    assert await asyncio.gather(work("alice"), work("bob")) == ["alice", "bob"]


def test_sessions_nest(guard: Guard) -> None:
    with guard.session(agent="helpdesk", on_behalf_of="alice") as outer:
        with guard.session(agent="helpdesk", on_behalf_of="bob") as inner:
            assert current_session() is inner
        assert current_session() is outer


def test_a_bare_thread_has_none(guard: Guard, add: BaseTool) -> None:
    caught: list[BaseException] = []

    def work() -> None:
        try:
            add.invoke({"a": 1})
        except AccessDeniedError as error:
            caught.append(error)

    with guard.session(agent="helpdesk", on_behalf_of="alice"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(caught) == 1


def test_leaving_the_block_ends_the_session_for_good(guard: Guard, add: BaseTool) -> None:
    with guard.session(agent="helpdesk", on_behalf_of="alice") as session:
        pass
    callback = ZeroTrustCallback(guard, session)
    refused(lambda: add.invoke({"a": 1}, config={"callbacks": [callback]}), ReasonCode.IDENTITY)


def test_a_session_is_entered_once(guard: Guard) -> None:
    session = guard.session(agent="helpdesk", on_behalf_of="alice")
    with session, pytest.raises(ConfigurationError):
        session.__enter__()


def test_a_session_expires_while_it_is_used(guard: Guard, add: BaseTool, clock: Clock) -> None:
    with guard.session(agent="helpdesk", on_behalf_of="alice", ttl=5):
        assert add.invoke({"a": 1}) == 2
        clock.now += 5
        refused(lambda: add.invoke({"a": 1}), ReasonCode.IDENTITY)


def test_the_policys_lifetime_is_the_default(guard: Guard) -> None:
    session = guard.session(agent="helpdesk", on_behalf_of="alice")
    assert session.claims.expires_at - session.claims.issued_at == 600


def test_a_suspension_stops_an_open_session(guard: Guard, add: BaseTool) -> None:
    with guard.session(agent="helpdesk", on_behalf_of="alice"):
        guard.registry.suspend("helpdesk")
        refused(lambda: add.invoke({"a": 1}), ReasonCode.IDENTITY)
        guard.registry.resume("helpdesk")
        assert add.invoke({"a": 1}) == 2


def test_only_active_agents_get_sessions(guard: Guard) -> None:
    with pytest.raises(UnknownAgentError, match="helpdesk"):
        guard.session(agent="helpdsk", on_behalf_of="alice")
    with pytest.raises(AgentInactiveError):
        guard.session(agent="night", on_behalf_of="alice")


def test_a_token_carries_its_session_through_the_config(guard: Guard, add: BaseTool) -> None:
    session = guard.session(agent="helpdesk", on_behalf_of="alice")
    config = {"configurable": {"zt_session": session.token}}
    assert add.invoke({"a": 1}, config=config) == 2  # type: ignore[arg-type]
    bad = {"configurable": {"zt_session": session.token[:-2]}}
    with guard.session(agent="helpdesk", on_behalf_of="alice"):  # a good session does not heal a bad token
        refused(lambda: add.invoke({"a": 1}, config=bad), ReasonCode.IDENTITY)  # type: ignore[arg-type]


def test_a_token_from_another_process_knows_the_users_groups(guard: Guard, add: BaseTool, clock: Clock) -> None:
    user = User("bob", groups=("ops",), attributes={"clearance": 3})
    token, _ = guard.issuer.issue(agent=guard.registry.get("helpdesk"), user=user, task="t", ttl=60, now=clock())
    session = guard.session_from_token(token)
    assert (session.user.groups, dict(session.user.attributes), session.claims.task) == (("ops",), {}, "t")
    assert guard.session_from_token(token) is session
    assert add.invoke({"a": 1}, config={"configurable": {"zt_session": token}}) == 2


def test_processes_that_share_a_key_hand_sessions_on(tmp_path: Path, add: BaseTool) -> None:
    path, key = write_policy(tmp_path, POLICY, [add]), SigningKey.generate()
    with (
        Guard.from_config(path, signing_key=key) as first,
        Guard.from_config(path, signing_key=key) as second,
        Guard.from_config(path) as stranger,
    ):
        second.protect(add)
        session = first.session(agent="helpdesk", on_behalf_of="alice", intent="add")
        assert add.invoke({"a": 1}, config={"configurable": {"zt_session": session.token}}) == 2
        with pytest.raises(IdentityError):
            stranger.session_from_token(session.token)


def test_a_token_of_a_stranger_is_no_session(guard: Guard, clock: Clock) -> None:
    stranger = TokenIssuer(issuer=guard.issuer.issuer, audience=guard.issuer.audience, keys=SigningKey.generate())
    agent = guard.registry.get("helpdesk")
    token, _ = stranger.issue(agent=agent, user=User("alice"), task="", ttl=60, now=clock())
    with pytest.raises(IdentityError):
        guard.session_from_token(token)


def test_a_session_left_in_another_context_is_ended_all_the_same(guard: Guard, add: BaseTool) -> None:
    session = guard.session(agent="helpdesk", on_behalf_of="alice")
    Context().run(session.__enter__)
    session.__exit__(None, None, None)
    assert current_session() is None
    config = {"callbacks": [ZeroTrustCallback(guard, session)]}
    refused(lambda: add.invoke({"a": 1}, config=config), ReasonCode.IDENTITY)  # type: ignore[arg-type]


def test_a_session_shows_and_yields_no_secret(guard: Guard) -> None:
    session = guard.session(agent="helpdesk", on_behalf_of="alice", intent="my diagnosis")
    assert session.token not in repr(session)
    assert "diagnosis" not in repr(session)
    with pytest.raises(TypeError):
        pickle.dumps(session)


def test_a_callback_takes_sessions_of_its_own_guard_alone(guard: Guard, tmp_path: Path, add: BaseTool) -> None:
    (tmp_path / "other").mkdir()
    with Guard.from_config(write_policy(tmp_path / "other", POLICY, [add])) as other:
        session = other.session(agent="helpdesk", on_behalf_of="alice")
        with pytest.raises(ConfigurationError):
            ZeroTrustCallback(guard, session)
        with other.session(agent="helpdesk", on_behalf_of="alice"):
            refused(lambda: add.invoke({"a": 1}), ReasonCode.WRONG_GUARD)
