from __future__ import annotations

from typing import Any

import pytest

from zt_agents.catalog.resources import fill_resource
from zt_agents.errors import ArgumentsError


@pytest.mark.parametrize(
    ("template", "arguments", "resource"),
    [
        ("ticket/{args.id}", {"id": 5}, "ticket/5"),
        ("ticket/{args.id}", {"id": "T-5"}, "ticket/T-5"),
        ("{args.a}/{args.b.c}", {"a": "x", "b": {"c": "y"}}, "x/y"),
        ("flag/{args.on}", {"on": False}, "flag/false"),
        ("file/{args.path}", {"path": "/reports/2026..final.txt"}, "file//reports/2026..final.txt"),
        ("everything", {}, "everything"),
        ("", {"id": 5}, ""),
        ("a/{args.x}", {"x": "{args.y}", "y": "secret"}, "a/{args.y}"),
        ("a/{args.x}", {"x": "\\1{0}%s"}, "a/\\1{0}%s"),
    ],
)
def test_templates(template: str, arguments: dict[str, Any], resource: str) -> None:
    assert fill_resource(template, arguments) == resource


@pytest.mark.parametrize(
    "value",
    [None, "", [], {}, ["a"], "..", ".", "public/../payroll", "a/./b", "a\\..\\b", "/..", "b/..", "%2e%2E/b", "a%2f.."],
)
def test_what_names_no_resource_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentsError):
        fill_resource("file/{args.path}", {"path": value})


def test_a_missing_argument_is_refused() -> None:
    with pytest.raises(ArgumentsError, match="'path'"):
        fill_resource("file/{args.path}", {"paht": "x"})
    with pytest.raises(ArgumentsError, match=r"'a\.b'"):
        fill_resource("file/{args.a.b}", {"a": "x", "a.b": "y"})
