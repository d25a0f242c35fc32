"""A sub-agent as a tool: one trace through both agents, and on it who acts on whose word, and for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from backends import Backend, Span
from office import ALICE, BOB, HELPDESK, QUESTION, RESEARCHER, Office
from outlines import told

OpenOffice = Callable[..., Office]

TREE = """
invoke_agent helpdesk
  execute_tool read_ticket [allow]
    SELECT
  execute_tool ask_researcher [allow]
    invoke_agent researcher
      execute_tool read_article [allow]
        SELECT
      execute_tool read_ticket [deny] !
"""


def ask(office: Office, *, researcher_for: str, way: str = "invoke") -> None:
    """Let the helpdesk ask the researcher, whose own agent reads an article, and a ticket that it may not read."""

    def research(question: str) -> str:
        with office.session("researcher", researcher_for):
            inner = office.agent([("read_article", {"title": question})], [("read_ticket", {"n": 2})])
            return str(inner.invoke(QUESTION)["messages"][-1].content)

    office.research = research
    with office.session("helpdesk", ALICE):
        outer = office.agent([("read_ticket", {"n": 1})], [("ask_researcher", {"question": "Printers"})])
        asyncio.run(outer.ainvoke(QUESTION)) if way == "ainvoke" else outer.invoke(QUESTION)


def by_name(spans: list[Span]) -> dict[str, Span]:
    return {span.name: span for span in sorted(spans, key=lambda span: span.start)}


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_one_trace_through_both_agents(backend: Backend, open_office: OpenOffice, way: str) -> None:
    story = f"delegation-{way}"
    office = open_office(story)
    ask(office, researcher_for=ALICE, way=way)
    told(backend, story, TREE)
    spans = by_name(backend.spans(story))
    outer, inner = spans["invoke_agent helpdesk"], spans["invoke_agent researcher"]
    assert (outer.tags["zt_agents.delegation.chain"], outer.tags["zt_agents.delegation.depth"]) == ([HELPDESK], 1)
    for name in ("invoke_agent researcher", "execute_tool read_article", "execute_tool read_ticket"):  # the later one
        tags = spans[name].tags
        assert tags["zt_agents.delegation.chain"] == [RESEARCHER, HELPDESK], "current actor first"
        assert tags["zt_agents.delegation.depth"] == 2
        assert tags["zt_agents.delegation.users"] == [ALICE, ALICE]
        assert tags["user.id"] == ALICE
    assert inner.tags["zt_agents.agent.owner"] == "erin@acme.example"
    assert "zt_agents.delegation.user_changed" not in inner.tags


def test_a_sub_agent_that_acts_for_somebody_else(backend: Backend, open_office: OpenOffice) -> None:
    office = open_office("delegation-changed")
    ask(office, researcher_for=BOB)
    told(backend, "delegation-changed", TREE)
    found = backend.spans("delegation-changed", **{"zt_agents.delegation.user_changed": "true"})
    spans = by_name(found)
    assert spans["invoke_agent helpdesk"].tags["user.id"] == ALICE
    inner = spans["invoke_agent researcher"].tags
    assert inner["user.id"] == BOB
    assert inner["zt_agents.delegation.users"] == [BOB, ALICE]
    assert inner["zt_agents.delegation.user_changed"] is True
    chains = {record["tool"]: record.get("delegation") for record in office.records() if "delegation" in record}
    assert chains == {
        "read_article": [[RESEARCHER, BOB], [HELPDESK, ALICE]],
        "read_ticket": [[RESEARCHER, BOB], [HELPDESK, ALICE]],
    }


def test_a_search_by_depth_finds_what_was_delegated(backend: Backend, open_office: OpenOffice) -> None:
    office = open_office("delegation-search")
    with office.session():
        office.tools["read_ticket"].invoke({"n": 3})
    ask(office, researcher_for=ALICE)
    told(backend, "delegation-search", "invoke_agent helpdesk\n  execute_tool read_ticket [allow]\n    SELECT" + TREE)
    assert len(backend.spans("delegation-search")) == 11
    found = backend.spans("delegation-search", **{"zt_agents.delegation.depth": "2"})
    assert len(found) == 8
    assert len({span.trace for span in found}) == 1
