"""What a tool's argument schema says about the type of each argument.

An object's properties are flattened: ``{"address": {"city": ...}}`` gives the path ``("address", "city")``.
What cannot be typed (unions, recursion, free-form objects) is dynamic or a map: conditions on it still
load, and fail closed when a value turns out not to fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

Path = tuple[str, ...]
"""Names that lead from the arguments to a value."""

_MAX_DEPTH = 8
_MAX_PATHS = 1000


class Kind(Enum):
    """The types that conditions know."""

    STRING = auto()
    INT = auto()
    DOUBLE = auto()
    DECIMAL = auto()
    """A number that may be written as text, as pydantic's ``Decimal`` is. Conditions see a double."""
    BOOL = auto()
    TIMESTAMP = auto()
    LIST = auto()
    MAP = auto()
    DYNAMIC = auto()


@dataclass(frozen=True, slots=True)
class ValueType:
    """The type of one value."""

    kind: Kind
    element: ValueType | None = None
    """Type of the items of a list, or of the values of a map with text keys."""
    nullable: bool = False
    """The schema accepts null."""
    optional: bool = False
    """The value may be left out."""
    choices: tuple[str, ...] = ()
    """The only texts it can be; empty when any text will do."""

    @property
    def may_be_null(self) -> bool:
        return self.nullable or self.optional

    @property
    def scalar(self) -> bool:
        return self.kind in _SCALARS


_SCALARS = frozenset({Kind.STRING, Kind.INT, Kind.DOUBLE, Kind.DECIMAL, Kind.BOOL})
STRING = ValueType(Kind.STRING)
DYNAMIC = ValueType(Kind.DYNAMIC)
_JSON_TYPES = {
    "string": STRING,
    "integer": ValueType(Kind.INT),
    "number": ValueType(Kind.DOUBLE),
    "decimal": ValueType(Kind.DECIMAL),  # not a type of JSON Schema: see _follow
    "boolean": ValueType(Kind.BOOL),
    "array": ValueType(Kind.LIST, DYNAMIC),
    "object": ValueType(Kind.MAP, DYNAMIC),
}
_PYTHON_TYPES: dict[type, ValueType] = {
    str: STRING,
    int: _JSON_TYPES["integer"],
    float: _JSON_TYPES["number"],
    bool: _JSON_TYPES["boolean"],
}

Schema = Mapping[str, Any]


def argument_types(schema: Schema) -> dict[Path, ValueType]:
    """Return the type of every argument, and of every property of an object argument, in *schema*."""
    found: dict[Path, ValueType] = {}
    root, _, trail = _follow(schema, schema, ())
    _flatten(schema, root, (), False, trail, found)
    return found


def _flatten(
    root: Schema, node: Schema, path: Path, absent: bool, trail: Path, found: dict[Path, ValueType]
) -> None:
    properties = node.get("properties")
    if not isinstance(properties, Mapping):
        return
    required = node.get("required")
    required = required if isinstance(required, list) else []
    for name, raw in properties.items():
        if not isinstance(name, str) or len(found) >= _MAX_PATHS:
            continue
        here = (*path, name)
        optional = absent or name not in required
        child, nullable, seen = _follow(root, raw, trail)
        if child.get("type") == "object" and child.get("properties") and len(here) < _MAX_DEPTH:
            _flatten(root, child, here, optional or nullable, seen, found)
        else:
            value = _type_of(root, child, seen, 0)
            found[here] = replace(value, nullable=value.nullable or nullable, optional=optional)


def _follow(root: Schema, node: Any, trail: Path) -> tuple[Schema, bool, Path]:
    """Return *node* without ``$ref`` and unions of one, whether it may be null, and the refs passed."""
    nullable = False
    while isinstance(node, Mapping):
        reference = node.get("$ref")
        arms = node.get("anyOf") or node.get("oneOf") or node.get("allOf")
        if isinstance(reference, str):
            if reference in trail:
                return {}, nullable, trail  # recursive: dynamic from here on
            trail = (*trail, reference)
            node = _lookup(root, reference)
        elif isinstance(arms, list) and arms:
            others = [arm for arm in arms if not (isinstance(arm, Mapping) and arm.get("type") == "null")]
            nullable = nullable or len(others) < len(arms)
            if len(others) == 2 and _is_decimal(others):
                return {"type": "decimal"}, nullable, trail
            if len(others) != 1:
                return {}, nullable, trail
            node = others[0]
        else:
            kinds = node.get("type")
            if isinstance(kinds, list):
                others = [kind for kind in kinds if kind != "null"]
                nullable = nullable or len(others) < len(kinds)
                node = {**node, "type": others[0]} if len(others) == 1 else {}
            return node, nullable, trail
    return {}, nullable, trail


def _is_decimal(arms: list[Any]) -> bool:
    """Return whether a union is of a number and its text, which is how pydantic describes a ``Decimal``."""
    return sorted(str(arm.get("type")) if isinstance(arm, Mapping) else "" for arm in arms) == ["number", "string"]


def _lookup(root: Schema, reference: str) -> Any:
    if not reference.startswith("#/"):
        return {}
    node: Any = root
    for part in reference.removeprefix("#/").split("/"):
        node = node.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(node, Mapping) else None
    return node


def _type_of(root: Schema, node: Schema, trail: Path, depth: int) -> ValueType:
    """Return the type of a node that :func:`_follow` has been through."""
    values = [node["const"]] if "const" in node else node.get("enum")
    if isinstance(values, list) and values:
        return _type_of_values(values)
    kind = node.get("type")
    found = _JSON_TYPES.get(kind, DYNAMIC) if isinstance(kind, str) else DYNAMIC
    if found.kind is Kind.LIST and "prefixItems" not in node:
        return ValueType(Kind.LIST, _element(root, node.get("items"), trail, depth + 1))
    if found.kind is Kind.MAP and not node.get("properties"):
        return ValueType(Kind.MAP, _element(root, node.get("additionalProperties"), trail, depth + 1))
    return found


def _element(root: Schema, raw: Any, trail: Path, depth: int) -> ValueType:
    child, nullable, seen = _follow(root, raw, trail)
    return DYNAMIC if nullable or depth > _MAX_DEPTH else _type_of(root, child, seen, depth)


def _type_of_values(values: list[Any]) -> ValueType:
    kinds = {type(value) for value in values}
    nullable = type(None) in kinds
    kinds.discard(type(None))
    if len(kinds) != 1:
        return ValueType(Kind.DYNAMIC, nullable=nullable)
    value = replace(_PYTHON_TYPES.get(kinds.pop(), DYNAMIC), nullable=nullable)
    if value.kind is Kind.STRING:
        return replace(value, choices=tuple(text for text in values if text is not None))
    return value
