"""What an event brings to its windows: keys, and values for columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

from engine.expr import Expression, Step
from engine.features.facts import Compiler, Facts
from engine.features.groups import Column
from engine.money import Money
from engine.stores import FLAGS, RUNS, VALUES, Amount, plain

Give: TypeAlias = Callable[[Facts, Any], Any]
"""A value of an event, given the Env too (None where nothing needs it)."""


def is_path(argument: Expression) -> bool:
    """Whether it is a path alone. That may be an entity's, which is known by its pseudonym."""
    return argument.text in argument.paths


def argument_of(argument: Expression, compiler: Compiler) -> Give:
    """The value of an argument, which may be the path of an entity."""
    if is_path(argument):
        return _path(argument.text)
    test = compiler(argument)
    return lambda facts, env: test(facts.values, (), env)


def give_of(column: Column, compiler: Compiler) -> Give:
    """What an event brings to a column; None where it has nothing."""
    if column.argument is None:
        return _bits(column.steps, compiler)
    argument = argument_of(column.argument, compiler)
    if column.holds == FLAGS:
        return lambda facts, env: _ONE if argument(facts, env) is True else _ZERO
    if column.holds == RUNS:
        return lambda facts, env: argument(facts, env) is True
    if column.holds == VALUES:
        return lambda facts, env: None if (value := argument(facts, env)) is None else _text(value)

    def amount(facts: Facts, env: Any) -> Amount | None:
        value = argument(facts, env)
        if type(value) is Money and type(value[0]) is int:  # The usual one.
            return value[1], value[0]
        return None if value is None else _amount(value)

    return amount


def _bits(steps: Sequence[Step], compiler: Compiler) -> Give:
    """Which steps of a pattern an event is, as bits; None for none."""
    tests = [(step.kinds, compiler(step.where) if step.where else None) for step in steps]

    def give(facts: Facts, env: Any) -> int | None:
        bits = 0
        for number, (kinds, test) in enumerate(tests):
            if facts.kind in kinds and (test is None or test(facts.values, (), env) is True):
                bits |= 1 << number
        return bits or None

    return give


_ONE: Amount = ("", 1)
_ZERO: Amount = ("", 0)


def _amount(value: int | Decimal | Money) -> Amount:
    return (value.currency, plain(value.minor)) if isinstance(value, Money) else ("", plain(value))


def key_of(by: tuple[str, ...]) -> Callable[[Facts], str | None]:
    """The text of a key; None when the event lacks a part of it."""
    if len(by) == 1:
        path = _path(by[0])

        def single(facts: Facts) -> str | None:
            value = path(facts, None)
            return value if type(value) is str else None if value is None else _text(value)

        return single
    parts = [_path(path) for path in by]

    def combined(facts: Facts) -> str | None:
        found = [path(facts, None) for path in parts]
        if None in found:
            return None
        texts = map(_text, found)
        # With lengths, so that no two combinations run into one another.
        return "".join([f"{len(text)}:{text}" for text in texts])

    return combined


def text_at(path: str) -> Callable[[Facts], str | None]:
    """The text at one path."""
    return key_of((path,))


def _path(path: str) -> Give:
    """What the event has at a path: the pseudonym of an entity, or a public value."""
    *parents, name = path.split(".")

    def reach(facts: Facts, _: Any = None) -> Any:
        pseudonym = facts.keys.get(path)
        if pseudonym is not None:
            return pseudonym
        found: Any = facts.values
        for parent in parents:
            found = found.get(parent)
            if found is None:
                return None
        return found.get(name)

    return reach


def _text(value: Any) -> str:
    """One text per value: 1, 1.0 and 1.00 are the same key."""
    if type(value) is str:
        return value
    if type(value) is Decimal:
        value = plain(value)
    elif type(value) is bool:
        return "true" if value else "false"
    elif type(value) is Money:
        return f"{_text(value.minor)} {value.currency}"
    elif type(value) is not int:
        raise TypeError(f"a window cannot go by a {type(value).__name__}")
    return str(value)
