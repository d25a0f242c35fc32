"""Task scopes: the grammar of resources, and what is not understood in a token."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zt_agents.errors import ScopeError
from zt_agents.identity import TaskScope
from zt_agents.provenance.labels import DataClass


def admits(pattern: str, resource: str) -> bool:
    return TaskScope(resources=[pattern]).admits("any", resource, DataClass.RESTRICTED)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "resource"),
    [
        ("ticket/5", "ticket/5"),
        ("ticket/*", "ticket/5"),
        ("ticket/*", "ticket/5/notes"),
        ("ticket/5/*", "ticket/5/notes"),
        ("", ""),
    ],
)
def test_what_a_pattern_covers(pattern: str, resource: str) -> None:
    assert admits(pattern, resource)


@pytest.mark.parametrize(
    ("pattern", "resource"),
    [
        ("ticket/5", "ticket/55"),
        ("ticket/5", "ticket/5/notes"),
        ("ticket/5", "Ticket/5"),
        ("ticket/*", "ticket"),
        ("ticket/*", "ticket/"),
        ("ticket/*", "tickets/5"),
        ("ticket/*", " ticket/5"),
        ("ticket/*", ""),
        ("ticket/5/*", "ticket/55"),
        ("", "ticket/5"),
    ],
)
def test_what_it_does_not(pattern: str, resource: str) -> None:
    assert not admits(pattern, resource)


@pytest.mark.parametrize("pattern", ["*", "/*", "**", "ticket*", "*/5", "ticket/*/notes", "ticket/**", "a/*/*"])
def test_there_is_no_other_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match="names no resource"):
        TaskScope(resources=[pattern])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given",
    [
        {"tools": "pay"},
        {"tools": {"pay": True}},
        {"tools": [1]},
        {"tools": [""]},
        {"resources": "ticket/5"},
        {"resources": [None]},
        {"resources": ["x" * 1001]},
        {"tools": [str(number) for number in range(501)]},
        {"data_class": "secret"},
    ],
)
def test_what_is_no_scope_is_not_made(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        TaskScope(**given)


def test_an_empty_list_is_nothing_and_none_is_no_limit() -> None:
    assert not TaskScope(tools=()).admits("read", "", DataClass.PUBLIC)
    assert not TaskScope(resources=()).admits("read", "", DataClass.PUBLIC)
    assert TaskScope().admits("read", "ticket/5", DataClass.RESTRICTED)


def test_what_is_not_mentioned_is_limited_as_before() -> None:
    outer = TaskScope(tools=("read", "write"), resources=("ticket/*",), data_class=DataClass.INTERNAL)
    assert TaskScope(tools=("read",)).within(outer) == TaskScope(("read",), ("ticket/*",), DataClass.INTERNAL)
    assert TaskScope(tools=("read",)).within(None) == TaskScope(tools=("read",))


@pytest.mark.parametrize(
    "asked",
    [
        TaskScope(tools=("read", "pay")),
        TaskScope(resources=("ticket/5", "payroll/1")),
        TaskScope(resources=("tickets/*",)),
        TaskScope(resources=("",)),
        TaskScope(data_class=DataClass.CONFIDENTIAL),
    ],
)
def test_more_than_there_was_is_refused_and_not_cut_to_fit(asked: TaskScope) -> None:
    with pytest.raises(ScopeError, match="more than the session has"):
        asked.within(TaskScope(tools=("read",), resources=("ticket/*",), data_class=DataClass.INTERNAL))


def test_what_is_more_is_named_by_its_part() -> None:
    had = TaskScope(tools=("read",), resources=("ticket/*",))
    with pytest.raises(ScopeError, match=r"more than the session has: tools, resources\."):
        TaskScope(tools=("pay",), resources=("payroll/1",)).within(had)
    with pytest.raises(ScopeError, match=r"more than the session has: resources\."):
        TaskScope(tools=("read",), resources=("payroll/1",)).within(had)


NAMES = st.sampled_from(["ticket/5", "ticket/*", "payroll/1", ""])
SCOPES = st.builds(
    TaskScope,
    tools=st.none() | st.lists(st.sampled_from(["read", "pay"])),
    resources=st.none() | st.lists(NAMES),
    data_class=st.none() | st.sampled_from(DataClass),
)


@given(SCOPES, st.sampled_from(["read", "pay"]), NAMES, st.sampled_from(DataClass))
def test_a_call_is_admitted_where_no_part_is_unmet(scope: TaskScope, tool: str, resource: str, data: DataClass) -> None:
    parts = {
        "tools": TaskScope(tools=scope.tools),
        "resources": TaskScope(resources=scope.resources),
        "data_class": TaskScope(data_class=scope.data_class),
    }
    unmet = {name for name, alone in parts.items() if not alone.admits(tool, resource, data)}
    assert set(scope.unmet(tool, resource, data)) == unmet
    assert scope.admits(tool, resource, data) is not bool(unmet)


TYPE = "zt_agents_task_scope"


@pytest.mark.parametrize(
    "details",
    [
        None,
        {},
        [],
        "read",
        ["read"],
        [{"type": TYPE}, {"type": TYPE}],
        [{}],
        [{"type": "another", "tools": []}],
        [{"type": [TYPE]}],
        [{"type": TYPE, "actions": ["read"]}],
        [{"type": TYPE, "tools": "read"}],
        [{"type": TYPE, "tools": None}],
        [{"type": TYPE, "tools": {"read": 1}}],
        [{"type": TYPE, "tools": ["write", "read"]}],
        [{"type": TYPE, "tools": ["read", "read"]}],
        [{"type": TYPE, "tools": [["read"]]}],
        [{"type": TYPE, "resources": ["*"]}],
        [{"type": TYPE, "data_class": "secret"}],
        [{"type": TYPE, "data_class": ["public"]}],
        [{"type": TYPE, "data_class": None}],
    ],
)
def test_what_is_not_understood_in_a_token_is_refused(details: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        TaskScope.from_details(details)
