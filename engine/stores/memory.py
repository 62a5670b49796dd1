"""The store in memory: tenants, series and keys, in generations."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

from engine.garbage import uncollected
from engine.stores.buckets import Loading, Sketched
from engine.stores.columns import NEVER
from engine.stores.contract import (
    CAP,
    DAY,
    HOUR,
    LATENESS,
    LINKS,
    PIECE,
    WHOLE,
    Answer,
    Ask,
    Frame,
    Gap,
    Series,
    Stamp,
    Tie,
    Touch,
    Values,
)
from engine.stores.generations import Generations
from engine.stores.inorder import Step, step
from engine.stores.lines import Few, Frozen, Line, Row, moment
from engine.stores.links import Graph, answers_to
from engine.stores.together import together


class Ids(NamedTuple):
    """The arrivals of a tenant's events of one hour (since 1970), by their ids."""

    tenant: str
    hour: int
    arrivals: Mapping[str, int]


class Lines(NamedTuple):
    """Some keys of a tenant's series."""

    tenant: str
    series: str
    keys: Sequence[Frozen]


class Clocks(NamedTuple):
    """The newest time of each tenant, also where the event that had it was forgotten: what it put out of reach went."""

    newest: Mapping[str, int]


Piece: TypeAlias = Ids | Lines | Clocks
STEPS = 64
"""Most questions of one series whose function is kept at hand."""
LATE = 10_000
"""Most events of a key that may be later than a late one: to move more would keep all others waiting for milliseconds.
Before more, it is not let in, and what reaches back to it is unknown."""


class MemoryStore:
    """A Store in this process's memory. Threads may share it.

    An in-order event costs the same whatever its keys hold. A late one costs in addition what moving the later
    events of its keys costs, up to a limit (`LATE`): Gap.CAPPED beyond. A key without a new event is dropped after at
    most twice the span and lateness.
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

    @property
    def failures(self) -> int:
        return 0

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

    def leave(self, names: Iterable[str]) -> None:
        self.release(names)

    def release(self, names: Iterable[str]) -> None:
        with self._lock:
            for name in names:
                self._holders[name] -= 1
                if not self._holders[name]:
                    del self._holders[name], self._series[name]
                    self._warm.discard(name)
                    for room in self._rooms.values():
                        room.shelves.pop(name, None)
                        room.graphs.pop(name, None)
                        room.sketches.pop(name, None)

    def warm(self, name: str) -> bool:
        return name in self._warm

    def chill(self, names: Iterable[str]) -> None:
        """These series miss some events: they are not warm before those are loaded; approximate ones need all again."""
        with self._lock:
            self._warm.difference_update(names)
            for room in self._rooms.values():
                for name in names:
                    room.sketches.pop(name, None)

    def since(self, _: Collection[str]) -> None:
        return None

    def tend(self) -> None:
        """Nothing: memory is neither lost nor away."""

    def observe(self, stamp: Stamp, touches: Sequence[Touch]) -> tuple[int, bool, list[Answer]]:
        at, cap, warm = stamp.at, self._cap, self._warm
        answers: list[Answer] = []
        with self._lock:
            room = self._rooms.get(stamp.tenant) or self._room(stamp.tenant)
            arrival, new = room.enter(stamp)
            clock = room.clock
            late = at < clock - self._lateness
            usual = new and not late
            for name, key, values, frames, own in touches:
                if key == WHOLE:
                    gap = Gap.TOO_LATE if late else None if name in warm else Gap.NOT_WARM
                    answers += room.linked(self._series[name], at, arrival, values if new else None, frames, gap, cap)
                    continue
                shelf = room.shelves.get(name)
                if shelf is None:
                    series = self._series[name]
                    if series.bucket:
                        sketched = room.sketched(series, self._warm)
                        answers += sketched.observe(key, at, arrival, values, frames, own, new, late, clock)
                        continue
                    shelf = room.shelf(series)
                line = shelf.new.get(key)
                if usual and type(line) is Line and name in warm:
                    known = shelf.steps.get(id(frames))
                    made = known[1] if known is not None and known[0] is frames else shelf.step(frames)
                    if made(line, at, arrival, values, cap, own, answers):
                        continue
                if values is not None and new and at >= clock - shelf.reach:
                    line, place, including = shelf.put(key, line, at, arrival, values, clock, cap)
                else:
                    if line is None:
                        line = shelf.old.get(key) or shelf.nothing
                    place, including = line.ends(at, arrival)
                if late or name not in warm:
                    gap = Gap.TOO_LATE if name in warm else Gap.NOT_WARM
                    answers += [gap for _, _, questions in frames for _ in questions]
                else:
                    line.read(frames, at, place, including, cap, own, answers)
        return arrival, new, answers

    def keep(self, _: Stamp) -> None:
        """Nothing: what dies with the process needs no mark."""

    def advance(self, tenant: str, at: int) -> None:
        """A tenant had an event at this time that concerns no series here: what is late, is late by it too."""
        with self._lock:
            room = self._rooms.get(tenant) or self._room(tenant)
            room.clock = max(room.clock, at)

    def forget(self, stamp: Stamp, touches: Sequence[Touch]) -> None:
        with self._lock:
            room = self._rooms.get(stamp.tenant)
            if room is None or not room.leave(stamp):
                return
            for name, key, values, _, _ in touches:
                if key == WHOLE:
                    room.untie(name, stamp, values)
                    continue
                if values is None:
                    continue
                if name in room.shelves:
                    room.shelves[name].take(key, stamp.at, stamp.arrival)
                elif name in room.sketches:
                    room.sketches[name].take(key, stamp.arrival)

    def add(self, stamp: Stamp, touches: Sequence[Touch]) -> None:
        self._load([(stamp, touches)], {touch[0] for touch in touches}, whole=False)

    def load(
        self, events: Iterable[tuple[Stamp, Sequence[Touch]]], names: Collection[str], since: int | None = None
    ) -> None:
        with uncollected():
            self._load(events, names, whole=since is None)
            self._warm.update(names)

    def _load(self, events: Iterable[tuple[Stamp, Sequence[Touch]]], names: Collection[str], *, whole: bool) -> None:
        """`whole`: all that the series can hold, so that sketches know which events they have counted already."""
        pending: dict[tuple[str, str], dict[str, list[Any]]] = {}
        loading = Loading([self._series[name] for name in names if self._series[name].bucket])
        twice = False
        for stamp, touches in events:
            with self._lock:
                room = self._rooms.get(stamp.tenant) or self._room(stamp.tenant)
                if room.unreachable(stamp.at):
                    continue
                row_arrival, new = room.enter(stamp, given=True)
            # Known already, perhaps because it was observed while we read: one event, one arrival.
            twice = twice or not new
            row_at = stamp.at
            if loading.series and (new or whole):
                loading.add(stamp.tenant, row_at, row_arrival, touches, room.clock - self._lateness)
            for name, key, values, _, _ in touches:
                if values is not None and name in names and name not in loading.series:
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
                if WHOLE in keys:
                    room.graph(self._series[name]).fill(keys[WHOLE], room.clock)
                    continue
                shelf = room.shelves.get(name) or room.shelf(self._series[name])
                shelf.fill(keys, room.clock, self._cap, twice)
            for (tenant, name), lines in loading.lines.items():
                room = self._rooms[tenant]
                sketched = room.sketched(self._series[name], self._warm)
                sketched.absorb(lines, loading.seen[tenant], room.clock)

    # What snapshots are made of

    @property
    def cap(self) -> int:
        """Most events of one key that a window counts."""
        return self._cap

    @property
    def held(self) -> list[Series]:
        """The series that are warm. Approximate ones are not among them: of those the events are gone, so that nobody
        could take out the ones that a snapshot must not hold."""
        with self._lock:
            return [one for name, one in self._series.items() if name in self._warm and not one.bucket]

    def pieces(self, names: Collection[str]) -> Iterator[Piece]:
        """All that these series hold, and the ids, piece by piece.

        Events may come and go meanwhile, and be in some pieces and not in others. Every event is there that was
        added before and is not forgotten, unless no question reaches it any more.
        """
        with self._lock:
            rooms = [(tenant, room, room.hours()) for tenant, room in self._rooms.items()]
        for tenant, room, hours in rooms:
            for hour in hours:
                with self._lock:
                    arrivals = room.arrivals(hour)
                yield Ids(tenant, hour, arrivals)
            for name in names:
                with self._lock:
                    holder = room.holder(self._series[name])
                    keys: Any = holder.keys()
                place = 0
                while place < len(keys):
                    with self._lock:
                        held, place = holder.frozen(keys, place)
                    yield Lines(tenant, name, held)
        with self._lock:
            clocks = {tenant: room.clock for tenant, room in self._rooms.items()}
        yield Clocks(clocks)

    def adopt(self, pieces: Iterable[Piece], names: Collection[str]) -> None:
        """Put all pieces of another store into these series, on top of what they hold. They are warm once what came
        later is loaded."""
        with uncollected():
            for piece in pieces:
                with self._lock:
                    self._adopt(piece, names)

    def _adopt(self, piece: Piece, names: Collection[str]) -> None:
        if isinstance(piece, Clocks):
            for tenant, clock in piece.newest.items():
                room = self._rooms.get(tenant) or self._room(tenant)
                room.clock = max(room.clock, clock)
            return
        room = self._rooms.get(piece.tenant) or self._room(piece.tenant)
        if isinstance(piece, Ids):
            room.know(piece.hour, piece.arrivals)
        elif piece.series in names:
            holder = room.holder(self._series[piece.series])
            if isinstance(holder, Graph):
                holder.adopt(piece.keys, room.clock)
            else:
                holder.adopt(piece.keys, room.clock, self._cap)

    def _room(self, tenant: str) -> _Room:
        room = self._rooms[tenant] = _Room(self._lateness, self._series.values())
        return room


class _Room:
    """What one tenant has: its newest event time, the ids that were added, and a shelf per series."""

    __slots__ = ("_ids", "_last", "_lateness", "_longest", "_midnight", "clock", "graphs", "shelves", "sketches")

    def __init__(self, lateness: int, series: Iterable[Series]) -> None:
        self.clock = NEVER
        self._last = NEVER
        """The newest arrival."""
        self.shelves: dict[str, _Shelf] = {}
        self.graphs: dict[str, Graph] = {}
        self.sketches: dict[str, Sketched] = {}
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
        if series.name in self.graphs:
            self.graphs[series.name].reach = series.span + self._lateness

    def shelf(self, series: Series) -> _Shelf:
        shelf = self.shelves[series.name] = _Shelf(series.columns, series.span + self._lateness)
        return shelf

    def sketched(self, series: Series, warm: Collection[str]) -> Sketched:
        """The lines of an approximate series, which is warm once its name is in `warm`."""
        lines = self.sketches.get(series.name)
        if lines is None:
            lines = self.sketches[series.name] = Sketched(series, series.span + self._lateness, warm)
        return lines

    def graph(self, series: Series) -> Graph:
        graph = self.graphs.get(series.name)
        if graph is None:
            graph = self.graphs[series.name] = Graph(series.span + self._lateness, self._lateness)
        return graph

    def holder(self, series: Series) -> _Shelf | Graph:
        """What has the events of a series that is exact."""
        if series.columns == (LINKS,):
            return self.graph(series)
        return self.shelves.get(series.name) or self.shelf(series)

    def linked(
        self,
        series: Series,
        at: int,
        arrival: int,
        ties: Sequence[Tie] | None,
        asks: Sequence[Ask],
        gap: Gap | None,
        cap: int,
    ) -> list[Answer]:
        """Add the ties of an event to a series of links, and answer what is asked of it."""
        graph = self.graph(series)
        if ties is not None and at >= self.clock - graph.reach:
            graph.add(at, arrival, ties, self.clock)

        def lines(ask: Ask, names: Sequence[str]) -> list[Answer]:
            return together(self._lines(ask, names), ask.frames, at, arrival, cap)

        return graph.ask(asks, at, arrival, lines) if gap is None else [gap] * sum(map(answers_to, asks))

    def untie(self, name: str, stamp: Stamp, ties: Any) -> None:
        """Take an event out of a series of links."""
        if name in self.graphs and ties is not None:
            self.graphs[name].remove(stamp.at, stamp.arrival, ties)

    def _lines(self, ask: Ask, names: Sequence[str]) -> list[Few | Line]:
        """The lines that accounts have in a series."""
        shelf = self.shelves.get(ask.series)
        if shelf is None:
            return []
        before, behind = ask.key or ("", "")
        keys = names if ask.key is None else [f"{before}{len(name)}:{name}{behind}" for name in names]
        found = (shelf.new.get(key) or shelf.old.get(key) for key in keys)
        return [line for line in found if line is not None]

    def unreachable(self, at: int) -> bool:
        """Whether an event is so late that no question reaches it."""
        return at < self.clock - self._longest - self._lateness

    def enter(self, stamp: Stamp, *, given: bool = False) -> tuple[int, bool]:
        """Note the event: its arrival, and whether it is new. One that has its arrival already keeps it (`given`)."""
        at, arrival = stamp.at, stamp.arrival
        ids = self._ids.get(at // HOUR)
        known = None if ids is None else ids.get(stamp.id)
        if known is not None:
            return known, False
        if arrival > self._last:
            self._last = arrival
        elif not given:
            arrival = self._last = self._last + 1
        if ids is None:
            if self.unreachable(at):
                return arrival, False  # As good as added.
            ids = self._ids[at // HOUR] = {}
        if at > self.clock:
            self.clock = at
            if at >= self._midnight:
                self._sweep()
        ids[stamp.id] = arrival
        return arrival, True

    def leave(self, stamp: Stamp) -> bool:
        """Undo `enter`; False when another arrival, or nothing, was noted."""
        ids = self._ids.get(stamp.at // HOUR)
        if ids is None or ids.get(stamp.id) != stamp.arrival:
            return False
        del ids[stamp.id]
        return True

    def hours(self) -> list[int]:
        """The hours of which ids are noted."""
        return list(self._ids)

    def arrivals(self, hour: int) -> dict[str, int]:
        """A copy of the arrivals by id of one hour."""
        return self._ids.get(hour, {}).copy()

    def know(self, hour: int, arrivals: Mapping[str, int]) -> None:
        """Note events of an hour. Of one that is noted already the arrival stays."""
        self._last = max(self._last, max(arrivals.values(), default=NEVER))
        if (hour + 1) * HOUR > self.clock - self._longest - self._lateness:
            self._ids[hour] = {**arrivals, **self._ids.get(hour, {})}

    def _sweep(self) -> None:
        """Once a day: drop the ids that no question reaches."""
        self._midnight = (self.clock // DAY + 1) * DAY
        oldest = (self.clock - self._longest - self._lateness) // HOUR
        for hour in [hour for hour in self._ids if hour < oldest]:
            del self._ids[hour]


class _Shelf(Generations[Few | Line]):
    """The lines of one series, by key."""

    __slots__ = ("_columns", "nothing", "steps")

    def __init__(self, columns: tuple[str, ...], reach: int) -> None:
        super().__init__(reach)
        self.nothing = Few()
        self.steps: dict[int, tuple[Sequence[Frame], Step]] = {}
        """By the identity of the questions, which a plan makes once: their hash would take as long as their answers."""
        self._columns = columns

    def step(self, frames: Sequence[Frame]) -> Step:
        """What an event of the usual sort does to a long line."""
        if len(self.steps) >= STEPS:  # Of plans that are no more.
            self.steps.clear()
        made = step(self._columns, tuple(frames))
        self.steps[id(frames)] = frames, made
        return made

    def blank(self) -> Few:
        return Few()

    def keys(self) -> list[str]:
        """The keys that may hold what a question reaches."""
        return [*self.new, *self.old]

    def frozen(self, keys: Sequence[str], place: int) -> tuple[list[Frozen], int]:
        """Copies of the lines of some keys from a place on, and the place behind them."""
        found, size, end = [], 0, min(len(keys), place + PIECE)
        while place < end and size < PIECE:
            key = keys[place]
            line = self.new.get(key, self.old.get(key))
            if line is not None:
                found.append((key, line.frozen(), line.lost))
                size += len(line)
            place += 1
        return found, place

    def adopt(self, keys: Sequence[Frozen], clock: int, cap: int) -> None:
        """Put lines of another shelf on top of what is here."""
        given = ((key, frozen()) for key, frozen, _ in keys)
        self.fill({key: list(rows) for key, rows in given if rows}, clock, cap, False)
        for key, _, lost in keys:
            if lost != NEVER and lost >= clock - self.reach:
                line = self.make(key, clock)
                if type(line) is Few:
                    line = self.new[key] = self._grown(line)
                line.lost = max(line.lost, lost)

    def put(
        self, key: str, line: Few | Line | None, at: int, arrival: int, values: Values, clock: int, cap: int
    ) -> tuple[Few | Line, int, int]:
        """Put an event into the line of a key, which has one yet or none: its line then, and how many events are before
        it, without and with the event itself."""
        if line is None:
            line = self.make(key, clock)
        if type(line) is Line and line.later(at) > LATE:
            line.lost = max(line.lost, at)
            return line, *line.ends(at, arrival)
        place = line.add(at, arrival, values)
        if len(line) > line.due:
            line, gone = self.tidy(key, line, clock, cap)
            place -= gone
        return line, place, place + 1

    def take(self, key: str, at: int, arrival: int) -> None:
        """Take one event out; a line that is then as good as new goes with it."""
        for generation in (self.new, self.old):
            if key in generation:
                line = generation[key]
                line.remove(at, arrival)
                if not len(line) and line.lost == NEVER:
                    del generation[key]

    def tidy(self, key: str, line: Few | Line, clock: int, cap: int) -> tuple[Few | Line, int]:
        """Drop what no question reaches from a line of the new generation, and give one that holds more than a few
        its arrays: the line that then has the key, and how many events went."""
        gone = line.trim(clock - self.reach, cap)
        if type(line) is Few and len(line) > line.due // 2:
            line = self.new[key] = self._grown(line)
            gone += line.trim(clock - self.reach, cap)
        return line, gone

    def _grown(self, few: Few) -> Line:
        line = Line(self._columns)
        line.fill(few.events)
        return line

    def fill(self, keys: dict[str, list[Row]], clock: int, cap: int, twice: bool) -> None:
        """Many events at once. `twice`: some may be in the lines, or among the rows, already."""
        horizon = clock - self.reach
        for key, rows in keys.items():
            # Arrivals differ, so that values are not compared, unless an event is there twice.
            rows.sort(key=moment if twice else None)
            if rows[-1][0] < horizon:
                continue
            line = self.make(key, clock)
            if type(line) is Few and len(line) + len(rows) > line.due:
                line = self.new[key] = self._grown(line)
            if twice or len(line):
                for row in rows:
                    line.add(*row)
            else:
                line.fill(rows)
            line.trim(horizon, cap)
