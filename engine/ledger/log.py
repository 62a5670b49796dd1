"""The log over a ledger: every entry gets its place in one tree, and the tree is signed.

    log.keep()                                places what was written, signs it, until cancelled
    await log.latest()                        the checkpoint that was signed last
    await log.proof(stored)                   that an entry is in it

Any number of processes may keep the log of one ledger; they take turns by the database's own lock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from engine.database import Database
from engine.errors import LogBroken, NotFound, Unavailable
from engine.ledger import sequencing
from engine.ledger.entries import Stored
from engine.notes import Checkpoint, write_proof
from engine.receipt import Signer

PLACE_SECONDS = 0.25
"""How often it is looked for entries without a place."""

PUBLISH_SECONDS = 10
"""How often what was placed is signed: well within the delay that receipts promise."""

LAST_ROUNDS = 50
"""How many times `sequencing.MOST` batches are placed at the end; the next start goes on with what is left."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint as it was signed: its note, and when (UTC microseconds)."""

    checkpoint: Checkpoint
    note: str
    signed_at: int


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
                if str(error) != self.problem:
                    _log.error("the log is broken and nothing more is signed: %s", error)
                self.problem = str(error)
            await asyncio.sleep(PLACE_SECONDS)

    async def end(self, now: int) -> None:
        """Place and sign once more, without waiting for a database that does not answer."""
        try:
            for _ in range(LAST_ROUNDS):
                if not await self._database.write(sequencing.place):
                    break
            await self.publish(now)
        except (Unavailable, LogBroken) as error:
            _log.warning("the last entries are not signed yet: %s", error)

    async def place(self) -> int:
        """Give every entry that was written a place; how many that was."""
        count = 0
        while await self._database.read(sequencing.waiting):
            placed = await self._database.write(sequencing.place)
            if not placed:  # another process is at it
                break
            count += placed
        return count

    async def publish(self, now: int) -> Published | None:
        """Sign all that has a place; None when that is signed. LogBroken: see `sequencing.publish`."""
        made = await self._database.write(lambda connection: sequencing.publish(connection, self._signer, now))
        self.problem = ""
        return await self.latest() if made else None

    async def latest(self) -> Published | None:
        """The checkpoint that was signed last; None while there is none."""
        return await self._database.read(_latest)

    async def proof(self, stored: Stored) -> str:
        """The C2SP tlog-proof that an entry is in the log, under the checkpoint signed last.

        NotFound, code `not_yet`: no checkpoint covers it yet; one does within the delay that its receipt promises.
        """

        def read(connection: Connection) -> str | None:
            last = _latest(connection)
            position = sequencing.place_of(connection, stored.number, stored.index)
            if last is None or position is None or position >= last.checkpoint.size:
                return None
            path = sequencing.tiles_of(connection).inclusion(position, last.checkpoint.size)
            return write_proof(position, path, last.note)

        found = await self._database.read(read)
        if found is None:
            raise NotFound("no checkpoint covers this entry yet; ask again within the delay that its receipt promises")
        return found

    async def consistency(self, old: int, new: int) -> list[bytes]:
        """The proof that the first `old` entries are the beginning of the first `new` (RFC 6962 §2.1.2)."""
        return await self._database.read(lambda connection: sequencing.tiles_of(connection).consistency(old, new))


def _latest(connection: Connection) -> Published | None:
    row = sequencing.last_checkpoint(connection)
    if row is None:
        return None
    return Published(Checkpoint(row.note.split("\n")[0], row.size, row.root), row.note, row.signed_at)
