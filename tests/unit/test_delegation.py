"""A sub-agent inside a tool's body: its spans and records name everyone on whose word it acts."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import tool
from typer.testing import CliRunner
from world import ONE_AGENT, records_of

from zt_agents import AccessDeniedError, ConfigurationError, Guard, current_session
from zt_agents.audit.calls import Call
from zt_agents.cli import app
from zt_agents.integrations.langchain import ZeroTrustCallback
from zt_agents.testing import SpanRecorder, write_policy

POLICY = (
    ONE_AGENT
    + """
  researcher: {id: spiffe://acme.example/agent/researcher, version: "1", owner: dana@acme.example, purpose: tests}
  archivist: {id: spiffe://acme.example/agent/archivist, version: "1", owner: dana@acme.example, purpose: tests}
tools:
  ask: {tier: low, effects: [execute]}
  look: {tier: low, effects: [read]}
rules:
  - {id: work, agents: [helpdesk, researcher, archivist], tools: [ask, look], outcome: allow}
  - {id: not-13, agents: [archivist], tools: [look], outcome: deny, when: args.n == 13, reason: Taboo.}
"""
)
HELPDESK, RESEARCHER, ARCHIVIST = (
    f"spiffe://acme.example/agent/{name}" for name in ("helpdesk", "researcher", "archivist")
)
CHAIN, DEPTH = "zt_agents.delegation.chain", "zt_agents.delegation.depth"
USERS, CHANGED = "zt_agents.delegation.users", "zt_agents.delegation.user_changed"


class Desk:
    """A guard whose tool ``ask`` does, in its body, whatever a test tells it."""

    def __init__(self, folder: Path) -> None:
        self.recorder = SpanRecorder()
        self.bodies: dict[int, Callable[[], Any]] = {}

        @tool
        def ask(n: int) -> str:
            """Ask another agent."""
            self.bodies[n]()
            return "asked"

        @tool
        def look(n: int) -> str:
            """Look."""
            return "seen"

        self.ask, self.look = ask, look
        path = write_policy(folder, POLICY, [ask, look])
        self.guard = Guard.from_config(path, tracer_provider=self.recorder.provider)
        self.guard.protect([ask, look])

    def delegate(self, *actors: tuple[str, str], end: Callable[[], Any] | None = None) -> None:
        """Let each (agent, user) ask the next in a tool's body; the last one looks, or does what *end* says."""
        (agent, user), *rest = actors
        with self.guard.session(agent=agent, on_behalf_of=user):
            if rest:
                self.bodies[len(rest)] = lambda: self.delegate(*rest, end=end)
                self.ask.invoke({"n": len(rest)})
            else:
                (end or (lambda: self.look.invoke({"n": 1})))()

    def attributes(self, name: str) -> list[dict[str, Any]]:
        return [span.attributes for span in self.recorder.spans() if span.name == name]

    def records(self) -> list[dict[str, Any]]:
        return records_of(self.guard)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    with made.guard:
        yield made


def test_an_agent_alone_is_a_chain_of_one(desk: Desk) -> None:
    desk.delegate(("helpdesk", "alice"))
    (agent,) = desk.attributes("invoke_agent helpdesk")
    (look,) = desk.attributes("execute_tool look")
    assert (agent[CHAIN], agent[DEPTH]) == ((HELPDESK,), 1)
    assert not {USERS, CHANGED} & agent.keys()
    assert not {CHAIN, DEPTH, USERS, CHANGED} & look.keys()
    assert all("delegation" not in record for record in desk.records())


def test_a_sub_agents_chain_begins_with_who_acts_now(desk: Desk) -> None:
    desk.delegate(("helpdesk", "alice"), ("researcher", "alice"))
    (outer,) = desk.attributes("invoke_agent helpdesk")
    assert (outer[CHAIN], outer[DEPTH]) == ((HELPDESK,), 1)
    for name in ("invoke_agent researcher", "execute_tool look"):
        (inner,) = desk.attributes(name)
        assert (inner[CHAIN], inner[DEPTH]) == ((RESEARCHER, HELPDESK), 2)
        assert inner["user.id"] == "alice"
        assert inner[USERS] == ("alice", "alice")
        assert CHANGED not in inner


def test_another_user_than_the_callers_is_plain_to_see(desk: Desk) -> None:
    desk.delegate(("helpdesk", "alice"), ("researcher", "mallory"), ("archivist", "mallory"))
    (outer,) = desk.attributes("invoke_agent helpdesk")
    assert CHANGED not in outer
    for name, users in [
        ("invoke_agent researcher", ("mallory", "alice")),
        ("invoke_agent archivist", ("mallory", "mallory", "alice")),  # nor does a further step hide it
        ("execute_tool look", ("mallory", "mallory", "alice")),
    ]:
        (inner,) = desk.attributes(name)
        assert (inner["user.id"], inner[USERS], inner[CHANGED]) == ("mallory", users, True)


def test_the_audit_log_names_the_chain_where_there_is_one(desk: Desk) -> None:
    desk.delegate(("helpdesk", "alice"), ("researcher", "bob"), end=lambda: desk.look.invoke({"n": 1}))
    chains = {record["tool"]: record.get("delegation") for record in desk.records() if record["kind"] == "decision"}
    assert chains == {"ask": None, "look": [[RESEARCHER, "bob"], [HELPDESK, "alice"]]}


def test_a_denied_call_names_the_chain_too(desk: Desk) -> None:
    def refused() -> None:
        with pytest.raises(AccessDeniedError):
            desk.look.invoke({"n": 13})

    desk.delegate(("helpdesk", "alice"), ("archivist", "alice"), end=refused)
    (record,) = [each for each in desk.records() if each.get("outcome") == "deny"]
    assert record["delegation"] == [[ARCHIVIST, "alice"], [HELPDESK, "alice"]]
    (span,) = desk.attributes("execute_tool look")
    assert span[CHAIN] == (ARCHIVIST, HELPDESK)


def test_users_of_a_chain_are_hashed_where_ids_stay_off_spans(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZT_AGENTS_TRACE_USER_IDS", "off")
    desk = Desk(tmp_path)
    with desk.guard:
        desk.delegate(("helpdesk", "alice"), ("researcher", "mallory"))
    (outer,) = desk.attributes("invoke_agent helpdesk")
    (inner,) = desk.attributes("invoke_agent researcher")
    assert inner[USERS] == (inner["user.hash"], outer["user.hash"])
    assert inner[CHANGED] is True
    shown = repr(desk.recorder.spans())
    assert "alice" not in shown
    assert "mallory" not in shown


def test_whoever_reads_the_log_is_told_on_whose_word_a_sub_agent_acted(desk: Desk) -> None:
    desk.delegate(
        ("helpdesk", "alice"), ("researcher", "alice"), ("archivist", "bob"), end=lambda: desk.look.invoke({"n": 1})
    )
    desk.guard.audit.flush(5)
    log = ["--log", str(desk.guard.policy.audit_path)]

    shown = CliRunner().invoke(app, ["audit", "show", "--tool", "look", *log]).stdout
    story = CliRunner().invoke(app, ["audit", "timeline", "--tool", "look", *log]).stdout
    event = json.loads(CliRunner().invoke(app, ["audit", "export", "--tool", "look", "--format", "ocsf", *log]).stdout)

    assert "helpdesk > researcher > archivist" in shown
    assert "archivist 1 for bob, on the word of researcher for alice, on the word of helpdesk for alice" in story
    assert event["unmapped"]["delegation"] == [
        {"agent_id": RESEARCHER, "user_id": "alice"},
        {"agent_id": HELPDESK, "user_id": "alice"},
    ]


@pytest.mark.parametrize("given", [None, 7, "x", ["x"], [["x"]], [[1, 2, 3]], [[], []]])
def test_a_delegation_that_is_none_is_read_as_none(given: Any) -> None:
    assert Call(decision={"delegation": given}).delegators == []


def test_two_sessions_side_by_side_are_no_delegation(desk: Desk) -> None:
    with ExitStack() as both:
        for agent in ("helpdesk", "researcher"):  # one inside the other's block, but in no tool's body
            both.enter_context(desk.guard.session(agent=agent, on_behalf_of="alice"))
        desk.look.invoke({"n": 1})
    (inner,) = desk.attributes("invoke_agent researcher")
    assert inner[CHAIN] == (RESEARCHER,)


def test_a_bare_thread_in_a_body_inherits_no_chain(desk: Desk) -> None:
    def elsewhere() -> None:
        thread = threading.Thread(target=lambda: desk.delegate(("researcher", "alice")))
        thread.start()
        thread.join()

    desk.delegate(("helpdesk", "alice"), end=lambda: (desk.bodies.update({9: elsewhere}), desk.ask.invoke({"n": 9})))
    (inner,) = desk.attributes("invoke_agent researcher")
    assert inner[CHAIN] == (RESEARCHER,)


def test_a_carried_callers_chain_is_known(desk: Desk) -> None:
    session = desk.guard.session(agent="helpdesk", on_behalf_of="alice")
    desk.bodies[1] = lambda: desk.delegate(("researcher", "alice"))
    desk.ask.invoke({"n": 1}, config={"callbacks": [ZeroTrustCallback(desk.guard, session)]})
    (inner,) = desk.attributes("invoke_agent researcher")
    assert inner[CHAIN] == (RESEARCHER, HELPDESK)


def test_a_session_is_not_entered_within_itself(desk: Desk) -> None:
    outer = desk.guard.session(agent="helpdesk", on_behalf_of="alice")  # carried, so it could still be entered

    def enter_the_callers() -> None:
        inner = current_session()
        with pytest.raises(ConfigurationError, match="within itself"), outer:
            pass
        assert current_session() is inner
        desk.look.invoke({"n": 1})

    desk.bodies[9] = lambda: desk.delegate(("researcher", "alice"), ("archivist", "alice"), end=enter_the_callers)
    desk.ask.invoke({"n": 9}, config={"callbacks": [ZeroTrustCallback(desk.guard, outer)]})
    (look,) = desk.attributes("execute_tool look")
    assert look[CHAIN] == (ARCHIVIST, RESEARCHER, HELPDESK)
