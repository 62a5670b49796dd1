"""Which parts of conditions are computed first, each into a column of its own.

SQL has no name for a value inside a formula: what a formula needs twice stands in it twice, with all that it is made
of. Exact arithmetic needs each of its arguments many times, so that a quotient of quotients of quotients would be a
formula of a hundred thousand parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from engine.expr import Node
from engine.expr.nodes import Call

LARGEST = 1_000
"""Copies of a value in one formula, about; where there would be more, parts of it are columns first."""
_COPIES: Mapping[str, int] = MappingProxyType(
    {"/": 45, "*": 30, "in": 40, "round": 12, "%": 6, "lower": 5, "min": 4, "max": 4, "+": 3, "-": 3}
)
"""How often the formula of an operator or function repeats an argument, at most; the others do so twice or less."""
_KEPT = frozenset(("number", "money", "duration", "instant", "text", "bool"))
"""Types whose values are kept as columns."""


def stages(trees: Iterable[Node]) -> list[tuple[Node, ...]]:
    """The parts to compute before anything else, in lists whose nodes need those of earlier lists alone."""
    found = _Weighing()
    for tree in trees:
        found.weigh(tree)
    last = max(found.stage.values(), default=0)
    return [tuple(node for node, stage in found.stage.items() if stage == at) for at in range(1, last + 1)]


class _Weighing:
    def __init__(self) -> None:
        self.stage: dict[Node, int] = {}
        """The parts that are columns first, and in which turn."""
        self._known: dict[Node, tuple[int, int]] = {}

    def weigh(self, node: Node) -> tuple[int, int]:
        """How often a value stands in the formula of a node, and the last stage that it needs."""
        if node in self._known:
            return self._known[node]
        copies = _COPIES.get(node.row.name, 2) if isinstance(node, Call) else 1
        weight = stage = 0
        for child in node.children:
            inside, needed = self.weigh(child)
            if inside * copies > LARGEST and isinstance(child, Call) and child.type.name in _KEPT:
                inside, needed = 1, self.stage.setdefault(child, needed + 1)
            weight, stage = max(weight, inside), max(stage, needed)
        self._known[node] = max(1, weight) * copies, stage
        return self._known[node]
