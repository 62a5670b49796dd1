"""The rulebook in force: its windows are warmed up after a start, and it is switched as a whole on a reload."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson
import structlog

from engine.anomaly import Drift
from engine.archive import Library
from engine.callers import By, Caller
from engine.changes import EVERYONE, Changes
from engine.detectors import Detector, Models, Seat, pins_in, read_models
from engine.errors import ArbiterError, Conflict, PackError, Unavailable
from engine.features import Facts, Features
from engine.intake import SETTLE, Clock, Intake, Live, facts_of
from engine.ledger import Fact, Ledger
from engine.lists import NamedList
from engine.policy import Breaker, Capacity, Policy
from engine.recall import reach, recall
from engine.registers import Entries
from engine.rulebook import Rulebook, load
from engine.rules import Rule
from engine.snapshots import Snapshots
from engine.stores import MemoryStore, SplitStore, Store, StoreUnavailable
from engine.team import Team
from engine.trial import try_rules

RETRY_SECONDS = 2
"""After so long a warm-up that failed is tried again."""
TEND_SECONDS = 0.5
"""How often the store is looked after: a decision waits for one that is away at most once in between."""

SNAPSHOT_SECONDS = 600
"""From one snapshot of the windows to the next: what came after the last one is read from the ledger at a start."""
SNAPSHOT_PAUSE = 0.002
"""Seconds that the writer of a snapshot rests after each piece, which it takes one or two milliseconds to write."""

START = By("start", "service")
"""Who put a rulebook in force that was there when the process began: nobody by a key."""

REBUILDING = "the windows are being rebuilt from the ledger"

log = structlog.get_logger("arbiter")


RELOAD, WARM = "reload", "warm"
"""The turns of who switches the rulebook, also at a start, and of who rebuilds windows that processes share."""

FOLLOW, LOAD, ADOPT, ABANDON = "follow", "load", "adopt", "abandon"
"""What the other processes are told on the way to another rulebook: count for it too; have its history; let it decide;
or let it go."""
MODELS, USE, MISSED, LEFT, IN_FORCE = "models", "use", "missed", "left", "in_force"
"""Also: to read the models anew, and to use them; from when on events were decided without the store; that a process
is gone; and which rulebook one that starts found in the ledger."""

SECONDS_TO_FOLLOW = 3600.0
"""How long another process may take to load a rulebook, or the history that it keeps by itself."""


class MakeStore(Protocol):
    """Gives a store for windows whose money is converted by the rates with this hash: the one that is there, one of
    its own (`fresh`), or the one that another process made (its `generation`)."""

    def __call__(self, rates: str, *, fresh: bool = False, generation: str = "") -> Store: ...


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the packs are, the anomaly models that they pin, and snapshots of the windows (None: nowhere)."""

    rules: Path
    policies: Path
    models: Path | None = None
    snapshots: Path | None = None


def live_of(rulebook: Rulebook, store: Store, models: Models) -> Live:
    """A rulebook with all that decisions need beside it, nothing counted yet."""
    policies = policies_of(rulebook)
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
        models=models,
        drifts={kind: Drift(seat.model) for kind, seat in models.champions.items()},
    )


def policies_of(rulebook: Rulebook) -> list[Policy]:
    """Every policy once."""
    return list({book.policy.name: book.policy for book in rulebook.kinds.values() if book.policy}.values())


def _drifts(models: Models, old: Live) -> dict[str, Drift]:
    """Fresh counts for each champion, but those of a model that stays go on."""
    stays = {kind: drift for kind, drift in old.drifts.items() if drift.model == _name(models.champions.get(kind))}
    return {kind: stays.get(kind) or Drift(seat.model) for kind, seat in models.champions.items()}


@dataclass(frozen=True, slots=True)
class _Next:
    """The rulebook that another process, the `leader`, is about to let decide."""

    leader: str
    live: Live
    store: Store


def _all_did(answers: Mapping[int, str]) -> None:
    """Conflict when another process could not do what it was told."""
    failed = {index: why for index, why in answers.items() if why}
    if failed:
        index, why = min(failed.items())
        raise Conflict(f"worker {index} could not follow, so nothing has changed: {why}")


def _why(error: Exception) -> str:
    """Never empty: that would say that all is well."""
    return str(error) or type(error).__name__


def _name(seat: Seat | None) -> str | None:
    return seat.model.name if seat else None


def _pinned(detector: Detector, models: Models) -> dict[str, Any]:
    """A detector as `Force.info` shows it: what is pinned, and why it does not work if it does not."""
    return {
        "name": detector.name,
        "for": detector.kind,
        "champion": detector.champion,
        "challengers": list(detector.challengers),
        "problem": models.missing.get(detector.kind),
    }


def _promoted(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> Iterator[tuple[str, str | None, str | None]]:
    """(detector, champion before, champion now) of each detector whose champion is another one, by the files."""
    before, after = pins_in(old.values()), pins_in(new.values())
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield name, before.get(name), after.get(name)


def refuse_failing(rulebook: Rulebook) -> None:
    """Run the inline tests of a rulebook. Raises PackError with all that fail.

    A rule that asks a list whose file cannot be read is not tried: nobody can say what it would find.
    """
    able = [rule for rule in rulebook.rules if all(map(rulebook.lists.available, rule.lists))]
    if len(able) < len(rulebook.rules):
        log.warning("rules_not_tried", count=len(rulebook.rules) - len(able), reason="a list cannot be read")
    problems = [trial.problem for trial in try_rules(rulebook, able) if trial.problem is not None]
    if problems:
        raise PackError(problems)


def difference(before: Rulebook, after: Rulebook) -> dict[str, dict[str, list[str]]]:
    """What two rulebooks do not have in common, by name: rules, policies, lists of the files, and the files themselves.

    Exceptions, rates, own fields and links show as files alone.
    """
    return {
        "rules": _compared(*({rule.id: _said(rule) for rule in book.rules} for book in (before, after))),
        "policies": _compared(*({each.name: each.pack for each in policies_of(book)} for book in (before, after))),
        "lists": _compared(
            *({name: _held(each) for name, each in book.lists.lists.items()} for book in (before, after))
        ),
        "files": _compared(before.files, after.files),
    }


def _compared(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[str]]:
    return {
        "added": sorted(after.keys() - before.keys()),
        "changed": sorted(name for name in before.keys() & after.keys() if before[name] != after[name]),
        "removed": sorted(before.keys() - after.keys()),
    }


def _said(rule: Rule) -> tuple[Any, ...]:
    """A rule as it reads, wherever in its file it stands."""
    texts = (rule.condition.text, {name: shown.text for name, shown in rule.shown.items()})
    about = (rule.pack, rule.kinds, rule.owner, rule.mode, rule.if_unknown, rule.review_by, rule.tests)
    return (*texts, *about, rule.finding)


def _held(named: NamedList) -> tuple[Any, ...]:
    kind = (named.match, named.lowers, named.ignore_case, named.entity)
    return (named.hash, named.about, named.owner, *kind)


def _generation(store: Store) -> str:
    return store.generation if isinstance(store, SplitStore) else ""


def generation_of(board: Mapping[str, Any], rulebook: Rulebook) -> str:
    """The store in which other processes of a team count for a rulebook, by their board; empty where there are none."""
    generations: Mapping[str, str] = board.get("generations", {})
    return generations.get(rulebook.hash, "")


async def last_rulebook(ledger: Ledger) -> str | None:
    """The hash of the rulebook that was in force last; None in a ledger where none was."""
    changes = await ledger.rulebook_changes()
    if changes:
        return str(orjson.loads(changes[0].entry.leaf)["after"])
    # The first rulebook of a ledger has no change: its decisions name it.
    decision = await ledger.newest_decision()
    return None if decision is None else str(orjson.loads(decision.entry.leaf)["pins"]["rulebook"])


class Force:
    """Keeps what `intake` decides by."""

    def __init__(
        self,
        folders: Folders,
        make_store: MakeStore,
        store: Store,
        intake: Intake,
        ledger: Ledger,
        library: Library,
        changes: Changes,
        entries: Entries,
        team: Team,
        clock: Clock,
        snapshots: Snapshots | None = None,
    ) -> None:
        self._folders = folders
        self._snapshots = snapshots
        self._make_store = make_store
        self._store = store
        self._intake = intake
        self._ledger = ledger
        self._library = library
        self._changes = changes
        self._entries = entries
        self._team = team
        self._clock = clock
        self._reloading = asyncio.Lock()
        self._problem = REBUILDING
        self._ending = False
        self._incoming: Store | None = None
        """What events are counted in beside the store in force, on the way to another rulebook."""
        self._next: _Next | None = None
        self._models: Models | None = None
        """What was read anew, until all have."""
        self._told: int | None = None
        """From when on the other processes know that this one decided events without the store."""
        intake.untold = self._untold
        team.on(FOLLOW, self._follow)
        team.on(LOAD, self._load)
        team.on(ADOPT, self._adopt)
        team.on(ABANDON, self._abandon)
        team.on(MODELS, self._read_models)
        team.on(USE, self._use_models)
        team.on(IN_FORCE, self._must_have)
        team.on(MISSED, self._miss)

    def reasons(self) -> list[str]:
        """Why verdicts are not as good as they get."""
        lost = "" if self._intake.live.features.ready else REBUILDING
        reasons = [problem] if (problem := self._problem or lost) else []
        if not self._ledger.alive:
            reasons.append("the database does not answer")
        return reasons

    def info(self) -> dict[str, Any]:
        """What decides now."""
        live = self._intake.live
        book = live.rulebook
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
            "policies": {policy.name: list(policy.pack.for_) for policy in policies_of(book)},
            "models": [_pinned(detector, live.models) for detector in book.detectors],
            "windows": [
                {"name": window.name, "warm": live.features.warm(index)} for index, window in enumerate(book.windows)
            ],
            "lists": book.lists.names(),
        }

    @property
    def store_failures(self) -> int:
        """How many calls the store did not answer."""
        return self._store.failures

    def drift(self) -> dict[tuple[str, str, str], float]:
        """PSI by detector, segment ("" for what has no forest of its own) and feature; `anomaly` is the score."""
        drifts = self._intake.live.drifts.values()
        return {
            (drift.detector, segment, feature): figure
            for drift in drifts
            for (segment, feature), figure in drift.figures().items()
        }

    async def begin(self) -> None:
        """Let the rulebook of the start in, before it decides, and record it where another one was in force last.

        PackError when its own tests fail.
        """
        after = self._intake.live.rulebook
        await self._admit(after)
        before = await last_rulebook(self._ledger)
        if before is not None and before != after.hash:
            await self._changes.record(EVERYONE, "rulebook", "rulebook", before, after.hash, START)
            for name, then, now in _promoted(await self._library.files(before), after.files):
                await self._changes.record(EVERYONE, "model", name, then, now, START)
        await self._team.post(rulebook=after.hash, generations={after.hash: _generation(self._store)})

    async def _admit(self, rulebook: Rulebook) -> None:
        """Put a rulebook into the archive, once its own tests pass. One that is there has been tried."""
        if not await self._library.holds(rulebook.hash):
            await asyncio.to_thread(refuse_failing, rulebook)
            await self._library.keep(rulebook)

    async def rulebook(self, named: str) -> Rulebook:
        """The rulebook with this hash, from the archive where it is not the one in force."""
        current = self._intake.live.rulebook
        return current if named == current.hash else await self._library.find(named)

    async def keep_warm(self, last: int) -> None:
        """Rebuild windows, breakers and review queues from the ledger; then look after the store, and rebuild what it
        loses or misses. Whatever fails is tried again.

        `last` is the last entry (`Fact.arrival`) from before the start: later ones are counted as they come.
        """
        recalled = False
        while True:
            pause = TEND_SECONDS
            try:
                async with self._reloading:
                    if not recalled:
                        await self._recall(self._intake.live, last)
                        recalled = True
                    await self._warm()
                self._problem = ""
            except Unavailable as error:
                problem = f"the windows cannot be rebuilt yet: {error}"
                if problem != self._problem:
                    log.warning("warm_up_failed", reason=str(error))
                self._problem, pause = problem, RETRY_SECONDS
            await asyncio.sleep(pause)

    async def _warm(self) -> None:
        """See that every window has its history."""
        features = self._intake.live.features
        await asyncio.to_thread(self._store.tend)
        await self._tell_missed()
        if not features.ready:
            async with self._team.turn(WARM):
                await self._rebuild(features)

    async def _rebuild(self, features: Features) -> None:
        # What was counted and is not committed yet is not in the ledger, and perhaps no more in the store.
        await self._settled()
        await asyncio.to_thread(self._store.tend)
        if not features.ready and self._snapshots is not None and isinstance(self._store, MemoryStore):
            await self._snapshots.load(features, self._store)
        if not features.ready:
            since = features.since
            await self._reading(features.restore, await self.history(features), since)

    async def _settled(self) -> None:
        """Every event that was under way in any process has its answer."""
        await self._intake.settled()
        await self._team.tell(SETTLE)

    async def keep_hearing(self) -> None:
        """Hear what other processes count, also while none of the own events comes and while windows are rebuilt."""
        while True:
            await asyncio.sleep(TEND_SECONDS)
            await self.hear()

    async def hear(self) -> None:
        """Hear what other processes counted. At a start that is much, and the first decision should not wait for it."""
        for store in self._shared():
            with suppress(StoreUnavailable):
                await asyncio.to_thread(store.hear)

    def _missed(self) -> int | None:
        return self._store.missed if isinstance(self._store, SplitStore) else None

    def _untold(self) -> Awaitable[None] | None:
        missed = self._missed()
        return None if missed is None or missed == self._told else self._tell_missed()

    async def _tell_missed(self) -> None:
        """Let the other processes know that the store lacks events which this one decided without it: before it
        answers them, or one that has the store again sooner would read as if there were none."""
        missed = self._missed()
        if missed is not None and missed != self._told:
            await self._team.tell(MISSED, missed)
        self._told = missed

    def _miss(self, since: int) -> None:
        for store in self._shared():
            store.miss(since)

    def _shared(self) -> Iterator[SplitStore]:
        """The stores that other processes count in, too: the one in force, and the one that is about to be."""
        for store in (self._store, self._incoming):
            if isinstance(store, SplitStore):
                yield store

    async def keep_snapshots(self) -> None:
        """Write a snapshot of the windows now and then, until cancelled."""
        while self._snapshots is not None:
            await asyncio.sleep(SNAPSHOT_SECONDS)
            await self.write_snapshot(SNAPSHOT_PAUSE)

    async def write_snapshot(self, pause: float = 0.0) -> None:
        """Put the windows on disk, if there is a folder for it and they are warm. What goes wrong is logged: a start
        reads more of the ledger then."""
        async with self._reloading:
            if self._snapshots is None or not isinstance(self._store, MemoryStore):
                return
            if self._intake.live.features.ready:
                try:
                    await self._snapshots.write(self._store, pause)
                except (Unavailable, OSError) as error:
                    log.warning("snapshot_failed", file=str(self._snapshots.path), reason=str(error))

    async def _recall(self, live: Live, last: int | None = None) -> None:
        """Count what was decided up to the entry `last`, or up to now."""
        span, now = reach(live), self._clock()
        if span:
            facts = self._facts(now - span)
            known = (fact for fact in facts if last is None or fact.arrival <= last)
            await self._reading(recall, live, known, now)

    async def history(self, features: Features) -> Iterator[Facts]:
        """The events in the ledger that windows may hold and lack, read as they are asked for: in a thread."""
        since = max(self._clock() - features.history, features.since or 0)
        return (facts_of(fact.tenant, fact.leaf, fact.keys) for fact in self._facts(since))

    def _facts(self, since: int) -> Iterator[Fact]:
        """For a thread to go through. A page at a time, as a ledger may be larger than memory. Raises Unavailable."""
        loop, pages = asyncio.get_running_loop(), self._ledger.facts(since)

        async def following() -> list[Fact]:
            return await anext(pages, [])

        def read() -> Iterator[Fact]:
            while page := asyncio.run_coroutine_threadsafe(following(), loop).result():
                yield from page
                if self._ending:
                    raise Unavailable("this process is about to end", "ending")

        return read()

    async def _reading(self, work: Callable[..., None], *args: Any) -> None:
        """Do in a thread what reads the ledger. Cancelled, it waits until the thread has let go of the ledger."""
        done = asyncio.ensure_future(asyncio.to_thread(work, *args))
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError:
            self._ending = True
            with suppress(Unavailable):
                await done
            raise

    async def reload(self, caller: Caller) -> dict[str, Any]:
        """Read the packs again and switch to them as a whole; what is different then.

        PackError, also for a test in them that fails, leaves the ones in force as they are.
        """
        if self._snapshots is not None:
            self._snapshots.hurry()
        # In this order: whoever follows another process waits for its own lock alone.
        async with self._team.turn(RELOAD), self._reloading:
            return await self._reload(caller)

    async def _reload(self, caller: Caller) -> dict[str, Any]:
        folders = self._folders
        rulebook = await asyncio.to_thread(load, folders.rules, folders.policies)
        old = self._intake.live
        changed = {"hash": rulebook.hash, "before": old.rulebook.hash, **difference(old.rulebook, rulebook)}
        # Always from the folder: models may have come, gone or changed though no pack did.
        models = await asyncio.to_thread(lambda: read_models(folders.models, rulebook.detectors, strict=True))
        if rulebook.hash == old.rulebook.hash:
            _all_did(await self._team.tell(MODELS))
            await self._team.tell(USE)
            old.models, old.drifts = models, _drifts(models, old)
            return {**changed, "windows_rebuilt": 0}
        await self._admit(rulebook)
        try:
            beside = self._beside(old, rulebook, models)
            if beside is not None:
                await self._tell_follow(rulebook, "")
            live, store = beside or await self._rebuilt(rulebook, models)
        except BaseException:
            await self._team.tell(ABANDON)
            raise
        try:
            _all_did(await self._team.tell(LOAD, patience=SECONDS_TO_FOLLOW))
            await self._recall(live)
            async with self._changes.turn():
                live.lists = await self._entries.onto(live.lists)
                before, after = old.rulebook.hash, rulebook.hash
                await self._changes.record(caller.tenant, "rulebook", "rulebook", before, after, caller.by)
                for name, then, now in _promoted(old.rulebook.files, rulebook.files):
                    await self._changes.record(caller.tenant, "model", name, then, now, caller.by)
                await self._team.post(rulebook=after)
                await self._team.tell(ADOPT)  # First: the windows of before leave the server with this process.
                self._switch(old, live)
        except BaseException:
            await self._team.tell(ABANDON)
            live.features.close()
            raise
        finally:
            self._intake.following = self._incoming = None
        rebuilt = len(rulebook.windows) if store is not self._store else 0
        self._store = store
        return {**changed, "windows_rebuilt": rebuilt}

    # Another process reloads

    async def _follow(self, said: Sequence[str]) -> str:
        """Count for the rulebook that another process is about to let decide; why not, if so."""
        named, generation, leader = said
        await self._reloading.acquire()
        try:
            rulebook = await self.rulebook(named)
            models = await asyncio.to_thread(lambda: read_models(self._folders.models, rulebook.detectors, strict=True))
            if leader not in self._team.living():
                raise Conflict("the process that began it is gone")
            store = self._make_store(rulebook.rates.hash, generation=generation) if generation else self._store
            self._next = _Next(leader, live_of(rulebook, store, models), store)
            if generation:
                self._incoming, self._intake.following = store, self._next.live.features
            await self._intake.settled()
        except (ArbiterError, OSError) as error:
            self._abandon()
            if self._reloading.locked() and self._next is None:
                self._reloading.release()
            return _why(error)
        return ""

    async def _load(self, _: Any) -> str:
        """The other process has loaded what is shared; load what each has for itself. Why not, if so."""
        assert self._next is not None, "told to follow before"
        live, store = self._next.live, self._next.store
        try:
            if isinstance(store, SplitStore) and store is not self._store:
                await asyncio.to_thread(store.believe)
            if not live.features.ready:
                await self._reading(live.features.restore, await self.history(live.features), live.features.since)
            await self._recall(live)
        except Unavailable as error:
            return _why(error)
        return ""

    async def _adopt(self, _: Any = None) -> None:
        """Let it decide."""
        following, self._next = self._next, None  # From here on nobody else does, or lets it go.
        assert following is not None, "told to follow before"
        live = following.live
        try:
            live.lists = await self._entries.onto(live.lists)
        except BaseException:
            self._next = following
            raise
        self._store = following.store
        self._switch(self._intake.live, live, leave=True)
        self._intake.following = self._incoming = None
        self._reloading.release()

    def _abandon(self, _: Any = None) -> None:
        """Let it go."""
        if self._next is not None:
            self._intake.following = self._incoming = None
            self._next.live.features.close(leave=True)
            self._next = None
            self._reloading.release()

    async def left(self, name: str) -> None:
        """A process is gone. Whether the rulebook that it was about to let decide does, is what the ledger says."""
        while (following := self._next) is not None and following.leader == name:
            try:
                decides = await last_rulebook(self._ledger) == following.live.rulebook.hash
                if self._next is not following:
                    return
                if decides:
                    await self._adopt()
                else:
                    self._abandon()
            except Unavailable as error:
                log.warning("reload_without_its_leader", reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _read_models(self, _: Any) -> str:
        """Read the models anew; why not, if so."""
        detectors = self._intake.live.rulebook.detectors
        try:
            self._models = await asyncio.to_thread(lambda: read_models(self._folders.models, detectors, strict=True))
        except (ArbiterError, OSError) as error:
            return _why(error)
        return ""

    def _use_models(self, _: Any) -> None:
        live, models = self._intake.live, self._models
        assert models is not None, "told to read them before"
        live.models, live.drifts, self._models = models, _drifts(models, live), None

    async def _must_have(self, named: str) -> None:
        """Raises ValueError, so that this process is started anew, where another rulebook decides here: the one that
        brought it is gone, and its record came into the ledger only then."""
        if self._next is not None and self._next.live.rulebook.hash == named:
            await self._adopt()
        if self._intake.live.rulebook.hash != named:
            raise ValueError(f"{named} is in force")

    async def _tell_follow(self, rulebook: Rulebook, generation: str) -> None:
        """Conflict when one of the other processes cannot."""
        generations = {self._intake.live.rulebook.hash: _generation(self._store)}
        await self._team.post(generations={**generations, rulebook.hash: generation or _generation(self._store)})
        said = (rulebook.hash, generation, self._team.name)
        _all_did(await self._team.tell(FOLLOW, said, patience=SECONDS_TO_FOLLOW))

    def _switch(self, old: Live, live: Live, *, leave: bool = False) -> None:
        """From one moment to the next; nothing here waits. `leave`: another process drops what was before."""
        live.tiers = old.tiers
        # What a breaker and a queue have counted goes on counting, unless their own clause is another one now.
        breakers, capacities = old.breakers, old.capacities
        live.breakers = {
            name: breakers[name] if name in breakers and breakers[name].clause == new.clause else new
            for name, new in live.breakers.items()
        }
        live.capacities = {
            name: capacities[name] if name in capacities and capacities[name].rate == new.rate else new
            for name, new in live.capacities.items()
        }
        live.drifts = _drifts(live.models, old)
        self._intake.live = live
        old.features.close(leave=leave)

    def _beside(self, old: Live, rulebook: Rulebook, models: Models) -> tuple[Live, Store] | None:
        """The rulebook over the windows that are there, if they are all it needs."""
        windows, rates = set(old.rulebook.windows), old.rulebook.rates.hash
        if not windows.issuperset(rulebook.windows) or rulebook.rates.hash != rates or not old.features.ready:
            return None
        live = live_of(rulebook, self._store, models)
        if live.features.ready:
            return live, self._store
        live.features.close()
        return None

    async def _rebuilt(self, rulebook: Rulebook, models: Models) -> tuple[Live, Store]:
        """A rulebook whose windows differ, with all of them rebuilt in a store of its own.

        Events that arrive meanwhile are counted for it too, so nothing is missing when it comes into force.
        """
        store = self._make_store(rulebook.rates.hash, fresh=True)
        live = live_of(rulebook, store, models)
        self._incoming, self._intake.following = store, live.features
        try:
            await self._tell_follow(rulebook, _generation(store))
            # What was counted before and is not committed yet is in neither, until it has its answer.
            await self._settled()
            await self._reading(live.features.restore, await self.history(live.features))
        except BaseException:
            self._intake.following = self._incoming = None
            live.features.close()
            raise
        return live, store
