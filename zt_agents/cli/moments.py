"""Points in time as people write them: ``last tuesday``, ``yesterday 14:00``, ``2 hours ago``, ``2026-01-31T08:00``.

Rules:

1. What is not understood is refused, never guessed: a wrong window would show a wrong story.
2. A day stands for its first moment. ``tuesday`` is the latest Tuesday, today included; ``last tuesday`` is before
   today.
3. Days and clock times are UTC, or this machine's local time where the caller asks for that. An ISO time that names
   its offset keeps it.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

import typer

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO = re.compile(r"([1-9][0-9]{0,5}) ?(?:([smhdw])|(second|minute|hour|day|week)s? ago)")
_AHEAD = re.compile(r"([1-9][0-9]{0,5}) ?([mhd])")
_DAY = re.compile(rf"(today|yesterday|(?:last )?(?:{'|'.join(_WEEKDAYS)})|[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})(?: (.+))?")
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?")
WAYS = "a time is written like 15m, '2 hours ago', yesterday, 'last tuesday 14:00' or 2026-01-31T08:00"


def parse_moment(text: str, now: datetime, *, local: bool = False) -> datetime:
    """Return the moment *text* names, with its offset.

    Args:
        text: In English, of any case.
        now: An aware datetime.
        local: Read days and clock times as this machine's local time, rather than as UTC.

    Raises:
        ValueError: it is not understood.
    """
    words = " ".join(text.split())
    known = words.lower()
    if known == "now":
        return now
    if match := _AGO.fullmatch(known):
        unit = _UNITS[match[2]] if match[2] else f"{match[3]}s"
        try:
            return now - timedelta(**{unit: int(match[1])})
        except OverflowError:
            raise ValueError(f"{text!r} is before all calendars; {WAYS}") from None
    if (match := _DAY.fullmatch(known)) and (clock := _clock(match[2])) is not None:
        today = (now.astimezone() if local else now.astimezone(UTC)).date()
        return _aware(datetime.combine(_day(match[1], today), clock), local=local)
    try:
        moment = datetime.fromisoformat(words)
    except ValueError:
        raise ValueError(f"{text!r} is not understood; {WAYS}") from None
    return moment if moment.tzinfo else _aware(moment, local=local)


def moment_option(text: str | None, option: str, *, local: bool = False) -> float | None:
    """Return what a command's *option* says, seconds since the epoch, or None where it is not given."""
    if text is None:
        return None
    try:
        return parse_moment(text, datetime.now(UTC), local=local).timestamp()
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def until_option(text: str, option: str) -> float:
    """Return the coming moment that a command's *option* says, seconds since the epoch: 18:00 (UTC), 30m, 8h, ISO."""
    now = datetime.now(UTC)
    try:
        if match := _AHEAD.fullmatch(text.strip().lower()):
            moment = now + timedelta(**{_UNITS[match[2]]: int(match[1])})
        elif (clock := _clock(text.strip())) is not None:
            today = datetime.combine(now.date(), clock, UTC)
            moment = today if today > now else today + timedelta(days=1)
        else:
            moment = parse_moment(text, now)
    except (ValueError, OverflowError) as error:
        message = f"{text!r} is not understood; a coming time is written like 18:00 (UTC), 30m or 8h"
        raise typer.BadParameter(message, param_hint=option) from error
    if moment <= now:
        raise typer.BadParameter(f"{text!r} is over", param_hint=option)
    return moment.timestamp()


def day_option(text: str, option: str, *, local: bool = False) -> tuple[float, float]:
    """Return the first moment of the day that *option* names, and the first moment after it."""
    try:
        return _whole_day(text, datetime.now(UTC), local=local)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _whole_day(text: str, now: datetime, *, local: bool) -> tuple[float, float]:
    start = parse_moment(text, now, local=local)
    day = (start.astimezone() if local else start.astimezone(UTC)).date()
    if start != _aware(datetime.combine(day, time()), local=local):
        raise ValueError(f"{text!r} is no day; a day is written like yesterday, 'last tuesday' or 2026-01-31")
    end = _aware(datetime.combine(day + timedelta(days=1), time()), local=local)
    return start.timestamp(), end.timestamp()


def _day(word: str, today: date) -> date:
    if word == "today":
        return today
    if word == "yesterday":
        return today - timedelta(days=1)
    name = word.removeprefix("last ")
    if name not in _WEEKDAYS:
        return date.fromisoformat(word)
    back = (today.weekday() - _WEEKDAYS.index(name)) % 7
    return today - timedelta(days=back or (7 if word != name else 0))


def _clock(text: str | None) -> time | None:
    """Return the time of day, midnight if none is given, or None if it is none."""
    if text is None:
        return time()
    match = _CLOCK.fullmatch(text)
    return time(int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def _aware(naive: datetime, *, local: bool) -> datetime:
    # Without a zone, astimezone() takes it as local time, with the rules of summer time of that day.
    return naive.astimezone() if local else naive.replace(tzinfo=UTC)
