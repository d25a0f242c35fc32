"""Programs that a sensible policy allows: a sealed tool does what the bare one does, and a refusal has a reason."""

from __future__ import annotations

import gc
import uuid
import weakref
from datetime import date
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, HttpUrl, RootModel
from pydantic.alias_generators import to_camel
from pydantic.v1 import BaseModel as BaseModelV1

from zt_agents import AccessDeniedError
from zt_agents._internal.canonical import canonical


class Colour(Enum):
    RED = "red"


class Tags(RootModel[list[str]]):
    pass


class Order(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)
    total_amount: int = 0


class Site(BaseTool):
    name: str = "search"
    description: str = "Search."

    def _run(self, query: str, site: str = None) -> str:  # type: ignore[assignment]  # noqa: RUF013 - as people write it
        return f"{query} {site}"


def typed(
    url: HttpUrl,
    host: IPv4Address,
    net: IPv4Network,
    day: date,
    key: uuid.UUID,
    amount: Decimal,
    shades: dict[Colour, int],
    numbers: dict[int, str],
    tags: Tags,
) -> str:
    """Take all kinds of values."""
    return repr((url, host, net, day, key, amount, shades, numbers, tags))


def test_what_json_can_write_arrives_as_it_was_parsed(make_world: Any) -> None:
    arguments = {
        "url": "https://acme.example/a",
        "host": "10.0.0.1",
        "net": "10.0.0.0/8",
        "day": "2026-01-02",
        "key": str(uuid.UUID(int=5)),
        "amount": "1.50",
        "shades": {"red": 1},
        "numbers": {"1": "one"},
        "tags": ["a"],
    }
    bare = StructuredTool.from_function(typed).invoke(arguments)
    sealed = StructuredTool.from_function(typed)
    world = make_world(sealed, when='args.url.startsWith("https://acme.example/") && args.tags.exists(t, t == "a")')
    with world.session():
        assert sealed.invoke(arguments) == bare
        with pytest.raises(AccessDeniedError):
            sealed.invoke(arguments | {"url": "https://evil.example/"})


def test_a_default_need_not_match_the_schema_and_a_given_value_must(make_world: Any) -> None:
    tool = Site()
    world = make_world(tool)
    with world.session():
        assert tool.invoke({"query": "q"}) == "q None"
        with pytest.raises(AccessDeniedError, match="site does not match"):
            tool.invoke({"query": "q", "site": None})


@pytest.mark.parametrize("name", ["totalAmount", "total_amount"])
def test_a_condition_sees_a_model_under_the_names_of_its_schema(name: str, make_world: Any) -> None:
    def place(order: Order) -> int:
        """Place an order."""
        return order.total_amount

    tool = StructuredTool.from_function(place)
    world = make_world(tool, when="args.order.totalAmount <= 100")
    with world.session():
        assert tool.invoke({"order": {name: 100}}) == 100
        with pytest.raises(AccessDeniedError):
            tool.invoke({"order": {name: 101}})


def test_a_field_is_named_as_in_its_json_schema() -> None:
    class Aliases(BaseModel):
        model_config = ConfigDict(extra="allow")
        a: int = Field(alias="A")
        b: int = Field(validation_alias=AliasChoices(AliasPath("B", 0), "BB", "BBB"))
        c: int = Field(0, validation_alias=AliasPath("C", 0))
        d: int = Field(0, serialization_alias="D")

    value = Aliases.model_validate({"A": 1, "BBB": 2, "more": 3, "a": 9})
    decided = canonical({"value": value})["value"]
    assert decided == {"A": 1, "BB": 2, "c": 0, "d": 0, "more": 3, "a": 9}
    assert set(Aliases.model_json_schema()["properties"]) <= set(decided)


def test_an_extra_field_cannot_hide_a_declared_one() -> None:
    class Payment(BaseModel):
        model_config = ConfigDict(extra="allow")
        amount: int = Field(alias="sum")

    value = Payment.model_validate({"sum": 500, "amount": 5})
    assert value.amount == 500  # what the body reads
    assert canonical({"value": value})["value"]["sum"] == 500


def test_extra_fields_of_an_old_model_are_part_of_the_question() -> None:
    class Old(BaseModelV1):
        a: int

        class Config:
            extra = "allow"

    assert canonical({"value": Old(a=1, b=2)})["value"] == {"a": 1, "b": 2}


def test_keys_in_a_refused_value_are_not_shown(make_world: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"people": {"type": "object", "additionalProperties": {"type": "integer"}}},
    }
    tool = StructuredTool(name="t", description="d", func=lambda **_: "ran", args_schema=schema)
    world = make_world(tool)
    with world.session(), pytest.raises(AccessDeniedError, match="people does not match") as refused:
        tool.invoke({"people": {"carol@secret.example": "x"}})
    assert "carol" not in str(refused.value)


def test_tools_and_classes_made_for_one_request_are_freed(make_world: Any) -> None:
    world = make_world(Site())

    def request() -> weakref.ref[type]:
        class Own(Site):
            """Made anew for each request."""

            description: str = "Search."

        world.guard.protect(tool := Own())
        with world.session():
            assert tool.invoke({"query": "q"}) == "q None"
        return weakref.ref(Own)

    made = [request() for _ in range(5)]
    gc.collect()
    assert [kept() for kept in made] == [None] * 5
