"""The open cases: who waits for a challenge or a review, until when, and how each of them ends."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
import structlog

from engine.callers import By, Caller
from engine.cases import Case, due_of, read_report, settle
from engine.errors import ArbiterError, Conflict, Unavailable
from engine.intake import Clock, Intake
from engine.jcs import canonical
from engine.ledger import LATEST, Ledger, Stored, entry_after, new_id
from engine.records import ByHash, Records
from engine.rulebook import KindBook
from engine.team import Team

SWEEP_SECONDS = 5
"""How often new and overdue challenges and reviews are looked for."""

AGAIN = 10 * 60_000_000
"""µs after which a case that could not be closed is tried again."""

AT_ONCE = 200
"""Records that are read at once."""

log = structlog.get_logger("arbiter")


class Docket:
    """Takes in how cases end, and ends those that nobody ended in time.

    Open cases are found in the ledger, the newest ones again and again: so none is missed, whichever process decided
    it and whether or not its caller heard of it.
    """

    def __init__(
        self, ledger: Ledger, records: Records, rulebook: ByHash, intake: Intake, team: Team, clock: Clock
    ) -> None:
        self._ledger = ledger
        self._records = records
        self._rulebook = rulebook
        self._intake = intake
        self._team = team
        self._clock = clock
        self._waiting: list[_Waiting] = []
        self._watched: set[_Waiting] = set()
        self._looked = 0
        self._newest: dict[str, int] = {}
        """Tenant → the newest arrival of its cases that were found."""
        self._seen: set[int] = set()
        """The arrivals of the cases that were found already and will be met again, because the next look goes back
        behind the last one."""
        self._sweeping = asyncio.Lock()

    async def resolve(self, id: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Take in how a challenge or a review ended, or what was enforced. Gives the new record and its receipt.

        The same report again gets the first one's answer. Conflict when nothing of the kind is open.
        """
        report, by = read_report(body, caller)
        return await self._settle(id, caller.tenant, report.what, report.result, by, report.reason)

    async def _settle(self, id: str, tenant: str, what: str, result: str, by: By, reason: str) -> dict[str, Any]:
        async with self._team.turn(f"case {id}"):  # Never two at once.
            stored = await self._records.stored(id, tenant, "decision")
            case = await self._records.case(stored)
            known = case.answered(what, result, by)
            if known is not None:
                return await self._resolution(known["id"], tenant)
            kind = (await self._rulebook(case.first["pins"]["rulebook"])).kinds[stored.entry.event_kind]
            return await self._append(stored, kind, case, what, result, by, reason)

    async def _append(
        self, stored: Stored, kind: KindBook, case: Case, what: str, result: str, by: By, reason: str
    ) -> dict[str, Any]:
        first, new = stored.entry, new_id()
        about = first.sealed[0].subject if first.sealed else None
        await self._intake.ready(first.tenant)
        note = self._intake.seal_note(first.tenant, new, about, reason) if reason else None
        # What comes after in fact comes after in the record, also when the clock jumped back.
        now = max(self._clock(), case.newest)
        record = settle(new, kind, case, what, result, by, now, note.commitment if note else None)
        entry = entry_after(first, record, canonical(record), (note.sealed,) if note else ())
        receipt = await self._ledger.append(entry)
        self._watch(record)
        # Read back from its bytes, so that a repetition has the same order of keys.
        return {"record": orjson.loads(entry.leaf), "receipt": receipt.json()}

    async def _resolution(self, id: str, tenant: str) -> dict[str, Any]:
        stored = await self._records.stored(id, tenant, "resolution")
        return {"record": orjson.loads(stored.entry.leaf), "receipt": stored.receipt.json()}

    # What is overdue

    async def sweep(self) -> None:
        """Close what is overdue, as the policy says, for ever. One of several processes does it for all."""
        while self._team.index == 0:
            try:
                await self.close_overdue()
            except Unavailable as error:
                log.warning("sweep_failed", reason=str(error))
            await asyncio.sleep(SWEEP_SECONDS)

    async def close_overdue(self) -> int:
        """End every challenge and review whose time is over; how many there were."""
        async with self._sweeping:
            await self._look()
            closed, now = 0, self._clock()
            while self._waiting and self._waiting[0].due < now:
                waiting = heapq.heappop(self._waiting)
                self._watched.discard(waiting)
                closed += await self._close(waiting, now)
            return closed

    async def _close(self, waiting: _Waiting, now: int) -> bool:
        """Whether a case was overdue and has now ended. What cannot be ended is put off, and the log says so."""
        try:
            stored = await self._records.stored(waiting.id, waiting.tenant, "decision")
            case = await self._records.case(stored)
            if case.due is None or case.due >= now:
                return False  # Somebody was faster; what it waits for now is watched by itself.
            await self._settle(waiting.id, waiting.tenant, case.verdict, "late", By("arbiter", "service"), "")
        except Unavailable:
            self._add(waiting)
            raise
        except Conflict:
            return False  # Somebody was faster still.
        except ArbiterError as error:
            log.error("case_not_closed", decision=waiting.id, reason=str(error))
            self._add(_Waiting(now + AGAIN, waiting.tenant, waiting.id))
            return False
        return True

    async def _look(self) -> None:
        """Find the open cases that came since the last look; the first look goes through the whole ledger."""
        now = self._clock()
        # The clock may have jumped back in between.
        since = min(self._looked, now) - LATEST
        seen: set[int] = set()
        newest = dict(self._newest)
        for tenant in await self._ledger.tenants():
            ruled: set[str] = set()
            above = self._newest.get(tenant, -1) if self._ledger.in_order else -1
            async for found in self._ledger.cases(tenant, since, above):
                newest[tenant] = max(newest.get(tenant, -1), *(arrival for arrival, _ in found))
                seen.update(arrival for arrival, received_at in found if received_at >= now - LATEST)
                fresh = [arrival for arrival, _ in found if arrival not in self._seen]
                for at in range(0, len(fresh), AT_ONCE):
                    for leaf in await self._ledger.leaves(fresh[at : at + AT_ONCE]):
                        self._find(orjson.loads(leaf), ruled)
        # Only now: what failed on the way is looked for again.
        self._looked, self._seen, self._newest = now, seen, newest

    def _find(self, record: Mapping[str, Any], ruled: set[str]) -> None:
        """Watch the case that a record is about, unless a newer one ruled in it: they come newest first."""
        about = record["refers_to"] or record["id"]
        if record["verdict"] is not None and about not in ruled:
            ruled.add(about)
            self._watch(record)

    def _watch(self, record: Mapping[str, Any]) -> None:
        """Remember what is open and when it is overdue."""
        due = due_of(record)
        if due is not None and self._team.index == 0:  # It ends them for all.
            self._add(_Waiting(due, record["tenant"], record["refers_to"] or record["id"]))

    def _add(self, waiting: _Waiting) -> None:
        if waiting not in self._watched:
            self._watched.add(waiting)
            heapq.heappush(self._waiting, waiting)


class _Waiting(NamedTuple):
    """A decision that waits for somebody until `due`, UTC microseconds."""

    due: int
    tenant: str
    id: str
