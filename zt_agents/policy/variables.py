"""The variables of conditions: what they are called, their types, and how each is read from a call.

Every argument is a variable of its own below ``args``. Nothing a model writes reaches a variable outside
``args``, and every value is read as the type that the condition was checked with, or not at all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any

from zt_agents._internal.clock import as_datetime
from zt_agents.catalog.specs import Effect, Tier
from zt_agents.decisions import ToolCall
from zt_agents.identity.principals import User
from zt_agents.policy.arguments import DYNAMIC, STRING, Kind, Path, ValueType
from zt_agents.policy.expressions import Chain
from zt_agents.provenance.labels import DataClass, Integrity


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable."""

    type: ValueType
    get: Callable[[ToolCall], Any]
    """Returns the value for a call; raises when the call has none, or one of another type."""


class ApprovedCall:
    """A call, and who approves it."""

    __slots__ = ("_call", "approver")

    def __init__(self, call: ToolCall, approver: User) -> None:
        self._call = call
        self.approver = approver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class Scope:
    """The variables that a condition on one tool may use."""

    def __init__(self, arguments: Mapping[Path, ValueType] | None, *, approver: bool = False) -> None:
        """*arguments* is None when nobody recorded the tool's schema; *approver* adds who approves."""
        self.arguments = arguments
        self.variables = dict(_OF_APPROVERS if approver else _FIXED)
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
_DOUBLE = ValueType(Kind.DOUBLE)
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_SIGNIFICANT = 15
"""Decimal digits that a double always keeps apart (IEEE 754 binary64)."""
_EXACT_AS_DOUBLE = 2**53
"""Whole numbers up to here keep their value as a double."""


def convert(value: Any, value_type: ValueType) -> Any:
    """Return *value* in the form of *value_type*; raise TypeError or ValueError when it is something else."""
    kind, found = value_type.kind, type(value)
    if found is _EXACT.get(kind):  # exactly: True is an int to Python
        return _whole(value) if found is str else value
    if kind is Kind.DOUBLE and found is int:
        if abs(value) > _EXACT_AS_DOUBLE:
            raise ValueError("a whole number too large to be compared as a double")
        return float(value)
    if kind is Kind.DECIMAL:
        return _decimal(value) if found is str else convert(value, _DOUBLE)
    if kind is Kind.LIST and found in {list, tuple} and value_type.element:
        return [convert(item, value_type.element) for item in value]
    if kind is Kind.MAP and isinstance(value, Mapping) and value_type.element:
        return {convert(name, STRING): convert(item, value_type.element) for name, item in value.items()}
    if kind is Kind.DYNAMIC:
        return _plain(value)
    raise TypeError(f"a value of type {found.__name__} where {kind.name.lower()} was expected")


def _decimal(text: str) -> float:
    """Return the number that *text* writes, if a double can tell it from its neighbours."""
    if not _DECIMAL.fullmatch(text) or len(text.lstrip("-0.").replace(".", "")) > _SIGNIFICANT:
        raise ValueError("not a decimal number of at most 15 digits")
    return float(text)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {convert(name, STRING): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return _whole(value) if isinstance(value, str) else value


def _whole(text: str) -> str:
    """Return *text* if a comparison can be trusted: CEL sees all of it, and no equal text is spelled otherwise.

    The binding passes text on only up to its first NUL. And what is not in Unicode's normal form C looks like another
    text and is not equal to it, so a rule about the one would miss the other.
    """
    if "\0" in text:
        raise ValueError("a text with a NUL character")
    if not text.isascii():
        text.encode()  # raises for half a surrogate pair
        if not unicodedata.is_normalized("NFC", text):
            raise ValueError("a text that is not in Unicode's normal form C")
    return text


def _argument(path: Path, value_type: ValueType) -> Variable:
    first, *rest = path

    def get(call: ToolCall) -> Any:
        value = call.arguments.get(first)
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


def _read(attribute: str, value_type: ValueType = STRING) -> Variable:
    read = attrgetter(attribute)
    return Variable(value_type, lambda call: convert(read(call), value_type))


_TEXTS = ValueType(Kind.LIST, STRING)
_FACTS = ValueType(Kind.MAP, DYNAMIC)
_EFFECTS = ValueType(Kind.LIST, _one_of(Effect))

_authenticated_at = attrgetter("user.login.authenticated_at")

_FIXED: dict[str, Variable] = {
    "user.id": _read("user.id"),
    "user.name": _read("user.name"),
    "user.groups": _read("user.groups", _TEXTS),
    "user.roles": _read("user.roles", _TEXTS),
    "user.attributes": _read("user.attributes", _FACTS),
    "user.issuer": _read("user.login.issuer"),
    "user.acr": _read("user.login.acr"),
    "user.amr": _read("user.login.amr", _TEXTS),
    "user.authenticated_at": Variable(
        ValueType(Kind.TIMESTAMP), lambda call: as_datetime(_authenticated_at(call))
    ),
    "agent.name": _read("agent.name"),
    "agent.id": _read("agent.id"),
    "agent.version": _read("agent.version"),
    "agent.owner": _read("agent.owner"),
    "agent.purpose": _read("agent.purpose"),
    "agent.chain": Variable(_TEXTS, lambda call: [link.agent for link in call.chain]),
    "session.id": _read("session_id"),
    "session.intent": _read("intent"),
    "session.task": _read("task"),
    "session.tenant": _read("tenant"),
    "session.depth": Variable(ValueType(Kind.INT), lambda call: len(call.chain) or 1),
    "tool.name": _read("tool"),
    "tool.tier": _read("spec.tier.value", _one_of(Tier)),
    "tool.system": _read("spec.system"),
    "tool.effects": Variable(
        _EFFECTS, lambda call: [e.value for e in call.spec.effects] if call.spec else []
    ),
    "resource.id": _read("resource"),
    "resource.data_class": _read("spec.data_class.value", _one_of(DataClass)),
    "context.time": Variable(ValueType(Kind.TIMESTAMP), lambda call: as_datetime(call.time)),
    "context.environment": _read("environment"),
    "context.attributes": _read("attributes", _FACTS),
    "provenance.integrity": _read("label.integrity.value", _one_of(Integrity)),
    "provenance.data_class": _read("label.data_class.value", _one_of(DataClass)),
}
_OF_APPROVERS: dict[str, Variable] = {
    # What the application said of a request, and how its user logged in, is not kept while it waits.
    **{
        name: variable
        for name, variable in _FIXED.items()
        if not name.endswith((".attributes", ".issuer", ".acr", ".amr", ".authenticated_at"))
    },
    "approver.id": _read("approver.id"),
    "approver.groups": _read("approver.groups", _TEXTS),
}
"""Where it is asked who may approve: the call is an :class:`ApprovedCall` there."""
ROOTS = frozenset({"args", *(name.partition(".")[0] for name in _OF_APPROVERS)})
"""First words of variables: no iteration variable may take one."""
