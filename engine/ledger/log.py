"""The log over a ledger: every entry gets its place in one tree, and the tree is signed.

    log.keep()                                places what was written, signs it, until cancelled
    await log.latest()                        the checkpoint that was signed last
    await log.proof(stored)                   that an entry is in it

Any number of processes may keep the log of one ledger; they take turns by the database's own lock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from engine import merkle
from engine.database import Database
from engine.errors import LogBroken, NotFound, Unavailable
from engine.ledger import reading, sequencing
from engine.ledger.entries import Entry, Stored
from engine.ledger.sequencing import Published, Seen
from engine.notes import write_proof
from engine.receipt import Signer

PLACE_SECONDS = 0.25
"""How often it is looked for entries without a place."""

PUBLISH_SECONDS = 10
"""How often what was placed is signed: well within the delay that receipts promise."""

LAST_ROUNDS = 50
"""How many times `sequencing.MOST` batches are placed at the end; the next start goes on with what is left."""

PATIENCE = 600
"""How many tenths of a second it is waited for another process."""

PAGE = 1_000
"""Checkpoints in memory at a time."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Log:
    """Places and signs the entries of one ledger. `problem` says why nothing is signed any more; empty: all is well."""

    def __init__(self, database: Database, signer: Signer) -> None:
        self._database = database
        self._signer = signer
        self.problem = ""

    async def keep(self, clock: Callable[[], int]) -> None:
        """Place what is written and sign it, for ever. `clock` gives UTC microseconds."""
        published = 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self.place()
                if loop.time() - published >= PUBLISH_SECONDS:
                    published = loop.time()
                    await self.publish(clock())
            except Unavailable as error:
                _log.warning("the log waits for its database: %s", error)
            except LogBroken as error:
                self._broken(str(error))
            except Exception as error:  # noqa: BLE001 - a task that ended would leave the log unsigned without a word
                # Only the kind: a database's message may repeat values.
                self._broken(f"it cannot be placed or signed: {type(error).__name__}")
            await asyncio.sleep(PLACE_SECONDS)

    def _broken(self, why: str) -> None:
        if why != self.problem:
            _log.error("the log is broken and nothing more is signed: %s", why)
        self.problem = why

    async def end(self, now: int) -> None:
        """Place and sign once more, without waiting for a database that does not answer."""
        try:
            for _ in range(LAST_ROUNDS):
                if not (await self._database.write(sequencing.place))[1]:
                    break
            await self.publish(now)
        except (Unavailable, LogBroken) as error:
            _log.warning("the last entries are not signed yet: %s", error)

    async def place(self) -> int:
        """Give every entry that was written until now a place; how many that was. Comes to an end, however fast others
        are written meanwhile."""
        count = 0
        more = await self._database.read(sequencing.oldest_waiting) is not None
        while more:
            placed, more = await self._database.write(sequencing.place)
            count += placed
        return count

    async def catch_up(self) -> None:
        """Return when all that was written until now has a place, whoever gives it. Unavailable after a minute."""
        newest = await self._database.read(sequencing.newest_waiting)
        for _ in range(PATIENCE):
            await self.place()
            oldest = await self._database.read(sequencing.oldest_waiting)
            if newest is None or oldest is None or oldest > newest:
                return
            await asyncio.sleep(0.1)
        raise Unavailable("another process places the entries of this log, and does not come to an end", "log_busy")

    async def sealed(self, stored: Stored, clock: Callable[[], int]) -> Published:
        """The first checkpoint seen that covers an entry, whoever signs it. Unavailable after a minute."""
        for _ in range(PATIENCE):
            await self.place()
            await self.publish(clock())
            last, position = await self.latest(), await self._position(stored)
            if last is not None and position is not None and position < last.checkpoint.size:
                return last
            await asyncio.sleep(0.1)
        raise Unavailable("another process signs this log, and does not come to an end", "log_busy")

    async def _position(self, stored: Stored) -> int | None:
        return await self._database.read(
            lambda connection: sequencing.place_of(connection, stored.number, stored.index)
        )

    async def publish(self, now: int) -> Published | None:
        """Sign all that has a place; None when that is signed. LogBroken: see `sequencing.publish`."""
        made = await self._database.write(lambda connection: sequencing.publish(connection, self._signer, now))
        if made is None:  # nothing new, or another process is at it
            return None
        self.problem = ""
        return await self.latest()

    async def size(self) -> int:
        """How many entries have a place."""
        return await self._database.read(sequencing.size_of)

    async def latest(self) -> Published | None:
        """The checkpoint that was signed last; None while there is none."""
        return await self._database.read(sequencing.latest)

    async def proof(self, stored: Stored) -> str:
        """The C2SP tlog-proof that an entry is in the log, under the checkpoint signed last.

        NotFound, code `not_yet`: no checkpoint covers it yet; one does within the delay that its receipt promises.
        """

        def read(connection: Connection) -> str | None:
            last = sequencing.latest(connection)
            position = sequencing.place_of(connection, stored.number, stored.index)
            if last is None or position is None or position >= last.checkpoint.size:
                return None
            path = sequencing.tiles_of(connection).inclusion(position, last.checkpoint.size)
            return write_proof(position, path, last.note)

        found = await self._database.read(read)
        if found is None:
            raise NotFound("no checkpoint covers this entry yet; ask again within the delay that its receipt promises")
        return found

    async def positions(self, since: int | None, until: int | None) -> tuple[int, int]:
        """The positions that the entries of a period lie between, the first and the one after the last: times received,
        UTC microseconds. Entries received at the same time as others may be among them that lie just outside it."""
        return await self._database.read(reading.positions_of(since, until))

    async def entries(self, first: int, end: int, size: int = 2_000) -> AsyncIterator[list[tuple[int, Entry]]]:
        """The entries at positions `first` until before `end`, each with its position, in lists of `size`; without what
        is sealed. LogBroken when one is missing."""
        for begin in range(first, end, size):
            stop = min(end, begin + size)
            rows = await self._database.read(reading.placed_in(begin, stop))
            if [place for place, _ in rows] != list(range(begin, stop)):
                raise LogBroken(f"of the entries at positions {begin} to {stop} some are missing, or there twice")
            yield [(place, reading.entry_of(row)) for place, row in rows]

    async def tree(self, read: Callable[[merkle.Tiles], T]) -> T:
        """What `read` gives of the tree."""
        return await self._database.read(lambda connection: read(sequencing.tiles_of(connection)))

    async def checkpoints(self, first: int, end: int) -> AsyncIterator[Published]:
        """All that were signed of `first` up to `end` entries, the smallest first, a page in memory at a time."""
        while some := await self._database.read(partial(sequencing.checkpoints_of, first=first, end=end, most=PAGE)):
            for each in some:
                yield each
            first = some[-1].checkpoint.size + 1

    async def seen_by(self, size: int) -> set[str]:
        """Which anchors saw the checkpoint of so many entries."""
        return await self._database.read(lambda connection: sequencing.seen_by(connection, size))

    async def keep_anchor(self, size: int, name: str, kind: str, at: int, proof: bytes) -> None:
        """Keep what an anchor gave when it saw the checkpoint of so many entries, at `at` (UTC microseconds)."""
        await self._database.write(lambda connection: sequencing.keep_anchor(connection, size, name, kind, at, proof))

    async def anchored(self) -> Seen | None:
        """The checkpoint that somebody outside saw last; None while nobody saw any."""
        return await self._database.read(sequencing.anchored)

    async def anchors(self, first: int, end: int) -> AsyncIterator[Seen]:
        """Who saw the checkpoints of `first` up to `end` entries, with what they gave, the smallest first, a page in
        memory at a time."""
        while some := await self._database.read(partial(sequencing.anchors_of, first=first, end=end, most=PAGE)):
            for each in some:
                yield each
            first = some[-1].size + 1

    async def consistency(self, old: int, new: int) -> list[bytes]:
        """The proof that the first `old` entries are the beginning of the first `new` (RFC 6962 §2.1.2)."""
        return await self.tree(lambda tree: tree.consistency(old, new))
