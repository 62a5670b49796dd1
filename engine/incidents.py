"""Incidents: a playbook at work. Opened by a person or a trigger, step by step, with clocks that run, and an end.

    incident = await incidents.start(b'{"playbook": "data-breach", "reason": "…", "known": "…"}', caller)
    await incidents.step(incident["id"], "contain", b'{"state": "done", "evidence": "…"}', caller)
    await incidents.close(incident["id"], b'{"conclusion": "…"}', caller)

Each act is in the ledger before it counts; reasons, evidence and conclusions are sealed there, and shown masked. An
incident keeps to the playbook as it was when it was opened. A drill is the same, without anything being switched.

Triggers: `triggers` counts events, `opinion` takes reports of a monitor, `raised` is told of alert lines. A trigger
never opens a second incident of a playbook while one is open, nor one by what was counted for the one before.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import structlog
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from engine import database as db
from engine.bodies import read_body
from engine.callers import By, Caller
from engine.changes import Changes
from engine.errors import BodyRefused, Conflict, FieldProblem, NotAllowed, NotFound, Unavailable, did_you_mean
from engine.intake import Clock, Intake
from engine.jcs import canonical
from engine.journal import EVERYONE, Note
from engine.ledger import Ledger
from engine.modes import Modes
from engine.opinions import Opinions
from engine.packs.moments import day_of, written
from engine.playbooks import OPINION, Playbook, Step, Trigger
from engine.randomness import random_bytes
from engine.records import ByHash
from engine.schema import FUTURE, instant, masked
from engine.standing import DONE, DRILL, INCIDENT, Row, listed, short, standing, whole
from engine.team import Team
from engine.triggers import Triggers
from engine.tripwires import Tripwire

SELF = By("arbiter", "service")
"""Who does what nobody asked for."""

TURN = "incidents"
TEND_SECONDS = 2.0
"""How often it is looked whether another rulebook has other triggers."""

log = structlog.get_logger("arbiter")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    person: str = Field(default="", max_length=120, description="Who did it, where a service reports it")


class NewIncident(_Body):
    """A playbook to be followed from now on; `kind` drill practises it. `known` is when it became known, if earlier."""

    playbook: str = Field(min_length=1, max_length=64)
    kind: Literal["incident", "drill"] = "incident"
    reason: str = Field(min_length=1, max_length=2000)
    known: Annotated[int, BeforeValidator(instant)] | None = Field(
        default=None, json_schema_extra={"type": "string", "format": "date-time"}
    )


class StepTaken(_Body):
    """A step that was done, with what shows it, or that is passed over, with the reason."""

    state: Literal["done", "skipped"]
    evidence: str = Field(min_length=1, max_length=2000)


class IncidentClosed(_Body):
    """The end of an incident, and what came of it."""

    conclusion: str = Field(min_length=1, max_length=2000)


_NEW: TypeAdapter[NewIncident] = TypeAdapter(NewIncident)
_STEP: TypeAdapter[StepTaken] = TypeAdapter(StepTaken)
_CLOSED: TypeAdapter[IncidentClosed] = TypeAdapter(IncidentClosed)


class Incidents:
    """Opens incidents, takes in what is done, and tells how they stand."""

    def __init__(
        self,
        ledger: Ledger,
        changes: Changes,
        intake: Intake,
        modes: Modes,
        rulebook: ByHash,
        team: Team,
        clock: Clock,
    ) -> None:
        database = ledger.database
        self._rows = db.Rows(database, db.incident)
        self._steps = db.Rows(database, db.incident_step)
        self._opinions = Opinions(database, changes, team, clock)
        self._ledger = ledger
        self._changes = changes
        self._intake = intake
        self._modes = modes
        self._rulebook = rulebook
        self._team = team
        self._clock = clock
        self._books: dict[str, Sequence[Playbook]] = {}
        """The playbooks of rulebooks of then, by their hash."""
        self._resumed = False
        self.triggers = Triggers(ledger, intake, team, clock, self._fire)
        """What counts events for playbooks."""

    # Playbooks

    async def playbooks(self, caller: Caller) -> list[dict[str, Any]]:
        """The playbooks of the rulebook in force: what is open, when each was practised, and until when it is to be
        practised again (None: never was)."""
        rows = await self._rows.find(tenant=caller.tenant)
        return [listed(book, [row for row in rows if row["playbook"] == book.id]) for book in self._playbooks()]

    def playbook(self, name: str) -> dict[str, Any]:
        """One of them, whole. NotFound."""
        return whole(self._named(name))

    def _playbooks(self) -> Sequence[Playbook]:
        return self._intake.live.rulebook.playbooks

    def _named(self, name: str) -> Playbook:
        known = {book.id: book for book in self._playbooks()}
        if name not in known:
            hint = did_you_mean(name, known) or ("playbooks are " + ", ".join(known) if known else "there is none")
            raise NotFound(f"there is no playbook '{name[:64]}'; {hint}")
        return known[name]

    # Incidents

    async def start(self, body: bytes, caller: Caller) -> dict[str, Any]:
        """Open an incident, or a drill; what its playbook lets Arbiter do by itself is done. BodyRefused, NotFound."""
        wanted = read_body(_NEW, body)
        book, now = self._named(wanted.playbook), self._clock()
        if wanted.known is not None and wanted.known > now + FUTURE:
            what = "lies more than 5 minutes in the future"
            raise BodyRefused([FieldProblem("known", "in_the_future", what, "write when it became known")])
        by = caller.speaking_for(wanted.person)
        async with self._team.turn(TURN):
            row = await self._open(caller.tenant, book, by, caller.kind, wanted.reason, wanted.known, wanted.kind)
        return await self._shown(row)

    async def incidents(self, caller: Caller) -> list[dict[str, Any]]:
        """Every incident and drill of the tenant, the newest first, with what is overdue."""
        rows = await self._rows.find(tenant=caller.tenant)
        return [short(await self._shown(row)) for row in sorted(rows, key=lambda row: (-row["opened"], row["id"]))]

    async def incident(self, id: str, caller: Caller) -> dict[str, Any]:
        """How one stands: steps, clocks, messages, who did what. NotFound."""
        return await self._shown(await self._find(id, caller.tenant))

    async def step(self, id: str, step: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Take in that a step was done, or is passed over. One that switches a mode on does so, but in a drill; that
        needs the scope deploy. NotFound; Conflict where it was done, or the incident is closed."""
        wanted = read_body(_STEP, body)
        async with self._team.turn(TURN):
            row = await self._find(id, caller.tenant)
            book = await self._book(row)
            found = book.step(step)
            if found is None:
                ids = [each.id for each in book.steps]
                hint = did_you_mean(step, ids) or "steps are " + ", ".join(ids)
                raise NotFound(f"there is no step '{step[:64]}'; {hint}")
            _must_be_open(row)
            before = await self._steps.find(incident=id, step=step)
            if before and before[0]["state"] == DONE:
                raise Conflict("this step is done")
            by = caller.speaking_for(wanted.person)
            if found.mode and wanted.state == DONE and not row["drill"]:
                if "deploy" not in caller.scopes:
                    raise NotAllowed("This step switches a mode on.", missing="deploy")
                await self._switch(row, found, by)
            await self._take(row, found, wanted.state, wanted.evidence, by, before[0]["state"] if before else None)
            return await self._shown(row)

    async def close(self, id: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """End an incident, once each of its steps is done or passed over. NotFound, Conflict."""
        wanted = read_body(_CLOSED, body)
        async with self._team.turn(TURN):
            row = await self._find(id, caller.tenant)
            _must_be_open(row)
            taken = {each["step"] for each in await self._steps.find(incident=id)}
            left = [step.id for step in (await self._book(row)).steps if step.id not in taken]
            if left:
                raise Conflict(f"steps are open: {', '.join(left)}; do them, or pass over them with the reason")
            by, now = caller.speaking_for(wanted.person), self._clock()
            note = await self._note(caller.tenant, wanted.conclusion)
            await self._changes.record(caller.tenant, "incident_closed", id, "open", "closed", by, note)
            ended = {"closed": now, "closed_by": by.person or by.name, "conclusion": masked(wanted.conclusion)}
            await self._rows.change({"id": id}, **ended)
            return await self._shown({**row, **ended})

    async def _find(self, id: str, tenant: str) -> Row:
        rows = await self._rows.find(id=id, tenant=tenant)
        if not rows:
            raise NotFound("there is no incident with this id")
        return rows[0]

    async def _book(self, row: Row) -> Playbook:
        """The playbook of an incident, as it was when it was opened."""
        named = row["rulebook"]
        if named not in self._books:
            self._books[named] = (await self._rulebook(named)).playbooks
        return next(book for book in self._books[named] if book.id == row["playbook"])

    async def _shown(self, row: Row) -> dict[str, Any]:
        taken = {each["step"]: each for each in await self._steps.find(incident=row["id"])}
        return standing(row, await self._book(row), taken, self._clock())

    async def _note(self, tenant: str, text: str) -> Note:
        await self._intake.ready(tenant)
        return partial(self._intake.seal_note, tenant, subject=None, note=text)

    async def _open(
        self, tenant: str, book: Playbook, by: By, cause: str, reason: str, known: int | None, kind: str = INCIDENT
    ) -> Row:
        """Into the ledger, then into the table; then what Arbiter does by itself."""
        now, drill = self._clock(), kind == DRILL
        id = await self._free_id(now)
        since = now if known is None else min(known, now)
        told = {"playbook": book.id, "drill": drill, "cause": cause, "known": written(since)}
        note = await self._note(tenant, reason)
        after = canonical(told).decode()
        record = await self._changes.record(tenant, "incident_opened", id, None, after, by, note)
        row: dict[str, Any] = {
            "id": id,
            "tenant": tenant,
            "playbook": book.id,
            "rulebook": self._intake.live.rulebook.hash,
            "drill": int(drill),
            "cause": cause,
            "known": since,
            "opened": now,
            "opened_by": by.person or by.name,
            "reason": masked(reason),
            "record": record,
            "closed": None,
            "closed_by": None,
            "conclusion": None,
        }
        await self._rows.add(**row)
        if not drill:
            log.warning("incident_opened", incident=id, playbook=book.id, cause=cause)
            await self._by_itself(row, book)
        return row

    async def _free_id(self, now: int) -> str:
        """Short enough to be said on the telephone: the day, and four digits."""
        day = day_of(now).isoformat()
        while True:
            id = f"{day}-{random_bytes(2).hex()}"
            if not await self._rows.find("id", id=id):
                return id

    async def _by_itself(self, row: Row, book: Playbook) -> None:
        """The steps that Arbiter takes without anybody, unless they are taken."""
        taken = {each["step"] for each in await self._steps.find(incident=row["id"])}
        for step in book.steps:
            if step.automatic and step.id not in taken:
                until = await self._switch(row, step, SELF)
                assert step.mode is not None, "nothing else is automatic"
                await self._take(row, step, DONE, f"the mode {step.mode[0]} is on until {until}", SELF, None)

    async def _switch(self, row: Row, step: Step, by: By) -> str:
        """Switch the mode of a step on; until when it is. One that is on for longer stays so."""
        assert step.mode is not None, "asked before"
        name, length = step.mode
        reason = f"incident {row['id']}, step {step.id}"
        return written(await self._modes.enter(row["tenant"], name, length, reason, by))

    async def _take(self, row: Row, step: Step, state: str, evidence: str, by: By, before: str | None) -> None:
        tenant, name = row["tenant"], f"{row['id']}/{step.id}"
        note = await self._note(tenant, evidence)
        record = await self._changes.record(tenant, "incident_step", name, before, state, by, note)
        told = {"by": by.person or by.name, "evidence": masked(evidence), "record": record}
        await self._steps.put(incident=row["id"], step=step.id, state=state, at=self._clock(), **told)

    # Triggers

    async def opinion(self, body: bytes, caller: Caller) -> dict[str, Any]:
        """Take in a report of an opinion monitor; the incidents that it opened stand in the answer."""
        answer = await self._opinions.take(body, caller)
        opened = []
        for book in self._playbooks():
            for trigger in book.triggers:
                if trigger.webhook == OPINION:
                    enough = partial(self._loud, caller.tenant, trigger)
                    opened += await self._trigger(caller.tenant, book, trigger.cause, enough)
        return {**answer, "incidents": opened}

    async def raised(self, tenant: str, alert: str) -> list[str]:
        """An alert line is raised: open what has it as a trigger, and give the ids. For whoever evaluates the lines.

        What is raised for everyone opens an incident of each tenant.
        """
        tenants = [tenant]
        if tenant == EVERYONE:
            tenants = [each for each in await self._ledger.tenants() if each != EVERYONE]
        named = [(book, each.cause) for book in self._playbooks() for each in book.triggers if each.alert == alert]
        opened = [await self._trigger(each, book, cause, _always) for each in tenants for book, cause in named]
        return [id for ids in opened for id in ids]

    async def _loud(self, tenant: str, trigger: Trigger, closed: int) -> bool:
        since = max(self._clock() - trigger.within, closed)
        return await self._opinions.volume(tenant, trigger.sentiment, since) >= trigger.volume

    async def _trigger(
        self, tenant: str, book: Playbook, cause: str, enough: Callable[[int], Awaitable[bool]]
    ) -> list[str]:
        """Open an incident unless one is open; `enough` is asked whether what came since the last one's end will do."""
        async with self._team.turn(TURN):
            rows = [row for row in await self._rows.find(tenant=tenant, playbook=book.id) if not row["drill"]]
            if any(row["closed"] is None for row in rows):
                return []
            if not await enough(max((row["closed"] for row in rows), default=-1)):
                return []
            row = await self._open(tenant, book, SELF, cause, cause, None)
            return [str(row["id"])]

    async def _fire(self, tenant: str, book: Playbook, trigger: Trigger, wire: Tripwire) -> None:
        async def enough(closed: int) -> bool:
            return wire.tripped(closed)

        try:
            await self._trigger(tenant, book, trigger.cause, enough)
        except Unavailable as error:
            log.warning("incident_not_opened", playbook=book.id, reason=str(error))

    async def keep(self) -> None:
        """Count for the triggers of the rulebook in force, for ever; first finish what a process began that is gone."""
        while True:
            try:
                if not self._resumed and self._team.index == 0:
                    await self._resume()
                    self._resumed = True
                await self.triggers.tend()
            except Unavailable as error:
                log.warning("triggers_not_counted", reason=str(error))
            await asyncio.sleep(TEND_SECONDS)

    async def _resume(self) -> None:
        """Take the steps that open incidents take by themselves and did not."""
        async with self._team.turn(TURN):
            for row in await self._rows.find(closed=None, drill=0):
                await self._by_itself(row, await self._book(row))

    # Figures

    async def figures(self) -> dict[str, dict[tuple[str, str], int]]:
        """How many are open by (playbook, incident or drill), and how many of their steps and clocks are overdue."""
        found: dict[str, dict[tuple[str, str], int]] = {"open": defaultdict(int), "overdue": defaultdict(int)}
        for row in await self._rows.find(closed=None):
            shown, book = await self._shown(row), row["playbook"]
            found["open"][book, DRILL if row["drill"] else INCIDENT] += 1
            if not row["drill"]:
                for part, name in (("steps", "step"), ("timers", "timer")):
                    found["overdue"][book, name] += sum(each["overdue"] for each in shown[part])
        return found


async def _always(closed: int) -> bool:
    del closed
    return True


def _must_be_open(row: Row) -> None:
    if row["closed"] is not None:
        raise Conflict("this incident is closed")
