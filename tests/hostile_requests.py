"""Requests that are hostile in every text that they have, for the tests of notices."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import Any

from approval_requests import NOW, request
from hypothesis import example
from hypothesis import strategies as st

from zt_agents.approvals import Answer, ApprovalState, StoredApproval
from zt_agents.approvals.notices import Notice, NoticeEvent, notice
from zt_agents.decisions import ApprovalTerms
from zt_agents.identity import Agent, User

CONSOLE = "https://zt.example"

ACTIVE = [
    *("<!channel>", "<!here|x>", "<@U123>", "@channel", "@here", "<https://evil.example|your bank>", "*b*", "`c`"),
    *("[your bank](https://evil.example)", "<at>Dana</at>", "{{DATE(2026-01-01T00:00:00Z,SHORT)}}", "# h", "&lt;"),
    *(
        "\r\nBcc: eve@evil.example",
        "\n.\r\n",
        "=?utf-8?q?=0aBcc:_eve=40evil.example?=",
        "\x00\x1b[2J",
        "\u202e",
        "\ud800",
    ),
    *(
        "www.evil.example",
        "HTTPS://evil.example",
        ":tada:",
        "\u2028x",
        "\x85x",
        '"}],"blocks":[',
        "${x}",
        "\u200b",
        "   " * 9,
    ),
]
ANY = st.text(max_size=80) | st.lists(st.sampled_from(ACTIVE) | st.text(max_size=10), max_size=6).map("".join)
JSON = st.recursive(ANY | st.integers() | st.none(), lambda some: st.lists(some, max_size=3), max_leaves=4)


def every_known_trick(test: Any) -> Any:
    """Have a property of a text and a value be tried with each of them too."""
    for text in ACTIVE:
        test = example(text, text)(test)
    return test


def hostile(text: str, *, count: int = 1, value: Any = None) -> StoredApproval:
    """Return a request with *text* wherever a text can be."""
    made = request(ApprovalTerms((f"user:{text}", f"group:{text}"), 2, 60))
    assert made.call.spec is not None
    user = User("kim")
    object.__setattr__(user, "id", text)  # a store may have been written by hand
    call = made.call._replace(
        tool=text,
        spec=replace(made.call.spec, name=text, system=text, resource=text),
        arguments={f"{n}{text}": text if value is None else value for n in range(count)},
        agent=Agent(text, text, text, text, text),
        user=user,
        intent=text,
        resource=text,
        time=NOW,
    )
    reasons = tuple(reason._replace(text=text) for reason in made.decision.reasons)
    made = replace(made, call=call, decision=made.decision._replace(reasons=reasons))
    found = stored(made)
    said = Answer(found.binding_hash, True, "dana")
    object.__setattr__(said, "approver", text)
    return replace(found, id=text, answers=(said,))


def both(found: StoredApproval) -> list[Notice]:
    ended = replace(found, state=ApprovalState.DENIED, decided_at=NOW)
    return [told(found, with_arguments=True), told(ended, NoticeEvent.SETTLED, with_arguments=True)]


def stored(made: Any = None, state: ApprovalState = ApprovalState.PENDING, *answers: Answer) -> StoredApproval:
    made = made or request()
    return StoredApproval(made.id, made.binding_hash, state, made, answers)


def told(found: StoredApproval, event: NoticeEvent = NoticeEvent.REQUESTED, **options: Any) -> Notice:
    made = notice(found, event, console=CONSOLE, **options)
    assert made is not None
    return made


def plain(text: str) -> bool:
    """Return whether *text* has nothing that a reader does not see, and no line break."""
    return all(unicodedata.category(each) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for each in text)
