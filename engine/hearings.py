"""The way of an appeal through the ledger: opened, taken up, decided by a person who had no part, or ended by its time.

    answer = await hearings.open(decision_id, body, caller)
    answer = await hearings.step(decision_id, appeal_id, body, caller)

A lifting is one record, so the verdict and the measures end in the same moment. What the policy counts it as is
recorded behind it, as an outcome, so that windows see it; a repetition of the call makes up for one that was lost.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
import structlog

from engine.appeal import (
    APPEAL,
    Added,
    AnyStep,
    Appeal,
    AppealDecided,
    MoreAsked,
    NewAppeal,
    Taken,
    Terms,
    Withdrawn,
    appeal_of,
    appeals_in,
    decided,
    ended_late,
    known_opening,
    moved,
    opened,
    read_new,
    read_step,
    refuse_opening,
    steps_of,
)
from engine.callers import By, Caller
from engine.cases import Case, policy_of
from engine.errors import ArbiterError, Conflict, NotFound, Unavailable
from engine.intake import Clock, Intake
from engine.jcs import canonical
from engine.ledger import LATEST, Ledger, Stored, entry_after, new_id
from engine.packs.moments import DAY
from engine.policy import Policy
from engine.records import ByHash, Records
from engine.rulebook import Rulebook
from engine.statement import statement, utc
from engine.team import Team

SWEEP_SECONDS = 60
"""How often appeals are looked for whose time is over: their times are hours and days."""

PAST = 400 * DAY
"""How far back appeals are listed, in µs."""

log = structlog.get_logger("arbiter")


class Hearings:
    """Takes in appeals and their steps, and ends those whose time is over."""

    def __init__(
        self,
        ledger: Ledger,
        records: Records,
        rulebook: ByHash,
        in_force: Callable[[], Rulebook],
        intake: Intake,
        team: Team,
        clock: Clock,
    ) -> None:
        """`rulebook` gives the one of a hash, `in_force` the one that decides now."""
        self._ledger = ledger
        self._records = records
        self._rulebook = rulebook
        self._in_force = in_force
        self._intake = intake
        self._team = team
        self._clock = clock
        self._oldest: dict[str, int] = {}
        """Tenant → when the oldest of its appeals was opened that waited at the last look."""

    # Steps

    async def open(self, id: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Open an appeal against a decision as it stands; the appeal, its record and receipt.

        The same `ref` again gets the first answer. Conflict where nothing is against anybody, another appeal waits, it
        was answered before, its time is over, or no policy says how to object.
        """
        new, by = read_new(body, caller)
        async with self._team.turn(f"case {id}"):
            stored, case, rulebook = await self._case(id, caller.tenant)
            known = known_opening(case, new.ref)
            if known is not None:
                return await self._again(known, case, rulebook, caller.tenant)
            return await self._open(stored, case, rulebook, new, by)

    async def _open(self, stored: Stored, case: Case, rulebook: Rulebook, new: NewAppeal, by: By) -> dict[str, Any]:
        policy = policy_of(rulebook.kinds[stored.entry.event_kind])
        offering = self._offering(policy, stored.entry.event_kind)
        part = offering.pack.appeal
        assert part is not None, "a policy that offers no appeal was refused"
        now = self._now(case)
        refuse_opening(case, policy, part.within, new.kind, now)
        named = new_id()
        note = await self._sealed(stored, named, new.reason)
        record = opened(named, case, new, Terms.of(offering.pack, policy), by, now, note.commitment)
        return await self._append(stored, case, rulebook, record, note)

    def _offering(self, policy: Policy, kind: str) -> Policy:
        """The policy whose terms hold: that of then; where it had none, the one in force now."""
        current = self._in_force().kinds[kind].policy if kind in self._in_force().kinds else None
        for each in (policy, current):
            if each is not None and each.pack.appeal is not None:
                return each
        raise Conflict(f"the policy '{policy.name}' has no part 'appeal' that says how to object and until when")

    async def step(self, id: str, appeal_id: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Take a step of an appeal; the appeal, the new record and its receipt.

        The same step again gets the first answer. Conflict when it has ended; SecondPerson where another person has to
        take it.
        """
        step, by = read_step(body, caller)
        async with self._team.turn(f"case {id}"):
            stored, case, rulebook = await self._case(id, caller.tenant)
            appeal = _named(case, appeal_id)
            known = _repeated(case, appeal, step, by)
            if known is not None:
                return await self._again(known, case, rulebook, caller.tenant)
            return await self._step(stored, case, rulebook, appeal, step, by)

    async def _step(
        self, stored: Stored, case: Case, rulebook: Rulebook, appeal: Appeal, step: AnyStep, by: By
    ) -> dict[str, Any]:
        terms, now, named = _terms(case, appeal), self._now(case), new_id()
        note = await self._sealed(stored, named, text) if (text := _text(step)) else None
        commitment = note.commitment if note else None
        if isinstance(step, AppealDecided):
            policy = policy_of(rulebook.kinds[stored.entry.event_kind])
            assert commitment is not None, "a decision has its reasons"
            still = _still(case, rulebook)
            record = decided(named, case, appeal, terms, policy, step, by, now, commitment, still)
        else:
            record = moved(named, case, appeal, terms, step, by, now, commitment)
        return await self._append(stored, case, rulebook, record, note)

    def _now(self, case: Case) -> int:
        # What comes after in fact comes after in the record, also when the clock jumped back.
        return max(self._clock(), case.newest)

    async def _case(self, id: str, tenant: str) -> tuple[Stored, Case, Rulebook]:
        stored = await self._records.stored(id, tenant, "decision")
        case = await self._records.case(stored)
        return stored, case, await self._rulebook(case.first["pins"]["rulebook"])

    async def _sealed(self, stored: Stored, record: str, text: str | Mapping[str, str]) -> Any:
        """What somebody wrote, sealed under the subject that the decision is about."""
        first = stored.entry
        await self._intake.ready(first.tenant)
        return self._intake.seal_note(first.tenant, record, first.sealed[0].subject if first.sealed else None, text)

    async def _append(
        self, stored: Stored, case: Case, rulebook: Rulebook, record: dict[str, Any], note: Any
    ) -> dict[str, Any]:
        entry = entry_after(stored.entry, record, canonical(record), (note.sealed,) if note else ())
        receipt = await self._ledger.append(entry)
        # Read back from its bytes, so that a repetition has the same order of keys.
        kept = orjson.loads(entry.leaf)
        after = Case(case.first, (*case.later, kept))
        return await self._answer(kept, after, rulebook, receipt.json())

    async def _again(self, record: Mapping[str, Any], case: Case, rulebook: Rulebook, tenant: str) -> dict[str, Any]:
        stored = await self._records.stored(record["id"], tenant, APPEAL)
        return await self._answer(record, case, rulebook, stored.receipt.json())

    async def _answer(
        self, record: Mapping[str, Any], case: Case, rulebook: Rulebook, receipt: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the caller reads. Of an end that the person is told of, the notice too, where there are words for it."""
        await self._count(record, case)
        appeal = _named(case, record[APPEAL]["id"])
        shown: dict[str, Any] = {"appeal": self._shown(appeal, case.first["id"]), "record": record, "receipt": receipt}
        if record["said"] in ("upheld", "partly", "lifted"):
            shown |= {"lifted": record["lifted"], "still": record["still"], "notice": _notices(case, rulebook, record)}
        return shown

    async def _count(self, record: Mapping[str, Any], case: Case) -> None:
        """Record a lifting by a person as the outcome that was promised; once, as its event id is the appeal's."""
        terms = _terms(case, appeal_of(record))
        if record["counted"] != "lifted" or terms.counts_as is None:
            return
        outcome = {"refers_to": case.first["event"]["id"], "result": terms.counts_as}
        event = {"kind": "outcome", "event_id": f"appeal-{record['id']}", "at": utc(record["decided_at"])}
        await self._intake.observe(orjson.dumps({**event, "outcome": outcome}), case.first["tenant"])

    # Reading

    async def read(self, id: str, caller: Caller) -> list[dict[str, Any]]:
        """The appeals against a decision, oldest first, with their steps. What was written stays sealed: the decision's
        own page shows it to who may reveal it."""
        case = await self._records.case(await self._records.stored(id, caller.tenant, "decision"))
        return [
            {**self._shown(each, id), "steps": [_step_shown(step) for step in steps_of(case, each.id)]}
            for each in appeals_in(case)
        ]

    async def all(self, caller: Caller, state: str | None, overdue: bool) -> list[dict[str, Any]]:
        """The appeals of the caller's tenant of the last 400 days, the oldest first; those in a `state` alone, or those
        that are overdue."""
        found = await self._found(caller.tenant, self._clock() - PAST)
        shown = [self._shown(appeal, decision) for decision, appeal in found]
        return [each for each in shown if state in (None, each["state"]) and (each["overdue"] or not overdue)]

    def _shown(self, appeal: Appeal, decision: str) -> dict[str, Any]:
        late = appeal.overdue(self._clock())
        times = {
            name: None if at is None else utc(at)
            for name, at in (
                ("opened_at", appeal.opened_at),
                ("acknowledge_by", appeal.acknowledge_by),
                ("answer_by", appeal.answer_by),
                ("more_by", appeal.more_by),
            )
        }
        told = {"id": appeal.id, "decision": decision, "ref": appeal.ref, "kind": appeal.kind, "state": appeal.state}
        return {**told, "overdue": late, **times, "reviewer": appeal.reviewer or None}

    async def _found(self, tenant: str, since: int) -> list[tuple[str, Appeal]]:
        """(decision, appeal as it stands) of the appeals with a step since then."""
        newest: dict[str, tuple[str, Appeal]] = {}
        for record in map(orjson.loads, await self._ledger.appeals(tenant, since)):
            newest[record[APPEAL]["id"]] = (record["refers_to"], appeal_of(record))
        return list(newest.values())

    async def waiting(self) -> Mapping[tuple[str, str], int]:
        """How many appeals wait, of all tenants, by kind and by state, or `overdue` in the place of its state."""
        now, counts = self._clock(), Counter[tuple[str, str]]()
        for tenant in await self._ledger.tenants():
            for _, appeal in await self._waiting(tenant):
                counts[appeal.kind, "overdue" if appeal.overdue(now) else appeal.state] += 1
        return counts

    # What is over

    async def sweep(self) -> None:
        """End what is over, for ever. One of several processes does it for all."""
        while self._team.index == 0:
            try:
                await self.close_overdue()
            except Unavailable as error:
                log.warning("sweep_failed", reason=str(error))
            await asyncio.sleep(SWEEP_SECONDS)

    async def close_overdue(self) -> int:
        """End every appeal whose time is over, as was promised when it was opened; how many there were."""
        now, closed = self._clock(), 0
        for tenant in await self._ledger.tenants():
            for decision, appeal in await self._waiting(tenant):
                if appeal.ends(now) is not None:
                    closed += await self._close(decision, appeal.id, tenant, now)
        return closed

    async def _waiting(self, tenant: str) -> list[tuple[str, Appeal]]:
        """The appeals of a tenant that wait. Only what came since the oldest of them was opened is read."""
        now = self._clock()
        found = await self._found(tenant, self._oldest.get(tenant, 0))
        waits = [(decision, appeal) for decision, appeal in found if appeal.waits]
        self._oldest[tenant] = min([now - LATEST, *(appeal.opened_at for _, appeal in waits)])
        return waits

    async def _close(self, id: str, appeal_id: str, tenant: str, now: int) -> bool:
        """Whether an appeal was over and has now ended. What cannot be ended is put off, and the log says so."""
        try:
            async with self._team.turn(f"case {id}"):
                stored, case, rulebook = await self._case(id, tenant)
                appeal = _named(case, appeal_id)
                if appeal.ends(now) is None:
                    return False  # Somebody was faster.
                policy = policy_of(rulebook.kinds[stored.entry.event_kind])
                terms, at = _terms(case, appeal), self._now(case)
                record = ended_late(new_id(), case, appeal, terms, policy, at, _still(case, rulebook))
                await self._append(stored, case, rulebook, record, None)
        except Unavailable:
            raise
        except ArbiterError as error:
            log.error("appeal_not_closed", appeal=appeal_id, reason=str(error))
            return False
        return True


def _step_shown(record: Mapping[str, Any]) -> dict[str, Any]:
    """A step as a list of them shows it."""
    shown = {name: record[name] for name in ("id", "said", "counted", "by", "verdict", "note")}
    ended = {name: record[name] for name in ("lifted", "still") if name in record}
    return {"at": utc(record["decided_at"]), "state": record[APPEAL]["state"], **shown, **ended}


def _named(case: Case, id: str) -> Appeal:
    for appeal in appeals_in(case):
        if appeal.id == id:
            return appeal
    raise NotFound("there is no appeal with this id against this decision")


def _terms(case: Case, appeal: Appeal) -> Terms:
    """What was promised when it was opened."""
    return Terms(**steps_of(case, appeal.id)[0]["terms"])


def _text(step: AnyStep) -> str | Mapping[str, str] | None:
    """What somebody wrote with a step."""
    if isinstance(step, MoreAsked | AppealDecided):
        return {"en": step.en, "zh": step.zh}
    return step.reason if isinstance(step, Added) else None


_SAID: Mapping[type[AnyStep], str] = {Taken: "taken", MoreAsked: "more_asked", Added: "added", Withdrawn: "withdrawn"}


def _repeated(case: Case, appeal: Appeal, step: AnyStep, by: By) -> Mapping[str, Any] | None:
    """The record of the same step, if it was taken before: the newest one, by the same person, or an addition of the
    same `ref`."""
    steps = steps_of(case, appeal.id)
    if isinstance(step, Added):
        return next((record for record in steps if record.get("added") == step.ref), None)
    said = step.result if isinstance(step, AppealDecided) else _SAID[type(step)]
    newest = steps[-1]
    same = newest["said"] == said and newest["by"] == {"name": by.name, "kind": by.kind, "person": by.person}
    return newest if same else None


def _still(case: Case, rulebook: Rulebook) -> dict[str, Any]:
    """What may hit the next event alike, and only people can undo: the lists that a rule which found something asked,
    and the merchant's tier of then."""
    first = case.first
    found = set(first["found"])
    rules: Iterable[Any] = (rule for rule in rulebook.kinds[first["event"]["kind"]].rules if rule.id in found)
    lists = sorted({name for rule in rules for name in rule.lists})
    return {"lists": lists, "tier": first["situation"]["tier"] or None}


def _notices(case: Case, rulebook: Rulebook, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the person is told of this end, by language; None where the rulebook of the decision has no words."""
    try:
        return {language: statement(case, rulebook, "person", language, of=record["id"]) for language in ("en", "zh")}
    except Conflict:
        return None
