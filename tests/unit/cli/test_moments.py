from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zt_agents.cli.moments import day_option, parse_moment

NOW = datetime(2026, 11, 18, 15, 30, tzinfo=UTC)  # a Wednesday


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-11-18T15:30"),
        ("15m", "2026-11-18T15:15"),
        ("2h", "2026-11-18T13:30"),
        ("7d", "2026-11-11T15:30"),
        ("2 hours ago", "2026-11-18T13:30"),
        ("1 week ago", "2026-11-11T15:30"),
        ("today", "2026-11-18T00:00"),
        ("Yesterday", "2026-11-17T00:00"),
        ("yesterday 14:05", "2026-11-17T14:05"),
        ("monday", "2026-11-16T00:00"),
        ("wednesday", "2026-11-18T00:00"),
        ("last  Wednesday", "2026-11-11T00:00"),
        ("last tuesday", "2026-11-17T00:00"),
        ("last tuesday 9:30", "2026-11-17T09:30"),
        ("thursday", "2026-11-12T00:00"),
        ("2026-01-31", "2026-01-31T00:00"),
        ("2026-01-31 08:00:05", "2026-01-31T08:00:05"),
        ("2026-01-31T08:00", "2026-01-31T08:00"),
        ("2026-01-31T08:00+02:00", "2026-01-31T06:00"),
    ],
)
def test_what_people_write(text: str, expected: str) -> None:
    assert parse_moment(text, NOW) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "next tuesday", "last week", "tue", "last today", "0m", "-1h", "1.5h", "2 hours", "in 2 hours"),
        *(
            "yesterday 25:00",
            "yesterday 9",
            "2026-02-30",
            "31.01.2026",
            "01/02/2026",
            "last",
            "999999w",
            "٣h",
            "1700000000",
        ),
    ],
)
def test_what_is_not_understood_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(ValueError, match=r"is written like|out of range|day is out|month must be"):
        parse_moment(text, NOW)


def test_local_days_follow_the_zone_and_summer_time_of_that_day(monkeypatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert parse_moment("yesterday", NOW, local=True) == datetime(2026, 11, 16, 23, tzinfo=UTC)
        assert parse_moment("2026-07-01 12:00", NOW, local=True) == datetime(2026, 7, 1, 10, tzinfo=UTC)
        assert parse_moment("2026-07-01T12:00Z", NOW, local=True) == datetime(2026, 7, 1, 12, tzinfo=UTC)
        start, end = day_option("2026-10-25", "--on", local=True)
        assert end - start == 25 * 3600  # the day on which summer time ends
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2090, 1, 1)), st.integers(0, 6))
def test_a_weekday_is_within_the_last_seven_days(now: datetime, weekday: int) -> None:
    now = now.replace(tzinfo=UTC)
    name = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")[weekday]
    latest, last = parse_moment(name, now), parse_moment(f"last {name}", now)
    assert latest.weekday() == last.weekday() == weekday
    assert timedelta(0) <= now - latest < timedelta(days=7)
    assert last.date() < now.date()
    assert (latest == last) == (now.weekday() != weekday)
