"""Whatever agents hand on, to whom and how often: nothing below admits what is not admitted above."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zt_agents.errors import IdentityError, ScopeError
from zt_agents.identity import Agent, SessionClaims, SigningKey, TaskScope, TokenIssuer, User
from zt_agents.provenance.labels import DataClass

NOW = 1_800_000_000
TOOLS = ("read", "write", "pay")
RESOURCES = ("", "a", "a/b", "a/b/c", "a/*", "a/b/*", "ab/c", "*", "a//", "a/.")
PATTERNS = tuple(each for each in RESOURCES if each != "*")
NAMES = ("ann", "ben", "cid")
ISSUER = TokenIssuer(issuer="spiffe://acme.example/zt-agents", audience="guard", keys=SigningKey.generate())
CALLS = tuple(itertools.product(TOOLS, RESOURCES, DataClass))

scopes = st.builds(
    TaskScope,
    tools=st.none() | st.lists(st.sampled_from(TOOLS)),
    resources=st.none() | st.lists(st.sampled_from(PATTERNS), max_size=3),
    data_class=st.none() | st.sampled_from(DataClass),
)


def admitted(scope: TaskScope | None) -> set[tuple[str, str, DataClass]]:
    return {call for call in CALLS if scope is None or scope.admits(*call)}


def fits(asked: TaskScope, before: TaskScope | None) -> bool:
    """Return whether each thing that is asked for by name was there before."""
    if before is None:
        return True
    narrowed = (
        TaskScope(before.tools if asked.tools is None else asked.tools),
        TaskScope(resources=before.resources if asked.resources is None else asked.resources),
        TaskScope(data_class=asked.data_class or before.data_class),
    )
    limits = (TaskScope(before.tools), TaskScope(resources=before.resources), TaskScope(data_class=before.data_class))
    return all(admitted(inner) <= admitted(outer) for inner, outer in zip(narrowed, limits, strict=True))


def agent(name: str, delegates: tuple[str, ...] = NAMES) -> Agent:
    return Agent(name, f"spiffe://acme.example/agent/{name}", "1", "dana", "tests", delegates=delegates)


@dataclass
class Exchange:
    """One step: which of the tokens so far is handed on, to whom, and what is asked for."""

    subject: int
    actor: str
    scope: TaskScope | None
    ttl: int | None
    later: int


exchanges = st.builds(
    Exchange,
    subject=st.integers(0, 20),
    actor=st.sampled_from(NAMES),
    scope=st.none() | scopes,
    ttl=st.none() | st.integers(1, 3600),
    later=st.integers(0, 400),
)


@settings(max_examples=150, deadline=None)
@given(
    st.none() | scopes,
    st.integers(1, 3600),
    st.integers(1, 10),
    st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES)).map(tuple)),
    st.lists(exchanges, max_size=12),
)
def test_no_sequence_of_exchanges_widens_anything(
    scope: TaskScope | None, ttl: int, depth: int, delegates: dict[str, tuple[str, ...]], steps: list[Exchange]
) -> None:
    now = float(NOW)
    first = ISSUER.issue(
        agent=agent("ann"), user=User("alice", groups=("g",)), task="t", ttl=ttl, now=now, scope=scope, tenant="north"
    )
    made: list[tuple[str, SessionClaims, list[SessionClaims]]] = [(*first, [])]
    for step in steps:
        now += step.later
        token, before, ancestors = made[step.subject % len(made)]
        name = before.agent_id.rsplit("/", 1)[1]
        delegator = agent(name, delegates.get(name, ()))
        asked = {"actor": agent(step.actor), "depth": depth, "now": now, "scope": step.scope, "ttl": step.ttl}
        allowed = (
            now < before.expires_at
            and step.actor in delegator.delegates
            and len(before.actors) < min(depth, 8)
            and (step.scope is None or fits(step.scope, before.scope))
        )
        if not allowed:
            with pytest.raises(IdentityError):
                ISSUER.exchange(token, delegator=delegator, **asked)
            continue
        new, claims = ISSUER.exchange(token, delegator=delegator, **asked)
        assert ISSUER.verify(new, now=now) == claims
        for above in (before, *ancestors):
            assert admitted(claims.scope) <= admitted(above.scope)
            assert claims.expires_at <= above.expires_at
            assert (claims.user_id, claims.task, claims.tenant) == (above.user_id, above.task, above.tenant)
            assert (claims.groups, claims.roles) == (above.groups, above.roles)
            assert claims.session_id != above.session_id
        assert claims.actors[1:] == before.actors == tuple((a.agent_id, a.session_id) for a in (before, *ancestors))
        made.append((new, claims, [before, *ancestors]))


@given(scopes, scopes)
def test_to_narrow_is_to_admit_nothing_more(inner: TaskScope, outer: TaskScope) -> None:
    if inner.narrows(outer):
        assert admitted(inner) <= admitted(outer)
    try:
        assert admitted(inner.within(outer)) <= admitted(outer)
    except ScopeError:
        assert not inner.narrows(outer)


@given(st.text("a/*.", max_size=8), st.text("a/*.", max_size=8), st.text("a/*.", max_size=8))
def test_patterns_that_are_narrower_cover_less(first: str, second: str, resource: str) -> None:
    try:
        inner, outer = TaskScope(resources=[first]), TaskScope(resources=[second])
    except ValueError:
        return
    if inner.narrows(outer) and inner.admits("t", resource, DataClass.PUBLIC):
        assert outer.admits("t", resource, DataClass.PUBLIC)


@given(scopes)
def test_a_scope_is_read_as_it_was_written(scope: TaskScope) -> None:
    assert TaskScope.from_details(scope.to_details()) == scope
