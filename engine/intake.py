"""The way of one event: parse, reserve, name by pseudonym, count, decide, seal, append, answer.

    intake = Intake(live, vault, ledger, team, clock)
    answer = await intake.decide(body, tenant="shop-a")

Promises kept here: a verdict is in the ledger before it is answered; one (tenant, event id) has one verdict, whoever
wins the race; what is counted but not committed is taken out again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hmac import compare_digest
from typing import Any, NamedTuple, TypeAlias

import orjson

from engine.anomaly import Drift
from engine.decide import Decision, Question, decide, leaf, noted
from engine.detectors import NO_MODELS, Models
from engine.errors import Conflict, EventRefused, FieldProblem, Unavailable, with_article
from engine.expr import Env
from engine.features import STORE_UNAVAILABLE, Facts, Features, Reading
from engine.images import Sight
from engine.jcs import canonical_trusted
from engine.journal import SALT_BYTES, sealed_note
from engine.ledger import Duplicate, Entry, Fact, Ledger, new_id
from engine.lists import UNAVAILABLE, ListSet
from engine.policy import Breaker, Capacity, Policy, unforced
from engine.profiles import Profile
from engine.randomness import random_bytes
from engine.receipt import Receipt
from engine.rulebook import KindBook, Rulebook
from engine.schema import FUTURE, Event, at_path, decode, marked, misplaced
from engine.stores import StoreUnavailable
from engine.team import Team
from engine.vault import PSEUDONYM_BYTES, Sealed, Vault, commit, subject_of

Clock = Callable[[], int]
"""Gives UTC microseconds since 1970."""

COUNTED, SETTLE = "counted", "settle"
"""What other processes hear: what was counted for breakers and queues; to wait until all under way has its answer."""

_IDENTITY = (
    "person",
    "account",
    "payer",
    "phone",
    "email",
    "company",
    "payout_account",
    "address",
    "card",
    "device",
    "ip",
)
_SUREST = {namespace: rank for rank, namespace in enumerate((*_IDENTITY, "parcel"))}
"""What says who a subject is, surest first."""


@dataclass
class Live:
    """What decisions run against now. A reload replaces whole values; a decision reads each of them once."""

    rulebook: Rulebook
    features: Features
    lists: ListSet
    tiers: Mapping[tuple[str, str], str] = field(default_factory=dict)
    modes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By tenant the modes that somebody switched on, each with when it ends (UTC µs)."""
    standings: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    """(tenant, profile, subject) → tier, of other profiles than the merchant's."""
    breakers: Mapping[str, Breaker] = field(default_factory=dict)
    capacities: Mapping[str, Capacity] = field(default_factory=dict)
    models: Models = NO_MODELS
    drifts: Mapping[str, Drift] = field(default_factory=dict)
    """By kind of event: what its champion has seen of late."""


@dataclass(frozen=True, slots=True)
class Parts:
    """An event taken apart: public values, pseudonyms by entity path, personal values and a pseudonym per subject."""

    public: dict[str, Any]
    keys: dict[str, str]
    private: Mapping[str, Mapping[str, Any]]
    subjects: Mapping[str, str]
    images: Mapping[str, Any] | None = None


Sights: TypeAlias = Callable[[Event], Awaitable[Sight | None]]
"""What is known of an event's images, where it names some."""


async def _nothing(_: Event) -> None:
    return None


class Intake:
    """Takes events in. One per process; all of it runs on one event loop, so counting is atomic without locks.

    What breakers and review queues count, the other processes of `team` hear of within a moment.
    """

    def __init__(self, live: Live, vault: Vault, ledger: Ledger, team: Team, clock: Clock) -> None:
        self.live = live
        # The windows of a rulebook that is about to come into force: fed, not yet read.
        self.following: Features | None = None
        self.untold: Callable[[], Awaitable[None] | None] = lambda: None
        """Gives what has to happen before an answer that was given without the store, if anything."""
        self.noticed: Callable[[Mapping[str, Any]], None] = lambda _: None
        """Hears of each event once its record is durable. It must not wait."""
        self.seen: Callable[[Event, Mapping[str, str]], None] = lambda *_: None
        """Told of every event, with its pseudonyms, once it is in the ledger."""
        self.sights: Sights = _nothing
        """Gives what the images of an event were found to show, where somebody looks at images."""
        self._vault = vault
        self._ledger = ledger
        self._team = team
        self._clock = clock
        self._arrival = 0
        self._running: dict[tuple[str, str], asyncio.Future[tuple[bytes | None, bytes]]] = {}
        self._doubts: dict[tuple[str, str], list[Facts]] = {}
        self.fired: Counter[tuple[str, str]] = Counter()
        """How often each rule gave a finding since the start, by its id and whether it was live or in the shadow."""

    def go_on_from(self, newest: Iterable[Fact]) -> None:
        """After a start: what arrives now comes behind the newest events of the ledger, whatever the clock says."""
        # From here on: what others decided before is among them.
        self._team.on(COUNTED, self._heard)
        self._team.on(SETTLE, lambda _: self.settled())
        self._arrival = max((orjson.loads(fact.leaf)["event"]["arrival"] for fact in newest), default=0)

    async def decide(self, body: bytes, tenant: str, deadline_ms: int | None = None) -> bytes:
        """The verdict on an event, as JSON, once it is durable.

        Raises EventRefused; Conflict when the id was used with another body; Unavailable when nobody can say whether
        it was written: the same id may then be sent again.
        """
        began = self._clock()
        event = self._parse(body, tenant, began)
        deadline = None if deadline_ms is None else began + deadline_ms * 1000
        return await self._once(event, lambda digest: self._judge(event, digest, deadline))

    async def observe(self, body: bytes, tenant: str) -> bytes:
        """Record an event that only feeds windows, and say so with a receipt."""
        event = self._parse(body, tenant, self._clock())
        return await self._once(event, lambda digest: self._take_note(event, digest))

    async def settled(self) -> None:
        """Wait until every event that is under way now has its answer."""
        if self._running:
            await asyncio.wait(self._running.values())

    @property
    def arrival(self) -> int:
        """The newest arrival that was given out."""
        return self._arrival

    @property
    def doubts(self) -> dict[tuple[str, str], frozenset[int]]:
        """By tenant and event id the arrivals of which nobody can say whether they were written."""
        return {key: frozenset(facts.arrival for facts in doubted) for key, doubted in self._doubts.items()}

    # One event, one answer

    async def _once(self, event: Event, work: Callable[[bytes], Awaitable[bytes]]) -> bytes:
        """Do `work` unless this event id was answered or is being answered; then give that answer."""
        # The same values in another order or spacing are the same body: clients may write it anew before they retry.
        digest = self._vault.digest(event.tenant, event.id, event.body)
        key = (event.tenant, event.id)
        running = self._running.get(key)
        if running is not None:
            return _same(digest, await asyncio.shield(running))
        future = asyncio.get_running_loop().create_future()
        self._running[key] = future
        try:
            given = await work(digest)
        except Duplicate as duplicate:
            first = duplicate.stored
            # The windows may lack it: its first request ended without an acknowledged commit.
            self._written(facts_of(first.entry.tenant, first.entry.leaf, dict(first.entry.keys)))
            future.set_result((first.entry.digest, answer(orjson.loads(first.entry.leaf), first.receipt)))
        except BaseException as error:
            # A cancelled leader must not leave its followers waiting for ever; what it wrote may still be committed.
            given_up = Unavailable(
                "the first request was given up; ask again with the same event id", "verdict_unknown"
            )
            future.set_exception(error if isinstance(error, Exception) else given_up)
            future.exception()
            raise
        else:
            future.set_result((digest, given))
        finally:
            del self._running[key]
        return _same(digest, future.result())

    async def _judge(self, event: Event, digest: bytes, deadline: int | None) -> bytes:
        event, parts = await self._take_apart(event)
        # From here to the entry nothing waits, so all of it sees one rulebook; a reload may come with the commit.
        live, queue = self.live, None
        if live.rulebook.kinds[event.kind].policy is None:
            what = f"no policy judges {with_article(event.kind)}; judged are: {', '.join(live.rulebook.judged)}"
            raise EventRefused([FieldProblem("kind", "not_judged", what, "send it to POST /v1/events")])
        facts, reading = self._observe(self._facts(event, parts))
        try:
            decision, entry = self._decided(event, parts, facts, reading, digest, deadline)
            queue = self._queued(live, event, decision)
            if (telling := self.untold()) is not None:
                await telling
            receipt = await self._ledger.append(entry)
        except BaseException as error:
            self._take_back(facts, reading, error)
            if queue is not None and isinstance(error, Exception):
                queue.give_back(event.received_at)
                self._spread("given", _policy(live, event).name, event.received_at)
            raise
        if (facts.tenant, facts.id) in self._doubts:
            self._written(facts)
        self._keep(facts, reading)
        self._count(live, event, decision)
        self.noticed(decision.record)
        self.seen(event, parts.keys)
        return answer(decision.record, receipt)

    def decided(self, event: Event) -> tuple[Decision, Entry]:
        """The decision on a parsed event, counted and ready to be appended, for whoever keeps no ledger."""
        parts = self._parts(event)
        facts, reading = self._observe(self._facts(event, parts))
        return self._decided(event, parts, facts, reading, None, None)

    def _decided(
        self,
        event: Event,
        parts: Parts,
        facts: Facts,
        reading: Reading,
        digest: bytes | None,
        deadline: int | None,
    ) -> tuple[Decision, Entry]:
        id = new_id()
        sealed = self._seal(event.tenant, id, parts)
        decision = decide(self.live.rulebook, self._question(id, event, parts, facts, reading, sealed, deadline))
        return decision, _entry(decision.record, event, parts, sealed, digest, decision.outcome.verdict)

    def _observe(self, facts: Facts) -> tuple[Facts, Reading]:
        """Count an event: it, with the arrival that the store gave it, and what it reads."""
        reading = self.live.features.observe(facts)
        if reading.arrival != facts.arrival:
            facts = replace(facts, arrival=reading.arrival)
        if self.following is not None:
            self.following.observe(facts)
        return facts, reading

    def look(self, profile: Profile, tenant: str, subject: str, at: int) -> Reading:
        """What the windows of a profile hold of somebody at `at` (UTC µs). It is no event, and leaves nothing."""
        values, keys = profile.values(subject, at), profile.keys(subject)
        facts = Facts(profile.kind, tenant, new_id(), at, self._arrives(at), values, keys)
        reading = self.live.features.observe(facts)
        if reading.added:
            with suppress(StoreUnavailable):  # It takes out by itself what is in no ledger.
                self.live.features.forget(replace(facts, arrival=reading.arrival))
        return reading

    def _add(self, facts: Facts) -> None:
        for features in self._counting():
            with suppress(StoreUnavailable):  # It knows that it missed one, and is loaded again.
                features.add(facts)

    def _keep(self, facts: Facts, reading: Reading) -> None:
        if reading.added:
            for features in self._counting():
                features.keep(facts)
        elif self._team.size > 1:
            # Another process may have had the same event, and taken it out again as it could not write it.
            self._add(facts)

    def _take_back(self, facts: Facts, reading: Reading, error: BaseException) -> None:
        """Out of the windows again, after an error. What a cancelled call wrote is still on its way: it stays."""
        cancelled = not isinstance(error, Exception)
        if cancelled or (isinstance(error, Unavailable) and error.reason == "verdict_unknown"):
            self._doubts.setdefault((facts.tenant, facts.id), []).append(facts)
        if reading.added and not cancelled:
            self._forget(facts)

    def _written(self, facts: Facts) -> None:
        """Let the windows hold what the ledger holds under this id, and not what an earlier try left there."""
        for doubted in self._doubts.pop((facts.tenant, facts.id), ()):
            if doubted != facts:  # Perhaps with the same arrival: a try with another body has that of the first.
                self._forget(doubted)
        self._add(facts)

    def _forget(self, facts: Facts) -> None:
        for features in self._counting():
            with suppress(StoreUnavailable):  # It knows what to take out once it answers.
                features.forget(facts)

    def recount(self, before: Facts, after: Facts) -> None:
        """Let the windows hold an event of the ledger as it is after something of it was erased."""
        self._forget(before)
        self._add(after)

    def _counting(self) -> Iterator[Features]:
        yield self.live.features
        if self.following is not None:
            yield self.following

    def _question(
        self,
        id: str,
        event: Event,
        parts: Parts,
        facts: Facts,
        reading: Reading,
        sealed: Sequence[Cell],
        deadline: int | None,
    ) -> Question:
        live = self.live
        kind = live.rulebook.kinds[event.kind]
        policy = kind.policy
        assert policy is not None, "only judged kinds come here"
        breaker, capacity = live.breakers.get(policy.name), live.capacities.get(policy.name)
        lists = live.lists.lookups(event.received_at, event.tenant)
        rolled = kind.rolled(parts.keys, event.values)
        env = Env(event.at, event.received_at, lists, live.rulebook.convert)
        return Question(
            id=id,
            event=event,
            public=parts.public,
            keys=parts.keys,
            arrival=facts.arrival,
            reading=reading,
            env=env,
            tier=live.tiers.get((event.tenant, merchant_of(event.values) or ""), ""),
            degraded=self._degraded(kind, reading, deadline, rolled),
            rolled=rolled,
            standings=self._standings(kind, event, parts),
            tripped=breaker.tripped(event.received_at) if breaker else frozenset(),
            review_open=capacity.open(event.received_at) if capacity else True,
            lists=live.lists.hashes(kind.lists, event.tenant),
            sealed=tuple((cell.role, cell.commitment) for cell in sealed),
            modes=_modes(live, event),
            look=kind.look(live.models, event.values, reading.values, env),
            images=parts.images,
        )

    def _standings(self, kind: KindBook, event: Event, parts: Parts) -> dict[str, str]:
        """The tiers of those whom other profiles are about and that the policy looks at."""
        found = {}
        for name in kind.profiles:
            profile = self.live.rulebook.profiles[name]
            subject = parts.keys.get(profile.subject) or at_path(event.values, profile.subject)
            tier = self.live.standings.get((event.tenant, name, subject or ""))
            if subject:
                found[name] = tier or profile.ladder.start
        return found

    def _degraded(
        self, kind: KindBook, reading: Reading, deadline: int | None, rolled: frozenset[str]
    ) -> tuple[str, ...]:
        """What does not work of that on which the verdict rests."""
        causes, basis = [], kind.basis(rolled)
        if kind.lacks_model(self.live.models, rolled):
            causes.append("model_unavailable")
        if any(cause == STORE_UNAVAILABLE and slot in basis.slots for slot, cause in reading.gaps):
            causes.append("features_unavailable")
        if not all(map(self.live.lists.available, basis.lists)):
            causes.append(UNAVAILABLE)
        if deadline is not None and self._clock() > deadline:
            causes.append("deadline")
        return tuple(causes)

    async def _take_note(self, event: Event, digest: bytes) -> bytes:
        event, parts = await self._take_apart(event)
        facts, reading = self._observe(self._facts(event, parts))
        try:
            id = new_id()
            sealed = self._seal(event.tenant, id, parts)
            record = noted(id, event, parts.public, facts.arrival, [(cell.role, cell.commitment) for cell in sealed])
            if (telling := self.untold()) is not None:
                await telling
            receipt = await self._ledger.append(_entry(record, event, parts, sealed, digest, None))
        except BaseException as error:
            self._take_back(facts, reading, error)
            raise
        if (facts.tenant, facts.id) in self._doubts:
            self._written(facts)
        self._keep(facts, reading)
        self.noticed(record)
        self.seen(event, parts.keys)
        return answer(record, receipt)

    async def ready(self, tenant: str) -> None:
        """See that personal data of this tenant can be sealed. Unavailable, VaultError."""
        await self._vault.ready(tenant)

    def seal_note(self, tenant: str, record: str, subject: str | None, note: str | Mapping[str, str]) -> Cell:
        """A remark in free text, sealed under the subject it is about, so that it goes when that subject is erased.

        Without a subject it is sealed under one of its own. The tenant must be `ready`.
        """
        return Cell(*sealed_note(self._vault, tenant, record, subject, note))

    # What is counted beside the windows

    def _queued(self, live: Live, event: Event, decision: Decision) -> Capacity | None:
        """The review queue in which a place was taken: at once, so that those who come meanwhile see it."""
        policy = _policy(live, event)
        queue = live.capacities.get(policy.name)
        # What a mode alone sends there takes nobody's place.
        if queue is None or unforced(decision.outcome) != "review" or not queue.take(event.received_at):
            return None
        self._spread("taken", policy.name, event.received_at)
        return queue

    def _count(self, live: Live, event: Event, decision: Decision) -> None:
        """Let the breaker and the drift of the model know, once the verdict is durable."""
        for mode, rules in (("live", decision.record["found"]), ("shadow", decision.record["shadow"])):
            for rule in rules:
                self.fired[rule, mode] += 1
        look, drift = decision.look, live.drifts.get(event.kind)
        if look is not None and drift is not None:
            drift.add(look.seat.seen(look.row), look.row.segment, look.odd.score)
        policy = _policy(live, event)
        breaker = live.breakers.get(policy.name)
        if breaker is not None:
            blamed = policy.blamed(decision.findings, decision.outcome)
            breaker.record(blamed, event.received_at)
            self._spread("judged", policy.name, event.received_at, list(blamed))

    def _spread(self, what: str, policy: str, at: int, blamed: Sequence[str] = ()) -> None:
        if self._team.size > 1:
            self._team.spread(COUNTED, (what, policy, at, blamed))

    def _heard(self, items: Sequence[tuple[str, str, int, Sequence[str]]]) -> None:
        """What other processes counted."""
        live, now = self.live, self._clock()
        for name, breaker in live.breakers.items():
            judged = [(at, blamed) for what, policy, at, blamed in items if policy == name and what == "judged"]
            breaker.recall(judged, now)
        for name, queue in live.capacities.items():
            queue.recall([at for what, policy, at, _ in items if policy == name and what == "taken"], now)
            for what, policy, at, _ in items:
                if policy == name and what == "given":
                    queue.give_back(at)

    # Taking an event apart

    def _parse(self, body: bytes, tenant: str, now: int) -> Event:
        event = self.live.rulebook.schema.parse(body, received_at=now, tenant=tenant)
        if event.at > now + FUTURE:
            what = "lies more than 5 minutes in the future"
            raise EventRefused([FieldProblem("at", "in_the_future", what, "check the sender's clock")])
        return event

    async def _take_apart(self, event: Event) -> tuple[Event, Parts]:
        await self._vault.ready(event.tenant)
        sight = await self.sights(event) if event.kind == "listing" else None
        if sight is not None:
            listing = {**event.values["listing"], **sight.fields}
            event = replace(event, values={**event.values, "listing": listing})
            return event, replace(self._parts(event), images=sight.evidence)
        parts = self._parts(event)
        if event.kind == "outcome":
            return await self._inherit(event, parts)
        return event, parts

    def _parts(self, event: Event) -> Parts:
        public, private, entities = self.live.rulebook.schema.split(event)
        name, tenant = self._vault.pseudonym, event.tenant
        # Buyer and recipient mostly share a phone and an address: each is named once.
        named: dict[tuple[str, str], str] = {}
        keys = {
            path: named.get((namespace, value)) or named.setdefault((namespace, value), name(tenant, namespace, value))
            for path, namespace, value in entities
        }
        return Parts(public, keys, private, _subjects(private, entities, keys))

    async def _inherit(self, event: Event, parts: Parts) -> tuple[Event, Parts]:
        """An outcome takes over the public values and the keys of the event it refers to, so that windows find it."""
        first = await self._ledger.find(event.tenant, event.values["outcome"]["refers_to"])
        if first is None:
            what, hint = "no event with this id was recorded", "send the event first, then its outcome"
            raise EventRefused([FieldProblem("outcome.refers_to", "unknown_event", what, hint)])
        problem = misplaced(event, first.entry.event_kind, first.entry.at)
        if problem is not None:
            raise EventRefused([problem])
        about = decode(orjson.loads(first.entry.leaf)["event"]["public"])
        public = {**about, **parts.public}
        keys = {**dict(first.entry.keys), **parts.keys}
        event = replace(event, order=event.order or first.entry.order_id, values={**about, **event.values})
        return event, Parts(public, keys, parts.private, parts.subjects)

    def _facts(self, event: Event, parts: Parts) -> Facts:
        arrival = self._arrives(event.received_at)
        return Facts(event.kind, event.tenant, event.id, event.at, arrival, parts.public, parts.keys)

    def _arrives(self, received_at: int) -> int:
        """The next arrival."""
        # Two events of one microsecond, and a clock that jumps back, must not change the order of arrival.
        arrival = max(self._arrival + 1, received_at)
        # Nor must two processes give out the same one, while the store that sees to it is away.
        self._arrival = arrival + (self._team.index - arrival) % self._team.size
        return self._arrival

    def _seal(self, tenant: str, record: str, parts: Parts) -> tuple[Cell, ...]:
        cells = []
        for role, fields in parts.private.items():
            salt, written = random_bytes(SALT_BYTES), canonical_trusted(fields, marked)
            text = b'{"role":"%b","salt":"%b","fields":%b}' % (role.encode(), salt.hex().encode(), written)
            sealed = self._vault.seal(tenant, record, parts.subjects[role], text)
            cells.append(Cell(role, commit(salt, written), sealed))
        return tuple(cells)


def _modes(live: Live, event: Event) -> tuple[str, ...]:
    """The modes that are on for an event, by when it was received."""
    on = live.modes.get(event.tenant)
    return tuple(name for name, until in on.items() if event.received_at < until) if on else ()


def _policy(live: Live, event: Event) -> Policy:
    policy = live.rulebook.kinds[event.kind].policy
    assert policy is not None, "only judged kinds come here"
    return policy


class Cell(NamedTuple):
    """The personal data of one subject, sealed, and the commitment to it that the leaf shows."""

    role: str
    commitment: str
    sealed: Sealed


def _subjects(
    private: Mapping[str, Any], entities: Sequence[tuple[str, str, str]], keys: Mapping[str, str]
) -> dict[str, str]:
    """Subject role → the pseudonym its data is sealed under, from the surest identity that is known of it."""
    found: dict[str, str] = {}
    for role, fields in private.items():
        known = [(_SUREST[namespace], path) for path, namespace, _ in entities if path in fields]
        identity = keys[min(known)[1]] if known else random_bytes(PSEUDONYM_BYTES).hex()
        found[role] = subject_of(role, identity)
    return found


def merchant_of(values: Mapping[str, Any]) -> str | None:
    """The merchant an event is about."""
    return (values.get("merchant") or {}).get("id")


def _entry(
    record: Mapping[str, Any],
    event: Event,
    parts: Parts,
    sealed: Sequence[Cell],
    digest: bytes | None,
    verdict: str | None,
) -> Entry:
    return Entry(
        id=record["id"],
        tenant=event.tenant,
        kind=record["type"],
        event_id=event.id,
        event_kind=event.kind,
        at=event.at,
        received_at=event.received_at,
        leaf=leaf(record),
        sealed=tuple(cell.sealed for cell in sealed),
        keys=tuple(parts.keys.items()),
        digest=digest,
        order_id=event.order,
        merchant_id=merchant_of(event.values),
        verdict=verdict,
    )


def facts_of(tenant: str, leaf: bytes, keys: Mapping[str, str]) -> Facts:
    """What windows are rebuilt from: the leaf of a decision or event, and its pseudonyms."""
    event = orjson.loads(leaf)["event"]
    values = decode(event["public"])
    return Facts(event["kind"], tenant, event["id"], event["at"], event["arrival"], values, keys)


_ANSWERED = ("verdict", "score", "anomaly", "unusual", "signals", "actions", "reasons", "asks")


def answer(record: Mapping[str, Any], receipt: Receipt) -> bytes:
    """What the caller reads: a function of the record and its receipt alone, so a retry reads the same."""
    event = record["event"]
    shown: dict[str, Any] = {"id": record["id"], "event_id": event["id"]}
    if record["type"] == "decision":
        shown |= {name: record[name] for name in _ANSWERED}
        shown |= {"terms": record["terms"]} if "terms" in record else {}
        modes = [name for name, holds in record["situation"].get("modes", {}).items() if holds is not False]
        shown |= {"modes": sorted(modes)} if modes else {}
        shown |= {"degraded": record["situation"]["degraded"], "late": "late_event" in record["notices"]}
    # Sorted, as the leaf is: an answer made from the ledger again has the same bytes.
    return orjson.dumps({**shown, "receipt": receipt.json()}, option=orjson.OPT_SORT_KEYS)


def _same(digest: bytes, first: tuple[bytes | None, bytes]) -> bytes:
    """The first answer for the same body; another body under the id is refused. After erasure nobody can tell."""
    known, answered = first
    if known is not None and not compare_digest(known, digest):
        raise Conflict("this event id was used with another body")
    return answered
