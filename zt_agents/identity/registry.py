"""The agents an organisation knows, and whether each may act right now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from zt_agents._internal.suggest import did_you_mean
from zt_agents.errors import AgentInactiveError, UnknownAgentError
from zt_agents.identity.principals import Agent, AgentStatus


class AgentRegistry:
    """Agents by name and by id. A suspension takes effect on the next call, sessions already open included."""

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        self._by_name = dict(agents)
        self._name_by_id = {agent.id: name for name, agent in agents.items()}

    def get(self, name: str) -> Agent:
        """Return the agent called *name*, whatever its status.

        Raises:
            UnknownAgentError: there is none.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise UnknownAgentError(
                f"No agent is called {name!r}.{did_you_mean(name, self._by_name)}",
                hint="Agents are listed under 'agents:' in the policy file.",
            ) from None

    def active(self, agent_id: str) -> Agent:
        """Return the agent with the SPIFFE-format *agent_id*, which must be active.

        Raises:
            UnknownAgentError: there is none.
            AgentInactiveError: it is suspended or retired.
        """
        try:
            agent = self._by_name[self._name_by_id[agent_id]]
        except KeyError:
            raise UnknownAgentError("The token names an agent that is not registered.") from None
        if agent.status is not AgentStatus.ACTIVE:
            raise AgentInactiveError(f"Agent {agent.name!r} is {agent.status}.")
        return agent

    def suspend(self, name: str) -> None:
        """Stop the agent called *name*: from now on each of its calls is denied."""
        self._by_name[name] = replace(self.get(name), status=AgentStatus.SUSPENDED)

    def resume(self, name: str) -> None:
        """Let a suspended agent act again; a retired one stays retired."""
        agent = self.get(name)
        if agent.status is AgentStatus.RETIRED:
            raise AgentInactiveError(f"Agent {name!r} is retired and cannot be resumed.")
        self._by_name[name] = replace(agent, status=AgentStatus.ACTIVE)
