"""Sessions with a scope, and sessions that are handed on: what they may do, how they end, what is on record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from langchain_core.tools import tool
from world import records_of

from zt_agents import (
    AccessDeniedError,
    ApprovalPendingError,
    DeferringChannel,
    Guard,
    ReasonCode,
    TaskScope,
    current_call,
    current_session,
)
from zt_agents.approvals import ApprovalState
from zt_agents.errors import DelegationError, IdentityError, ScopeError, TokenInvalidError, TokenRevokedError
from zt_agents.identity import SigningKey
from zt_agents.identity.revocations import Revoked
from zt_agents.provenance.labels import DataClass, Integrity
from zt_agents.revocation import stop
from zt_agents.sessions.session import Session
from zt_agents.testing import AnsweringChannel, SpanRecorder, write_policy

POLICY = """
version: 1
trust_domain: acme.example
environment: test
delegation: {depth: 3}
agents:
  helpdesk: {id: spiffe://acme.example/helpdesk, version: "1", owner: dana, purpose: Talk, delegates: [research, clerk]}
  research: {id: spiffe://acme.example/research, version: "1", owner: bo, purpose: Read, delegates: [archive, helpdesk]}
  archive: {id: spiffe://acme.example/archive, version: "1", owner: bo, purpose: Keeps., delegates: [research]}
  clerk: {id: spiffe://acme.example/clerk, version: "1", owner: bo, purpose: Pays.}
tools:
  read: {tier: low, effects: [read], resource: "ticket/{args.n}", data_class: internal}
  secret: {tier: low, effects: [read], data_class: restricted, integrity: trusted}
  move: {tier: low, effects: [write], resource: "move/{args.a}/{args.b}"}
  pay: {tier: high, effects: [money]}
  ask: {tier: low, effects: [execute], data_class: public, integrity: trusted}
rules:
  - id: all
    agents: [helpdesk, research, archive]
    tools: [read, secret, move, ask]
    outcome: allow
    when: session.tenant != "south"
  - {id: pay, agents: [clerk], tools: [pay], outcome: require_approval, reason: Money.}
  - {id: no, agents: [archive], tools: [secret], outcome: deny, when: '"helpdesk" in agent.chain', reason: Never.}
  - {id: deep, agents: [archive], tools: [move], outcome: deny, when: session.depth > 2, reason: Too far away.}
"""


class Desk:
    def __init__(self, folder: Path, **parts: Any) -> None:
        self.recorder = SpanRecorder()
        self.ran: list[Any] = []
        self.body: Callable[[], Any] = lambda: None

        @tool
        def read(n: str) -> str:
            """Read a ticket."""
            self.ran.append(("read", n, current_session()))
            return "text"

        @tool
        def secret() -> str:
            """Read a secret."""
            return "secret"

        @tool
        def move(a: str, b: str) -> str:
            """Move."""
            self.ran.append(("move", a, b))
            return "moved"

        @tool
        def pay(n: int) -> str:
            """Pay."""
            self.ran.append(("pay", n))
            return "paid"

        @tool
        def ask() -> str:
            """Ask another agent."""
            return str(self.body())

        self.tools = [read, secret, move, pay, ask]
        self.read, self.secret, self.move, self.pay, self.ask = self.tools
        self.path = write_policy(folder, POLICY, self.tools)
        self.guard = Guard.from_config(self.path, tracer_provider=self.recorder.provider, **parts)
        self.guard.protect(self.tools)

    def session(self, **changes: Any) -> Session:
        return self.guard.session(**{"agent": "helpdesk", "on_behalf_of": "alice", **changes})

    def refused(self, tool: Any, arguments: dict[str, Any]) -> ReasonCode:
        with pytest.raises(AccessDeniedError) as caught:
            tool.invoke(arguments)
        return caught.value.decision.reasons[0].code

    def records(self) -> list[dict[str, Any]]:
        return records_of(self.guard)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    with made.guard:
        yield made


# -- scopes -----------------------------------------------------------------------------------------------------------


INTERNAL = TaskScope(data_class=DataClass.INTERNAL)
LIMITS: list[tuple[dict[str, Any], str, dict[str, Any], bool]] = [
    ({"tools": ["read"]}, "read", {"n": "5"}, True),
    ({"tools": ["read"]}, "secret", {}, False),
    ({"tools": []}, "read", {"n": "5"}, False),
    ({"resources": ["ticket/5"]}, "read", {"n": "5"}, True),
    ({"resources": ["ticket/5"]}, "read", {"n": "55"}, False),
    ({"resources": ["ticket/*"]}, "read", {"n": "55"}, True),
    ({"resources": ["ticket/*"]}, "secret", {}, False),
    ({"resources": ["ticket/*", ""]}, "secret", {}, True),
    ({"scope": INTERNAL}, "read", {"n": "5"}, True),
    ({"scope": INTERNAL}, "secret", {}, False),
    ({"resources": ["move/a/b/c"]}, "move", {"a": "a/b", "b": "c"}, False),  # or is it "a" and "b/c"?
    ({"resources": ["move/*"]}, "move", {"a": "a", "b": "b/c"}, True),
]


def test_a_scope_is_all_that_a_task_may_touch(desk: Desk) -> None:
    for limits, name, arguments, admitted in LIMITS:
        with desk.session(**limits):
            if admitted:
                getattr(desk, name).invoke(arguments)
            else:
                assert desk.refused(getattr(desk, name), arguments) is ReasonCode.SCOPE, limits


def test_a_scope_gives_nothing_that_the_policy_does_not(desk: Desk) -> None:
    with desk.session(tools=["pay"]):
        assert desk.refused(desk.pay, {"n": 1}) is ReasonCode.NO_RULE


def test_nobody_is_asked_about_a_call_outside_of_the_scope(tmp_path: Path) -> None:
    channel = AnsweringChannel(approve=True)
    desk = Desk(tmp_path, channel=channel)
    with desk.guard, desk.session(agent="clerk", tools=["read"]):
        assert desk.refused(desk.pay, {"n": 1}) is ReasonCode.SCOPE
    assert not channel.asked


def test_a_model_learns_nothing_about_the_scope(desk: Desk) -> None:
    with desk.session(resources=["ticket/5"]), pytest.raises(AccessDeniedError) as caught:
        desk.read.invoke({"n": "6"})
    assert "scope" not in caught.value.message_for_model()
    assert "ticket/5" not in caught.value.message_for_model()


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"tools": ["pay"]}, "its tool is not among 'pay'"),
        ({"tools": []}, "its tool is not among (none)"),
        ({"resources": ["ticket/5"]}, "its resource is not within 'ticket/5'"),
        ({"resources": [f"ticket/{n}" for n in range(1, 6)]}, "'ticket/1', 'ticket/2', 'ticket/3', 2 more"),
        ({"scope": TaskScope(data_class=DataClass.PUBLIC)}, "what it returns is graver than 'public'"),
        ({"tools": ["pay"], "resources": ["ticket/\u202e5"]}, "'pay' and its resource is not within 'ticket/\\u202e5'"),
    ],
)
def test_an_operator_learns_which_part_of_the_scope_is_not_met(desk: Desk, limits: dict[str, Any], said: str) -> None:
    with desk.session(**limits), pytest.raises(AccessDeniedError) as caught:
        desk.read.invoke({"n": "6"})
    assert said in str(caught.value)
    assert "ticket/6" not in str(caught.value)  # what the model asked for is in the record alone


def test_a_tool_that_is_not_there_is_refused_when_the_session_is_opened(desk: Desk) -> None:
    with pytest.raises(ScopeError, match=r"no tool 'raed'\. Did you mean 'read'"):
        desk.session(tools=["raed"])
    with pytest.raises(ValueError, match="either a scope"):
        desk.session(tools=["read"], scope=TaskScope())


def test_rules_see_the_tenant_and_the_token_says_it(desk: Desk) -> None:
    with desk.session(tenant="north") as session:
        desk.read.invoke({"n": "5"})
        assert session.delegate(agent="research").claims.tenant == "north"
    with desk.session(tenant="south"):
        assert desk.refused(desk.read, {"n": "5"}) is ReasonCode.NO_RULE


# -- handing on -------------------------------------------------------------------------------------------------------


def test_a_delegate_works_on_the_same_task_for_the_same_user(desk: Desk) -> None:
    with desk.session(attributes={"a": 1}, intent="help") as outer:
        with outer.delegate(agent="research", tools=["read"], ttl=60) as inner:
            desk.read.invoke({"n": "5"})
            assert current_session() is inner
        assert current_session() is outer
    assert (inner.user, inner.claims.task, inner.intent) == (outer.user, outer.claims.task, "help")
    assert dict(inner.attributes) == {"a": 1}
    assert inner.claims.actors == ((inner.agent.id, inner.id), (outer.agent.id, outer.id))
    assert inner.claims.expires_at <= inner.claims.issued_at + 60
    assert desk.ran == [("read", "5", inner)]


async def test_it_is_entered_by_async_with_too(desk: Desk) -> None:
    async with desk.session() as outer, outer.delegate(agent="research") as inner:
        await desk.read.ainvoke({"n": "5"})
    assert desk.ran == [("read", "5", inner)]


@pytest.mark.parametrize("agent", ["archive", "helpdesk"])
def test_only_to_whom_the_policy_names(desk: Desk, agent: str) -> None:
    with desk.session() as outer, pytest.raises(DelegationError, match=r"agents\.helpdesk\.delegates"):
        outer.delegate(agent=agent)  # to itself neither, unless it is named


def test_a_chain_ends_where_the_policy_says_and_a_circle_with_it(desk: Desk) -> None:
    with desk.session(tools=["read"]) as one:
        two = one.delegate(agent="research")
        three = two.delegate(agent="helpdesk")
        assert three.claims.scope == one.claims.scope
        with pytest.raises(DelegationError, match=r"delegation\.depth"):
            three.delegate(agent="research")


def test_more_than_the_session_has_is_refused(desk: Desk) -> None:
    with desk.session(tools=["read"]) as outer:
        with pytest.raises(ScopeError):
            outer.delegate(agent="research", tools=["read", "secret"])
        inner = outer.delegate(agent="research", resources=["ticket/5"])
        assert inner.claims.scope == TaskScope(("read",), ("ticket/5",))


def test_the_delegates_own_rules_decide(tmp_path: Path) -> None:
    desk = Desk(tmp_path, channel=AnsweringChannel(approve=True))
    with desk.guard, desk.session() as outer:
        assert desk.refused(desk.pay, {"n": 1}) is ReasonCode.NO_RULE
        with outer.delegate(agent="clerk"):
            desk.pay.invoke({"n": 1})
            assert desk.refused(desk.read, {"n": "5"}) is ReasonCode.NO_RULE


def test_rules_see_the_whole_chain(desk: Desk) -> None:
    with desk.session(agent="research") as one, one.delegate(agent="archive"):
        desk.secret.invoke({})
        desk.move.invoke({"a": "a", "b": "b"})
    with desk.session() as one, one.delegate(agent="research") as two, two.delegate(agent="archive"):
        assert desk.refused(desk.secret, {}) is ReasonCode.RULE
        assert desk.refused(desk.move, {"a": "a", "b": "b"}) is ReasonCode.RULE


def test_the_end_of_a_session_is_the_end_of_all_that_came_from_it(desk: Desk) -> None:
    outer = desk.session()
    with outer:
        two = outer.delegate(agent="research")
        three = two.delegate(agent="archive")
    for ended in (two, three):
        with ended:
            assert desk.refused(desk.read, {"n": "5"}) is ReasonCode.IDENTITY
        with pytest.raises(TokenRevokedError):
            desk.guard.session_from_token(ended.token)
    with pytest.raises(DelegationError):
        outer.delegate(agent="research")


def test_a_delegate_that_ends_ends_nobody_else(desk: Desk) -> None:
    with desk.session() as outer:
        with outer.delegate(agent="research"):
            pass
        desk.read.invoke({"n": "5"})
        with outer.delegate(agent="research"):
            desk.read.invoke({"n": "6"})


def test_whoever_is_suspended_takes_along_all_who_act_on_its_word(desk: Desk) -> None:
    with desk.session() as one, one.delegate(agent="research") as two, two.delegate(agent="archive") as three:
        for name in [link.agent for link in three.chain]:
            desk.read.invoke({"n": "5"})
            desk.guard.registry.suspend(name)
            assert desk.refused(desk.read, {"n": "5"}) is ReasonCode.IDENTITY
            with pytest.raises(IdentityError):
                desk.guard.session_from_token(three.token)
            desk.guard.registry.resume(name)


def test_whatever_is_revoked_of_an_ancestor_is_revoked_of_its_delegates(desk: Desk) -> None:
    with desk.session() as one, one.delegate(agent="research"):
        for kind, value in {
            Revoked.SESSION: one.id,
            Revoked.AGENT: one.agent.id,
            Revoked.OWNER: "dana",  # of the ancestor alone
            Revoked.TASK: one.claims.task,
            Revoked.USER: "alice",
        }.items():
            desk.read.invoke({"n": "5"})
            made = desk.guard.revocations.revoke(kind, value, by="os:root", why="", now=time.time())
            assert desk.refused(desk.read, {"n": "5"}) is ReasonCode.REVOKED, kind
            desk.guard.revocations.lift(made.id, now=time.time())


@pytest.mark.parametrize("kind", list(Revoked))
def test_what_waits_for_a_human_is_withdrawn_with_whomever_it_was_asked_on_the_word_of(
    kind: Revoked, tmp_path: Path
) -> None:
    desk, asked = Desk(tmp_path, channel=DeferringChannel()), list[str]()
    store = desk.guard.desk.store

    def pay() -> None:
        with desk.guard.session(agent="clerk", on_behalf_of="bob"), pytest.raises(ApprovalPendingError) as pending:
            desk.pay.invoke({"n": 2})
        asked.append(pending.value.ticket)

    with desk.guard.session(agent="helpdesk", on_behalf_of="alice", task="ticket-7") as outer:
        with outer.delegate(agent="clerk"), pytest.raises(ApprovalPendingError) as pending:
            desk.pay.invoke({"n": 1})  # handed on
        asked.append(pending.value.ticket)
        desk.body = pay
        desk.ask.invoke({})  # called in a body
        with desk.guard.session(agent="clerk", on_behalf_of="bob"), pytest.raises(ApprovalPendingError) as pending:
            desk.pay.invoke({"n": 3})  # entered within nobody's call
    about = {
        Revoked.AGENT: outer.agent.id,
        Revoked.USER: "alice",
        Revoked.SESSION: outer.id,
        Revoked.TASK: "ticket-7",
        Revoked.TOKEN: outer.id,
        Revoked.OWNER: "dana",
        Revoked.ALL: "",
    }
    parts = {"revocations": desk.guard.revocations, "approvals": store, "audit": lambda: desk.guard.audit}
    stopped = stop(kind, [about[kind]], by="os:root", why="", now=time.time(), **parts)
    left = [] if kind is Revoked.ALL else [pending.value.ticket]
    assert not stopped.failures
    assert stopped.withdrawn == 3 - len(left)
    assert [each.id for each in store.pending(now=time.time())] == left
    assert {store.get(ticket).state for ticket in asked} == {ApprovalState.CANCELLED}


def test_another_process_knows_the_chain_and_the_scope(tmp_path: Path) -> None:
    key = SigningKey.generate()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    here, there = Desk(tmp_path / "a", signing_key=key), Desk(tmp_path / "b", signing_key=key)
    with here.guard, there.guard, here.session() as outer:
        token = outer.delegate(agent="research", tools=["read"]).token
        with there.guard.session_from_token(token) as known:
            there.read.invoke({"n": "5"})
            assert there.refused(there.secret, {}) is ReasonCode.SCOPE
            assert [link.agent for link in known.chain] == ["research", "helpdesk"]
        (decision, *_) = [record for record in there.records() if record["kind"] == "decision"]
        assert decision["delegation"] == [[known.agent.id, "alice"], [outer.agent.id, "alice"]]


def test_what_a_delegate_has_seen_those_above_have_seen(desk: Desk) -> None:
    with desk.session() as one:
        desk.secret.invoke({})
        with one.delegate(agent="research") as two:
            assert two.label.data_class is DataClass.RESTRICTED
            desk.read.invoke({"n": "5"})
        assert one.label.integrity is two.label.integrity is Integrity.UNTRUSTED


def test_a_delegate_that_waits_knows_what_those_above_have_seen_meanwhile(desk: Desk) -> None:
    with desk.session() as one:
        three = (two := one.delegate(agent="research")).delegate(agent="archive")
        desk.secret.invoke({})
        with two, three:
            assert two.label.data_class is three.label.data_class is DataClass.RESTRICTED


# -- evidence ---------------------------------------------------------------------------------------------------------


def test_a_delegate_entered_in_a_body_is_counted_once(desk: Desk) -> None:
    def body() -> str:
        permit = current_call()
        assert permit is not None
        assert permit.session is not None
        with permit.session.delegate(agent="research"):
            return str(desk.read.invoke({"n": "5"}))

    desk.body = body
    with desk.session() as outer:
        desk.ask.invoke({})
    chain = ("spiffe://acme.example/research", "spiffe://acme.example/helpdesk")
    spans = {span.name: span for span in desk.recorder.spans()}
    inner = spans["invoke_agent research"]
    assert inner.attributes["zt_agents.delegation.chain"] == chain
    assert inner.attributes["zt_agents.delegation.depth"] == 2
    assert spans["execute_tool read"].attributes["zt_agents.delegation.chain"] == chain
    assert inner.parent_id == spans["execute_tool ask"].span_id
    assert spans["execute_tool read"].parent_id == inner.span_id
    (read,) = [each for each in desk.records() if each["kind"] == "decision" and each["tool"] == "read"]
    assert read["delegation"] == [[chain[0], "alice"], [chain[1], "alice"]]
    assert [link.agent for link in outer.chain] == ["helpdesk"]


def test_each_delegation_is_on_record_once(desk: Desk) -> None:
    with desk.session() as outer, outer.delegate(agent="research", tools=["read"]) as inner:
        desk.read.invoke({"n": "5"})
        desk.read.invoke({"n": "6"})
    (record,) = [record for record in desk.records() if record["kind"] == "change"]
    assert record["change"] | {"expires_at": 0} == {
        "what": "delegation.made",
        "about": "research",
        "by": "helpdesk",
        "why": "",
        "session": inner.id,
        "task": outer.claims.task,
        "user": "alice",
        "actors": [[inner.agent.id, inner.id], [outer.agent.id, outer.id]],
        "scope": [{"type": "zt_agents_task_scope", "tools": ["read"]}],
        "expires_at": 0,
    }
    assert inner.token not in repr(desk.records())


# -- attacks ----------------------------------------------------------------------------------------------------------


def resigned(desk: Desk, session: Session, **changes: Any) -> str:
    """Return the session's token with other claims, as only the holder of the key can make it."""
    said = jwt.decode(session.token, options={"verify_signature": False})
    key = desk.guard.issuer.keys.current(time.time())
    headers = {"typ": "at+jwt", "kid": key.thumbprint}
    claims = {name: value for name, value in {**said, **changes}.items() if value is not None}
    return jwt.encode(claims, key.private, algorithm=key.algorithm, headers=headers)


def nested(actor: dict[str, Any], times: int) -> dict[str, Any]:
    act = actor
    for _ in range(times):
        act = {**actor, "act": act}
    return act


def test_a_chain_or_scope_that_is_not_understood_is_no_token(desk: Desk) -> None:
    with desk.session() as outer, outer.delegate(agent="research", tools=["read"]) as inner:
        act = jwt.decode(inner.token, options={"verify_signature": False})["act"]
        desk.guard.issuer.verify(resigned(desk, inner), now=time.time())  # the vector itself is good
        last = {name: value for name, value in act.items() if name != "act"}
        for changes in (
            {"act": {**act, "sub": "spiffe://acme.example/clerk"}},
            {"act": {**act, "sid": "another"}},
            {"act": {**act, "act": {**act["act"], "sid": ""}}},
            {"act": {**act, "act": {**act["act"], "iss": "https://evil.example"}}},
            {"act": {**act, "act": {**act["act"], "sub_profile": "human"}}},
            {"act": {**act, "act": {**act["act"], "may_act": {}}}},
            {"act": {**act, "act": [act["act"]]}},
            {"act": {**act, "act": {}}},
            {"act": {**act, "act": None}},
            {"act": [act]},
            {"act": nested(last, 8)},
            {"act": nested(last, 60)},
            {"client_id": "spiffe://acme.example/clerk"},
            {"jti": "another"},
            {"scope": "read"},
            {"may_act": {"sub": "x"}},
            {"tenant": 5},
            {"tenant": ""},
            {"authorization_details": []},
            {"authorization_details": [{"type": "zt_agents_task_scope", "tools": ["read"] * 2}]},
            {"authorization_details": [{"type": "zt_agents_task_scope", "tools": [f"{n:04}" for n in range(501)]}]},
        ):
            with pytest.raises(TokenInvalidError):
                desk.guard.issuer.verify(resigned(desk, inner, **changes), now=time.time())


def test_a_delegates_token_is_no_other_agents(desk: Desk) -> None:
    with desk.session() as outer:
        inner = outer.delegate(agent="research")
        with pytest.raises(TokenInvalidError):
            desk.guard.issuer.exchange(
                inner.token,
                delegator=desk.guard.registry.get("helpdesk"),
                actor=desk.guard.registry.get("clerk"),
                depth=3,
                now=time.time(),
            )
        inner._token = outer._token  # the caller's, whose rules are others
        with inner:
            assert desk.refused(desk.read, {"n": "5"}) is ReasonCode.IDENTITY
