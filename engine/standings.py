"""Where merchants, and others whom a profile is about, stand: assessed, kept, told, and set by persons.

    standings = Standings(ledger, changes, intake, vault, team, clock)
    await standings.assess(tenant, profile, subject, REQUEST, by)

Somebody is assessed after events that the profile names, when the review of their tier is due, and when a person asks.
An assessment that moves somebody, and every one that was due or asked for, is an entry of its own in the ledger, with
the values of all windows: `engine.profiles.recomputed` computes it again. What a person has set stays until the time
that they said, whatever the points are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import orjson
import structlog
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter
from sqlalchemy import func, select

from engine import database as db
from engine.bodies import read_body
from engine.callers import By, Caller
from engine.changes import Changes
from engine.errors import EventRefused, FieldProblem, NotFound, RequestRefused, Unavailable
from engine.features import STORE_UNAVAILABLE
from engine.intake import Clock, Intake
from engine.ledger import Ledger, new_id
from engine.policy import MERCHANT
from engine.profiles import Assessment, Profile, Standing, assess
from engine.schema import Event, at_path, identifying, identifying_problem, instant, masked
from engine.stores import Gap
from engine.team import Team
from engine.vault import Vault

STANDING = "standing"
"""What other processes are told: somebody stands elsewhere."""

EVENT, REQUEST, REVIEW, PERSON = "event", "request", "review", "person"
"""Why somebody was assessed, or moved: something happened, somebody asked, it was due, a person set the tier."""

SELF = By("arbiter", "service")
"""Who assesses when nobody asks for it."""

SECONDS = 5
"""How often those are assessed about whom something happened, and those whose review is due."""
MOST_WAITING = 100_000
"""Subjects that wait to be assessed: of more, those that came last are found by their review."""
AT_ONCE = 200
"""Reviews in one go."""
SHOWN = 100
"""Steps of a history that are shown, the newest first."""

_WAIT_FOR = frozenset({Gap.NOT_WARM.value, STORE_UNAVAILABLE})
"""What is missing only for now: nobody is assessed by it."""

log = structlog.get_logger("arbiter")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class NamedSubject(_Body):
    """Somebody whom a profile is about, by the name that events give them."""

    subject: str = Field(min_length=1, max_length=128, description="As in events, such as the account of an anchor")


class SubjectTier(NamedSubject):
    """A tier for somebody, and why."""

    tier: str = Field(min_length=1, max_length=64)
    reason: str = Field(min_length=1, max_length=400)
    until: Annotated[int, BeforeValidator(instant)] | None = Field(
        default=None,
        json_schema_extra={"type": "string"},
        description="Until when no assessment changes it; for good when absent",
    )
    person: str = Field(default="", max_length=120, description="Who decided, where a service reports it")


_NAMED = TypeAdapter(NamedSubject)
_TIER = TypeAdapter(SubjectTier)


@dataclass(frozen=True, slots=True)
class Subject:
    """Somebody whom a profile is about. `name` is in clear where it is public, else a pseudonym."""

    tenant: str
    profile: str
    name: str


@dataclass(frozen=True, slots=True)
class Held:
    """A tier that a person has set: until when (UTC µs, None for good) and whose it was."""

    until: int | None
    by: str

    def holds(self, now: int) -> bool:
        """Whether no assessment may change it."""
        return self.until is None or now < self.until


class Standings:
    """Who stands where, in one process. What one process finds, all know at once."""

    def __init__(
        self, ledger: Ledger, changes: Changes, intake: Intake, vault: Vault, team: Team, clock: Clock
    ) -> None:
        self._rows = db.Rows(ledger.database, db.standing)
        self._steps = db.Rows(ledger.database, db.standing_step)
        self._merchants = db.Rows(ledger.database, db.merchant)
        self._ledger = ledger
        self._changes = changes
        self._intake = intake
        self._vault = vault
        self._team = team
        self._clock = clock
        self._waiting: dict[Subject, int] = {}
        """Who is to be assessed, and from when on (UTC µs)."""
        intake.seen = self.seen
        team.on(STANDING, self._set)

    async def load(self) -> None:
        """Put in force where everybody stands, as the database has it. Nobody may change it meanwhile."""
        live = self._intake.live
        live.tiers = {(row["tenant"], row["id"]): row["tier"] for row in await self._merchants.find()}
        rows = await self._rows.find("tenant", "profile", "subject", "tier")
        live.standings = {
            (row["tenant"], row["profile"], row["subject"]): row["tier"] for row in rows if row["profile"] != MERCHANT
        }

    # When

    def seen(self, event: Event, keys: Mapping[str, str]) -> None:
        """Something happened, and is in the ledger: those whom it is about are assessed soon."""
        for profile in self._profiles.values():
            if event.kind not in profile.events:
                continue
            name = keys.get(profile.subject) if profile.personal else at_path(event.values, profile.subject)
            subject = Subject(event.tenant, profile.name, name or "")
            if name and subject not in self._waiting:
                if len(self._waiting) >= MOST_WAITING:
                    log.warning("assessment_not_noted", profile=profile.name, reason="too many wait")
                    return
                self._waiting[subject] = self._clock()

    async def keep(self) -> None:
        """Assess those about whom something happened, and those whose review is due, for ever."""
        while True:
            try:
                await self.assess_waiting()
                if self._team.index == 0:  # For all.
                    await self.review()
            except Unavailable as error:
                log.warning("not_assessed", reason=str(error))
            await asyncio.sleep(SECONDS)

    async def assess_waiting(self) -> int:
        """Assess those about whom something happened, each when its last assessment is long enough ago; how many."""
        now, done = self._clock(), 0
        for subject in [subject for subject, at in self._waiting.items() if at <= now]:
            profile = self._profiles.get(subject.profile)
            if profile is None:
                del self._waiting[subject]
                continue
            row = await self._row(subject)
            if row is not None and row["assessed"] is not None and row["assessed"] + profile.wait > now:
                self._waiting[subject] = row["assessed"] + profile.wait
                continue
            await self.assess(subject, EVENT, SELF)
            self._waiting.pop(subject, None)
            done += 1
        return done

    async def review(self, tenant: str = "", by: By = SELF, most: int = AT_ONCE) -> dict[str, int]:
        """Assess those whose review is due, the longest due first, of one tenant or of all: how many were, how many of
        them moved, and how many are left."""
        now = self._clock()
        due = [db.standing.c.review <= now, db.standing.c.profile.in_(sorted(self._profiles))]
        due += [db.standing.c.tenant == tenant] if tenant else []
        named = select(db.standing.c.tenant, db.standing.c.profile, db.standing.c.subject).where(*due)
        longest = named.order_by(db.standing.c.review).limit(most)
        count = select(func.count()).select_from(db.standing).where(*due)
        read = self._ledger.database.read
        chosen = await read(lambda connection: connection.execute(longest).all())
        whole = await read(lambda connection: connection.execute(count).scalar_one()) if chosen else 0
        moved = 0
        for row in chosen:
            moved += (await self.assess(Subject(*row), REVIEW, by)).moved
        return {"assessed": len(chosen), "moved": moved, "left": whole - len(chosen)}

    async def enrol(self, tenant: str) -> int:
        """Let merchants of the ledger of whom nothing was assessed yet be due for their first review now; how many."""
        self._profile(MERCHANT)
        known = {row["subject"] for row in await self._rows.find("subject", tenant=tenant, profile=MERCHANT)}
        new = [name for name in await self._ledger.merchants(tenant) if name not in known]
        now = self._clock()
        for name in new:
            subject = Subject(tenant, MERCHANT, name)
            await self._rows.add(**self._fresh(subject, await self._tier_of(subject), now))
        return len(new)

    # Assessing

    async def assess(self, subject: Subject, why: str, by: By) -> Assessment:
        """Assess somebody now, and let them stand where that leads, unless a person has set where they stand.

        Unavailable while the history of the windows is being loaded or their store is away: nothing changes then.
        """
        profile = self._profile(subject.profile)
        async with self._changes.turn():
            now = self._clock()
            row = await self._row(subject) or self._fresh(subject, await self._tier_of(subject), now)
            found = self._found(profile, subject, row, now)
            held = _held(row)
            stays = held is not None and held.holds(now)
            moves = found.moved and not stays
            first = row["tier"] is None
            record = await self._record(subject, row, found, why, by, stays=stays) if moves or why != EVENT else ""
            await self._keep(subject, self._assessed(row, found, stays=stays, first=first, by=by))
            if moves:
                await self._step(subject, row["tier"], found, why, by, record)
                await self._stand(subject, found.after.tier, _why(found), now)
            return found

    async def _record(
        self, subject: Subject, row: Mapping[str, Any], found: Assessment, why: str, by: By, *, stays: bool
    ) -> str:
        """An entry with the values of all windows, before anything follows from them."""
        said = {**found.record(), "why": why, "held": stays, "rulebook": self._intake.live.rulebook.hash}
        name, tenant, before = _name(found.profile, subject, row), subject.tenant, row["tier"]
        after, more = before if stays else found.after.tier, {"assessment": said}
        return await self._changes.record(tenant, "tier_assessed", name, before, after, by, more=more)

    def _found(self, profile: Profile, subject: Subject, row: Mapping[str, Any], now: int) -> Assessment:
        reading = self._intake.look(profile, subject.tenant, subject.name, now)
        gaps = {cause for _, cause in reading.gaps} & _WAIT_FOR
        if gaps:
            raise Unavailable("the windows of the profile are not all there yet; ask again soon", "not_warm")
        book = self._intake.live.rulebook
        values = [reading.values[slot] for slot in book.reads[profile.kind]]
        before = None if row["tier"] is None else Standing(row["tier"], row["since"])
        return assess(profile, subject.name, now, values, before, book.convert)

    def _assessed(
        self, row: Mapping[str, Any], found: Assessment, *, stays: bool, first: bool, by: By
    ) -> dict[str, Any]:
        """The row after an assessment. What a person had set for a time that is over is set no more."""
        told = {"points": found.points, "factors": orjson.dumps(found.record()["factors"]).decode()}
        told |= {"assessed": found.at, "review": found.review_at}
        if stays:
            return {**row, **told, "review": min(found.review_at, row["held_until"] or found.review_at)}
        stands = {"tier": found.after.tier, "since": found.after.since, "held_by": None, "held_until": None}
        return {**row, **told, **stands, "set_by": by.name if found.moved or first else row["set_by"]}

    async def _step(
        self, subject: Subject, before: str | None, found: Assessment, why: str, by: By, record: str
    ) -> None:
        factors = orjson.dumps([each for each in found.record()["factors"] if each["counted"]]).decode()
        await self._steps.add(
            **_key(subject), id=new_id(), at=found.at, before=before, after=found.after.tier, points=found.points,
            factors=factors, why=why, by=by.name, reason="", until=None, record=record,
        )  # fmt: skip

    # Persons

    async def set(
        self, subject: Subject, tier: str, reason: str, until: int | None, by: By, *, record: bool = True
    ) -> None:
        """Let somebody stand in a tier because a person says so, until then or for good. Within a turn of changes.

        `record` is false where the change is in the ledger already.
        """
        profile, now = self.check(subject.profile, tier, until), self._clock()
        row = await self._row(subject) or self._fresh(subject, await self._tier_of(subject), now)
        if record:
            await self._intake.ready(subject.tenant)
            note = partial(self._intake.seal_note, subject.tenant, subject=None, note=reason)
            name, tenant = _name(profile, subject, row), subject.tenant
            await self._changes.record(tenant, "tier_set", name, row["tier"], tier, by, note)
        standing = Standing(tier, now)
        review = profile.ladder.review_at(standing, now)
        held = {"held_by": by.person or by.name, "held_until": until}
        await self._keep(
            subject,
            {**row, "tier": tier, "since": now, "review": min(review, until or review), "set_by": by.name, **held},
        )
        await self._steps.add(
            **_key(subject), id=new_id(), at=now, before=row["tier"], after=tier, points=None, factors="[]",
            why=PERSON, by=by.person or by.name, reason=masked(reason), until=until, record="",
        )  # fmt: skip
        await self._stand(subject, tier, masked(reason), now)

    def check(self, name: str, tier: str, until: int | None) -> Profile:
        """The profile. RequestRefused for a tier that it does not have, and for an end in the past."""
        profile = self._profile(name)
        if tier not in profile.ladder.tiers:
            what, hint = "the profile has no such tier", "one of " + ", ".join(profile.ladder.tiers)
            raise RequestRefused(
                "This tier is none of the profile's.", [FieldProblem("tier", "unknown_tier", what, hint)]
            )
        if until is not None and until <= self._clock():
            what, hint = "lies in the past", "leave it out where the tier is to stay for good"
            raise RequestRefused("The tier would be over at once.", [FieldProblem("until", "in_the_past", what, hint)])
        return profile

    # Telling

    async def officer(self, subject: Subject) -> dict[str, Any]:
        """Where somebody stands, with all points and limits. NotFound of whom nothing was assessed or set."""
        profile, row = self._profile(subject.profile), await self._known(subject)
        ladder = profile.ladder
        return {
            "profile": profile.name,
            **self._told(profile, row),
            "points": row["points"],
            "factors": orjson.loads(row["factors"]),
            "limits": [
                {"tier": rung.tier, "enter": rung.enter, "leave": rung.leave, "stay_s": rung.stay // 1_000_000}
                for rung in ladder.rungs
            ],
            "set_by": row["set_by"],
            "history": await self._history(subject, all_of_it=True),
        }

    async def own(self, subject: Subject) -> dict[str, Any]:
        """The same for whom it is about: why, how much each reason weighs, what to do. No points and no limits."""
        profile, row = self._profile(subject.profile), await self._known(subject)
        factors = [each for each in orjson.loads(row["factors"]) if each["counted"]]
        return {
            "profile": profile.name,
            **self._told(profile, row),
            "factors": [
                {name: each[name] for name in ("because", "improve", "weight")}
                for each in sorted(factors, key=lambda each: -each["counted"])
            ],
            "history": await self._history(subject, all_of_it=False),
        }

    async def history(self, subject: Subject) -> list[dict[str, Any]]:
        """The steps of somebody, the newest first."""
        await self._known(subject)
        return await self._history(subject, all_of_it=True)

    def _told(self, profile: Profile, row: Mapping[str, Any]) -> dict[str, Any]:
        standing = Standing(row["tier"] or profile.ladder.start, row["since"])
        held = _held(row)
        return {
            "tier": standing.tier,
            "tiers": list(profile.ladder.tiers),
            "since": standing.since,
            "better_from": profile.ladder.better_from(standing),
            "assessed": row["assessed"],
            "next_review": row["review"],
            "held": None if held is None or not held.holds(self._clock()) else {"until": held.until},
        }

    async def _history(self, subject: Subject, *, all_of_it: bool) -> list[dict[str, Any]]:
        rows = await self._steps.find(**_key(subject))
        shown = []
        for row in sorted(rows, key=lambda row: (row["at"], row["id"]), reverse=True)[:SHOWN]:
            factors = orjson.loads(row["factors"])
            step = {name: row[name] for name in ("at", "before", "after", "why", "until")}
            if all_of_it:
                more = {name: row[name] for name in ("points", "by", "reason", "record")}
                shown.append({**step, **more, "factors": factors})
            else:
                shown.append({**step, "factors": [each["because"] for each in factors]})
        return shown

    # Bodies

    def read_named(self, profile: str, body: bytes, caller: Caller) -> Subject:
        """Whom a body names."""
        return self.named(caller.tenant, profile, read_body(_NAMED, body).subject)

    async def told(self, profile: str, body: bytes, caller: Caller, *, own: bool) -> dict[str, Any]:
        """Where whom a body names stands, for officers or for themselves."""
        subject = self.read_named(profile, body, caller)
        return await (self.own(subject) if own else self.officer(subject))

    async def assessed(self, subject: Subject, by: By) -> dict[str, Any]:
        """Assess somebody because a caller asks, and tell where they stand."""
        await self.assess(subject, REQUEST, by)
        return await self.officer(subject)

    async def change(self, profile: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Let somebody stand in a tier, as a body says. Merchants are set in their register."""
        wanted = read_body(_TIER, body)
        if profile == MERCHANT:
            raise RequestRefused("The tier of a merchant is set with PUT /v1/merchants/{id}.")
        subject = self.named(caller.tenant, profile, wanted.subject)
        async with self._changes.turn():
            await self.set(subject, wanted.tier, wanted.reason, wanted.until, caller.speaking_for(wanted.person))
        return await self.officer(subject)

    # Names

    def named(self, tenant: str, profile: str, value: str) -> Subject:
        """Somebody by the name that events give them. RequestRefused for what no event can have there."""
        found = self._profile(profile)
        kind = identifying(value) if not found.personal else ""
        if kind:
            raise RequestRefused("This id cannot be recorded.", [identifying_problem("subject", kind)])
        schema = self._intake.live.rulebook.schema
        of = next(each for each in schema.kinds if found.subject in schema.body_fields(each))
        try:
            event = schema.build({**schema.sample_fields(of), found.subject: value}, received_at=0, kind=of)
        except EventRefused as error:
            raise RequestRefused(f"This is no {found.subject}.", error.problems) from None
        if not found.personal:
            return Subject(tenant, profile, str(at_path(event.values, found.subject)))
        names = [(namespace, form) for path, namespace, form in schema.split(event)[2] if path == found.subject]
        if not names:
            raise RequestRefused(f"Nothing is left of this {found.subject} that could link events.")
        return Subject(tenant, profile, self._vault.pseudonym(tenant, *names[0]))

    @property
    def _profiles(self) -> Mapping[str, Profile]:
        return self._intake.live.rulebook.profiles

    def _profile(self, name: str) -> Profile:
        found = self._profiles.get(name)
        if found is None:
            known = ", ".join(self._profiles) or "none"
            raise NotFound(f"the rulebook in force has no profile of this name; it has {known}")
        return found

    # Rows

    async def _row(self, subject: Subject) -> dict[str, Any] | None:
        rows = await self._rows.find(**_key(subject))
        return rows[0] if rows else None

    async def _known(self, subject: Subject) -> dict[str, Any]:
        row = await self._row(subject)
        if row is None:
            raise NotFound("nobody of this name was assessed yet")
        return row

    async def _tier_of(self, subject: Subject) -> str | None:
        """The tier that a merchant was given before there was a profile."""
        if subject.profile != MERCHANT:
            return None
        rows = await self._merchants.find(tenant=subject.tenant, id=subject.name)
        return str(rows[0]["tier"]) if rows else None

    def _fresh(self, subject: Subject, tier: str | None, now: int) -> dict[str, Any]:
        return {
            **_key(subject),
            "id": new_id(),
            "tier": tier,
            "since": now,
            "points": 0,
            "factors": "[]",
            "assessed": None,
            "review": now,
            "held_by": None,
            "held_until": None,
            "set_by": "",
        }

    async def _keep(self, subject: Subject, row: Mapping[str, Any]) -> None:
        await self._rows.put(**{**row, **_key(subject)})

    async def _stand(self, subject: Subject, tier: str, reason: str, now: int) -> None:
        """Put it in force, in all processes."""
        if subject.profile == MERCHANT:
            await self._merchants.put(tenant=subject.tenant, id=subject.name, tier=tier, reason=reason, updated=now)
        said = (subject.tenant, subject.profile, subject.name, tier)
        self._set(said)
        await self._team.tell(STANDING, said)

    def _set(self, said: Sequence[str]) -> None:
        tenant, profile, name, tier = said
        live = self._intake.live
        if profile == MERCHANT:
            live.tiers = {**live.tiers, (tenant, name): tier}
        else:
            live.standings = {**live.standings, (tenant, profile, name): tier}


def _key(subject: Subject) -> dict[str, str]:
    return {"tenant": subject.tenant, "profile": subject.profile, "subject": subject.name}


def _name(profile: Profile, subject: Subject, row: Mapping[str, Any]) -> str:
    """What the log calls somebody: a personal name stands in the log nowhere, and its pseudonym neither."""
    return f"{profile.name}/{row['id'] if profile.personal else subject.name}"


def _held(row: Mapping[str, Any]) -> Held | None:
    return None if row["held_by"] is None else Held(row["held_until"], row["held_by"])


def _why(found: Assessment) -> str:
    """The reason that stands beside the tier: which factors count."""
    counted = [each.factor.id for each in sorted(found.weighed, key=lambda each: -each.counted) if each.counted]
    return ("assessed: " + (", ".join(counted) or "no factor counts"))[:400]


__all__ = ["EVENT", "PERSON", "REQUEST", "REVIEW", "NamedSubject", "Standings", "Subject", "SubjectTier"]
