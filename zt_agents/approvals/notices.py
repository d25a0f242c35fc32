"""What people are told of a request: that it waits, still waits, and what became of it. Pure: nothing is sent here.

Rules:

1. A notice is a pointer, not a key: its only link leads to the console, where whoever follows it says who they are.
2. No value of an argument is in it unless that was asked for, and then shortened. What is cut says so.
3. What models and strangers wrote is text and nothing else wherever it arrives: it starts no line, no mention, no link
   and no markup of Slack, Teams or mail.
4. A notice about one event to one destination has one id, however often it is sent.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from zt_agents._internal.clock import rfc3339
from zt_agents._internal.display import visible
from zt_agents.approvals.requests import SESSION_USER, ApprovalRequest, ApprovalState
from zt_agents.approvals.rulings import silent_yes_after
from zt_agents.approvals.store import StoredApproval
from zt_agents.decisions import ApprovalTerms, SecondFactor

_LONGEST_FACT, _LONGEST_VALUE, _LONGEST_NAME = 200, 160, 60
"""Characters shown. With all of them at their longest a card stays under the 28 KB that Teams takes."""
_MOST_ARGUMENTS, _MOST_ANSWERS = 8, 5
_FIELDS = 10
"""So many fields has a section of Slack's at most."""
_GAP = re.compile(" {4,}")
_WWW = re.compile(r"\b(www)\.", re.IGNORECASE)
_LABELS = {"user": "for", "intent": "asked for", "approvers": "who may answer"}
_OF_A_QUESTION = {"why", "approvers", "silence", "expires"}
_HEADINGS = {
    ApprovalState.PENDING: "Approval needed",
    ApprovalState.APPROVED: "Approved",
    ApprovalState.DENIED: "Denied",
    ApprovalState.EXPIRED: "Expired without an answer",
    ApprovalState.CANCELLED: "Withdrawn",
    ApprovalState.FAILED: "Not approved",
}
OPEN = "Open in the console"


class NoticeEvent(StrEnum):
    """What happened to a request."""

    REQUESTED = "requested"
    ESCALATED = "escalated"
    """Nobody has answered, and more people may."""
    SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class Notice:
    """One event, in texts that are visible, short, and one line each."""

    request_id: str
    event: NoticeEvent
    state: ApprovalState
    time: str
    """When it happened, RFC 3339."""
    facts: tuple[tuple[str, str], ...] = ()
    """Name and text of each, without the arguments. Empty once the request was erased."""
    arguments: tuple[tuple[str, str], ...] = ()
    left_out: int = 0
    """How many arguments are not shown because there are too many."""
    link: str = ""

    @property
    def heading(self) -> str:
        """What happened, in words that are always the same."""
        return "Approval still needed" if self.event is NoticeEvent.ESCALATED else _HEADINGS[self.state]

    @property
    def title(self) -> str:
        facts = dict(self.facts)
        return f"{self.heading}: {facts['tool']} ({facts['tier']} tier)" if "tool" in facts else self.heading


def notice_id(request_id: str, event: NoticeEvent, destination: str) -> str:
    """Return the id of the notice about *event* to *destination*, by which a receiver knows one that comes again."""
    named = json.dumps([request_id, event, destination]).encode()
    return f"zt_{hashlib.sha256(named).hexdigest()[:40]}"


def notice(
    stored: StoredApproval, event: NoticeEvent, *, console: str = "", with_arguments: bool = False
) -> Notice | None:
    """Return what is to be told of *stored*, or None for a question that nobody needs to answer any more.

    A request that ran out and was not looked at since is pending in its store; told as settled, it has expired.
    """
    asked, state = stored.request, stored.state
    if event is not NoticeEvent.SETTLED and (state is not ApprovalState.PENDING or asked is None):
        return None
    if event is NoticeEvent.SETTLED and state is ApprovalState.PENDING:
        state = ApprovalState.EXPIRED
    named = quote(stored.id[:_LONGEST_NAME], safe="", errors="replace")
    link = f"{console}/requests/{named}" if console else ""
    if asked is None:
        return Notice(stored.id, event, state, _moment(stored.decided_at), link=link)
    times = {
        NoticeEvent.REQUESTED: asked.call.time,
        NoticeEvent.ESCALATED: escalates_at(asked),
        NoticeEvent.SETTLED: asked.expires_at if stored.decided_at is None else stored.decided_at,
    }
    facts = [*_facts(asked, with_arguments)]
    if event is NoticeEvent.SETTLED:
        facts = [fact for fact in facts if fact[0] not in _OF_A_QUESTION] + [("answers", _said(stored))]
        with_arguments = False
    shown = list(asked.call.arguments.items())[:_MOST_ARGUMENTS] if with_arguments else []
    values = [(name, json.dumps(value, ensure_ascii=False)) for name, value in shown]
    return Notice(
        request_id=stored.id,
        event=event,
        state=state,
        time=_moment(times[event]),
        facts=tuple((name, _shown(text, _LONGEST_FACT)) for name, text in facts if text),
        arguments=tuple((_shown(name, _LONGEST_NAME), _shown(value, _LONGEST_VALUE)) for name, value in values),
        left_out=len(asked.call.arguments) - len(shown) if with_arguments else 0,
        link=link,
    )


def escalates_at(request: ApprovalRequest) -> float | None:
    """Return when more people may first answer *request*, in seconds since the epoch, or None where none ever do."""
    after = min((terms.escalate_after for terms in request.terms if terms.escalate_after), default=0)
    return request.call.time + after if after else None


def _facts(request: ApprovalRequest, with_arguments: bool) -> Iterator[tuple[str, str]]:
    call, spec, agent, user = request.call, request.call.spec, request.call.agent, request.call.user
    yield "tool", call.tool
    yield "tier", request.decision.tier
    if spec is not None:
        yield "effects", ", ".join(sorted(spec.effects))
        yield "system", spec.system
    # Where the tool's entry says resource: ticket/{args.id}, what is filled in is the value of an argument.
    yield "resource", call.resource if with_arguments else spec.resource if spec is not None else ""
    yield "agent", f"{agent.name} {agent.version}" if agent is not None else "unknown"
    yield "owner", agent.owner if agent is not None else ""
    yield "user", user.id if user is not None else "unknown"
    if with_arguments:
        yield "intent", call.intent
    yield "why", " ".join(str(reason.text) for reason in request.decision.reasons)
    yield "approvers", "; and ".join(_who(terms, agent.owner if agent is not None else "") for terms in request.terms)
    silence = silent_yes_after(request)
    yield "silence", "" if silence is None else f"is a yes, {silence} s after somebody was shown it"
    yield "expires", _moment(request.expires_at)


def _who(terms: ApprovalTerms, owner: str) -> str:
    known = {"owner": f"the agent's owner {owner}".rstrip(), SESSION_USER: "the user"}

    def named(words: Sequence[str]) -> str:
        return " or ".join(known.get(word, str(word)) for word in words)

    who = f"{terms.quorum} of: {named(terms.approvers)}" if terms.quorum > 1 else named(terms.approvers)
    if terms.exclude:
        who += f", but not {named(terms.exclude)}"
    if terms.second_factor is not SecondFactor.NONE:
        who += f", with a second factor ({terms.second_factor})"
    if terms.escalate_after:
        who += f", after {terms.escalate_after} s also {named(terms.escalate_to)}"
    return who


def _said(stored: StoredApproval) -> str:
    said = [f"{answer.approver} said {'yes' if answer.approved else 'no'}" for answer in stored.answers]
    more = [f"{len(said) - _MOST_ANSWERS} more"] if len(said) > _MOST_ANSWERS else []
    return ", ".join(said[:_MOST_ANSWERS] + more)


def _shown(text: object, most: int) -> str:
    whole = str(text)
    readable = _GAP.sub(lambda gap: f" [{len(gap[0])} spaces] ", visible(whole[:most]))
    if len(whole) <= most and len(readable) <= most:
        return readable
    mark = f"… [{len(whole):,} characters in all]"
    return readable[: most - len(mark)] + mark


def _moment(seconds: object) -> str:
    try:
        return rfc3339(float(seconds))[:19] + "Z" if isinstance(seconds, int | float) else ""
    except (ValueError, OverflowError, OSError):
        return ""


# -- what each kind of destination takes ------------------------------------------------------------------------------


def as_json(told: Notice) -> bytes:
    """Return *told* as an event of Standard Webhooks: type, timestamp, data. ASCII."""
    named = visible(told.request_id, limit=_LONGEST_FACT)
    data: dict[str, Any] = {"request": named, "state": told.state, **dict(told.facts)}
    if told.arguments:
        data["arguments"] = [{"name": name, "value": value} for name, value in told.arguments]
        data["arguments_left_out"] = told.left_out
    if told.link:
        data["link"] = told.link
    document = {"type": f"approval.{told.event}", "timestamp": told.time, "data": data}
    return json.dumps(document, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def as_slack(told: Notice) -> bytes:
    """Return *told* as a message in Slack's Block Kit.

    What others wrote is in objects of the type ``plain_text`` alone, in which Slack looks for no mention or emphasis.
    """
    rows = [_slack_text(f"{label}: {text}") for label, text in _rows(told)]
    blocks: list[dict[str, Any]] = [{"type": "header", "text": _slack_text(told.heading)}]
    blocks += [{"type": "section", "fields": rows[at : at + _FIELDS]} for at in range(0, len(rows), _FIELDS)]
    if told.link:
        link = f"<{_slack_escaped(told.link)}|{OPEN}>"
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": link, "verbatim": True}})
    # Others take this format too, and show the text: where an @ in it would call people.
    text = _slack_escaped(_inert(told.title).replace("@", "(at)"))
    return _utf8({"text": text, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False, "blocks": blocks})


def _slack_text(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": _slack_escaped(_inert(text)), "emoji": False}


def _slack_escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def as_teams(told: Notice) -> bytes:
    """Return *told* as a message with an Adaptive Card, as incoming webhooks and workflows of Teams take it.

    What others wrote is in runs of text alone, which know no Markdown.
    """
    body: list[dict[str, Any]] = [
        {"type": "TextBlock", "text": told.heading, "weight": "Bolder", "size": "Medium", "wrap": True}
    ]
    for label, text in _rows(told):
        bold = {"type": "TextRun", "text": f"{_card_text(label)}: ", "weight": "Bolder"}
        runs = [bold, {"type": "TextRun", "text": _card_text(text)}]
        body.append({"type": "RichTextBlock", "spacing": "Small", "inlines": runs})
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
    }
    if told.link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": OPEN, "url": told.link}]
    kind = "application/vnd.microsoft.card.adaptive"
    attachment = {"contentType": kind, "contentUrl": None, "content": card}
    return _utf8({"type": "message", "summary": told.heading, "attachments": [attachment]})


def _card_text(text: str) -> str:
    # {{DATE(...)}} is computed and <at>...</at> is a mention wherever a card has text.
    return _inert(text).replace("{{", "{ {").replace("<", "< ")


def as_mail(told: Notice) -> tuple[str, str]:
    """Return subject and text of *told*. In the text each line is one fact; the subject is one of ASCII."""
    lines = [told.heading, "", *(f"{_inert(label)}: {_inert(text)}" for label, text in _rows(told))]
    if told.link:
        lines += ["", f"{OPEN}: {told.link}"]
    if told.event is not NoticeEvent.SETTLED:
        lines += ["", "Whoever answers has to say who they are: this message lets nobody in."]
    # In a header, other letters need encoded words, and what looks like one would be decoded.
    subject = _inert(told.title).replace("=?", "= ?").encode("ascii", "backslashreplace").decode()
    return subject if len(subject) <= _LONGEST_FACT else f"{subject[: _LONGEST_FACT - 3]}...", "\n".join(lines) + "\n"


def _rows(told: Notice) -> Sequence[tuple[str, str]]:
    """Return label and text of all that people are shown."""
    rows = [(_LABELS.get(name, name), text) for name, text in told.facts]
    rows += [(f"argument {name}", text) for name, text in told.arguments]
    if told.left_out:
        rows.append(("arguments", f"{told.left_out} more are NOT SHOWN"))
    return [*rows, ("request", visible(told.request_id, limit=_LONGEST_FACT))]


def _inert(text: str) -> str:
    """Return *text* so that no program makes a link of an address in it."""
    return _WWW.sub(r"\1[.]", text.replace("://", "[:]//"))


def _utf8(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
