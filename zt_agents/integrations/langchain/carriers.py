"""What reaches a gate besides the arguments: which tool was entered and how, and on whose session.

A session is carried, most specific first, by a ``with guard.session(...)`` that a tool's body enters for a sub-agent;
by a :class:`ZeroTrustCallback` in the callbacks; by ``config["configurable"]["zt_session"]``; by a
``with guard.session(...)`` around the run.

What is in ``zt_session`` is the session itself, or its signed token. Texts in there are copied by LangGraph into the
metadata of checkpoints and of traces, and so is a token that is a text: where runs are kept or traced, hand over the
session, or ``guard.session_from_token(token)``.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from langchain_core.runnables.config import var_child_runnable_config

from zt_agents.decisions import Reason, ReasonCode
from zt_agents.errors import IdentityError
from zt_agents.permit import current_call
from zt_agents.sessions.session import Session, current_session

if TYPE_CHECKING:
    from zt_agents.guard import Guard

SESSION_KEY = "zt_session"


class Entry:
    """A run of one sealed tool, from its entry point to its body. Good for one body."""

    __slots__ = ("accepted", "announced", "call_id", "name", "parsed", "seal", "used")

    def __init__(self, seal: object, name: str, call_id: str | None) -> None:
        outer = entry_var.get()
        self.seal = seal
        self.name = name
        self.call_id = call_id
        self.parsed = False
        """The framework has parsed and validated the arguments."""
        self.announced: UUID | None = None
        """The run that the framework has told its callbacks starts."""
        self.accepted: dict[str, Any] = outer.accepted if outer is not None and outer.seal is seal else {}
        """Injected values that a gate of this tool has accepted: its own body may hand them on."""
        self.used = False
        """A gate has taken this entry."""


entry_var: ContextVar[Entry | None] = ContextVar("zt_agents_entry", default=None)


class Edits(NamedTuple):
    """A call that somebody can make again with other arguments."""

    call_id: str | None
    proofs: tuple[str, ...]
    """The signed yeses to the edited calls that were made already."""


edits: ContextVar[Edits | None] = ContextVar("zt_agents_edits", default=None)
"""Set around such a call. Calls that its body makes are others."""


stopped: ContextVar[Reason | None] = ContextVar("zt_agents_stopped", default=None)
"""Set around a step of a sub-agent that has no session of its own: why not."""


def leave(token: Token[Entry | None]) -> None:
    """Undo ``entry_var.set``. A coroutine that was dropped is closed in any context, where nothing is to be undone."""
    with suppress(ValueError):
        entry_var.reset(token)


class SessionCarrier:
    """Mixin of a callback handler that carries a session."""

    guard: Guard
    session: Session


def find_session(guard: Guard) -> tuple[Session | None, Reason | None]:
    """Return the session of this call, and what is wrong with how it was carried."""
    config: Any = var_child_runnable_config.get()
    carried, wrong = _carried(guard, config) if config else (None, None)
    entered = _entered()
    # A tool's body may enter a session of its own, for a sub-agent. What carried its caller's session is inherited by
    # all that runs inside, and does not stand against it.
    if wrong is None and entered is not None and (carried is None or _within(entered, carried)):
        carried = entered
    return carried, wrong or stopped.get()


def _entered() -> Session | None:
    """Return the session of this context. A stream's body may be read in another's, and stays under its own."""
    entered, permit = current_session(), current_call()
    if permit is None or permit.session is None or permit.session is entered:
        return entered
    return entered if entered is not None and _within(entered, permit.session) else permit.session


def _within(session: Session, outer: Session) -> bool:
    """Return whether *session* was entered, at whatever depth, in a body that ran under *outer*."""
    caller = session.within
    while caller is not None and caller is not outer:
        caller = caller.within
    return caller is outer


def _carried(guard: Guard, config: Any) -> tuple[Session | None, Reason | None]:
    """Return the session that the run's callbacks or config carry, and what is wrong with it."""
    callbacks = config.get("callbacks")
    handlers = callbacks if isinstance(callbacks, list) else getattr(callbacks, "handlers", ())
    for handler in handlers:
        if isinstance(handler, SessionCarrier):
            return handler.session, None
    carried = (config.get("configurable") or {}).get(SESSION_KEY)
    if carried is None or isinstance(carried, Session):
        return carried, None
    if not isinstance(carried, str):
        return None, Reason(ReasonCode.IDENTITY, "What carries the session is neither a session nor a token.")
    try:
        return guard.session_from_token(carried), None
    except IdentityError as error:
        return None, Reason(ReasonCode.IDENTITY, error.message)
