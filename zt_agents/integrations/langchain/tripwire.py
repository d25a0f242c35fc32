"""The second line: while a session is active, a LangChain tool that nobody sealed is refused.

LangChain's public ``register_configure_hook`` puts a handler into every callback manager of the process, also with
``callbacks=[]``, nested, and in bare threads. The handler decides nothing about sealed tools: their gates do.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from types import FrameType
from typing import Any
from uuid import UUID
from weakref import WeakSet

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tools import BaseTool
from langchain_core.tracers.context import register_configure_hook

from zt_agents.catalog.specs import ToolDescription
from zt_agents.decisions import Reason, ReasonCode
from zt_agents.guard import Guard
from zt_agents.integrations.langchain.carriers import SESSION_KEY, entry_var, find_session
from zt_agents.integrations.langchain.gates import Seal
from zt_agents.invocation import Invocation
from zt_agents.sessions.session import Session, current_session
from zt_agents.shells import refused

_ENTRIES = (BaseTool.run.__code__, BaseTool.arun.__code__)


class Tripwire(BaseCallbackHandler):
    """Sync, inline and raising: an async handler's denial is swallowed under ``invoke``."""

    raise_error = True
    run_inline = True

    def on_tool_start(
        self, serialized: dict[str, Any], input_str: str, *, run_id: UUID, **kwargs: Any
    ) -> None:
        name = str(serialized.get("name"))
        if announced(name, run_id, sys._getframe(1)):
            return
        for guard, session in _watching():
            refuse_unsealed(guard, session, name, kwargs.get("tool_call_id"))


def announced(name: str, run_id: UUID, frame: FrameType) -> bool:
    """Return whether the tool that starts is sealed: the one just entered, or else the one found at *frame*."""
    entry = entry_var.get()
    if entry is not None and entry.name == name:
        if entry.announced is None and not entry.used:  # LangChain announces a tool before its body
            entry.announced = run_id
        if entry.announced == run_id:
            return True
    tool = starting_tool(frame)
    return tool is not None and tool.name == name and Seal.of(tool) is not None


def starting_tool(frame: FrameType | None) -> BaseTool | None:
    """Return the tool whose ``run`` or ``arun`` is telling its callbacks that it starts."""
    while frame is not None:
        if frame.f_code in _ENTRIES:
            tool = frame.f_locals.get("self")
            return tool if isinstance(tool, BaseTool) else None
        frame = frame.f_back
    return None


def _watching() -> list[tuple[Guard, Session | None]]:
    """Return the guard that an active session, in the context or carried as a token, answers to."""
    session = current_session()
    if session is not None:
        return [(session.guard, session)]
    config: Any = var_child_runnable_config.get() or {}
    if (config.get("configurable") or {}).get(SESSION_KEY) is None:
        return []
    found: list[tuple[Guard, Session | None]] = [(guard, find_session(guard)[0]) for guard in _guards]
    return [pair for pair in found if pair[1] is not None] or found[:1]


def refuse_unsealed(guard: Guard, session: Session | None, name: str, call_id: str | None) -> None:
    """Record and raise the denial of a tool that nobody sealed."""
    tool = guard.enroll(ToolDescription(name, "", {}))
    reason = Reason(ReasonCode.UNSEALED_TOOL, "The tool is not sealed: pass it through guard.protect(...).")
    refused(Invocation(tool, {}, session, call_id, reason))


_handler: ContextVar[Tripwire | None] = ContextVar("zt_agents_tripwire", default=Tripwire())  # noqa: B039 - stateless
_guards: WeakSet[Guard] = WeakSet()
_armed = False


def arm(guard: Guard) -> None:
    """Install the tripwire in this process, once, and let it answer to *guard*."""
    global _armed
    _guards.add(guard)
    if not _armed:
        _armed = True
        register_configure_hook(_handler, inheritable=True)
