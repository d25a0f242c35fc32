from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from zt_agents.audit import AuditRecord, RecordKind
from zt_agents.audit.calls import CallState
from zt_agents.cli import app
from zt_agents.stores.sqlite_audit import SqliteAuditSink

TUESDAY = 1_700_000_000.0  # 2023-11-14T22:13:20Z
DAY = 86_400.0


def decision(number: int, after: float, **changes: Any) -> AuditRecord:
    made = AuditRecord(
        RecordKind.DECISION,
        time=TUESDAY + after,
        decision_id=f"d-{number}",
        tool="read_ticket",
        outcome="allow",
        tier="low",
        reasons=(("rule", "Helpdesk may read.", "daily-work"),),
        rule_id="daily-work",
        effects=("read",),
        resource="ticket/5",
        data_class="internal",
        agent="helpdesk",
        agent_version="1.0",
        user_id="alice@acme.example",
        session_id="s-1",
        task="t-1",
        trace_id="0af7" * 8,
    )
    return made._replace(**changes)


def end(of: AuditRecord, status: str = "ok", **changes: Any) -> AuditRecord:
    bare = AuditRecord(RecordKind.OUTCOME, of.time + 0.5, of.decision_id, of.tool, of.outcome)
    return bare._replace(agent=of.agent, user_id=of.user_id, session_id=of.session_id, status=status, **changes)


def write(path: Path, *records: AuditRecord) -> Path:
    with closing(SqliteAuditSink(path)) as sink:
        sink.append(records)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A call of every state; two sessions, two days."""
    ran, failed, stopped = decision(1, 0), decision(2, 1, tool="search"), decision(3, 2, tool="fetch")
    held = decision(4, 3, tool="close_ticket", tier="high", outcome="require_approval")
    approved = held._replace(
        outcome="allow", time=held.time + 10, approved_by="dana", reasons=(("approved", "Yes.", None),)
    )
    asked = decision(5, 20, tool="wipe", outcome="require_approval")
    refused = asked._replace(
        outcome="deny", time=asked.time + 4, approved_by="dana", reasons=(("not_approved", "No.", None),)
    )
    mail = decision(
        6, 30, tool="send_mail", outcome="deny", reasons=(("rule", "Stays inside.", "no-mail"),), rule_id="no-mail"
    )
    waiting = decision(7, 40, tool="pay", outcome="require_approval")
    other = decision(8, 600 + DAY, agent="other", user_id="bob", session_id="s-2", task="t-2")
    orphan = end(decision(9, 700 + DAY, tool="odd", agent="other", session_id="s-2", user_id="bob"))
    return write(
        tmp_path / "audit.db",
        *(ran, end(ran, duration_ms=12.34), failed, end(failed, "error", error_type="OSError", duration_ms=3000.0)),
        *(stopped, end(stopped, "cancelled", duration_ms=150.0), held, approved, end(approved, duration_ms=5.0)),
        *(asked, refused, mail, waiting, other, orphan),
    )


def run(path: Path, *arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["audit", "timeline", "--log", str(path), *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


# the story


def test_the_story_of_one_day_and_user(path) -> None:
    told = lines(run(path, "--agent", "helpdesk", "--user", "alice@acme.example", "--on", "2023-11-14"))
    assert told[:3] == [
        "What agent helpdesk did for alice@acme.example",
        "From 2023-11-14 00:00:00Z to 2023-11-15 00:00:00Z. All times are UTC.",
        "7 calls: 1 allowed, 1 approved, 1 failed, 1 stopped, 1 waiting, 1 refused, 1 denied.",
    ]
    assert told[3].startswith("Tuesday 14 November 2023 ─")
    assert told[4:12] == [
        "helpdesk 1.0 for alice@acme.example, task t-1, session s-1",
        "22:13:20 ● allowed read_ticket low read ticket/5 (internal) 12.3 ms Helpdesk may read. [rule daily-work]",
        "22:13:21 ■ failed search low read ticket/5 (internal) 3.0 s OSError Helpdesk may read. [rule daily-work]",
        "22:13:22 ▬ stopped fetch low read ticket/5 (internal) 150 ms cancelled Helpdesk may read. [rule daily-work]",
        "22:13:23 ◆ approved close_ticket high read ticket/5 (internal) 5.0 ms Yes. [rule daily-work] "
        "Approved by dana after 10.0 s.",
        "22:13:40 ▼ refused wipe low read ticket/5 (internal) did not run No. [rule daily-work] "
        "Refused by dana after 4.0 s.",
        "22:13:50 ✘ denied send_mail low read ticket/5 (internal) did not run Stays inside. [rule no-mail]",
        "22:14:00 ◇ waiting pay low read ticket/5 (internal) did not run Helpdesk may read. [rule daily-work]",
    ]
    assert re.fullmatch(r"Head 15:[0-9a-f]{64}, unproven: see zt-agents audit verify\.", told[12])


def test_days_and_sessions_are_chapters(path) -> None:
    told = lines(run(path))
    assert [line for line in told if "───" in line] == [told[3], told[12]]
    assert told[13] == "other 1.0 for bob, task t-2, session s-2"
    assert "○ open" in told[14]
    assert "? unclear odd" in told[16]


def test_local_times_are_read_and_said_to_be_local(path, monkeypatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        told = run(path, "--local", "--on", "2023-11-15", "--agent", "helpdesk")
        assert "From 2023-11-15 00:00:00+0900 to 2023-11-16 00:00:00+0900. All times are local time." in told
        assert "Wednesday 15 November 2023" in told
        assert "07:13:20" in told
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_limit_keeps_the_newest_and_says_so(path) -> None:
    told = run(path, "--limit", 2)
    assert "2 calls: 1 open, 1 unclear. There are older ones" in told
    assert "There are older ones" not in run(path, "--limit", 9)


@pytest.mark.parametrize(
    "wrong",
    [
        ("--since", "soon"),
        ("--on", "2 hours ago"),
        ("--on", "today", "--since", "1h"),
        ("--since", "today", "--until", "yesterday"),
        ("--limit", "0"),
        ("--html", "no/such/folder/page.html"),
    ],
)
def test_what_makes_no_sense_is_refused(path, wrong) -> None:
    run(path, *wrong, code=2)


def test_a_window_without_calls_is_an_answer(path, tmp_path) -> None:
    assert "No calls." in run(path, "--until", "1999-01-01")
    run(path, "--until", "1999-01-01", "--html", tmp_path / "page.html")
    assert "No calls." in (tmp_path / "page.html").read_text()


# the page


class Page(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), "an attribute comes twice"
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def found(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.tags if name == tag)


TAGS = {
    *("html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "div", "ul", "li", "strong", "code"),
    *(
        "svg",
        "g",
        "rect",
        "text",
        "line",
        "a",
        "path",
        "circle",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    ),
}


def page_of(path: Path, tmp_path: Path, *arguments: object) -> tuple[Page, str]:
    file = tmp_path / "page.html"
    run(path, "--html", file, *arguments)
    assert file.stat().st_mode & 0o077 == 0
    text = file.read_text(encoding="utf-8")
    return Page(text), text


def assert_inert(page: Page, text: str) -> None:
    """Nothing on the page runs, loads or leads away."""
    assert page.open == []
    assert {tag for tag, _ in page.tags} <= TAGS
    for _, attributes in page.tags:
        assert not [
            name for name in attributes if name.startswith("on") or name in {"src", "style", "srcdoc", "action"}
        ]
    assert all(re.fullmatch(r"#call-\d+", attributes["href"] or "") for attributes in page.found("a"))
    assert text.count("<style>") == text.count("</style>") == 1
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|expression|\\", style)
    policies = [item for item in page.found("meta") if item.get("http-equiv") == "Content-Security-Policy"]
    assert [item["content"] for item in policies] == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert text.index("Content-Security-Policy") < text.index("<title>")


def test_the_picture_has_a_lane_a_session_and_a_mark_a_call(path, tmp_path) -> None:
    page, text = page_of(path, tmp_path)
    assert_inert(page, text)
    svg = ElementTree.fromstring(re.search(r"<svg xmlns.*?</svg>", text, re.DOTALL)[0])  # type: ignore[index]
    space = "{http://www.w3.org/2000/svg}"
    assert len(svg.findall(f"{space}rect")) == 3  # an outcome without a decision names no task
    marks = svg.findall(f"{space}a")
    assert [mark.get("href") for mark in marks] == [f"#call-{n}" for n in range(1, 10)]
    ids = [attributes.get("id") for attributes in page.found("tr")]
    assert [identity for identity in ids if identity] == [f"call-{n}" for n in range(1, 10)]
    assert (marks[0].find(f"{space}title").text or "") == (  # type: ignore[union-attr]
        "2023-11-14 22:13:20Z: read_ticket ticket/5 was allowed. Helpdesk may read. [rule daily-work] 12.3 ms"
    )
    places = [float(re.match(r"translate\(([\d.]+)", mark.get("transform") or "")[1]) for mark in marks]  # type: ignore[index]
    assert places == sorted(places)
    assert max(places) < float(svg.get("width") or 0)
    ticks = [tick for tick in svg.findall(f"{space}text") if tick.get("class") == "faint"]
    assert [tick.text for tick in ticks][:2] == ["Tue 14 Nov 22:13:20", "22:13:50"]
    ends = [float(tick.get("x") or 0) + 7 * len(tick.text or "") for tick in ticks]
    assert all(end < float(tick.get("x") or 0) for end, tick in zip(ends, ticks[1:], strict=False))


def test_each_state_has_a_shape_a_colour_and_a_word_of_its_own(path, tmp_path) -> None:
    page, text = page_of(path, tmp_path)
    legend = text.partition('<ul class="legend">')[2].partition("</ul>")[0]
    shapes = dict(re.findall(r'<svg class="mark (\w+)"[^>]*>(.*?)</svg>', legend))
    assert set(shapes) == set(CallState)
    assert len(set(shapes.values())) == len(CallState)
    for state in CallState:
        assert f".{state}{{color:var(--{state})}}" in text
        assert text.count(f"--{state}:#") == 2  # light and dark
        assert f"<strong>{state}</strong>" in legend
    assert "prefers-color-scheme:dark" in text
    assert "".join(page.words).count("Approved by dana after 10.0 s.") == 2  # on the mark and in the table


ATTACKS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    '" onfocus="alert(1)" autofocus="',
    "</title><script>alert(1)</script>",
    "</style><svg/onload=alert(1)>",
    "</svg></a><a href=javascript:alert(1)>x</a>",
    "]]><!-- <!--",
    "&lt;script&gt;&#x3c;b&#62;",
    "<style>*{background:url(//evil.example)}</style>",
    "{{7*7}}${7*7}",
    "\u202egnp.exe\x00\x1b[31m\u2028",
    "x" * 5000,
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_text_stays_text(tmp_path, attack) -> None:
    fields = (
        "tool",
        "tier",
        "outcome",
        "agent",
        "agent_version",
        "user_id",
        "task",
        "session_id",
        "resource",
        "system",
    )
    fields += ("data_class", "rule_id", "trace_id", "owner")
    first = decision(1, 0, **dict.fromkeys(fields, attack), effects=(attack,), reasons=((attack, attack, attack),))
    second = decision(2, 5, tool=attack, user_id=attack, reasons=((attack, attack, attack),), rule_id=attack)
    held = decision(3, 6, outcome="require_approval", agent=attack)
    third = held._replace(outcome="allow", approved_by=attack, time=held.time + 1)
    records = (first, second, end(second, "error", error_type=attack), held, third)
    path = write(tmp_path / "hostile.db", *records)
    page, text = page_of(path, tmp_path)
    assert_inert(page, text)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", text)
    if attack.isascii() and len(attack) < 100:
        assert attack in "".join(page.words)
    assert len(text) < 40_000

    _, asked = page_of(path, tmp_path, "--agent", attack)  # what was asked for is on the page too
    assert_inert(Page(asked), asked)
    told = run(path)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", told)


def test_records_that_are_no_records_do_not_stop_the_story(path, tmp_path) -> None:
    import sqlite3

    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE record SET body = 'x' WHERE seq = 1")
        odd = b'{"reasons":3,"time":[],"agent":{},"effects":7,"decision_id":[1],"outcome":["allow"]}'
        connection.execute("UPDATE record SET body = ? WHERE seq = 3", (odd,))
    write(path, decision(20, 1e300), decision(21, -1e15))
    assert "unknown" in run(path)
    page, text = page_of(path, tmp_path)
    assert_inert(page, text)


def test_making_a_page_does_not_change_the_log(path, tmp_path) -> None:
    before = path.read_bytes()
    page_of(path, tmp_path)
    assert path.read_bytes() == before
