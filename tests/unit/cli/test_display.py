from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zt_agents._internal.display import visible
from zt_agents.cli.display import say, say_json, say_table


@given(st.text())
def test_nothing_invisible_is_left(text: str) -> None:
    shown = visible(text)
    assert all(character == " " or unicodedata.category(character)[0] not in "CZ" for character in shown)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\u202eevil", "\\u202eevil"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("selector\ufe0f\U000e0100", "selector\\ufe0f\\U000e0100"),
        ("filler\u3164", "filler\\u3164"),
        ("\ud800", "\\ud800"),
        ("Grüße 東京", "Grüße 東京"),
        ("e\u0301\u0323", "e\u0301\u0323"),
        ("e" + "\u0301" * 6, "e" + "\u0301" * 4 + "\\u0301" * 2),
    ],
)
def test_what_hides_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_limit() -> None:
    assert visible("abcdef", limit=4) == "abc…"
    assert visible("abcd", limit=4) == "abcd"


def test_markup_and_emoji_codes_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    say("[bold red]x[/] :skull: [link=https://evil.example]y[/link]")
    say_table(("a",), [["[blink]z[/blink]\x1b[2J"]])
    say_json({"k": "\x1b\u202e"})
    out = capsys.readouterr().out
    assert "[bold red]x[/] :skull: [link=https://evil.example]y[/link]" in out
    assert "[blink]z[/blink]\\x1b[2J" in out
    assert not set(out) & set("\x1b\u202e")


def test_no_cell_forges_a_row_or_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    say_table(("tool", "why"), [("evil\nread_ticket", ("'x\nNo danger.' in the name", "It sends."))])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == [r"evil\nread_ticket  'x\nNo danger.' in the name", "                   It sends."]
