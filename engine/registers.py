"""What people keep through the API: entries of lists, and tiers of merchants."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from hashlib import sha256
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from engine import database as db
from engine.bodies import read_body
from engine.callers import Caller
from engine.changes import Changes
from engine.errors import Conflict, EventRefused, FieldProblem, NotFound
from engine.intake import Clock, Intake
from engine.lists import ListEntry, ListSet, NamedList, approve, end, propose
from engine.schema import instant
from engine.vault import Vault


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TierChange(_Body):
    """A merchant's new tier and why."""

    tier: str = Field(min_length=1, max_length=64)
    reason: str = Field(min_length=1, max_length=400)


class NewEntry(_Body):
    """A value for a list. `expires` is in UTC microseconds."""

    value: str = Field(min_length=1, max_length=500)
    reason: str = Field(min_length=1, max_length=400)
    expires: Annotated[int, BeforeValidator(instant)] | None = Field(default=None, json_schema_extra={"type": "string"})


_TIER_CHANGE = TypeAdapter(TierChange)
_NEW_ENTRY = TypeAdapter(NewEntry)


class Merchants:
    """The tiers of merchants: what the caller of a decision never sets."""

    def __init__(self, database: db.Database, changes: Changes, intake: Intake, clock: Clock) -> None:
        self._rows = db.Rows(database, db.merchant)
        self._changes = changes
        self._intake = intake
        self._clock = clock

    async def load(self) -> None:
        """Put the tiers that the database holds in force."""
        self._intake.live.tiers = {(row["tenant"], row["id"]): row["tier"] for row in await self._rows.find()}

    async def read(self, merchant_id: str, caller: Caller) -> dict[str, Any]:
        """A merchant's tier, why, and since when."""
        rows = await self._rows.find(tenant=caller.tenant, id=merchant_id)
        if not rows:
            raise NotFound("this merchant has no tier of its own; the policy's default holds")
        return {name: rows[0][name] for name in ("id", "tier", "reason", "updated")}

    async def change(self, merchant_id: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Give a merchant a tier. Every policy's tiers are known here; another name is refused."""
        change = read_body(_TIER_CHANGE, body)
        live = self._intake.live
        policies = [book.policy for book in live.rulebook.kinds.values() if book.policy]
        known = sorted({tier for policy in policies for tier in policy.pack.tiers})
        if change.tier not in known:
            hint = "one of " + ", ".join(known)
            raise EventRefused([FieldProblem("tier", "unknown_tier", "no policy has this tier", hint)])
        before = live.tiers.get((caller.tenant, merchant_id))
        row = {"id": merchant_id, "tier": change.tier, "reason": change.reason, "updated": self._clock()}
        await self._changes.record("merchant_tier", merchant_id, before, change.tier, caller)
        await self._rows.put(tenant=caller.tenant, **row)
        self._intake.live.tiers = {**self._intake.live.tiers, (caller.tenant, merchant_id): change.tier}
        return row


class Entries:
    """The entries of lists that came through the API. What is in force is a `ListSet`; here are its rows."""

    def __init__(self, database: db.Database, changes: Changes, intake: Intake, vault: Vault, clock: Clock) -> None:
        self._rows = db.Rows(database, db.list_entry)
        self._changes = changes
        self._intake = intake
        self._vault = vault
        self._clock = clock
        self._changing = asyncio.Lock()

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
        return [_shown(entry) for entry in await self._find(tenant=caller.tenant, list=name)]

    async def add(self, name: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Add a value to a list. Where that lowers the risk it waits for a second person."""
        wanted = read_body(_NEW_ENTRY, body)
        entry = propose(
            self._named(name),
            wanted.value,
            tenant=caller.tenant,
            by=caller.name,
            at=self._clock(),
            reason=wanted.reason,
            expires=wanted.expires,
            pseudonym=self._vault.pseudonym,
        )
        return await self._keep(None, entry, "list_entry_added", caller)

    async def approve(self, name: str, entry_id: str, caller: Caller) -> dict[str, Any]:
        """Let a waiting entry count. The person who added it may not approve it."""
        entry = await self._entry(name, entry_id, caller)
        after = approve(entry, by=caller.name, at=self._clock())
        return await self._keep(entry, after, "list_entry_approved", caller)

    async def remove(self, name: str, entry_id: str, caller: Caller) -> dict[str, Any]:
        """Take an entry off a list; it stays to be read, as ended."""
        entry = await self._entry(name, entry_id, caller)
        return await self._keep(entry, end(entry), "list_entry_ended", caller)

    def _named(self, name: str) -> NamedList:
        lists = self._intake.live.lists.lists
        if name not in lists:
            raise NotFound(f"there is no list of this name; lists are {', '.join(lists)}")
        return lists[name]

    async def _entry(self, name: str, entry_id: str, caller: Caller) -> ListEntry:
        self._named(name)
        for entry in await self._find(tenant=caller.tenant, list=name):
            if _id(entry) == entry_id:
                return entry
        raise NotFound("this list has no entry with this id")

    async def _find(self, **where: Any) -> list[ListEntry]:
        return [ListEntry(**row) for row in await self._rows.find(**where)]

    async def _keep(self, before: ListEntry | None, entry: ListEntry, what: str, caller: Caller) -> dict[str, Any]:
        async with self._changing:
            held = await self._find(tenant=entry.tenant, list=entry.list, value=entry.value)
            if before is None and held and held[0].state != "ended":
                raise Conflict("this value is on the list already, or waits for approval")
            after = f"{entry.state} until {entry.expires}" if entry.expires else entry.state
            name = f"{entry.list}/{_id(entry)}"
            await self._changes.record(what, name, before.state if before else None, after, caller)
            await self._rows.put(**asdict(entry))
            self._intake.live.lists = self._intake.live.lists.with_entry(entry)
        return _shown(entry)


def _id(entry: ListEntry) -> str:
    """The id of an entry in the API: made of its value, so that a value has one entry, without showing it."""
    return sha256(f"{entry.list}|{entry.value}".encode()).hexdigest()[:32]


def _shown(entry: ListEntry) -> dict[str, Any]:
    return {"id": _id(entry), **asdict(entry)}
