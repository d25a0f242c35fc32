"""What a notice says, and that whatever is in a request stays text in Slack, Teams and mail."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from approval_requests import answer, request
from hostile_requests import ANY, CONSOLE, JSON, both, every_known_trick, hostile, plain, stored, told
from hypothesis import given, settings

from zt_agents.approvals import ApprovalState
from zt_agents.approvals.notices import (
    NoticeEvent,
    as_json,
    as_mail,
    as_slack,
    as_teams,
    notice,
    notice_id,
)
from zt_agents.catalog.specs import Tier
from zt_agents.decisions import ApprovalTerms, SecondFactor


def test_by_default_no_value_of_an_argument_is_told() -> None:
    made = told(stored(request(arguments={"to": "s3cret-a", "amount": "s3cret-b"})))
    for body in (as_json(made), as_slack(made), as_teams(made), repr(as_mail(made)).encode()):
        assert b"s3cret" not in body
        assert b"account/bob" not in body, "the resource is made of arguments"
        assert b"Pay Bob" not in body, "what the user asked for is the user's own"
        assert b"account/{args.to}" in body


def test_the_only_link_is_the_console_s_and_carries_nothing() -> None:
    found = replace(stored(), id="a/../b?c#d")
    made = told(found)
    assert made.link == f"{CONSOLE}/requests/a%2F..%2Fb%3Fc%23d"
    assert "".join(as_mail(made)).count("http") == 1
    assert as_slack(made).count(b"http") == 1
    assert as_teams(made).count(b"https://zt.example") == 1
    without = notice(found, NoticeEvent.REQUESTED)
    assert without is not None
    assert b"http" not in as_slack(without)
    assert "http" not in "".join(as_mail(without))


@pytest.mark.parametrize(
    ("terms", "who"),
    [
        ((ApprovalTerms(),), "anyone"),
        ((ApprovalTerms(("owner", "group:finance"), 2),), "2 of: the agent's owner dana@acme.example or group:finance"),
        ((ApprovalTerms(("session-user",)), ApprovalTerms(("user:eve",))), "the user; and user:eve"),
        (
            (ApprovalTerms(exclude=("owner",), second_factor=SecondFactor.PASSKEY),),
            "anyone, but not the agent's owner dana@acme.example, with a second factor (passkey)",
        ),
        (
            (ApprovalTerms(("user:eve",), escalate_after=60, escalate_to=("group:a", "group:b")),),
            "user:eve, after 60 s also group:a or group:b",
        ),
    ],
)
def test_it_says_who_may_answer(terms: tuple[ApprovalTerms, ...], who: str) -> None:
    assert dict(told(stored(request(*terms))).facts)["approvers"] == who


def test_it_says_what_silence_means() -> None:
    made = request(ApprovalTerms(grace=30))
    assert "silence" not in dict(told(stored(made)).facts), "of the high tier"
    made = replace(made, decision=made.decision._replace(tier=Tier.MEDIUM))
    assert dict(told(stored(made)).facts)["silence"] == "is a yes, 30 s after somebody was shown it"


def test_a_question_that_is_settled_is_not_asked() -> None:
    assert notice(stored(None, ApprovalState.DENIED), NoticeEvent.REQUESTED) is None
    assert notice(replace(stored(), request=None), NoticeEvent.REQUESTED) is None


def test_the_end_says_what_became_of_it_and_who_said_so() -> None:
    made = request()
    answers = [answer(made, f"person-{n}", n % 2 == 0) for n in range(8)]
    end = told(stored(made, ApprovalState.DENIED, *answers), NoticeEvent.SETTLED)
    assert end.title == "Denied: pay (high tier)"
    assert dict(end.facts)["answers"].startswith("person-0 said yes, person-1 said no, ")
    assert dict(end.facts)["answers"].endswith("3 more")
    assert told(stored(made), NoticeEvent.SETTLED).state is ApprovalState.EXPIRED


def test_a_notice_that_is_made_again_is_the_same() -> None:
    made = request()
    later = stored(made, ApprovalState.PENDING, answer(made, "dana@acme.example"))
    for form in (as_json, as_slack, as_teams, as_mail):
        assert form(told(stored(made))) == form(told(later))


def test_its_id_is_of_request_event_and_destination() -> None:
    ids = {notice_id(r, e, d) for r in ("a", "a,b") for e in NoticeEvent for d in ("b", "c")}
    assert len(ids) == 2 * len(NoticeEvent) * 2
    assert notice_id("a", NoticeEvent.REQUESTED, "b") == notice_id("a", NoticeEvent.REQUESTED, "b")


def test_what_is_cut_says_so() -> None:
    arguments = {f"name-{n}": "x" * 1_000_000 for n in range(11)}
    asked = request()
    asked = replace(asked, call=asked.call._replace(arguments=arguments))
    made = told(stored(asked), with_arguments=True)
    assert len(made.arguments) == 8
    assert made.arguments[0][1].endswith("… [1,000,002 characters in all]")
    assert "arguments: 3 more are NOT SHOWN" in as_mail(made)[1]
    gap = told(stored(request(arguments={"to": "a" + 50 * " " + "b"})), with_arguments=True)
    assert dict(gap.arguments)["to"] == '"a [50 spaces] b"'


@pytest.mark.parametrize("letter", ["\U0001d49c", "<", "\u202e", "\\", '"', "\x00", "&", "ü"])
def test_at_its_longest_it_is_not_longer_than_teams_and_slack_take(letter: str) -> None:
    made = told(hostile(letter * 5000, count=20), with_arguments=True)
    assert len(as_teams(made)) < 28_000
    message = json.loads(as_slack(made))
    assert len(message["blocks"]) <= 50
    for block in message["blocks"]:
        assert len(block.get("fields", [])) <= 10
        for text in texts_of_slack(block):
            assert 1 <= len(text["text"]) <= 2000


@pytest.mark.parametrize("seconds", [math.inf, -math.inf, math.nan, 1e300, -1e300])
def test_a_time_that_is_none_is_left_out(seconds: float) -> None:
    made = told(stored(replace(request(), expires_at=seconds)))
    assert "expires" not in dict(made.facts)


# whatever is in a request


def texts_of_slack(part: Any) -> list[dict[str, Any]]:
    if isinstance(part, list):
        return [text for each in part for text in texts_of_slack(each)]
    if not isinstance(part, dict):
        return []
    if part.get("type") in {"plain_text", "mrkdwn"}:
        return [part]
    return [text for each in part.values() for text in texts_of_slack(each)]


@every_known_trick
@settings(max_examples=60, deadline=None)
@given(ANY, JSON)
def test_whatever_is_in_it_json_is_ascii_and_tells_the_same(text: str, value: Any) -> None:
    for made in both(hostile(text, value=value)):
        body = as_json(made)
        assert all(0x20 <= byte < 0x7F for byte in body)
        assert set(json.loads(body)) == {"type", "timestamp", "data"}


@every_known_trick
@settings(max_examples=60, deadline=None)
@given(ANY, JSON)
def test_whatever_is_in_it_slack_is_shown_plain_text(text: str, value: Any) -> None:
    for made in both(hostile(text, value=value)):
        message = json.loads(as_slack(made))
        assert set(message) == {"text", "mrkdwn", "unfurl_links", "unfurl_media", "blocks"}
        assert not set("<>@") & set(message["text"])
        assert message["blocks"][0]["type"] == "header"
        *shown, link = texts_of_slack(message["blocks"])
        assert link == {"type": "mrkdwn", "text": f"<{made.link}|Open in the console>", "verbatim": True}
        assert made.link.startswith(f"{CONSOLE}/requests/")
        assert not set('<>|"& \n') & set(made.link)
        for each in shown:
            assert each["type"] == "plain_text"
            assert each["emoji"] is False
            assert not set("<>") & set(each["text"])
            assert "://" not in each["text"]
            assert plain(each["text"])
            assert each["text"].count("&") == sum(each["text"].count(e) for e in ("&amp;", "&lt;", "&gt;"))


@every_known_trick
@settings(max_examples=60, deadline=None)
@given(ANY, JSON)
def test_whatever_is_in_it_teams_is_shown_runs_of_text(text: str, value: Any) -> None:
    for made in both(hostile(text, value=value)):
        message = json.loads(as_teams(made))
        assert message["summary"] == made.heading
        (attachment,) = message["attachments"]
        card = attachment["content"]
        assert set(card) == {"$schema", "type", "version", "body", "actions"}, "without msteams.entities: no mention"
        assert card["actions"] == [{"type": "Action.OpenUrl", "title": "Open in the console", "url": made.link}]
        heading, *rows = card["body"]
        assert heading["text"] == made.heading
        for row in rows:
            assert row["type"] == "RichTextBlock"
            for run in row["inlines"]:
                assert run["type"] == "TextRun"
                assert "{{" not in run["text"]
                assert "<at" not in run["text"]
                assert "://" not in run["text"]
                assert plain(run["text"])


@every_known_trick
@settings(max_examples=60, deadline=None)
@given(ANY, JSON)
def test_whatever_is_in_it_a_mail_has_the_lines_it_should_have(text: str, value: Any) -> None:
    for made in both(hostile(text, value=value)):
        subject, body = as_mail(made)
        assert plain(subject)
        assert subject.isascii()
        assert "=?" not in subject
        assert "://" not in subject
        lines = body.split("\n")
        assert all(plain(line) for line in lines)
        asked = 2 if made.event is NoticeEvent.REQUESTED else 0
        assert len(lines) == 2 + len(made.facts) + len(made.arguments) + 1 + 2 + asked + 1
        assert body.count("://") == 1
