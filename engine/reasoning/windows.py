"""Windows as variables, with what always holds of them and between them.

A window may hold anything that some history would give it. Of two windows over the same events the longer one counts no
less than the shorter one; what the event itself adds is counted when it is included; a share lies between 0 and 1. What
is not said here is left open.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Any

import z3

from engine.expr import DURATION, MONEY, NUMBER, TEXT, Expression, Window
from engine.expr.nodes import And, Call, Field, walk
from engine.reasoning.terms import NO, YES, Amount, Term, Value, both

if TYPE_CHECKING:
    from engine.reasoning.encode import Encoding

_WHOLE = ("count", "distinct", "streak", "group_size", "group_links")
_OF_NOTHING = ("count", "distinct", "streak", "sum")
"""What has a value when the window is empty."""
_BETWEEN = ("avg", "median", "quantile")
_TRUTHS = ("sequence", "absence", "linked")


class WindowTerms:
    """Variables for the windows that were asked for."""

    def __init__(self, encoding: Encoding, kinds: tuple[str, ...]) -> None:
        self.values: dict[Window, Value] = {}
        self._encoding = encoding
        self._kinds = kinds

    def of(self, window: Window) -> Value:
        """What a window holds. It is unknown without its key, and may be for other reasons."""
        if window not in self.values:
            warm = z3.Bool(f"{window.name} is known")
            keys = both(*(self._encoding.event.of(path).known for path in window.by))
            type_ = TEXT if window.function in _WHOLE else window.type
            value = self._encoding.fresh.of(type_, window.name)
            self.values[window] = Value(both(warm, keys), value, places=6 if window.type in (NUMBER, MONEY) else 0)
        return self.values[window]

    def facts(self) -> Iterator[Term]:
        """What holds of the windows so far; conditions inside of them are encoded on the way."""
        windows = list(self.values)
        for window in windows:
            value = self.values[window]
            yield from (z3.Implies(value.known, fact) for fact in self._alone(window, value.value))
        for one, other in combinations(windows, 2):
            known = both(self.values[one].known, self.values[other].known)
            facts = [*self._between(one, other), *self._between(other, one)]
            yield from (z3.Implies(known, fact) for fact in facts)

    def warm(self) -> Iterator[Term]:
        """For each window, what is so in a test where nothing happened before: it is known, unless it is unknown of
        nothing; and it holds nothing."""
        for window, value in self.values.items():
            known = z3.Bool(f"{window.name} is known")
            if window.function in _OF_NOTHING or window.function in _TRUTHS or not window.kinds:
                yield known
            else:
                yield z3.Not(known)
            if window.function in _OF_NOTHING:
                yield _size(value.value) == 0

    def together(self) -> Iterator[Term]:
        """That windows of one key are loaded together: so it is but for a while after a start."""
        warm: dict[Any, Term] = {}
        for window, value in self.values.items():
            first = warm.setdefault((window.by, window.groups), value.known)
            if first is not value.known:
                yield first == value.known

    def _alone(self, window: Window, value: Any) -> Iterator[Term]:
        function = window.function
        size = value.minor if isinstance(value, Amount) else value
        if function in _WHOLE or function == "stddev":
            yield size >= (1 if function == "group_size" else 0)
        elif function in ("share", "percentile"):
            yield z3.And(size >= 0, size <= (1 if function == "share" else 100))
        elif function in ("first_seen", "last_seen"):
            at = self._encoding.event.of("at").value
            yield z3.And(size >= at - _reach(window), size <= at)
        elif function not in _TRUTHS and self._not_negative(window.argument):
            yield size >= 0
        if function == "count" and self._holds_this(window):
            yield z3.Implies(self._counted(window), size >= 1)

    def _between(self, one: Window, other: Window) -> Iterator[Term]:
        """What holds of `one` because of `other`."""
        if one.approximately or other.approximately or one.steps or other.steps or not one.kinds or not other.kinds:
            return
        if (one.by, one.groups) != (other.by, other.groups):
            return
        a, b = (_size(self.values[each].value) for each in (one, other))
        within = _within(one, other)
        same = within and _within(other, one)
        argument = one.argument == other.argument
        if one.function == other.function == "count" and within:
            yield a <= b
        if (
            one.function == "distinct"
            and within
            and (other.function == "count" or (other.function == "distinct" and argument))
        ):
            yield a <= b
        if one.function == "streak" and other.function == "count" and within:
            yield a <= b
        if one.function == "first_seen" and other.function == "last_seen" and same:
            yield a <= b
        if other.function == "count" and same and one.function not in _OF_NOTHING:
            yield b >= 1
        if other.function == "count" and same and one.function == "sum" and self._not_negative(one.argument):
            yield z3.Implies(b == 0, a == 0)
        if argument and one.argument is not None:
            yield from self._measured(one, other, a, b, within=within, same=same)
        if _grown_by_this(one, other):
            yield a <= b + 1

    def _measured(self, one: Window, other: Window, a: Term, b: Term, *, within: bool, same: bool) -> Iterator[Term]:
        """What holds between two windows that measure the same value."""
        mine, theirs = self.values[one].value, self.values[other].value
        both_money = isinstance(mine, Amount) and isinstance(theirs, Amount)
        alike = mine.currency == theirs.currency if both_money else YES
        pair = one.function, other.function
        if pair == ("sum", "sum") and within and self._not_negative(one.argument):
            yield z3.Implies(alike, a <= b)
        if (pair == ("max", "max") and within) or (pair == ("min", "max") and same):
            yield z3.Implies(alike, a <= b)
        if pair == ("min", "min") and within:
            yield z3.Implies(alike, a >= b)
        if same and one.function == "min" and other.function in _BETWEEN:
            yield z3.Implies(alike, a <= b)
        if same and one.function in _BETWEEN and other.function == "max":
            yield z3.Implies(alike, a <= b)

    def _not_negative(self, argument: Expression | None) -> bool:
        """Whether what is measured cannot be below 0, by the schema alone."""
        if argument is None or argument.type not in (NUMBER, MONEY, DURATION):
            return False
        tree = argument.tree
        while isinstance(tree, Call) and tree.row.form == "convert":
            tree = tree.args[0]
        if not isinstance(tree, Field):
            return False
        field = self._encoding.event.field(tree.path)
        return field is not None and (field.type == "duration" or (field.form.low is not None and field.form.low >= 0))

    def _holds_this(self, window: Window) -> bool:
        """Whether the event that is judged is among the events, as far as its kind says."""
        return window.including_this and not window.groups and all(kind in window.kinds for kind in self._kinds)

    def _counted(self, window: Window) -> Term:
        """Whether the event itself is what the window counts. Of text that is typed it sees a masked form."""
        if window.where is None:
            return YES
        fields = [self._encoding.event.field(path) for path in window.where.paths]
        if any(field is None or field.typed or field.type.startswith("list[") for field in fields):
            return NO
        if any(isinstance(part, Call) and part.row.form == "convert" for part in walk(window.where.tree)):
            return NO  # a window converts at the rate of the event's own day, a rule at that of its receipt
        return self._encoding.value(window.where.tree).true


def _reach(window: Window) -> int:
    return window.length + (window.length // 64 + 1 if window.approximately else 0)


def _size(value: Any) -> Any:
    return value.minor if isinstance(value, Amount) else value


def _within(one: Window, other: Window) -> bool:
    """Whether every event that `one` holds is held by `other` too."""
    return (
        set(one.kinds) <= set(other.kinds)
        and one.length <= other.length
        and one.including_this <= other.including_this
        and _narrower(one.where, other.where)
    )


def _narrower(one: Expression | None, other: Expression | None) -> bool:
    """Whether the first condition asks for all that the second does, word for word."""
    if other is None or one == other:
        return True
    return one is not None and _asked(other) <= _asked(one)


def _asked(condition: Expression) -> set[str]:
    tree = condition.tree
    return {item.text for item in tree.items} if isinstance(tree, And) else {tree.text}


def related(one: Window, other: Window) -> bool:
    """Whether anything is known of the second window because of the first, beside that both have the same key."""
    if one == other:
        return True
    if (one.by, one.groups) != (other.by, other.groups) or not (_within(one, other) or _within(other, one)):
        return _grown_by_this(other, one)
    if other.function == "count":
        return one.function in ("count", "distinct", "streak")
    return one.argument == other.argument and one.function != "count"


def _grown_by_this(one: Window, other: Window) -> bool:
    """Whether the windows differ by the event itself alone, and count events."""
    return (
        one.function == other.function
        and one.function in ("count", "distinct")
        and one.argument == other.argument
        and (one.kinds, one.length, one.where) == (other.kinds, other.length, other.where)
        and one.including_this
        and not other.including_this
    )
