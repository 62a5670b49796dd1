"""Typed tree → ibis expression: the same values as engine.expr.interpret gives, a whole column at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ibis

from engine.columns.cells import Amount, Cell, Items, Number, Refused, number, truth, unknown, whole
from engine.columns.meanings import meaning
from engine.columns.rates import Exchange
from engine.expr import Expression, Node, Type, Window
from engine.expr.functions import Pattern
from engine.expr.nodes import And, Call, Feature, Field, Literal, Not, Now, Or
from engine.money import Money


@dataclass(frozen=True)
class Sight:
    """What an expression may see: fields by path, the time of receipt, values of windows, rates, and answers of the
    real engine by the key of the question. `refused` says of a path or window why it is no column, `lacks` of an
    operator or function (its name and what it takes) why the warehouse at hand cannot answer it."""

    fields: Mapping[str, Cell]
    now: Any
    windows: Mapping[Window, Cell] = field(default_factory=dict)
    exchange: Exchange | None = None
    answers: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    lacks: Mapping[tuple[str, tuple[str, ...]], str] = field(default_factory=dict)


def lower(expression: Expression, sight: Sight) -> Cell:
    """The expression as a cell of columns. Raises Refused, with the reason, where that cannot be exact."""
    return lower_node(expression.tree, sight)


def lower_node(node: Node, sight: Sight) -> Cell:
    """The same for a part of an expression."""
    answer = sight.answers.get(node.key)
    if answer is not None:
        return answer
    match node:
        case Literal():
            return _written(node.value, node.type)
        case Field():
            return _field(node, sight)
        case Now():
            return sight.now
        case Feature():
            return _window(node.window, sight)
        case Not():
            return ~truth(lower_node(node.item, sight))
        case And() | Or():
            return _logic(node, [truth(lower_node(item, sight)) for item in node.items])
        case Call():
            return _call(node, sight)
    raise AssertionError(f"no columns for {type(node).__name__}")


def _written(value: Any, type_: Type) -> Cell:
    if isinstance(value, Money):
        return Amount(number(value.minor), value.currency)
    if isinstance(value, tuple | Pattern):
        return value
    if type_.name == "number":
        return number(value)
    return whole(value) if type_.name in ("instant", "duration") else ibis.literal(value)


def _field(node: Field, sight: Sight) -> Cell:
    reason = sight.refused.get(node.path)
    if reason is not None:
        raise Refused(reason)
    found = sight.fields.get(node.path)
    return _missing(node.type) if found is None else found


def _missing(type_: Type) -> Cell:
    """What no row has."""
    if type_.element:
        kind = "array<string>" if type_.element.name == "text" else "array<int64>"
        return Items(unknown(kind), type_.element.name == "number")
    name = type_.name
    if name in ("number", "money"):
        nothing = Number(unknown("int64"))
        return Amount(nothing, unknown("string")) if name == "money" else nothing
    return unknown({"text": "string", "bool": "boolean"}.get(name, "int64"))


def _window(window: Window, sight: Sight) -> Cell:
    reason = sight.refused.get(window.name)
    if reason is not None or window not in sight.windows:
        raise Refused(reason or "a window that is no column")
    return sight.windows[window]


def _logic(node: And | Or, items: Sequence[Any]) -> Any:
    found = items[0]
    for item in items[1:]:
        found = found & item if isinstance(node, And) else found | item
    return found


def _call(node: Call, sight: Sight) -> Cell:
    row = node.row
    lack = sight.lacks.get((row.name, row.args))
    if lack is not None:
        raise Refused(lack)
    if row.form == "convert":
        money, code = node.args
        assert isinstance(code, Literal)
        if sight.exchange is None:
            raise Refused("an exchange without rates")
        return sight.exchange.convert(lower_node(money, sight), code.value, sight.now)
    if row.name in _CALENDAR and not isinstance(node.args[0], Field | Now | Feature):
        raise Refused("a calendar question about a computed instant, which may lie anywhere")
    args = [_argument(arg, wanted, sight) for arg, wanted in zip(node.args, row.args, strict=True)]
    return meaning(row.name, row.args, args, [arg.type for arg in node.args])


_CALENDAR = frozenset(("hour", "weekday"))
_SAID = frozenset(("zone", "places", "pattern", "name", "currency"))
"""What is written in a condition and is no value."""


def _argument(node: Node, wanted: str, sight: Sight) -> Cell:
    if wanted in _SAID:
        assert isinstance(node, Literal)
        return node.value
    return lower_node(node, sight)
