"""The third way in: a middleware of ``create_agent``.

::

    agent = create_agent(model, tools, middleware=[..., ZeroTrustMiddleware(guard)])   # last = innermost

The middleware decides nothing itself: it seals the agent's tools, refuses tools that its provider would run out of
sight, notes what the agent is made of, so that its owner hears of a change (:mod:`.observing`), and turns a denial into
a ``ToolMessage`` with ``status="error"``, so that the run goes on and the model can tell its user. Everything else a
tool raises propagates unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool

from zt_agents._internal.display import visible
from zt_agents._internal.optional import require
from zt_agents.approvals import Edit
from zt_agents.catalog.specs import ToolDescription
from zt_agents.decisions import Reason, ReasonCode
from zt_agents.errors import AccessDeniedError, StoreError, ZeroTrustError
from zt_agents.guard import Guard
from zt_agents.integrations.langchain import sealing
from zt_agents.integrations.langchain.acting import Acting
from zt_agents.integrations.langchain.carriers import Edits, edits, find_session
from zt_agents.integrations.langchain.observing import Observer
from zt_agents.invocation import Invocation
from zt_agents.shells import refused

_MOST_EDITS = 8
"""Edits of one call: two that undo each other would go on for ever."""
_MAX_NAME = 128
"""Characters of a name, made up by a model, that go into a record."""

if TYPE_CHECKING:
    from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse, ToolCallRequest
    from langgraph.types import Command
else:
    AgentMiddleware = require(
        "langchain.agents.middleware", extra="langchain", purpose="ZeroTrustMiddleware"
    ).AgentMiddleware


class ZeroTrustMiddleware(AgentMiddleware):
    """Governs every tool call of an agent built with ``create_agent``."""

    def __init__(
        self, guard: Guard, *, agent: str | None = None, stable: Callable[[str], str] | None = None
    ) -> None:
        """Govern with *guard*.

        Args:
            guard: decides.
            agent: name of the registered agent that this is, for one that others run: each run has a session of its
                own, see :mod:`.acting`. By default it acts in the session in which it is run.
            stable: returns what of a system prompt is the same in every run; see :mod:`.observing`. All of it counts by
                default.

        Raises:
            UnknownAgentError: no such agent.
        """
        super().__init__()
        self.guard = guard
        self._observer = Observer(guard, stable)
        self._acting = Acting(guard, agent) if agent is not None else None

    # -- the tools an agent binds ---------------------------------------------------------------------------------

    def wrap_model_call(
        self, request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]
    ) -> ModelResponse:
        """Seal the tools that the model is offered, and look whether the agent is still what its owner accepted.

        Raises:
            ConfigurationError: a tool cannot be sealed, or is the provider's own and not accepted.
        """
        self._seal_all(request)
        with self._session(request):
            self._observer.look(request)
            response = handler(request)
        self._answered(request, response)
        return response

    async def awrap_model_call(
        self, request: ModelRequest, handler: Callable[[ModelRequest], Awaitable[ModelResponse]]
    ) -> ModelResponse:
        """The async twin of :meth:`wrap_model_call`."""
        self._seal_all(request)
        with self._session(request):
            await self._observer.alook(request)
            response = await handler(request)
        self._answered(request, response)
        return response

    def _session(self, request: ModelRequest | ToolCallRequest) -> AbstractContextManager[None]:
        return self._acting.session(request.runtime.stream_writer) if self._acting is not None else nullcontext()

    def _answered(self, request: ModelRequest, response: ModelResponse) -> None:
        if self._acting is not None:
            self._acting.answered(response, request.runtime.stream_writer)

    def _seal_all(self, request: ModelRequest) -> None:
        sealing.protect(self.guard, list(request.tools))

    # -- the calls a model makes ----------------------------------------------------------------------------------

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """Let the call reach its gate, and again as an approver has edited it; a refusal becomes a message."""
        changed: list[Edit] = []
        while True:
            token = edits.set(Edits(request.tool_call["id"], tuple(edit.proof for edit in changed)))
            try:
                with self._session(request):
                    self._check(request)
                    return _noted(handler(request), changed)
            except ZeroTrustError as denial:
                edit = self._edit(request, denial) if len(changed) < _MOST_EDITS else None
                if edit is None:
                    return _refusal(request, denial)
                changed.append(edit)
                request = _with(request, edit)
            finally:
                edits.reset(token)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
    ) -> ToolMessage | Command[Any]:
        """The async twin of :meth:`wrap_tool_call`."""
        changed: list[Edit] = []
        while True:
            token = edits.set(Edits(request.tool_call["id"], tuple(edit.proof for edit in changed)))
            try:
                with self._session(request):
                    self._check(request)
                    return _noted(await handler(request), changed)
            except ZeroTrustError as denial:
                edit = self._edit(request, denial) if len(changed) < _MOST_EDITS else None
                if edit is None:
                    return _refusal(request, denial)
                changed.append(edit)
                request = _with(request, edit)
            finally:
                edits.reset(token)

    def _edit(self, request: ToolCallRequest, denial: ZeroTrustError) -> Edit | None:
        """Return what an approver wants to be called instead of this very call."""
        if not isinstance(denial, AccessDeniedError) or denial.decision.tool != request.tool_call["name"]:
            return None
        approval_id = denial.decision.approval_id
        try:
            return self.guard.desk.edit(approval_id, call_id=request.tool_call["id"]) if approval_id else None
        except StoreError:
            return None

    def _check(self, request: ToolCallRequest) -> None:
        """Seal the tool that will run; refuse a call that names no tool, or another one."""
        name, call_id, tool = request.tool_call["name"], request.tool_call["id"], request.tool
        if isinstance(tool, BaseTool) and tool.name == name:
            sealing.seal(self.guard, tool)
            return
        named = visible(name, limit=_MAX_NAME)
        if tool is None:
            reason = Reason(ReasonCode.UNKNOWN_TOOL, f"The agent has no tool {named!r}.")
        else:
            reason = Reason(ReasonCode.TAMPERED, f"The call names {named!r} but would reach another tool.")
        unknown = self.guard.enroll(ToolDescription(named, "", {}))
        session, carried_wrong = find_session(self.guard)
        refused(Invocation(unknown, {}, session, call_id, carried_wrong or reason))


def _with(request: ToolCallRequest, edit: Edit) -> ToolCallRequest:
    return request.override(tool_call={**request.tool_call, "args": dict(edit.arguments)})


def _noted(result: ToolMessage | Command[Any], changed: list[Edit]) -> ToolMessage | Command[Any]:
    """Tell the model what really ran: its own message still shows what it asked for."""
    if not changed or not isinstance(result, ToolMessage) or not isinstance(result.content, str):
        return result
    note = f"Note: a human changed the arguments of this call, and it ran with {json.dumps(changed[-1].arguments)}."
    return result.model_copy(update={"content": f"{note}\n\n{result.content}"})


def _refusal(request: ToolCallRequest, denial: ZeroTrustError) -> ToolMessage:
    own = not isinstance(denial, AccessDeniedError) or denial.decision.tool == request.tool_call["name"]
    return ToolMessage(
        # A denial from inside the body is about another tool, whose name is none of the model's business.
        content=denial.message_for_model() if own else ZeroTrustError.message_for_model(denial),
        name=request.tool_call["name"],
        tool_call_id=request.tool_call["id"] or "",
        status="error",
    )
