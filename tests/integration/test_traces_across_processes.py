"""A call that waited for its human while nothing ran: the trace that goes on is linked to the one that asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backends import Backend, Span
from outlines import told

from zt_agents.identity import SigningKey

EXAMPLE = Path(__file__).parents[2] / "examples" / "approval_in_another_process.py"
CALL = "execute_tool refund"
ID, STATUS, SESSION = "zt_agents.approval.id", "zt_agents.approval.status", "gen_ai.conversation.id"
SAME = (ID, SESSION, "user.id", "gen_ai.agent.id", "gen_ai.tool.name", "gen_ai.tool.call.id")
SAME_OF_OURS = ("tool.args_hash", "tool.fingerprint", "decision.tier", "policy.id", "policy.version")
RunProgram = Callable[..., Any]


@pytest.fixture
def asked_and_answered(backend: Backend, run_program: RunProgram, tmp_path: Path) -> None:
    """One process asks, one is told yes by the requester, one by the agent's owner."""
    SigningKey.generate().save(tmp_path / "signing.pem")
    for story, action in (("asks", "ask"), ("is-not-told", "alice@acme.example"), ("is-told", "bo@acme.example")):
        run_program(str(EXAMPLE), str(tmp_path), action, env=backend.export_to(story), cwd=tmp_path)


def test_a_call_resumed_in_another_process_is_linked_to_the_span_that_asked(
    backend: Backend, asked_and_answered: None
) -> None:
    for story, outcome in (("asks", "require_approval"), ("is-not-told", "require_approval"), ("is-told", "allow")):
        told(backend, story, f"{CALL} [{outcome}]\n  zt_agents.approval")
    asking, insisting, going_on = (call(backend, story) for story in ("asks", "is-not-told", "is-told"))

    assert len({asking.trace, insisting.trace, going_on.trace}) == 3
    for told_of in (*SAME, *(f"zt_agents.{name}" for name in SAME_OF_OURS)):
        assert asking.tags[told_of] == insisting.tags[told_of] == going_on.tags[told_of], told_of
    assert [asking.tags[STATUS], insisting.tags[STATUS], going_on.tags[STATUS]] == ["pending", "pending", "approved"]
    if backend.keeps_links:
        assert asking.links == ()
        assert going_on.links == ((asking.trace, asking.id),)


def call(backend: Backend, story: str) -> Span:
    (span,) = [span for span in backend.spans(story) if span.name == CALL]
    return span
