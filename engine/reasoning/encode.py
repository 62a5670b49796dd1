"""Typed tree → terms of the solver, in three-valued logic.

    encoding = Encoding(vocabulary)
    value = encoding.value(expression.tree)      # value.true, value.false, value.known
    solver.add(*encoding.facts(), value.true)

One encoding is one event: the same field, window or part of two conditions is the same variable. The operators are in
`engine.reasoning.rows`; what they cannot say exactly is a value that may be anything (`Value.exact`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import z3

from engine.expr import Type
from engine.expr.nodes import And, Call, Feature, Field, Literal, Node, Not, Now, Or
from engine.money import Money
from engine.reasoning.event import EventTerms
from engine.reasoning.rows import encoded
from engine.reasoning.terms import (
    CURRENCY,
    NO,
    YES,
    Amount,
    Fresh,
    Listed,
    Term,
    Value,
    both,
    either,
    number,
    opposite,
    places_of,
)
from engine.reasoning.texts import Texts
from engine.reasoning.windows import WindowTerms
from engine.schema import FieldDef

_OPAQUE = ("pattern", "name", "currency", "zone", "places")


@dataclass(frozen=True, slots=True)
class Ground:
    """What conditions stand on: the fields of the event, the paths that are never missing, and its kinds."""

    fields: Mapping[str, FieldDef]
    required: frozenset[str]
    kinds: tuple[str, ...]


class Encoding:
    """The terms of conditions about one event."""

    def __init__(self, ground: Ground) -> None:
        self.fresh = Fresh()
        self.texts = Texts()
        self.event = EventTerms(ground.fields, ground.required, self.fresh, self.texts, ground.kinds)
        self.windows = WindowTerms(self, ground.kinds)
        self.members: dict[str, tuple[Listed, dict[str, Term]]] = {}
        self._values: dict[str, Value] = {}

    def value(self, node: Node) -> Value:
        """What a part of a condition is."""
        found = self._values.get(node.key)
        if found is None:
            found = self._values[node.key] = self._made(node)
        return found

    def facts(self) -> Iterator[Term]:
        """What is always so of everything that was encoded so far."""
        # The windows bring conditions of their own, and those bring texts.
        yield from self.windows.facts()
        yield from self._sizes()
        yield from self.texts.facts()
        yield from self.fresh.facts

    def unknown(self, type_: Type, known: Term, name: str = "") -> Value:
        """A value of which nothing is said but that it is unknown where `known` does not hold."""
        return Value(both(known, self.fresh.truth(name)), self.fresh.of(type_, name), exact=False)

    def among(self, path: str, listed: Listed, value: Any) -> Term:
        """Whether a value is among a list of the event."""
        has = listed.has(value)
        if isinstance(value, Amount) or not (z3.is_int_value(value) or z3.is_rational_value(value)):
            # It may be one of those that are counted.
            self.fresh.facts.append(z3.Implies(has, listed.size >= 1))
        else:
            self.members.setdefault(path, (listed, {}))[1][str(value)] = has
        return has

    def _sizes(self) -> Iterator[Term]:
        """A list is at least as long as there are different things in it."""
        for listed, found in self.members.values():
            told = [z3.If(has, 1, 0) for has in (*found.values(), listed.gap)]
            yield z3.Sum(told) <= listed.size

    def _made(self, node: Node) -> Value:
        match node:
            case Literal():
                return self._literal(node)
            case Field():
                return self.event.of(node.path)
            case Now():
                return Value(YES, self.event.now)
            case Feature():
                return self.windows.of(node.window)
            case Not():
                item = self.value(node.item)
                return replace(item, value=opposite(item.value))
            case And() | Or():
                return _logic(node, [self.value(item) for item in node.items])
            case Call():
                return encoded(self, node)
        raise AssertionError(f"no terms for {type(node).__name__}")

    def _literal(self, node: Literal) -> Value:
        if node.type.name in _OPAQUE:
            return Value(YES, node.value)
        if node.type.element is not None:
            return Value(YES, tuple(self._constant(item) for item in node.value))
        places = places_of(node.value) if node.type.name == "number" else 0
        return Value(YES, self._constant(node.value), places=places)

    def _constant(self, value: Any) -> Any:
        if isinstance(value, bool):
            return YES if value else NO
        if isinstance(value, str):
            return self.texts.number(value)
        if isinstance(value, Money):
            return Amount(number(value.minor), z3.IntVal(CURRENCY[value.currency]))
        return number(value)


def _logic(node: And | Or, items: list[Value]) -> Value:
    """Kleene: one that decides is enough, else all must be known."""
    decides = either if isinstance(node, Or) else both
    deciding = either(*(item.true if isinstance(node, Or) else item.false for item in items))
    known = either(deciding, both(*(item.known for item in items)))
    value = decides(*(item.true if isinstance(node, Or) else item.value for item in items))
    return Value(known, value, exact=all(item.exact for item in items))


def ground(
    required: Mapping[str, Collection[str]], kinds: tuple[str, ...], tables: Sequence[Mapping[str, FieldDef]]
) -> Ground:
    """The ground of conditions for several kinds of event: the fields that they share."""
    first, *rest = tables
    shared = {path: field for path, field in first.items() if all(path in table for table in rest)}
    never = frozenset.intersection(*(frozenset((*required[kind], "kind")) for kind in kinds))
    return Ground(shared, never, kinds)
