"""What an agent is made of: what counts as a change, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zt_agents.identity.manifests import Manifest, difference_hash, differences, prompt_hash

TOOLS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["sha256:1", "sha256:2"]))
MANIFESTS = st.builds(
    Manifest,
    version=st.sampled_from(["1", "2"]),
    environment=st.just("test"),
    model=st.sampled_from(["", "m"]),
    prompt=st.sampled_from(["", prompt_hash("p")]),
    tools=TOOLS,
)


@given(MANIFESTS, MANIFESTS)
def test_who_accepts_one_accepts_the_other_only_if_it_is_the_same_but_for_fewer_tools(a: Manifest, b: Manifest) -> None:
    same = (a.version, a.model, a.prompt) == (b.version, b.model, b.prompt)
    assert a.covers(b) is (same and b.tools.items() <= a.tools.items())


@given(MANIFESTS, MANIFESTS)
def test_what_is_joined_covers_both_and_holds_nothing_else(a: Manifest, b: Manifest) -> None:
    both = a.joined(b)
    if both is None:
        same = (a.version, a.model, a.prompt) == (b.version, b.model, b.prompt)
        assert not same or any(a.tools[name] != b.tools[name] for name in a.tools.keys() & b.tools.keys())
    else:
        assert both.covers(a)
        assert both.covers(b)
        assert both.tools.items() == a.tools.items() | b.tools.items()


@given(MANIFESTS, MANIFESTS)
def test_equal_manifests_and_no_others_have_one_hash_and_no_difference(a: Manifest, b: Manifest) -> None:
    assert (a == b) is (a.hash == b.hash) is (not differences(a, b))
    assert Manifest.from_dict(a.to_dict()) == a


@given(MANIFESTS, MANIFESTS, MANIFESTS)
def test_a_difference_is_known_by_its_hash(a: Manifest, b: Manifest, c: Manifest) -> None:
    assert (difference_hash("x", a, c) == difference_hash("x", b, c)) is (a == b)
    assert difference_hash("x", a, b) != difference_hash("y", a, b)
    assert difference_hash("x", None, b) != difference_hash("x", a, b)


GOOD = Manifest("1", "test").to_dict()


@pytest.mark.parametrize("values", [None, [], {}, {"version": "1"}, {**GOOD, "more": ""}, {**GOOD, "model": 1}])
def test_what_is_no_manifest_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="manifest"):
        Manifest.from_dict(values)
