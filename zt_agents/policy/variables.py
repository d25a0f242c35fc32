"""The variables of conditions: what they are called, their types, and how each is read from a call.

Every argument is a variable of its own below ``args``. Nothing a model writes reaches a variable outside
``args``, and every value is read as the type that the condition was checked with, or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any

from zt_agents._internal.clock import as_datetime
from zt_agents.catalog.specs import Effect, Tier
from zt_agents.decisions import ToolCall
from zt_agents.policy.arguments import DYNAMIC, STRING, Kind, Path, ValueType
from zt_agents.policy.expressions import Chain
from zt_agents.provenance.labels import DataClass, Integrity


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable."""

    type: ValueType
    get: Callable[[ToolCall], Any]
    """Returns the value for a call; raises when the call has none, or one of another type."""


class Scope:
    """The variables that a condition on one tool may use."""

    def __init__(self, arguments: Mapping[Path, ValueType] | None) -> None:
        """*arguments* is None when nobody recorded the tool's schema."""
        self.arguments = arguments
        self.variables = dict(_FIXED)
        for path, value_type in (arguments or {}).items():
            if all(_NAMEABLE.fullmatch(part) for part in path):
                self.variables[".".join(("args", *path))] = _argument(path, value_type)

    def resolve(self, chain: Chain) -> str | None:
        """Return the variable that *chain* begins with, or None."""
        if any("." in part for part in chain.parts):
            return None
        prefixes = (".".join(chain.parts[:length]) for length in range(len(chain.parts), 0, -1))
        return next((name for name in prefixes if name in self.variables), None)

    def resolve_all(self, chains: Iterable[Chain]) -> list[str]:
        """Return the variables that *chains* use, each once."""
        return sorted({name for chain in chains if (name := self.resolve(chain))})


_NAMEABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_/ -]*", re.ASCII)
_EXACT = {Kind.STRING: str, Kind.INT: int, Kind.DOUBLE: float, Kind.BOOL: bool}
_EXACT_AS_DOUBLE = 2**53
"""Whole numbers up to here keep their value as a double."""


def convert(value: Any, value_type: ValueType) -> Any:
    """Return *value* in the form of *value_type*; raise TypeError or ValueError when it is something else."""
    kind, found = value_type.kind, type(value)
    if found is _EXACT.get(kind):  # exactly: True is an int to Python
        return value
    if kind is Kind.DOUBLE and found is int:
        if abs(value) > _EXACT_AS_DOUBLE:
            raise ValueError("a whole number too large to be compared as a double")
        return float(value)
    if kind is Kind.LIST and found in {list, tuple} and value_type.element:
        return [convert(item, value_type.element) for item in value]
    if kind is Kind.MAP and isinstance(value, Mapping) and value_type.element:
        return {convert(name, STRING): convert(item, value_type.element) for name, item in value.items()}
    if kind is Kind.DYNAMIC:
        return _plain(value)
    raise TypeError(f"a value of type {found.__name__} where {kind.name.lower()} was expected")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {convert(name, STRING): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value


def _argument(path: Path, value_type: ValueType) -> Variable:
    first, *rest = path
    exact = None if rest else _EXACT.get(value_type.kind)

    def get(call: ToolCall) -> Any:
        value = call.arguments.get(first)
        if type(value) is exact:
            return value
        for part in rest:
            if value is None:
                break
            if not isinstance(value, Mapping):
                raise TypeError(f"argument {'.'.join(path)} is not inside an object")
            value = value.get(part)
        if value is not None:
            return convert(value, value_type)
        if value_type.may_be_null or value_type.kind is Kind.DYNAMIC:
            return None
        raise TypeError(f"argument {'.'.join(path)} is missing")

    return Variable(value_type, get)


def _one_of(words: type[StrEnum]) -> ValueType:
    return ValueType(Kind.STRING, choices=tuple(word.value for word in words))


def _text(attribute: str, value_type: ValueType = STRING) -> Variable:
    return Variable(value_type, attrgetter(attribute))


def _converted(attribute: str, value_type: ValueType) -> Variable:
    read = attrgetter(attribute)
    return Variable(value_type, lambda call: convert(read(call), value_type))


_TEXTS = ValueType(Kind.LIST, STRING)
_FACTS = ValueType(Kind.MAP, DYNAMIC)
_EFFECTS = ValueType(Kind.LIST, _one_of(Effect))

_FIXED: dict[str, Variable] = {
    "user.id": _text("user.id"),
    "user.name": _text("user.name"),
    "user.groups": _converted("user.groups", _TEXTS),
    "user.roles": _converted("user.roles", _TEXTS),
    "user.attributes": _converted("user.attributes", _FACTS),
    "agent.name": _text("agent.name"),
    "agent.id": _text("agent.id"),
    "agent.version": _text("agent.version"),
    "agent.owner": _text("agent.owner"),
    "agent.purpose": _text("agent.purpose"),
    "session.id": _text("session_id"),
    "session.intent": _text("intent"),
    "session.task": _text("task"),
    "tool.name": _text("tool"),
    "tool.tier": _text("spec.tier.value", _one_of(Tier)),
    "tool.system": _text("spec.system"),
    "tool.effects": Variable(
        _EFFECTS, lambda call: [e.value for e in call.spec.effects] if call.spec else []
    ),
    "resource.id": _text("resource"),
    "resource.data_class": _text("spec.data_class.value", _one_of(DataClass)),
    "context.time": Variable(ValueType(Kind.TIMESTAMP), lambda call: as_datetime(call.time)),
    "context.environment": _text("environment"),
    "context.attributes": _converted("attributes", _FACTS),
    "provenance.integrity": _text("label.integrity.value", _one_of(Integrity)),
    "provenance.data_class": _text("label.data_class.value", _one_of(DataClass)),
}
ROOTS = frozenset({"args", *(name.partition(".")[0] for name in _FIXED)})
"""First words of variables: no iteration variable may take one."""
