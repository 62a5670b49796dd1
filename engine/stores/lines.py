"""The events of one key of a series: rows while they are few, arrays once they are many."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any, TypeAlias

from engine.stores.bag import Sorted, priced, ranked
from engine.stores.columns import COLUMNS, NEVER
from engine.stores.contract import COUNT, DISTINCT, FIRST, MEAN, SPREAD, STREAK, SUM, Answer, Frame, Gap, Values
from engine.stores.numbers import plain, plus, squares
from engine.stores.patterns import follows, is_pattern

Row: TypeAlias = tuple[int, int, Values]
Frozen: TypeAlias = tuple[str, Callable[[], Sequence[Row]], int]
"""A key as it was: its name, what gives its sorted rows, and the newest time of what was dropped although a question
may reach it."""
moment = itemgetter(0, 1)
_time = itemgetter(0)


def rows(times: Sequence[int], arrivals: Sequence[int], columns: Sequence[Sequence[Any]]) -> list[Row]:
    """Rows from what each of them has, column by column."""
    values: Iterable[Values] = zip(*columns, strict=True) if columns else repeat(())
    return list(zip(times, arrivals, values, strict=False))


class Few:
    """The events of a key that has a few, as nearly all have: sorted rows, which are gone through for each answer.

    The objects of a `Line` would take longer to make, and far more room, than they save here.
    """

    __slots__ = ("events",)
    due = 16
    """Events up to which a key is kept so."""
    lost = NEVER

    def __init__(self) -> None:
        self.events: list[Row] = []

    def __len__(self) -> int:
        return len(self.events)

    def add(self, at: int, arrival: int, values: Values) -> int:
        """Put an event where it belongs, if it is not there; its place."""
        events = self.events
        if not events or (at, arrival) > events[-1][:2]:
            events.append((at, arrival, values))
            return len(events) - 1
        place, after = self.ends(at, arrival)
        if place == after:
            events.insert(place, (at, arrival, values))
        return place

    def remove(self, at: int, arrival: int) -> None:
        """Take an event out; nothing if it is not there."""
        place, after = self.ends(at, arrival)
        del self.events[place:after]

    def fill(self, rows: Sequence[Row]) -> None:
        """The sorted rows of an empty line."""
        self.events = list(rows)

    def trim(self, horizon: int, _: int) -> int:
        """Drop what is before the horizon; how many went. There are too few to leave any out for a cap."""
        gone = bisect_left(self.events, horizon, key=_time)
        del self.events[:gone]
        return gone

    def read(
        self,
        frames: Sequence[Frame],
        at: int,
        place: int,
        including: int,
        cap: int,
        own: Values | None,
        answers: list[Answer],
    ) -> None:
        """Answer as of an event at a place; `including` it is the next place, unless it is not in the line."""
        events = self.events
        count = len(events)
        if not count:
            answers += [0 if what in COUNTED else None for _, _, questions in frames for what, _ in questions]
            return
        for length, including_this, questions in frames:
            end = including if including_this else place
            begin, since = 0, at - length
            while begin < end and events[begin][0] < since:
                begin += 1
            if count - begin > cap:
                answers += [Gap.CAPPED] * len(questions)
                continue
            for what, column in questions:
                if what == COUNT:
                    answers.append(end - begin)
                elif begin == end:
                    answers.append(0 if what in COUNTED else None)
                elif column >= 0:
                    answers.append(_of_few(what, column, events[begin:end], at, own and own[column]))
                else:
                    answers.append(events[begin if what == FIRST else end - 1][0])

    def frozen(self) -> Callable[[], Sequence[Row]]:
        """What gives the rows as they are now, whatever happens to the line meanwhile."""
        events = self.events[:]
        return lambda: events

    def texts(self, column: int, since: int, end: int) -> list[Any]:
        """What a column of texts holds from a time on, before a place."""
        return [values[column] for at, _, values in self.events[:end] if at >= since]

    def ends(self, at: int, arrival: int) -> tuple[int, int]:
        """How many events are before (at, arrival), without and with the event itself."""
        events = self.events
        end = len(events)
        while end and events[end - 1][:2] >= (at, arrival):
            end -= 1
        return end, end + (end < len(events) and events[end][:2] == (at, arrival))


_NOTHING = frozenset((None,))
COUNTED = frozenset((COUNT, DISTINCT, STREAK))
_SUMMED = frozenset((SUM, MEAN, SPREAD))


def _of_few(what: str, column: int, events: Sequence[Row], at: int, own: Any) -> Answer:
    """The answer about one column of some events, at least one, from its values one by one."""
    values: list[Any] = [event[2][column] for event in events]
    if what == DISTINCT:
        return len(set(values) - _NOTHING)
    if what == STREAK:
        return next((place for place, value in enumerate(reversed(values)) if not value), len(values))
    if what not in _SUMMED and is_pattern(what):
        return follows(what, [event[0] for event in events], values, at)
    amounts = [value for value in values if value is not None]
    if not amounts:
        return None
    unit, total = amounts[0]
    if any(other != unit for other, _ in amounts):
        return Gap.MIXED
    if what in _SUMMED:
        for _, number in amounts[1:]:
            total = plus(total, number)
        total = plain(total)
        if what == MEAN:
            return unit, total, len(amounts)
        if what == SPREAD:
            return unit, total, plain(squares(number for _, number in amounts)), len(amounts)
        return priced(total, unit)
    return ranked(what, Sorted.of([number for _, number in amounts]), unit, own)


class Line:
    """The events of a key that has many: arrays sorted by (at, arrival), and columns in the same order."""

    __slots__ = ("arrivals", "columns", "due", "lost", "times")

    def __init__(self, columns: Sequence[str]) -> None:
        self.times = array("q")
        self.arrivals = array("q")
        self.columns = [COLUMNS[holds](self.times, self.arrivals) for holds in columns]
        self.lost = NEVER
        """Newest time of the events that were dropped, or not let in, although a question may reach them."""
        self.due = 32
        """Length at which to look for what can be dropped: seldom enough to cost nothing per event."""

    def __len__(self) -> int:
        return len(self.times)

    def add(self, at: int, arrival: int, values: Values) -> int:
        """Put an event where it belongs, if it is not there; its place."""
        times, arrivals = self.times, self.arrivals
        if not times or at > times[-1] or (at == times[-1] and arrival > arrivals[-1]):
            for number, column in enumerate(self.columns):
                column.append(values[number], at, arrival)
            times.append(at)
            arrivals.append(arrival)
            return len(times) - 1
        place = self._place(at, arrival)
        if not self._holds(place, at, arrival):
            for number, column in enumerate(self.columns):
                column.insert(place, values[number], at, arrival)
            times.insert(place, at)
            arrivals.insert(place, arrival)
        return place

    def later(self, at: int) -> int:
        """How many events are later than this time."""
        times = self.times
        return len(times) - bisect_right(times, at) if times and at < times[-1] else 0

    def remove(self, at: int, arrival: int) -> None:
        """Take an event out; nothing if it is not there."""
        place = self._place(at, arrival)
        if self._holds(place, at, arrival):
            for column in self.columns:
                column.delete(place)
            del self.times[place], self.arrivals[place]

    def fill(self, rows: Sequence[Row]) -> None:
        """The sorted rows of an empty line."""
        self.times.extend([row[0] for row in rows])
        self.arrivals.extend([row[1] for row in rows])
        for number, column in enumerate(self.columns):
            column.fill([row[2][number] for row in rows])

    def trim(self, horizon: int, cap: int) -> int:
        """Drop what is before the horizon, and all but the newest `cap` (and the one that shows there were more).

        How many went.
        """
        count = len(self.times)
        gone = bisect_left(self.times, horizon)
        if count - gone > cap + 1:
            gone = count - cap - 1
            self.lost = self.times[gone - 1]
        if gone:
            for column in self.columns:
                column.drop(gone)
            del self.times[:gone], self.arrivals[:gone]
            count -= gone
        self.due = count + max(32, count // 4)
        return gone

    def read(
        self,
        frames: Sequence[Frame],
        at: int,
        place: int,
        including: int,
        cap: int,
        own: Values | None,
        answers: list[Answer],
    ) -> None:
        """Answer as of an event at a place; `including` it is the next place, unless it is not in the line."""
        times, columns, lost = self.times, self.columns, self.lost
        count = len(times)
        for length, including_this, questions in frames:
            since = at - length
            end = including if including_this else place
            begin = bisect_left(times, since, 0, end)
            if count - begin > cap or since <= lost:
                answers += [Gap.CAPPED] * len(questions)
                continue
            for what, column in questions:
                if what == COUNT:
                    answers.append(end - begin)
                elif column >= 0:
                    answers.append(columns[column].answer(what, begin, end, at, length, own and own[column]))
                elif begin == end:
                    answers.append(None)
                else:
                    answers.append(times[begin if what == FIRST else end - 1])

    def frozen(self) -> Callable[[], Sequence[Row]]:
        """What gives the rows as they are now, whatever happens to the line meanwhile. To take it is quick."""
        times, arrivals, columns = self.times[:], self.arrivals[:], [column.frozen() for column in self.columns]
        return lambda: rows(times, arrivals, [values() for values in columns])

    def texts(self, column: int, since: int, end: int) -> list[Any]:
        """What a column of texts holds from a time on, before a place."""
        held: Any = self.columns[column]
        found: list[Any] = held.values[bisect_left(self.times, since, 0, end) : end]
        return found

    def ends(self, at: int, arrival: int) -> tuple[int, int]:
        """How many events are before (at, arrival), without and with the event itself."""
        if not self.times or self.times[-1] < at:
            return len(self.times), len(self.times)
        end = self._place(at, arrival)
        return end, end + self._holds(end, at, arrival)

    def _place(self, at: int, arrival: int) -> int:
        """How many events are before (at, arrival)."""
        times = self.times
        low = bisect_left(times, at)
        if low == len(times) or times[low] != at:
            return low
        return bisect_left(self.arrivals, arrival, low, bisect_right(times, at, low))

    def _holds(self, place: int, at: int, arrival: int) -> bool:
        return place < len(self.times) and self.times[place] == at and self.arrivals[place] == arrival
