"""Canonical arguments: equal values, equal bytes; everything else refused."""

from __future__ import annotations

import hmac
import json
import math
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from zt_agents._internal.canonical import MAX_BYTES, KeyedHash, canonical, encode, private_copy
from zt_agents.errors import ArgumentsError

text = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | text
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=12
)
arguments = st.dictionaries(text, values, max_size=5)

anything = st.recursive(
    scalars
    | st.binary()
    | st.floats()
    | st.integers()
    | st.text()
    | st.decimals()
    | st.dates()
    | st.complex_numbers()
    | st.just(object()),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    | st.sets(st.integers(), max_size=3)
    | st.tuples(inner, inner),
    max_leaves=8,
)


@given(arguments)
def test_the_encoding_is_rfc_8785(value: dict[str, Any]) -> None:
    assert encode(canonical(value)) == rfc8785.dumps(value)


@given(arguments)
def test_a_canonical_value_is_json_and_shares_nothing(value: dict[str, Any]) -> None:
    result = canonical(value)
    assert json.loads(encode(result)).keys() == value.keys()

    def containers(item: Any) -> set[int]:
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        own = {id(item)} if isinstance(item, dict | list) else set()
        return own.union(*map(containers, inner)) if inner else own

    assert not containers(result) & containers(value)


@given(arguments, st.randoms())
def test_key_order_does_not_matter(value: dict[str, Any], random: Any) -> None:
    keys = list(value)
    random.shuffle(keys)
    assert encode(canonical({key: value[key] for key in keys})) == encode(canonical(value))


@given(arguments, arguments)
def test_different_values_have_different_bytes(one: dict[str, Any], other: dict[str, Any]) -> None:
    if encode(canonical(one)) == encode(canonical(other)):
        assert one == other


@given(st.dictionaries(st.text(), anything, max_size=3))
def test_whatever_comes_is_encoded_or_refused(value: dict[str, Any]) -> None:
    try:
        encoded = encode(canonical(value))
    except ArgumentsError:
        return
    assert json.loads(encoded) is not None


def cycle() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


class Hostile(str):
    def __str__(self) -> str:
        return "harmless"


REFUSED = {
    "nan": math.nan,
    "infinity": math.inf,
    "beyond doubles": 2**53,
    "huge": 10**400,
    "bytes": b"x",
    "cycle": cycle(),
    "1,000 levels": deep(1000),
    "100,000 levels": deep(100_000),
    "fractional keys": {1.5: 2},
    "keys written alike": {1: 2, "1": 3},
    "lone surrogate": "\ud800",
    "surrogate key": {"\ud800": 1},
    "10 MB": "x" * 10_000_000,
    "many values": list(range(60_000)),
    "long in sum": ["x" * 1000] * (MAX_BYTES // 1000 + 1),
    "object": object(),
    "function": len,
    "secret": SecretStr("hunter2"),
    "complex": 1j,
}


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED.keys())
def test_what_has_no_canonical_form_is_refused_without_being_shown(value: Any) -> None:
    with pytest.raises(ArgumentsError) as caught:
        encode(canonical({"amount": value}))
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", [5, None, b"amount", Hostile("amount")], ids=repr)
def test_an_argument_has_a_name(name: Any) -> None:
    with pytest.raises(ArgumentsError):
        encode(canonical({name: 1}))


class Colour(StrEnum):
    RED = "red"


class Point(BaseModel):
    x: int
    when: date


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Colour.RED, "red"),
        (Point(x=1, when=date(2026, 1, 31)), {"x": 1, "when": "2026-01-31"}),
        (Decimal("1.10"), "1.10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ((1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (Hostile("DROP"), "DROP"),
        (True, True),
    ],
)
def test_rich_values_become_json(value: Any, expected: Any) -> None:
    result = canonical({"v": value})["v"]
    assert result == expected
    assert type(result) is type(expected)


def test_true_is_not_one() -> None:
    assert encode(canonical({"v": True})) != encode(canonical({"v": 1}))


@given(st.binary(max_size=200), st.binary(max_size=300))
def test_the_keyed_hash_is_hmac_sha_256_cut_to_128_bits(key: bytes, message: bytes) -> None:
    assert KeyedHash(key)(message) == hmac.digest(key, message, "sha256")[:16].hex()


def test_a_private_copy_is_nobody_elses() -> None:
    original = {"to": ["a"]}
    copied = private_copy(original)
    original["to"].append("b")
    assert copied == {"to": ["a"]}


def test_what_cannot_be_copied_is_refused() -> None:
    class Stubborn:
        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("no")

    with pytest.raises(ArgumentsError):
        private_copy(Stubborn())
