"""The first way in: add a callback to an agent executor.

::

    executor.invoke({"input": q}, config={"callbacks": [ZeroTrustCallback(guard, session)]})

A callback sees a tool's name and its raw arguments, never the tool or what its body will get; and a framework may
swallow what it raises. So the callback does not decide. It carries the session, and seals each tool that starts and
is not sealed yet, before that tool's body can be looked up. Denials raise :class:`AccessDeniedError`.
"""

from __future__ import annotations

import sys
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

from zt_agents.errors import ConfigurationError
from zt_agents.guard import Guard
from zt_agents.integrations.langchain import sealing
from zt_agents.integrations.langchain.carriers import Entry, SessionCarrier, entry_var
from zt_agents.integrations.langchain.gates import Seal
from zt_agents.integrations.langchain.tripwire import announced, refuse_unsealed, starting_tool
from zt_agents.sessions.session import Session


class ZeroTrustCallback(BaseCallbackHandler, SessionCarrier):
    """Governs every tool call of the runs it is passed to.

    It does not see tools whose class overrides ``run`` without calling LangChain's: protect those with
    ``guard.protect``, whose gates need no callback.
    """

    raise_error = True
    run_inline = True

    def __init__(self, guard: Guard, session: Session) -> None:
        """Govern with *guard*, in *session*.

        Raises:
            ConfigurationError: the session is another guard's.
        """
        if session.guard is not guard:
            raise ConfigurationError("The session belongs to another guard.", hint="Open it with this guard.")
        self.guard = guard
        self.session = session

    def on_tool_start(self, serialized: dict[str, Any], input_str: str, *, run_id: UUID, **kwargs: Any) -> None:
        """Seal the tool that starts, if it is not; its gates decide.

        Raises:
            AccessDeniedError: which tool starts cannot be told.
            ConfigurationError: the tool cannot be sealed.
        """
        name = str(serialized.get("name"))
        call_id = kwargs.get("tool_call_id")
        frame = sys._getframe(1)
        if announced(name, run_id, frame):
            return
        tool = starting_tool(frame)
        if tool is None or tool.name != name:
            refuse_unsealed(self.guard, self.session, name, call_id)
            return
        if Seal.of(tool) is None:
            sealing.seal(self.guard, tool)
        entry = Entry(Seal.required(tool), name, call_id)
        entry.announced = run_id
        entry_var.set(entry)
