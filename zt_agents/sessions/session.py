"""A session: one verified agent working on one task for one user.

It is carried in a ContextVar through sync code, async code and the threads of frameworks' executors. A bare thread
has none, and no session means deny. Outside this process it is carried as its signed token.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from zt_agents._internal.hidden import Hidden
from zt_agents.decisions import ChainLink
from zt_agents.errors import AccessDeniedError, ConfigurationError
from zt_agents.identity.manifests import Manifest
from zt_agents.identity.principals import Agent, User
from zt_agents.identity.revocations import Bearing
from zt_agents.identity.tokens import SessionClaims
from zt_agents.provenance.labels import Label
from zt_agents.sessions.sub_agents import SubAgents

if TYPE_CHECKING:
    from zt_agents.guard import Guard
    from zt_agents.identity.scopes import TaskScope
    from zt_agents.telemetry import CallSpan

_current: ContextVar[Session | None] = ContextVar("zt_agents_session", default=None)


def current_session() -> Session | None:
    """Return the session of this context, or None."""
    return _current.get()


@contextmanager
def entered(session: Session) -> Iterator[None]:
    """Make *session*, which was begun, that of this context; it goes on afterwards. Used by integrations."""
    token = _current.set(session)
    span = session.span.again() if session.span is not None else None
    if span is not None:
        span.attach()
    try:
        yield
    finally:
        try:
            _current.reset(token)
        except ValueError:  # a coroutine that was dropped is closed in any context
            span = None
        if span is not None:
            span.detach()


class Session:
    """Made by :meth:`Guard.session`; use it as ``with`` or ``async with``. Leaving the block ends it for good.

    It does not decide anything, and it is not trusted: each call verifies :attr:`token` anew.

    A generator shares its reader's context: two that each hold a ``with`` open, read in turns by one task, see each
    other's session. Read each in a task of its own, or carry the token in the config instead.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        agent: Agent,
        user: User,
        intent: str,
        attributes: Mapping[str, Any],
        token: str,
        claims: SessionClaims,
        outer: Session | None = None,
    ) -> None:
        self.guard = guard
        self.agent = agent
        self.user = user
        """On whose behalf."""
        self.intent = intent
        """What the user asked for, in the user's own words."""
        self.attributes = attributes
        """Request attributes set by the application; ``context.attributes`` in conditions."""
        self._token = Hidden(token)
        self.claims = claims
        self.id = claims.session_id
        self.calls = CallLedger()
        self.repeated: Mapping[str, Any] = {}
        """Attributes of the session that each of its calls' spans repeats."""
        self.described: Mapping[str, Any] = {}
        """All attributes of the session."""
        self.baggage: Mapping[str, str] | None = None
        """What services behind the tools are told, once it was signed."""
        self.span: CallSpan | None = None
        self.outer = outer
        """The session that was handed on, if this is a delegate's."""
        self.within = outer
        """The session of the call in whose body this one was entered, if any: a sub-agent works within its caller's."""
        self.chain: tuple[ChainLink, ...] = (
            ChainLink(agent.name, agent.id, agent.owner, user.id, claims.session_id, claims.task),
        )
        """This session, the one that it comes from or was entered within, and so on outwards."""
        self.sub_agents = SubAgents()
        self.seen: tuple[Manifest, ...] = ()
        """What its agent was seen to be, in this session."""
        self._bearing = claims.bearing(agent.owner)
        self._label = Label()
        self._joined = self._label
        """The label that was joined last: joining it again would change nothing."""
        self._lock = threading.Lock()
        self._reset: Token[Session | None] | None = None

    @property
    def token(self) -> str:
        """The signed token, by which another process finds the session."""
        return self._token.reveal()

    def bearing(self, owner: str) -> Bearing:
        """Return what of this session can be revoked; *owner* is whoever is accountable for its agent now."""
        bearing = self._bearing  # another thread may ask for another owner meanwhile
        if bearing.owner != owner:
            bearing = self._bearing = self.claims.bearing(owner)
        return bearing

    @property
    def label(self) -> Label:
        """Label of everything that its tools, and those of the sessions it comes from, were asked to return so far."""
        return self._label if self.outer is None else self._label.join(self.outer.label)

    def taint(self, label: Label) -> None:
        """Join *label* into the session's label, and into that of the session it was handed on from."""
        if label is not self._joined:
            with self._lock:
                self._label = self._label.join(label)
                self._joined = label
        if self.outer is not None:
            self.outer.taint(label)

    def see(self, manifest: Manifest) -> None:
        """Note what the agent was seen to be: from now on each call is held against all of that."""
        with self._lock:
            for index, each in enumerate(self.seen):
                if (joined := each.joined(manifest)) is not None:
                    self.seen = (*self.seen[:index], joined, *self.seen[index + 1 :])
                    return
            self.seen = (*self.seen, manifest)[:2]  # of two that do not go together, one at most is accepted

    def delegate(
        self,
        *,
        agent: str,
        scope: TaskScope | None = None,
        tools: Iterable[str] | None = None,
        resources: Iterable[str] | None = None,
        ttl: int | None = None,
    ) -> Session:
        """Hand this session's task on: return the session in which another agent goes on with it (RFC 8693).

        It is for the same user and task, names everyone on whose word it acts, and ends no later than this one. The
        rules for the other agent decide its calls. Its intent stays what the user asked for: what one agent asks of
        another are a model's words.

        Args:
            agent: name of a registered, active agent; the policy lets this session's agent delegate to it.
            scope: what it may touch; what that does not mention is limited as it is here.
            tools: exact names, in place of a *scope*.
            resources: ``ticket/5`` or ``ticket/*``, likewise; see :class:`TaskScope`.
            ttl: seconds, 1 to 3,600.

        Raises:
            DelegationError: the policy does not let this agent do that, or this session cannot make calls itself.
            ScopeError: the scope asks for more than this session has, or names no tool of the policy.
            IdentityError: the other agent may not act.
            AuditError: it cannot be recorded.
            StoreError: a store that has to be asked cannot be read.
        """
        from zt_agents.sessions.delegation import (  # which is about sessions, and so comes after them
            delegate,
            task_scope,
        )

        limits = task_scope(self.guard, scope, tools, resources)
        return delegate(self, agent=agent, scope=limits, ttl=ttl)

    def begin(self) -> None:
        """Start the session's span. Used by integrations that end it, too; ``with`` does both."""
        self.span = self.guard.begin(self)

    def end(self, error_type: str = "") -> None:
        """End the session for good, and its sub-agents' with it. Used by integrations."""
        self.guard.revoke(self)
        self.sub_agents.end_all()
        span, self.span = self.span, None
        if span is not None:
            span.end(error_type=error_type)

    def __enter__(self) -> Self:
        if self._reset is not None:
            raise ConfigurationError("This session is already entered.", hint="Open one session per task.")
        self.begin()
        self._reset = _current.set(self)
        assert self.span is not None
        self.span.attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        reset, self._reset = self._reset, None
        if reset is not None and self.span is not None:
            try:
                _current.reset(reset)
            except ValueError:
                # Entered in one context and left in another (a generator-based dependency, for example): that context
                # is gone together with what was attached to it, and the token is revoked in any case.
                self.span.forget()
            self.span.detach()
        self.end(kind.__name__ if kind else "")

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __repr__(self) -> str:
        return f"Session({self.agent.name!r} for {self.user.id!r}, id={self.id})"

    def __reduce__(self) -> str:
        raise TypeError("a session cannot be pickled; pass its token on instead")


class CallState(StrEnum):
    """What became of a call that carries an id."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    DENIED = "denied"


@dataclass(slots=True)
class CallEntry:
    state: CallState
    result: Any = None
    """The recorded result, while it is held."""
    held: bool = False
    denial: AccessDeniedError | None = None


CallKey = tuple[str, str, bytes]
"""(tool_call_id, tool name, digest of the arguments)."""


class CallLedger:
    """Runs each identified call at most once.

    Frameworks replay: a resumed graph runs every call of a message again, a retry wrapper calls three times, a double
    click sends twice. A call with the same id, tool and arguments gets its recorded outcome, and no second body.
    """

    _HELD = 256

    def __init__(self) -> None:
        self._entries: dict[CallKey, CallEntry] = {}
        self._results: OrderedDict[CallKey, None] = OrderedDict()
        self._lock = threading.Lock()

    def claim(self, key: CallKey, *, again: bool) -> CallEntry | None:
        """Claim *key* for this caller and return None, or return the entry of the call that came before.

        Args:
            again: a failed call may be run again.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and not (again and entry.state is CallState.FAILED):
                return entry
            self._entries[key] = CallEntry(CallState.RUNNING)
            return None

    def done(self, key: CallKey, result: Any, *, held: bool) -> None:
        """Note that a call ended well; its *result* is kept for replays if *held*."""
        with self._lock:
            self._entries[key] = CallEntry(CallState.DONE, result if held else None, held=held)
            if not held:
                return
            self._results[key] = None
            if len(self._results) > self._HELD:
                oldest, _ = self._results.popitem(last=False)
                self._entries[oldest] = CallEntry(CallState.DONE)

    def failed(self, key: CallKey) -> None:
        with self._lock:
            self._entries[key] = CallEntry(CallState.FAILED)

    def denied(self, key: CallKey, denial: AccessDeniedError) -> None:
        # A copy: one that was raised holds frames, and with them arguments and results.
        with self._lock:
            self._entries[key] = CallEntry(CallState.DENIED, denial=type(denial)(denial.decision))

    def release(self, key: CallKey) -> None:
        """Forget a call that was suspended: its framework will make it again."""
        with self._lock:
            self._entries.pop(key, None)
