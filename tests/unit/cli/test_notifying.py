"""The watcher and its couriers, where a clock, a store or a destination does what none should."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from approval_requests import request
from notices_received import ask, asked_now, eventually

from zt_agents.approvals import ApprovalState, StoredApproval
from zt_agents.approvals.notices import Notice, NoticeEvent
from zt_agents.cli import notifying
from zt_agents.cli.destinations import DELIVERED, Delivery
from zt_agents.cli.notifying import Notifier
from zt_agents.decisions import ApprovalTerms
from zt_agents.errors import StoreError
from zt_agents.stores.sqlite_approvals import SqliteApprovalStore
from zt_agents.stores.sqlite_notices import NewNotice, SqliteNoticeStore


class Place:
    """A destination that does as it is told."""

    name = label = "place"

    def __init__(self, *comes: Delivery | BaseException) -> None:
        self.comes = list(comes)
        self.told: list[Notice] = []

    def deliver(self, told: Notice, *, now: float) -> Delivery:
        self.told.append(told)
        came = self.comes.pop(0) if self.comes else DELIVERED
        if isinstance(came, BaseException):
            raise came
        return came


@pytest.fixture
def store(tmp_path: Path) -> SqliteApprovalStore:
    return SqliteApprovalStore(tmp_path / "approvals.db")


@pytest.fixture
def notices(store: SqliteApprovalStore) -> SqliteNoticeStore:
    return SqliteNoticeStore.beside(store.path)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifying, "_FIRST_WAIT", 0.01)


def once(requests: Any, notices: SqliteNoticeStore, place: Any, **options: Any) -> bool:
    return Notifier(requests, notices, [place], **options).run(every=1, once=True)


def test_what_was_delivered_is_not_sent_again_because_it_cannot_be_written_down(store, notices, capsys) -> None:
    ask(store)
    end, failures = notices.end, [StoreError("The disk is full.")] * 3

    def failing(*arguments: Any) -> None:
        if failures:
            raise failures.pop()
        end(*arguments)

    notices.end = failing
    place = Place()
    assert once(store, notices, place)
    assert len(place.told) == 1
    assert capsys.readouterr().err.count("The disk is full.") == 1


def test_a_clock_that_was_set_back_puts_nothing_off(store, notices) -> None:
    place = Place(Delivery(False, False, "is away"))
    ask(store, seconds=2e7)
    later = time.time() + 1e7
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notifying, "_PATIENCE", 0.0)
        assert not once(store, notices, place, clock=lambda: later)
    assert notices.pause("place").not_before > later
    assert once(store, notices, place)
    assert len(place.told) == 2


def test_a_request_that_is_pending_again_because_the_clock_was_set_back_is_not_told_as_ended(store, notices) -> None:
    place = Place()
    ask(store, seconds=100)
    assert once(store, notices, place)
    now = time.time()
    hands = iter([now + 200])  # the look at the stores; then it is set back
    assert once(store, notices, place, clock=lambda: next(hands, now))
    assert [told.state for told in place.told] == [ApprovalState.PENDING]


def test_a_request_is_not_told_as_expired_while_an_answer_that_came_in_time_may_yet_settle_it(store, notices) -> None:
    place, now = Place(), time.time()
    request_id = ask(store, seconds=100)
    assert once(store, notices, place)
    assert once(store, notices, place, clock=lambda: now + 101)
    store.settle(request_id, ApprovalState.APPROVED, now=now + 101, grant="g")
    assert once(store, notices, place, clock=lambda: now + 105)
    assert [told.state for told in place.told] == [ApprovalState.PENDING, ApprovalState.APPROVED]


@pytest.mark.parametrize("damage", [{"expires_at": "soon"}, {"terms": (None,)}, {"expires_at": float("inf")}])
def test_a_request_that_is_none_ends_nothing(store, notices, damage) -> None:
    ask(store)
    whole = store.pending()[0]
    damaged = replace(asked_now(request(call_id="other")), **damage)

    class Requests:
        def notice(self, *request_ids: str, now: float) -> None:
            """Nothing is kept here."""

        def pending_ids(self, *, now: float | None = None) -> list[str]:
            return [damaged.id, whole.id]

        def get(self, request_id: str) -> StoredApproval | None:
            stored = replace(whole, id=damaged.id, request=damaged)
            return whole if request_id == whole.id else stored

    place = Place()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notifying, "_PATIENCE", 0.1)
        once(Requests(), notices, place)
    assert [told.request_id for told in place.told] == [whole.id]


def test_who_is_asked_next_is_told_when_it_is_their_turn_and_only_while_it_waits(store, notices) -> None:
    terms = ApprovalTerms(("user:eve",), escalate_after=60, escalate_to=("user:dana",), timeout=600)
    waits, answered = (store.put(asked_now(request(terms, call_id=each))).id for each in ("waits", "answered"))
    place, now = Place(), time.time()
    assert once(store, notices, place), "what is for later is not late"
    assert [told.event for told in place.told] == ["requested", "requested"]
    store.settle(answered, ApprovalState.DENIED, now=now)
    assert once(store, notices, place, clock=lambda: now + 61)
    assert once(store, notices, place, clock=lambda: now + 62)
    assert sorted((told.event, told.request_id) for told in place.told[2:]) == [
        ("escalated", waits),
        ("settled", answered),
    ]
    (escalated,) = (told for told in place.told if told.event == "escalated")
    assert escalated.title == "Approval still needed: pay (high tier)"
    assert dict(escalated.facts)["approvers"] == "user:eve, after 60 s also user:dana"


def test_what_nobody_thought_of_ends_the_notifier_and_is_seen(store, notices) -> None:
    ask(store)
    with pytest.raises(ZeroDivisionError):
        Notifier(store, notices, [Place(ZeroDivisionError())]).run(every=0.01, once=False)
    assert once(store, notices, Place()), "and what it was about is told by the next"


def test_a_destination_that_hangs_does_not_keep_it_from_ending(store, notices, monkeypatch) -> None:
    monkeypatch.setattr(notifying, "_PARTING", 0.1)
    release = threading.Event()

    class Silent(Place):
        def deliver(self, told: Notice, *, now: float) -> Delivery:
            super().deliver(told, now=now)
            notifier.end()
            release.wait(10)
            return DELIVERED

    ask(store)
    place = Silent()
    notifier = Notifier(store, notices, [place])
    started = time.monotonic()
    assert not notifier.run(every=0.01, once=False), "it is not known to have been delivered"
    assert time.monotonic() - started < 5
    release.set()
    eventually(lambda: all(thread.name != "place" for thread in threading.enumerate()))


def test_a_notice_that_failed_waits_also_where_its_destination_is_well_again(store, notices, monkeypatch) -> None:
    monkeypatch.setattr(notifying, "_PATIENCE", 0.0)
    monkeypatch.setattr(notifying, "_FIRST_WAIT", 40.0)
    ask(store)
    assert not once(store, notices, Place(Delivery(False, False, "is away")))
    waiting = notices.next("place")
    assert waiting is not None
    assert 15 < waiting.not_before - time.time() <= 40


def test_a_store_that_fails_for_a_while_is_used_again(store, notices, capsys) -> None:
    place, failures = Place(), [StoreError("The disk is gone.")] * 3
    pending_ids = store.pending_ids

    def failing(**options: Any) -> Any:
        if place.told and failures:
            raise failures.pop()
        return pending_ids(**options)

    store.pending_ids = failing
    ask(store, "first")
    notifier = Notifier(store, notices, [place])

    def watch() -> None:
        end = time.monotonic() + 10
        while len(place.told) < 2 and time.monotonic() < end:
            if place.told and not failures:
                ask(store, "second")
            time.sleep(0.01)
        notifier.end()

    watcher = threading.Thread(target=watch)
    watcher.start()
    notifier.run(every=0.01, once=False)
    watcher.join()
    assert len(place.told) == 2
    assert capsys.readouterr().err.count("The disk is gone.") == 1


def test_what_is_given_up_is_said(store, notices, capsys) -> None:
    store.pending()
    ended = time.time() - 4000
    notices.add(NewNotice("old", NoticeEvent.SETTLED, name, ended) for name in ("place", "no longer a destination"))
    assert not once(store, notices, Place())
    assert "1 notices were given up" in capsys.readouterr().err


def test_backing_off_has_an_end_and_is_never_the_same_twice() -> None:
    waits = [[notifying._backoff(failures) for _ in range(20)] for failures in (1, 5, 5000)]
    for some, longest in zip(waits, (0.01, 0.16, 60.0), strict=True):
        assert all(longest / 2 <= wait <= longest for wait in some)
        assert len(set(some)) > 1
