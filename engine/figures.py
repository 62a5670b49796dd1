"""What decisions came to: sums over the ledger, kept right as resolutions and outcomes come in.

    follower = Follower(ledger, library.find, take)
    await follower.go()                 # everything written since the last time

`take` is told of every decision that is new or has changed, what it adds to the sums now and what it added before, so
that whoever keeps sums takes the one off and puts the other on. Nothing is kept of a decision but what its outcome
said: where something is told of it later, it is read again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from engine.cases import by_person, due_of
from engine.errors import NotFound, PackError
from engine.ledger import LATEST, Grown, Ledger
from engine.metrics import MINUTE, Key, Metric, Sums, bin_of_time
from engine.money import Money
from engine.policy import Policy
from engine.rulebook import Rulebook
from engine.schema import FRAUD, decode

AT_ONCE = 16
"""Decisions that are looked at before others have their turn."""
SIZE = 2_000
"""Entries that are read at once."""
MOST_GROUPS = 10_000
"""Values that a figure is told apart by; what has one beyond them is summed as `OTHERS`."""
OTHERS = "(others)"
NOTHING: Sums = {}
_COMPLAINT: Sums = {"complaints": 1}

ByHash = Callable[[str], Awaitable[Rulebook]]
"""Gives the rulebook of a hash."""


class Known(NamedTuple):
    """The newest outcome of an event: when it became known, its arrival, what it said, what was lost, and when it was
    received."""

    at: int
    arrival: int
    result: str
    loss: Money | None
    received_at: int = 0


class Ends(NamedTuple):
    """What must be known of the policy of then: its mildest and severest verdicts, its tiers and the default one."""

    mildest: str
    severest: str
    tiers: frozenset[str] = frozenset()
    default_tier: str = ""

    def tier(self, named: str) -> str:
        """The tier that counted where the record names this one."""
        return named if named in self.tiers else self.default_tier


@dataclass(frozen=True, slots=True)
class Of:
    """What a decision can be told apart by."""

    tenant: str
    kind: str
    tier: str
    rules: tuple[str, ...]
    merchant: str
    category: str

    def values(self, by: str) -> tuple[str, ...]:
        """Its groups under one of `metrics.GROUPS`; a rule each, so one decision can be in several."""
        match by:
            case "kind":
                return (self.kind,)
            case "tier":
                return (self.tier,)
            case "rule":
                return self.rules
            case "merchant":
                return (self.merchant,)
            case "merchant-category":
                return (self.category,)
        raise AssertionError(by)


@dataclass(frozen=True, slots=True)
class Change:
    """A decision or a complaint that is new or has changed: when it was received (µs), what it is told apart by, and
    what it added to the sums and adds now."""

    of: Of
    received_at: int
    before: Sums
    after: Sums


# One case


def sums_of(
    first: Mapping[str, Any], later: Sequence[Mapping[str, Any]], known: Known | None, ends: Ends
) -> dict[Key, int]:
    """What one decision adds to the sums, with the resolutions after it in order and the newest outcome."""
    mildest, severest = ends.mildest, ends.severest
    ruling = next((each for each in reversed(later) if each["verdict"] is not None), first)
    verdict = ruling["verdict"]
    stopped = _stopped(later, verdict == severest)
    fraud = known is not None and known.result in FRAUD
    asks = first["asks"] or {}
    held = first["verdict"] == severest or any("review" in (each["asks"] or {}) for each in (first, *later))
    cleared = known is not None and known.result == "false_positive"
    # A proof that a buyer gave is nobody's judgement, and neither is a time that ran out.
    let_through = verdict == mildest and by_person(ruling) and ruling["what"] != "challenge"
    wrong = held and not fraud and (cleared or let_through)
    found: dict[Key, int] = {
        "events": 1,
        "stopped": int(stopped),
        "declined": int(first["verdict"] == severest),
        "challenged": int("challenge" in asks),
        "reviewed": int("review" in asks),
        "degraded": int(bool(first["situation"]["degraded"])),
        "held": int(held),
        "wrong": int(wrong),
        "fraud": int(fraud),
        "fraud_stopped": int(fraud and stopped),
    }
    found |= _money(first["event"]["public"].get("amount"), stopped, known if fraud else None)
    found |= _reviews((first, *later))
    return {key: n for key, n in found.items() if n}


def _stopped(later: Sequence[Mapping[str, Any]], by_verdict: bool) -> bool:
    """Whether the event did not go through: as was reported of it last, else as the verdict stands."""
    said = next((each["said"] for each in reversed(later) if each["what"] == "enforced"), "")
    return {"captured": False, "blocked": True, "overridden": not by_verdict}.get(said, by_verdict)


def _money(written: Any, stopped: bool, fraud: Known | None) -> dict[Key, int]:
    amount = None if written is None else decode(written)
    if not isinstance(amount, Money):
        return {}
    code, minor = amount.currency, int(amount.minor)
    found: dict[Key, int] = {}
    if fraud is not None:
        saved = minor if stopped else 0
        found |= {("frauds", code): 1, **_pair("saved", saved, "fraud_worth", minor, code)}
    if not stopped:
        found["accepted", code] = 1
        lost = 0
        if fraud is not None:
            told = fraud.loss
            # A loss in another currency than the order's cannot be set against it: then it is the order's amount.
            lost = int(told.minor) if told is not None and told.currency == code else minor
            found["losses", code] = 1
        found |= _pair("lost", lost, "volume", minor, code)
    return found


def _pair(part: str, y: int, whole: str, x: int, code: str) -> dict[Key, int]:
    """Two sums with the squares that the interval of their ratio needs."""
    return {
        (part, code): y,
        (whole, code): x,
        (f"{part}2", code): y * y,
        (f"{whole}2", code): x * x,
        (f"{part}*{whole}", code): x * y,
    }


def _reviews(records: Sequence[Mapping[str, Any]]) -> dict[Key, int]:
    found: dict[Key, int] = defaultdict(int)
    opened: Mapping[str, Any] | None = None
    for record in records:
        if opened is not None and record.get("what") == "review":
            if record["counted"] == "late":
                found["review_late"] += 1
            else:
                found["review_ended"] += 1
                found["took", bin_of_time(record["decided_at"] - opened["decided_at"])] += 1
            opened = None
        if "review" in (record["asks"] or {}):
            found["review_opened"] += 1
            opened = record
    if opened is not None:
        due = due_of(opened)
        assert due is not None, "a review has its time"
        found["review_open"] += 1
        found["due", due // MINUTE] += 1
    return dict(found)


# The ledger


class Follower:
    """Goes through the ledger once, and then on as it grows."""

    def __init__(
        self,
        ledger: Ledger,
        by_hash: ByHash,
        take: Callable[[Change], None],
        tenant: str | None = None,
        rest: float = 0.0,
    ) -> None:
        """Of one tenant, or of all. After every few decisions it waits `rest` seconds, so that others go first."""
        self._rest = rest
        self._ledger = ledger
        self._by_hash = by_hash
        self._take = take
        self._tenant = tenant
        self._top = 0
        self._seen: dict[int, int] = {}
        """Arrival → time received, of what was read and may be followed by a lower arrival."""
        self._known: dict[tuple[str, str], Known] = {}
        """(Tenant, event id) → its newest outcome."""
        self._ends: dict[tuple[str, str], Ends | None] = {}
        self.unread = 0
        """Decisions under rulebooks that this version cannot read, which are in no sum."""

    async def begin(self, since: int) -> None:
        """Go on from what was received at or after `since` (µs), and forget what was before."""
        self._top = await self._ledger.arrival_before(self._tenant, since)
        self._seen, self._known, self.unread = {}, {}, 0

    def forget(self, before: int) -> None:
        """Let go of outcomes that were received before a time (µs): their events were, too, and nobody asks for the
        sums of these any more."""
        self._known = {key: known for key, known in self._known.items() if known.received_at >= before}

    async def go(self) -> int:
        """Take in all that was written since; how many entries that was."""
        count, place = 0, min(self._seen, default=self._top + 1) - 1
        while rows := await self._ledger.arrivals_above(place, SIZE):
            place = rows[-1][0]
            fresh = [row for row, _ in rows if row not in self._seen]
            if fresh:
                await self._read(await self._ledger.grown(fresh, self._tenant))
                count += len(fresh)
            self._mark(rows)
        return count

    def _mark(self, rows: Sequence[tuple[int, int]]) -> None:
        """Remember what was read: all up to an arrival where they are in order, else also single ones."""
        self._top = max(self._top, rows[-1][0])
        if not self._ledger.in_order:
            self._seen |= dict(rows)
            newest = max(self._seen.values())
            self._seen = {row: at for row, at in self._seen.items() if at >= newest - LATEST}

    def _was_read(self, row: int) -> bool:
        """Whether an entry was taken in already. One that is written meanwhile has its turn later."""
        return row in self._seen or row < min(self._seen, default=self._top + 1)

    async def _read(self, grown: Grown) -> None:
        new = {each.row for each in grown.new}
        later: dict[str, list[tuple[bool, dict[str, Any]]]] = defaultdict(list)
        for each in sorted(grown.later, key=lambda row: row.row):
            if each.row in new or self._was_read(each.row):
                later[each.refers_to].append((each.row in new, orjson.loads(each.leaf)))
        before = self._learn(grown.new)
        firsts = {each.id: each for each in (*grown.firsts, *grown.new) if each.kind == "decision"}
        for number, first in enumerate(sorted(firsts.values(), key=lambda row: row.row)):
            if not number % AT_ONCE:
                await asyncio.sleep(self._rest)  # a server answers others meanwhile
            if first.row in new or self._was_read(first.row):
                known = self._known.get((first.tenant, first.event_id))
                was = before.get((first.tenant, first.event_id), known)
                await self._case(first, later[first.id], (was, known), first.row in new)
        for each in grown.new:
            if each.event_kind == "complaint" and each.kind == "event":
                self._take(Change(_of(orjson.loads(each.leaf)), each.received_at, NOTHING, _COMPLAINT))

    def _learn(self, new: Iterable[Any]) -> dict[tuple[str, str], Known | None]:
        """Take in what became known; for each event about which something did, what was known of it before."""
        before: dict[tuple[str, str], Known | None] = {}
        for each in new:
            if each.kind == "event" and each.event_kind == "outcome":
                outcome = orjson.loads(each.leaf)["event"]["public"]["outcome"]
                key = (each.tenant, outcome["refers_to"])
                loss = decode(outcome["loss"]) if "loss" in outcome else None
                known, last = Known(each.at, each.row, outcome["result"], loss, each.received_at), self._known.get(key)
                before.setdefault(key, last)
                if last is None or known[:2] > last[:2]:
                    self._known[key] = known
        return before

    async def _case(
        self,
        first: Any,
        later: Sequence[tuple[bool, dict[str, Any]]],
        known: tuple[Known | None, Known | None],
        is_new: bool,
    ) -> None:
        """Tell what a decision adds now; `later` and `known` say of each whether, or what, it was before."""
        record = orjson.loads(first.leaf)
        ends = await self._ends_of(record)
        if ends is None:
            self.unread += is_new
            return
        more = _COMPLAINT if first.event_kind == "complaint" else NOTHING
        then = [each for is_later, each in later if not is_later]
        old = NOTHING if is_new else {**sums_of(record, then, known[0], ends), **more}
        fresh = {**sums_of(record, [each for _, each in later], known[1], ends), **more}
        if old != fresh:
            self._take(Change(_of(record, ends), first.received_at, old, fresh))

    async def _ends_of(self, record: Mapping[str, Any]) -> Ends | None:
        """What the policy of then says; None where nobody can read it any more."""
        key = (record["pins"]["rulebook"], record["event"]["kind"])
        if key not in self._ends:
            try:
                policy = (await self._by_hash(key[0])).kinds[key[1]].policy
            except (PackError, NotFound):
                policy = None
            self._ends[key] = None if policy is None else _ends(policy)
        return self._ends[key]


def _ends(policy: Policy) -> Ends:
    pack = policy.pack
    return Ends(policy.verdicts[0], policy.verdicts[-1], frozenset(map(str, pack.tiers)), str(pack.default_tier))


def _of(record: Mapping[str, Any], ends: Ends | None = None) -> Of:
    event = record["event"]
    merchant = event["public"].get("merchant") or {}
    return Of(
        tenant=record["tenant"],
        kind=event["kind"],
        tier=ends.tier(record["situation"]["tier"] or "") if ends else "",
        rules=tuple(record.get("found", ())),
        merchant=merchant.get("id") or "",
        category=merchant.get("category") or "",
    )


# Sums


@dataclass
class Pile:
    """Sums by group, for a time that is fixed."""

    groups: dict[str, dict[Key, int]] = field(default_factory=dict)

    def add(self, group: str, sums: Sums, times: int = 1) -> None:
        """Put sums on a group's, or take them off with `times` -1."""
        if group not in self.groups and len(self.groups) >= MOST_GROUPS:
            group = OTHERS
        mine = self.groups.setdefault(group, {})
        for key, n in sums.items():
            mine[key] = mine.get(key, 0) + times * n


@dataclass(frozen=True)
class Counted:
    """The sums of a period by (kind of event, group): of all its events, and of those that are ripe; how many are not,
    and how many could not be read."""

    by: str
    since: int
    until: int
    now: int
    all: Mapping[tuple[str, str], Sums]
    ripe: Mapping[tuple[str, str], Sums]
    unripe: int
    unread: int

    def sums(self, metric: Metric, group: tuple[str, str]) -> Sums:
        """Those that a metric is of."""
        return (self.ripe if metric.labelled else self.all).get(group, NOTHING)


async def count(
    ledger: Ledger, by_hash: ByHash, tenant: str, since: int, until: int, by: str, label_delay: int, now: int
) -> Counted:
    """The sums of what was decided of events received from `since` until before `until` (µs), with all that is known of
    them at `now`. Ripe are those received at least `label_delay` before."""
    piles = {True: _Kinds(), False: _Kinds()}
    unripe = 0

    def take(change: Change) -> None:
        nonlocal unripe
        if not since <= change.received_at < until:
            return
        ripe = change.received_at + label_delay <= now
        unripe += 0 if ripe else change.after.get("events", 0) - change.before.get("events", 0)
        for group in change.of.values(by):
            piles[False].add(change, group)
            if ripe:
                piles[True].add(change, group)

    follower = Follower(ledger, by_hash, take, tenant)
    await follower.begin(since)
    await follower.go()
    return Counted(by, since, until, now, piles[False].sums, piles[True].sums, unripe, follower.unread)


class _Kinds:
    """A pile for each kind of event: money of two kinds is never added up, for an order may have both."""

    def __init__(self) -> None:
        self._piles: dict[str, Pile] = defaultdict(Pile)

    def add(self, change: Change, group: str) -> None:
        pile = self._piles[change.of.kind]
        pile.add(group, change.before, -1)
        pile.add(group, change.after)

    @property
    def sums(self) -> dict[tuple[str, str], Sums]:
        return {(kind, group): sums for kind, pile in self._piles.items() for group, sums in pile.groups.items()}
