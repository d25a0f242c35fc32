"""What strangers wrote is shown, and does nothing; what is not shown is counted; what looks like another is marked."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reception import Reception
from rich.console import Console

from zt_agents._internal.display import visible
from zt_agents.approvals import approval_panel
from zt_agents.approvals.questions import describe
from zt_agents.catalog.specs import Effect, Tier, ToolSpec
from zt_agents.console.facts import MOST_ARGUMENTS
from zt_agents.console.lookalikes import oddity, tokens
from zt_agents.console.showing import HEAD, TAIL, Kind, show, written
from zt_agents.decisions import ChainLink
from zt_agents.identity import Agent, User

DANA = "dana@acme.example"
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg/onload=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "]]><!--",
    "</textarea></dialog></main><form action=//evil.example>",
    '<p hx-get="/logout" hx-trigger="load">',
    "&lt;script&gt;",
    "\x00\x1b[2J\x7f\x9b",
    "\u202egnp.exe\u2066\u200b\ufeff\u00ad",
]


class Elements(HTMLParser):
    """Collects the elements and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[str, str]] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {(tag, name) for name, _ in attrs} | {(tag, "")}


def elements(page: str) -> set[tuple[str, str]]:
    parser = Elements()
    parser.feed(page)
    return parser.found


def text_of(page: str) -> str:
    return " ".join(re.sub("<[^>]*>", "", page).split())


async def page_of(reception: Reception, **changes: Any) -> str:
    asked = reception.ask(**changes)
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        response = await browser.get(f"/requests/{asked.id}")
        assert response.status_code == 200
        listed = await browser.get("/")
        assert listed.status_code == 200
        return response.text + listed.text


async def test_whose_word_it_is_asked_on_is_shown(reception: Reception) -> None:
    chain = [ChainLink(name, f"spiffe://acme.example/{name}", DANA, "alice", name, "t") for name in ("a", "mid", "top")]
    assert "On the word of mid, top." in text_of(await page_of(reception, chain=tuple(chain)))
    assert "On the word of" not in text_of(await page_of(reception, chain=tuple(chain[:1])))
    asked = reception.ask(chain=tuple(chain))
    assert "on the word of: mid, top" in describe(asked)
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(approval_panel(asked))
    assert re.search(r"on the word of +mid, top", console.file.getvalue())  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", HOSTILE)
async def test_no_text_makes_an_element(text: str, reception: Reception) -> None:
    harmless = elements(await page_of(reception, arguments={"to": "x", "note": "x", "more": ["x"]}))
    page = await page_of(
        reception,
        arguments={"to": text, "note": text, text or "x": [{text: text}]},
        intent=text,
        user=User(f"u{text}"),
        resource=text,
        agent=Agent(text, "spiffe://acme.example/x", text, text, text),
        chain=(ChainLink(text, text, text, text, text, text),) * 2,
        environment=text,
        tool=text,
        spec=ToolSpec(text, Tier.HIGH, frozenset({Effect.MONEY}), text, destinations=("to",), content=("note",)),
    )
    ours = {("span", ""), ("span", "class"), ("mark", ""), ("mark", "class"), ("mark", "title"), ("ul", "class")}
    assert elements(page) - harmless <= ours | {("li", ""), ("ul", "")}
    assert not set(page) & {character for character in text if visible(character) != character} - {"\n"}
    assert "<script>alert" not in page
    assert page.count("<script ") == 4  # htmx and our own, on each of the two pages


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=300), st.booleans())
def test_what_is_shown_says_what_the_text_says(text: str, lines: bool) -> None:
    shown = show(text, lines=lines)
    for run in shown.runs:
        assert visible(run.text, keep_newlines=True) == run.text
    if all(run.kind not in {Kind.GAP, Kind.HIDDEN} for run in shown.runs):
        assert "".join(run.text for run in shown.runs) == visible(text, keep_newlines=lines)


@settings(max_examples=50)
@given(st.text(min_size=HEAD, max_size=HEAD + TAIL + 50, alphabet="ab \n"))
def test_what_is_not_shown_is_counted(text: str) -> None:
    shown = show(text, lines=True)
    assert shown.hidden == max(0, len(text) - HEAD - TAIL)
    assert shown.characters == len(text)
    assert any(run.kind is Kind.HIDDEN for run in shown.runs) is (shown.hidden > 0)


@pytest.mark.parametrize(
    "value",
    ["x" * 1_000_000, ["x" * 1_000] * 900, {"a": "\n" * 5_000}, " " * 900_000, json.loads("[" * 60 + "]" * 60)],
    ids=["text", "list", "lines", "spaces", "depth"],
)
async def test_large_values_make_small_pages_and_can_be_downloaded(value: Any, reception: Reception) -> None:
    asked = reception.ask(arguments={"first": 1, "big": value})
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        page = await browser.get(f"/requests/{asked.id}")
        assert len(page.text) < 60_000
        download = await browser.get(f"/requests/{asked.id}/arguments/1")
    assert ("are not shown" in page.text) is (len(written(value)) > HEAD + TAIL)
    assert download.text == written(value)
    assert download.headers["content-type"] == "text/plain; charset=utf-8"
    assert download.headers["content-disposition"] == 'attachment; filename="argument-1.txt"'
    assert download.headers["x-content-type-options"] == "nosniff"


async def test_what_is_hostile_is_downloaded_as_it_is_and_never_as_a_page(reception: Reception) -> None:
    asked = reception.ask(arguments={"to": "<script>alert(1)</script>\u202e"})
    async with reception.browser() as browser:
        await browser.sign_in(reception.approver(DANA))
        download = await browser.get(f"/requests/{asked.id}/arguments/0")
        assert download.text == "<script>alert(1)</script>\u202e"
        assert download.headers["content-type"].startswith("text/plain")
        assert (await browser.get(f"/requests/{asked.id}/arguments/1")).status_code == 404
        assert (await browser.get(f"/requests/{asked.id}/arguments/-1")).status_code == 400
        assert (await browser.get(f"/requests/{asked.id}/arguments/{'9' * 30}")).status_code in {400, 404}


async def test_many_arguments_are_counted(reception: Reception) -> None:
    page = await page_of(reception, arguments={f"argument_{n}": n for n in range(MOST_ARGUMENTS + 3)})
    assert "3 more arguments are not shown" in page
    assert f"argument_{MOST_ARGUMENTS - 1}<" in page
    assert f"argument_{MOST_ARGUMENTS}<" not in page


async def test_risky_arguments_come_first_wherever_they_stand(reception: Reception) -> None:
    many = {f"argument_{n}": n for n in range(MOST_ARGUMENTS)}
    page = await page_of(reception, arguments={**many, "to": "mallory", "note": "all of it"})
    assert "mallory" in page
    assert page.index("mallory") < page.index("argument_0")
    assert page.index("all of it") < page.index("argument_0")


async def test_a_text_is_told_from_a_number(reception: Reception) -> None:
    page = await page_of(reception, arguments={"a": "5", "b": 5, "c": "", "d": None, "e": True})
    for sort in ("text, 1 characters", ">number<", "empty text", ">nothing<", ">yes or no<"):
        assert sort in page


@pytest.mark.parametrize(
    ("word", "odd"),
    [
        ("pаypal", "Cyrillic and Latin letters in one word"),
        ("ѕсоре", "Cyrillic letters that look like Latin ones"),
        ("ΑΒΕ", "Greek letters that look like Latin ones"),
        ("ｂｏｂ", "styled letters that stand for “bob”"),
        ("𝐛𝐨𝐛", "styled letters that stand for “bob”"),
        ("١٢", "digits that are not 0 to 9"),
        ("bıll", "rare letters that look like others"),
        ("paypal", ""),
        ("Grüße", ""),
        ("привет", ""),
        ("日本語テスト", ""),
        ("한국어", ""),
        ("naïve", ""),
        ("Ångström", ""),
    ],
)
def test_words_that_are_not_what_they_seem(word: str, odd: str) -> None:
    assert oddity(word) == odd


@pytest.mark.parametrize("sign", "∕⁄／‐−․：＠ꓸ")
def test_signs_that_look_like_others(sign: str) -> None:
    assert any(token.note for token in tokens(f"acme.example{sign}pay"))


@given(st.text(max_size=100))
def test_tokens_make_up_the_text(text: str) -> None:
    assert "".join(token.text for token in tokens(text)) == text


async def test_marks_are_words_too(reception: Reception) -> None:
    page = await page_of(reception, arguments={"to": "pаypal.com\u200b", "ｔo": "x" + " " * 50 + "y"})
    assert '<mark class="alike" title="Cyrillic and Latin letters in one word">pаypal</mark>' in page
    assert "<li>Cyrillic and Latin letters in one word</li>" in page
    assert "<li>characters that cannot be seen, shown as escapes</li>" in page
    assert "<li>styled letters that stand for “to”</li>" in page
    assert "50 spaces" in page
