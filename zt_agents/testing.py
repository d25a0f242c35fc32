"""For tests of programs that use zt_agents. Nothing in here weakens a guard: there is no bypass to forget.

::

    guard = Guard.from_config(policy, channel=AnsweringChannel(approve=False), tracer_provider=recorder.provider)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from zt_agents.approvals import Answer, ApprovalRequest
from zt_agents.config import accept_tools
from zt_agents.telemetry.recording import SpanNode, SpanRecorder

__all__ = ["AnsweringChannel", "SpanNode", "SpanRecorder", "write_policy"]


class AnsweringChannel:
    """A channel that answers as it is told, and remembers what it was asked."""

    def __init__(
        self, approve: bool | Callable[[ApprovalRequest], bool], *, approver: str = "tester@example.org"
    ) -> None:
        self._approve = approve
        self._approver = approver
        self.asked: list[ApprovalRequest] = []

    def ask(self, request: ApprovalRequest) -> Answer | None:
        self.asked.append(request)
        approved = self._approve(request) if callable(self._approve) else self._approve
        return Answer(binding_hash=request.binding_hash, approved=approved, approver=self._approver)

    async def aask(self, request: ApprovalRequest) -> Answer | None:
        return self.ask(request)


def write_policy(folder: Path, text: str, tools: Iterable[Any]) -> Path:
    """Write a policy file and its lock file for LangChain *tools* into *folder*; return the policy's path."""
    from zt_agents.integrations.langchain.describe import describe_all

    path = folder / "zt-agents.yaml"
    path.write_text(text, encoding="utf-8")
    accept_tools(path, describe_all(list(tools)))
    return path
