"""Whoever is revoked calls nothing any more: not in an open session, nor after a wait, nor what was recorded before."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.tools import tool

from zt_agents import AccessDeniedError, ReasonCode, StoreChannel, current_call
from zt_agents.approvals import ApprovalState, StoredApproval
from zt_agents.errors import AuditError, StoreError, TokenRevokedError
from zt_agents.identity.revocations import MemoryRevocations, Revoked
from zt_agents.revocation import reinstate, stop, waiting
from zt_agents.sessions.session import Session
from zt_agents.testing import AnsweringChannel

HELPDESK = "spiffe://acme.example/agent/helpdesk"

OF: dict[Revoked, Callable[[Session], str]] = {
    Revoked.AGENT: lambda session: session.claims.agent_id,
    Revoked.USER: lambda session: session.user.id,
    Revoked.SESSION: lambda session: session.id,
    Revoked.TASK: lambda session: session.claims.task,
    Revoked.TOKEN: lambda session: session.id,
    Revoked.OWNER: lambda session: session.agent.owner,
    Revoked.ALL: lambda _: "",
}
BOTH = "  - {{id: the-rule, agents: [helpdesk, other], tools: [{}], outcome: allow}}"


def revoke(world: Any, kind: Revoked, value: str) -> Any:
    return world.guard.revocations.revoke(kind, value, by="os:root", why="key leaked", now=time.time())


def lift(world: Any) -> None:
    for each in world.guard.revocations.list():
        world.guard.revocations.lift(each.id, now=time.time())


@pytest.fixture
def ran() -> list[int]:
    return []


@pytest.fixture
def act(ran: list[int]) -> Any:
    @tool
    def act(a: int) -> str:
        """Act."""
        ran.append(a)
        return "done"

    return act


def test_every_kind_is_tested() -> None:
    assert OF.keys() == set(Revoked)


@pytest.mark.parametrize("use_async", [False, True])
def test_the_next_call_of_an_open_session_is_denied_until_it_is_reinstated(
    use_async: bool, make_world: Any, act: Any, ran: list[int]
) -> None:
    world = make_world(act)

    def call(a: int) -> None:
        asyncio.run(act.ainvoke({"a": a})) if use_async else act.invoke({"a": a})

    with world.session() as session:
        for kind, of in OF.items():
            call(1)
            made = revoke(world, kind, of(session))
            with pytest.raises(AccessDeniedError) as denied:
                call(2)
            assert denied.value.decision.reasons[0].code is ReasonCode.REVOKED
            assert made.id[:8] in str(denied.value)
            assert "key leaked" not in str(denied.value)
            assert "root" not in denied.value.message_for_model()
            world.guard.revocations.lift(made.id, now=time.time())
            call(3)
    assert ran == [1, 3] * len(OF)
    assert world.decisions() == [("allow", "rule"), ("deny", "revoked"), ("allow", "rule")] * len(OF)
    decided = [record for record in world.records() if record["kind"] == "decision"]
    assert {(each["agent"], each["user_id"]) for each in decided} == {("helpdesk", "alice@acme.example")}


def test_no_session_is_opened_for_what_is_revoked_and_any_for_the_rest(make_world: Any, act: Any) -> None:
    world = make_world(act)
    session = world.session(task="ticket-7")
    others: dict[Revoked, dict[str, str]] = {
        Revoked.AGENT: {"agent": "other"},
        Revoked.USER: {"on_behalf_of": "bob@acme.example"},
        Revoked.TASK: {"task": "ticket-8"},
    }
    for kind in (*others, Revoked.OWNER, Revoked.ALL):
        revoke(world, kind, OF[kind](session))
        with pytest.raises(TokenRevokedError, match="revoked by os:root"):
            world.session(task="ticket-7")
        if kind in others:
            world.session(**{"task": "ticket-7", **others[kind]})
        lift(world)


def test_a_revoked_token_opens_no_session(make_world: Any, act: Any) -> None:
    world = make_world(act)
    session = world.session()
    for kind, of in OF.items():
        assert world.guard.session_from_token(session.token) is session
        revoke(world, kind, of(session))
        with pytest.raises(TokenRevokedError):
            world.guard.session_from_token(session.token)
        lift(world)


def test_what_is_revoked_is_compared_exactly_and_by_its_kind(make_world: Any, act: Any, ran: list[int]) -> None:
    world = make_world(act)
    for kind, value in (
        (Revoked.AGENT, "helpdesk"),
        (Revoked.AGENT, f"{HELPDESK}/"),
        (Revoked.AGENT, "spiffe://acme.example/agent/other"),
        (Revoked.USER, "ALICE@acme.example"),
        (Revoked.USER, "alice@acme.example "),
        (Revoked.USER, "dana@acme.example"),
        (Revoked.OWNER, "alice@acme.example"),
        (Revoked.SESSION, HELPDESK),
        (Revoked.TASK, "alice@acme.example"),
    ):
        revoke(world, kind, value)
    with world.session():
        act.invoke({"a": 1})
    assert ran == [1]


def test_a_session_within_a_revoked_one_falls_with_it(make_world: Any, act: Any, ran: list[int]) -> None:
    @tool
    def hand_over(kind: str) -> str:
        """Let the other agent act."""
        outer = current_call().session  # type: ignore[union-attr]
        with world.session(agent="other", on_behalf_of="bob@acme.example"):
            act.invoke({"a": 1})
            revoke(world, Revoked(kind), OF[Revoked(kind)](outer))
            with pytest.raises(AccessDeniedError, match="revoked"):
                act.invoke({"a": 2})
        return ""

    world = make_world(act, hand_over, rules=BOTH.format("act, hand_over"))
    for kind in OF:
        with world.session():
            hand_over.invoke({"kind": kind})
        lift(world)
    assert ran == [1] * len(OF)


@pytest.mark.parametrize("use_async", [False, True])
def test_a_recorded_result_is_not_returned_again(
    use_async: bool, make_world: Any, act: Any, ran: list[int]
) -> None:
    world = make_world(act)
    call = {"type": "tool_call", "name": "act", "args": {"a": 1}, "id": "call-1"}
    with world.session():
        act.invoke(call)
        assert act.invoke(call).content == "done"
        revoke(world, Revoked.USER, "alice@acme.example")
        with pytest.raises(AccessDeniedError, match="revoked"):
            asyncio.run(act.ainvoke(call)) if use_async else act.invoke(call)
    assert ran == [1]


@pytest.mark.parametrize("use_async", [False, True])
def test_a_stream_ends_at_its_next_step(use_async: bool, make_world: Any) -> None:
    @tool
    def steps() -> Any:
        """Take steps."""

        async def atake() -> Any:
            for step in range(3):
                yield step

        def take() -> Iterator[int]:
            yield from range(3)

        return atake() if use_async else take()

    world = make_world(steps)

    async def read() -> list[int]:
        with world.session():
            stream = steps.invoke({})
            seen = [await anext(stream) if use_async else next(stream)]
            revoke(world, Revoked.AGENT, HELPDESK)
            with pytest.raises(AccessDeniedError, match="revoked"):
                seen.append(await anext(stream) if use_async else next(stream))
            return seen

    assert asyncio.run(read()) == [0]
    assert world.decisions() == [("allow", "rule"), ("deny", "revoked")]


def test_a_long_body_asks_again_and_stops_itself(make_world: Any) -> None:
    done: list[int] = []

    @tool
    def long() -> str:
        """Take long."""
        for step in range(3):
            current_call().check()  # type: ignore[union-attr]
            done.append(step)
            if step == 1:
                revoke(world, Revoked.AGENT, HELPDESK)
        return ""

    world = make_world(long)
    with world.session(), pytest.raises(AccessDeniedError, match="revoked"):
        long.invoke({})
    assert done == [0, 1]
    assert [r["error_type"] for r in world.records() if r["kind"] == "outcome"] == ["AccessDeniedError"]


@pytest.mark.parametrize("use_async", [False, True])
def test_whoever_is_revoked_while_a_human_decides_gets_no_body(
    use_async: bool, make_world: Any, act: Any, ran: list[int]
) -> None:
    """The human is at the terminal, say, and says yes a moment after the revocation."""

    def yes_too_late(_: Any) -> bool:
        revoke(world, Revoked.USER, "alice@acme.example")
        return True

    world = make_world(act, tier="high", channel=AnsweringChannel(yes_too_late))
    with world.session(), pytest.raises(AccessDeniedError, match="revoked"):
        asyncio.run(act.ainvoke({"a": 1})) if use_async else act.invoke({"a": 1})
    assert ran == []
    assert world.decisions() == [("require_approval", "high_tier"), ("deny", "revoked")]


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize("kind", [Revoked.USER, Revoked.OWNER])
def test_who_waits_for_an_approval_is_woken_and_denied(
    kind: Revoked, use_async: bool, make_world: Any, act: Any, ran: list[int]
) -> None:
    world = make_world(act, tier="high", rules=BOTH.format("act"), channel=StoreChannel())
    denials: list[AccessDeniedError] = []
    store = world.guard.desk.store

    def call(session: Session) -> None:
        with session:
            try:
                asyncio.run(act.ainvoke({"a": 1})) if use_async else act.invoke({"a": 1})
            except AccessDeniedError as denial:
                denials.append(denial)

    session, bystander = world.session(), world.session(agent="other", on_behalf_of="bob@acme.example")
    threads = [threading.Thread(target=call, args=(each,)) for each in (session, bystander)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 10
    while len(store.pending()) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    parts = {"revocations": world.guard.revocations, "approvals": store, "audit": lambda: world.guard.audit}
    stopped = stop(kind, [OF[kind](session)], by="os:root", why="", now=time.time(), **parts)
    threads[0].join(1)
    assert not threads[0].is_alive()
    assert denials[0].decision.reasons[0].code is ReasonCode.REVOKED
    assert (stopped.withdrawn, len(store.pending())) == ((2, 0) if kind is Revoked.OWNER else (1, 1))
    for left in store.pending():
        store.settle(left.id, ApprovalState.CANCELLED, now=time.time())
    threads[1].join(5)
    assert not threads[1].is_alive()
    assert ran == []


def test_every_kind_is_found_among_what_waits(make_world: Any, act: Any) -> None:
    asked: list[Any] = []
    world = make_world(act, tier="high", channel=AnsweringChannel(lambda request: bool(asked.append(request))))
    store: Any = SimpleNamespace(
        pending=lambda **_: [StoredApproval(r.id, r.binding_hash, ApprovalState.PENDING, r) for r in asked]
    )
    with world.session() as session, pytest.raises(AccessDeniedError):
        act.invoke({"a": 1})
    for kind, of in OF.items():
        made = revoke(world, kind, of(session))
        assert [each.id for each in waiting(made, store, now=time.time())] == [asked[0].id]
        if kind is not Revoked.ALL:
            assert not waiting(revoke(world, kind, f"{of(session)}x"), store, now=time.time())


def test_what_an_agent_asked_is_withdrawn_with_the_owner_that_it_was_given_meanwhile(
    make_world: Any, act: Any
) -> None:
    asked: list[Any] = []
    world = make_world(act, tier="high", channel=AnsweringChannel(lambda request: bool(asked.append(request))))
    with world.session(), pytest.raises(AccessDeniedError):
        act.invoke({"a": 1})
    call = asked[0].call
    agent = replace(call.agent, owner="kim@acme.example")
    moved = replace(asked[0], call=call._replace(agent=agent))
    store: Any = SimpleNamespace(
        pending=lambda **_: [StoredApproval("1", moved.binding_hash, ApprovalState.PENDING, moved)]
    )
    assert waiting(revoke(world, Revoked.OWNER, "kim@acme.example"), store, now=time.time())
    assert not waiting(revoke(world, Revoked.OWNER, "bo@acme.example"), store, now=time.time())


def stop_helpdesk(world: Any, revocations: Any, *more: str) -> Any:
    parts = {"revocations": revocations, "approvals": world.guard.desk.store, "audit": lambda: world.guard.audit}
    return stop(Revoked.AGENT, [HELPDESK, *more], by="os:root", why="odd calls", now=1.0, **parts)


def test_stopping_and_reinstating_are_on_record(make_world: Any, act: Any) -> None:
    world = make_world(act)
    revocations = world.guard.revocations
    (made,), _, missed, failures = stop_helpdesk(world, revocations)
    assert missed == failures == ()
    how = {"by": "os:dana", "now": 2.0, "revocations": revocations, "audit": world.guard.audit}
    assert reinstate(made, why="all is well", **how)
    assert not reinstate(made, why="again", **how)
    changes = [record["change"] for record in world.records() if record["kind"] == "change"]
    assert [(each["what"], each["by"], each["why"]) for each in changes][:2] == [
        ("revocation.made", "os:root", "odd calls"),
        ("revocation.lifted", "os:dana", "all is well"),
    ]
    assert {(each["about"], each["kind"], each["id"]) for each in changes} == {(HELPDESK, "agent", made.id)}


def test_a_log_that_cannot_be_written_keeps_nobody_from_revoking_but_from_reinstating(
    make_world: Any, act: Any
) -> None:
    world = make_world(act)
    revocations = world.guard.revocations
    world.guard.audit.close()
    stopped = stop_helpdesk(world, revocations)
    assert list(revocations.list()) == list(stopped.revoked)
    assert [type(each).__name__ for each in stopped.failures] == ["AuditWriteError"]
    with pytest.raises(AuditError):
        reinstate(
            *stopped.revoked, by="os:dana", why="", now=2.0, revocations=revocations, audit=world.guard.audit
        )
    assert list(revocations.list()) == list(stopped.revoked)


def test_what_could_not_be_revoked_is_said_and_the_rest_is_in_force(make_world: Any, act: Any) -> None:
    world = make_world(act)

    class Full(MemoryRevocations):
        def revoke(self, kind: Revoked, value: str, **how: Any) -> Any:
            if value != HELPDESK:
                raise StoreError("The disk is full.")
            return super().revoke(kind, value, **how)

    stopped = stop_helpdesk(world, Full(), "spiffe://acme.example/agent/other")
    assert [each.value for each in stopped.revoked] == [HELPDESK]
    assert stopped.missed == ("spiffe://acme.example/agent/other",)
    assert [each.message for each in stopped.failures] == ["The disk is full."]


def test_a_store_that_nobody_can_read_denies(make_world: Any, act: Any, ran: list[int]) -> None:
    world = make_world(act)

    class Unreadable(MemoryRevocations):
        def find(self, bearing: Any, *, now: float) -> Any:
            raise StoreError("Nobody can tell what was revoked.")

    with world.session():
        world.guard.revocations = Unreadable()
        with pytest.raises(AccessDeniedError, match="Nobody can tell"):
            act.invoke({"a": 1})
        with pytest.raises(StoreError):
            world.session()
    assert ran == []
    assert world.decisions() == [("deny", "identity")]
