"""Arguments, results, exceptions' messages and tokens are nowhere in what the server stored."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from backends import Backend, wait_for
from office import ALICE, Office, run

from zt_agents import AccessDeniedError, User
from zt_agents.integrations.langchain import ZeroTrustCallback
from zt_agents.testing import AnsweringChannel

OpenOffice = Callable[..., Office]


def test_no_secret_is_stored(backend: Backend, open_office: OpenOffice) -> None:
    human = AnsweringChannel(approve=lambda request: "yes" in request.call.arguments["words"])
    office = open_office("canaries", channel=human)
    tools = office.tools
    office.research = lambda question: f"canary-result about {question}"
    user = User(ALICE, attributes={"phone": "canary-attribute"})
    more = {"intent": "canary-intent", "attributes": {"ticket": "canary-request"}}
    tokens = []
    with office.session(on_behalf_of=user, **more) as session:  # type: ignore[arg-type]
        tokens.append(session.token)
        tools["ask_researcher"].invoke({"question": "canary-argument"})
        tools["read_article"].invoke({"title": "canary-argument"})  # through the driver, bound to its statement
        list(tools["list_tickets"].stream({}))
        tools["close_ticket"].invoke({"n": 1, "words": "canary-approved yes"})
        with pytest.raises(AccessDeniedError):
            tools["close_ticket"].invoke({"n": 1, "words": "canary-refused"})
        with pytest.raises(RuntimeError, match="canary-exception"):
            tools["post_note"].invoke({"text": "canary-exception"})
        with pytest.raises(AccessDeniedError):
            tools["send_mail"].invoke({"to": "canary-recipient@evil.example", "body": "canary-denied"})
        with pytest.raises(ValueError, match="canary"):
            tools["read_ticket"].invoke({"n": "canary-unparsable"})

    def broken(question: str) -> str:
        with office.session("researcher", "bob@acme.example") as inner:
            tokens.append(inner.token)
            raise RuntimeError("canary-exception, inside a sub-agent")

    office.research = broken
    with pytest.raises(RuntimeError, match="canary"):
        run(office, [("read_article", {"title": "canary-model"})], [("ask_researcher", {"question": "canary-model"})])
    carried = office.session()
    tokens.append(carried.token)
    tools["read_article"].invoke({"title": "canary"}, config={"callbacks": [ZeroTrustCallback(office.guard, carried)]})
    tools["read_article"].invoke({"title": "canary"}, config={"configurable": {"zt_session": carried.token}})

    spans = wait_for(backend, "canaries")
    never_decided = {"read_ticket", "drop_tickets"}  # the one did not parse, the other was not called
    assert {f"execute_tool {name}" for name in tools.keys() - never_decided} <= {span.name for span in spans}
    stored = backend.everything()
    assert "execute_tool ask_researcher" in stored
    assert "canary" not in stored
    for token in tokens:
        assert all(part not in stored for part in token.split("."))
    assert "notes are full" not in stored
    assert "Mail stays inside" not in stored, "nor the operator's reasons"


def test_the_search_would_find_them(
    backend: Backend, open_office: OpenOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments, and they alone, are there where content is asked for."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    office = open_office("captured")
    office.research = lambda question: "hidden-result"
    with office.session(intent="hidden-intent") as session:
        office.tools["ask_researcher"].invoke({"question": "shown-argument"})
        with pytest.raises(RuntimeError, match="shown-too"):
            office.tools["post_note"].invoke({"text": "shown-too"})
    wait_for(backend, "captured")
    stored = backend.everything()
    assert "shown-argument" in stored
    assert "shown-too" in stored
    assert "notes are full" not in stored
    assert "hidden-" not in stored
    assert session.token.split(".")[1] not in stored
