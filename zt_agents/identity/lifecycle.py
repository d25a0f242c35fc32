"""What becomes of an agent after it was declared: where it stands, who answers for it, what its owner has accepted.

Rules:

1. A retired agent stays retired, whoever asks, and its id and name are never given to another. One that was never
   activated becomes active in no other way: it is not suspended, so that nobody can resume it.
2. Each change starts from what is stored at that moment, in one transaction: two that meet do not undo each other.
3. Names of owners are compared folded (:mod:`zt_agents._internal.folding`): looking alike is being the same.
4. Only the owner accepts what an agent has become, while they are there, and only what they were shown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from zt_agents._internal.folding import fold
from zt_agents.errors import AgentChangeError, AgentInactiveError
from zt_agents.identity.manifests import Manifest, difference_hash
from zt_agents.identity.principals import Agent, AgentStatus

RESTRICTION = {
    AgentStatus.ACTIVE: 0,
    AgentStatus.REGISTERED: 1,
    AgentStatus.SUSPENDED: 2,
    AgentStatus.RETIRED: 3,
}
"""The more restrictive of two statuses is the one that holds."""


@dataclass(frozen=True, slots=True)
class AgentState:
    """What is stored about one agent."""

    id: str
    """SPIFFE-format."""
    name: str
    status: AgentStatus = AgentStatus.ACTIVE
    declared: Agent | None = None
    """Owner, purpose and so on of one that was registered here; None for one that the policy file declares."""
    accepted: Manifest | None = None
    accepted_by: str = ""
    accepted_at: float = 0.0
    """Seconds since the epoch."""
    observed: Manifest | None = None
    """What it was last seen to be."""
    observed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Absence:
    """An owner who left."""

    owner: str
    left_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Stored:
    """All that is stored, at one moment."""

    agents: Mapping[str, AgentState] = field(default_factory=dict)
    """By id."""
    absences: Mapping[str, Absence] = field(default_factory=dict)
    """By the owner's folded name."""

    def absence(self, owner: str) -> Absence | None:
        return self.absences.get(fold(owner))


Transition = Callable[[AgentState | None, Stored], AgentState]
"""From what is stored of an agent, or None, and all the rest, to what is to be stored; raises to leave it as it is."""


class AgentStore(Protocol):
    """Where the states of agents are kept, for every process that shares it."""

    def version(self) -> Hashable:
        """Return something that differs after a write. Cheap: it is asked on every call."""
        ...

    def read(self) -> Stored:
        """Return all that is stored.

        Raises:
            StoreError: it cannot be read, is gone, or was put back to an earlier state.
        """
        ...

    def change(self, agent_id: str, transition: Transition) -> AgentState:
        """Store what *transition* makes of an agent's state, and return that.

        Raises:
            StoreError: nothing was stored.
        """
        ...

    def leave(self, absence: Absence) -> None:
        """Note that an owner left, or when else they did. Raises StoreError."""
        ...

    def come_back(self, owner: str) -> bool:
        """Forget that *owner* left; returns whether they had. Raises StoreError."""
        ...


class MemoryAgentStore:
    """An :class:`AgentStore` of one process: what it knows ends with it."""

    def __init__(self) -> None:
        self._stored = Stored()
        self._writes = 0
        self._lock = threading.Lock()

    def version(self) -> Hashable:
        return self._writes

    def read(self) -> Stored:
        return self._stored

    def change(self, agent_id: str, transition: Transition) -> AgentState:
        with self._lock:
            stored = self._stored
            state = transition(stored.agents.get(agent_id), stored)
            self._keep(replace(stored, agents={**stored.agents, agent_id: state}))
            return state

    def leave(self, absence: Absence) -> None:
        with self._lock:
            absences = {**self._stored.absences, fold(absence.owner): absence}
            self._keep(replace(self._stored, absences=absences))

    def come_back(self, owner: str) -> bool:
        with self._lock:
            absences = dict(self._stored.absences)
            was_gone = absences.pop(fold(owner), None) is not None
            self._keep(replace(self._stored, absences=absences))
            return was_gone

    def _keep(self, stored: Stored) -> None:
        self._stored = stored
        self._writes += 1


def register(agent: Agent) -> Transition:
    """Store an agent that the policy does not declare; it may not act until it is activated.

    The transition raises :class:`AgentChangeError` where its id or name is, or was, another's, or its owner left.
    """

    def transition(state: AgentState | None, stored: Stored) -> AgentState:
        if state is not None:
            raise AgentChangeError(f"The id {agent.id} is, or was, that of agent {state.name!r}.", hint=_NEVER_AGAIN)
        if any(fold(other.name) == fold(agent.name) for other in stored.agents.values()):
            raise AgentChangeError(f"The name {agent.name!r} is, or was, that of another agent.", hint=_NEVER_AGAIN)
        _require_there(agent.owner, stored)
        return AgentState(agent.id, agent.name, AgentStatus.REGISTERED, declared=agent)

    return transition


def _require_there(owner: str, stored: Stored) -> None:
    if stored.absence(owner) is not None:
        raise AgentChangeError(f"{owner} left.", hint="If they are back: zt-agents agents owner-back")


_NEVER_AGAIN = "Ids and names are not used again: what was said of the one would seem to be about the other."


def move(agent: Agent, status: AgentStatus, *, activated: bool = False) -> Transition:
    """Give *agent* another status. The transition raises :class:`AgentInactiveError` where that may not be.

    Args:
        agent: which.
        status: the new one.
        activated: one that was never activated stays as it is.
    """

    def transition(state: AgentState | None, _: Stored) -> AgentState:
        state = state or AgentState(agent.id, agent.name)
        if state.status is AgentStatus.RETIRED and status is not AgentStatus.RETIRED:
            raise AgentInactiveError(f"Agent {agent.name!r} is retired, and stays so.")
        if state.status is AgentStatus.REGISTERED and activated:
            raise AgentInactiveError(f"Agent {agent.name!r} was never activated.", hint="zt-agents agents activate")
        if state.status is AgentStatus.REGISTERED and status is AgentStatus.SUSPENDED:
            text = f"Agent {agent.name!r} was never activated: there is nothing to suspend."
            raise AgentInactiveError(text, hint="To stop it for good: zt-agents agents retire")
        return replace(state, status=status)

    return transition


def transfer(agent: Agent, owner: str) -> Transition:
    """Give a registered agent another owner. The transition raises :class:`AgentChangeError` for any other agent."""

    def transition(state: AgentState | None, stored: Stored) -> AgentState:
        if state is None or state.declared is None:
            hint = f"Its owner is in the policy file: agents.{agent.name}.owner"
            raise AgentChangeError(f"Agent {agent.name!r} was not registered here.", hint=hint)
        _require_there(owner, stored)
        return replace(state, declared=replace(state.declared, owner=owner))

    return transition


def observe(agent: Agent, manifest: Manifest, at: float) -> Transition:
    """Note what *agent* was seen to be. What differs from before in its tools alone is added to them."""

    def transition(state: AgentState | None, _: Stored) -> AgentState:
        state = state or AgentState(agent.id, agent.name)
        joined = state.observed.joined(manifest) if state.observed else None
        if joined == state.observed and joined is not None:
            return state
        return replace(state, observed=joined or manifest, observed_at=at)

    return transition


def accept(agent: Agent, shown: str, *, by: str, at: float) -> Transition:
    """Accept what *agent* was seen to be, as far as it was *shown*: the hash of the difference, or how it begins.

    The transition raises :class:`AgentChangeError` where *by* is not the owner or has left, where there is nothing to
    accept, or where the difference is another by now.
    """

    def transition(state: AgentState | None, stored: Stored) -> AgentState:
        owner = state.declared.owner if state is not None and state.declared is not None else agent.owner
        absence = stored.absence(owner)
        if fold(by) != fold(owner):
            hint = "They accept it, or the agent gets another owner first."
            raise AgentChangeError(f"The owner of agent {agent.name!r} is {owner}, not {by}.", hint=hint)
        if absence is not None and absence.left_at <= at:
            raise AgentChangeError(f"{owner} left and accepts nothing.", hint="Give the agent another owner.")
        if state is None or state.observed is None or state.observed == state.accepted:
            raise AgentChangeError(f"There is nothing to accept of agent {agent.name!r}.", hint=_NOT_SEEN)
        if len(shown) < SHOWN or not difference_hash(agent.id, state.accepted, state.observed).startswith(shown):
            hint = f"Look again: zt-agents agents review {agent.name}"
            raise AgentChangeError("That is not the difference there is now.", hint=hint)
        return replace(state, accepted=state.observed, accepted_by=by, accepted_at=at)

    return transition


SHOWN = 16
"""Characters of a difference's hash that stand for it at least: 64 bits."""
_NOT_SEEN = "It is seen when its graph runs under ZeroTrustMiddleware, or by guard.observe(...)."
