"""Tests at which the two sides of a comparison meet: a value is worked out, not guessed, and then its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from engine.money import Money
from engine.mutation.asked import Part, Sides, paths_of
from engine.mutation.given import Given, Variant, changed, with_value
from engine.mutation.measures import SECOND, apart, as_number, as_written, measured, step_of
from engine.mutation.wording import events, said
from engine.rules import Before, show_duration
from engine.schema import FieldDef

MOST_EVENTS = 400
"""Most earlier events of one entry that are tried."""
MOST_DIFFERENT = 24
"""Most earlier events with a value of their own that are tried."""


class Variable(Protocol):
    """Something of a test that can be any number."""

    @property
    def grid(self) -> Fraction:
        """The smallest step."""

    def now(self, given: Given) -> Fraction | None:
        """Its value in a test; None where there is none to vary."""

    def put(self, given: Given, value: Fraction) -> Variant | None:
        """The test with this value; None when it cannot have it."""


def met(given: Given, part: Part) -> Iterator[Variant]:
    """Variants at which the two sides of a comparison of `part` meet, or nearly do."""
    places = given.places(part.windows)
    for sides in part.comparisons:
        left, right = sides
        windows = (*left.windows, *right.windows)
        for path in sorted(left.paths | right.paths):
            if path in given.own and measured(given.own[path]):
                yield from solved(given, sides, EventField(given.own[path], None))
        for place in places if windows else ():
            yield from solved(given, sides, _Repeat(place))
        for place in places:
            kind = given.kind_of(given.test.before[place])
            fields = given.fields(kind)
            for path in paths_of([window for window in windows if kind in window.kinds]):
                if path in fields and measured(fields[path]):
                    yield from solved(given, sides, EventField(fields[path], place))


def solved(given: Given, sides: Sides, variable: Variable) -> Iterator[Variant]:
    """The value of a variable at which both sides are equal, and its neighbours."""
    start = variable.now(given)
    if start is None:
        return
    root = _root(lambda value: _apart(given, sides, variable, value), start, variable.grid)
    if root is None:
        return
    nearest = round(root / variable.grid) * variable.grid
    for value in (nearest, nearest - variable.grid, nearest + variable.grid):
        made = variable.put(given, value)
        if made is not None:
            yield made


def _apart(given: Given, sides: Sides, variable: Variable, value: Fraction) -> Fraction | None:
    """By how much the left side is more than the right one."""
    made = variable.put(given, value)
    tried = given.other(made).tried if made is not None else None
    return apart(tried.value(sides[0]), tried.value(sides[1])) if tried is not None else None


def _root(apart_at: Callable[[Fraction], Fraction | None], start: Fraction, grid: Fraction) -> Fraction | None:
    """Where a difference is 0, by the rule of the secant: exact for what is linear, near for the rest."""
    one, two = start, start + grid
    first, second = apart_at(one), apart_at(two)
    if second is None:
        two = start - grid
        second = apart_at(two)
    for _ in range(4):
        if first is None or second is None or first == second:
            return None
        nearest = round((one - first * (two - one) / (second - first)) / grid) * grid
        if nearest in (one, two):
            return nearest
        one, first, two, second = two, second, nearest, apart_at(nearest)
        if second is None or second == 0:
            return two
    return two


@dataclass(frozen=True, slots=True)
class EventField:
    """A number, an amount or a time of the judged event (`place` is None) or of an earlier one."""

    field: FieldDef
    place: int | None

    @property
    def grid(self) -> Fraction:
        """The smallest step."""
        return step_of(self.field)

    def now(self, given: Given) -> Fraction | None:
        """Its value in a test, or one that it could have."""
        return as_number(given.sample(self.place, self.field.path), self.field.type)

    def put(self, given: Given, value: Fraction) -> Variant | None:
        """The test with this value; None when it is less than the field takes."""
        low = self.field.form.low
        if low is not None and value < low:
            return None
        path = self.field.path
        money = self.field.type == "money"
        currency = Money.parse(str(given.sample(self.place, path))).currency if money else ""
        written = as_written(value, self.field.type, currency)
        if self.place is None:
            return given.put(said(path, written), self.field, written)
        before = given.test.before[self.place]
        event = with_value(before.event, self.field, written)
        return given.replaced(said(path, written, "an earlier"), self.place, changed(before, event=event))


@dataclass(frozen=True, slots=True)
class _Repeat:
    """How many events an earlier entry stands for."""

    place: int
    grid = Fraction(1)

    def now(self, given: Given) -> Fraction:
        return Fraction(given.test.before[self.place].repeat)

    def put(self, given: Given, value: Fraction) -> Variant | None:
        return given.repeated(self.place, int(value)) if 0 <= value <= MOST_EVENTS else None


@dataclass(frozen=True, slots=True)
class Added:
    """How many more events of a kind came before, one a minute, or at an age just inside or outside an edge; with a
    field, each has a value of its own in it."""

    kind: str
    event: Mapping[str, Any]
    judged: Mapping[str, Any]
    edge: int | None
    outside: bool
    field: FieldDef | None
    grid = Fraction(1)

    def now(self, given: Given) -> Fraction:
        """None more."""
        del given
        return Fraction(0)

    def put(self, given: Given, value: Fraction) -> Variant | None:
        """The test with so many more; None for more than are tried."""
        count = int(value)
        if not 0 < count <= (MOST_EVENTS if self.field is None else MOST_DIFFERENT):
            return given.added("nothing else came before", self.kind, [], self.judged) if count == 0 else None
        one, when = self._one(count)
        different = f" with another {self.field.path} each" if self.field is not None else ""
        words = f"{events(count, f'more {self.kind}')}{different} came {when}"
        if self.field is None:
            return given.added(words, self.kind, [changed(one, repeat=count)], self.judged)
        values = [f"more-{number}" for number in range(1, count + 1)]
        if not all(self.field.takes(value) for value in values):
            return None
        more = [changed(one, event=with_value(self.event, self.field, value)) for value in values]
        return given.added(words, self.kind, more, self.judged)

    def _one(self, count: int) -> tuple[Before, str]:
        """One of so many, with its place in time, and that in words."""
        one = Before(event=dict(self.event))
        if self.edge is None:
            return one, "before"
        ago = self.edge + SECOND if self.outside else max(self.edge - (count - 1) * SECOND, SECOND)
        return changed(one, ago=ago, every=SECOND), f"{show_duration(ago)} before"
