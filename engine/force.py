"""The rulebook in force: let in at a start, and switched as a whole on a reload, in all processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson
import structlog

from engine.anomaly import Drift
from engine.archive import Library
from engine.assessments import try_profiles
from engine.callers import By, Caller
from engine.changes import RELOAD, Changes
from engine.detectors import Detector, Models, Seat, pins_in, read_models
from engine.difference import difference
from engine.errors import ArbiterError, Conflict, PackError, Unavailable
from engine.features import Features
from engine.intake import Intake, Live
from engine.invariants import try_invariants
from engine.journal import EVERYONE, Note
from engine.ledger import Ledger
from engine.policy import Breaker, Capacity
from engine.registers import Entries
from engine.rulebook import Rulebook, load
from engine.stores import SplitStore, Store
from engine.team import Team
from engine.trial import try_rules
from engine.warmth import Warmth

START = By("start", "service")
"""Who put a rulebook in force that was there when the process began: nobody by a key."""

RETRY_SECONDS = 2
"""After so long a database that could not be read is read again."""

FOLLOW, LOAD, ADOPT, ABANDON = "follow", "load", "adopt", "abandon"
"""What the other processes are told on the way to another rulebook: count for it too; have its history; let it decide;
or let it go."""
MODELS, USE, LEFT, IN_FORCE = "models", "use", "left", "in_force"
"""Also: to read the models anew, and to use them; that a process is gone; and which rulebook one that starts found in
the ledger."""

SECONDS_TO_FOLLOW = 3600.0
"""How long another process may take to load a rulebook, or the history that it keeps by itself."""

log = structlog.get_logger("arbiter")


class Way(NamedTuple):
    """How a rulebook comes into force, as the `object` of the record says it, and why."""

    name: str
    note: Note | None = None


RELOADED = Way("rulebook")
"""From the folders, by a reload or a start."""


class MakeStore(Protocol):
    """Gives a store for windows whose money is converted by the rates with this hash: the one that is there, one of
    its own (`fresh`), or the one that another process made (its `generation`)."""

    def __call__(self, rates: str, *, fresh: bool = False, generation: str = "") -> Store: ...


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the packs are, the anomaly models that they pin, and snapshots of the windows (None: nowhere).

    With `approval` packs are read from their folders for the first rulebook of a ledger alone.
    """

    rules: Path
    policies: Path
    models: Path | None = None
    snapshots: Path | None = None
    approval: bool = False


def live_of(rulebook: Rulebook, store: Store, models: Models) -> Live:
    """A rulebook with all that decisions need beside it, nothing counted yet."""
    policies = rulebook.policies.values()
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
    trials = [*try_rules(rulebook, able)]
    if len(able) == len(rulebook.rules):
        trials += [trial for trial, _ in try_invariants(rulebook)]
    trials += [trial for trial, _ in try_profiles(rulebook)]
    problems = [trial.problem for trial in trials if trial.problem is not None]
    if problems:
        raise PackError(problems)


def _generation(store: Store) -> str:
    return store.generation if isinstance(store, SplitStore) else ""


def generation_of(board: Mapping[str, Any], rulebook: Rulebook) -> str:
    """The store in which other processes of a team count for a rulebook, by their board; empty where there are none."""
    generations: Mapping[str, str] = board.get("generations", {})
    return generations.get(rulebook.hash, "")


async def last_rulebook(ledger: Ledger) -> str | None:
    """The hash of the rulebook that was in force last; None in a ledger where none was."""
    change = await ledger.last_rulebook_change()
    if change is not None:
        return str(orjson.loads(change.entry.leaf)["after"])
    # The first rulebook of a ledger has no change: its decisions name it.
    decision = await ledger.newest_decision()
    return None if decision is None else str(orjson.loads(decision.entry.leaf)["pins"]["rulebook"])


class Force:
    """Keeps what `intake` decides by."""

    def __init__(
        self,
        folders: Folders,
        make_store: MakeStore,
        warmth: Warmth,
        intake: Intake,
        ledger: Ledger,
        library: Library,
        changes: Changes,
        entries: Entries,
        team: Team,
    ) -> None:
        self._folders = folders
        self._make_store = make_store
        self._warmth = warmth
        self._intake = intake
        self._ledger = ledger
        self._library = library
        self._changes = changes
        self._entries = entries
        self._team = team
        self._next: _Next | None = None
        self._models: Models | None = None
        """What was read anew, until all have."""
        team.on(FOLLOW, self._follow)
        team.on(LOAD, self._load)
        team.on(ADOPT, self._adopt)
        team.on(ABANDON, self._abandon)
        team.on(MODELS, self._read_models)
        team.on(USE, self._use_models)
        team.on(IN_FORCE, self._must_have)

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
                    "rollout": None if rule.rollout is None else str(rule.rollout),
                    "signal": rule.finding.signal,
                }
                for rule in book.rules
            ],
            "policies": {name: list(policy.pack.for_) for name, policy in book.policies.items()},
            "models": [_pinned(detector, live.models) for detector in book.detectors],
            "windows": [
                {"name": window.name, "warm": live.features.warm(index)} for index, window in enumerate(book.windows)
            ],
            "lists": book.lists.names(),
        }

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
        if before is None and self._folders.approval:
            # So that no later start takes another one, though nothing was decided yet.
            await self._changes.record(EVERYONE, "rulebook", RELOADED.name, None, after.hash, START)
        elif before is not None and before != after.hash:
            await self._changes.record(EVERYONE, "rulebook", RELOADED.name, before, after.hash, START)
            for name, then, now in _promoted(await self._library.files(before), after.files):
                await self._changes.record(EVERYONE, "model", name, then, now, START)
        await self._team.post(rulebook=after.hash, generations={after.hash: _generation(self._warmth.store)})

    async def _admit(self, rulebook: Rulebook) -> None:
        """Put a rulebook into the archive, once its own tests pass. One that is there has been tried."""
        if not await self._library.holds(rulebook.hash):
            await asyncio.to_thread(refuse_failing, rulebook)
            await self._library.keep(rulebook)

    async def rulebook(self, named: str) -> Rulebook:
        """The rulebook with this hash, from the archive where it is not the one in force."""
        current = self._intake.live.rulebook
        return current if named == current.hash else await self._library.find(named)

    async def reload(self, caller: Caller) -> dict[str, Any]:
        """Read the packs again and switch to them as a whole, and the models again; what is different then.

        Where packs need approval they stay, and only the models are read. PackError, also for a test in the packs that
        fails, leaves the ones in force as they are.
        """
        async with self._turn():
            folders = self._folders
            if folders.approval:
                rulebook = self._intake.live.rulebook
            else:
                rulebook = await asyncio.to_thread(load, folders.rules, folders.policies)
            return await self._switch_over(rulebook, caller)

    async def take(self, rulebook: Rulebook, caller: Caller, permit: Callable[[], Awaitable[Way]]) -> dict[str, Any]:
        """Switch to this rulebook as a whole; what is different then. PackError, as a reload has it.

        `permit` is asked when nothing but the switch is left to do and nobody else changes anything: what it gives is
        recorded with the change, and what it raises stops it.
        """
        async with self._turn():
            return await self._switch_over(rulebook, caller, permit)

    async def try_out(self, rulebook: Rulebook) -> None:
        """Raises PackError where a rulebook could not come into force: its own tests fail, or a model is missing."""
        await self._models_of(rulebook)
        await asyncio.to_thread(refuse_failing, rulebook)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Waits until no other rulebook is on its way into force."""
        self._warmth.hurry()
        # In this order: whoever follows another process waits for its own lock alone.
        async with self._team.turn(RELOAD), self._warmth.busy:
            yield

    async def _switch_over(
        self, rulebook: Rulebook, caller: Caller, permit: Callable[[], Awaitable[Way]] | None = None
    ) -> dict[str, Any]:
        warmth, old = self._warmth, self._intake.live
        changed = {"hash": rulebook.hash, "before": old.rulebook.hash, **difference(old.rulebook, rulebook)}
        # Always from the folder: models may have come, gone or changed though no pack did.
        models = await self._models_of(rulebook)
        if rulebook.hash == old.rulebook.hash:
            if permit is not None:
                raise Conflict("this rulebook is in force already")
            _all_did(await self._team.tell(MODELS))
            came = [one for one in rulebook.detectors if one.kind in models.champions.keys() - old.models.champions]
            async with self._changes.turn():
                for one in came:
                    await self._changes.record(caller.tenant, "model", one.name, None, one.champion, caller.by)
                await self._team.tell(USE)
                old.models, old.drifts = models, _drifts(models, old)
            return {**changed, "windows_rebuilt": 0}
        await self._admit(rulebook)
        live, store = self._beside(rulebook, models) or self._apart(rulebook, models)
        another = store is not warmth.store
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._give_up, live)
            # Events that arrive meanwhile are counted for it too, so nothing is missing when it comes into force.
            warmth.prepare(store, live.features)
            await self._tell_follow(rulebook, store)
            if another:
                # What was counted before and is not committed yet is in neither, until it has its answer.
                await warmth.settled()
                await warmth.restore(live.features)
            _all_did(await self._team.tell(LOAD, patience=SECONDS_TO_FOLLOW))
            await warmth.recall(live)
            async with self._changes.turn():
                way = await permit() if permit is not None else RELOADED
                live.lists = await self._entries.onto(live.lists)
                for name, then, now in _promoted(old.rulebook.files, rulebook.files):
                    await self._changes.record(caller.tenant, "model", name, then, now, caller.by)
                # Last: from this record on the rulebook is in force, whatever becomes of this process.
                before, after = old.rulebook.hash, rulebook.hash
                await self._changes.record(caller.tenant, "rulebook", way.name, before, after, caller.by, way.note)
                await self._team.post(rulebook=after)
                await self._team.tell(ADOPT)  # First: the windows of before leave the server with this process.
                self._switch(live, store)
            undo.pop_all()
        return {**changed, "windows_rebuilt": len(rulebook.windows) if another else 0}

    def _beside(self, rulebook: Rulebook, models: Models) -> tuple[Live, Store] | None:
        """The rulebook over the windows that are there, if they are all it needs."""
        old, store = self._intake.live, self._warmth.store
        windows, rates = set(old.rulebook.windows), old.rulebook.rates.hash
        if not windows.issuperset(rulebook.windows) or rulebook.rates.hash != rates or not old.features.ready:
            return None
        live = live_of(rulebook, store, models)
        if live.features.ready:
            return live, store
        live.features.close()
        return None

    def _apart(self, rulebook: Rulebook, models: Models) -> tuple[Live, Store]:
        """A rulebook whose windows differ, with a store of its own, empty yet."""
        store = self._make_store(rulebook.rates.hash, fresh=True)
        return live_of(rulebook, store, models), store

    async def _give_up(self, live: Live) -> None:
        """Leave everything as it was."""
        self._warmth.settle_on(self._warmth.store)
        # First: where nobody can be told, this process is about to end, and others may let it decide all the same.
        await self._team.tell(ABANDON)
        live.features.close()

    async def _models_of(self, rulebook: Rulebook) -> Models:
        """The models of a rulebook, from the folder. PackError where one cannot be used."""
        return await asyncio.to_thread(lambda: read_models(self._folders.models, rulebook.detectors, strict=True))

    # Another process reloads

    async def _follow(self, said: Sequence[str]) -> str:
        """Count for the rulebook that another process is about to let decide; why not, if so."""
        named, generation, leader = said
        warmth = self._warmth
        await warmth.busy.acquire()  # Until it decides here, or is let go.
        try:
            rulebook = await self.rulebook(named)
            models = await self._models_of(rulebook)
            if leader not in self._team.living():
                raise Conflict("the process that began it is gone")
        except (ArbiterError, OSError) as error:
            warmth.busy.release()
            return _why(error)
        store = self._make_store(rulebook.rates.hash, generation=generation) if generation else warmth.store
        live = live_of(rulebook, store, models)
        self._next = _Next(leader, live, store)
        warmth.prepare(store, live.features)
        await self._intake.settled()
        return ""

    async def _load(self, _: Any) -> str:
        """The other process has loaded what is shared; load what each has for itself. Why not, if so."""
        assert self._next is not None, "told to follow before"
        live, store = self._next.live, self._next.store
        try:
            if isinstance(store, SplitStore) and store is not self._warmth.store:
                await asyncio.to_thread(store.believe)
            if not live.features.ready:
                await self._warmth.restore(live.features)
            await self._warmth.recall(live)
        except Unavailable as error:
            return _why(error)
        return ""

    async def _adopt(self, _: Any = None) -> None:
        """Let it decide."""
        following = self._next
        assert following is not None, "told to follow before"
        lists = await self._entries.onto(following.live.lists)
        if self._next is following:  # Nobody did so meanwhile, or let it go.
            following.live.lists = lists
            self._switch(following.live, following.store, leave=True)
            self._next = None
            self._warmth.busy.release()

    def _abandon(self, _: Any = None) -> None:
        """Let it go."""
        if self._next is not None:
            self._next.live.features.close(leave=True)
            self._warmth.settle_on(self._warmth.store)
            self._next = None
            self._warmth.busy.release()

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
        try:
            self._models = await self._models_of(self._intake.live.rulebook)
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

    async def _tell_follow(self, rulebook: Rulebook, store: Store) -> None:
        """Conflict when one of the other processes cannot."""
        now, then = _generation(self._warmth.store), _generation(store)
        await self._team.post(generations={self._intake.live.rulebook.hash: now, rulebook.hash: then})
        said = (rulebook.hash, "" if store is self._warmth.store else then, self._team.name)
        _all_did(await self._team.tell(FOLLOW, said, patience=SECONDS_TO_FOLLOW))

    def _switch(self, live: Live, store: Store, *, leave: bool = False) -> None:
        """From one moment to the next; nothing here waits. `leave`: another process drops what was before."""
        old = self._intake.live
        live.tiers, live.standings, live.modes = old.tiers, old.standings, old.modes
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
        self._warmth.settle_on(store)
        old.features.close(leave=leave)
