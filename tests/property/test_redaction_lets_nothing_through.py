"""Whatever the document and the paths: no value at a place that a path names is kept, and nothing else is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from zt_agents._internal.json_paths import Path, Step, parse_path
from zt_agents.audit.redaction import Redaction

NAMES = st.sampled_from(["a", "b", "card", "a b", "x.y", "0", "Δ", "$", "*", "['a']"])
PATHS = st.lists(
    st.builds(Step, st.booleans(), st.none() | NAMES | st.integers(0, 2)), min_size=1, max_size=4
).map(tuple)
LEAVES = st.integers(0, 10**6).map(lambda n: f"leaf {n}") | st.integers(-(2**53), 2**53) | st.booleans() | st.none()
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=25
)
ROOTS = st.lists(DOCUMENTS, max_size=3) | st.dictionaries(NAMES, DOCUMENTS, max_size=3)
MARK = {"redacted": "policy"}
NOT_FOUND = {"redacted": "a text, in which the policy's paths find nothing"}
Place = tuple[str | int, ...]


def below(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield every place of a document but its root."""
    for (key,), item in children(value):
        yield (*place, key), item
        yield from below(item, (*place, key))


def children(value: Any) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield (key,), item


def named(path: Path, document: Any) -> set[Place]:
    """Return the places that *path* names, as RFC 9535 says it: a list of nodes, step by step."""
    nodes: list[tuple[Place, Any]] = [((), document)]
    for step in path:
        reached = []
        for place, value in nodes:
            for start, node in [(place, value), *(below(value, place) if step.deep else ())]:
                for (*_, key), item in children(node):
                    if step.name is None or (type(step.name) is type(key) and step.name == key):
                        reached.append(((*start, key), item))
        nodes = reached
    return {place for place, _ in nodes}


def at(document: Any, place: Place) -> Any:
    for key in place:
        document = document[key]
    return document


@given(ROOTS, st.lists(PATHS, max_size=3))
def test_what_a_path_names_is_replaced_and_the_rest_is_as_it_was(document: Any, paths: list[Path]) -> None:
    whole = {"arguments": document}
    kept = {"arguments": Redaction(("", path) for path in paths)("pay", "arguments", document)}
    places = {place for path in paths for place in named(path, whole)}
    highest = {place for place in places if not any(place[:end] in places for end in range(1, len(place)))}
    on_the_way = {place for path in paths for end in range(1, len(path)) for place in named(path[:end], whole)}
    for place in highest:
        assert at(kept, place) == MARK
    for place, value in below(whole):
        if any(place[:end] in highest for end in range(1, len(place) + 1)) or isinstance(value, dict | list):
            continue
        # A path that goes on at a text names a part of it, which cannot be found in it.
        assert at(kept, place) == (NOT_FOUND if isinstance(value, str) and place in on_the_way else value)


@given(DOCUMENTS, st.lists(PATHS, max_size=3))
def test_json_in_a_text_is_no_hiding_place(document: Any, paths: list[Path]) -> None:
    redact = Redaction(("", path) for path in paths)
    hidden = redact("pay", "arguments", {"a": json.dumps({"b": document})})
    assert hidden == redact("pay", "arguments", {"a": {"b": document}})


def written(path: Path) -> str:
    quoted = {None: "*"}
    parts = [
        f"{'..' if deep else ''}[{quoted.get(name, name) if not isinstance(name, str) else chr(34) + name + chr(34)}]"
        for deep, name in path
    ]
    return "$" + "".join(parts)


@given(PATHS)
def test_a_path_is_read_as_it_is_written(path: Path) -> None:
    assert parse_path(written(path)) == path
