"""The store's file taken away, emptied, exchanged, put back: nothing is forgotten without a denial."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from zt_agents.errors import AgentInactiveError, StoreError
from zt_agents.identity import Agent, AgentRegistry, AgentStatus, registry
from zt_agents.identity.lifecycle import move
from zt_agents.stores.sqlite_agents import SqliteAgentStore

AGENT = Agent("helpdesk", "spiffe://acme.example/agent/helpdesk", "1", "dana@acme.example", "tests")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "zt-agents-agents.db"


@pytest.fixture
def guarding(path: Path) -> AgentRegistry:
    """A registry that has read its store."""
    here = AgentRegistry({AGENT.name: AGENT}, store=SqliteAgentStore(path))
    here.suspend("helpdesk")
    with pytest.raises(AgentInactiveError):
        here.active(AGENT.id)
    return here


def _gone(path: Path) -> None:
    path.unlink()


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _garbage(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)


def _another(path: Path) -> None:
    path.unlink()
    path.with_name(f"{path.name}.id").unlink()
    SqliteAgentStore(path).come_back("nobody")


def _of_another_kind(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE agent (id)")
    connection.close()


def _unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [_gone, _emptied, _garbage, _another, _of_another_kind, _unreadable])
def test_a_store_that_was_harmed_denies(path: Path, guarding: AgentRegistry, harm: object) -> None:
    harm(path)  # type: ignore[operator]
    for _ in range(2):
        with pytest.raises(StoreError):
            guarding.active(AGENT.id)
        with pytest.raises(StoreError):
            guarding.resume("helpdesk")
        with pytest.raises(StoreError):
            guarding.get("helpdesk")


def test_an_earlier_state_that_is_put_back_is_refused(path: Path, guarding: AgentRegistry) -> None:
    guarding.resume("helpdesk")
    guarding.active(AGENT.id)
    earlier = path.with_name("earlier")
    shutil.copy(path, earlier)
    guarding.suspend("helpdesk")
    with pytest.raises(AgentInactiveError):
        guarding.active(AGENT.id)
    shutil.copy(earlier, path)
    with pytest.raises(StoreError, match="earlier state"):
        guarding.active(AGENT.id)


def test_a_damaged_row_denies(path: Path, guarding: AgentRegistry) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE agent SET status = 'unknown', written = written + 1")
    connection.close()
    with pytest.raises(StoreError, match="damaged"):
        guarding.active(AGENT.id)


def test_reading_makes_no_file_and_a_new_one_is_its_owner_s_alone(path: Path) -> None:
    here = AgentRegistry({AGENT.name: AGENT}, store=SqliteAgentStore(path))
    here.active(AGENT.id)
    assert not path.exists()
    here.suspend("helpdesk")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("later", [0.0, 0.3])
def test_a_write_that_the_file_s_times_do_not_show_is_seen(
    path: Path, guarding: AgentRegistry, later: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_SETTLED", 0.25)
    administrator = SqliteAgentStore(path)
    administrator.change(AGENT.id, move(AGENT, AgentStatus.ACTIVE))
    guarding.active(AGENT.id)
    before = path.stat()
    administrator.change(AGENT.id, move(AGENT, AgentStatus.SUSPENDED))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    time.sleep(later)
    with pytest.raises(AgentInactiveError):
        guarding.active(AGENT.id)


def test_threads_that_read_and_write_one_store_do_not_take_each_other_for_the_past(path: Path) -> None:
    store = SqliteAgentStore(path)
    here = AgentRegistry({AGENT.name: AGENT}, store=store)
    failures: list[Exception] = []

    def work(suspends: bool) -> None:
        try:
            for _ in range(15):
                if suspends:
                    here.suspend("helpdesk")
                else:
                    here.get("helpdesk")
                    store.read()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(index == 0,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures


def test_of_many_agents_the_one_that_changed_is_read_again(path: Path) -> None:
    agents = {f"a{index}": replace(AGENT, name=f"a{index}", id=f"{AGENT.id}-{index}") for index in range(40)}
    store = SqliteAgentStore(path)
    here = AgentRegistry(agents, store=SqliteAgentStore(path))
    for agent in agents.values():
        store.change(agent.id, move(agent, AgentStatus.SUSPENDED))
    assert {here.get(name).status for name in agents} == {AgentStatus.SUSPENDED}
    store.change(agents["a7"].id, move(agents["a7"], AgentStatus.ACTIVE))
    assert [name for name in agents if here.get(name).status is AgentStatus.ACTIVE] == ["a7"]
    assert store.read() == SqliteAgentStore(path).read()


def test_a_store_that_is_gone_is_missed_after_a_restart(path: Path) -> None:
    SqliteAgentStore(path).change(AGENT.id, move(AGENT, AgentStatus.RETIRED))
    kept = path.read_bytes()
    path.unlink()
    restarted = AgentRegistry({AGENT.name: AGENT}, store=SqliteAgentStore(path))
    with pytest.raises(StoreError, match=r"is gone\. Put it back\."):
        restarted.active(AGENT.id)
    with pytest.raises(StoreError, match="is gone"):
        SqliteAgentStore(path).come_back("nobody")
    path.write_bytes(kept)
    path.chmod(0o600)
    with pytest.raises(AgentInactiveError, match="retired"):
        AgentRegistry({AGENT.name: AGENT}, store=SqliteAgentStore(path)).active(AGENT.id)


def test_another_store_in_its_place_is_refused_after_a_restart(path: Path, tmp_path: Path) -> None:
    SqliteAgentStore(path).change(AGENT.id, move(AGENT, AgentStatus.SUSPENDED))
    other = tmp_path / "elsewhere.db"
    SqliteAgentStore(other).come_back("nobody")
    other.replace(path)
    with pytest.raises(StoreError, match="not the one that was used here before"):
        AgentRegistry({AGENT.name: AGENT}, store=SqliteAgentStore(path)).active(AGENT.id)
