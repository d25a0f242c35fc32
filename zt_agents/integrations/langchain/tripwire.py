"""The second line: while a session is active, a LangChain tool that nobody sealed is refused.

LangChain's public ``register_configure_hook`` puts a handler into every callback manager of the process, also with
``callbacks=[]``, nested, and in bare threads. The handler decides nothing about sealed tools: their gates do.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook

from zt_agents.catalog.specs import ToolDescription
from zt_agents.decisions import Reason, ReasonCode
from zt_agents.funnel import Invocation
from zt_agents.guard import Guard
from zt_agents.integrations.langchain.carriers import entry_var
from zt_agents.session import Session, current_session


class Tripwire(BaseCallbackHandler):
    """Sync, inline and raising: an async handler's denial is swallowed under ``invoke``."""

    raise_error = True
    run_inline = True

    def on_tool_start(
        self, serialized: dict[str, Any], input_str: str, *, run_id: UUID, **kwargs: Any
    ) -> None:
        session = current_session()
        if announced(str(serialized.get("name")), run_id) or session is None:
            return
        refuse_unsealed(session.guard, session, str(serialized.get("name")), kwargs.get("tool_call_id"))


def announced(name: str, run_id: UUID) -> bool:
    """Return whether the run that starts is that of the sealed tool just entered; one run per entry."""
    entry = entry_var.get()
    if entry is None or entry.used or entry.name != name or entry.announced not in {None, run_id}:
        return False
    entry.announced = run_id
    return True


def refuse_unsealed(guard: Guard, session: Session, name: str, call_id: str | None) -> None:
    """Record and raise the denial of a tool that nobody sealed."""
    tool = guard.enroll(ToolDescription(name, "", {}))
    reason = Reason(ReasonCode.UNSEALED_TOOL, "The tool is not sealed: pass it through guard.protect(...).")
    guard.run(Invocation(tool, {}, session, call_id, reason), lambda: None)


_handler: ContextVar[Tripwire | None] = ContextVar("zt_agents_tripwire", default=Tripwire())  # noqa: B039 - stateless
_armed = False


def arm() -> None:
    """Install the tripwire in this process; once is enough."""
    global _armed
    if not _armed:
        _armed = True
        register_configure_hook(_handler, inheritable=True)
