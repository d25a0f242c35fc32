"""How an agent hands its task on to another, and what a narrowed session may touch.

Rules:

1. The policy names to whom an agent may hand on (``agents.NAME.delegates``) and how many agents a chain may have
   (``delegation.depth``). Only a session that could make a call itself can be handed on.
2. The acting agent's own rules decide its calls, and the scope takes away from that: an agent never has the authority
   of the one that it works for, nor that one the authority of its delegate beyond the scope. Rules see the whole chain:
   ``agent.chain``, ``session.depth``.
3. Everyone on whose word a call is made is looked at on each call: once one of them is suspended, revoked, or has ended
   its session, nobody below goes on.
4. What a delegate has seen, those that it works for have seen, and the other way round, at any time: they talk to each
   other out of the guard's sight, so the sessions of a chain have one label.
5. Each delegation is on record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from zt_agents._internal.display import visible
from zt_agents._internal.suggest import did_you_mean
from zt_agents.audit.records import AuditRecord, change_record
from zt_agents.catalog.resources import names_one
from zt_agents.catalog.specs import ToolSpec
from zt_agents.decisions import ChainLink, Reason, ReasonCode
from zt_agents.errors import DelegationError, ScopeError
from zt_agents.identification import identify
from zt_agents.identity.principals import Agent
from zt_agents.identity.scopes import TaskScope
from zt_agents.identity.tokens import Actor, SessionClaims
from zt_agents.sessions.session import Session

if TYPE_CHECKING:
    from zt_agents.guard import Guard


def outside(session: Session, spec: ToolSpec, resource: str, arguments: Mapping[str, Any]) -> Reason | None:
    """Return the reason against a call that the session's scope does not admit."""
    scope = session.claims.scope
    if scope is None:
        return None
    if scope.resources is not None and not names_one(spec.resource, arguments):
        return Reason(ReasonCode.SCOPE, "The name of its resource can be read in two ways, and a scope admits neither.")
    if unmet := scope.unmet(spec.name, resource, spec.data_class):
        said = " and ".join(f"{_UNMET[part]} {_list(getattr(scope, part))}" for part in unmet)
        return Reason(ReasonCode.SCOPE, f"The call is outside the scope of the session's task: {said}.")
    return None


_UNMET = {
    "tools": "its tool is not among",
    "resources": "its resource is not within",
    "data_class": "what it returns is graver than",
}
_MOST_NAMED = 3


def _list(named: tuple[str, ...] | str) -> str:
    """Return what a scope names, as the operator reads it; the rest of a long list is counted."""
    names = (named,) if isinstance(named, str) else named
    said = [f"'{visible(str(name), limit=80)}'" for name in names[:_MOST_NAMED]]
    if len(names) > _MOST_NAMED:
        said.append(f"{len(names) - _MOST_NAMED} more")
    return ", ".join(said) or "(none)"


def task_scope(
    guard: Guard, scope: TaskScope | None, tools: Iterable[str] | None, resources: Iterable[str] | None
) -> TaskScope | None:
    """Return the scope that an application asks for, or None if it asks for no limit.

    Raises:
        ScopeError: it names a tool that the policy does not have.
        ValueError: it is given twice, or is none.
    """
    if tools is not None or resources is not None:
        if scope is not None:
            raise ValueError("either a scope is given, or its tools and resources are")
        scope = TaskScope(tools, resources)  # type: ignore[arg-type] # any iterable is taken
    for name in (scope.tools or ()) if scope is not None else ():
        if name not in guard.policy.tools:
            known = did_you_mean(name, guard.policy.tools)
            raise ScopeError(f"The policy has no tool {name!r}.{known}", hint="A scope names tools exactly.")
    return scope


def delegate(
    outer: Session,
    *,
    agent: str,
    scope: TaskScope | None = None,
    ttl: int | None = None,
    session_id: str = "",
) -> Session:
    """Return the session in which *agent* goes on with the task of *outer*; see :meth:`Session.delegate`.

    *session_id* is that of a session that this is again, in another process.
    """
    guard, now = outer.guard, outer.guard.clock()
    delegator, refusal = identify(guard, outer, now=now)
    if delegator is None or refusal is not None:
        raise DelegationError(f"The session cannot be handed on. {refusal.text if refusal else ''}".rstrip())
    actor = guard.registry.active(guard.registry.get(agent).id)
    token, claims = guard.issuer.exchange(
        outer.token,
        delegator=delegator,
        actor=actor,
        depth=guard.policy.delegation_depth,
        now=now,
        scope=scope,
        ttl=ttl,
        session_id=session_id,
    )
    session = Session(
        guard,
        agent=actor,
        user=outer.user,
        intent=outer.intent,
        attributes=outer.attributes,
        token=token,
        claims=claims,
        outer=outer,
    )
    link(session, outer)
    guard.baggage(session)  # what cannot be said is refused here, not in the first call
    guard.audit.append(delegation_record(delegator, actor, claims, time=now))
    return guard.admit(session)


def delegation_record(delegator: Agent, actor: Agent, claims: SessionClaims, *, time: float) -> AuditRecord:
    """Return the record of a task that *delegator* handed on to *actor*, whose session is what *claims* say."""
    return change_record(
        "delegation.made",
        actor.name,
        by=delegator.name,
        why="",
        time=time,
        session=claims.session_id,
        task=claims.task,
        user=claims.user_id,
        actors=[list(each) for each in claims.actors],
        scope=claims.scope.to_details() if claims.scope is not None else None,
        expires_at=claims.expires_at,
    )


def link(session: Session, caller: Session | None) -> None:
    """Note on whose word *session* acts: everyone whom its token names, and whoever called it besides, each once.

    Raises:
        IdentityError: somebody whom its token names may not act.
    """
    outwards = caller.chain if caller is not None else ()
    known = {link.session_id for link in outwards}
    own = takewhile(lambda actor: actor.session_id not in known, session.claims.actors)
    session.chain = (session.chain[0], *(_earlier(session, actor) for actor in list(own)[1:]), *outwards)


def _earlier(session: Session, actor: Actor) -> ChainLink:
    agent = session.guard.registry.active(actor.agent_id)
    return session.chain[0]._replace(
        agent=agent.name, agent_id=agent.id, owner=agent.owner, session_id=actor.session_id
    )
