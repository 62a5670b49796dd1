"""Where running counts are kept: the contract of a store, and the store in memory.

`engine.features` says what is counted; a store only knows series. A series holds, per tenant and key, the events that
some windows have in common, with columns of what each event brings. It answers what a stretch of it holds as of one
event: how many, when the first and the last was, the sum of one column, how many different values another one has.

The time of an event is the pair (at, arrival): two events at one instant are told apart by their arrival, which
never repeats. A stretch is [at - length, (at, arrival)): the event itself is not in it unless the frame says so.
"""

from __future__ import annotations

import gc
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable, MutableSequence, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation
from enum import StrEnum
from itertools import accumulate
from operator import itemgetter
from threading import Lock
from typing import Any, Protocol, TypeAlias

from engine.errors import Unavailable
from engine.money import Money

HOUR = 3_600_000_000
DAY = 24 * HOUR
"""Microseconds."""

LATENESS = 7 * DAY
"""How late an event may be and still read exact windows."""
CAP = 1_000_000
"""Most events of one key that a window counts; a fuller window is unknown."""

SUMS, VALUES = "sums", "values"
"""What a column holds: a number with its unit (a currency, "" for plain numbers), or a text."""

COUNT, FIRST, LAST, SUM, MEAN, DISTINCT = "count", "first", "last", "sum", "mean", "distinct"
"""What can be asked of a stretch."""

EXACT = Context(prec=400, traps=[Inexact, InvalidOperation])
"""Sums keep every digit; a number with so many that it would not is our mistake, and raises."""

NEVER, FOREVER = -(2**63), 2**63 - 1
"""Before and after any time."""


class StoreUnavailable(Unavailable):
    """The store does not answer; nothing was added."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="store_unavailable")


class Gap(StrEnum):
    """Why a store cannot answer."""

    CAPPED = "feature_capped"
    TOO_LATE = "too_late"
    MIXED = "mixed_currencies"


@dataclass(frozen=True, slots=True)
class Series:
    """Events that some windows have in common. `name` is the same in every process and after every restart;
    `columns` says what each one holds; `span` is the longest of the windows, in microseconds."""

    name: str
    columns: tuple[str, ...]
    span: int


class Stamp(Protocol):
    """Which event it is, and when. `engine.features.Facts` is one."""

    @property
    def tenant(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def at(self) -> int: ...
    @property
    def arrival(self) -> int: ...


Amount: TypeAlias = tuple[str, int | Decimal]
"""A unit and a number of it, as `plain` gives it."""
Values: TypeAlias = Sequence[Amount | str | None]
"""What an event brings to the columns of a series; None where it has nothing."""
Frame: TypeAlias = tuple[int, bool, tuple[tuple[str, int], ...]]
"""Questions about one stretch: its length, whether this event itself counts, and (what is asked, which column)."""
Touch: TypeAlias = tuple[str, str, Values | None, Sequence[Frame]]
"""One series at one event: its name, the key, what to add (None: nothing), and what to answer."""
Ratio: TypeAlias = tuple[str, int | Decimal, int]
"""The unit, the sum and the size that make a mean."""
Answer: TypeAlias = int | Decimal | Money | Ratio | Gap | None
"""Money for a sum with a unit. None where the stretch holds nothing to answer from; 0 for count and distinct."""


class Store(Protocol):
    """Keeps series. All methods may raise StoreUnavailable, and have then changed nothing.

    Atomic: what `observe` reads and adds is one step; no other event comes between, from any task or process.
    Idempotent: an event (tenant, id) adds once. Seen again, it adds nothing and reads as of its first arrival.
    Order does not matter: what a series holds, and so every answer, depends on the set of events added alone.
    Isolated: tenants share nothing.
    Bounded: what no allowed question can reach is dropped. Allowed are events at most `lateness` behind the newest
    of their tenant (later ones are added as far as a question can reach them, and read Gap.TOO_LATE), and stretches
    that have at most `cap` events up to the newest of the key (fuller ones read Gap.CAPPED).
    """

    @property
    def lateness(self) -> int: ...

    def declare(self, series: Iterable[Series]) -> None:
        """Keep these series from now on, beside those declared before. What is there already stays."""

    def release(self, names: Iterable[str]) -> None:
        """The opposite of `declare`: a series that nobody else declared is dropped."""

    def observe(self, stamp: Stamp, touches: Sequence[Touch]) -> tuple[bool, list[Answer]]:
        """Add the event, and answer all questions in order; first whether it was added."""

    def forget(self, stamp: Stamp, touches: Sequence[Touch]) -> None:
        """Take an added event out again, as if it had never been there; nothing if it was not added."""

    def load(self, events: Iterable[tuple[Stamp, Sequence[Touch]]], names: Collection[str]) -> None:
        """Add a history to the series named, in any order, on top of what they hold; they are warm afterwards."""

    def warm(self, name: str) -> bool:
        """Whether the series holds its whole history."""


class MemoryStore:
    """A Store in this process's memory. Threads may share it.

    An in-order event costs the same whatever its keys hold. A late one costs in addition what moving the later
    events of its keys costs: nanoseconds each. A key without a new event is dropped after at most twice the span
    and lateness.
    """

    def __init__(self, lateness: int = LATENESS, cap: int = CAP) -> None:
        self._lateness = lateness
        self._cap = cap
        self._series: dict[str, Series] = {}
        self._holders: dict[str, int] = {}
        self._warm: set[str] = set()
        self._rooms: dict[str, _Room] = {}
        self._lock = Lock()

    @property
    def lateness(self) -> int:
        return self._lateness

    def declare(self, series: Iterable[Series]) -> None:
        with self._lock:
            for one in series:
                known = self._series.get(one.name)
                if known is None or known.span < one.span:
                    # Events older than the shorter span asked for are gone, or were never kept.
                    self._warm.discard(one.name)
                    self._series[one.name] = one
                    for room in self._rooms.values():
                        room.widen(one)
                self._holders[one.name] = self._holders.get(one.name, 0) + 1

    def release(self, names: Iterable[str]) -> None:
        with self._lock:
            for name in names:
                self._holders[name] -= 1
                if not self._holders[name]:
                    del self._holders[name], self._series[name]
                    self._warm.discard(name)
                    for room in self._rooms.values():
                        room.shelves.pop(name, None)

    def warm(self, name: str) -> bool:
        return name in self._warm

    def observe(self, stamp: Stamp, touches: Sequence[Touch]) -> tuple[bool, list[Answer]]:
        at, arrival, cap = stamp.at, stamp.arrival, self._cap
        answers: list[Answer] = []
        with self._lock:
            room = self._rooms.get(stamp.tenant) or self._room(stamp.tenant)
            first = room.enter(stamp)
            if first is not None:
                arrival = first
            clock = room.clock
            late = at < clock - self._lateness
            for name, key, values, frames in touches:
                shelf = room.shelves.get(name) or room.shelf(self._series[name])
                line = shelf.new.get(key)
                if values is not None and first is None and at >= clock - shelf.reach:
                    if line is None:
                        line = shelf.make(key, clock)
                    place = line.add(at, arrival, values)
                    if len(line) > line.due:
                        line, gone = shelf.tidy(key, line, clock, cap)
                        place -= gone
                    including = place + 1
                else:
                    if line is None:
                        line = shelf.old.get(key) or shelf.nothing
                    place, including = line.ends(at, arrival)
                if late:
                    answers += [Gap.TOO_LATE for _, _, questions in frames for _ in questions]
                else:
                    line.read(frames, at, place, including, cap, answers)
        return first is None, answers

    def forget(self, stamp: Stamp, touches: Sequence[Touch]) -> None:
        with self._lock:
            room = self._rooms.get(stamp.tenant)
            if room is None or not room.leave(stamp):
                return
            for name, key, values, _ in touches:
                shelf = room.shelves.get(name)
                if shelf is not None and values is not None:
                    shelf.take(key, stamp.at, stamp.arrival)

    def load(self, events: Iterable[tuple[Stamp, Sequence[Touch]]], names: Collection[str]) -> None:
        collected = gc.isenabled()
        gc.disable()  # Nothing here is garbage, and looking for some again and again takes longer than the loading.
        try:
            self._load(events, names)
        finally:
            if collected:
                gc.enable()

    def _load(self, events: Iterable[tuple[Stamp, Sequence[Touch]]], names: Collection[str]) -> None:
        pending: dict[tuple[str, str], dict[str, list[_Row]]] = {}
        twice = False
        for stamp, touches in events:
            with self._lock:
                room = self._rooms.get(stamp.tenant) or self._room(stamp.tenant)
                if room.unreachable(stamp.at):
                    continue
                first = room.enter(stamp)
            # Known already, perhaps because it was observed while we read: one event, one arrival.
            twice = twice or first is not None
            row_at, row_arrival = stamp.at, stamp.arrival if first is None else first
            for name, key, values, _ in touches:
                if values is not None and name in names:
                    keys = pending.get((stamp.tenant, name))
                    if keys is None:
                        keys = pending[stamp.tenant, name] = {}
                    rows = keys.get(key)
                    if rows is None:
                        keys[key] = [(row_at, row_arrival, values)]
                    else:
                        rows.append((row_at, row_arrival, values))
        with self._lock:
            for (tenant, name), keys in pending.items():
                room = self._rooms[tenant]
                shelf = room.shelves.get(name) or room.shelf(self._series[name])
                shelf.fill(keys, room.clock, self._cap, twice)
            self._warm.update(names)

    def _room(self, tenant: str) -> _Room:
        room = self._rooms[tenant] = _Room(self._lateness, self._series.values())
        return room


_Row: TypeAlias = tuple[int, int, Values]
_moment = itemgetter(0, 1)
_time = itemgetter(0)


class _Room:
    """What one tenant has: its newest event time, the ids that were added, and a shelf per series."""

    __slots__ = ("_ids", "_lateness", "_longest", "_midnight", "clock", "shelves")

    def __init__(self, lateness: int, series: Iterable[Series]) -> None:
        self.clock = NEVER
        self.shelves: dict[str, _Shelf] = {}
        self._midnight = NEVER
        self._lateness = lateness
        self._longest = max((one.span for one in series), default=0)
        # By the hour of the event, so that old ids go a whole hour at a time.
        self._ids: dict[int, dict[str, int]] = {}

    def widen(self, series: Series) -> None:
        """A series came, or got a longer span."""
        self._longest = max(self._longest, series.span)
        if series.name in self.shelves:
            self.shelves[series.name].reach = series.span + self._lateness

    def shelf(self, series: Series) -> _Shelf:
        shelf = self.shelves[series.name] = _Shelf(series.columns, series.span + self._lateness)
        return shelf

    def unreachable(self, at: int) -> bool:
        """Whether an event is so late that no question reaches it."""
        return at < self.clock - self._longest - self._lateness

    def enter(self, stamp: Stamp) -> int | None:
        """Note the event; the arrival it had when it was noted before, None when it is new."""
        at = stamp.at
        ids = self._ids.get(at // HOUR)
        if ids is None:
            if self.unreachable(at):
                return stamp.arrival  # As good as added.
            ids = self._ids[at // HOUR] = {}
        if at > self.clock:
            self.clock = at
            if at >= self._midnight:
                self._sweep()
        first = ids.get(stamp.id)
        if first is None:
            ids[stamp.id] = stamp.arrival
        return first

    def leave(self, stamp: Stamp) -> bool:
        """Undo `enter`; False when another arrival, or nothing, was noted."""
        ids = self._ids.get(stamp.at // HOUR)
        if ids is None or ids.get(stamp.id) != stamp.arrival:
            return False
        del ids[stamp.id]
        return True

    def _sweep(self) -> None:
        """Once a day: drop the ids that no question reaches."""
        self._midnight = (self.clock // DAY + 1) * DAY
        oldest = (self.clock - self._longest - self._lateness) // HOUR
        for hour in [hour for hour in self._ids if hour < oldest]:
            del self._ids[hour]


class _Shelf:
    """The lines of one series, by key, in two generations.

    A line that gets an event moves to the new generation. Once the clock has gone further than a question can
    reach, whatever is still in the old one is out of reach as a whole, and the generations turn.
    """

    __slots__ = ("_columns", "_dying", "_turned", "new", "nothing", "old", "reach")

    def __init__(self, columns: tuple[str, ...], reach: int) -> None:
        self.reach = reach
        self.new: dict[str, _Few | _Line] = {}
        self.old: dict[str, _Few | _Line] = {}
        self.nothing = _Few()
        self._columns = columns
        self._dying: dict[str, _Few | _Line] = {}
        self._turned = NEVER

    def make(self, key: str, clock: int) -> _Few | _Line:
        """The line of a key that gets an event, in the new generation."""
        line = self.new.get(key)
        if line is None:
            if clock - self.reach > self._turned:
                self._turn(clock)
            line = self.new[key] = self.old.pop(key) if key in self.old else _Few()
            for _ in range(min(2, len(self._dying))):
                self._dying.popitem()  # A million lines freed at once would stall the event that turns.
        return line

    def take(self, key: str, at: int, arrival: int) -> None:
        """Take one event out; a line that is then as good as new goes with it."""
        for generation in (self.new, self.old):
            if key in generation:
                line = generation[key]
                line.remove(at, arrival)
                if not len(line) and line.lost == NEVER:
                    del generation[key]

    def tidy(self, key: str, line: _Few | _Line, clock: int, cap: int) -> tuple[_Few | _Line, int]:
        """Drop what no question reaches from a line of the new generation, and give one that holds more than a few
        its arrays: the line that then has the key, and how many events went."""
        gone = line.trim(clock - self.reach, cap)
        if type(line) is _Few and len(line) > line.due // 2:
            line = self.new[key] = self._grown(line)
            gone += line.trim(clock - self.reach, cap)
        return line, gone

    def _grown(self, few: _Few) -> _Line:
        line = _Line(self._columns)
        line.fill(few.events)
        return line

    def fill(self, keys: dict[str, list[_Row]], clock: int, cap: int, twice: bool) -> None:
        """Many events at once. `twice`: some may be in the lines, or among the rows, already."""
        horizon = clock - self.reach
        for key, rows in keys.items():
            # Arrivals differ, so that values are not compared, unless an event is there twice.
            rows.sort(key=_moment if twice else None)
            if rows[-1][0] < horizon:
                continue
            line = self.make(key, clock)
            if type(line) is _Few and len(line) + len(rows) > line.due:
                line = self.new[key] = self._grown(line)
            if twice or len(line):
                for row in rows:
                    line.add(*row)
            else:
                line.fill(rows)
            line.trim(horizon, cap)

    def _turn(self, clock: int) -> None:
        if self._turned != NEVER:
            self._dying, self.old, self.new = self.old, self.new, {}
        self._turned = clock


class _Few:
    """The events of a key that has a few, as nearly all have: sorted rows, which are gone through for each answer.

    The objects of a `_Line` would take longer to make, and far more room, than they save here.
    """

    __slots__ = ("events",)
    due = 16
    """Events up to which a key is kept so."""
    lost = NEVER

    def __init__(self) -> None:
        self.events: list[_Row] = []

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

    def fill(self, rows: Sequence[_Row]) -> None:
        """The sorted rows of an empty line."""
        self.events = list(rows)

    def trim(self, horizon: int, _: int) -> int:
        """Drop what is before the horizon; how many went. There are too few to leave any out for a cap."""
        gone = bisect_left(self.events, horizon, key=_time)
        del self.events[:gone]
        return gone

    def read(
        self, frames: Sequence[Frame], at: int, place: int, including: int, cap: int, answers: list[Answer]
    ) -> None:
        """Answer as of an event at a place; `including` it is the next place, unless it is not in the line."""
        events = self.events
        count = len(events)
        if not count:
            answers += [0 if what in _COUNTED else None for _, _, questions in frames for what, _ in questions]
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
                    answers.append(0 if what == DISTINCT else None)
                elif what == DISTINCT:
                    answers.append(len({event[2][column] for event in events[begin:end]} - _NOTHING))
                elif column >= 0:
                    answers.append(_sum(what, [event[2][column] for event in events[begin:end]]))
                else:
                    answers.append(events[begin if what == FIRST else end - 1][0])

    def ends(self, at: int, arrival: int) -> tuple[int, int]:
        """How many events are before (at, arrival), without and with the event itself."""
        events = self.events
        end = len(events)
        while end and events[end - 1][:2] >= (at, arrival):
            end -= 1
        return end, end + (end < len(events) and events[end][:2] == (at, arrival))


_NOTHING = frozenset((None,))
_COUNTED = frozenset((COUNT, DISTINCT))


def _sum(what: str, values: Sequence[Any]) -> Answer:
    """The sum, or what makes the mean, of the amounts among `values`."""
    amounts = [value for value in values if value is not None]
    if not amounts:
        return None
    unit, total = amounts[0]
    for other, number in amounts[1:]:
        if other != unit:
            return Gap.MIXED
        total = _plus(total, number)
    total = plain(total)
    if what == MEAN:
        return unit, total, len(amounts)
    return _new(Money, (total, unit)) if unit else total


class _Line:
    """The events of a key that has many: arrays sorted by (at, arrival), and columns in the same order."""

    __slots__ = ("arrivals", "columns", "due", "lost", "times")

    def __init__(self, columns: Sequence[str]) -> None:
        self.times = array("q")
        self.arrivals = array("q")
        self.columns = [_COLUMNS[holds](self.times, self.arrivals) for holds in columns]
        self.lost = NEVER
        """Newest time of the events that were dropped although a question may reach them."""
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

    def remove(self, at: int, arrival: int) -> None:
        """Take an event out; nothing if it is not there."""
        place = self._place(at, arrival)
        if self._holds(place, at, arrival):
            for column in self.columns:
                column.delete(place)
            del self.times[place], self.arrivals[place]

    def fill(self, rows: Sequence[_Row]) -> None:
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
        self, frames: Sequence[Frame], at: int, place: int, including: int, cap: int, answers: list[Answer]
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
                    answers.append(columns[column].answer(what, begin, end, since))
                elif begin == end:
                    answers.append(None)
                else:
                    answers.append(times[begin if what == FIRST else end - 1])

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


class _Column(Protocol):
    """What a line keeps of each event, in the line's order, beside the line's own `times` and `arrivals`.

    `fill` is called once the line has them; the others before the line changes.
    """

    def append(self, value: Any, at: int, arrival: int) -> None: ...
    def insert(self, place: int, value: Any, at: int, arrival: int) -> None: ...
    def delete(self, place: int) -> None: ...
    def drop(self, count: int) -> None:
        """The first `count` go."""

    def fill(self, values: list[Any]) -> None:
        """The values of a line that had no events."""

    def answer(self, what: str, begin: int, end: int, since: int) -> Answer:
        """Of the stretch between two places; `since` is the time at which it begins."""


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
        return plain(_minus(self.totals[end - 1], self.totals[begin - 1] if begin else self.base))

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
        self.set(place, self._more(self.totals[place + 1 :], _minus(0, self.total(place, place + 1))))

    def cut(self, count: int) -> None:
        """The first `count` go."""
        self.base = self.totals[count - 1]
        del self.totals[:count]
        if self.sizes is not None:
            self.base_size = self.sizes[count - 1]
            del self.sizes[:count]

    def _more(self, totals: Sequence[Any], number: Any) -> list[Any]:
        if type(self.totals) is array and type(number) is int:
            return [total + number for total in totals]
        return [_plus(total, number) for total in totals]

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
            self.set(0, list(accumulate((value[1] for value in values), _plus)))
        else:
            for value in values:
                self.append(value)

    def answer(self, what: str, begin: int, end: int, _: int) -> Answer:
        if begin == end:
            return None
        totals, unit = self.totals, self.unit
        if self.sizes is not None or unit is None or type(totals) is not array:
            return self._mixed_answer(what, begin, end)
        total = totals[end - 1] - (totals[begin - 1] if begin else self.base)
        if what == MEAN:
            return unit, total, end - begin
        return _new(Money, (total, unit)) if unit else total

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


_new = tuple.__new__
"""Makes Money in a third of the time that a NamedTuple's own constructor takes; a reading holds many."""


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
        self.recent = _Sorted()

    def append(self, value: Any, at: int, arrival: int) -> None:
        self.values.append(value)
        if value is None:
            self.before.append(FOREVER)
        else:
            seen = self.latest.get(value)
            self.before.append(NEVER if seen is None else seen[0])
            self.latest[value] = (at, arrival)
            self.recent.move(None if seen is None else seen[0], at)

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

    def answer(self, _: str, begin: int, end: int, since: int) -> Answer:
        count = len(self.values)
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


_COLUMNS: dict[str, type[_Sums] | type[_Distinct]] = {SUMS: _Sums, VALUES: _Distinct}


class _Sorted:
    """A sorted bag of times. Adding at the end, taking out anywhere and counting cost about the same at any size the
    cap allows: blocks of at most `WIDTH`, so that no operation moves more."""

    WIDTH = 4096
    __slots__ = ("_blocks", "_tops")

    def __init__(self) -> None:
        self._blocks = [array("q")]
        """None is empty but a first that stands alone."""
        self._tops: list[int] = []
        """The largest time of each block but the last."""

    def add(self, time: int) -> None:
        place = bisect_left(self._tops, time)
        insort(self._blocks[place], time)
        if len(self._blocks[place]) > self.WIDTH:
            self._split(place)

    def discard(self, time: int) -> None:
        """Take out one that is there."""
        place = bisect_left(self._tops, time)
        block = self._blocks[place]
        del block[bisect_left(block, time)]
        if place < len(self._tops):
            if block:
                self._tops[place] = block[-1]
            else:
                del self._blocks[place], self._tops[place]
        elif not block and place:
            del self._blocks[place], self._tops[place - 1]

    def move(self, old: int | None, new: int) -> None:
        """Take out one, and add another that is not before any that is there."""
        if self._tops:
            if old is not None:
                self.discard(old)
            self.add(new)
        else:  # Small bags are by far the most.
            block = self._blocks[0]
            if old is not None:
                del block[bisect_left(block, old)]
            block.append(new)
            if len(block) > self.WIDTH:
                self._split(0)

    def since(self, time: int) -> int:
        """How many are not before `time`."""
        if not self._tops:
            block = self._blocks[0]
            return len(block) - bisect_left(block, time)
        place = bisect_left(self._tops, time)
        block = self._blocks[place]
        return len(block) - bisect_left(block, time) + sum(map(len, self._blocks[place + 1 :]))

    def _split(self, place: int) -> None:
        # Times mostly come at the end: a full last block stays full.
        block = self._blocks[place]
        half = len(block) // 2 if place < len(self._tops) else self.WIDTH
        self._blocks[place : place + 1] = [block[:half], block[half:]]
        self._tops.insert(place, block[half - 1])


def plain(number: int | Decimal) -> int | Decimal:
    """The same number in its one plain form: an int when whole, otherwise a Decimal without trailing zeros."""
    if isinstance(number, int):
        return number
    return int(number) if number == number.to_integral_value() else EXACT.normalize(number)


def _plus(one: Any, other: Any) -> Any:
    # `+` on Decimals rounds to the thread's precision of 28 digits without a word.
    return one + other if type(one) is int and type(other) is int else EXACT.add(one, other)


def _minus(one: Any, other: Any) -> Any:
    return one - other if type(one) is int and type(other) is int else EXACT.subtract(one, other)
