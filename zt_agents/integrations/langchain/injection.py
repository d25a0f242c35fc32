"""Injected arguments: values the application or the framework supplies, which a model must not be able to forge.

``ToolNode`` strips what a model writes under an injected name. A direct ``invoke``, and ``AgentExecutor``, do not:
there a forged ``user_id`` would reach the body. So a sealed tool takes an injected value only where a model cannot have
written it: a store or a runtime is an object no JSON can spell, a graph's state only exists inside a graph, and
whatever an application injects itself it marks with :func:`injected`.
"""

from __future__ import annotations

import typing
from enum import StrEnum
from typing import Any

from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tools import BaseTool
from langchain_core.utils.pydantic import get_fields


class Kind(StrEnum):
    """Who injects the value."""

    CALL_ID = "call_id"
    OBJECT = "object"
    """A store or a runtime: an object of the framework."""
    STATE = "state"
    APPLICATION = "application"


class Injected:
    """A value that the application itself injects; see :func:`injected`."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "Injected(...)"


def injected(value: Any) -> Any:
    """Mark *value* as supplied by the application: ``tool.invoke({"amount": 1, "user_id": injected(user.id)})``.

    Needed only for arguments annotated with ``InjectedToolArg``, when a sealed tool is invoked directly.
    """
    return Injected(value)


def injected_names(tool: BaseTool) -> dict[str, Kind]:
    """Return the injected arguments of *tool*, and who injects each."""
    hints = _hints(tool)
    return {name: kind for name, hint in hints.items() if (kind := _kind(hint)) is not None}


def forged(names: dict[str, Kind], tool_input: dict[str, Any], call_id: str | None) -> str | None:
    """Return the name of an injected argument in *tool_input* that a model may have written, or None."""
    for name, kind in names.items():
        if name not in tool_input or isinstance(tool_input[name], Injected):
            continue
        value = tool_input[name]
        if kind is Kind.CALL_ID and value == call_id and call_id is not None:
            continue
        if kind is Kind.OBJECT and not isinstance(value, str | int | float | bool | list | dict | None):
            continue
        if kind is Kind.STATE and _in_graph():
            continue
        return name
    return None


def unwrap(tool_input: dict[str, Any]) -> dict[str, Any]:
    """Return *tool_input* with marked values in place of their marks."""
    return {name: value.value if isinstance(value, Injected) else value for name, value in tool_input.items()}


def _in_graph() -> bool:
    config: Any = var_child_runnable_config.get() or {}
    return any(key.startswith("__pregel_") for key in config.get("configurable") or ())


def _kind(hint: Any) -> Kind | None:
    marks = list(typing.get_args(hint)[1:]) if typing.get_origin(hint) is typing.Annotated else []
    candidates = [mark if isinstance(mark, type) else type(mark) for mark in marks]
    origin = typing.get_origin(hint) or hint
    if isinstance(origin, type):
        candidates.append(origin)
    names = {base.__name__ for candidate in candidates for base in candidate.__mro__}
    if "InjectedToolCallId" in names:
        return Kind.CALL_ID
    if names & {"InjectedStore", "_DirectlyInjectedToolArg", "ToolRuntime"}:
        return Kind.OBJECT
    if "InjectedState" in names:
        return Kind.STATE
    return Kind.APPLICATION if "InjectedToolArg" in names else None


def _hints(tool: BaseTool) -> dict[str, Any]:
    """Annotations of the tool's arguments, from its schema and from the functions that run."""
    hints: dict[str, Any] = {}
    functions = [getattr(tool, "func", None), getattr(tool, "coroutine", None), type(tool)._run, type(tool)._arun]
    for function in functions:
        if function is None:
            continue
        try:
            found = typing.get_type_hints(function, include_extras=True)
        except (NameError, TypeError, AttributeError):
            found = dict(getattr(function, "__annotations__", {}))
        hints.update({name: hint for name, hint in found.items() if name != "return"})
    schema = tool.args_schema
    if isinstance(schema, type):
        for base in reversed(schema.__mro__):
            try:
                hints.update(typing.get_type_hints(base, include_extras=True))
            except (NameError, TypeError):
                continue
        known = get_fields(schema)
        hints = {name: hint for name, hint in hints.items() if name in known or _kind(hint) is not None}
    return hints


