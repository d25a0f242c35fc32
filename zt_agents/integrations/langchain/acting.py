"""In whose session the graph of an agent works: a sub-agent's own, which is handed on to it by whoever runs it.

::

    research = create_agent(model, tools, middleware=[ZeroTrustMiddleware(guard, agent="research")])

The graph may be run in a tool's body, be a node of another graph, or both, at any depth. Each of its runs has a session
of its own, opened from the one in which it was started and ended with the answer that calls no more tools. Outside of
any session, and where the policy does not let its caller delegate to it, each of its calls is denied. What its
middleware does not see (code of another node, for example) works in its caller's session.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from langchain_core.runnables.config import var_child_runnable_config

from zt_agents.decisions import Reason, ReasonCode
from zt_agents.errors import AuditError, IdentityError, StoreError
from zt_agents.integrations.langchain.carriers import find_session, stopped
from zt_agents.permit import current_call
from zt_agents.sessions.session import Session, entered
from zt_agents.sessions.sub_agents import Run

if TYPE_CHECKING:
    from langchain.agents.middleware import ModelResponse

    from zt_agents.guard import Guard


class Acting:
    """Lets the graph of one agent work in that agent's sessions."""

    def __init__(self, guard: Guard, agent: str) -> None:
        """Raise UnknownAgentError if there is no agent of this name."""
        self._guard = guard
        self.agent = guard.registry.get(agent).name

    @contextmanager
    def session(self, writer: object) -> Iterator[None]:
        """Let a step of the graph work in the session of its run, or be denied whatever it calls.

        Args:
            writer: the graph's stream writer: each run has another.
        """
        outer, wrong = find_session(self._guard)
        if outer is None or wrong is not None or outer.agent.name == self.agent:
            yield  # denied by the gate; or the agent's own session already
            return
        refusal = None
        try:
            session = outer.sub_agents.session(outer, self._run(writer))
        except AuditError as error:
            refusal = Reason(ReasonCode.AUDIT, f"The delegation could not be recorded: {error}")
        except (IdentityError, StoreError, ValueError) as error:  # ValueError: a token has not room enough for it all
            refusal = Reason(ReasonCode.IDENTITY, str(error))
        else:
            with entered(session):
                if find_session(self._guard)[0] is session:
                    yield
                    return
            refusal = Reason(ReasonCode.IDENTITY, f"Another session is carried past that of agent {self.agent!r}.")
        token = stopped.set(refusal)
        try:
            yield
        finally:
            with suppress(ValueError):  # a coroutine that was dropped is closed in any context
                stopped.reset(token)

    def answered(self, response: ModelResponse, writer: object) -> None:
        """End the run's session if the model calls no more tools."""
        messages = getattr(response, "result", None) or [response]
        if any(getattr(message, "tool_calls", None) for message in messages):
            return
        outer: Session | None = find_session(self._guard)[0]
        if outer is not None:
            outer.sub_agents.end(self._run(writer))

    def _run(self, writer: object) -> Run:
        """Return the run of which this is a step: graphs name the place of each step after that of their run."""
        config: Any = var_child_runnable_config.get() or {}
        configurable = config.get("configurable") or {}
        namespace = str(configurable.get("checkpoint_ns") or "").rpartition("|")[0]
        thread = configurable.get("thread_id")
        permit = current_call()
        return Run(
            agent=self.agent,
            call=permit.name if permit is not None else "",
            place=f"{thread or ''} {namespace}",
            # Without a thread or a place within another graph, a graph cannot be resumed, and may run twice at a time.
            identity=None if thread or namespace else writer,
        )
