"""Canonical values: the one form in which arguments are decided on, hashed and bound to approvals.

Rules:

1. Only what JSON can say, typed: null, booleans, integers up to 2**53 - 1, finite floats, strings of valid Unicode,
   lists, and objects with string keys. Dates, UUIDs, decimals, enums, paths, URLs, network addresses and models become
   their JSON form, and a model's fields have the names of its JSON Schema.
2. What has no such form is refused, never approximated: NaN and infinities, larger integers, bytes, cycles,
   lone surrogates, keys that JSON does not write as text or writes alike, unknown objects.
3. Bounded: depth, number of values, and encoded size.
4. The encoding is RFC 8785 (JCS), so that equal values have equal bytes in every language.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from typing import Any
from uuid import UUID

import orjson
import rfc8785
from pydantic import AliasChoices, AliasPath, AnyUrl, BaseModel, RootModel, SecretBytes, SecretStr
from pydantic.fields import FieldInfo
from pydantic.v1 import BaseModel as BaseModelV1
from pydantic_core import to_jsonable_python

from zt_agents.errors import ArgumentsError

MAX_DEPTH = 64
"""Levels of nesting."""
MAX_VALUES = 50_000
"""Scalars and containers together."""
MAX_BYTES = 1_048_576
"""Size of the canonical encoding, bytes."""
_MAX_RESULT_VALUES = 1_000
"""What a call may be kept waiting for."""

_MAX_INTEGER = 2**53 - 1  # RFC 8785, section 3.2.2.3: numbers are IEEE 754 doubles
_SIMPLE = (str, bool, type(None))
_PLAIN: tuple[type[Any], ...] = (int, float, dict, list, tuple)
_ADDRESSES = (IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)
_CONVERTIBLE = (date, time, timedelta, Decimal, UUID, PurePath, AnyUrl, *_ADDRESSES)


def canonical(arguments: Mapping[str, Any], *, most: int = MAX_VALUES) -> dict[str, Any]:
    """Return *arguments* as canonical values, at most so many of them, sharing no container with the original.

    Raises:
        ArgumentsError: a value has no canonical form or a bound is exceeded; the message names the argument, never
            its value.
    """
    budget = [most]
    result = {}
    for name, value in arguments.items():
        if type(name) is not str:
            raise ArgumentsError("The name of an argument is not text.")
        if type(value) in _SIMPLE and not (type(value) is str and len(value) > MAX_BYTES):
            result[name] = value
            continue
        try:
            result[name] = _walk(value, 1, budget)
        except RecursionError:  # an object whose own conversion recurses without end
            raise ArgumentsError(f"Argument {name!r} was refused: it is nested too deeply.") from None
        except ArgumentsError as error:
            raise ArgumentsError(f"Argument {name!r} was refused: {error.message}") from error.__cause__
    return result


def _walk(value: Any, depth: int, budget: list[int]) -> Any:
    kind = type(value)
    budget[0] -= 1
    if budget[0] < 0:
        raise ArgumentsError("it holds too many values.")
    if kind is str:
        if len(value) > MAX_BYTES:
            raise ArgumentsError(f"it is longer than {MAX_BYTES} bytes.")
        return value
    if value is None or kind is bool:
        return value
    if kind is int:
        if not -_MAX_INTEGER <= value <= _MAX_INTEGER:
            raise ArgumentsError("it holds an integer beyond 2**53 - 1, which JSON cannot carry exactly.")
        return value
    if kind is float:
        if not math.isfinite(value):
            raise ArgumentsError("it holds NaN or an infinity.")
        return value
    if depth > MAX_DEPTH:
        raise ArgumentsError(f"it is nested more than {MAX_DEPTH} levels deep, or refers to itself.")
    if kind is dict:
        keyed = {_key(key): _walk(item, depth + 1, budget) for key, item in value.items()}
        if len(keyed) != len(value):
            raise ArgumentsError("it has two keys that JSON writes alike.")
        return keyed
    if kind is list or kind is tuple:
        return [_walk(item, depth + 1, budget) for item in value]
    return _walk(_convert(value), depth + 1, budget)


def _key(key: Any) -> str:
    if type(key) is str:
        return key
    name = _convert(key) if isinstance(key, (Enum, *_CONVERTIBLE)) else key
    if type(name) is str or type(name) is int:
        return str(name)
    raise ArgumentsError(f"it has a key of type {type(key).__name__}, which JSON does not write as text.")


def _convert(value: Any) -> Any:
    """Return one level of *value* in simpler types."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, SecretStr | SecretBytes):
        raise ArgumentsError("it is a secret, which may be injected but not be an argument.")
    if isinstance(value, RootModel):
        return value.root
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return (value.model_extra or {}) | {_public(name, fields[name]): getattr(value, name) for name in fields}
    if isinstance(value, BaseModelV1):
        extra = {name: item for name, item in value.__dict__.items() if name not in value.__fields__}
        return extra | {field.alias: getattr(value, name) for name, field in value.__fields__.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if isinstance(value, set | frozenset):
        # A set has no order: sort by encoding, so that equal sets have equal bytes.
        return sorted((_walk(item, 1, [MAX_VALUES]) for item in value), key=encode)
    if isinstance(value, _CONVERTIBLE):
        return to_jsonable_python(value)
    if isinstance(value, str):
        return str.__str__(value)  # not str(value): a subclass may say anything there
    for plain in _PLAIN:
        if isinstance(value, plain):
            return plain(value)
    raise ArgumentsError(f"values of type {type(value).__name__} have no canonical form.")


def _public(name: str, field: FieldInfo) -> str:
    """Return what the model's JSON Schema calls *field*: conditions, and humans who approve, know it by that name."""
    alias = field.validation_alias
    for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
        path = choice.path if isinstance(choice, AliasPath) else [choice]
        if len(path) == 1 and isinstance(path[0], str):
            return path[0]
    return name


def encode(value: Any) -> bytes:
    """Return the RFC 8785 encoding of canonical *value*, at most ``MAX_BYTES`` long.

    Raises:
        ArgumentsError: too long, or a string is not valid Unicode.
    """
    try:
        # orjson writes the same bytes as RFC 8785 except for floats and for keys outside ASCII, which sort differently.
        encoded = orjson.dumps(value, option=orjson.OPT_SORT_KEYS) if _plain(value) else rfc8785.dumps(value)
    except (orjson.JSONEncodeError, rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        raise ArgumentsError("The arguments have no canonical encoding.") from error
    if len(encoded) > MAX_BYTES:
        raise ArgumentsError(f"The arguments take more than {MAX_BYTES} bytes.")
    return encoded


def encode_result(result: Any) -> bytes | None:
    """Return the RFC 8785 encoding of what a tool returned; None where it has none, or it would take long to make."""
    try:
        return encode(canonical({"": result}, most=_MAX_RESULT_VALUES)[""])
    except Exception:  # noqa: BLE001 - the body has run: whatever an odd result does now must not undo that
        return None


def _plain(value: Any) -> bool:
    kind = type(value)
    if kind is float:
        return False
    if kind is dict:
        for key, item in value.items():
            if not key.isascii() or not _plain(item):
                return False
    if kind is list:
        return all(map(_plain, value))
    return True


def digest(encoded: bytes) -> bytes:
    """Return the SHA-256 of an encoding: what approvals and replays are matched by."""
    return hashlib.sha256(encoded).digest()


class KeyedHash:
    """HMAC-SHA-256 (RFC 2104) in hex, its first 128 bits: what logs and spans may show of arguments and results.

    Written out because ``hmac.digest`` gives up the interpreter lock at every call, however short the message, and a
    call on its way to a tool would have to win it back from the background threads.
    """

    _BLOCK = 64

    def __init__(self, key: bytes) -> None:
        if len(key) > self._BLOCK:
            key = hashlib.sha256(key).digest()
        padded = key.ljust(self._BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def __call__(self, encoded: bytes) -> str:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(encoded)
        outer.update(inner.digest())
        return outer.hexdigest()[:32]


def private_copy(value: Any) -> Any:
    """Return a copy of *value* that nobody else can change, for the body to run on.

    Raises:
        ArgumentsError: *value* holds something that cannot be copied.
    """
    if type(value) in _SIMPLE or type(value) is int or type(value) is float:
        return value
    try:
        return copy.deepcopy(value)
    except Exception as error:  # whatever an object's own way to be copied raises: the call is refused
        raise ArgumentsError(f"A value of type {type(value).__name__} cannot be copied.") from error
