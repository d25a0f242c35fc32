"""How an agent stands: what the policy says, what is stored, who its owner is, what they have accepted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zt_agents.errors import AgentChangeError, AgentInactiveError, StoreError, UnknownAgentError
from zt_agents.identity import Agent, AgentRegistry, AgentStatus
from zt_agents.identity.lifecycle import (
    RESTRICTION,
    Absence,
    AgentState,
    AgentStore,
    MemoryAgentStore,
    Stored,
    accept,
    move,
    observe,
    register,
    transfer,
)
from zt_agents.identity.manifests import Manifest, difference_hash, prompt_hash
from zt_agents.identity.principals import OnChange
from zt_agents.stores.sqlite_agents import SqliteAgentStore

AGENT = Agent("helpdesk", "spiffe://acme.example/agent/helpdesk", "1", "dana@acme.example", "tests")
ONE = Manifest("1", "test", "model", prompt_hash("one"), {"search": "sha256:1"})
TWO = replace(ONE, prompt=prompt_hash("two"))

Open = Callable[[], AgentStore]


@pytest.fixture(params=["memory", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Return what opens one store, as another process would where that is possible."""
    if request.param == "memory":
        store = MemoryAgentStore()
        return lambda: store
    return lambda: SqliteAgentStore(tmp_path / "agents.db")


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def registry(opened: Open, agent: Agent = AGENT, **parts: object) -> AgentRegistry:
    return AgentRegistry({agent.name: agent}, store=opened(), environment="test", **parts)  # type: ignore[arg-type]


def accepted(store: AgentStore, manifest: Manifest, agent: Agent = AGENT) -> None:
    """Let the owner accept *manifest*."""
    state = store.change(agent.id, observe(agent, manifest, 1))
    assert state.observed is not None
    shown = difference_hash(agent.id, state.accepted, state.observed)
    store.change(agent.id, accept(agent, shown, by=agent.owner, at=2))


def test_a_suspension_holds_at_once_and_in_every_registry_that_shares_the_store(opened: Open) -> None:
    here, there = registry(opened), registry(opened)
    assert there.active(AGENT.id) == AGENT
    here.suspend("helpdesk")
    for each in (here, there, registry(opened)):
        with pytest.raises(AgentInactiveError, match="suspended"):
            each.active(AGENT.id)
        assert each.get("helpdesk").status is AgentStatus.SUSPENDED
    there.resume("helpdesk")
    assert here.active(AGENT.id) == AGENT


def test_changes_faster_than_a_file_s_time_are_all_seen(tmp_path: Path) -> None:
    here, there = (registry(lambda: SqliteAgentStore(tmp_path / "agents.db")) for _ in range(2))
    for _ in range(10):
        here.suspend("helpdesk")
        with pytest.raises(AgentInactiveError):
            there.active(AGENT.id)
        here.resume("helpdesk")
        there.active(AGENT.id)


def test_retired_is_for_good(opened: Open) -> None:
    old, store = registry(opened), opened()
    old.active(AGENT.id)
    store.change(AGENT.id, move(AGENT, AgentStatus.RETIRED))
    for change in (old.resume, old.suspend):
        with pytest.raises(AgentInactiveError, match="retired"):
            change("helpdesk")
    for status in (AgentStatus.ACTIVE, AgentStatus.SUSPENDED, AgentStatus.REGISTERED):
        with pytest.raises(AgentInactiveError, match="retired"):
            store.change(AGENT.id, move(AGENT, status))
    with pytest.raises(AgentInactiveError, match="retired"):
        old.active(AGENT.id)


@given(st.sampled_from(AgentStatus), st.sampled_from(AgentStatus))
def test_the_more_restrictive_status_holds(declared: AgentStatus, stored: AgentStatus) -> None:
    store = MemoryAgentStore()
    store.change(AGENT.id, move(AGENT, stored))
    status = registry(lambda: store, replace(AGENT, status=declared)).get("helpdesk").status
    assert RESTRICTION[status] == max(RESTRICTION[declared], RESTRICTION[stored])


@given(st.lists(st.sampled_from(AgentStatus), min_size=1))
def test_no_way_leads_back_from_retired(steps: list[AgentStatus]) -> None:
    store = MemoryAgentStore()
    for status in steps:
        before = store.read().agents.get(AGENT.id)
        gone = before is not None and before.status is AgentStatus.RETIRED
        new = before is not None and before.status is AgentStatus.REGISTERED
        try:
            store.change(AGENT.id, move(AGENT, status))
        except AgentInactiveError:
            assert gone or (new and status is AgentStatus.SUSPENDED)
        assert not gone or store.read().agents[AGENT.id].status is AgentStatus.RETIRED


def test_what_the_policy_suspends_nobody_resumes(opened: Open) -> None:
    suspended = registry(opened, replace(AGENT, status=AgentStatus.SUSPENDED))
    with pytest.raises(AgentInactiveError, match="policy suspends"):
        suspended.resume("helpdesk")


def test_one_that_was_registered_waits_to_be_activated(opened: Open) -> None:
    opened().change(AGENT.id, register(AGENT))
    there = registry(opened)
    with pytest.raises(AgentInactiveError, match="registered"):
        there.active(AGENT.id)
    with pytest.raises(AgentInactiveError, match="never activated"):
        there.resume("helpdesk")
    with pytest.raises(AgentInactiveError, match="nothing to suspend"):  # or it could be resumed after that
        there.suspend("helpdesk")
    with pytest.raises(AgentInactiveError, match="never activated"):
        there.resume("helpdesk")
    opened().change(AGENT.id, move(AGENT, AgentStatus.ACTIVE))
    assert there.active(AGENT.id).owner == AGENT.owner


@pytest.mark.parametrize(
    "other",
    [
        replace(AGENT, name="another"),
        replace(AGENT, id="spiffe://acme.example/agent/another"),
        replace(AGENT, id="spiffe://acme.example/agent/another", name="HELPDESK"),
    ],
)
def test_neither_id_nor_name_is_used_again(opened: Open, other: Agent) -> None:
    store = opened()
    store.change(AGENT.id, register(AGENT))
    store.change(AGENT.id, move(AGENT, AgentStatus.RETIRED))
    with pytest.raises(AgentChangeError, match="is, or was"):
        opened().change(other.id, register(other))
    assert store.read().agents.keys() == {AGENT.id}


def test_who_is_not_known_is_not_changed(opened: Open) -> None:
    for change in (registry(opened).suspend, registry(opened).resume, registry(opened).get):
        with pytest.raises(UnknownAgentError, match="Did you mean 'helpdesk'"):
            change("helpdsk")
    with pytest.raises(UnknownAgentError):
        registry(opened).active("spiffe://acme.example/agent/other")


# -- owners -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["DANA@acme.example", " dana@ACME.example ", "ｄana@acme.example"])
def test_an_owner_who_left_leaves_a_grace_period(opened: Open, said: str) -> None:
    clock = Clock()
    here = registry(opened, clock=clock, grace=100)
    here.active(AGENT.id)
    opened().leave(Absence(said, clock.now))
    here.active(AGENT.id)
    clock.now += 99.9
    here.active(AGENT.id)
    clock.now += 0.1
    with pytest.raises(AgentInactiveError, match="owner of agent 'helpdesk' left"):
        here.active(AGENT.id)
    assert opened().come_back(AGENT.owner)
    here.active(AGENT.id)
    assert not opened().come_back(AGENT.owner)


def test_a_clock_that_is_set_back_brings_nobody_back(opened: Open) -> None:
    clock = Clock()
    here = registry(opened, clock=clock, grace=100)
    opened().leave(Absence(AGENT.owner, clock.now - 100))
    for _ in range(2):
        with pytest.raises(AgentInactiveError):
            here.active(AGENT.id)
        clock.now -= 1_000


def test_a_registered_agent_gets_another_owner(opened: Open) -> None:
    store, here = opened(), registry(opened, clock=Clock(), grace=1)
    store.change(AGENT.id, register(AGENT))
    store.change(AGENT.id, move(AGENT, AgentStatus.ACTIVE))
    store.leave(Absence(AGENT.owner, 0))
    with pytest.raises(AgentInactiveError):
        here.active(AGENT.id)
    with pytest.raises(AgentChangeError, match="left"):
        store.change(AGENT.id, transfer(AGENT, "Dana@acme.example"))
    store.change(AGENT.id, transfer(AGENT, "erin@acme.example"))
    assert here.active(AGENT.id).owner == "erin@acme.example"


def test_nobody_who_left_answers_for_a_new_agent(opened: Open) -> None:
    store = opened()
    store.leave(Absence(AGENT.owner, 0))
    with pytest.raises(AgentChangeError, match="left"):
        store.change(AGENT.id, register(replace(AGENT, owner="Dana@acme.example")))
    store.come_back(AGENT.owner)
    assert store.change(AGENT.id, register(AGENT)).status is AgentStatus.REGISTERED


def test_the_owner_of_a_declared_agent_is_changed_in_the_policy(opened: Open) -> None:
    with pytest.raises(AgentChangeError, match=r"agents\.helpdesk\.owner"):
        opened().change(AGENT.id, transfer(AGENT, "erin@acme.example"))


# -- what an agent is made of ---------------------------------------------------------------------------------------


def test_what_was_never_accepted_is_noted_only(opened: Open) -> None:
    here, there = registry(opened), registry(opened)
    here.observe("helpdesk", ONE)
    there.observe("helpdesk", TWO)
    assert here.active(AGENT.id, (ONE, TWO)).under_review is None
    assert here.standing("helpdesk").state.observed == TWO


def test_what_was_accepted_is_held_to(opened: Open) -> None:
    accepted(opened(), ONE)
    here = registry(opened)
    assert here.active(AGENT.id).under_review is None
    assert here.active(AGENT.id, (ONE,)).under_review is None
    assert here.active(AGENT.id, (TWO,)).under_review is OnChange.DENY
    here.observe("helpdesk", TWO)
    assert here.active(AGENT.id).under_review is OnChange.DENY
    assert here.active(AGENT.id, (ONE,)).under_review is None, "what the session saw counts first"
    accepted(opened(), TWO)
    assert here.active(AGENT.id).under_review is None
    assert here.active(AGENT.id, (ONE,)).under_review is OnChange.DENY, "one manifest is accepted, and no other"


@pytest.mark.parametrize("what", OnChange)
def test_where_the_policy_says_so_one_that_was_never_accepted_is_under_review(opened: Open, what: OnChange) -> None:
    agent = replace(AGENT, on_change=what)
    assert registry(opened, agent).active(AGENT.id).under_review is what
    accepted(opened(), ONE, agent)
    assert registry(opened, agent).active(AGENT.id).under_review is None
    assert registry(opened, agent).active(AGENT.id, (TWO,)).under_review is what


def test_another_version_is_another_agent_even_before_anything_is_seen(opened: Open) -> None:
    accepted(opened(), ONE)
    assert registry(opened, replace(AGENT, version="2")).active(AGENT.id).under_review is OnChange.DENY


def test_fewer_tools_are_no_change_and_more_are_one(opened: Open) -> None:
    accepted(opened(), replace(ONE, tools={"search": "sha256:1", "mail": "sha256:2"}))
    here = registry(opened)
    here.observe("helpdesk", ONE)
    assert here.active(AGENT.id).under_review is None
    here.observe("helpdesk", replace(ONE, tools={"mail": "sha256:2"}))
    assert here.active(AGENT.id).under_review is None
    here.observe("helpdesk", replace(ONE, tools={"mail": "sha256:3"}))
    assert here.active(AGENT.id).under_review is OnChange.DENY


def test_two_processes_that_flap_are_each_held_to_what_they_are(opened: Open) -> None:
    accepted(opened(), ONE)
    good, bad = registry(opened), registry(opened)
    for _ in range(3):
        bad.observe("helpdesk", TWO)
        good.observe("helpdesk", ONE)
        assert bad.active(AGENT.id).under_review is OnChange.DENY
        assert good.active(AGENT.id).under_review is None


def test_only_the_owner_accepts_and_only_while_they_are_there(opened: Open) -> None:
    store = opened()
    state = store.change(AGENT.id, observe(AGENT, ONE, 1))
    assert state.observed is not None
    shown = difference_hash(AGENT.id, None, ONE)
    with pytest.raises(AgentChangeError, match="owner"):
        store.change(AGENT.id, accept(AGENT, shown, by="eve@acme.example", at=2))
    store.leave(Absence(AGENT.owner, 2))
    with pytest.raises(AgentChangeError, match="left"):
        store.change(AGENT.id, accept(AGENT, shown, by="Dana@acme.example", at=2))
    store.come_back(AGENT.owner)
    assert store.change(AGENT.id, accept(AGENT, shown[:16], by="Dana@acme.example", at=2)).accepted == ONE


def test_what_was_shown_is_what_is_accepted(opened: Open) -> None:
    store = opened()
    store.change(AGENT.id, observe(AGENT, ONE, 1))
    shown = difference_hash(AGENT.id, None, ONE)
    for short in ("", shown[:15]):
        with pytest.raises(AgentChangeError, match="not the difference"):
            store.change(AGENT.id, accept(AGENT, short, by=AGENT.owner, at=2))
    store.change(AGENT.id, observe(AGENT, TWO, 1))
    with pytest.raises(AgentChangeError, match="not the difference"):
        store.change(AGENT.id, accept(AGENT, shown, by=AGENT.owner, at=2))
    assert store.read().agents[AGENT.id].accepted is None
    accepted(store, TWO)
    with pytest.raises(AgentChangeError, match="nothing to accept"):  # as the second of two who accept at once
        store.change(AGENT.id, accept(AGENT, difference_hash(AGENT.id, None, TWO), by=AGENT.owner, at=2))


def test_what_is_seen_again_is_written_once(tmp_path: Path) -> None:
    notes: list[object] = []
    store = SqliteAgentStore(tmp_path / "agents.db")
    accepted(store, ONE)
    here = registry(lambda: store, note=lambda *noted: notes.append((noted[0], noted[2])))
    for manifest in (ONE, ONE, TWO, TWO, ONE):
        here.observe("helpdesk", manifest)
        assert here.saw("helpdesk", manifest)
    changed = [("agent.changed", {"manifest": each.hash, "parts": ["prompt"]}) for each in (TWO, ONE)]
    assert notes == changed


def test_a_prompt_that_tells_the_time_is_not_written_each_time_while_nobody_has_accepted_it(opened: Open) -> None:
    notes: list[str] = []
    here = registry(opened, note=lambda what, *_: notes.append(what))
    at = [replace(ONE, prompt=prompt_hash(f"It is {second} o'clock.")) for second in range(5)]
    here.active(AGENT.id)
    for manifest in at:
        here.observe("helpdesk", manifest)
    assert opened().read().agents[AGENT.id].observed == at[0]
    assert notes == []
    accepted(opened(), at[0])
    assert here.active(AGENT.id).under_review is OnChange.DENY, "what this process saw last counts, stored or not"
    assert not here.saw("helpdesk", at[4])
    here.observe("helpdesk", at[4])
    assert opened().read().agents[AGENT.id].observed == at[4]
    assert notes == ["agent.changed"]


def test_what_could_not_be_stored_counts_all_the_same_and_is_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    store = SqliteAgentStore(folder / "agents.db")
    accepted(store, ONE)
    here = registry(lambda: SqliteAgentStore(folder / "agents.db"))
    here.active(AGENT.id)
    hidden = folder.rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        here.observe("helpdesk", TWO)
    with pytest.raises(StoreError):
        here.active(AGENT.id)
    hidden.rename(folder)
    assert here.active(AGENT.id).under_review is OnChange.DENY
    assert not here.saw("helpdesk", TWO)
    here.observe("helpdesk", TWO)
    assert here.saw("helpdesk", TWO)
    assert store.read().agents[AGENT.id].observed == TWO


def test_states_are_kept_as_they_are(tmp_path: Path) -> None:
    agent = replace(AGENT, tools=frozenset({"a", "b"}))
    state = AgentState(AGENT.id, "helpdesk", AgentStatus.SUSPENDED, agent, ONE, "dana", 1.5, TWO, 2.5)
    SqliteAgentStore(tmp_path / "agents.db").change(AGENT.id, lambda *_: state)
    assert SqliteAgentStore(tmp_path / "agents.db").read() == Stored({AGENT.id: state})
