"""The hash tree against the public vectors of Certificate Transparency and against the RFC's own recursion."""

from hashlib import sha256

import pytest

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
