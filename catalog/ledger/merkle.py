"""Merkle trees as in Certificate Transparency (RFC 6962, section 2.1): root, audit path, and the root that a path leads to.

A leaf's hash is SHA-256 of 0x00 and the leaf data, a node's of 0x01 and its two children, so that no node passes for a leaf.
A tree is built level by level: a last node without a sibling moves up as it is. That gives the tree of the RFC, which splits
at the largest power of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

EMPTY = sha256().digest()
"""The root of no leaves."""


class Tree:
    """All levels of a tree, for many paths over the same leaves. ``leaves`` are leaf data."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        level = [sha256(b"\x00" + leaf).digest() for leaf in leaves]
        self._levels = [level]
        while len(level) > 1:
            paired = len(level) & ~1
            above = [sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, paired, 2)]
            level = [*above, *level[paired:]]
            self._levels.append(level)

    @property
    def root(self) -> bytes:
        top = self._levels[-1]
        return top[0] if top else EMPTY

    def path(self, index: int) -> list[bytes]:
        """Return the siblings from a leaf up to the root. Raises ``IndexError`` when there is no such leaf."""
        if not 0 <= index < len(self._levels[0]):
            raise IndexError(f"there is no leaf {index} among {len(self._levels[0])}")
        found = []
        for level in self._levels[:-1]:
            sibling = index ^ 1
            if sibling < len(level):
                found.append(level[sibling])
            index >>= 1
        return found


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash of leaf data."""
    return Tree(leaves).root


def path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the audit path of one leaf: siblings from the leaf up."""
    return Tree(leaves).path(index)


def root_of(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Return the root that a tree of ``size`` leaves has if ``leaf`` is its leaf ``index`` and ``path`` is true.

    Raises ``ValueError`` when no tree of that size has such a path.
    """
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} among {size}")
    node, last, siblings = sha256(b"\x00" + leaf).digest(), size - 1, iter(path)
    while last > 0:
        if index & 1 or index < last:
            sibling = next(siblings, None)
            if sibling is None:
                raise ValueError("the path is too short")
            node = sha256(b"\x01" + (sibling + node if index & 1 else node + sibling)).digest()
        index, last = index >> 1, last >> 1
    if next(siblings, None) is not None:
        raise ValueError("the path is too long")
    return node
