"""What people keep through the API: entries of lists, and tiers of merchants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from engine import database as db
from engine.bodies import read_body
from engine.callers import By, Caller
from engine.changes import Changes
from engine.errors import BodyRefused, Conflict, FieldProblem, NotFound, RequestRefused, SecondPerson
from engine.intake import Clock, Intake
from engine.lists import ListEntry, ListSet, NamedList, approve, ask_end, end, entry_id, propose, withdraw
from engine.policy import MERCHANT
from engine.schema import identifying, identifying_problem, instant, masked
from engine.standings import Standings, Subject
from engine.team import Team
from engine.vault import Vault


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    person: str = Field(default="", max_length=120, description="Who decided, where a service reports it")


class TierChange(_Body):
    """A merchant's new tier and why."""

    tier: str = Field(min_length=1, max_length=64)
    reason: str = Field(min_length=1, max_length=400)
    until: Annotated[int, BeforeValidator(instant)] | None = Field(
        default=None,
        json_schema_extra={"type": "string"},
        description="Until when no assessment changes it; for good when absent",
    )


class NewEntry(_Body):
    """A value for a list. `expires` is in UTC microseconds."""

    value: str = Field(min_length=1, max_length=500)
    reason: str = Field(min_length=1, max_length=400)
    expires: Annotated[int, BeforeValidator(instant)] | None = Field(default=None, json_schema_extra={"type": "string"})


ENTRY = "list_entry"
"""What other processes are told: an entry is another one. Of a merchant's tier they are told by its profile's name."""

_TIER_CHANGE = TypeAdapter(TierChange)
_NEW_ENTRY = TypeAdapter(NewEntry)


class Merchants:
    """The tiers of merchants: what the caller of a decision never sets."""

    def __init__(
        self, database: db.Database, changes: Changes, intake: Intake, standings: Standings, team: Team, clock: Clock
    ) -> None:
        self._rows = db.Rows(database, db.merchant)
        self._changes = changes
        self._intake = intake
        self._standings = standings
        self._team = team
        self._clock = clock
        team.on(MERCHANT, self._set)

    async def load(self) -> None:
        """Put the tiers that the database holds in force."""
        await self._standings.load()

    async def read(self, merchant_id: str, caller: Caller) -> dict[str, Any]:
        """A merchant's tier, why, and since when; where a profile assesses merchants, all that it says."""
        rows = await self._rows.find(tenant=caller.tenant, id=merchant_id)
        shown = {name: rows[0][name] for name in ("id", "tier", "reason", "updated")} if rows else {"id": merchant_id}
        if self._assessed:
            return {**shown, **await self._standings.officer(self._subject(merchant_id, caller))}
        if not rows:
            raise NotFound("this merchant has no tier of its own; the policy's default holds")
        return shown

    async def own(self, merchant_id: str, caller: Caller) -> dict[str, Any]:
        """What a merchant may know of its tier: why, and how to come into a better one."""
        if not self._assessed:
            raise NotFound("the rulebook in force has no profile of merchants, so there is nothing to explain")
        return {"id": merchant_id, **await self._standings.own(self._subject(merchant_id, caller))}

    async def change(self, merchant_id: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Give a merchant a tier. Every policy's tiers are known here; another name is refused."""
        change = read_body(_TIER_CHANGE, body)
        kind = identifying(merchant_id)
        if kind:
            raise RequestRefused(
                "The merchant's id cannot be recorded.", [identifying_problem("path.merchant_id", kind)]
            )
        policies = self._intake.live.rulebook.policies.values()
        known = sorted({tier for policy in policies for tier in policy.pack.tiers})
        if change.tier not in known:
            hint = "one of " + ", ".join(known)
            raise BodyRefused([FieldProblem("tier", "unknown_tier", "no policy has this tier", hint)])
        if change.until is not None and not self._assessed:
            what = "no profile assesses merchants, so nothing would change the tier then"
            raise BodyRefused([FieldProblem("until", "nothing_ends", what, "leave it out")])
        # Whoever reads the tier reads this reason; as it was given it is sealed, with the record of the change.
        row = {"id": merchant_id, "tier": change.tier, "reason": masked(change.reason), "updated": self._clock()}
        await self._put(caller.tenant, row, change, caller.speaking_for(change.person))
        return row if change.until is None else {**row, "until": change.until}

    async def _put(self, tenant: str, row: dict[str, Any], change: TierChange, by: By) -> None:
        id, tier = row["id"], row["tier"]
        subject = Subject(tenant, MERCHANT, id)
        async with self._changes.turn():
            if self._assessed:
                self._standings.check(MERCHANT, tier, change.until)
            before = self._intake.live.tiers.get((tenant, id))
            await self._intake.ready(tenant)
            note = partial(self._intake.seal_note, tenant, subject=None, note=change.reason)
            await self._changes.record(tenant, "merchant_tier", id, before, tier, by, note)
            if self._assessed:
                await self._standings.set(subject, tier, change.reason, change.until, by, record=False)
                return
            await self._rows.put(tenant=tenant, **row)
            self._set((tenant, id, tier))
            await self._team.tell(MERCHANT, (tenant, id, tier))

    @property
    def _assessed(self) -> bool:
        """Whether a profile assesses merchants."""
        return MERCHANT in self._intake.live.rulebook.profiles

    def _subject(self, merchant_id: str, caller: Caller) -> Subject:
        return self._standings.named(caller.tenant, MERCHANT, merchant_id)

    def _set(self, said: Sequence[str]) -> None:
        tenant, id, tier = said
        self._intake.live.tiers = {**self._intake.live.tiers, (tenant, id): tier}


class Entries:
    """The entries of lists that came through the API. What is in force is a `ListSet`; here are its rows."""

    def __init__(
        self, database: db.Database, changes: Changes, intake: Intake, vault: Vault, team: Team, clock: Clock
    ) -> None:
        self._rows = db.Rows(database, db.list_entry)
        self._changes = changes
        self._intake = intake
        self._vault = vault
        self._team = team
        self._clock = clock
        team.on(ENTRY, self._set)

    async def onto(self, lists: ListSet) -> ListSet:
        """The lists of the files with the entries that the database holds."""
        return lists.with_pseudonym(self._vault.pseudonym).with_entries(await self._find())

    def lists(self, caller: Caller) -> list[dict[str, Any]]:
        """Every list: its name, how it compares, what being on it does, how many entries its files hold."""
        found = self._intake.live.lists
        hashes = found.hashes(found.lists, caller.tenant)
        return [
            {
                "name": name,
                "about": named.about,
                "match": named.match,
                "effect": "lowers" if named.lowers else "raises",
                "entity": named.entity or None,
                "entries_in_files": named.size,
                "available": found.available(name),
                "hash": hashes[name],
            }
            for name, named in found.lists.items()
        ]

    async def read(self, name: str, caller: Caller) -> list[dict[str, Any]]:
        """The entries of a list that came through the API, ended ones too. Personal values are pseudonyms."""
        self._named(name)
        return [self._shown(entry) for entry in await self._find(tenant=caller.tenant, list=name)]

    async def add(self, name: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Add a value to a list. Where that lowers the risk a person does it, and a second one has to approve it."""
        wanted, named = read_body(_NEW_ENTRY, body), self._named(name)
        by, now = caller.speaking_for(wanted.person), self._clock()
        if named.lowers and caller.kind != "person":
            # Whom a service names nobody can check: with its key and a person's, one would be two.
            raise SecondPerson("being on this list lowers the risk, so a person adds to it: use the key of a person")
        kind = "" if named.entity else identifying(wanted.value)
        if kind:
            hint = "this list keeps values in clear: add it to one with an 'entity', which keeps pseudonyms"
            raise BodyRefused([replace(identifying_problem("value", kind), hint=hint)])
        entry = propose(
            named,
            wanted.value,
            tenant=caller.tenant,
            by=by.person or by.name,
            at=now,
            reason=masked(wanted.reason),
            expires=wanted.expires,
            pseudonym=self._vault.pseudonym,
        )
        async with self._changes.turn():
            held = await self._find(tenant=entry.tenant, list=entry.list, value=entry.value)
            if any(one.state != "ended" and (one.expires is None or now < one.expires) for one in held):
                raise Conflict("this value is on the list already, or waits for approval")
            return await self._keep(None, entry, "list_entry_added", by, wanted.reason)

    async def approve(self, name: str, entry_id: str, caller: Caller) -> dict[str, Any]:
        """Let happen what an entry waits for: that it counts, or that it ends. Only a second person approves."""
        if not caller.by.person:
            raise SecondPerson("a person approves an entry or its end: use the key of a person")
        async with self._changes.turn():
            entry = await self._entry(name, entry_id, caller)
            after = approve(entry, by=caller.name, at=self._clock())
            if after.state == "ended":
                return await self._keep(entry, after, "list_entry_ended", caller.by)
            return await self._keep(entry, after, "list_entry_approved", caller.by)

    async def withdraw(self, name: str, entry_id: str, caller: Caller) -> dict[str, Any]:
        """Say no to what an entry waits for. It never lowers the risk, so anybody may."""
        async with self._changes.turn():
            entry = await self._entry(name, entry_id, caller)
            after = withdraw(entry, by=caller.name)
            if after.state == "ended":
                return await self._keep(entry, after, "list_entry_ended", caller.by)
            return await self._keep(entry, after, "list_entry_kept", caller.by)

    async def remove(self, name: str, entry_id: str, caller: Caller) -> dict[str, Any]:
        """Take an entry off a list; it stays to be read, as ended.

        Where that lowers the risk a person asks for it, and the entry counts until a second one approves.
        """
        async with self._changes.turn():
            entry = await self._entry(name, entry_id, caller)
            if self._named(name).lowers or not entry.holds(self._clock()):
                return await self._keep(entry, end(entry, by=caller.name), "list_entry_ended", caller.by)
            if caller.kind != "person":
                what = "being on this list raises the risk, so a person asks for the end of an entry"
                raise SecondPerson(f"{what}: use the key of a person")
            return await self._keep(entry, ask_end(entry, by=caller.name), "list_entry_end_asked", caller.by)

    def _named(self, name: str) -> NamedList:
        lists = self._intake.live.lists.lists
        if name not in lists:
            raise NotFound(f"there is no list of this name; lists are {', '.join(lists)}")
        return lists[name]

    async def _entry(self, name: str, entry_id: str, caller: Caller) -> ListEntry:
        self._named(name)
        for entry in await self._find(tenant=caller.tenant, list=name):
            if self._id(entry) == entry_id:
                return entry
        raise NotFound("this list has no entry with this id")

    async def _find(self, **where: Any) -> list[ListEntry]:
        return [ListEntry(**row) for row in await self._rows.find(**where)]

    async def _keep(
        self, before: ListEntry | None, entry: ListEntry, what: str, by: By, reason: str = ""
    ) -> dict[str, Any]:
        name = f"{entry.list}/{self._id(entry)}"
        await self._intake.ready(entry.tenant)
        # Of the steps of an entry only the first has a reason.
        note = partial(self._intake.seal_note, entry.tenant, subject=None, note=reason) if reason else None
        await self._changes.record(entry.tenant, what, name, before.state if before else None, entry.standing, by, note)
        row = asdict(entry)
        await self._rows.put(**row)
        self._set(row)
        await self._team.tell(ENTRY, row)
        return self._shown(entry)

    def _set(self, row: dict[str, Any]) -> None:
        self._intake.live.lists = self._intake.live.lists.with_entry(ListEntry(**row))

    def _id(self, entry: ListEntry) -> str:
        return entry_id(self._vault.pseudonym, entry.tenant, entry.list, entry.value)

    def _shown(self, entry: ListEntry) -> dict[str, Any]:
        return {"id": self._id(entry), **asdict(entry)}
