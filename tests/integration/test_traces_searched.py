"""Searches as an investigator makes them: by user, by agent, by outcome. They find exactly the right traces."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from backends import Backend, Span, wait_for
from office import ALICE, BOB, HELPDESK, RESEARCHER, Office

OpenOffice = Callable[..., Office]
ALLOWED, DENIED = ("read_article", {"title": "Printers"}), ("drop_tickets", {})
SESSIONS = [
    ("helpdesk", ALICE, ALLOWED),
    ("helpdesk", ALICE, DENIED),
    ("helpdesk", BOB, ALLOWED),
    ("researcher", ALICE, ALLOWED),
    ("researcher", BOB, DENIED),
    ("researcher", "alice@acme.example.evil.example", ALLOWED),  # begins like another's
]


def play(office: Office) -> dict[str, tuple[str, str, str]]:
    """Play all sessions; return who and what, by trace id."""
    played = {}
    for agent, user, call in SESSIONS:
        with office.session(agent, user) as session:
            office.agent([call]).invoke({"messages": [("user", "Go on")]})
            assert session.span is not None
            played[session.span.trace_id] = (agent, user, "allow" if call is ALLOWED else "deny")
    office.provider.force_flush()
    return played


def traces(spans: list[Span]) -> set[str]:
    return {span.trace for span in spans}


SEARCHES: list[tuple[dict[str, str], Callable[[str, str, str], bool]]] = [
    ({"user.id": ALICE}, lambda agent, user, outcome: user == ALICE),
    ({"user.id": BOB}, lambda agent, user, outcome: user == BOB),
    ({"user.id": "mallory@acme.example"}, lambda agent, user, outcome: False),
    ({"gen_ai.agent.id": HELPDESK}, lambda agent, user, outcome: agent == "helpdesk"),
    ({"gen_ai.agent.id": RESEARCHER}, lambda agent, user, outcome: agent == "researcher"),
    ({"zt_agents.decision.outcome": "allow"}, lambda agent, user, outcome: outcome == "allow"),
    ({"zt_agents.decision.outcome": "deny"}, lambda agent, user, outcome: outcome == "deny"),
    (
        {"user.id": ALICE, "gen_ai.agent.id": HELPDESK, "zt_agents.decision.outcome": "deny"},
        lambda agent, user, outcome: (agent, user, outcome) == ("helpdesk", ALICE, "deny"),
    ),
]


def test_a_search_finds_exactly_the_right_traces(backend: Backend, open_office: OpenOffice) -> None:
    played = play(open_office("searched"))
    everything = wait_for(backend, "searched")
    assert traces(everything) == played.keys()
    for tags, fits in SEARCHES:
        found = backend.spans("searched", **tags)
        assert traces(found) == {trace for trace, facts in played.items() if fits(*facts)}, tags


def test_a_search_finds_a_call_by_itself(backend: Backend, open_office: OpenOffice) -> None:
    """All three are on the tool's own span: a server that searches span by span finds the call, not its neighbour."""
    office = open_office("searched-call")
    play(office)
    calls = [span for span in wait_for(backend, "searched-call") if span.name.startswith("execute_tool ")]
    assert len(calls) == len(SESSIONS)
    for span in calls:
        assert {"user.id", "gen_ai.agent.id", "zt_agents.decision.outcome"} <= span.tags.keys()


def test_users_are_hashed_where_that_is_asked_for(
    backend: Backend, open_office: OpenOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZT_AGENTS_TRACE_USER_IDS", "off")
    office = open_office("searched-hashed")
    played = play(office)
    everything = wait_for(backend, "searched-hashed")
    assert traces(everything) == played.keys()
    assert not backend.spans("searched-hashed", **{"user.id": ALICE})
    for user in (ALICE, BOB):
        hashed = office.guard.tracing.user(user)[1]
        found = backend.spans("searched-hashed", **{"user.hash": hashed})
        assert traces(found) == {trace for trace, (_, whose, _) in played.items() if whose == user}
    shown = repr(everything)
    assert "alice@" not in shown
    assert "bob@" not in shown
