"""The hash tree of Certificate Transparency (RFC 6962 §2.1), as pure functions on bytes.

    leaves = [leaf_hash(b"one"), leaf_hash(b"two"), leaf_hash(b"three")]
    tree_root, paths = prove(leaves)
    verify_inclusion(leaves[2], 2, 3, paths[2], tree_root)  ->  True

A leaf and a node are hashed under different prefixes, so that no node can pass for a leaf.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
"""The root of a tree without leaves."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of one leaf's bytes: SHA-256(0x00 ‖ data)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node: SHA-256(0x01 ‖ left ‖ right)."""
    return sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The tree hash of `leaves` (leaf hashes in order); EMPTY_ROOT without any."""
    return _levels(leaves)[-1][0] if leaves else EMPTY_ROOT


def path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The inclusion path of leaf `index`, from the leaf's sibling up to the root's child."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"no leaf {index} in a tree of {len(leaves)}")
    return _path(_levels(leaves), index)


def prove(leaves: Sequence[bytes]) -> tuple[bytes, list[list[bytes]]]:
    """The root of `leaves` and the inclusion path of each, in one pass over the tree."""
    if not leaves:
        return EMPTY_ROOT, []
    levels = _levels(leaves)
    return levels[-1][0], [_path(levels, index) for index in range(len(leaves))]


def verify_inclusion(leaf: bytes, index: int, size: int, steps: Sequence[bytes], expected: bytes) -> bool:
    """Whether leaf hash `leaf` is number `index` of the `size` leaves under root `expected` (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size or len(leaf) != HASH_BYTES:
        return False
    at, last, result = index, size - 1, leaf
    for step in steps:
        if last == 0 or len(step) != HASH_BYTES:
            return False
        if at & 1 or at == last:
            result = node_hash(step, result)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            result = node_hash(result, step)
        at, last = at >> 1, last >> 1
    return last == 0 and result == expected


def _levels(leaves: Sequence[bytes]) -> list[Sequence[bytes]]:
    """All levels of the tree, leaves first; a last node without a neighbour moves up as it is."""
    levels = [leaves]
    while len(level := levels[-1]) > 1:
        above = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        levels.append([*above, level[-1]] if len(level) & 1 else above)
    return levels


def _path(levels: Sequence[Sequence[bytes]], index: int) -> list[bytes]:
    steps = []
    for level in levels[:-1]:
        if (index ^ 1) < len(level):
            steps.append(level[index ^ 1])
        index >>= 1
    return steps
