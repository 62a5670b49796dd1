"""The windows that decisions read: rebuilt from the ledger where they lack something, shared, put on disk.

warmth = Warmth(store, intake, ledger, team, clock, snapshots)
await warmth.keep_warm(last)            for ever, beside everything else
await warmth.restore(features)          the history of windows that are not in force yet
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import structlog

from engine.errors import Unavailable
from engine.features import Features
from engine.intake import SETTLE, Clock, Intake, Live, facts_of
from engine.ledger import Fact, Ledger
from engine.recall import reach, recall
from engine.snapshots import Snapshots
from engine.stores import MemoryStore, SplitStore, Store, StoreUnavailable
from engine.team import Team

RETRY_SECONDS = 2
"""After so long a warm-up that failed is tried again."""
TEND_SECONDS = 0.5
"""How often the store is looked after: a decision waits for one that is away at most once in between."""

SNAPSHOT_SECONDS = 600
"""From one snapshot of the windows to the next: what came after the last one is read from the ledger at a start."""
SNAPSHOT_PAUSE = 0.002
"""Seconds that the writer of a snapshot rests after each piece, which it takes one or two milliseconds to write."""

REBUILDING = "the windows are being rebuilt from the ledger"

WARM, MISSED = "warm", "missed"
"""The turn of who rebuilds windows that processes share; and what others are told: from when on events were decided
without the store."""

log = structlog.get_logger("arbiter")


class Warmth:
    """Keeps the windows whole. `busy` is held by whoever rebuilds them, or switches to others."""

    def __init__(
        self, store: Store, intake: Intake, ledger: Ledger, team: Team, clock: Clock, snapshots: Snapshots | None
    ) -> None:
        self.store = store
        self.busy = asyncio.Lock()
        self._incoming: Store | None = None
        """What events are counted in beside the store in force, on the way to another rulebook."""
        self._intake = intake
        self._ledger = ledger
        self._team = team
        self._clock = clock
        self._snapshots = snapshots
        self._problem = REBUILDING
        self._told: int | None = None
        """From when on the other processes know that this one decided events without the store."""
        if team.size > 1:
            intake.untold = self._untold
        team.on(MISSED, self._miss)

    def reasons(self) -> list[str]:
        """Why windows are not as they should be."""
        lost = "" if self._intake.live.features.ready else REBUILDING
        return [problem] if (problem := self._problem or lost) else []

    # On the way to another rulebook

    def prepare(self, store: Store, features: Features) -> None:
        """From now on every event is counted in these windows, too, where their store is another one."""
        if store is not self.store:
            self._incoming, self._intake.following = store, features

    def settle_on(self, store: Store) -> None:
        """From now on this is the store in force, and the only one."""
        self.store = store
        self._incoming = self._intake.following = None

    async def settled(self) -> None:
        """Every event that was under way in any process has its answer."""
        await self._intake.settled()
        await self._team.tell(SETTLE)

    # From the ledger

    async def keep_warm(self, last: int) -> None:
        """Rebuild windows, breakers and review queues from the ledger; then look after the store, and rebuild what it
        loses or misses. Whatever fails is tried again.

        `last` is the last entry (`Fact.arrival`) from before the start: later ones are counted as they come.
        """
        recalled = False
        while True:
            pause = TEND_SECONDS
            try:
                async with self.busy:
                    if not recalled:
                        await self.recall(self._intake.live, last)
                        recalled = True
                    await self._warm()
                self._problem = ""
            except Unavailable as error:
                problem = f"the windows cannot be rebuilt yet: {error}"
                if problem != self._problem:
                    log.warning("warm_up_failed", reason=str(error))
                self._problem, pause = problem, RETRY_SECONDS
            await asyncio.sleep(pause)

    async def _warm(self) -> None:
        """See that every window has its history."""
        features = self._intake.live.features
        await asyncio.to_thread(self.store.tend)
        await self._tell_missed()
        if not features.ready:
            async with self._team.turn(WARM):
                await self._rebuild(features)

    async def _rebuild(self, features: Features) -> None:
        # What was counted and is not committed yet is not in the ledger, and perhaps no more in the store.
        await self.settled()
        await asyncio.to_thread(self.store.tend)
        if not features.ready and self._snapshots is not None and isinstance(self.store, MemoryStore):
            await self._snapshots.load(features, self.store)
        if not features.ready:
            await self.restore(features)

    async def restore(self, features: Features) -> None:
        """Give windows all that they lack. Raises Unavailable."""
        lacking = features.since
        since = max(self._clock() - features.history, lacking or 0)

        def load(facts: Iterator[Fact]) -> None:
            features.restore((facts_of(fact.tenant, fact.leaf, fact.keys) for fact in facts), lacking)

        await self._read(since, load)

    async def recall(self, live: Live, last: int | None = None) -> None:
        """Count for breakers and review queues what was decided up to the entry `last`, or up to now."""
        span, now = reach(live), self._clock()

        def count(facts: Iterator[Fact]) -> None:
            recall(live, (fact for fact in facts if last is None or fact.arrival <= last), now)

        if span:
            await self._read(now - span, count)

    async def _read(self, since: int, work: Callable[[Iterator[Fact]], None]) -> None:
        """Let `work` go through the ledger in a thread, a page at a time, as a ledger may be larger than memory.

        Cancelled, it waits until the thread has let go of the ledger.
        """
        loop, pages, given_up = asyncio.get_running_loop(), self._ledger.facts(since), False

        async def following() -> list[Fact]:
            if given_up:
                raise Unavailable("nobody waits for it any more", "given_up")
            return await anext(pages, [])

        def facts() -> Iterator[Fact]:
            while page := asyncio.run_coroutine_threadsafe(following(), loop).result():
                yield from page

        done = asyncio.ensure_future(asyncio.to_thread(work, facts()))
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError:
            given_up = True
            with suppress(Unavailable):
                await done
            raise

    # Other processes

    async def keep_hearing(self) -> None:
        """Hear what other processes count, also while none of the own events comes and while windows are rebuilt."""
        while True:
            await asyncio.sleep(TEND_SECONDS)
            for store in self._shared():
                with suppress(StoreUnavailable):
                    await asyncio.to_thread(store.hear)

    def _missed(self) -> int | None:
        return self.store.missed if isinstance(self.store, SplitStore) else None

    def _untold(self) -> Awaitable[None] | None:
        missed = self._missed()
        return None if missed is None or missed == self._told else self._tell_missed()

    async def _tell_missed(self) -> None:
        """Let the other processes know that the store lacks events which this one decided without it: before it
        answers them, or one that has the store again sooner would read as if there were none."""
        missed = self._missed()
        if missed is not None and missed != self._told:
            await self._team.tell(MISSED, missed)
        self._told = missed

    def _miss(self, since: int) -> None:
        for store in self._shared():
            store.miss(since)

    def _shared(self) -> Iterator[SplitStore]:
        """The stores that other processes count in, too: the one in force, and the one that is about to be."""
        for store in (self.store, self._incoming):
            if isinstance(store, SplitStore):
                yield store

    # On disk

    async def keep_snapshots(self) -> None:
        """Write a snapshot of the windows now and then, until cancelled."""
        while self._snapshots is not None:
            await asyncio.sleep(SNAPSHOT_SECONDS)
            await self.write_snapshot(SNAPSHOT_PAUSE)

    def hurry(self) -> None:
        """Let a snapshot that is being written rest no longer: somebody waits."""
        if self._snapshots is not None:
            self._snapshots.hurry()

    def drop_snapshot(self) -> None:
        """Remove the snapshot on disk: something in it was erased. The next one is written in its time."""
        if self._snapshots is not None:
            self._snapshots.path.unlink(missing_ok=True)

    async def write_snapshot(self, pause: float = 0.0) -> None:
        """Put the windows on disk, if there is a folder for it and they are warm. What goes wrong is logged: a start
        reads more of the ledger then."""
        async with self.busy:
            if self._snapshots is None or not isinstance(self.store, MemoryStore):
                return
            if self._intake.live.features.ready:
                try:
                    await self._snapshots.write(self.store, pause)
                except (Unavailable, OSError) as error:
                    log.warning("snapshot_failed", file=str(self._snapshots.path), reason=str(error))
