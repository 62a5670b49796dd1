"""Ending what is past its term, by `policies/retention.yaml`, and what a law kept of erased persons.

    expiry = Expiry(ledger, retention, journal, clock, rulebook.hash)
    await expiry.due("shop-a")          what a run would end now, in numbers
    await expiry.run("shop-a", by)      the same, done

It runs beside servers: what they may still use is younger than any window looks back, and a key in use is never one
that ends. An interrupted run goes on with the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

from sqlalchemy import Connection

from engine.callers import By
from engine.jcs import canonical
from engine.journal import Journal
from engine.ledger import Ledger, new_id
from engine.ledger import expiry as rows
from engine.ledger.beside import Copy, copies, count_reasons, drop_copies, drop_reasons
from engine.ledger.rewrapping import clear_keys
from engine.retention import DIGESTS, PERSONAL, PSEUDONYMS, Retention
from engine.vault import KEY_SECONDS

AT_ONCE = 200
"""Rows in one transaction."""


@dataclass(frozen=True, slots=True)
class Due:
    """How much is past its term: ciphertexts of erased persons, other ciphertexts, entries with pseudonyms, digests,
    evidence of disputes, and reasons of changes and accesses."""

    restricted: int
    personal: int
    pseudonyms: int
    digests: int
    evidence: int = 0
    reasons: int = 0

    def __bool__(self) -> bool:
        return any(asdict(self).values())


class Expiry:
    """Ends what is past its term in one ledger."""

    def __init__(
        self, ledger: Ledger, retention: Retention, journal: Journal, clock: Callable[[], int], rulebook: str
    ) -> None:
        """`rulebook` is the hash of the one whose terms these are: the record of a run names it."""
        self._rulebook = rulebook
        self._ledger = ledger
        self._journal = journal
        self._clock = clock
        self._disputes = retention.disputes
        self._reasons = retention.reasons
        self._ends = {part: retention.ends(part) for part in (PERSONAL, PSEUDONYMS, DIGESTS)}

    async def due(self, tenant: str) -> Due:
        """What is past its term now."""
        now, read, ends = self._clock(), self._ledger.database.read, self._ends
        return Due(
            await read(lambda connection: rows.count_restricted(connection, tenant, now)),
            await read(lambda connection: rows.count_personal(connection, tenant, ends[PERSONAL], now)),
            await self._links(tenant, now, end=False),
            await read(lambda connection: rows.count_digests(connection, tenant, ends[DIGESTS], now)),
            len(await self._evidence(tenant, now)),
            await read(lambda connection: count_reasons(connection, tenant, self._reasons_before(now))),
        )

    async def run(self, tenant: str, by: By) -> Due:
        """End it: rows go, and then the data keys that nothing is sealed with any more. Recorded before, in numbers;
        where nothing is due, nothing is recorded."""
        due, now, ends = await self.due(tenant), self._clock(), self._ends
        if due:
            before, after = canonical({"rulebook": self._rulebook}).decode(), canonical(asdict(due)).decode()
            await self._journal.change(tenant, "expired", new_id(), before, after, by)
        await self._all(partial(rows.drop_restricted, tenant=tenant, now=now))
        await self._all(partial(rows.drop_personal, tenant=tenant, ends=ends[PERSONAL], now=now))
        await self._links(tenant, now, end=True)
        await self._all(partial(rows.drop_digests, tenant=tenant, ends=ends[DIGESTS], now=now))
        await self._all(partial(drop_reasons, tenant=tenant, before=self._reasons_before(now)))
        over = await self._evidence(tenant, now)
        await self._ledger.database.write(lambda connection: drop_copies(connection, over))
        # One that was made within two hours may be sealing in some process.
        unused = time.time_ns() // 1_000 - 2 * KEY_SECONDS * 1_000_000
        await self._ledger.database.write(clear_keys(tenant, unused))
        if due:
            await self._ledger.database.scrub()
        return due

    async def _all(self, drop: Callable[..., int]) -> None:
        def batch(connection: Connection) -> int:
            return drop(connection, size=AT_ONCE)

        while await self._ledger.database.write(batch):
            pass

    async def _evidence(self, tenant: str, now: int) -> list[Copy]:
        """What was sent in disputes past its term; where nobody says how long it is kept, all of it is."""
        end = None if self._disputes is None else now - self._disputes.kept
        return await self._ledger.database.read(lambda connection: copies(connection, tenant, until=end))

    def _reasons_before(self, now: int) -> int:
        """Reasons from before this are past their term; where nobody says how long they are kept, none is."""
        return 0 if self._reasons is None else now - self._reasons.kept

    async def _links(self, tenant: str, now: int, *, end: bool) -> int:
        """How many entries still have pseudonyms past their term, which are ended if so wanted."""
        count, after, ends = 0, -1, self._ends[PSEUDONYMS]
        while True:
            some = await self._ledger.database.read(
                partial(rows.old_links, tenant=tenant, ends=ends, now=now, after=after, size=AT_ONCE)
            )
            if not some:
                return count
            due = [link for link in some if link.pseudonyms != link.stay]
            count, after = count + len(due), some[-1].row
            if end and due:

                def take_out(connection: Connection, due: list[rows.Linked] = due) -> None:
                    for link in due:
                        rows.unlink(connection, link)

                await self._ledger.database.write(take_out)
