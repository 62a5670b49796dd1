"""The hash tree of Certificate Transparency (RFC 6962 §2.1), as pure functions on bytes.

    leaves = [leaf_hash(b"one"), leaf_hash(b"two"), leaf_hash(b"three")]
    tree_root, paths = prove(leaves)
    verify_inclusion(leaves[2], 2, 3, paths[2], tree_root)  ->  True

A leaf and a node are hashed under different prefixes, so that no node can pass for a leaf.

A tree that grows is kept in tiles, as C2SP tlog-tiles has them: tile (level, n) holds up to 256 hashes, each of a whole
subtree of 256 ** level leaves. All proofs are made from them:

    tiles = Tiles(stored.get)                  reads (level, n) -> bytes or None
    tiles.extend(0, leaves)
    store(tiles.changed)
    tiles.root(3), tiles.inclusion(2, 3), tiles.consistency(1, 3)

What has to be checked leaf by leaf, in one pass and little memory, is a `Frontier`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

HASH_BYTES = 32
TILE = 256
"""Hashes of a whole tile."""
_HEIGHT = 8
"""Levels of the tree that a tile spans."""
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


def verify_consistency(old: int, new: int, steps: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Whether the tree of `old` leaves under `old_root` is the beginning of that of `new` under `new_root` (RFC 9162
    §2.1.4.2). False for an old size of 0, of which there is no proof."""
    if not 0 < old <= new or any(len(step) != HASH_BYTES for step in steps):
        return False
    if old == new:
        return not steps and old_root == new_root
    proof = list(steps) if old & (old - 1) else [old_root, *steps]
    if not proof:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    before = after = proof[0]
    for step in proof[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            before, after = node_hash(step, before), node_hash(step, after)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            after = node_hash(after, step)
        at, last = at >> 1, last >> 1
    return last == 0 and before == old_root and after == new_root


class Frontier:
    """A tree of which only the roots of its whole subtrees are kept, the largest first: what it takes to go on."""

    def __init__(self, size: int = 0, nodes: Sequence[bytes] = ()) -> None:
        """The tree of `size` leaves whose whole subtrees have these roots, one for each bit of `size` that is 1."""
        if len(nodes) != size.bit_count() or any(len(node) != HASH_BYTES for node in nodes):
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} whole subtrees, each with a hash")
        self.size = size
        self.nodes = list(nodes)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        self.add(0, leaf)

    def add(self, level: int, node: bytes) -> None:
        """Add a whole subtree of 2 ** level leaves. ValueError where none can begin."""
        size, nodes = self.size, self.nodes
        if size & ((1 << level) - 1):
            raise ValueError(f"no subtree of {1 << level} leaves begins at leaf {size}")
        self.size = size + (1 << level)
        size >>= level
        while size & 1:
            node = sha256(b"\x01" + nodes.pop() + node).digest()
            size >>= 1
        nodes.append(node)

    def root(self) -> bytes:
        """The tree hash as of now."""
        nodes = self.nodes
        if not nodes:
            return EMPTY_ROOT
        result = nodes[-1]
        for node in reversed(nodes[:-1]):
            result = node_hash(node, result)
        return result


def cover(first: int, end: int) -> list[tuple[int, int]]:
    """The fewest whole subtrees that leaves `first` up to `end` consist of, from left to right, as (level, index)."""
    found = []
    while first < end:
        level = (first & -first).bit_length() - 1 if first else end.bit_length()
        level = min(level, (end - first).bit_length() - 1)
        found.append((level, first >> level))
        first += 1 << level
    return found


class Tiles:
    """A tree in tiles. `read` gives the hashes of tile (level, n) in a row, None for one that is not there.

    `changed` holds the tiles that `extend` made or filled. KeyError: a tile that the tree must have is not there.
    """

    def __init__(self, read: Callable[[tuple[int, int]], bytes | None]) -> None:
        self._read = read
        self._held: dict[tuple[int, int], bytes] = {}
        self.changed: dict[tuple[int, int], bytes] = {}

    def extend(self, size: int, leaves: Sequence[bytes]) -> int:
        """Append leaf hashes to the tree of `size` leaves; the size then."""
        level, at, new = 0, size, list(leaves)
        while new:
            above: list[bytes] = []
            while new:
                n, width = divmod(at, TILE)
                held = self._exact((level, n), width)
                taken = new[: TILE - width]
                del new[: len(taken)]
                tile = held + b"".join(taken)
                self._held[level, n] = self.changed[level, n] = tile
                at += len(taken)
                if len(tile) == TILE * HASH_BYTES:
                    above.append(root(hashes(tile)))
            level, at, new = level + 1, size >> (_HEIGHT * (level + 1)), above
        return size + len(leaves)

    def root(self, size: int) -> bytes:
        """The tree hash of the first `size` leaves."""
        return self._subtree(0, size) if size else EMPTY_ROOT

    def tile(self, name: tuple[int, int], width: int) -> bytes:
        """Tile (level, n) of a tree that has `width` hashes on that level."""
        count = min(width - name[1] * TILE, TILE)
        return self._tile(name, count)[: count * HASH_BYTES]

    def frontier(self, size: int) -> Frontier:
        """The roots of the whole subtrees of the first `size` leaves."""
        return Frontier(size, self.nodes(0, size))

    def nodes(self, first: int, end: int) -> list[bytes]:
        """The roots of the subtrees that `cover` names."""
        return [self._node(level, index) for level, index in cover(first, end)]

    def leaves(self, first: int, end: int) -> Iterable[bytes]:
        """The leaf hashes from `first` until before `end`, one after the other."""
        for n in range(first // TILE, -(-end // TILE)):
            begin, stop = max(first - n * TILE, 0), min(end - n * TILE, TILE)
            yield from hashes(self._tile((0, n), stop)[begin * HASH_BYTES : stop * HASH_BYTES])
            self._held.pop((0, n), None)  # whoever reads them all needs none twice

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """The path of leaf `index` in the tree of the first `size` leaves (RFC 6962 §2.1.1)."""
        if not 0 <= index < size:
            raise IndexError(f"no leaf {index} in a tree of {size}")
        first, end, steps = 0, size, []
        while end - first > 1:
            middle = first + _split(end - first)
            if index < middle:
                steps.append(self._subtree(middle, end))
                end = middle
            else:
                steps.append(self._subtree(first, middle))
                first = middle
        return steps[::-1]

    def consistency(self, old: int, new: int) -> list[bytes]:
        """The proof that the tree of `old` leaves is the beginning of that of `new` (RFC 6962 §2.1.2)."""
        if not 0 < old <= new:
            raise IndexError(f"no proof leads from a tree of {old} leaves to one of {new}")
        first, end, steps = 0, new, []
        while old != end:
            middle = first + _split(end - first)
            if old <= middle:
                steps.append(self._subtree(middle, end))
                end = middle
            else:
                steps.append(self._subtree(first, middle))
                first = middle
        if first:
            steps.append(self._subtree(first, end))
        return steps[::-1]

    def _subtree(self, first: int, end: int) -> bytes:
        """The hash over leaves `first` until `end`; as RFC 6962 splits trees, `first` is where a subtree may begin."""
        *others, result = self.nodes(first, end)
        for node in reversed(others):
            result = node_hash(node, result)
        return result

    def _node(self, level: int, index: int) -> bytes:
        tall, low = divmod(level, _HEIGHT)
        n, begin = divmod(index << low, TILE)
        count = 1 << low
        tile = self._tile((tall, n), begin + count)
        return root(hashes(tile[begin * HASH_BYTES : (begin + count) * HASH_BYTES]))

    def _exact(self, name: tuple[int, int], width: int) -> bytes:
        """A tile that has `width` hashes and no more: what is beyond them belongs to another tree."""
        tile = self._tile(name, width)
        if len(tile) > width * HASH_BYTES:
            raise KeyError(f"tile {name} has {len(tile) // HASH_BYTES} hashes, not {width}")
        return tile

    def _tile(self, name: tuple[int, int], width: int) -> bytes:
        """A tile with at least `width` hashes."""
        tile = self._held.get(name)
        if tile is None:
            tile = self._read(name) or b""
            self._held[name] = tile
        if len(tile) < width * HASH_BYTES:
            raise KeyError(f"tile {name} has {len(tile) // HASH_BYTES} hashes, not {width}")
        return tile


def hashes(row: bytes) -> list[bytes]:
    """The hashes of a tile or another row of them, one by one."""
    return [row[at : at + HASH_BYTES] for at in range(0, len(row), HASH_BYTES)]


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


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
