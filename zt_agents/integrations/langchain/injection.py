"""Injected arguments: values the application or the framework supplies, which a model must not be able to forge.

``ToolNode`` strips what a model writes under an injected name. A direct ``invoke``, and ``AgentExecutor``, do not:
there a forged ``user_id`` would reach the body. So a sealed tool takes an injected value only where a model cannot have
written it: a store or a runtime is an object no JSON can spell, a graph's state comes from ``ToolNode`` or holds such
objects, and whatever an application injects itself it marks with :func:`injected`.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import FrameType
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.pydantic import get_fields

from zt_agents.integrations.langchain.signatures import parameter_names

_RUNTIME = "runtime"


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


@dataclass(frozen=True, slots=True)
class InjectedArgument:
    """An argument of a tool that somebody else than the model supplies."""

    kind: Kind
    aliases: tuple[str, ...]
    """Every key under which the tool's schema takes it, its own name first."""


def injected_arguments(tool: BaseTool, declared: Collection[str]) -> dict[str, InjectedArgument]:
    """Return the injected arguments of *tool* by name; *declared* are those that its schema shows to a model."""
    fields = get_fields(tool.args_schema) if isinstance(tool.args_schema, type) else {}
    kinds = {name: kind for name, hint in _hints(tool).items() if (kind := _kind(hint)) is not None}
    if _RUNTIME not in declared and any(_RUNTIME in parameter_names(function) for function in _functions(tool)):
        kinds[_RUNTIME] = Kind.OBJECT  # ToolNode goes by this name, whatever the annotation
    return {name: InjectedArgument(kind, (name, *_aliases(fields.get(name)))) for name, kind in kinds.items()}


def forged(
    arguments: Mapping[str, InjectedArgument],
    tool_input: Mapping[str, Any],
    call_id: str | None,
    accepted: Mapping[str, Any],
) -> str | None:
    """Return the name of an injected argument in *tool_input* that a model may have written, or None.

    Args:
        accepted: injected values of the call that this one is part of.
    """
    for name, argument in arguments.items():
        for key in argument.aliases:
            if key not in tool_input:
                continue
            value = tool_input[key]
            known = name in accepted and _same(value, accepted[name])
            if not (known or isinstance(value, Injected) or _vouched(argument.kind, value, call_id)):
                return name
    return None


def forgery(name: str) -> str:
    """Return the sentence about a forged argument, for the operator."""
    return (
        f"Argument {name!r} is injected and a model may not supply it; "
        "an application that injects it itself marks the value with injected(...)."
    )


def _same(value: Any, accepted: Any) -> bool:
    return value is accepted or (type(value) in _SPELLABLE and type(value) is type(accepted) and value == accepted)


def _vouched(kind: Kind, value: Any, call_id: str | None) -> bool:
    if kind is Kind.CALL_ID:
        return call_id is not None and type(value) is str and value == call_id
    if kind is Kind.OBJECT:
        return not isinstance(value, _SPELLABLE)
    return kind is Kind.STATE and (_unspeakable(value) or called_by_tool_node(sys._getframe(2)))


def unwrap(tool_input: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return *tool_input* with marked values in place of their marks."""
    return {name: value.value if isinstance(value, Injected) else value for name, value in tool_input.items()}


_SPELLABLE = (str, int, float, bool, list, dict, types.NoneType)
"""What JSON can say, in Python's types."""


def _unspeakable(value: Any) -> bool:
    """Whether *value* is, or holds one level down, an object that no JSON can spell: a message, a model, a store."""
    if not isinstance(value, _SPELLABLE):
        return True
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(
        not isinstance(part, _SPELLABLE)
        or (isinstance(part, list) and any(not isinstance(item, _SPELLABLE) for item in part))
        for part in parts
    )


def called_by_tool_node(frame: FrameType | None) -> bool:
    """Whether LangGraph's ``ToolNode``, which strips what a model forged, is what calls the tool at *frame*."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if not module.startswith(("langchain_core.", "zt_agents.")):
            return module == "langgraph.prebuilt.tool_node"
        frame = frame.f_back
    return False


def _aliases(field: Any) -> Iterator[str]:
    """Yield the other names under which a pydantic *field* takes its value."""
    for alias in (getattr(field, "alias", None), getattr(field, "validation_alias", None)):
        for choice in getattr(alias, "choices", (alias,)):
            first = next(iter(getattr(choice, "path", (choice,))), None)
            if isinstance(first, str):
                yield first


def _kind(hint: Any) -> Kind | None:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):  # as ToolNode reads it
        kinds = [kind for arm in typing.get_args(hint) if (kind := _kind(arm)) is not None]
        return kinds[0] if kinds else None
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


def _functions(tool: BaseTool) -> list[Any]:
    functions = (getattr(tool, "func", None), getattr(tool, "coroutine", None))
    return [function for function in functions if function is not None]


def _hints(tool: BaseTool) -> dict[str, Any]:
    """Annotations of the tool's arguments, from its schema and from the functions that run."""
    hints: dict[str, Any] = {}
    for function in (*_functions(tool), type(tool)._run, type(tool)._arun):
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


