"""The Merkle tree of RFC 6962 over the records of a log, and its two kinds of proof.

::

    leaf(record)      = SHA-256(0x00 || body)
    node(left, right) = SHA-256(0x01 || left || right)

A tree of n leaves is split at the largest power of two below n. Its root stands for all n records in their
order. An inclusion proof shows with log2(n) hashes that one record is among them; a consistency proof shows
that a later root stands for the same records and more.

A proof is the roots of some disjoint ranges of leaves: :func:`inclusion_path` and :func:`consistency_path`
say which, :func:`range_roots` computes them in one pass over the leaves, in memory that does not grow with
the log. No tree is stored: appending stays as cheap as it was, and nothing stored can contradict the records.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256 as _sha256

HASH_SIZE = 32
EMPTY_ROOT = _sha256().digest()


def leaf_hash(body: bytes) -> bytes:
    """Return the hash of a record with this *body*."""
    return _sha256(b"\x00" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the tree whose two halves have these hashes."""
    return _sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that grows by leaves and remembers only the roots of its complete parts: at most 64 hashes."""

    __slots__ = ("_parts", "size")

    def __init__(self, size: int = 0, frontier: Sequence[bytes] = ()) -> None:
        """Begin with nothing, or go on from a tree of *size* leaves with this *frontier*."""
        if len(frontier) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has no frontier of {len(frontier)} hashes")
        self.size = size
        """Number of leaves."""
        self._parts = list(frontier)
        """Roots of the complete subtrees, largest first: one for each bit that is set in the size."""

    def append(self, leaf: bytes) -> None:
        """Add a leaf by its hash."""
        self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaves by their hashes."""
        parts, total, sha256 = self._parts, self.size, _sha256
        for leaf in leaves:
            size = total
            while size & 1:
                leaf = sha256(b"\x01" + parts.pop() + leaf).digest()
                size >>= 1
            parts.append(leaf)
            total += 1
        self.size = total

    def frontier(self) -> tuple[bytes, ...]:
        """Return the roots of the complete subtrees, largest first: all that growing needs of the leaves so far."""
        return tuple(self._parts)

    def since(self, start: int) -> Tree:
        """Return the tree over the leaves from *start* on.

        Raises:
            LookupError: it cannot be told from the frontier.
        """
        first = 0
        for index in range(len(self._parts)):
            if first == start:
                return Tree(self.size - start, self._parts[index:])
            first += 1 << (self.size - first).bit_length() - 1
        if first == start:
            return Tree()
        raise LookupError(start)

    def root(self) -> bytes:
        """Return the root as it is now."""
        if not self._parts:
            return EMPTY_ROOT
        *others, root = self._parts
        for part in reversed(others):
            root = node_hash(part, root)
        return root


def inclusion_path(index: int, size: int) -> list[range]:
    """Return the ranges of leaves whose roots prove leaf *index* (from 0) in a tree of *size* leaves.

    This is PATH(m, D[n]) of RFC 6962, 2.1.1, in its order.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    path = []
    first, last = 0, size
    while last - first > 1:
        middle = first + _split(last - first)
        if index < middle:
            path.append(range(middle, last))
            last = middle
        else:
            path.append(range(first, middle))
            first = middle
    return path[::-1]


def consistency_path(old: int, new: int) -> list[range]:
    """Return the ranges whose roots prove that a tree of *new* leaves starts with the tree of *old* leaves.

    This is PROOF(m, D[n]) of RFC 6962, 2.1.2, in its order. It is empty where both are the same tree.
    """
    if not 0 < old <= new:
        raise ValueError(f"there is no consistency proof from {old} to {new} leaves")
    path = []
    first, last = 0, new
    while old != last:
        middle = first + _split(last - first)
        if old <= middle:
            path.append(range(middle, last))
            last = middle
        else:
            path.append(range(first, middle))
            first = middle
    if first:  # otherwise the old tree is a subtree of the new one, and its root is known to who checks
        path.append(range(first, last))
    return path[::-1]


def range_roots(leaves: Iterable[bytes], ranges: Iterable[range], before: Tree | None = None) -> dict[range, bytes]:
    """Return the root of each of *ranges*, from one pass over the leaf hashes.

    Args:
        before: The tree of the leaves that come before the first of *leaves*.

    Raises:
        ValueError: a range ends beyond the last leaf.
        LookupError: a range lies among the leaves before, and is no part of their frontier.
    """
    begun = before or Tree()
    trees = {wanted: _begun(wanted, begun) for wanted in ranges}
    unfinished = [wanted for wanted in trees if wanted.stop > begun.size]
    waiting = sorted(
        (wanted for wanted in unfinished if wanted.start >= begun.size), key=lambda wanted: wanted.start, reverse=True
    )
    open_ranges = [wanted for wanted in unfinished if wanted.start < begun.size]
    stop = max((wanted.stop for wanted in unfinished), default=begun.size)
    for index, leaf in enumerate(leaves, begun.size):
        if index == stop:
            break
        while waiting and waiting[-1].start == index:
            open_ranges.append(waiting.pop())
        ended = False
        for wanted in open_ranges:
            trees[wanted].append(leaf)
            ended |= wanted.stop == index + 1
        if ended:
            open_ranges = [wanted for wanted in open_ranges if wanted.stop > index + 1]
    if waiting or open_ranges:
        raise ValueError(f"there are fewer than {stop} leaves")
    return {wanted: tree.root() for wanted, tree in trees.items()}


def verify_inclusion(leaf: bytes, *, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether *proof* shows that the tree of *size* leaves with this *root* has *leaf* at *index*.

    The algorithm is that of RFC 9162, 2.1.3.2.
    """
    if not 0 <= index < size or not _are_hashes(leaf, root, *proof):
        return False
    node, last = index, size - 1
    computed = leaf
    for part in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            computed = node_hash(part, computed)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            computed = node_hash(computed, part)
        node, last = node >> 1, last >> 1
    return last == 0 and computed == root


def verify_consistency(
    *, old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Return whether *proof* shows that the new tree starts with all leaves of the old one.

    The algorithm is that of RFC 9162, 2.1.4.2. Nothing is consistent with an empty tree, which says nothing.
    """
    if not 0 < old_size <= new_size or not _are_hashes(old_root, new_root, *proof):
        return False
    if old_size == new_size:
        return not proof and old_root == new_root
    parts = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not parts:
        return False
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = parts[0]
    for part in parts[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old, new = node_hash(part, old), node_hash(part, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, part)
        node, last = node >> 1, last >> 1
    return last == 0 and old == old_root and new == new_root


def _begun(wanted: range, before: Tree) -> Tree:
    """Return the tree over those leaves of *wanted* that are among those before."""
    if wanted.start >= before.size:
        return Tree()
    if wanted.stop >= before.size:
        return before.since(wanted.start)
    inside = Tree(wanted.stop, before.frontier()[: wanted.stop.bit_count()]) if _leads(before, wanted.stop) else None
    if inside is None:
        raise LookupError(wanted)
    return inside.since(wanted.start)


def _leads(tree: Tree, size: int) -> bool:
    """Return whether the first parts of the frontier of *tree* are the frontier of its first *size* leaves."""
    return size == 0 or tree.size >> (shift := (size & -size).bit_length() - 1) << shift == size


def _split(size: int) -> int:
    """Return the largest power of two below *size* (at least 2)."""
    return 1 << (size - 1).bit_length() - 1


def _are_hashes(*values: bytes) -> bool:
    return all(len(value) == HASH_SIZE for value in values)
