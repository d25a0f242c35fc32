"""Agents that are stopped while they run, that changed since they were accepted, or come back under an old id."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import tool
from world import HEAD, World, records_of

from zt_agents import Guard
from zt_agents.decisions import Outcome, ReasonCode
from zt_agents.errors import AccessDeniedError, AgentChangeError, AgentInactiveError, AuditError, ConfigurationError
from zt_agents.identity import AgentStatus
from zt_agents.identity.lifecycle import Absence, accept, move
from zt_agents.identity.manifests import Manifest, difference_hash
from zt_agents.stores.sqlite_agents import NAME, SqliteAgentStore
from zt_agents.testing import AnsweringChannel, write_policy

MakeWorld = Callable[..., World]


@tool
def add(a: int) -> int:
    """Add one."""
    return a + 1


@tool
def count_up(to: int) -> Any:
    """Count."""
    yield from range(to)


def administrator(world: World) -> SqliteAgentStore:
    """Return the store as another process opens it."""
    return SqliteAgentStore(world.policy.with_name(NAME))


def put(world: World, status: AgentStatus) -> None:
    agent = world.guard.policy.agents["helpdesk"]
    administrator(world).change(agent.id, move(agent, status))


def accept_now(world: World) -> None:
    agent = world.guard.policy.agents["helpdesk"]
    store = administrator(world)
    state = store.read().agents[agent.id]
    assert state.observed is not None
    shown = difference_hash(agent.id, state.accepted, state.observed)
    store.change(agent.id, accept(agent, shown, by=agent.owner, at=1))


def denied(world: World, call: Callable[[], Any]) -> ReasonCode:
    with pytest.raises(AccessDeniedError) as caught:
        call()
    assert world.decisions()[-1] == ("deny", caught.value.decision.reasons[0].code)
    return caught.value.decision.reasons[0].code


@pytest.mark.parametrize("status", [AgentStatus.SUSPENDED, AgentStatus.RETIRED])
def test_one_that_is_stopped_elsewhere_makes_no_further_call_in_an_open_session(
    make_world: MakeWorld, status: AgentStatus
) -> None:
    world = make_world(plus := add.model_copy())
    with world.session():
        assert plus.invoke({"a": 1}) == 2
        put(world, status)
        assert denied(world, lambda: plus.invoke({"a": 1})) is ReasonCode.IDENTITY
        with pytest.raises(AgentInactiveError):
            world.session()
        if status is AgentStatus.RETIRED:
            with pytest.raises(AgentInactiveError):
                world.guard.registry.resume("helpdesk")
            assert denied(world, lambda: plus.invoke({"a": 2})) is ReasonCode.IDENTITY


def test_one_that_is_stopped_in_the_middle_of_a_stream_gets_no_further_step(make_world: MakeWorld) -> None:
    world = make_world(up := count_up.model_copy())
    with world.session():
        stream: Iterator[int] = up.invoke({"to": 3})
        assert next(stream) == 0
        put(world, AgentStatus.SUSPENDED)
        with pytest.raises(AccessDeniedError):
            next(stream)


def test_one_that_is_stopped_while_a_human_is_asked_is_not_let_through(make_world: MakeWorld) -> None:
    def stop_and_approve(_: object) -> bool:
        put(world, AgentStatus.SUSPENDED)
        return True

    world = make_world(plus := add.model_copy(), outcome="require_approval", channel=AnsweringChannel(stop_and_approve))
    with world.session():
        assert denied(world, lambda: plus.invoke({"a": 1})) is ReasonCode.IDENTITY


def test_one_that_changes_while_a_human_is_asked_is_not_let_through(make_world: MakeWorld) -> None:
    def change_and_approve(_: object) -> bool:
        world.guard.observe("helpdesk", prompt="Obey the mail.")
        return True

    world = make_world(
        plus := add.model_copy(), outcome="require_approval", channel=AnsweringChannel(change_and_approve)
    )
    world.guard.observe("helpdesk", prompt="Be kind.")
    accept_now(world)
    with world.session():
        assert denied(world, lambda: plus.invoke({"a": 1})) is ReasonCode.UNDER_REVIEW


def test_an_owner_who_left_is_noticed_at_the_call_by_the_guard_s_clock(make_world: MakeWorld) -> None:
    now = [1_800_000_000.0]
    world = make_world(plus := add.model_copy(), clock=lambda: now[0])
    administrator(world).leave(Absence("DANA@acme.example", now[0]))
    with world.session(ttl=3600):
        assert plus.invoke({"a": 1}) == 2
    now[0] += 7 * 86_400 - 10
    with world.session(ttl=3600):
        assert plus.invoke({"a": 2}) == 3
        now[0] += 10
        assert denied(world, lambda: plus.invoke({"a": 3})) is ReasonCode.IDENTITY


@pytest.mark.parametrize("harm", ["garbage", "empty", "gone"])
def test_a_store_that_cannot_be_read_denies_and_that_is_on_record(make_world: MakeWorld, harm: str) -> None:
    world = make_world(plus := add.model_copy())
    with world.session():
        put(world, AgentStatus.ACTIVE)
        assert plus.invoke({"a": 1}) == 2
        path = administrator(world).path
        whole = path.read_bytes()
        if harm == "gone":
            path.unlink()
        else:
            path.write_bytes(b"x" * 5000 if harm == "garbage" else b"")
        assert denied(world, lambda: plus.invoke({"a": 2})) is ReasonCode.IDENTITY
        path.unlink(missing_ok=True)
        path.write_bytes(whole)
        assert plus.invoke({"a": 3}) == 4, "it is tried again with each call"


def test_a_changed_agent_is_denied_until_its_owner_accepts_what_it_is(make_world: MakeWorld) -> None:
    world = make_world(plus := add.model_copy())
    guard = world.guard
    guard.observe("helpdesk", model="m-1", prompt="Be kind.", integration="own 1.0")
    with world.session():
        assert plus.invoke({"a": 1}) == 2, "never accepted is noted only"
        accept_now(world)
        assert plus.invoke({"a": 2}) == 3
        guard.observe("helpdesk", model="m-2", prompt="Be kind.", integration="own 1.0")
        assert denied(world, lambda: plus.invoke({"a": 3})) is ReasonCode.UNDER_REVIEW
        accept_now(world)
        assert plus.invoke({"a": 4}) == 5
    what = [record["change"]["what"] for record in world.records() if record["kind"] == "change"]
    assert what == ["agent.changed"]
    assert "Be kind" not in str(world.records())


@pytest.mark.parametrize(("tier", "raised"), [("low", "medium"), ("medium", "high"), ("high", "high")])
def test_raised_by_one_tier_a_call_is_decided_as_such(make_world: MakeWorld, tier: str, raised: str) -> None:
    channel = AnsweringChannel(approve=True)
    world = make_world(plus := add.model_copy(), tier=tier, channel=channel)
    text = world.policy.read_text().replace("purpose: tests}", "purpose: tests, on_change: raise_tier}", 1)
    world.policy.write_text(text)
    with Guard.from_config(world.policy, channel=channel, tracer_provider=world.recorder.provider) as guard:
        guard.protect([mine := add.model_copy()])
        with guard.session(agent="helpdesk", on_behalf_of="alice@acme.example"):
            assert mine.invoke({"a": 1}) == 2
        decision = next(record for record in world.records() if record["kind"] == "decision")
    assert decision["tier"] == raised
    assert ReasonCode.UNDER_REVIEW in [code for code, *_ in decision["reasons"]]
    assert len(channel.asked) == (raised == "high")
    with world.session():
        assert plus.invoke({"a": 1}) == 2


def test_what_one_session_saw_does_not_speak_for_another(make_world: MakeWorld) -> None:
    world = make_world(plus := add.model_copy())
    world.guard.observe("helpdesk", prompt="Be kind.")
    accept_now(world)
    good, bad = world.session(), world.session()
    world.guard.observe("helpdesk", prompt="Be kind.", session=good)
    world.guard.observe("helpdesk", prompt="Obey the mail.", session=bad)
    with good:
        assert plus.invoke({"a": 1}) == 2
    with bad:
        assert denied(world, lambda: plus.invoke({"a": 1})) is ReasonCode.UNDER_REVIEW
        world.guard.observe("helpdesk", prompt="Be kind.", session=bad)
        assert denied(world, lambda: plus.invoke({"a": 2})) is ReasonCode.UNDER_REVIEW, "it may have been told anything"


def test_of_many_who_accept_at_once_one_does(make_world: MakeWorld) -> None:
    world = make_world(add.model_copy())
    world.guard.observe("helpdesk", prompt="Be kind.")
    agent = world.guard.policy.agents["helpdesk"]
    observed = administrator(world).read().agents[agent.id].observed
    assert observed is not None
    shown, outcomes = difference_hash(agent.id, None, observed), list[str]()

    def take() -> None:
        try:
            administrator(world).change(agent.id, accept(agent, shown, by=agent.owner, at=1))
            outcomes.append("accepted")
        except AgentChangeError:
            outcomes.append("refused")

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["accepted", *["refused"] * 5]


def test_the_id_of_another_is_not_declared_again(tmp_path: Path) -> None:
    entry = "{tier: low, effects: [read]}"
    text = f"{HEAD}tools:\n  add: {entry}\nrules:\n  - {{id: r, agents: [helpdesk], tools: [add], outcome: allow}}\n"
    path = write_policy(tmp_path, text, [add])
    with Guard.from_config(path) as guard:
        agent = guard.policy.agents["helpdesk"]
        guard.registry.suspend("helpdesk")
    SqliteAgentStore(tmp_path / NAME).change(agent.id, move(agent, AgentStatus.RETIRED))
    with Guard.from_config(path) as guard, pytest.raises(AgentInactiveError, match="retired"):
        guard.session(agent="helpdesk", on_behalf_of="alice")
    path.write_text(text.replace("helpdesk: {", "newcomer: {").replace("[helpdesk]", "[newcomer]"))
    with pytest.raises(ConfigurationError, match="is, or was, that of agent 'helpdesk'"):
        Guard.from_config(path)


def test_whoever_stops_an_agent_is_on_record_and_lets_it_act_again_on_record_first(make_world: MakeWorld) -> None:
    world = make_world(add.model_copy())
    world.guard.registry.suspend("helpdesk")
    world.guard.registry.resume("helpdesk")
    put(world, AgentStatus.RETIRED)
    with pytest.raises(AgentInactiveError):
        world.guard.registry.resume("helpdesk")
    changes = [record["change"] for record in world.records() if record["kind"] == "change"]
    assert [change["what"] for change in changes] == ["agent.suspended", "agent.resumed"]
    assert all(change["about"] == "helpdesk" and change["by"].startswith("os:") for change in changes)


def test_a_list_of_tools_holds_in_the_guard(make_world: MakeWorld) -> None:
    world = make_world(add.model_copy(), count_up.model_copy())
    text = world.policy.read_text().replace("purpose: tests}", "purpose: tests, tools: [add]}", 1)
    world.policy.write_text(text)
    with Guard.from_config(world.policy) as guard:
        guard.protect([up := count_up.model_copy()])
        with guard.session(agent="helpdesk", on_behalf_of="alice"), pytest.raises(AccessDeniedError) as caught:
            up.invoke({"to": 1})
    assert caught.value.decision.outcome is Outcome.DENY
    assert "whatever rules say" in str(caught.value)


def test_nobody_acts_again_when_that_cannot_be_put_on_record(make_world: MakeWorld) -> None:
    world = make_world(add.model_copy())
    world.guard.registry.suspend("helpdesk")
    world.guard.audit.close()
    with pytest.raises(AuditError):
        world.guard.registry.resume("helpdesk")
    assert world.guard.registry.get("helpdesk").status is AgentStatus.SUSPENDED
    world.guard.registry.suspend("helpdesk")


@pytest.mark.parametrize("handed_on", [False, True], ids=["own session", "delegated"])
@pytest.mark.parametrize("what", ["suspended", "denied", "raised"])
def test_who_goes_on_at_another_s_word_falls_with_them(tmp_path: Path, handed_on: bool, what: str) -> None:
    """A changed or suspended agent would otherwise let a sub-agent do what it may not do itself."""
    bodies: list[Callable[[], Any]] = []

    @tool
    def ask(n: int) -> str:
        """Ask another agent."""
        bodies[0]()
        return "asked"

    head = HEAD.replace("purpose: tests}", f"purpose: tests{', delegates: [other]' if handed_on else ''}}}", 1)
    head = head.replace("purpose: tests", "purpose: tests, on_change: raise_tier", 1) if what == "raised" else head
    entry = "{tier: low, effects: [read], data_class: public, integrity: trusted}"
    rules = "rules:\n  - {id: r, agents: [helpdesk, other], tools: [ask, add], outcome: allow}\n"
    plus = add.model_copy()
    path = write_policy(tmp_path, f"{head}tools:\n  ask: {entry}\n  add: {entry}\n{rules}", [ask, plus])
    with Guard.from_config(path) as guard:
        guard.protect([ask, plus])
        store, agent = SqliteAgentStore(tmp_path / NAME), guard.policy.agents["helpdesk"]
        guard.observe("helpdesk", prompt="Be kind.")
        store.change(
            agent.id, accept(agent, difference_hash(agent.id, None, _seen(store, agent.id)), by=agent.owner, at=1)
        )
        front = guard.session(agent="helpdesk", on_behalf_of="alice")
        tiers: list[str] = []

        def body() -> None:
            sub = front.delegate(agent="other") if handed_on else guard.session(agent="other", on_behalf_of="alice")
            with sub:
                assert plus.invoke({"a": 1}) == 2
                if what == "suspended":
                    store.change(agent.id, move(agent, AgentStatus.SUSPENDED))
                else:
                    guard.observe("helpdesk", prompt="Obey the mail.", session=front)
                    guard.observe("helpdesk", prompt="Be kind.")  # what another session of the process sees
                if what == "raised":
                    assert plus.invoke({"a": 2}) == 3
                    return
                with pytest.raises(AccessDeniedError) as caught:
                    plus.invoke({"a": 2})
                tiers.append(caught.value.decision.reasons[0].code)

        bodies.append(body)
        with front:
            ask.invoke({"n": 1})
        decided = [r for r in records_of(guard) if r["kind"] == "decision" and r["tool"] == "add"]
    if what == "raised":
        assert [record["tier"] for record in decided] == ["low", "medium"]
    else:
        assert tiers == [ReasonCode.IDENTITY if what == "suspended" else ReasonCode.UNDER_REVIEW]


def _seen(store: SqliteAgentStore, agent_id: str) -> Manifest:
    observed = store.read().agents[agent_id].observed
    assert observed is not None
    return observed
