"""The callback, sealed tools and an entered session compose: one call, one decision, and no refusal of each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from langchain_core.tools import BaseTool, tool

from zt_agents import AccessDeniedError, Guard
from zt_agents.integrations.langchain import ZeroTrustCallback
from zt_agents.telemetry.recording import SpanRecorder
from zt_agents.testing import write_policy

POLICY = """
version: 1
trust_domain: acme.example
environment: test
agents:
  notes: {id: spiffe://acme.example/agent/notes, version: "1", owner: bo@acme.example, purpose: Notes.}
tools:
  read_note: {tier: low, effects: [read]}
  other_note: {tier: low, effects: [read]}
rules:
  - {id: read, agents: [notes], tools: [read_note, other_note], outcome: allow}
"""


def tools() -> list[BaseTool]:
    @tool
    def read_note(name: str) -> str:
        """Read a note."""
        return f"note {name}"

    @tool
    def other_note(name: str) -> str:
        """Read another note."""
        return f"other {name}"

    return [read_note, other_note]


@pytest.mark.parametrize("sealed_before", [True, False])
@pytest.mark.parametrize("entered", [True, False])
def test_each_tool_is_decided_once(tmp_path: Path, sealed_before: bool, entered: bool) -> None:
    recorder = SpanRecorder()
    mine = tools()
    with Guard.from_config(write_policy(tmp_path, POLICY, mine), tracer_provider=recorder.provider) as guard:
        session = guard.session(agent="notes", on_behalf_of="alice@acme.example")
        if sealed_before:
            guard.protect(mine)
        config = {"callbacks": [ZeroTrustCallback(guard, session)]}

        def run() -> list[str]:
            return [each.invoke({"name": "x"}, config=config) for each in mine]

        if entered:
            with session:
                assert run() == ["note x", "other x"]
        else:
            assert run() == ["note x", "other x"]
    assert [span.name for span in recorder.spans() if span.name.startswith("execute_tool")] == [
        "execute_tool read_note",
        "execute_tool other_note",
    ]


def test_a_tool_of_the_same_name_inside_a_sealed_one_is_still_refused(tmp_path: Path) -> None:
    @tool
    def read_note(name: str) -> str:
        """Read a note."""
        return str(inner.invoke({"name": name}))

    inner, other = tools()
    mine = [read_note, other]
    with Guard.from_config(write_policy(tmp_path, POLICY, mine)) as guard:
        guard.protect(mine)
        with (
            guard.session(agent="notes", on_behalf_of="alice@acme.example"),
            pytest.raises(AccessDeniedError, match="unsealed_tool"),
        ):
            read_note.invoke({"name": "x"})
