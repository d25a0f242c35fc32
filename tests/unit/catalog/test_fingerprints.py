from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from types import MappingProxyType

import pytest

from zt_agents.catalog.fingerprints import fingerprint
from zt_agents.catalog.specs import ToolDescription
from zt_agents.errors import ConfigurationError

SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}


def test_it_is_the_hash_of_the_canonical_form() -> None:
    canonical = b'{"description":"Read.","name":"read","parameters":{"a":1,"b":2}}'
    found = fingerprint(ToolDescription("read", "Read.", {"b": 2, "a": 1.0}))
    assert found == f"sha256:{hashlib.sha256(canonical).hexdigest()}"


@pytest.mark.parametrize(
    "changed",
    [
        ToolDescription("read2", "Read.", SCHEMA),
        ToolDescription("read", "Read. ", SCHEMA),
        ToolDescription("read", "Read.", {**SCHEMA, "required": []}),
        ToolDescription("read", "Read.", {**SCHEMA, "properties": {"id": {"type": "string"}}}),
        ToolDescription("read", "Re\u200bad.", SCHEMA),
        ToolDescription("re\u0430d", "Read.", SCHEMA),
    ],
)
def test_every_change_shows(changed: ToolDescription) -> None:
    assert fingerprint(changed) != fingerprint(ToolDescription("read", "Read.", SCHEMA))


def test_order_of_keys_and_annotations_do_not_matter() -> None:
    turned = dict(reversed(SCHEMA.items()))
    plain = ToolDescription("read", "Read.", SCHEMA)
    assert fingerprint(ToolDescription("read", "Read.", turned, {"readOnlyHint": True})) == fingerprint(plain)
    assert fingerprint(ToolDescription("read", "Read.", MappingProxyType(SCHEMA))) == fingerprint(plain)


def _cycle() -> dict[str, object]:
    schema: dict[str, object] = {}
    schema["properties"] = schema
    return schema


@pytest.mark.parametrize(
    "parameters",
    [
        {"default": math.nan},
        {"default": math.inf},
        {"maximum": 2**53},
        {"title": "\ud800"},
        {"\ud800": 1},
        {1: "a key that is no text"},
        {"enum": {"a", "b"}},
        {"default": object()},
        {"default": b"bytes"},
        _cycle(),
    ],
    ids=["nan", "inf", "big", "surrogate", "surrogate-key", "int-key", "set", "object", "bytes", "cycle"],
)
def test_what_has_no_canonical_form_is_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="'odd' cannot be fingerprinted"):
        fingerprint(ToolDescription("odd", "", parameters))


_PROGRAM = """
from enum import Enum
from typing import Literal
from langchain_core.tools import tool
from pydantic import BaseModel, Field
from pydantic.v1 import BaseModel as BaseModelV1
from zt_agents.catalog.fingerprints import fingerprint
from zt_agents.integrations.langchain.describe import describe

class Colour(Enum):
    RED = "red"
    BLUE = "blue"

class Part(BaseModel):
    name: str
    tags: set[str] = {"alpha", "beta", "gamma", "delta", "epsilon"}

class Old(BaseModelV1):
    tags: set[str] = {"alpha", "beta", "gamma", "delta", "epsilon"}

@tool
def modern(
    colour: Colour,
    parts: list[Part],
    kind: Literal["x", "y"] = "x",
    tags: frozenset[str] = frozenset({"alpha", "beta", "gamma", "delta", "epsilon"}),
) -> str:
    "Do it."
    return ""

@tool(args_schema=Old)
def old(tags: set[str]) -> str:
    "Do it."
    return ""

print(fingerprint(describe(modern)), fingerprint(describe(old)))
"""


def test_processes_with_different_hash_seeds_agree() -> None:
    seen = set()
    for seed in ("1", "2", "3"):
        process = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        seen.add(process.stdout)
    assert len(seen) == 1
    assert seen.pop().count("sha256:") == 2
