"""The store of notices: what was told is known for as long as it could be told again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from zt_agents.approvals.notices import NoticeEvent
from zt_agents.errors import StoreError
from zt_agents.stores.sqlite_notices import NewNotice, NoticeState, Pause, SqliteNoticeStore, WaitingNotice

NOW = 1_800_000_000.0
ASKED, SETTLED = NoticeEvent.REQUESTED, NoticeEvent.SETTLED


@pytest.fixture
def store(tmp_path: Path) -> SqliteNoticeStore:
    made = SqliteNoticeStore.beside(tmp_path / "approvals.db")
    made.add([NewNotice("r", ASKED, "d", NOW + 60)])
    return made


def waiting(store: SqliteNoticeStore, destination: str = "d") -> WaitingNotice:
    found = store.next(destination)
    assert found is not None
    return found


def test_what_is_known_is_not_added_again(store: SqliteNoticeStore) -> None:
    store.end("d", waiting(store), NoticeState.DELIVERED)
    store.add([NewNotice("r", ASKED, "d", NOW), NewNotice("r", ASKED, "e", NOW + 60)])
    assert store.next("d") is None
    assert waiting(store, "e").request == "r"
    assert sorted(store.open()) == [("r", "d", NOW + 60), ("r", "e", NOW + 60)]


def test_it_survives_and_is_its_owner_s(store: SqliteNoticeStore) -> None:
    notice = waiting(store)
    store.begin("d", notice)
    store.postpone("d", notice, not_before=NOW + 5, pause=Pause(1, NOW + 7))
    again = SqliteNoticeStore(store.path)
    assert waiting(again) == WaitingNotice("r", ASKED, 1, NOW + 5)
    assert again.pause("d") == Pause(1, NOW + 7)
    assert again.pause("e") == Pause()
    assert store.path.name == "approvals.db.notices"
    assert store.path.stat().st_mode & 0o777 == 0o600


def test_a_delivery_makes_a_destination_well(store: SqliteNoticeStore) -> None:
    store.postpone("d", waiting(store), not_before=0, pause=Pause(4, NOW))
    store.end("d", waiting(store), NoticeState.DELIVERED)
    assert store.pause("d") == Pause()


@pytest.mark.parametrize(
    ("tried", "state", "told"),
    [
        (True, NoticeState.DELIVERED, True),
        (True, None, True),  # it may have arrived
        (True, NoticeState.MOOT, True),
        (True, NoticeState.REFUSED, False),
        (False, None, False),
        (False, NoticeState.MOOT, False),
    ],
)
def test_the_end_is_told_to_whoever_may_have_been_asked(
    store: SqliteNoticeStore, tried: bool, state: NoticeState | None, told: bool
) -> None:
    notice = waiting(store)
    if tried:
        store.begin("d", notice)
    if state is not None:
        store.end("d", notice, state)
    store.settled([("r", "d"), ("unknown", "d")])
    store.settled([("r", "d")])
    assert store.open() == []
    found = store.next("d")
    assert (found is not None and found.event is SETTLED) is told
    if found is not None:
        store.end("d", found, NoticeState.DELIVERED)
    assert store.next("d") is None, "and nobody is asked any more"


def test_what_may_be_tried_first_comes_first(store: SqliteNoticeStore) -> None:
    store.add([NewNotice("later", ASKED, "d", NOW + 90), NewNotice("sooner", ASKED, "d", NOW + 30)])
    assert waiting(store).request == "sooner"
    store.postpone("d", waiting(store), not_before=NOW)
    assert waiting(store).request == "r"


def test_what_ended_long_ago_is_forgotten_and_what_was_not_sent_is_named(store: SqliteNoticeStore) -> None:
    store.add([NewNotice("r", ASKED, "e", NOW + 60), NewNotice("new", ASKED, "e", NOW + 600)])
    store.end("d", waiting(store), NoticeState.DELIVERED)
    assert store.forget(before=NOW + 60) == []
    assert store.forget(before=NOW + 61) == ["e"]
    assert [request for request, *_ in store.open()] == ["new"]


def test_what_is_to_be_sent_later_is_late_when_its_time_has_come_or_it_was_tried(store: SqliteNoticeStore) -> None:
    store.add([NewNotice("r", NoticeEvent.ESCALATED, "e", NOW + 60, NOW + 30)])
    assert store.is_late("d", now=NOW)
    assert not store.is_late("e", now=NOW)
    assert store.is_late("e", now=NOW + 30)
    store.begin("e", waiting(store, "e"))
    assert store.is_late("e", now=NOW)
    store.settled([("r", "d")])
    assert not store.is_late("d", now=NOW)


def test_nobody_is_reminded_of_what_is_settled(store: SqliteNoticeStore) -> None:
    store.add([NewNotice("r", NoticeEvent.ESCALATED, "d", NOW + 60, NOW + 30)])
    store.begin("d", waiting(store))
    store.end("d", waiting(store), NoticeState.DELIVERED)
    store.settled([("r", "d")])
    found = waiting(store)
    assert found.event is SETTLED
    store.end("d", found, NoticeState.DELIVERED)
    assert store.next("d") is None


def test_looking_for_the_next_does_not_read_what_was_sent(store: SqliteNoticeStore) -> None:
    with closing(sqlite3.connect(store.path)) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT request FROM notice WHERE destination = 'd' AND state = 'waiting' "
            "ORDER BY not_before, expires, request LIMIT 1"
        ).fetchall()
    assert "USING INDEX notice_waiting" in plan[0][3], plan


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t (x)")
    with pytest.raises(StoreError, match="is not a store of notices"):
        SqliteNoticeStore(path).open()
