"""The agents an organisation knows, and whether each may act right now.

Rules:

1. What the policy file says of an agent and what is stored of it both count: the more restrictive status holds.
2. What is stored takes effect on the next call, and 10 ms later in every other process that shares the store, in open
   sessions too. A store that cannot be read denies.
3. An owner who left leaves their agents a grace period; after it, none of them acts. Times are compared at each call,
   and a clock that is set back does not bring them back.
4. An agent that is not what its owner has accepted is under review, and its calls are denied or raised by one tier, as
   the policy says. What counts is what the call's session saw; else what this process saw last; else what any did.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import replace
from typing import NamedTuple

from zt_agents._internal.clock import Clock, rfc3339, system_clock
from zt_agents._internal.suggest import did_you_mean
from zt_agents.errors import AgentInactiveError, UnknownAgentError
from zt_agents.identity.lifecycle import (
    RESTRICTION,
    Absence,
    AgentState,
    AgentStore,
    MemoryAgentStore,
    Stored,
    move,
    observe,
)
from zt_agents.identity.manifests import Manifest, differences
from zt_agents.identity.principals import Agent, AgentStatus, OnChange

GRACE = 7 * 86_400
"""Seconds for which the agents of an owner who left go on, unless the policy says otherwise."""
_SETTLED = 0.05
"""Seconds after which a file that was read can be told from one that was written since: its times are that coarse."""

_STORED_EVERY = 60.0
"""Seconds between two writes about an agent that nobody has accepted anything of."""
_REMEMBERED = 1_000

Note = Callable[[str, Agent, Mapping[str, object]], None]
"""Puts on record what happened to an agent: what, such as ``agent.suspended``; which; and further facts."""


class Standing(NamedTuple):
    """How one agent stands."""

    agent: Agent
    """As it is now: status, owner, whether it is under review."""
    state: AgentState
    """What is stored of it."""
    absence: Absence | None
    """Its owner left."""
    ends_at: float | None
    """When that ends it, seconds since the epoch."""


class _Standings(dict[str, Standing]):
    """By id, each worked out when it is first asked for: there may be thousands of agents, and few that act."""

    def __init__(
        self, agents: Mapping[str, Agent], standing: Callable[[Agent, Stored], Standing], stored: Stored
    ) -> None:
        super().__init__()
        self._agents, self._standing, self._stored = agents, standing, stored

    def __missing__(self, agent_id: str) -> Standing:
        standing = self[agent_id] = self._standing(self._agents[agent_id], self._stored)
        return standing


class AgentRegistry:
    """Agents by name and by id. A suspension takes effect on the next call, sessions already open included."""

    def __init__(
        self,
        agents: Mapping[str, Agent],
        *,
        store: AgentStore | None = None,
        grace: float = GRACE,
        environment: str = "",
        clock: Clock = system_clock,
        note: Note | None = None,
    ) -> None:
        """Hold *agents*, as the policy has them.

        Args:
            agents: by name.
            store: what is known of them besides; nothing outlives the process without.
            grace: seconds for which an agent goes on after its owner left.
            environment: of this process, which is part of what an owner accepts.
            clock: seconds since the epoch.
            note: is told of each change made here.
        """
        self._agents = dict(agents)
        self._by_id = {agent.id: agent for agent in agents.values()}
        self._store = store or MemoryAgentStore()
        self._grace = grace
        self._environment = environment
        self._clock = clock
        self._note = note or (lambda what, agent, facts: None)
        self._latest = 0.0
        """The latest time that was seen."""
        self._seen: dict[str, Manifest] = {}
        """What this process saw of each agent last, by id."""
        self._unstored: set[str] = set()
        """Ids of those of which that is not stored."""
        self._stored_at: dict[str, float] = {}
        """When that was stored last, by id, on the monotonic clock."""
        self._version: Hashable = object()
        self._settled = False
        """What was read is known to be all that had been written."""
        self._settles_at = 0.0
        """On the monotonic clock."""
        self._current: Mapping[str, Standing] = {}
        """By id."""
        self._reviewed: dict[tuple[str, ...], tuple[Agent, Agent]] = {}
        """By id and what was seen: the agent as it stood then, and as it stands for who saw that."""
        self._lock = threading.Lock()

    def get(self, name: str) -> Agent:
        """Return the agent called *name* as it stands, whatever its status.

        Raises:
            UnknownAgentError: there is none.
            StoreError: how it stands cannot be told.
        """
        return self.standing(name).agent

    def active(self, agent_id: str, seen: Collection[Manifest] = ()) -> Agent:
        """Return the agent with the SPIFFE-format *agent_id*, which must be active.

        Args:
            agent_id: from a verified token.
            seen: what the call's session saw it to be; see :attr:`Agent.under_review` of what is returned.

        Raises:
            UnknownAgentError: there is none.
            AgentInactiveError: it was not activated, is suspended or retired, or its owner is gone.
            StoreError: how it stands cannot be told.
        """
        try:
            agent, state, _, ends_at = self._standings()[agent_id]
        except KeyError:
            raise UnknownAgentError("The token names an agent that is not registered.") from None
        if agent.status is not AgentStatus.ACTIVE:
            hint = f"See: zt-agents agents history {agent.name}"
            raise AgentInactiveError(f"Agent {agent.name!r} is {agent.status}.", hint=hint)
        if ends_at is not None and self._now() >= ends_at:
            text = f"The owner of agent {agent.name!r} left, and its time was over on {rfc3339(ends_at)}."
            raise AgentInactiveError(text, hint="Give it another owner.")
        return self._as_seen(agent, state, seen) if seen else agent

    def standing(self, name: str) -> Standing:
        """Return how the agent called *name* stands.

        Raises:
            UnknownAgentError: there is none.
            StoreError: it cannot be told.
        """
        return self._standings()[self._declared(name).id]

    def suspend(self, name: str) -> None:
        """Stop the agent called *name*: from now on each of its calls is denied, wherever the store is shared.

        Raises:
            UnknownAgentError: there is none.
            AgentInactiveError: it is retired, and stays so, or was never activated.
            StoreError: it could not be stored.
        """
        agent = self._declared(name)
        self._store.change(agent.id, move(agent, AgentStatus.SUSPENDED))
        self._note("agent.suspended", agent, {})

    def resume(self, name: str) -> None:
        """Let a suspended agent act again; a retired one stays retired.

        Raises:
            UnknownAgentError: there is none.
            AgentInactiveError: it is retired, or was never activated; or the policy suspends it.
            AuditError: it could not be put on record.
            StoreError: it could not be stored.
        """
        agent = self._declared(name)
        if agent.status is AgentStatus.RETIRED:
            raise AgentInactiveError(f"Agent {name!r} is retired and cannot be resumed.")
        if agent.status is AgentStatus.SUSPENDED:
            raise AgentInactiveError(f"The policy suspends agent {name!r}.", hint="Change it there.")
        transition = move(agent, AgentStatus.ACTIVE, activated=True)
        transition(self._store.read().agents.get(agent.id), Stored())  # what is refused is not put on record as done
        self._note("agent.resumed", agent, {})
        self._store.change(agent.id, transition)

    def saw(self, name: str, manifest: Manifest) -> bool:
        """Return whether :meth:`observe` has nothing to do: *manifest* was noted, and stored if it is time for that."""
        agent = self._declared(name)
        before = self._seen.get(agent.id)
        known = before is not None and (before is manifest or before.joined(manifest) == before)
        return known and not (agent.id in self._unstored and self._due(agent))

    def observe(self, name: str, manifest: Manifest) -> None:
        """Note what the agent called *name* was seen to be. Costs a comparison where that is nothing new.

        Where nothing was accepted and the policy asks for nothing, what is new is stored once a minute at most: some
        prompts tell the time.

        Raises:
            UnknownAgentError: there is none.
            StoreError: it could not be stored; in this process it counts all the same.
        """
        if self.saw(name, manifest):
            return
        agent = self._declared(name)
        with self._lock:
            before = self._seen.get(agent.id)
            seen = (before.joined(manifest) if before is not None else None) or manifest
            self._seen[agent.id] = seen
            self._unstored.add(agent.id)
            self._version = object()
        if not self._due(agent):
            return
        earlier: list[AgentState | None] = []

        def transition(state: AgentState | None, stored: Stored) -> AgentState:
            earlier.append(state)
            return observe(agent, seen, self._clock())(state, stored)

        state = self._store.change(agent.id, transition)
        self._unstored.discard(agent.id)
        self._stored_at[agent.id] = time.monotonic()
        held = state.accepted is not None or agent.on_change is not None
        if held and state != earlier[0] and state.observed is not None:
            was = earlier[0].observed if earlier[0] is not None else None
            parts = [change.part for change in differences(was, state.observed)]
            self._note("agent.changed", agent, {"manifest": state.observed.hash, "parts": parts})

    def _due(self, agent: Agent) -> bool:
        """Return whether what was seen of *agent* is to be stored now."""
        standing = self._current.get(agent.id)
        if standing is None or standing.state.accepted is not None or agent.on_change is not None:
            return True
        stored_at = self._stored_at.get(agent.id)
        return stored_at is None or time.monotonic() - stored_at >= _STORED_EVERY

    def _as_seen(self, agent: Agent, state: AgentState, seen: Collection[Manifest]) -> Agent:
        key = agent.id, *(each.hash for each in seen)
        found = self._reviewed.get(key)
        if found is None or found[0] is not agent:
            if len(self._reviewed) >= _REMEMBERED:
                self._reviewed.clear()
            found = self._reviewed[key] = agent, replace(agent, under_review=_review(agent, state, seen))
        return found[1]

    def _declared(self, name: str) -> Agent:
        try:
            return self._agents[name]
        except KeyError:
            raise UnknownAgentError(
                f"No agent is called {name!r}.{did_you_mean(name, self._agents)}",
                hint="Agents are listed under 'agents:' in the policy file.",
            ) from None

    def _now(self) -> float:
        self._latest = now = max(self._latest, self._clock())
        return now

    def _standings(self) -> Mapping[str, Standing]:
        """Return how every agent stands, read again if anything was written."""
        version = self._store.version()
        if version != self._version or not self._settled:
            with self._lock:
                now = time.monotonic()
                if version != self._version:
                    self._settles_at = now + _SETTLED
                self._current = _Standings(self._by_id, self._standing, self._store.read())
                self._version, self._settled = version, now >= self._settles_at
        return self._current

    def _standing(self, agent: Agent, stored: Stored) -> Standing:
        state = stored.agents.get(agent.id) or AgentState(agent.id, agent.name)
        status = max(agent.status, state.status, key=RESTRICTION.__getitem__)
        owner = state.declared.owner if state.declared is not None else agent.owner
        agent = replace(agent, status=status, owner=owner)
        seen = self._seen.get(agent.id) or state.observed
        if seen is not None:
            seen = replace(seen, version=agent.version, environment=self._environment or seen.environment)
        agent = replace(agent, under_review=_review(agent, state, (seen,) if seen is not None else ()))
        absence = stored.absence(owner)
        return Standing(agent, state, absence, absence.left_at + self._grace if absence is not None else None)


def _review(agent: Agent, state: AgentState, seen: Collection[Manifest]) -> OnChange | None:
    """Return what holds for an agent that was *seen* to be something, or None if its owner has accepted that."""
    accepted = state.accepted
    if accepted is None:
        return agent.on_change
    if all(each.hash == accepted.hash or accepted.covers(each) for each in seen):
        return None
    return agent.on_change or OnChange.DENY
