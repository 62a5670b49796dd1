"""Windows on disk: written in the background, and read at a start, so that little of the ledger has to be read again.

    snapshots = Snapshots(folder, intake, ledger, keys.fingerprint, clock)
    await snapshots.write(store, pause=0.002)
    await snapshots.load(features, store)       features.restore does the rest

A snapshot holds every event of its series that arrived up to a moment and was committed, and nothing else; so what it
lacks is in the ledger above the entry it names, or under the ids it names: those of which nobody could say, when it was
written, whether they were committed. It belongs to one key file and one ledger, which it knows by its newest entry.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog

from engine.errors import Unavailable
from engine.features import Facts, Features
from engine.intake import Clock, Intake, facts_of
from engine.ledger import Fact, Ledger
from engine.stores import MemoryStore, Series
from engine.stores.snapshot import Block, Snapshot, Unusable, encode, write

NAME = "windows.snapshot"
"""The file in its folder."""

MOST_DOUBTS = 10_000
"""A snapshot with more ids to look up than these would not make a start shorter."""

log = structlog.get_logger("arbiter")


class Snapshots:
    """The snapshot of one server, in a folder of its own."""

    def __init__(self, folder: Path, intake: Intake, ledger: Ledger, fingerprint: str, clock: Clock) -> None:
        self.path = folder / NAME
        self._intake = intake
        self._ledger = ledger
        self._fingerprint = fingerprint
        self._clock = clock
        self._writing: asyncio.Future[int] | None = None
        self._pause = 0.0

    async def write(self, store: MemoryStore, pause: float = 0.0) -> None:
        """Put a snapshot of the store in place of the last one. After each piece it rests for `pause` seconds.

        One at a time: while another one is being written, that one is waited for first, and rests no longer.
        Unavailable when the database is away, OSError when the folder cannot be written to: the last one stays.
        """
        if self._writing is not None:
            self.hurry()
            await asyncio.wait([self._writing])
            self._writing = None
        series = {one.name: one for one in store.held}
        newest = await self._ledger.newest(1)
        if not newest or not series:
            return
        began = self._clock()
        # An event that arrives from now on is appended later still, above that newest entry.
        cut = self._intake.arrival
        await self._intake.settled()
        doubts = self._intake.doubts
        if len(doubts) > MOST_DOUBTS:
            raise Unavailable(
                f"nobody can say of {len(doubts)} events whether they were written; start again", "doubts"
            )
        doubtful = frozenset().union(*doubts.values())
        (witness,) = await self._ledger.newest(1)
        head = {
            "key_file": self._fingerprint,
            "above": newest[0].arrival,
            "witness": [witness.arrival, witness.id],
            "doubts": [list(key) for key in doubts],
            "lateness": store.lateness,
            "cap": store.cap,
            "series": {name: [one.span, list(one.columns)] for name, one in series.items()},
        }
        self._pause = pause
        blocks = self._blocks(store, series, cut, doubtful)
        self._writing = asyncio.ensure_future(asyncio.to_thread(write, self.path, head, blocks))
        try:
            size = await asyncio.shield(self._writing)
        finally:
            if self._writing.done():
                self._writing = None
        log.info("snapshot_written", bytes=size, seconds=round((self._clock() - began) / 1e6, 1))

    def _blocks(
        self, store: MemoryStore, series: Mapping[str, Series], cut: int, doubtful: frozenset[int]
    ) -> Iterator[Block]:
        for piece in store.pieces(series):
            yield encode(piece, series, cut, doubtful)
            if self._pause:
                time.sleep(self._pause)  # Decisions need the interpreter's lock more.

    def hurry(self) -> None:
        """Let the one that is being written rest no longer: somebody waits for it."""
        self._pause = 0.0

    async def load(self, features: Features, store: MemoryStore) -> None:
        """Warm the windows that a snapshot holds. One that cannot be used is logged, and the ledger has all of it.

        Unavailable when the database is away.
        """
        cold = features.cold
        if not cold or not self.path.exists():
            return
        began = self._clock()
        try:
            with await asyncio.to_thread(Snapshot.open, self.path) as snapshot:
                head = snapshot.head
                await self._check(head, store)
                names = {
                    name
                    for name, (span, columns) in head["series"].items()
                    if name in cold and span >= cold[name].span and columns == list(cold[name].columns)
                }
                if not names:
                    raise Unusable("it has none of the windows in force")
                later = await self._later(head)
                await asyncio.to_thread(store.adopt, snapshot.pieces(), names)
        except (Unusable, OSError) as error:
            log.warning("snapshot_ignored", file=str(self.path), reason=str(error))
            return
        await asyncio.to_thread(features.restore, map(_facts, later), only=names)
        seconds = round((self._clock() - began) / 1e6, 1)
        log.info("snapshot_loaded", series=len(names), of=len(cold), later=len(later), seconds=seconds)

    async def _check(self, head: Mapping[str, Any], store: MemoryStore) -> None:
        """Raises Unusable for a snapshot that was made elsewhere or otherwise."""
        if head["key_file"] != self._fingerprint:
            raise Unusable("it was written with another key file")
        if (head["lateness"], head["cap"]) != (store.lateness, store.cap):
            raise Unusable("it was written with other limits")
        row, id = head["witness"]
        async for facts in self._ledger.facts_above(row - 1, 1):
            if (facts[0].arrival, facts[0].id) == (row, id):
                return
            break
        raise Unusable("it was written over another ledger, or this one was restored from a backup")

    async def _later(self, head: Mapping[str, Any]) -> list[Fact]:
        """What the ledger holds that the snapshot may lack."""
        later = [fact async for facts in self._ledger.facts_above(head["above"]) for fact in facts]
        for tenant, id in head["doubts"]:
            stored = await self._ledger.find(tenant, id)
            if stored is not None:
                entry = stored.entry
                later.append(
                    Fact(
                        *(entry.id, tenant, entry.kind, entry.event_kind, entry.event_id, entry.refers_to),
                        *(entry.at, entry.received_at, stored.arrival, entry.leaf, dict(entry.keys)),
                    )
                )
        return later


def _facts(fact: Fact) -> Facts:
    return facts_of(fact.tenant, fact.leaf, fact.keys)
