"""One server a ledger: windows and lists live in one process's memory, and a second one would miss what it counts.

    claim = await Claim.take(url)        # SettingsError when another server has it
    await claim.keep()                   # beside everything else: take it again after the database was away
    await claim.release()

SQLite: a lock on a file beside the database, which ends with the process, also by kill -9. PostgreSQL: an advisory lock
of a connection of its own, which the server ends with it. What only reads a ledger needs no claim.
"""

from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path
from typing import IO, Any, Protocol

import asyncpg
from sqlalchemy import URL

from engine.database import address, sqlite_path
from engine.errors import SettingsError

PATIENCE = 5.0
"""Seconds to wait for a server that is about to stop."""
SECONDS = 2.0
"""How long to wait for a database that is away before it is asked again, and at most for its answer."""
_STEP = 0.1
_LOCK = 0x4152_4249_5445_5231
"""The number of the advisory lock: the letters of ARBITER and a 1."""

TAKEN = "another Arbiter serves this ledger"
STALE = "another Arbiter took this ledger while the database was away: start this one again"


class _Held(Protocol):
    gone: asyncio.Event
    """Set when it was lost."""

    async def release(self) -> None: ...


class Claim:
    """What one process has and no other. `problem` says why it is over."""

    def __init__(self, url: URL, held: _Held) -> None:
        self._url = url
        self._held = held
        self.problem = ""

    @classmethod
    async def take(cls, url: str, patience: float = PATIENCE) -> Claim:
        """The claim on the ledger at `url`. SettingsError when another server still has it after `patience` seconds."""
        parsed = address(url)
        for _ in range(max(1, round(patience / _STEP))):
            held = await _take(parsed)
            if held is not None:
                return cls(parsed, held)
            await asyncio.sleep(_STEP)
        raise SettingsError(
            f"ARBITER_DATABASE_URL: {TAKEN}. Two servers would each miss what the other one counted; stop it first"
        )

    async def keep(self) -> None:
        """Take it again whenever it was lost with the connection. Ends when another server has it: what that one
        counts is missing here for good."""
        while not self.problem:
            await self._held.gone.wait()
            try:
                held = await _take(self._url)
            except (OSError, asyncpg.PostgresError, TimeoutError):
                await asyncio.sleep(SECONDS)  # The database is away: nobody else can have it either.
                continue
            if held is None:
                self.problem = STALE
            else:
                self._held = held

    async def release(self) -> None:
        """Let another server have it."""
        await self._held.release()


async def _take(url: URL) -> _Held | None:
    if url.drivername == "sqlite":
        return _FileLock.take(sqlite_path(url))
    return await _Advisory.take(url)


class _FileLock:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.gone = asyncio.Event()

    @classmethod
    def take(cls, database: Path) -> _FileLock | None:
        file = database.with_name(f"{database.name}.server").open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return cls(file)

    async def release(self) -> None:
        # The file stays: deleting it would let two servers lock two files of one name.
        self._file.close()


class _Advisory:
    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.gone = asyncio.Event()
        connection.add_termination_listener(lambda _: self.gone.set())
        if connection.is_closed():
            self.gone.set()

    @classmethod
    async def take(cls, url: URL) -> _Advisory | None:
        connection = await asyncpg.connect(url.render_as_string(hide_password=False), timeout=SECONDS)
        if await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
            return cls(connection)
        await connection.close()
        return None

    async def release(self) -> None:
        await self._connection.close()
