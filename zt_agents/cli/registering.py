"""What may be registered as an agent: held against the same rules as what a policy file declares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zt_agents._internal.display import visible
from zt_agents._internal.folding import fold
from zt_agents._internal.suggest import did_you_mean
from zt_agents.cli.roster import Roster
from zt_agents.errors import AgentChangeError
from zt_agents.identity import Agent, parse_spiffe_id


def checked(roster: Roster, agent: Agent) -> Agent:
    """Return *agent*, which is new to *roster*.

    Raises:
        AgentChangeError: it cannot be registered; for all the reasons that there are.
    """
    for other in roster.declared.values():
        if fold(other.name) == fold(agent.name) or other.id == agent.id:
            hint = "It is active unless its status there says otherwise."
            raise AgentChangeError(f"The policy file declares agent {other.name!r}, {other.id}.", hint=hint)
    return possible(roster, agent)


def possible(roster: Roster, agent: Agent) -> Agent:
    """Return *agent*, new or changed.

    Raises:
        AgentChangeError: it cannot be like that; for all the reasons that there are.
    """
    if reasons := [*_misfits(agent), *_strangers(roster, agent)]:
        name = visible(agent.name, limit=80)
        raise AgentChangeError(f"Agent {name!r} cannot be: {'; '.join(reasons)}.")
    return agent


def _misfits(agent: Agent) -> Iterator[str]:
    """Yield what no policy file could say of an agent."""
    from pydantic import TypeAdapter, ValidationError  # slow to load

    from zt_agents.policy.models import AgentEntry
    from zt_agents.policy.spelling import AgentName
    from zt_agents.policy.validation import message_of

    entry = {"id": agent.id, "version": agent.version, "owner": agent.owner, "purpose": agent.purpose}
    for what, adapter, value in (
        ("name", TypeAdapter(AgentName), agent.name),
        ("", TypeAdapter(AgentEntry), entry),
    ):
        try:
            adapter.validate_python(value)
        except ValidationError as error:
            for each in error.errors(include_url=False):
                where = ".".join(map(str, each["loc"])) or what
                yield f"{where}: {message_of(each).removesuffix('.')}"


def _strangers(roster: Roster, agent: Agent) -> Iterator[str]:
    """Yield what does not go together with the rest of the policy file."""
    from zt_agents.policy.agents import not_an_owner  # loads pydantic

    try:
        domain, _ = parse_spiffe_id(agent.id)
    except ValueError as error:
        yield f"id: {error}"
    else:
        if domain != roster.file.trust_domain:
            yield f"id: it is in {domain!r}, not in the trust domain {roster.file.trust_domain!r}"
    if why := not_an_owner(agent.owner, [*roster.names, agent.name]):
        yield f"owner: {why}"
    tools: Sequence[str] = sorted(agent.tools or ())
    for name in tools:
        if name not in roster.file.tools:
            yield f"tools: there is no tool {name!r}.{did_you_mean(name, roster.file.tools)}".removesuffix(".")
