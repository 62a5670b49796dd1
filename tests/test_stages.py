"""Which parts of conditions are computed before others: no formula grows beyond bounds, however deep it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.columns import stages
from engine.columns.stages import LARGEST
from engine.expr import NUMBER, Node, read
from engine.expr.nodes import walk
from engine.expr.page import sample_vocabulary

REPEATED = 45
"""How often a side of a quotient stands in its formula."""

quotients = st.recursive(
    st.sampled_from(["quantity", "1.5", "2"]),
    lambda inner: st.tuples(inner, inner).map(lambda two: f"({two[0]} / {two[1]})"),
    max_leaves=24,
)


def tree(source: str) -> Node:
    return read(source, sample_vocabulary(), NUMBER).tree


def copies(node: Node, first: frozenset[Node]) -> int:
    """How often one value stands in the formula of a quotient, where the parts that come `first` are columns."""
    if not node.children:
        return 1
    return REPEATED * max(1 if child in first else copies(child, first) for child in node.children)


@given(quotients)
def test_no_formula_is_too_large_once_its_parts_are_columns(source: str) -> None:
    found = stages([tree(source)])
    first = frozenset(node for stage in found for node in stage)
    for node in (tree(source), *first):
        assert copies(node, first - {node}) <= LARGEST * REPEATED


@given(st.lists(quotients, max_size=4))
def test_each_part_needs_only_what_comes_before_it(sources: list[str]) -> None:
    found = stages(map(tree, sources))
    everything = {node for stage in found for node in stage}
    there: set[Node] = set()
    for stage in found:
        for node in stage:
            assert {part for part in walk(node) if part in everything and part != node} <= there
        there.update(stage)
    assert len(there) == sum(map(len, found)), "none is computed twice"


def test_what_is_shallow_needs_no_stage() -> None:
    assert stages(map(tree, ["quantity / 2 + 3 * quantity", "max(quantity, 2) % 3"])) == []
