"""The hash tree against the public vectors of Certificate Transparency and against the RFC's own recursion."""

from collections.abc import Iterator
from hashlib import sha256
from itertools import repeat
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import merkle

# The eight reference leaves and the roots of their first n (certificate-transparency, merkle_tree_test).
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
HASHES = [merkle.leaf_hash(leaf) for leaf in LEAVES]


def recursive_root(leaves: list[bytes]) -> bytes:
    """MTH as RFC 6962 §2.1 writes it."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return merkle.node_hash(recursive_root(leaves[:split]), recursive_root(leaves[split:]))


def recursive_path(leaves: list[bytes], index: int) -> list[bytes]:
    """PATH as RFC 6962 §2.1.1 writes it."""
    if len(leaves) == 1:
        return []
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    if index < split:
        return [*recursive_path(leaves[:split], index), recursive_root(leaves[split:])]
    return [*recursive_path(leaves[split:], index - split), recursive_root(leaves[:split])]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_equal_the_public_vectors(size: int) -> None:
    """The first n reference leaves give the reference root."""
    assert bytes.fromhex(ROOTS[size - 1]) == merkle.root(HASHES[:size])


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    """RFC 6962 defines the empty tree's hash as SHA-256 of the empty string."""
    assert sha256().digest() == merkle.root([])
    assert merkle.prove([]) == (merkle.EMPTY_ROOT, [])


def test_every_small_tree_equals_the_recursive_definition() -> None:
    """Roots and paths of all trees up to 70 leaves are those of the RFC's recursion, and each path verifies."""
    hashes = [merkle.leaf_hash(bytes([i])) for i in range(70)]
    for size in range(1, 71):
        tree = hashes[:size]
        top, paths = merkle.prove(tree)
        assert recursive_root(tree) == top == merkle.root(tree)
        for index in range(size):
            assert recursive_path(tree, index) == paths[index]
            assert merkle.verify_inclusion(tree[index], index, size, paths[index], top)
    assert paths[69] == merkle.path(hashes, 69)


def test_a_wrong_proof_never_verifies() -> None:
    """Another index, size, leaf or root, and a shorter, longer, swapped or clipped path are all refused."""
    for size in range(1, 20):
        hashes = [merkle.leaf_hash(bytes([i])) for i in range(size)]
        top, paths = merkle.prove(hashes)
        for index, steps in enumerate(paths):
            leaf = hashes[index]
            wrong = [
                (leaf, index, size, [*steps, top], top),
                (leaf, index, size, steps, merkle.EMPTY_ROOT),
                (top if top != leaf else merkle.EMPTY_ROOT, index, size, steps, top),
                (leaf, -1, size, steps, top),
                (leaf, size, size, steps, top),
                (leaf[:31], index, size, steps, top),
            ]
            if steps:
                wrong += [
                    (leaf, index, size, steps[:-1], top),
                    (leaf, index, size, [*steps[:-1], steps[-1][:31]], top),
                    (leaf, index ^ 1, size, steps, top),
                ]
            assert not any(merkle.verify_inclusion(*case) for case in wrong)


def test_a_path_outside_the_tree_is_our_mistake() -> None:
    """Asking for a leaf that is not there raises."""
    with pytest.raises(IndexError):
        merkle.path(HASHES, 8)


# Proofs over the eight reference leaves as transparency-dev/merkle publishes them (testdata/inclusion, consistency):
# index or old size, size, path.
INCLUSION = [
    (0, 1, []),
    (
        *(0, 8),
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        *(5, 8),
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
]
CONSISTENCY = [
    (1, 1, []),
    (
        *(1, 8),
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        *(6, 8),
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        *(2, 5),
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]


def tiled(leaves: list[bytes], steps: Iterator[int]) -> merkle.Tiles:
    """The tree of `leaves` in tiles, which grew by so many leaves at a time, each time from what was stored."""
    stored: dict[tuple[int, int], bytes] = {}
    size = 0
    while size < len(leaves):
        tree = merkle.Tiles(stored.get)
        size = tree.extend(size, leaves[size : size + next(steps)])
        stored.update(tree.changed)
    return merkle.Tiles(stored.get)


@pytest.mark.parametrize(("index", "size", "path"), INCLUSION)
def test_inclusion_proofs_equal_the_public_vectors(index: int, size: int, path: list[str]) -> None:
    """Made from a list and from tiles, they are the published ones, and they verify."""
    steps = [bytes.fromhex(step) for step in path]

    assert steps == merkle.path(HASHES[:size], index) == tiled(HASHES, repeat(3)).inclusion(index, size)
    assert merkle.verify_inclusion(HASHES[index], index, size, steps, bytes.fromhex(ROOTS[size - 1]))


@pytest.mark.parametrize(("old", "new", "path"), CONSISTENCY)
def test_consistency_proofs_equal_the_public_vectors(old: int, new: int, path: list[str]) -> None:
    """Made from tiles they are the published ones, and they verify."""
    steps = [bytes.fromhex(step) for step in path]

    assert steps == tiled(HASHES, repeat(3)).consistency(old, new)
    assert merkle.verify_consistency(old, new, steps, bytes.fromhex(ROOTS[old - 1]), bytes.fromhex(ROOTS[new - 1]))


def test_every_pair_of_small_trees_is_consistent_and_no_altered_proof_holds() -> None:
    """For all old and new sizes up to 40: the proof holds, and with anything changed in it, it does not."""
    leaves = [merkle.leaf_hash(bytes([i])) for i in range(40)]
    tree = tiled(leaves, repeat(7))
    roots = [merkle.root(leaves[:size]) for size in range(41)]
    for new in range(1, 41):
        for old in range(1, new + 1):
            steps = tree.consistency(old, new)
            assert merkle.verify_consistency(old, new, steps, roots[old], roots[new])
            wrong = [
                (old, new, [*steps, roots[1]], roots[old], roots[new]),
                (old, new, [roots[1], *steps], roots[old], roots[new]),
                (old, new, steps, roots[old], merkle.EMPTY_ROOT),
                (old, new, steps, merkle.EMPTY_ROOT, roots[new]),
                (0, new, steps, roots[old], roots[new]),
                (new + 1, new, steps, roots[old], roots[new]),
            ]
            if old < new:
                wrong.append((old, new, steps, roots[new], roots[old]))
            wrong += [(old, new, steps[:-1], roots[old], roots[new])] if steps else []
            for at in range(len(steps)):
                flipped = bytes((steps[at][0] ^ 16, *steps[at][1:]))
                wrong.append((old, new, [*steps[:at], flipped, *steps[at + 1 :]], roots[old], roots[new]))
                wrong.append((old, new, [*steps[:at], steps[at][:31], *steps[at + 1 :]], roots[old], roots[new]))
            assert not any(merkle.verify_consistency(*case) for case in wrong), (old, new)


@given(st.integers(0, 10_000), st.data())
@settings(max_examples=60, deadline=None)
def test_a_tree_in_tiles_is_the_tree_however_it_grew(seed: int, data: st.DataObject) -> None:
    """Root, proofs and the subtrees of a range are those of the plain list, over the borders of tiles, too."""
    random = Random(seed)
    size = data.draw(st.sampled_from([1, 2, 255, 256, 257, 511, 513, 700, 1_024]) | st.integers(1, 1_500))
    leaves = [merkle.leaf_hash(random.randbytes(4)) for _ in range(size)]
    tree = tiled(leaves, iter(lambda: random.randrange(1, 400), 0))
    part = data.draw(st.integers(1, size))
    index = data.draw(st.integers(0, part - 1))

    assert tree.root(part) == merkle.root(leaves[:part])
    assert tree.inclusion(index, part) == merkle.path(leaves[:part], index)
    assert merkle.verify_consistency(
        *(part, size, tree.consistency(part, size)), merkle.root(leaves[:part]), merkle.root(leaves)
    )
    front = tree.frontier(index)
    for leaf in tree.leaves(index, part):
        front.append(leaf)
    assert front.root() == tree.root(part)
    for (level, _), node in zip(merkle.cover(part, size), tree.nodes(part, size), strict=True):
        front.add(level, node)
    assert (front.size, front.root()) == (size, merkle.root(leaves))


def test_a_tile_that_is_missing_is_not_passed_over() -> None:
    """Neither a lost tile nor one that was cut gives a root."""
    stored: dict[tuple[int, int], bytes] = {}
    tree = merkle.Tiles(stored.get)
    tree.extend(0, [merkle.leaf_hash(bytes([i % 256])) for i in range(600)])
    stored.update(tree.changed)
    for name in stored:
        for left in (None, stored[name][:-32]):
            lost = {**stored, name: left}
            with pytest.raises(KeyError):
                everything_of(merkle.Tiles(lost.get))


def everything_of(tree: merkle.Tiles) -> list[bytes]:
    """All leaves and the root of a tree of 600."""
    return [*tree.leaves(0, 600), tree.root(600)]


def test_a_frontier_says_what_cannot_be() -> None:
    """So many roots as whole subtrees, and no subtree where none begins."""
    with pytest.raises(ValueError, match="3 whole subtrees"):
        merkle.Frontier(7, HASHES[:2])
    with pytest.raises(ValueError, match="begins at leaf 3"):
        merkle.Frontier(3, HASHES[:2]).add(1, HASHES[0])
