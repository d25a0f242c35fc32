from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from zt_agents.catalog.fingerprints import fingerprint
from zt_agents.catalog.guess import guess
from zt_agents.catalog.lock import ToolLock
from zt_agents.catalog.specs import Tier, ToolDescription

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e6, 1e6) | text
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
schemas = st.dictionaries(text, values, max_size=4)
descriptions = st.builds(ToolDescription, name=text, description=text, parameters=schemas)
names = st.one_of(
    text,
    st.lists(
        st.sampled_from(
            ["get", "read", "send", "delete", "user", "email", "password", "order", "frob", "url"]
        ),
        min_size=1,
        max_size=4,
    ).map("_".join),
)
arguments = st.dictionaries(
    st.sampled_from(["id", "to", "url", "body", "recipient_email", "query", "amount", "command"]),
    st.sampled_from([{"type": "string"}, {"type": "string", "format": "uri"}, {"enum": ["a"]}]),
    max_size=4,
)
tools = st.builds(
    lambda name, description, properties: ToolDescription(name, description, {"properties": properties}),
    names,
    text,
    arguments,
)
hints = st.dictionaries(
    st.sampled_from(["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint", "title"]),
    st.booleans() | st.none() | st.sampled_from(["true", "false", 0, 1]),
)


def _shuffled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shuffled(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return [_shuffled(each) for each in value]
    return value


@given(descriptions, descriptions)
def test_different_content_different_fingerprint(one: ToolDescription, other: ToolDescription) -> None:
    same = json.dumps([one.name, one.description, _normal(one.parameters)], sort_keys=True) == json.dumps(
        [other.name, other.description, _normal(other.parameters)], sort_keys=True
    )
    assert (fingerprint(one) == fingerprint(other)) is same


def _normal(value: Any) -> Any:
    """JSON knows one kind of number: 1 and 1.0 are the same."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {key: _normal(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_normal(each) for each in value]
    return value


@given(descriptions, text, text, values)
def test_any_edit_changes_it(tool: ToolDescription, extra: str, key: str, value: Any) -> None:
    original = fingerprint(tool)
    if extra:
        assert fingerprint(ToolDescription(tool.name + extra, tool.description, tool.parameters)) != original
        assert fingerprint(ToolDescription(tool.name, extra + tool.description, tool.parameters)) != original
    assume(key not in tool.parameters)
    assert (
        fingerprint(ToolDescription(tool.name, tool.description, {**tool.parameters, key: value})) != original
    )


@given(descriptions, hints)
def test_order_and_annotations_change_nothing(tool: ToolDescription, annotations: dict[str, Any]) -> None:
    twin = ToolDescription(
        tool.name, tool.description, _shuffled(copy.deepcopy(tool.parameters)), annotations
    )
    assert fingerprint(twin) == fingerprint(tool)


@given(st.lists(descriptions, max_size=4))
def test_accepting_is_idempotent(tools: list[ToolDescription]) -> None:
    lock = ToolLock().accept(tools)
    assert lock.accept(tools).fingerprints == lock.fingerprints
    assert set(lock.parameters) == {tool.name for tool in tools}


@given(tools, hints)
def test_annotations_only_ever_raise(tool: ToolDescription, annotations: dict[str, Any]) -> None:
    plain = guess(tool)
    hinted = guess(ToolDescription(tool.name, tool.description, tool.parameters, annotations))
    assert hinted.tier.rank >= plain.tier.rank
    assert hinted.data_class.rank >= plain.data_class.rank
    assert hinted.effects >= plain.effects


@given(tools, text)
def test_a_description_only_ever_raises(tool: ToolDescription, claim: str) -> None:
    silent = guess(ToolDescription(tool.name, "", tool.parameters))
    assert guess(ToolDescription(tool.name, claim, tool.parameters)).tier.rank >= silent.tier.rank
    assert guess(tool).tier.rank >= silent.tier.rank


@given(tools)
def test_a_guess_is_complete(tool: ToolDescription) -> None:
    found = guess(tool)
    assert found.effects
    assert found.system
    assert found.why
    assert set(found.destinations) | set(found.content) <= set(tool.parameters["properties"])
    assert not set(found.destinations) & set(found.content)


@given(st.text(st.characters(min_codepoint=0x80, exclude_categories=["Cs"]), min_size=1, max_size=5), names)
def test_names_beyond_plain_characters_are_high(odd: str, name: str) -> None:
    assert guess(ToolDescription(name + odd, "", {})).tier is Tier.HIGH
    assert guess(ToolDescription(odd + name, "", {})).tier is Tier.HIGH
