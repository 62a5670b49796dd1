"""A store on a server, with what groups of accounts are asked about, and sketches, beside it in the process's memory.

Links are searched step by step, which a server cannot do in one round trip without going through all of them; and what
approximate windows keep is small. So the links, the events that windows by a group count, and the sketches stay with
the process. An event is counted by the server first: its arrival is the one that counts here too. What the server did
not count is not counted here either, until both have it from the ledger.

Where several processes share the server, each has a copy of what is beside it: in the step that counts an event a
process hears, through the server, what the others counted before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from threading import RLock
from time import time_ns
from typing import Any

from engine.stores.contract import WHOLE, Answer, Series, Stamp, Store, StoreUnavailable, Touch
from engine.stores.links import answers_to
from engine.stores.memory import MemoryStore
from engine.stores.news import ADD, FORGET, KEPT, Arrived, News, read, written
from engine.stores.valkey import MARGIN, ValkeyStore


class SplitStore:
    """A Store (see `engine.stores.contract`) over another one, and one in memory for series that are `beside` it."""

    def __init__(
        self, shared: Store, cap: int | None = None, clock: Callable[[], int] = lambda: time_ns() // 1000
    ) -> None:
        self._shared = shared
        self._clock = clock
        self._server = shared if isinstance(shared, ValkeyStore) else None
        self._wire = self._server if self._server is not None and self._server.member else None
        """The way to other processes that share the server."""
        self._hearing = RLock()
        """What is heard is counted before anything that came later is."""
        self._heard_at = clock()
        """When all news were heard last."""
        self._run: tuple[bytes, str] = b"", ""
        if self._wire is not None:
            self._wire.listen(self._hear)
        self._own = MemoryStore(shared.lateness) if cap is None else MemoryStore(shared.lateness, cap)
        self._mine: dict[str, int] = {}
        """The series in memory by name, and how often each was declared."""
        self._sketched: set[str] = set()
        self._loaded: set[str] = set()
        self._missed: int | None = None
        """When the first event came that was not counted here, since all was loaded."""

    @property
    def lateness(self) -> int:
        return self._shared.lateness

    @property
    def failures(self) -> int:
        return self._shared.failures

    def declare(self, series: Iterable[Series]) -> None:
        series = list(series)
        mine = [one for one in series if one.beside]
        for one in mine:
            self._mine[one.name] = self._mine.get(one.name, 0) + 1
        self._sketched |= {one.name for one in mine if one.bucket}
        self._own.declare(mine)
        self._loaded = {name for name in self._loaded if self._own.warm(name) or self._missed is not None}
        if self._server is not None:
            self._server.reach(max((one.span for one in mine), default=0))
        self._shared.declare([one for one in series if not one.beside])

    def release(self, names: Iterable[str]) -> None:
        self._shared.release(self._let_go(names))

    def leave(self, names: Iterable[str]) -> None:
        self._shared.leave(self._let_go(names))

    def _let_go(self, names: Iterable[str]) -> list[str]:
        """Release what is here; the others."""
        mine, others = self._parted(names)
        self._own.release(mine)
        for name in mine:
            self._mine[name] -= 1
            if not self._mine[name]:
                del self._mine[name]
                self._loaded.discard(name)
        return others

    def observe(self, stamp: Stamp, touches: Sequence[Touch]) -> tuple[int, bool, list[Answer]]:
        mine, others = self._touched(touches)
        with self._hearing:
            arrival, added, theirs = self._counted(stamp, others, mine)
            if not mine:
                self._own.advance(stamp.tenant, stamp.at)
                return arrival, added, theirs
            _, _, ours = self._own.observe(Arrived(stamp.tenant, stamp.id, stamp.at, arrival), mine)
        given = {True: iter(ours), False: iter(theirs)}
        answers = [next(given[touch[0] in self._mine]) for touch in touches for _ in range(_answers(touch))]
        return arrival, added, answers

    def _counted(
        self, stamp: Stamp, touches: Sequence[Touch], beside: Sequence[Touch]
    ) -> tuple[int, bool, list[Answer]]:
        try:
            counted = self._shared.observe(stamp, touches, **self._note(stamp, beside))
        except StoreUnavailable:
            self._miss(stamp.arrival)
            raise
        self._look_at_run()
        return counted

    # What other processes count

    def _hear(self, tenant: str, newest: int, news: Sequence[News]) -> None:
        for one in news:
            event, touches = read(tenant, one)
            ours = [touch for touch in touches if touch[0] in self._mine]
            if one.what == ADD:
                self._own.add(event, ours)
            elif one.what == FORGET:
                self._own.forget(event, ours)
        self._own.advance(tenant, newest)

    def hear(self) -> None:
        """Hear all that other processes counted. Raises StoreUnavailable."""
        if self._wire is None:
            return
        now = self._clock()
        for tenant in self._wire.tenants():
            # Decisions wait for what is heard, but not for the server.
            news = self._wire.news(tenant)
            with self._hearing:
                self._wire.hear(tenant, news)
        if now - self._heard_at > KEPT / 2:
            self._miss(self._heard_at)  # Some of it may be there no more.
        self._heard_at = now
        self._look_at_run()

    def _look_at_run(self) -> None:
        """Notice that the server lost what it held: news that nobody heard may have been among it."""
        if self._wire is not None and self._wire.run != self._run:
            before, self._run = self._run, self._wire.run
            if before[0]:
                self._miss(self._heard_at)

    def miss(self, since: int) -> None:
        """Another process decided events without the store, the first one at this time."""
        if self._wire is not None:
            self._wire.miss(since)
        self._miss(since)

    def believe(self) -> None:
        """Another process, which was told of every event that this one decided, says that the server has all that was
        loaded. Raises StoreUnavailable."""
        if self._wire is not None:
            self._wire.believe()

    @property
    def missed(self) -> int | None:
        """When the first event was decided without the store, since the last loading began."""
        return self._wire.missed if self._wire is not None else self._missed

    @property
    def generation(self) -> str:
        """Under which name other processes find it; empty where they cannot."""
        return self._wire.generation if self._wire is not None else ""

    def _miss(self, since: int) -> None:
        self._missed = since if self._missed is None else min(self._missed, since)
        self._chill()

    # The rest

    def _chill(self) -> None:
        if self._missed is not None:
            self._own.chill(self._mine)
            self._loaded -= self._sketched

    def keep(self, stamp: Stamp) -> None:
        self._shared.keep(stamp)

    def forget(self, stamp: Stamp, touches: Sequence[Touch]) -> None:
        self._both(self._shared.forget, self._own.forget, stamp, touches)

    def add(self, stamp: Stamp, touches: Sequence[Touch]) -> None:
        self._both(self._shared.add, self._own.add, stamp, touches)

    def _both(
        self, shared: Callable[..., None], own: Callable[..., None], stamp: Stamp, touches: Sequence[Touch]
    ) -> None:
        mine, others = self._touched(touches)
        with self._hearing:  # What others told before comes before it.
            try:
                shared(stamp, others, **self._note(stamp, mine))
            finally:
                own(stamp, mine)

    def _note(self, stamp: Stamp, mine: Sequence[Touch]) -> dict[str, Any]:
        """What other processes are told, as the shared store takes it; nothing where there are none."""
        return {} if self._wire is None else {"note": written(stamp, mine)}

    def load(
        self, events: Iterable[tuple[Stamp, Sequence[Touch]]], names: Collection[str], since: int | None = None
    ) -> None:
        mine, others = self._parted(names)
        self._look_at_run()
        missed, self._missed = self._missed, None  # What is missed from now on may not be among the events.
        kept: list[tuple[Stamp, Sequence[Touch]]] = []

        def passing() -> Iterator[tuple[Stamp, Sequence[Touch]]]:
            for stamp, touches in events:
                ours, theirs = self._touched(touches)
                self._own.advance(stamp.tenant, stamp.at)
                if ours and mine:
                    kept.append((stamp, ours))
                yield stamp, theirs

        try:
            if others or self._wire is not None:  # Which events there are, each process must know.
                self._shared.load(passing(), others, since)
            for _ in passing():
                pass  # What the shared store did not take, or all of it where it needs nothing.
            self._own.load(kept, mine, since)
        except BaseException:
            self._missed = self._missed if missed is None else missed  # The earlier one: that is still to be loaded.
            raise
        self._loaded.update(mine)
        self._look_at_run()
        self._chill()

    def warm(self, name: str) -> bool:
        return self._own.warm(name) if name in self._mine else self._shared.warm(name)

    def since(self, names: Collection[str]) -> int | None:
        mine, others = self._parted(names)
        found = [self._shared.since(others)] if others else []
        if mine:
            missed = self._missed if self._loaded.issuperset(mine) else None
            found.append(None if missed is None else missed - MARGIN)
        return None if None in found else min(one for one in found if one is not None)

    def tend(self) -> None:
        self._shared.tend()

    def _touched(self, touches: Sequence[Touch]) -> tuple[list[Touch], list[Touch]]:
        """What is here, and what is on the server."""
        mine = self._mine
        return [touch for touch in touches if touch[0] in mine], [touch for touch in touches if touch[0] not in mine]

    def _parted(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        names = list(names)
        return [name for name in names if name in self._mine], [name for name in names if name not in self._mine]


def _answers(touch: Touch) -> int:
    """How many answers a touch gets."""
    frames: Sequence[Any] = touch[3]
    if touch[1] == WHOLE:
        return sum(map(answers_to, frames))
    return sum(len(questions) for _, _, questions in frames)
