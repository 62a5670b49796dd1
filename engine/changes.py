"""Changes of what decides, recorded before they take effect: who, what, from, to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from engine.callers import By
from engine.decide import FORMAT
from engine.errors import Unavailable
from engine.jcs import canonical
from engine.ledger import Entry, Ledger, new_id
from engine.team import Team
from engine.vault import Sealed

EVERYONE = "*"
"""The tenant of a change that no caller made and that holds for all of them. No API key can have it."""

TURN = "changes"
"""The turn of who changes what decides."""

AGAIN = "again"
"""What other processes are told: to read again what the database holds of what people change."""

RETRY_SECONDS = 2
"""After so long a database that could not be read is read again."""

Note: TypeAlias = Callable[[str], tuple[str, str, Sealed]]
"""Seals the reason of a change for the record with this id: (role, commitment, sealed)."""


class Changes:
    """Writes changes into the ledger.

    Who changes something holds `turn` from the moment it looks at what is there until the change is in force, in every
    process: so the order in the log is the order in which changes took effect.
    """

    def __init__(
        self, ledger: Ledger, clock: Callable[[], int], team: Team, read: Callable[[], Awaitable[None]]
    ) -> None:
        """`read` puts in force what the database holds of what people change."""
        self._ledger = ledger
        self._clock = clock
        self._team = team
        self._read = read
        self._doubts = 0
        self._settled = 0
        """How many of the doubts are over."""
        self._doubtful = asyncio.Event()
        team.on(AGAIN, self._read_again)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits until nobody else changes anything."""
        async with self._team.turn(TURN):
            if self._doubts > self._settled:
                await self._read_again()
                await self._team.tell(AGAIN)
            yield

    def doubt(self) -> None:
        """Another process is gone, perhaps between a change in the database and what it had to tell of it."""
        self._doubts += 1
        self._doubtful.set()

    async def keep_sure(self) -> None:
        """End doubts, for ever. Whoever changes something before does so first."""
        while await self._doubtful.wait():
            self._doubtful.clear()
            try:
                async with self.turn():
                    pass
            except Unavailable:
                self._doubtful.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def _read_again(self, _: Any = None) -> None:
        doubts = self._doubts
        await self._read()
        self._settled = doubts

    async def record(
        self,
        tenant: str,
        what: str,
        changed: str,
        before: str | None,
        after: str | None,
        by: By,
        note: Note | None = None,
    ) -> None:
        """Record one change. It comes first: a change that nobody can find in the log must not count.

        The reason stands in the leaf as a commitment only: it is free text, and the leaf is for ever.
        """
        id, now = new_id(), self._clock()
        _, commitment, sealed = note(id) if note else ("", None, None)
        record = {
            "format": FORMAT,
            "type": "change",
            "id": id,
            "tenant": tenant,
            "decided_at": now,
            "what": what,
            "object": changed,
            "before": before,
            "after": after,
            "by": {"name": by.name, "kind": by.kind, "person": by.person},
            "note": commitment,
        }
        cells = (sealed,) if sealed else ()
        await self._ledger.append(Entry(id, tenant, "change", None, what, now, now, canonical(record), cells))
