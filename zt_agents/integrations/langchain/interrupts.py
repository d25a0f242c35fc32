"""Approvals by LangGraph's ``interrupt``: the graph stops, and is resumed with the answer, by any process.

::

    guard = Guard.from_config("zt-agents.yaml", channel=InterruptChannel(), signing_key=key)
    result = agent.invoke(question, config)
    for asked in result["__interrupt__"]:
        response = show(asked.value)                        # {"decisions": [{"type": "approve"}]}
        agent.invoke(Command(resume={asked.id: guard.answer(asked.value, response, approver=user)}), config)

The question and the response have the shapes of LangChain's own ``HumanInTheLoopMiddleware``.

Rules:

1. The body never runs before the answer, and what the graph holds is not what decides: answers are filed in the
   guard's store, and a call that is made again finds them there, bound to its very arguments.
2. A response says nothing of who gave it. ``guard.answer`` signs who did; a bare response is the session user's, and
   counts only where the policy lets ``session-user`` approve.
3. A signed answer is about the call it names. A bare response is about the question that was shown at its place, which
   is noted before the graph stops: parallel calls are never matched by the order in which they arrive. Where a tool's
   body has put a question of its own in the same task, nobody can tell which of them was shown: only a signed answer
   counts there.
4. An edit is a no to this call, and another call of the same tool, decided afresh: :class:`ZeroTrustMiddleware` makes
   it, and only there it is offered. The editor's yes counts for it if it becomes exactly what they wrote.
5. A response that cannot be understood, or is none of these, is a no.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from zt_agents._internal.optional import require
from zt_agents.approvals import SESSION_USER, Answer, ApprovalRequest, ApprovalState, Channel, Desk, Edit
from zt_agents.approvals.questions import ANSWER_KEY, EDIT_KEY, FACTOR_KEY, REQUEST_KEY, approves, edited, question
from zt_agents.errors import ConfigurationError, StoreError
from zt_agents.identity.approving.approvers import SEPARATOR
from zt_agents.integrations.langchain.carriers import edits

if TYPE_CHECKING:
    from langgraph.config import get_config
    from langgraph.errors import GraphInterrupt
    from langgraph.types import interrupt
else:
    _PURPOSE = {"extra": "langchain", "purpose": "InterruptChannel"}
    get_config = require("langgraph.config", **_PURPOSE).get_config
    GraphInterrupt = require("langgraph.errors", **_PURPOSE).GraphInterrupt
    interrupt = require("langgraph.types", **_PURPOSE).interrupt

_TASKS = 1_000
"""Tasks whose places are remembered."""
_SHARED = "shared"
_SCRATCHPAD = "__pregel_scratchpad"
"""Where LangGraph keeps what a run of a task has been given; without it there is no graph to interrupt."""


class InterruptChannel:
    """Asks by interrupting the graph. Needs a checkpointer; where there is no graph, it asks *otherwise*, if given."""

    def __init__(self, *, otherwise: Channel | None = None) -> None:
        self._otherwise = otherwise
        self._desk: Desk | None = None
        self._lock = threading.Lock()
        self._places: OrderedDict[str, tuple[object, int]] = OrderedDict()
        """Of each task: the run it is in, and how many of our questions that run has passed."""
        self._shared: OrderedDict[str, None] = OrderedDict()
        """Tasks in which a tool's body has asked something too; for other processes it is noted in the store."""

    def bind(self, desk: Desk) -> None:
        """Take the desk of the guard.

        Raises:
            ConfigurationError: the channel has that of another guard.
        """
        if self._desk not in (None, desk):
            raise ConfigurationError("The channel belongs to another guard.", hint="Make one for each guard.")
        self._desk = desk

    def ask(self, request: ApprovalRequest) -> Answer | None:
        """File what the graph was resumed with, until *request* is settled.

        Raises:
            GraphInterrupt: there is none yet.
            ConfigurationError: there is no graph, and nobody to be asked otherwise.
            StoreError: the channel belongs to no guard, or the store cannot be used.
        """
        task = _task()
        if task is None or not request.call.call_id:  # a call without an id cannot be told from the next one
            if self._otherwise is None:
                raise ConfigurationError("No graph is running that could be interrupted, or the call has no id.")
            return self._otherwise.ask(request)
        if (desk := self._desk) is None:
            raise StoreError("The channel belongs to no guard.")
        if (edit := edits.get()) is not None and edit.call_id == request.call.call_id:
            for proof in edit.proofs:  # whoever edited a call has said yes to what it became
                self._file_proof(desk, proof, request)
        # Filed before the next call of this task looks: it may be that one's answer.
        with self._lock:
            why: str | None = None
            while desk.look(request.id) is ApprovalState.PENDING:
                answer = self._answer(desk, *task, request, why)
                why = desk.file(answer) if isinstance(answer, Answer) else answer
                if why and isinstance(answer, Answer) and answer.binding_hash != request.binding_hash:
                    why = "The answer was given for another call."
        return None

    async def aask(self, request: ApprovalRequest) -> Answer | None:
        """The async twin of :meth:`ask`."""
        if (_task() is None or not request.call.call_id) and self._otherwise is not None:
            return await self._otherwise.aask(request)
        return await asyncio.to_thread(self.ask, request)

    def again(self, request: ApprovalRequest) -> None:
        """Step over the questions that this call put before, so that its body's own interrupts keep their places."""
        task = _task()
        if task is None or self._desk is None:
            return
        name, scratchpad = task
        surfaced = self._desk.store.surfaced
        with self._lock, suppress(GraphInterrupt):  # settled by other means, before its question had an answer
            while _resumed(scratchpad) and surfaced(self._slot(name, scratchpad)) == request.binding_hash:
                interrupt(None)
                self._pass(name, scratchpad)

    def _answer(
        self, desk: Desk, name: str, scratchpad: Any, request: ApprovalRequest, why: str | None
    ) -> Answer | str | None:
        """Return what was said at the next place; or why it does not count; or None if it is nothing of ours."""
        store = desk.store
        slot = self._slot(name, scratchpad)
        shown = store.surfaced(slot)
        stored = store.find(shown) if shown is not None else None
        asked = stored.request if stored is not None and stored.request is not None else request
        try:
            edit_of = edits.get()
            editable = edit_of is not None and edit_of.call_id == asked.call.call_id
            response = interrupt(question(asked, editable=editable, objection=why))
        except GraphInterrupt:
            if shown is None:
                store.surface(slot, request.binding_hash)
            desk.notice(asked.id)
            if name in self._shared:
                store.surface(f"{name}#{_SHARED}", request.binding_hash)
            raise
        self._pass(name, scratchpad)
        token = response.get(ANSWER_KEY) if isinstance(response, Mapping) else None
        arguments = edited(response, asked.call.tool)
        edit = Edit(arguments, str(response.get(EDIT_KEY, ""))) if arguments is not None else None
        if token is not None:
            claims = desk.read(str(token))
            if claims is None:
                return None
            edit = edit if claims.binding_hash == asked.binding_hash else None
            if claims.approved and not approves(response):  # changed on its way: a no, and not theirs
                return Answer(claims.binding_hash, False, SESSION_USER, edit=edit)
            return Answer(
                binding_hash=claims.binding_hash,
                approved=claims.approved,
                approver=claims.approver,
                groups=claims.groups,
                proof=token,
                edit=edit,
                factor=str(response.get(FACTOR_KEY, "")),
            )
        if shown is None:
            return None  # whatever was answered here, it was not this question
        if name in self._shared or store.surfaced(f"{name}#{_SHARED}") is not None:
            return "Another tool asked here too, and nobody vouched for which question was answered."
        return Answer(binding_hash=shown, approved=approves(response), approver=SESSION_USER, edit=edit)

    def paused(self, error: BaseException) -> None:
        """Note that a body has put a question of its own in this task: a bare answer may be that one's."""
        task = _task()
        if task is None or self._desk is None or _ours(error):
            return
        name, _ = task
        with self._lock:
            self._shared[name] = None
            if len(self._shared) > _TASKS:
                self._shared.popitem(last=False)
            store = self._desk.store
            if (first := store.surfaced(f"{name}#0")) is not None:
                store.surface(f"{name}#{_SHARED}", first)

    @staticmethod
    def _file_proof(desk: Desk, proof: str, request: ApprovalRequest) -> None:
        claims = desk.read(proof)
        if claims is None:
            return
        if claims.binding_hash == request.binding_hash and claims.approved:
            # Attested anew: it was given before this call was asked about. What somebody has signed themselves is not.
            own = proof if SEPARATOR in proof else ""
            desk.file(Answer(claims.binding_hash, True, claims.approver, groups=claims.groups, proof=own))

    def _slot(self, name: str, scratchpad: Any) -> str:
        run, passed = self._places.get(name, (None, 0))
        return f"{name}#{passed if run is scratchpad else 0}"

    def _pass(self, name: str, scratchpad: Any) -> None:
        run, passed = self._places.pop(name, (None, 0))
        self._places[name] = (scratchpad, passed + 1 if run is scratchpad else 1)
        if len(self._places) > _TASKS:
            self._places.popitem(last=False)


def _task() -> tuple[str, Any] | None:
    """Return the name of the running task of a graph, the same whenever it is run again, and its scratchpad."""
    try:
        configurable = get_config().get("configurable") or {}
    except RuntimeError:
        return None
    scratchpad = configurable.get(_SCRATCHPAD)
    if scratchpad is None:
        return None
    return f"{configurable.get('thread_id')}/{configurable.get('checkpoint_ns')}", scratchpad


def _ours(error: BaseException) -> bool:
    """Return whether *error* carries nothing but questions of this channel, asked by calls inside a body."""
    interrupts = error.args[0] if error.args else ()
    values = [each.value for each in interrupts] if isinstance(interrupts, list | tuple) else []
    return bool(values) and all(isinstance(value, Mapping) and REQUEST_KEY in value for value in values)


def _resumed(scratchpad: Any) -> bool:
    return bool(scratchpad.resume) or scratchpad.get_null_resume(False) is not None
