"""Something is found revoked if, and only if, a revocation in force is about a part of it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zt_agents.identity.revocations import (
    Bearing,
    MemoryRevocations,
    Revocation,
    RevocationIndex,
    RevocationStore,
    Revoked,
)
from zt_agents.stores.sqlite_revocations import SqliteRevocations

names = st.sampled_from(["a", "b", "A", "a ", "e\u0301", "\u00e9", "*", "%"])
unknown = st.just("")
bearings = st.builds(
    Bearing,
    agents=st.lists(names, max_size=3).map(tuple),
    user=names,
    sessions=st.lists(names, max_size=2).map(tuple),
    task=names | unknown,
    token=names | unknown,
    owner=names | unknown,
)
kinds = st.sampled_from(Revoked)
steps = st.lists(
    st.tuples(st.just("revoke"), kinds, names) | st.tuples(st.just("lift"), st.integers(0, 9), st.just("")),
    max_size=10,
)


def is_about(revocation: Revocation, bearing: Bearing) -> bool:
    """Say it as the words of :class:`Revoked` do."""
    return {
        Revoked.AGENT: revocation.value in bearing.agents,
        Revoked.USER: revocation.value == bearing.user,
        Revoked.SESSION: revocation.value in bearing.sessions,
        Revoked.TASK: revocation.value == bearing.task,
        Revoked.TOKEN: revocation.value == bearing.token,
        Revoked.OWNER: revocation.value == bearing.owner,
        Revoked.ALL: True,
    }[revocation.kind]


def hold(store: RevocationStore, watchers: list[Any], done: list[Any], asked: list[Bearing]) -> None:
    in_force: list[Revocation] = []
    made: list[Revocation] = []
    for what, which, value in done:
        if what == "revoke":
            named = "" if which is Revoked.ALL else value
            made.append(store.revoke(which, named, by="x", why="", now=1.0))
            in_force.append(made[-1])
        elif which < len(made):
            lifted = store.lift(made[which].id, now=2.0)
            assert (lifted is not None) == (made[which] in in_force)
            in_force = [each for each in in_force if each is not made[which]]
        assert list(store.list()) == in_force
        for watcher in watchers:
            watcher._glanced_at = 0.0  # time has passed
        for bearing in asked:
            about = [each for each in in_force if is_about(each, bearing)]
            for watcher in watchers:
                found = watcher.find(bearing, now=3.0)
                assert found in about if about else found is None


@given(steps, st.lists(bearings, min_size=1, max_size=4))
def test_in_memory(done: list[Any], asked: list[Bearing]) -> None:
    store = MemoryRevocations()
    hold(store, [store], done, asked)


@settings(max_examples=8)
@given(steps, st.lists(bearings, min_size=1, max_size=4))
def test_in_a_file_and_in_another_process(done: list[Any], asked: list[Bearing]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store, other = (SqliteRevocations(Path(folder) / "revocations.db") for _ in range(2))
        store.open()
        hold(store, [store, other], done, asked)
        assert list(SqliteRevocations(Path(folder) / "revocations.db").list()) == list(store.list())


def test_taking_in_is_done_again_after_an_interruption() -> None:
    class Interrupted(dict[Any, Any]):
        def setdefault(self, *_: Any) -> Any:
            raise KeyboardInterrupt

    index, made = RevocationIndex(), Revocation("1", Revoked.USER, "a", 1.0, "x")
    index._about = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        index.add(made)
    index._about = {}
    index.add(made)
    assert index.find(Bearing((), "a", (), "", "")) is made
