"""The tree is the one of RFC 6962: against the definitions of the RFC, written down as they stand there."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zt_agents.audit.tree import (
    EMPTY_ROOT,
    Tree,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    range_roots,
    verify_consistency,
    verify_inclusion,
)

sizes = st.integers(1, 300)


def split(size: int) -> int:
    k = 1
    while k * 2 < size:
        k *= 2
    return k


def naive_root(bodies: list[bytes]) -> bytes:
    """MTH(D[n]) of RFC 6962, 2.1."""
    if not bodies:
        return hashlib.sha256(b"").digest()
    if len(bodies) == 1:
        return hashlib.sha256(b"\0" + bodies[0]).digest()
    k = split(len(bodies))
    return hashlib.sha256(b"\1" + naive_root(bodies[:k]) + naive_root(bodies[k:])).digest()


def naive_path(m: int, bodies: list[bytes]) -> list[bytes]:
    """PATH(m, D[n]) of RFC 6962, 2.1.1."""
    if len(bodies) == 1:
        return []
    k = split(len(bodies))
    if m < k:
        return [*naive_path(m, bodies[:k]), naive_root(bodies[k:])]
    return [*naive_path(m - k, bodies[k:]), naive_root(bodies[:k])]


def naive_subproof(m: int, bodies: list[bytes], known: bool = True) -> list[bytes]:
    """SUBPROOF(m, D[n], b) of RFC 6962, 2.1.2."""
    if m == len(bodies):
        return [] if known else [naive_root(bodies)]
    k = split(len(bodies))
    if m <= k:
        return [*naive_subproof(m, bodies[:k], known), naive_root(bodies[k:])]
    return [*naive_subproof(m - k, bodies[k:], False), naive_root(bodies[:k])]


def bodies_of(size: int) -> list[bytes]:
    return [b"record %d" % number for number in range(size)]


def proof_of(path: list[range], bodies: list[bytes]) -> list[bytes]:
    roots = range_roots(map(leaf_hash, bodies), path)
    return [roots[part] for part in path]


@given(bodies=st.lists(st.binary(max_size=40), max_size=70))
def test_the_root_after_every_leaf(bodies) -> None:
    tree = Tree()
    assert tree.root() == EMPTY_ROOT == naive_root([])
    for count, body in enumerate(bodies, 1):
        tree.append(leaf_hash(body))
        assert (tree.size, tree.root()) == (count, naive_root(bodies[:count]))


@given(size=sizes, data=st.data())
def test_inclusion(size, data) -> None:
    index = data.draw(st.integers(0, size - 1))
    bodies = bodies_of(size)
    proof = proof_of(inclusion_path(index, size), bodies)
    assert proof == naive_path(index, bodies)
    said = {"index": index, "size": size, "proof": proof, "root": naive_root(bodies)}
    leaf = leaf_hash(bodies[index])
    assert verify_inclusion(leaf, **said)
    assert not verify_inclusion(leaf_hash(b"another"), **said)
    for other in data.draw(st.lists(st.integers(-1, size + 1).filter(lambda at: at != index), max_size=5)):
        assert not verify_inclusion(leaf, **said | {"index": other})


@given(new=sizes, data=st.data())
def test_consistency(new, data) -> None:
    old = data.draw(st.integers(1, new))
    bodies = bodies_of(new)
    proof = proof_of(consistency_path(old, new), bodies)
    assert proof == naive_subproof(old, bodies)
    said = {
        "old_size": old,
        "old_root": naive_root(bodies[:old]),
        "new_size": new,
        "new_root": naive_root(bodies),
        "proof": proof,
    }
    assert verify_consistency(**said)
    changed = [*bodies]
    changed[data.draw(st.integers(0, old - 1))] = b"another history"
    assert not verify_consistency(**said | {"old_root": naive_root(changed[:old])})
    assert not verify_consistency(**said | {"new_root": naive_root(changed)})


@given(size=st.integers(2, 200), data=st.data())
def test_a_proof_with_anything_changed_proves_nothing(size, data) -> None:
    bodies = bodies_of(size)
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size - 1))
    inclusion = proof_of(inclusion_path(index, size), bodies)
    consistency = proof_of(consistency_path(old, size), bodies)
    root, leaf = naive_root(bodies), leaf_hash(bodies[index])
    for proof, holds in (
        (
            inclusion,
            lambda parts: verify_inclusion(leaf, index=index, size=size, proof=parts, root=root),
        ),
        (
            consistency,
            lambda parts: verify_consistency(
                old_size=old, old_root=naive_root(bodies[:old]), new_size=size, new_root=root, proof=parts
            ),
        ),
    ):
        assert holds(proof)
        at = data.draw(st.integers(0, len(proof) - 1))
        flipped = bytearray(proof[at])
        flipped[data.draw(st.integers(0, 31))] ^= data.draw(st.integers(1, 255))
        assert not holds([*proof[:at], bytes(flipped), *proof[at + 1 :]])
        assert not holds([*proof[:at], proof[at][:-1], *proof[at + 1 :]])
        assert not holds([*proof[:at], *proof[at + 1 :]])
        assert not holds([*proof[:at], bytes(32), *proof[at:]])
        assert not holds([*proof, root])


def test_two_records_never_pass_for_one() -> None:
    """Without 0x00 and 0x01 a node's two halves could be presented as the body of a record."""
    left, right = map(leaf_hash, bodies_of(2))
    assert leaf_hash(left + right) != naive_root(bodies_of(2))


def test_a_tree_with_more_leaves_than_it_says_proves_nothing() -> None:
    first, second, third = map(leaf_hash, bodies_of(3))
    two, three = naive_root(bodies_of(2)), naive_root(bodies_of(3))
    assert not verify_inclusion(second, index=0, size=1, proof=[first], root=two)
    assert not verify_inclusion(third, index=1, size=2, proof=[two, two], root=node_hash(two, three))
    assert not verify_consistency(old_size=1, old_root=first, new_size=2, new_root=three, proof=[second, third])
    assert not verify_consistency(old_size=1, old_root=first, new_size=1, new_root=first, proof=[third])
    bodies, more = bodies_of(4), leaf_hash(b"more")
    proof = proof_of(consistency_path(3, 4), bodies)
    roots = {"old_root": node_hash(more, naive_root(bodies[:3])), "new_root": node_hash(more, naive_root(bodies))}
    assert not verify_consistency(old_size=3, new_size=4, proof=[*proof, more], **roots)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 3), (3, 3)])
def test_there_is_no_path_to_a_leaf_that_is_not_there(index, size) -> None:
    with pytest.raises(ValueError):
        inclusion_path(index, size)
    assert not verify_inclusion(EMPTY_ROOT, index=index, size=size, proof=[], root=EMPTY_ROOT)


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 3), (4, 3), (-1, 3)])
def test_nothing_is_consistent_with_nothing_or_with_the_future(old, new) -> None:
    with pytest.raises(ValueError):
        consistency_path(old, new)
    said = {"old_size": old, "old_root": EMPTY_ROOT, "new_size": new, "new_root": EMPTY_ROOT}
    assert not verify_consistency(**said, proof=[])


def test_ranges_beyond_the_leaves_are_refused() -> None:
    with pytest.raises(ValueError):
        range_roots(map(leaf_hash, bodies_of(5)), [range(4, 6)])


def test_many_ranges_in_one_pass_may_overlap() -> None:
    bodies = bodies_of(21)
    wanted = [range(a, b) for a in range(21) for b in range(a + 1, 22)]
    roots = range_roots(map(leaf_hash, bodies), wanted)
    assert roots == {part: naive_root(bodies[part.start : part.stop]) for part in wanted}
