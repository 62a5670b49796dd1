"""A running Arbiter: what the API and the command line call. One per process.

The hot path is `intake`; here stand start and stop, reading back, resolutions, lists, merchants and rulebooks.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path
from secrets import token_urlsafe
from typing import Annotated, Any

import orjson
import structlog
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from engine import database as db
from engine.archive import pack_files, unpacked
from engine.bodies import read_body
from engine.cases import By, Case, due_of, read_report, settle
from engine.decide import FORMAT
from engine.errors import Conflict, EventRefused, FieldProblem, NotAllowed, NotFound, Unavailable
from engine.explain import explanation
from engine.features import Facts, Features
from engine.intake import Clock, Intake, Live, facts_of
from engine.jcs import canonical
from engine.ledger import Entry, Filter, Ledger, Stored, new_id
from engine.lists import ListEntry, ListSet, NamedList, approve, end, propose
from engine.policy import Breaker, Capacity, Policy
from engine.rulebook import KindBook, Rulebook, load
from engine.schema import Schema, instant
from engine.stores import Store
from engine.vault import KeyFile, Vault

SCOPES = ("score", "outcome", "rules", "audit", "reveal", "admin")
"""What a key may allow: judge events, report outcomes and resolutions, change lists, read the log, see personal data,
reload and make keys."""

SWEEP_SECONDS = 5
"""How often overdue challenges and reviews are looked for."""

RETRY_SECONDS = 2
OLD_RULEBOOKS = 8
"""Rulebooks of earlier decisions that are kept ready."""
KEY_PREFIX = "arb_"

log = structlog.get_logger("arbiter")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a service or a person, of one tenant, with what it may do."""

    name: str
    kind: str
    tenant: str
    scopes: frozenset[str]

    @property
    def by(self) -> By:
        """The caller as a record names it."""
        return By(self.name, self.kind)


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


class Arbiter:
    """Everything one process does. `start` before use, `close` after; `assembly.open_arbiter` does the first."""

    def __init__(
        self,
        folders: tuple[Path, Path],
        rulebook: Rulebook,
        store: Store,
        vault: Vault,
        ledger: Ledger,
        keys: KeyFile,
        clock: Clock,
    ) -> None:
        self._folders = folders
        self._store = store
        self._vault = vault
        self._ledger = ledger
        self._keys = keys
        self._clock = clock
        self._live = _live(rulebook, store)
        self._intake = Intake(self._live, vault, ledger, clock)
        self._api_keys = db.Rows(ledger.database, db.api_key)
        self._merchants = db.Rows(ledger.database, db.merchant)
        self._list_entries = db.Rows(ledger.database, db.list_entry)
        self._rulebooks = db.Rows(ledger.database, db.rulebook)
        self._old: dict[str, Rulebook] = {}
        self._open_cases: list[tuple[int, str, str]] = []
        self._settling: dict[str, asyncio.Lock] = {}
        self._changing = asyncio.Lock()
        self._problem = "the windows are being rebuilt from the ledger"
        self._tasks: list[asyncio.Task[None]] = []

    # Start and stop

    async def start(self) -> None:
        """Load what the database holds, then rebuild windows and look for overdue cases in the background."""
        await self._keep_rulebook(self._live.rulebook)
        self._live.tiers = {(row["tenant"], row["id"]): row["tier"] for row in await self._merchants.find()}
        self._live.lists = await self._with_entries(self._live.lists)
        await self._reopen_cases()
        self._tasks = [asyncio.create_task(self._warm_up()), asyncio.create_task(self._sweep())]

    async def close(self) -> None:
        """Stop the background work, commit what waits, and give everything back."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        await self._ledger.close()

    def ready(self) -> dict[str, Any]:
        """Whether verdicts are as good as they get: {"ready": bool, "reasons": [...]}."""
        reasons = [] if self._live.features.ready else [self._problem]
        if not self._ledger.alive:
            reasons.append("the database does not answer")
        return {"ready": not reasons, "reasons": reasons}

    async def _warm_up(self) -> None:
        """Rebuild the windows from the ledger; try again until it works."""
        features = self._live.features
        while not features.ready:
            try:
                await asyncio.to_thread(features.restore, await self._history(features))
                self._problem = ""
            except Unavailable as error:
                self._problem = f"the windows cannot be rebuilt yet: {error}"
                log.warning("warm_up_failed", reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _history(self, features: Features) -> list[Facts]:
        since = self._clock() - features.history
        return [
            facts_of(fact.tenant, fact.leaf, fact.keys) async for facts in self._ledger.facts(since) for fact in facts
        ]

    # The hot path

    @property
    def schema(self) -> Schema:
        """The fields that events may have now."""
        return self._live.rulebook.schema

    async def decide(self, body: bytes, caller: Caller, *, deadline_ms: int | None = None) -> bytes:
        """The verdict on one event, as JSON; see `Intake.decide`."""
        return await self._intake.decide(body, caller.tenant, deadline_ms)

    async def observe(self, body: bytes, caller: Caller) -> bytes:
        """The receipt of an event that only feeds windows, as JSON; see `Intake.observe`."""
        return await self._intake.observe(body, caller.tenant)

    # Callers

    async def authenticate(self, secret: str) -> Caller:
        """Who holds this API key. NotAllowed when it is unknown, revoked or past its time."""
        rows = await self._api_keys.find(hash=_key_hash(secret))
        now = self._clock()
        if not rows or rows[0]["revoked"] is not None or (rows[0]["expires"] or now + 1) <= now:
            raise NotAllowed("this API key is unknown, revoked or past its time")
        row = rows[0]
        return Caller(row["name"], row["kind"], row["tenant"], frozenset(row["scopes"].split()))

    async def create_key(
        self, name: str, kind: str, tenant: str, scopes: Iterable[str], expires: int | None = None
    ) -> str:
        """A new API key, shown this once: only its SHA-256 is kept."""
        return await create_key(self._api_keys, name, kind, tenant, scopes, self._clock(), expires)

    @property
    def public_key(self) -> dict[str, str]:
        """What receipts are checked with: the log's name, the key's id and the Ed25519 key, hex."""
        signer = self._keys.signer
        return {"log": signer.log, "key_id": signer.key_id, "ed25519": signer.public_key.hex()}

    # Reading back

    async def decision(self, id: str, caller: Caller) -> dict[str, Any]:
        """A decision as it was recorded, its receipt, and everything that came after it."""
        stored = await self._stored(id, caller.tenant)
        case = await self._case(stored)
        return {
            "record": case.first,
            "receipt": stored.receipt.json(),
            "verdict": case.verdict if case.first["type"] == "decision" else None,
            "due": case.due if case.first["type"] == "decision" else None,
            "resolutions": list(case.later),
        }

    async def decisions(
        self,
        caller: Caller,
        *,
        verdict: str | None = None,
        kind: str | None = None,
        merchant_id: str | None = None,
        order_id: str | None = None,
        since: int | None = None,
        until: int | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> dict[str, Any]:
        """A page of decisions, newest first: {"items": [...], "next": cursor or None}."""
        wanted = Filter(
            verdict=verdict,
            kind="decision",
            event_kind=kind,
            merchant_id=merchant_id,
            order_id=order_id,
            since=since,
            until=until,
        )
        page = await self._ledger.page(caller.tenant, wanted, cursor, limit)
        return {"items": [_summary(stored) for stored in page.entries], "next": page.cursor}

    async def explanation(self, id: str, caller: Caller) -> dict[str, Any]:
        """Why a decision came out as it did: every rule that fired, its questions with their answers, every step.

        Personal values are shown only to a caller that may reveal them.
        """
        stored = await self._stored(id, caller.tenant, "decision")
        record = orjson.loads(stored.entry.leaf)
        rulebook = await self._rulebook(record["pins"]["rulebook"])
        private = self._unsealed(stored) if "reveal" in caller.scopes else None
        return explanation(record, rulebook, private)

    async def _stored(self, id: str, tenant: str, kind: str | None = None) -> Stored:
        stored = await self._ledger.get(tenant, id)
        if stored is None or (kind is not None and stored.entry.kind != kind):
            raise NotFound(f"there is no {kind or 'entry'} with this id")
        return stored

    async def _case(self, stored: Stored) -> Case:
        later: list[Stored] = []
        cursor: str | None = None
        while True:
            page = await self._ledger.page(stored.entry.tenant, Filter(refers_to=stored.entry.id), cursor)
            later += page.entries
            cursor = page.cursor
            if cursor is None:
                break
        return Case(orjson.loads(stored.entry.leaf), tuple(orjson.loads(one.entry.leaf) for one in reversed(later)))

    def _unsealed(self, stored: Stored) -> dict[str, dict[str, Any]]:
        """Subject role → path → value, without the subjects whose keys were erased."""
        found = {}
        for cell in stored.entry.sealed:
            if cell.key is not None:
                text = orjson.loads(self._vault.open(cell))
                found[text["role"]] = text["fields"]
        return found

    # What happens after a verdict

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
                stored = await self._stored(id, tenant, "decision")
                case = await self._case(stored)
                known = _again(case, what, result)
                if known is not None:
                    return await self._resolution(known["id"], tenant)
                kind = (await self._rulebook(case.first["pins"]["rulebook"])).kinds[stored.entry.event_kind]
                return await self._append_resolution(stored, kind, case, what, result, by, reason)
        finally:
            if not lock.locked():
                self._settling.pop(id, None)

    async def _append_resolution(
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
        stored = await self._stored(id, tenant, "resolution")
        return {"record": orjson.loads(stored.entry.leaf), "receipt": stored.receipt.json()}

    def _watch(self, record: Mapping[str, Any], first: str) -> None:
        """Remember what is open and when it is overdue."""
        due = due_of(record)
        if due is not None:
            heapq.heappush(self._open_cases, (due, record["tenant"], first))

    async def _reopen_cases(self) -> None:
        """After a start: watch again what was open. What ended meanwhile is found so when its time comes."""
        for tenant in await self._ledger.tenants():
            for kind, verdict in product(("decision", "resolution"), ("challenge", "review")):
                async for stored in self._all(tenant, Filter(kind=kind, verdict=verdict)):
                    record = orjson.loads(stored.entry.leaf)
                    self._watch(record, record["refers_to"] or record["id"])

    async def _all(self, tenant: str, wanted: Filter) -> AsyncIterator[Stored]:
        cursor: str | None = None
        while True:
            page = await self._ledger.page(tenant, wanted, cursor, 200)
            for stored in page.entries:
                yield stored
            cursor = page.cursor
            if cursor is None:
                return

    async def _sweep(self) -> None:
        """Close what is overdue, as the policy says."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.close_overdue()
            except Unavailable as error:
                log.warning("sweep_failed", reason=str(error))

    async def close_overdue(self) -> int:
        """End every challenge and review whose time is over; how many there were."""
        closed, now = 0, self._clock()
        while self._open_cases and self._open_cases[0][0] < now:
            due, tenant, id = self._open_cases[0]
            case = await self._case(await self._stored(id, tenant, "decision"))
            if case.due == due and case.verdict in ("challenge", "review"):
                await self._settle(id, tenant, case.verdict, "late", By("arbiter", "service"), "")
                closed += 1
            heapq.heappop(self._open_cases)
        return closed

    # Merchants

    async def merchant(self, merchant_id: str, caller: Caller) -> dict[str, Any]:
        """A merchant's tier, why, and since when."""
        rows = await self._merchants.find(tenant=caller.tenant, id=merchant_id)
        if not rows:
            raise NotFound("this merchant has no tier of its own; the policy's default holds")
        return {name: rows[0][name] for name in ("id", "tier", "reason", "updated")}

    async def set_merchant_tier(self, merchant_id: str, body: bytes, caller: Caller) -> dict[str, Any]:
        """Give a merchant a tier. Every policy's tiers are known here; another name is refused."""
        change = read_body(_TIER_CHANGE, body)
        known = sorted({tier for policy in _policies(self._live.rulebook) for tier in policy.pack.tiers})
        if change.tier not in known:
            raise EventRefused(
                [FieldProblem("tier", "unknown_tier", "no policy has this tier", "one of " + ", ".join(known))]
            )
        before = self._live.tiers.get((caller.tenant, merchant_id))
        row = {
            "tenant": caller.tenant,
            "id": merchant_id,
            "tier": change.tier,
            "reason": change.reason,
            "updated": self._clock(),
        }
        await self._changed("merchant_tier", merchant_id, before, change.tier, caller)
        await self._merchants.put(**row)
        self._live.tiers = {**self._live.tiers, (caller.tenant, merchant_id): change.tier}
        return {name: row[name] for name in ("id", "tier", "reason", "updated")}

    # Lists

    def lists(self, caller: Caller) -> list[dict[str, Any]]:
        """Every list: its name, how it compares, what being on it does, how many entries its files hold."""
        found = self._live.lists
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

    async def list_entries(self, name: str, caller: Caller) -> list[dict[str, Any]]:
        """The entries of a list that came through the API, ended ones too. Personal values are pseudonyms."""
        self._named(name)
        return [_shown(entry) for entry in await self._entries(tenant=caller.tenant, list=name)]

    async def add_list_entry(self, name: str, body: bytes, caller: Caller) -> dict[str, Any]:
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
        return await self._keep_entry(None, entry, "list_entry_added", caller)

    async def approve_list_entry(self, name: str, entry_id: str, caller: Caller) -> dict[str, Any]:
        """Let a waiting entry count. The person who added it may not approve it."""
        entry = await self._entry(name, entry_id, caller)
        return await self._keep_entry(
            entry, approve(entry, by=caller.name, at=self._clock()), "list_entry_approved", caller
        )

    async def remove_list_entry(self, name: str, entry_id: str, caller: Caller) -> dict[str, Any]:
        """Take an entry off a list; it stays to be read, as ended."""
        entry = await self._entry(name, entry_id, caller)
        return await self._keep_entry(entry, end(entry), "list_entry_ended", caller)

    def _named(self, name: str) -> NamedList:
        named = self._live.lists.lists.get(name)
        if named is None:
            raise NotFound(f"there is no list of this name; lists are {', '.join(self._live.lists.lists)}")
        return named

    async def _entry(self, name: str, entry_id: str, caller: Caller) -> ListEntry:
        self._named(name)
        for entry in await self._entries(tenant=caller.tenant, list=name):
            if entry_id_of(entry) == entry_id:
                return entry
        raise NotFound("this list has no entry with this id")

    async def _entries(self, **where: Any) -> list[ListEntry]:
        return [ListEntry(**row) for row in await self._list_entries.find(**where)]

    async def _with_entries(self, lists: ListSet) -> ListSet:
        return lists.with_pseudonym(self._vault.pseudonym).with_entries(await self._entries())

    async def _keep_entry(
        self, before: ListEntry | None, entry: ListEntry, what: str, caller: Caller
    ) -> dict[str, Any]:
        async with self._changing:
            held = await self._entries(tenant=entry.tenant, list=entry.list, value=entry.value)
            if before is None and held and held[0].state != "ended":
                raise Conflict("this value is on the list already, or waits for approval")
            # The record comes first: a change that nobody can find in the log must not count.
            after = f"{entry.state} until {entry.expires}" if entry.expires else entry.state
            name = f"{entry.list}/{entry_id_of(entry)}"
            await self._changed(what, name, before.state if before else None, after, caller)
            await self._list_entries.put(**asdict(entry))
            self._live.lists = self._live.lists.with_entry(entry)
        return _shown(entry)

    # Rulebook

    def rulebook_info(self) -> dict[str, Any]:
        """What decides now."""
        book = self._live.rulebook
        return {
            "hash": book.hash,
            "rules": [
                {
                    "id": rule.id,
                    "pack": rule.pack,
                    "for": list(rule.kinds),
                    "mode": rule.mode,
                    "signal": rule.finding.signal,
                }
                for rule in book.rules
            ],
            "policies": {policy.name: list(policy.pack.for_) for policy in _policies(book)},
            "windows": [
                {"name": window.name, "warm": self._live.features.warm(index)}
                for index, window in enumerate(book.windows)
            ],
            "lists": book.lists.names(),
        }

    async def reload(self, caller: Caller) -> dict[str, Any]:
        """Read the packs again and switch to them as a whole. PackError leaves the ones in force as they are."""
        rulebook = await asyncio.to_thread(load, *self._folders)
        old = self._live.rulebook
        if rulebook.hash == old.hash:
            return self.rulebook_info()
        live = _live(rulebook, self._store)
        live.tiers = self._live.tiers
        live.lists = await self._with_entries(live.lists)
        await self._keep_rulebook(rulebook)
        # New windows are rebuilt before the switch: decisions never see a window that is only half there.
        await asyncio.to_thread(live.features.restore, await self._history(live.features))
        await self._changed("rulebook", "rulebook", old.hash, rulebook.hash, caller)
        self._live.features.close()
        self._live = self._intake.live = live
        return self.rulebook_info()

    async def _keep_rulebook(self, rulebook: Rulebook) -> None:
        await self._rulebooks.add(hash=rulebook.hash, content=pack_files(rulebook.files), first_seen=self._clock())

    async def _rulebook(self, named: str) -> Rulebook:
        """The rulebook with this hash, from the archive where it is not the one in force."""
        if named == self._live.rulebook.hash:
            return self._live.rulebook
        if named not in self._old:
            rows = await self._rulebooks.find(hash=named)
            if not rows:
                raise NotFound("the rulebook of this decision is not in the archive")
            if len(self._old) >= OLD_RULEBOOKS:
                self._old.pop(next(iter(self._old)))
            self._old[named] = await asyncio.to_thread(unpacked, rows[0]["content"])
        return self._old[named]

    async def _changed(self, what: str, changed: str, before: str | None, after: str | None, caller: Caller) -> None:
        """Record a change of what decides, before it takes effect: who, what, from, to."""
        id, now = new_id(), self._clock()
        record = {
            "format": FORMAT,
            "type": "change",
            "id": id,
            "tenant": caller.tenant,
            "decided_at": now,
            "what": what,
            "object": changed,
            "before": before,
            "after": after,
            "by": {"name": caller.name, "kind": caller.kind},
        }
        await self._ledger.append(Entry(id, caller.tenant, "change", None, what, now, now, canonical(record)))


async def create_key(
    keys: db.Rows, name: str, kind: str, tenant: str, scopes: Iterable[str], now: int, expires: int | None = None
) -> str:
    """A new API key in the table `keys`, shown this once."""
    secret = KEY_PREFIX + token_urlsafe(32)
    row = {"name": name, "kind": kind, "tenant": tenant, "scopes": " ".join(sorted(scopes)), "created": now}
    await keys.add(hash=_key_hash(secret), expires=expires, revoked=None, **row)
    return secret


def _key_hash(secret: str) -> bytes:
    # 256 random bits cannot be guessed: a fast hash is enough, and keeps the hot path fast.
    return sha256(secret.encode()).digest()


def _policies(rulebook: Rulebook) -> list[Policy]:
    return list({book.policy.name: book.policy for book in rulebook.kinds.values() if book.policy}.values())


def _live(rulebook: Rulebook, store: Store) -> Live:
    policies = _policies(rulebook)
    return Live(
        rulebook=rulebook,
        features=Features(rulebook.windows, store, reads=rulebook.reads, convert=rulebook.convert),
        lists=rulebook.lists,
        breakers={policy.name: Breaker(policy.pack.breaker) for policy in policies if policy.pack.breaker},
        capacities={
            policy.name: Capacity(policy.pack.review.capacity)
            for policy in policies
            if policy.pack.review and policy.pack.review.capacity
        },
    )


def _again(case: Case, what: str, result: str) -> Mapping[str, Any] | None:
    """The resolution that this report repeats: the newest of its sort, with the same result."""
    newest = next((record for record in reversed(case.later) if record["what"] == what), None)
    return newest if newest is not None and newest["said"] == result else None


def entry_id_of(entry: ListEntry) -> str:
    """The id of a list entry in the API: made of its value, so that a value has one entry, without showing it."""
    return sha256(f"{entry.list}|{entry.value}".encode()).hexdigest()[:32]


def _shown(entry: ListEntry) -> dict[str, Any]:
    return {"id": entry_id_of(entry), **asdict(entry)}


def _summary(stored: Stored) -> dict[str, Any]:
    record = orjson.loads(stored.entry.leaf)
    event = record["event"]
    return {
        "id": record["id"],
        "event_id": event["id"],
        "kind": event["kind"],
        "order_id": event["order"],
        "at": event["at"],
        "received_at": event["received_at"],
        "verdict": record["verdict"],
        "score": record["score"],
        "signals": record["signals"],
        "rules": record["found"],
    }
