"""The open cases: who waits for a challenge or a review, until when, and how each of them ends."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Mapping
from itertools import product
from typing import Any

import orjson
import structlog

from engine.callers import By, Caller
from engine.cases import Case, due_of, read_report, settle
from engine.errors import Unavailable
from engine.intake import Clock, Intake
from engine.jcs import canonical
from engine.ledger import Entry, Filter, Ledger, Stored, new_id
from engine.records import ByHash, Records
from engine.rulebook import KindBook

SWEEP_SECONDS = 5
"""How often overdue challenges and reviews are looked for."""

log = structlog.get_logger("arbiter")


class Docket:
    """Takes in how cases end, and ends those that nobody ended in time."""

    def __init__(self, ledger: Ledger, records: Records, rulebook: ByHash, intake: Intake, clock: Clock) -> None:
        self._ledger = ledger
        self._records = records
        self._rulebook = rulebook
        self._intake = intake
        self._clock = clock
        self._open: list[tuple[int, str, str]] = []
        self._settling: dict[str, asyncio.Lock] = {}

    async def resolve(self, id: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Take in how a challenge or a review ended, or what was enforced. Gives the new record and its receipt.

        The same report again gets the first one's answer. Conflict when nothing of the kind is open.
        """
        report, by = read_report(body, caller.by)
        return await self._settle(id, caller.tenant, report.what, report.result, by, report.reason)

    async def _settle(self, id: str, tenant: str, what: str, result: str, by: By, reason: str) -> dict[str, Any]:
        lock = self._settling.setdefault(id, asyncio.Lock())
        try:
            async with lock:
                stored = await self._records.stored(id, tenant, "decision")
                case = await self._records.case(stored)
                known = _again(case, what, result)
                if known is not None:
                    return await self._resolution(known["id"], tenant)
                kind = (await self._rulebook(case.first["pins"]["rulebook"])).kinds[stored.entry.event_kind]
                return await self._append(stored, kind, case, what, result, by, reason)
        finally:
            if not lock.locked():
                self._settling.pop(id, None)

    async def _append(
        self, stored: Stored, kind: KindBook, case: Case, what: str, result: str, by: By, reason: str
    ) -> dict[str, Any]:
        first, new = stored.entry, new_id()
        about = first.sealed[0].subject if first.sealed else None
        note = self._intake.seal_note(first.tenant, new, about, reason) if reason else None
        now = self._clock()
        record = settle(new, kind, case, what, result, by, now, note.commitment if note else None)
        entry = Entry(
            id=new,
            tenant=first.tenant,
            kind="resolution",
            event_id=None,
            event_kind=first.event_kind,
            at=now,
            received_at=now,
            leaf=canonical(record),
            sealed=(note.sealed,) if note else (),
            refers_to=first.id,
            order_id=first.order_id,
            merchant_id=first.merchant_id,
            verdict=record["verdict"],
        )
        receipt = await self._ledger.append(entry)
        self._watch(record, first.id)
        return {"record": record, "receipt": receipt.json()}

    async def _resolution(self, id: str, tenant: str) -> dict[str, Any]:
        stored = await self._records.stored(id, tenant, "resolution")
        return {"record": orjson.loads(stored.entry.leaf), "receipt": stored.receipt.json()}

    # What is overdue

    async def reopen(self) -> None:
        """After a start: watch again what was open. What ended meanwhile is found so when its time comes."""
        for tenant in await self._ledger.tenants():
            for kind, verdict in product(("decision", "resolution"), ("challenge", "review")):
                async for stored in self._records.all(tenant, Filter(kind=kind, verdict=verdict)):
                    record = orjson.loads(stored.entry.leaf)
                    self._watch(record, record["refers_to"] or record["id"])

    async def sweep(self) -> None:
        """Close what is overdue, as the policy says, for ever."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.close_overdue()
            except Unavailable as error:
                log.warning("sweep_failed", reason=str(error))

    async def close_overdue(self) -> int:
        """End every challenge and review whose time is over; how many there were."""
        closed, now = 0, self._clock()
        while self._open and self._open[0][0] < now:
            due, tenant, id = self._open[0]
            case = await self._records.case(await self._records.stored(id, tenant, "decision"))
            if case.due == due and case.verdict in ("challenge", "review"):
                await self._settle(id, tenant, case.verdict, "late", By("arbiter", "service"), "")
                closed += 1
            heapq.heappop(self._open)
        return closed

    def _watch(self, record: Mapping[str, Any], first: str) -> None:
        """Remember what is open and when it is overdue."""
        due = due_of(record)
        if due is not None:
            heapq.heappush(self._open, (due, record["tenant"], first))


def _again(case: Case, what: str, result: str) -> Mapping[str, Any] | None:
    """The resolution that this report repeats: the newest of its sort, with the same result."""
    newest = next((record for record in reversed(case.later) if record["what"] == what), None)
    return newest if newest is not None and newest["said"] == result else None
