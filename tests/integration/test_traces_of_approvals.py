"""An answer that comes ten seconds later: the wait is on the trace, and the body comes after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from backends import Backend
from office import Office
from outlines import told

from zt_agents import AccessDeniedError, Answer, ApprovalRequest

OpenOffice = Callable[..., Office]
WAIT = 10.0


class SlowHuman:
    """Answers after ten seconds."""

    def __init__(self, approved: bool) -> None:
        self._approved = approved

    def _answer(self, request: ApprovalRequest) -> Answer:
        return Answer(binding_hash=request.binding_hash, approved=self._approved, approver="dana@acme.example")

    def ask(self, request: ApprovalRequest) -> Answer:
        time.sleep(WAIT)
        return self._answer(request)

    async def aask(self, request: ApprovalRequest) -> Answer:
        await asyncio.sleep(WAIT)
        return self._answer(request)


def close_ticket(office: Office) -> None:
    with office.session():
        office.tools["close_ticket"].invoke({"n": 5})


def aclose_ticket(office: Office) -> None:
    async def run() -> None:
        async with office.session():
            await office.tools["close_ticket"].ainvoke({"n": 5})

    asyncio.run(run())


def refused(office: Office) -> None:
    with pytest.raises(AccessDeniedError):
        close_ticket(office)


STORIES: dict[str, tuple[bool, Callable[[Office], None]]] = {
    "approval-sync": (True, close_ticket),
    "approval-async": (True, aclose_ticket),
    "approval-refused": (False, refused),
}


@pytest.fixture
def waited(open_office: OpenOffice) -> None:
    """Tell all stories at once, for each of them waits."""
    offices = {story: open_office(story, channel=SlowHuman(approved)) for story, (approved, _) in STORIES.items()}
    with ThreadPoolExecutor(len(STORIES)) as threads:
        runs = [threads.submit(play, offices[story]) for story, (_, play) in STORIES.items()]
    for each in runs:
        each.result()


def test_the_wait_for_a_human_is_on_the_trace(backend: Backend, waited: None) -> None:
    for story in ("approval-sync", "approval-async"):
        told(
            backend,
            story,
            """
            invoke_agent helpdesk
              execute_tool close_ticket [allow]
                zt_agents.approval
                UPDATE
            """,
        )
        spans = {span.name: span for span in backend.spans(story)}
        approval, call = spans["zt_agents.approval"], spans["execute_tool close_ticket"]
        assert approval.end - approval.start >= WAIT
        assert call.start <= approval.start
        assert approval.end <= spans["UPDATE"].start, "the body's own work comes after the answer"
        assert spans["UPDATE"].end <= call.end
        assert approval.tags["zt_agents.approval.id"] == call.tags["zt_agents.approval.id"]
        assert call.tags["zt_agents.approval.status"] == "approved"
        assert call.tags["zt_agents.decision.reason"] == "approved"
    told(
        backend,
        "approval-refused",
        """
        invoke_agent helpdesk !
          execute_tool close_ticket [deny] !
            zt_agents.approval
        """,
    )
    (call,) = [span for span in backend.spans("approval-refused") if span.name == "execute_tool close_ticket"]
    assert call.tags["zt_agents.approval.status"] == "denied"
    assert call.tags["zt_agents.decision.reason"] == "not_approved"
