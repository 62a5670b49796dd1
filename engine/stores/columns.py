"""What a long line keeps of each event beside its time: one class for each kind of column."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, MutableSequence, Sequence
from decimal import Decimal
from itertools import accumulate, chain, repeat
from operator import sub
from typing import Any, Protocol

from engine.money import Money
from engine.stores.bag import Sorted, priced, ranked
from engine.stores.contract import FLAGS, LOOK, MEAN, RANKED, RUNS, SQUARES, STEPS, SUMS, VALUES, Amount, Answer, Gap
from engine.stores.numbers import minus, plain, plus, times
from engine.stores.patterns import follows

NEVER, FOREVER = -(2**63), 2**63 - 1
"""Before and after any time."""


class Column(Protocol):
    """What a line keeps of each event, in the line's order, beside the line's own `times` and `arrivals`.

    `fill` is called once the line has them; the others before the line changes.
    """

    def append(self, value: Any, at: int, arrival: int) -> object: ...
    def insert(self, place: int, value: Any, at: int, arrival: int) -> None: ...
    def delete(self, place: int) -> None: ...
    def drop(self, count: int) -> None:
        """The first `count` go."""

    def fill(self, values: list[Any]) -> None:
        """The values of a line that had no events."""

    def answer(self, what: str, begin: int, end: int, at: int, length: int, own: Any) -> Answer:
        """Of the stretch between two places, which reaches back `length` from `at`; `own` is what the event has."""

    def frozen(self) -> Callable[[], list[Any]]:
        """What gives its values as they are now, in the form that `fill` takes, whatever happens to it meanwhile.

        To take it is quick, to ask it takes a while.
        """


class _Running:
    """Running totals of one unit, and running counts of the events that have it; without `sizes` all have.

    `base` and `base_size` are what they were before the first. Totals are 64-bit integers until one is larger or has
    a fraction: from then on they are Python's own numbers, exact at any size.
    """

    __slots__ = ("base", "base_size", "sizes", "totals")

    def __init__(self, without: int = 0) -> None:
        """Of a line that has so many events `without` this unit."""
        self.base: int | Decimal = 0
        self.base_size = 0
        self.totals: MutableSequence[Any] = array("q", bytes(8 * without))
        self.sizes = array("q", self.totals) if without else None

    def size(self, begin: int, end: int) -> int:
        """How many between two places have it."""
        if self.sizes is None or begin == end:
            return end - begin
        return self.sizes[end - 1] - (self.sizes[begin - 1] if begin else self.base_size)

    def total(self, begin: int, end: int) -> int | Decimal:
        """The sum between two places that are not the same."""
        return plain(minus(self.totals[end - 1], self.totals[begin - 1] if begin else self.base))

    def put(self, place: int, number: int | Decimal | None) -> None:
        """A number, or None for an event that has not this unit."""
        if number is None and self.sizes is None:
            self.sizes, self.base_size = array("q", range(1, len(self.totals) + 1)), 0
        if self.sizes is not None:
            sizes = (self.sizes[place - 1] if place else self.base_size, *self.sizes[place:])
            self.sizes[place:] = array("q", [size + (number is not None) for size in sizes])
        before = self.totals[place - 1] if place else self.base
        self.set(place, self._more([before, *self.totals[place:]], number or 0))

    def take(self, place: int) -> None:
        """The opposite of `put`."""
        if self.sizes is not None:
            one = self.size(place, place + 1)
            self.sizes[place:] = array("q", [size - one for size in self.sizes[place + 1 :]])
        self.set(place, self._more(self.totals[place + 1 :], minus(0, self.total(place, place + 1))))

    def cut(self, count: int) -> None:
        """The first `count` go."""
        self.base = self.totals[count - 1]
        del self.totals[:count]
        if self.sizes is not None:
            self.base_size = self.sizes[count - 1]
            del self.sizes[:count]

    def numbers(self) -> list[Any]:
        """What was put in, event by event."""
        if self.sizes is None and type(self.totals) is array:
            return list(map(sub, self.totals, chain((self.base,), self.totals)))
        return [self.total(p, p + 1) if self.size(p, p + 1) else None for p in range(len(self.totals))]

    def copied_to(self, other: _Running) -> None:
        """Make another one the same as this is now."""
        other.base, other.base_size = self.base, self.base_size
        other.totals, other.sizes = self.totals[:], None if self.sizes is None else self.sizes[:]

    def _more(self, totals: Sequence[Any], number: Any) -> list[Any]:
        if type(self.totals) is array and type(number) is int:
            return [total + number for total in totals]
        return [plus(total, number) for total in totals]

    def set(self, place: int, totals: list[Any]) -> None:
        """Replace all totals from `place` on."""
        if isinstance(self.totals, array):
            try:
                self.totals[place:] = array("q", totals)
            except (OverflowError, TypeError):
                self.totals = self.totals.tolist()
            else:
                return
        self.totals[place:] = totals


class _Sums(_Running):
    """A number each: the running totals of the first unit that came, and beside them those of any others.

    Nearly always each event has a number and all of one unit; what then happens is written out for speed.
    """

    __slots__ = ("others", "unit")

    def __init__(self, *_: array[int]) -> None:
        super().__init__()
        self.unit: str | None = None
        self.others: dict[str, _Running] = {}

    def append(self, value: Any, *_: int) -> None:
        totals = self.totals
        if value is not None and value[0] == self.unit and self.sizes is None and type(totals) is array:
            try:
                totals.append((totals[-1] if totals else self.base) + value[1])
            except (OverflowError, TypeError):  # Too large for the array, or a fraction.
                pass
            else:
                return
        self.insert(len(totals), value)

    def insert(self, place: int, value: Any, *_: int) -> None:
        own, number = value or (None, None)
        if self.unit is None:
            self.unit = own
        elif own is not None and own != self.unit and own not in self.others:
            self.others[own] = _Running(len(self.totals))
        self.put(place, number if own == self.unit else None)
        for unit, running in self.others.items():
            running.put(place, number if own == unit else None)

    def delete(self, place: int) -> None:
        self.take(place)
        for running in self.others.values():
            running.take(place)

    def drop(self, count: int) -> None:
        self.cut(count)
        for running in self.others.values():
            running.cut(count)
        self.others = {unit: it for unit, it in self.others.items() if it.size(0, len(it.totals))}

    def fill(self, values: list[Any]) -> None:
        units = {value[0] for value in values if value is not None}
        if len(units) == 1 and None not in values:
            self.unit = units.pop()
            self.set(0, list(accumulate((value[1] for value in values), plus)))
        else:
            for value in values:
                self.append(value)

    def answer(self, what: str, begin: int, end: int, *_: Any) -> Answer:
        if begin == end:
            return None
        totals, unit = self.totals, self.unit
        if self.sizes is not None or unit is None or type(totals) is not array:
            return self._mixed_answer(what, begin, end)
        total = totals[end - 1] - (totals[begin - 1] if begin else self.base)
        if what == MEAN:
            return unit, total, end - begin
        return priced(total, unit)

    def frozen(self) -> Callable[[], list[Any]]:
        held: list[tuple[str, _Running]] = []
        for unit, running in ((self.unit or "", self), *self.others.items()):
            held.append((unit, _Running()))
            running.copied_to(held[-1][1])
        return lambda: _amounts(held)

    def _mixed_answer(self, what: str, begin: int, end: int) -> Answer:
        held = [
            (unit, running.total(begin, end), size)
            for unit, running in ((self.unit or "", self), *self.others.items())
            if (size := running.size(begin, end))
        ]
        if len(held) != 1:
            return Gap.MIXED if held else None
        unit, total, _ = held[0]
        return held[0] if what == MEAN else Money(total, unit) if unit else total


def _amounts(held: Sequence[tuple[str, _Running]]) -> list[Any]:
    """The amounts that running totals by unit were made of."""
    unit, first = held[0]
    if len(held) == 1 and first.sizes is None:
        return list(zip(repeat(unit), first.numbers(), strict=False))
    columns = [[None if it is None else (unit, it) for it in running.numbers()] for unit, running in held]
    return [next((it for it in row if it is not None), None) for row in zip(*columns, strict=True)]


class _Distinct:
    """A text each. How many different ones a stretch up to the end holds is how many texts were last seen in it.

    So the times of the last sight of each text are kept sorted in `recent`. Each event also knows when its text was
    seen before it: that gives the answer for a stretch that ends earlier, by looking at the events on one side.
    """

    __slots__ = ("arrivals", "before", "latest", "recent", "times", "values")

    def __init__(self, times: array[int], arrivals: array[int]) -> None:
        self.times = times
        self.arrivals = arrivals
        self.values: list[str | None] = []
        self.before = array("q")
        """When the text was seen last before each event; NEVER for not at all, FOREVER for an event without a text."""
        self.latest: dict[str, tuple[int, int]] = {}
        self.recent = Sorted()

    def append(self, value: Any, at: int, arrival: int) -> int:
        """What is noted in `before`."""
        self.values.append(value)
        if value is None:
            self.before.append(FOREVER)
            return FOREVER
        latest = self.latest
        seen = latest.get(value)
        latest[value] = (at, arrival)
        if seen is None:
            self.before.append(NEVER)
            self.recent.move(None, at)
            return NEVER
        before = seen[0]
        self.before.append(before)
        self.recent.move(before, at)
        return before

    def insert(self, place: int, value: Any, at: int, arrival: int) -> None:
        before = FOREVER
        if value is not None:
            seen = self.latest.get(value)
            before = NEVER if seen is None else seen[0]
            if seen is not None and seen > (at, arrival):
                after = self.values.index(value, place)
                before, self.before[after] = self.before[after], at
            else:
                if seen is not None:
                    self.recent.discard(before)
                self._see(value, at, arrival)
        self.before.insert(place, before)
        self.values.insert(place, value)

    def delete(self, place: int) -> None:
        value, before = self.values[place], self.before[place]
        if value is not None and self._is_latest(place):
            self.recent.discard(self.times[place])
            del self.latest[value]
            seen = self._sight_before(place)
            if seen is not None:
                self._see(value, self.times[seen], self.arrivals[seen])
        elif value is not None:
            self.before[self.values.index(value, place + 1)] = before
        del self.values[place], self.before[place]

    def drop(self, count: int) -> None:
        for place in range(count):
            value = self.values[place]
            if value is not None and self._is_latest(place):
                self.recent.discard(self.times[place])
                del self.latest[value]
        del self.values[:count], self.before[:count]

    def fill(self, values: list[Any]) -> None:
        for value, at, arrival in zip(values, self.times, self.arrivals, strict=True):
            self.append(value, at, arrival)

    def answer(self, _: str, begin: int, end: int, at: int, length: int, __: Any) -> Answer:
        count, since = len(self.values), at - length
        if end == count:
            return self.recent.since(since)
        if end == count - 1:  # The usual one: this event itself is the only later one.
            return self.recent.since(since) - 1 + (self.before[end] >= since)
        if end - begin <= count - end:
            return sum(before < since for before in self.before[begin:end])
        more = 0
        while end < count and self.times[end] == self.times[end - 1]:  # To where a time tells the two sides apart.
            more += self.before[end] < since
            end += 1
        edge = self.times[end] if end < count else FOREVER
        again = sum(since <= before < edge for before in self.before[end:])
        return self.recent.since(since) - self.recent.since(edge) + again - more

    def frozen(self) -> Callable[[], list[Any]]:
        values: list[Any] = self.values[:]
        return lambda: values

    def _is_latest(self, place: int) -> bool:
        value = self.values[place]
        return value is not None and self.latest[value] == (self.times[place], self.arrivals[place])

    def _sight_before(self, place: int) -> int | None:
        """The place of the sight that `before` tells of; None when there is none any more."""
        before, value = self.before[place], self.values[place]
        begin = bisect_left(self.times, before, 0, place)
        end = bisect_right(self.times, before, begin, place)
        return next((seen for seen in range(end - 1, begin - 1, -1) if self.values[seen] == value), None)

    def _see(self, value: str, at: int, arrival: int) -> None:
        self.latest[value] = (at, arrival)
        self.recent.add(at)


class _Spread:
    """A number each, and its square."""

    __slots__ = ("squares", "sums")

    def __init__(self, *_: array[int]) -> None:
        self.sums, self.squares = _Sums(), _Sums()

    def append(self, value: Any, *_: int) -> None:
        self.sums.append(value)
        self.squares.append(_square(value))

    def insert(self, place: int, value: Any, *_: int) -> None:
        self.sums.insert(place, value)
        self.squares.insert(place, _square(value))

    def delete(self, place: int) -> None:
        self.sums.delete(place)
        self.squares.delete(place)

    def drop(self, count: int) -> None:
        self.sums.drop(count)
        self.squares.drop(count)

    def fill(self, values: list[Any]) -> None:
        self.sums.fill(values)
        self.squares.fill([_square(value) for value in values])

    def answer(self, _: str, begin: int, end: int, *__: Any) -> Answer:
        ratio: Any = self.sums.answer(MEAN, begin, end)
        if ratio is None or ratio is Gap.MIXED:
            return ratio
        squares: Any = self.squares.answer(MEAN, begin, end)
        unit, total, size = ratio
        return unit, total, squares[1], size

    def frozen(self) -> Callable[[], list[Any]]:
        return self.sums.frozen()


def _square(value: Amount | None) -> Amount | None:
    return None if value is None else (value[0], plain(times(value[1], value[1])))


class _Runs:
    """Whether something is so, each: how many in a row up to each event it is so for, dropped ones included."""

    __slots__ = ("runs",)

    def __init__(self, *_: array[int]) -> None:
        self.runs = array("q")

    def append(self, value: Any, *_: int) -> None:
        runs = self.runs
        runs.append((runs[-1] + 1 if runs else 1) if value else 0)

    def insert(self, place: int, value: Any, *_: int) -> None:
        before = self.runs[place - 1] if place else 0
        self.runs.insert(place, before + 1 if value else 0)
        self._count_on(place + 1)

    def delete(self, place: int) -> None:
        del self.runs[place]
        self._count_on(place)

    def drop(self, count: int) -> None:
        del self.runs[:count]

    def fill(self, values: list[Any]) -> None:
        for value in values:
            self.append(value)

    def answer(self, _: str, begin: int, end: int, *__: Any) -> Answer:
        return min(self.runs[end - 1], end - begin) if end else 0

    def frozen(self) -> Callable[[], list[Any]]:
        runs = self.runs[:]
        return lambda: [run > 0 for run in runs]

    def _count_on(self, place: int) -> None:
        """Count the rest of the row that goes on at a place."""
        runs = self.runs
        while place < len(runs) and runs[place]:
            runs[place] = (runs[place - 1] if place else 0) + 1
            place += 1


class _Steps:
    """Which steps of a pattern each event is."""

    __slots__ = ("steps", "times")

    def __init__(self, times: array[int], _: array[int]) -> None:
        self.times = times
        self.steps: list[int | None] = []

    def append(self, value: Any, *_: int) -> None:
        self.steps.append(value)

    def insert(self, place: int, value: Any, *_: int) -> None:
        self.steps.insert(place, value)

    def delete(self, place: int) -> None:
        del self.steps[place]

    def drop(self, count: int) -> None:
        del self.steps[:count]

    def fill(self, values: list[Any]) -> None:
        self.steps.extend(values)

    def answer(self, what: str, begin: int, end: int, at: int, *_: Any) -> Answer:
        if end - begin > LOOK:
            return Gap.CAPPED
        return follows(what, self.times[begin:end], self.steps[begin:end], at)

    def frozen(self) -> Callable[[], list[Any]]:
        steps: list[Any] = self.steps[:]
        return lambda: steps


class _Ranked:
    """A number each, and for each length of stretch that was asked about, those of the last one in order.

    Stretches of one length move with the events: whatever enters or leaves is put into or taken out of its view. So an
    event costs the same whatever a stretch holds; a late one moves the view back and forth.
    """

    __slots__ = ("values", "views")

    def __init__(self, *_: array[int]) -> None:
        self.values: list[Amount | None] = []
        self.views: dict[int, _View] = {}

    def append(self, value: Any, *_: int) -> None:
        self.values.append(value)

    def insert(self, place: int, value: Any, *_: int) -> None:
        self.values.insert(place, value)
        for view in self.views.values():
            view.inserted(place, value)

    def delete(self, place: int) -> None:
        for view in self.views.values():
            view.deleted(place, self.values[place])
        del self.values[place]

    def drop(self, count: int) -> None:
        for view in self.views.values():
            view.dropped(count, self.values)
        del self.values[:count]

    def fill(self, values: list[Any]) -> None:
        self.values.extend(values)

    def answer(self, what: str, begin: int, end: int, _: int, length: int, own: Any) -> Answer:
        if begin == end:
            return None
        view = self.views.get(length)
        if view is None:
            view = self.views[length] = _View()
        view.move(begin, end, self.values)
        if len(view.units) != 1:
            return Gap.MIXED if view.units else None
        (unit,) = view.units
        return ranked(what, view.numbers, unit, own)

    def frozen(self) -> Callable[[], list[Any]]:
        values: list[Any] = self.values[:]
        return lambda: values


class _View:
    """The numbers between two places, in order, and how many there are of each unit."""

    __slots__ = ("begin", "end", "numbers", "units")

    def __init__(self) -> None:
        self.begin = self.end = 0
        self.numbers = Sorted.of([])
        self.units: dict[str, int] = {}

    def move(self, begin: int, end: int, values: Sequence[Amount | None]) -> None:
        """Look at what is between these places."""
        steps = abs(begin - self.begin) + abs(end - self.end)
        if begin >= self.end or end <= self.begin or steps > end - begin:
            self._anew(begin, end, values)
            return
        for value in values[self.end : end]:
            self._put(value)
        for value in values[begin : self.begin]:
            self._put(value)
        for value in values[self.begin : begin]:
            self._take(value)
        for value in values[end : self.end]:
            self._take(value)
        self.begin, self.end = begin, end

    def inserted(self, place: int, value: Amount | None) -> None:
        """A number came in at a place."""
        if place < self.end:
            self.end += 1
            if place < self.begin:
                self.begin += 1
            else:
                self._put(value)

    def deleted(self, place: int, value: Amount | None) -> None:
        """The number at a place goes."""
        if place < self.end:
            self.end -= 1
            if place < self.begin:
                self.begin -= 1
            else:
                self._take(value)

    def dropped(self, count: int, values: Sequence[Amount | None]) -> None:
        """The first `count` go."""
        for value in values[self.begin : min(count, self.end)]:
            self._take(value)
        self.begin, self.end = max(0, self.begin - count), max(0, self.end - count)

    def _anew(self, begin: int, end: int, values: Sequence[Amount | None]) -> None:
        held = [value for value in values[begin:end] if value is not None]
        self.numbers = Sorted.of([number for _, number in held])
        self.units = dict(Counter(unit for unit, _ in held))
        self.begin, self.end = begin, end

    def _put(self, value: Amount | None) -> None:
        if value is not None:
            unit, number = value
            self.numbers.add(number)
            self.units[unit] = self.units.get(unit, 0) + 1

    def _take(self, value: Amount | None) -> None:
        if value is not None:
            unit, number = value
            self.numbers.discard(number)
            self.units[unit] -= 1
            if not self.units[unit]:
                del self.units[unit]


COLUMNS: dict[str, Callable[[array[int], array[int]], Column]] = {
    SUMS: _Sums,
    FLAGS: _Sums,
    SQUARES: _Spread,
    RANKED: _Ranked,
    RUNS: _Runs,
    STEPS: _Steps,
    VALUES: _Distinct,
}
