"""The events of one key of an approximate series: buckets of time, of which sketches are kept and no events.

Time is cut into buckets of `width` µs from 1970 on. A reading at `at` holds the buckets from the one of `at - length`
to that of `at`, both whole, as far as they were added: so a window begins up to one bucket early, never late, and what
it holds is a function of the set of events, whatever order they came in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from engine.stores.columns import NEVER
from engine.stores.contract import COUNT, DISTINCT, Answer, Frame, Gap, Series, Touch, Values
from engine.stores.generations import Generations
from engine.stores.sketches import SKETCHES, Sketch

RECENT = 2_000
"""So many events of a key, the last ones added, can be forgotten: more are never on their way into the ledger."""
TOGETHER = 250
"""Events that go into sketches at once: few enough that nobody waits for it."""
_LEAST = 32

Marks: TypeAlias = tuple[Any, ...]
Added: TypeAlias = tuple[int, int, Marks]
"""The arrival of an event, its bucket, and what it comes to in each column."""
Parts: TypeAlias = "dict[int, Summary]"
"""What the events of each bucket come to."""


class Summary:
    """How many events there are, and a sketch of each column."""

    __slots__ = ("count", "sketches")

    def __init__(self, kinds: Sequence[type[Sketch]]) -> None:
        self.count = 0
        self.sketches = [kind() for kind in kinds]

    def add(self, marks: Marks) -> None:
        self.count += 1
        for sketch, mark in zip(self.sketches, marks, strict=True):
            if mark is not None:
                sketch.add(mark)

    def merge(self, other: Summary) -> None:
        self.count += other.count
        for sketch, more in zip(self.sketches, other.sketches, strict=True):
            sketch.merge(more)

    def answers(self, questions: Iterable[tuple[str, int]], own: Marks | None) -> list[Answer]:
        """`own` are the marks of the event that asks."""
        return [
            self.count
            if what == COUNT
            else self.sketches[column].answer(what, own and own[column])
            if self.count
            else (0 if what == DISTINCT else None)
            for what, column in questions
        ]


class _Sealed(NamedTuple):
    """Some of the last events that were added, and what they come to: kept apart, so that they can be forgotten."""

    rows: list[Added]
    parts: Parts


class Buckets:
    """One key of an approximate series.

    The newest events are kept as they are, the last RECENT before them in stacks of TOGETHER, and all others as their
    buckets alone. The summary of the window that was read last is kept as well; events in their order are added to it,
    and only a new bucket makes it anew.
    """

    __slots__ = ("_due", "_first", "_kinds", "_last", "_parts", "_rows", "_sealed", "_summary", "_width")

    def __init__(self, columns: Sequence[str], width: int) -> None:
        self._kinds = [SKETCHES[holds] for holds in columns]
        self._width = width
        self._parts: Parts = {}
        self._sealed: list[_Sealed] = []
        self._rows: list[Added] = []
        self._due = _LEAST
        self._first = self._last = NEVER
        self._summary: Summary | None = None

    def __len__(self) -> int:
        """How many rows and summaries are kept; 0 when nothing is."""
        return len(self._parts) + len(self._rows) + sum(len(rows) + len(parts) for rows, parts in self._sealed)

    def read(self, frame: Frame, at: int, own: Values | None, without: int = NEVER) -> list[Answer]:
        """Answer as of now, at a time; `without` the event of that arrival, where it is one of the last."""
        length, _, questions = frame
        last = at // self._width
        held = self._held((at - length) // self._width, last, without)
        return held.answers(questions, None if own is None else self._marks(own))

    def _held(self, first: int, last: int, without: int) -> Summary:
        if without != NEVER:
            return self._made(first, last, without)
        if (first, last) == (self._first, self._last) and self._summary is not None:
            return self._summary
        made = self._made(first, last, NEVER)
        if last >= self._last:  # A late event must not cost the ones after it their summary.
            self._first, self._last, self._summary = first, last, made
        return made

    def _made(self, first: int, last: int, without: int) -> Summary:
        made = Summary(self._kinds)
        rows, parts = [self._rows], [self._parts]
        for sealed in self._sealed:
            if without != NEVER and any(arrival == without for arrival, _, _ in sealed.rows):
                rows.append(sealed.rows)
            else:
                parts.append(sealed.parts)
        for each in parts:
            for bucket, part in each.items():
                if first <= bucket <= last:
                    made.merge(part)
        for arrival, bucket, marks in chain.from_iterable(rows):
            if first <= bucket <= last and arrival != without:
                made.add(marks)
        return made

    def _marks(self, values: Values) -> Marks:
        pairs = zip(self._kinds, values, strict=True)
        return tuple([None if value is None else kind.mark(value) for kind, value in pairs])

    def add(self, at: int, arrival: int, values: Values) -> None:
        """Add an event that is not there."""
        bucket, marks = at // self._width, self._marks(values)
        self._rows.append((arrival, bucket, marks))
        if self._summary is not None and self._first <= bucket <= self._last:
            self._summary.add(marks)

    def remove(self, arrival: int) -> None:
        """Take an event out that is one of the last RECENT; nothing if it is not there. Older ones stay counted."""
        for place, (rows, parts) in enumerate([_Sealed(self._rows, {}), *reversed(self._sealed)]):
            for number, (other, bucket, _) in enumerate(rows):
                if other == arrival:
                    del rows[number]
                    if place:
                        parts[bucket] = Summary(self._kinds)
                        for _, same, marks in rows:
                            if same == bucket:
                                parts[bucket].add(marks)
                    self._summary = None
                    return

    def _parts_of(self, rows: Iterable[Added]) -> Parts:
        parts: Parts = {}
        for _, bucket, marks in rows:
            part = parts.get(bucket)
            if part is None:
                part = parts[bucket] = Summary(self._kinds)
            part.add(marks)
        return parts

    def tidy(self, horizon: int, seal: bool) -> None:
        """Drop what is before the horizon; `seal`: put events into their buckets once there are many."""
        if len(self._rows) < self._due:
            return
        oldest = horizon // self._width
        self._rows = [row for row in self._rows if row[1] >= oldest]
        if seal and len(self._rows) >= TOGETHER:
            self._seal(oldest)
        size = len(self._rows)
        self._due = size + max(_LEAST, size // 4)
        if seal:
            self._due = min(self._due, TOGETHER)

    def _seal(self, oldest: int) -> None:
        while len(self._rows) >= TOGETHER:
            rows, self._rows = self._rows[:TOGETHER], self._rows[TOGETHER:]
            self._sealed.append(_Sealed(rows, self._parts_of(rows)))
        while len(self._sealed) > RECENT // TOGETHER:
            _, parts = self._sealed.pop(0)
            _merge(self._parts, parts)
        self._sealed = [sealed for sealed in self._sealed if max(sealed.parts) >= oldest]
        self._parts = {bucket: part for bucket, part in self._parts.items() if bucket >= oldest}

    def absorb(self, other: Buckets, seen: Collection[int]) -> None:
        """Add what another one holds. Of its events in these arrivals, those that are rows here are the same."""
        self._rows = other._rows + [row for row in self._rows if row[0] not in seen]
        self._sealed = other._sealed + self._sealed
        _merge(self._parts, other._parts)
        self._summary = None


def _merge(parts: Parts, more: Parts) -> None:
    for bucket, part in more.items():
        if bucket in parts:
            parts[bucket].merge(part)
        else:
            parts[bucket] = part


class Sketched(Generations[Buckets]):
    """The lines of an approximate series, by key. `warm` has its name once its history is loaded."""

    __slots__ = ("_nothing", "_series", "_warm")

    def __init__(self, series: Series, reach: int, warm: Collection[str]) -> None:
        super().__init__(reach)
        self._series = series
        self._warm = warm
        self._nothing = self.blank()

    def blank(self) -> Buckets:
        return Buckets(self._series.columns, self._series.bucket)

    def observe(
        self,
        key: str,
        at: int,
        arrival: int,
        values: Values | None,
        frames: Sequence[Frame],
        own: Values | None,
        new: bool,
        late: bool,
        clock: int,
    ) -> list[Answer]:
        """Add an event that is `new`, and answer: without the event itself, unless a frame says so."""
        line = self.new.get(key) or self.old.get(key) or self._nothing
        without = NEVER if new else arrival
        found = {frame: line.read(frame, at, own, without) for frame in frames if not frame[1] and not late}
        if new and values is not None and at >= clock - self.reach:
            line = self.make(key, clock)
            line.add(at, arrival, values)
            # Before the history is there nobody can say which of these events it will hold again.
            line.tidy(clock - self.reach, seal=self._series.name in self._warm)
        if late or self._series.name not in self._warm:
            gap = Gap.TOO_LATE if late else Gap.NOT_WARM
            return [gap for _, _, questions in frames for _ in questions]
        found |= {frame: line.read(frame, at, own) for frame in frames if frame[1]}
        return [answer for frame in frames for answer in found[frame]]

    def take(self, key: str, arrival: int) -> None:
        """Take one event out; a line that is then as good as new goes with it."""
        for generation in (self.new, self.old):
            if key in generation:
                generation[key].remove(arrival)
                if not generation[key]:
                    del generation[key]

    def absorb(self, lines: Mapping[str, Buckets], seen: Collection[int], clock: int) -> None:
        """Add what a history has. Of the events in the arrivals `seen`, those that are here are the same."""
        for key, loaded in lines.items():
            line = self.make(key, clock)
            line.absorb(loaded, seen)
            line.tidy(clock - self.reach, seal=True)


class Loading:
    """What a history has for approximate series: it is put together beside them, so that one that ends half-way has
    changed nothing, and one that has an event twice counts it once."""

    def __init__(self, series: Iterable[Series]) -> None:
        self.series = {one.name: one for one in series}
        self.lines: dict[tuple[str, str], dict[str, Buckets]] = {}
        self.seen: dict[str, set[int]] = {}
        """By tenant, the arrivals."""

    def add(self, tenant: str, at: int, arrival: int, touches: Sequence[Touch], oldest: int) -> None:
        """Count an event. No question is asked as of a time before `oldest`."""
        seen = self.seen.setdefault(tenant, set())
        if arrival in seen:
            return
        seen.add(arrival)
        for name, key, values, _, _ in touches:
            series = self.series.get(name)
            if values is None or series is None or at < oldest - series.span:
                continue
            lines = self.lines.setdefault((tenant, name), {})
            line = lines.get(key)
            if line is None:
                line = lines[key] = Buckets(series.columns, series.bucket)
            line.add(at, arrival, values)
            line.tidy(oldest - series.span, seal=True)
