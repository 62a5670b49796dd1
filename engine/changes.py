"""One at a time: changes of what decides, each recorded before it takes effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from engine.errors import Unavailable
from engine.journal import Journal
from engine.team import Team

TURN = "changes"
"""The turn of who changes what decides."""

RELOAD = "reload"
"""The turn of who takes a rulebook into force, of what starts, and of what must not meet either."""

AGAIN = "again"
"""What other processes are told: to read again what the database holds of what people change."""

RETRY_SECONDS = 2
"""After so long a database that could not be read is read again."""


class Changes:
    """Lets what decides be changed, by one at a time.

    Who changes something holds `turn` from the moment it looks at what is there until the change is in force, in every
    process: so the order in the log is the order in which changes took effect.
    """

    def __init__(self, journal: Journal, team: Team, read: Callable[[], Awaitable[None]]) -> None:
        """`read` puts in force what the database holds of what people change."""
        self.record = journal.change
        """Record one change, before it takes effect."""
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
                await self.read_again()
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

    async def read_again(self) -> None:
        """Put in force, in every process, what the database holds: for who changed rows otherwise. Within a turn."""
        await self._read_again()
        await self._team.tell(AGAIN)

    async def _read_again(self, _: Any = None) -> None:
        doubts = self._doubts
        await self._read()
        self._settled = doubts
