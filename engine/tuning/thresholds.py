"""The thresholds of a condition: the written values that something measured is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from engine.expr import (
    BOOL,
    DURATION,
    MONEY,
    NUMBER,
    Call,
    Expression,
    Literal,
    Node,
    expression,
    literal,
    over,
    replaced,
    walk,
)
from engine.money import Money

ABOVE = (">", ">=")
COMPARISONS = (*ABOVE, "<", "<=")
_MEASURED = (NUMBER, MONEY, DURATION)


@dataclass(frozen=True)
class Threshold:
    """A comparison of something measured (`value`) with a written value (`limit`, a plain number: minor units of
    `currency`, microseconds). `if_true` and `if_false` are the whole condition with the comparison decided; where the
    value is unknown the condition itself says what holds, whatever the limit."""

    comparison: str
    value: Expression
    limit: int | Decimal
    currency: str
    condition: Expression
    if_true: Expression
    if_false: Expression
    node: Call

    @property
    def text(self) -> str:
        """The comparison as the condition has it, such as 'amount > 220 EUR'."""
        return self.node.text

    def spelt(self, limit: int | Decimal) -> str:
        """Another limit as the language writes it."""
        return literal(self._value(limit), self.value.type).text

    def at(self, limit: int | Decimal) -> Expression:
        """The whole condition with another limit."""
        written = literal(self._value(limit), self.value.type)
        return expression(replaced(self.condition.tree, self.node, over(self.node, (self.node.args[0], written))))

    def _value(self, limit: int | Decimal) -> Any:
        return Money(limit, self.currency) if self.currency else limit


def thresholds(condition: Expression) -> tuple[Threshold, ...]:
    """The thresholds of a condition in their order, each once. What windows ask about their own events is none."""
    found = dict.fromkeys(_comparisons(condition.tree))
    return tuple(_threshold(condition, node) for node in found)


def _comparisons(tree: Node) -> Iterator[Call]:
    for node in walk(tree):
        if isinstance(node, Call) and node.row.name in COMPARISONS:
            left, right = node.args
            if isinstance(right, Literal) and not isinstance(left, Literal) and left.type in _MEASURED:
                yield node


def _threshold(condition: Expression, node: Call) -> Threshold:
    value, written = node.args
    assert isinstance(written, Literal)
    money = written.value if isinstance(written.value, Money) else None
    return Threshold(
        comparison=node.row.name,
        value=expression(value),
        limit=money.minor if money else written.value,
        currency=money.currency if money else "",
        condition=condition,
        if_true=expression(replaced(condition.tree, node, literal(True, BOOL))),
        if_false=expression(replaced(condition.tree, node, literal(False, BOOL))),
        node=node,
    )
