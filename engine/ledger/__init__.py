"""The ledger: what is appended here was decided, and what is not was not.

    ledger = await Ledger.open("sqlite:///arbiter.db", KeyFile.read(path))
    receipt = await ledger.append(entry)        durable when this returns
    stored = await ledger.find("shop-a", "ev-1")
    page = await ledger.page("shop-a", Filter(verdict="decline"))

`append` is a group commit: while one commit runs the next entries gather, and all of them share the next commit, one
Merkle root and one signature. SQLite is written by the loop and committed by a thread, PostgreSQL has a task; both have
one surface. Promises:

* a receipt means durable (fsync); an error other than Duplicate and Unavailable means not written
* Unavailable("verdict_unknown") means it may or may not be written: ask again with the same event id
* of one (tenant, event id) one decision or event is kept; every later one gets Duplicate with the first
* an entry that cannot be written fails alone, never the others of its group

Pseudonyms enter their index behind the commits, whenever the writer is idle; look-ups see those that wait as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Self

from engine import database as db
from engine.database import Database, Rows, entry
from engine.errors import SettingsError
from engine.ledger import following, reading
from engine.ledger.entries import MAX_LEAF, Duplicate, Entry, Fact, Filter, Page, Stored, entry_after, new_id
from engine.ledger.following import LATEST, Grown
from engine.ledger.log import Log
from engine.ledger.postgresql import PostgreSQLWriter
from engine.ledger.sequencing import Published, Seen
from engine.ledger.sqlite import SQLiteWriter
from engine.ledger.writing import MAX_BATCH, Writer
from engine.receipt import Receipt
from engine.vault import KeyFile

__all__ = [
    "LATEST",
    "Duplicate",
    "Entry",
    "Fact",
    "Filter",
    "Grown",
    "Ledger",
    "Log",
    "Page",
    "Published",
    "Seen",
    "Stored",
    "entry_after",
    "new_id",
]

MAX_PAGE = 200
"""Entries on one page at most."""


class Ledger:
    """Appends and reads. One per process and event loop; `open` makes it, `close` drains it."""

    def __init__(self, database: Database, writer: Writer, log: Log) -> None:
        self.database = database
        self.log = log
        self._writer = writer

    @classmethod
    async def open(cls, url: str, keys: KeyFile) -> Self:
        """The ledger at `url`, migrated before (`database.migrate`). SettingsError when `keys` are another ledger's."""
        database = Database(url)
        try:
            await _check_keys(database, keys)
            kind = SQLiteWriter if database.dialect == "sqlite" else PostgreSQLWriter
            writer = kind(database, keys.signer)
            try:
                await writer.start()
            except BaseException:
                await writer.close()
                raise
        except BaseException:
            await database.close()
            raise
        return cls(database, writer, Log(database, keys.signer))

    @property
    def waiting(self) -> int:
        """How many entries wait for their commit now."""
        return self._writer.waiting

    @property
    def alive(self) -> bool:
        """Whether the database answered last time; a lost one is tried again on its own."""
        return self._writer.alive

    async def close(self, sealed_at: int | None = None) -> None:
        """Commit what waits, then give everything back. Appends after this are refused.

        With a time (UTC microseconds) the log places and signs what was written first, as far as the database answers.
        """
        await self._writer.close()
        if sealed_at is not None:
            await self.log.end(sealed_at)
        await self.database.close()

    async def append(self, new: Entry) -> Receipt:
        """The receipt of `new`, once it is durable.

        Duplicate: its event id has an entry. Unavailable: the commit was not acknowledged, or too many wait.
        """
        if len(new.leaf) > MAX_LEAF:
            raise ValueError(f"a leaf of {len(new.leaf)} bytes is longer than {MAX_LEAF}")
        receipt = await self._writer.submit(new)
        if receipt is not None:
            return receipt
        stored = await self.find(new.tenant, new.event_id or "")
        assert stored is not None, "the database refused an event id that it does not hold"
        raise Duplicate(stored)

    async def find(self, tenant: str, event_id: str) -> Stored | None:
        """The decision or event under this event id, with its sealed data, or None. Cheap when there is none."""
        if not await self._writer.holds(tenant, event_id):
            return None
        return await self._one(entry.c.tenant == tenant, entry.c.event_id == event_id, db.ONE_VERDICT)

    async def get(self, tenant: str, id: str) -> Stored | None:
        """The entry under this id, with its sealed data, or None."""
        return await self._one(entry.c.tenant == tenant, entry.c.id == id)

    async def page(self, tenant: str, wanted: Filter | None = None, cursor: str | None = None, limit: int = 50) -> Page:
        """Up to `limit` entries of `tenant`, newest first. RequestRefused for a cursor that is not one of ours."""
        limit = max(1, min(limit, MAX_PAGE))
        query = reading.page_query(tenant, wanted or Filter(), cursor, self.database.dialect).limit(limit + 1)
        rows = await self.database.read(lambda connection: connection.execute(query).all())
        shown = tuple(reading.stored(row) for row in rows[:limit])
        return Page(shown, reading.cursor_of(rows[limit - 1]) if len(rows) > limit else None)

    async def all(self, tenant: str, wanted: Filter | None = None) -> AsyncIterator[Stored]:
        """Every entry of `tenant` that is wanted, newest first, read page by page."""
        cursor: str | None = None
        while True:
            page = await self.page(tenant, wanted, cursor, MAX_PAGE)
            for one in page.entries:
                yield one
            cursor = page.cursor
            if cursor is None:
                return

    async def last_rulebook_change(self) -> Stored | None:
        """The change of the rulebook that was recorded last; None where none was."""
        query = reading.last_rulebook_change()
        row = await self.database.read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else reading.stored(row)

    async def rulebook_changes(self) -> list[bytes]:
        """The leaves of every change of the rulebook, the first one first."""
        query = reading.rulebook_changes()
        return await self.database.read(lambda connection: list(connection.execute(query).scalars()))

    async def key_changes(self) -> list[bytes]:
        """The leaves of every change of an API key, whosever it is, the first one first."""
        query = reading.key_changes()
        return await self.database.read(lambda connection: list(connection.execute(query).scalars()))

    async def alert_changes(self, tenant: str | None = None) -> list[bytes]:
        """The leaves of every change of an alert, of one tenant or of all, the first one first."""
        query = reading.alert_changes(tenant)
        return await self.database.read(lambda connection: list(connection.execute(query).scalars()))

    async def list_changes(self, tenant: str) -> list[bytes]:
        """The leaves of every change of a list entry of `tenant`, the first one first."""
        query = reading.list_changes(tenant)
        return await self.database.read(lambda connection: list(connection.execute(query).scalars()))

    async def changes(self, tenant: str, what: str) -> list[bytes]:
        """The leaves of every change of one sort (`merchant_tier`, `compliance` …) of `tenant`, the first one first."""
        query = reading.changes(tenant, what)
        return await self.database.read(lambda connection: list(connection.execute(query).scalars()))

    async def accesses(self, tenant: str, what: str, since: int) -> list[bytes]:
        """The leaves of a tenant's accesses to data of a sort (`reveal`, `export` …) from `since` on, in order."""
        return await self.database.read(reading.accesses(tenant, what, since))

    async def appeals(self, tenant: str, since: int) -> list[bytes]:
        """The leaves of a tenant's steps of appeals from `since` on, in order."""
        return await self.database.read(reading.appeals(tenant, since))

    async def newest_decision(self) -> Stored | None:
        """The decision that was written last, whosever it is; None when there is none."""
        query = reading.newest_decision()
        row = await self.database.read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else reading.stored(row)

    async def merchants(self, tenant: str) -> list[str]:
        """The ids of all merchants whom events of a tenant were about, in order."""
        return await self.database.read(reading.merchants_of(tenant))

    async def tenants(self) -> list[str]:
        """All tenants that have an entry, in alphabetical order."""
        found: list[str] = []
        while (tenant := await self.database.read(reading.next_tenant(found[-1] if found else ""))) is not None:
            found.append(tenant)
        return found

    async def facts(self, since: int, size: int = 2_000) -> AsyncIterator[list[Fact]]:
        """All decisions and events received at or after `since`, in lists of `size`, tenant by tenant, by arrival.

        What is written meanwhile may be among them: the last list of a tenant is the first that is not full.
        """
        for tenant in await self.tenants():
            async for facts in self.facts_of(tenant, since, size):
                yield facts

    async def facts_of(self, tenant: str, since: int, size: int = 2_000) -> AsyncIterator[list[Fact]]:
        """The same of one tenant."""
        place, full = (since, -1), True
        while full and (rows := await self.database.read(reading.facts_after(tenant, place, size))):
            yield [reading.fact_of(row) for row in rows]
            place, full = (rows[-1].received_at, rows[-1].row), len(rows) == size

    async def facts_above(self, arrival: int, size: int = 2_000) -> AsyncIterator[list[Fact]]:
        """All decisions and events above an arrival, whosever they are, in lists of `size`, by arrival; as `facts`."""
        full = True
        while full and (rows := await self.database.read(reading.facts_above(arrival, size))):
            yield [reading.fact_of(row) for row in rows]
            arrival, full = rows[-1].row, len(rows) == size

    async def arrival_before(self, tenant: str | None, since: int) -> int:
        """The arrival before the first entry, of a tenant or of all, received at or after `since`."""
        return await self.database.read(following.beginning(tenant, since))

    async def arrivals_above(self, arrival: int, size: int = 2_000) -> list[tuple[int, int]]:
        """(Arrival, time received) of the next entries, whosever they are, in order. Where arrivals are not `in_order`,
        a lower one may still turn up within `LATEST` µs of its receipt."""
        return await self.database.read(following.rows_above(arrival, size))

    async def grown(self, arrivals: Sequence[int], tenant: str | None = None) -> Grown:
        """The entries with these arrivals, of a tenant or of all, that are decisions or say something of one, and what
        they are about."""
        return await self.database.read(following.grown(arrivals, tenant))

    @property
    def in_order(self) -> bool:
        """Whether arrivals rise with the commits, so that nothing turns up later below one that was seen."""
        return self.database.dialect == "sqlite"

    async def cases(
        self, tenant: str, since: int, above: int = -1, size: int = 5_000
    ) -> AsyncIterator[list[tuple[int, int]]]:
        """Which entries open a case or rule in one (`database.CASES`): their (arrival, time received), newest first,
        in lists of `size`, back to `since` and to the arrival `above`. An index knows these: to look often is cheap."""
        place = reading.NEWEST
        while found := await self.database.read(reading.cases_before(tenant, since, above, place, size)):
            yield [(each.row, each.received_at) for each in found]
            place = (found[-1].received_at, found[-1].row)

    async def leaves(self, arrivals: Sequence[int]) -> list[bytes]:
        """The leaves of the entries with these arrivals, newest first."""
        return await self.database.read(reading.leaves_of(arrivals))

    async def newest(self, size: int = 2 * MAX_BATCH) -> list[Fact]:
        """The decisions and events of all tenants that were written last, newest first."""
        return [reading.fact_of(row) for row in await self.database.read(reading.newest_facts(size))]

    async def index_keys(self) -> int:
        """Index pseudonyms that wait; how many entries that was. Happens by itself whenever the writer is idle."""
        return await self._writer.index_keys()

    async def _one(self, *conditions: Any) -> Stored | None:
        return await self.database.read(lambda connection: reading.whole(connection, *conditions))


async def _check_keys(database: Database, keys: KeyFile) -> None:
    """Another key file would give every person a new pseudonym and open nothing: refuse it before it writes."""
    settings = Rows(database, db.setting)
    # The first start sets it; of two first starts at once one is the first.
    await settings.add(name="key_file", value=keys.fingerprint)
    (held,) = await settings.find(name="key_file")
    if held["value"] != keys.fingerprint:
        raise SettingsError("ARBITER_KEY_FILE holds the keys of another ledger; restore the key file of this one")
