"""A store that several processes share, in Valkey or Redis: one round trip and one step a decision.

The script (`valkey.lua`) keeps each key's events in order with running totals, so that what a stretch holds is worked
out here, exactly, from the two members at its ends. What an operation costs is in docs/operations.md.

    arbiter:SPACE                            which generation is in force
    arbiter:SPACE:GENERATION                 control: epoch, complete; `code NAME`, `span NAME` of series; `tenant NAME`
    arbiter:SPACE:GENERATION:{TENANT}:…      meta, index, pending, news, ids:HOUR; CODE:KEY:REACH:SHAPE, …:COLUMN

An epoch is one complete loading. Each tenant has a copy, which every answer brings along: a server that lost its data
cannot answer as if nothing had happened. A connection that broke is looked into before anything is warm again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from secrets import token_hex
from threading import Lock, Thread
from time import time_ns
from typing import Any, Protocol

import orjson
import redis

from engine.stores.contract import (
    CAP,
    HOUR,
    LATENESS,
    LOOK,
    Answer,
    Gap,
    Series,
    Stamp,
    StoreUnavailable,
    Touch,
)
from engine.stores.news import News
from engine.stores.rows import Shape
from engine.stores.server import LOAD_SECONDS, Away, Server

MARGIN = 10 * 60 * 1_000_000
"""How long ago (µs) an event came if it surely is in the store when it is in the ledger: a commit takes seconds."""
EXACT = 1 << 53
"""Times and arrivals from here on (the year 2255) would not be whole numbers on the server."""
_BATCH = 200


@dataclass(slots=True)
class _Shelf:
    """A declared series, how its members are written, the name it has on the server, and how far back it reaches."""

    series: Series
    shape: Shape
    code: str
    reach: int
    told: tuple[str, str] = field(init=False)
    """What the server is told of it each time."""
    suffix: str = field(init=False)
    """What the names of its lines end with."""

    def __post_init__(self) -> None:
        self.told = self.shape.letters, str(self.reach)
        self.suffix = f":{self.reach}:{self.shape.letters}"


@dataclass(slots=True)
class _Doubt:
    """An event that may be on the server and must not be. Without an arrival: whichever it got there."""

    stamp: Stamp
    touches: Sequence[Touch]
    arrival: str
    note: str


class ValkeyStore:
    """A Store on a server. `space` keeps ledgers apart that share it; a `fresh` one begins a generation of its own,
    which is the one in force once it is loaded. Threads may share it.

    Several processes share the store without losing anything if each is a `member` with a name of its own: what a
    member has pending is taken out by others once `living` names it no more. What members keep in their own memory
    they tell each other through the store (`engine.stores.news`), in the step that counts the event: a listener hears
    all that was counted before. A process without a name has the store alone, and takes out all that is pending.

    An in-order event costs about the same whatever its keys hold. A late one costs in addition some microseconds for
    each later event of its keys, up to a limit (`LATE` in valkey.lua): Gap.CAPPED beyond. Ranks over more than `MOST`
    events that were never in order read Gap.NOT_WARM at first.
    """

    def __init__(
        self,
        url: str,
        space: str,
        lateness: int = LATENESS,
        cap: int = CAP,
        *,
        fresh: bool = False,
        generation: str = "",
        member: str = "",
        living: Callable[[], Collection[str]] = tuple,
        clock: Callable[[], int] = lambda: time_ns() // 1000,
    ) -> None:
        self.member = member
        self._living = living
        self._listener: Listener | None = None
        self._places: dict[str, str] = {}
        """By tenant up to where this member heard the news."""
        self._lateness = lateness
        self._cap = cap
        self._clock = clock
        self._root = f"arbiter:{space}"
        self._generation = f"{self._root}:{token_hex(6)}" if fresh else generation
        self._shelves: dict[str, _Shelf] = {}
        self._holders: dict[str, int] = {}
        self._longest = self._beside = 0
        self._limits: tuple[str, ...] = ()
        self._tenants: dict[str, str] = {}
        self._known = False
        """Whether the server is as told below. Not before the first contact, nor after a connection broke."""
        self._problem = "it was not asked yet"
        self._epoch = b""
        """Which complete loading it holds; empty for none."""
        self._run = ""
        """Which run of the server this was."""
        self._complete: int | None = None
        """The server has all that was received before; None when it has no complete loading."""
        self._loaded: frozenset[str] = frozenset()
        self._warm: frozenset[str] = frozenset()
        """Of the loaded series those that lack nothing that this process knows of."""
        self._missed: int | None = None
        """When the first event was decided without the store, since the last loading began."""
        self._failures = 0
        self._doubts: list[_Doubt] = []
        self._kept: dict[str, list[str]] = {}
        """By tenant: the ids of events that are committed, which the server does not know yet."""
        self._orphans: dict[str, list[str]] | None = None
        """By tenant: what was pending before this process began."""
        self._turn = Lock()
        """For whoever looks after the rest."""
        self._server = Server(url)

    @property
    def lateness(self) -> int:
        return self._lateness

    @property
    def failures(self) -> int:
        return self._failures

    @property
    def generation(self) -> str:
        """What the names of all its keys begin with; empty before the first contact."""
        return self._generation

    @property
    def run(self) -> tuple[bytes, str]:
        """Which complete loading the server holds (b"" for none), and which run of the server it is."""
        return self._epoch, self._run

    @property
    def missed(self) -> int | None:
        """When the first event was decided without the store, since the last loading began."""
        return self._missed

    # What is kept

    def reach(self, span: int) -> None:
        """Know each event for so long at least (µs): others keep it, too. Before `declare`."""
        self._beside = max(self._beside, span)

    def declare(self, series: Iterable[Series]) -> None:
        with self._turn:
            for one in series:
                known = self._shelves.get(one.name)
                if known is None or known.series.span < one.span:
                    code = known.code if known else token_hex(4)
                    self._shelves[one.name] = _Shelf(one, Shape(one.columns), code, one.span + self._lateness)
                    self._known = False
                self._holders[one.name] = self._holders.get(one.name, 0) + 1
            self._longest = max((self._beside, *(shelf.series.span for shelf in self._shelves.values())))
            self._limits = (str(self._lateness), str(self._longest), str(self._cap), str(LOOK))
            if not self._known:
                try:
                    self._look()
                except StoreUnavailable as error:
                    self._problem = str(error)  # As at any other time: decisions go on, and `tend` tries again.

    def release(self, names: Iterable[str]) -> None:
        with self._turn:
            gone = self._let_go(names)
            if gone and self._generation:
                codes = [] if not self._shelves else [shelf.code for shelf in gone]
                fields = [f"{field} {shelf.series.name}" for shelf in gone for field in ("code", "span")]
                # Who releases is about to decide the next event, and must not wait for this.
                Thread(target=self._drop, args=(codes, fields), daemon=True).start()

    def leave(self, names: Iterable[str]) -> None:
        with self._turn:
            if self._let_go(names) and not self._shelves:
                self._server.close()

    def _let_go(self, names: Iterable[str]) -> list[_Shelf]:
        """The series that nobody here has declared any more."""
        gone = []
        for name in names:
            self._holders[name] -= 1
            if not self._holders[name]:
                del self._holders[name]
                gone.append(self._shelves.pop(name))
        self._warm = self._warm.intersection(self._shelves)
        return gone

    def _drop(self, codes: Sequence[str], fields: Sequence[str]) -> None:
        """Remove some series from the server, or all there is. Where that fails, they go as idle keys do."""
        patterns = [f"{self._generation}:{{*}}:{code}:*" for code in codes] or [f"{self._generation}:*"]
        with suppress(Away), self._server.guarded():
            if codes:
                self._server.client.hdel(self._generation, *fields)
            else:
                self._server.client.delete(self._generation)
            for pattern in patterns:
                found = self._server.bulk.scan_iter(match=pattern, count=1000)
                while batch := list(islice(found, 1000)):
                    self._server.bulk.unlink(*batch)
        if not codes:
            self._server.close()

    def warm(self, name: str) -> bool:
        return name in self._warm

    def since(self, names: Collection[str]) -> int | None:
        if self._complete is None or not self._loaded.issuperset(names):
            return None
        return self._complete if self._missed is None else min(self._complete, self._missed - MARGIN)

    # One event

    def observe(self, stamp: Stamp, touches: Sequence[Touch], note: str = "") -> tuple[int, bool, list[Answer]]:
        """As every store does. `note` is what other members are told."""
        warm, shelves, at = self._warm, self._shelves, stamp.at
        if not -EXACT < at < EXACT:
            raise ValueError(f"a time of {at} µs is out of range")
        keys = self._keys(stamp, touches)
        kept = self._kept.pop(stamp.tenant, ())
        args = ["observe", stamp.id, str(at), str(stamp.arrival), *self._limits]
        args += (self.member, self._place(stamp.tenant), note, str(len(kept)), *kept)
        for name, _, values, frames, own in touches:
            shelf = shelves[name]
            args += shelf.told
            if name in warm:
                asked = shelf.shape.asked(frames)
                args.append(str(len(asked)))
                for each in asked:
                    wants = shelf.shape.wants(each, own) if each.ranks else each.wants
                    args += (str(at - each.length), wants)
            else:
                args.append("0")
            if values is None:
                args.append("0")
            else:
                args.append("1")
                args += shelf.shape.args(values)
        try:
            reply = self._ask(keys, args, _Doubt(stamp, touches, "", note))
        except StoreUnavailable:
            if kept:
                self._kept.setdefault(stamp.tenant, []).extend(kept)
            raise
        if (reply[3] or b"") != self._epoch and self._epoch and not self._admitted(stamp.tenant):
            warm = frozenset()
        if reply[4]:
            self._heard(stamp.tenant, reply[4])
        late, answers = reply[2] == b"1", list[Answer]()
        for touch, part in zip(touches, reply[5:], strict=True):
            name, _, _, frames, own = touch
            if late or name not in warm:
                gap = Gap.TOO_LATE if name in warm else Gap.NOT_WARM
                answers += [gap for _, _, questions in frames for _ in questions]
            else:
                answers += shelves[name].shape.answers(part, frames, at, self._cap, own)
        return int(reply[0]), reply[1] == b"1", answers

    def keep(self, stamp: Stamp) -> None:
        self._kept.setdefault(stamp.tenant, []).append(stamp.id)

    def forget(self, stamp: Stamp, touches: Sequence[Touch], note: str = "") -> None:
        """As every store does. `note` is what other members are told."""
        doubt = _Doubt(stamp, touches, str(stamp.arrival), note)
        try:
            told = self._ask(*self._forgetting(doubt, self.member, self._place(stamp.tenant)), doubt)
        except StoreUnavailable:
            if doubt not in self._doubts:
                self._doubts.append(doubt)
            raise
        if told:
            self._heard(stamp.tenant, told)

    def _forgetting(self, doubt: _Doubt, member: str = "", place: str = "") -> tuple[list[str], list[str]]:
        """By nobody, so that we hear of it, too, behind what we did not hear yet; or by a member."""
        adds = [touch for touch in doubt.touches if touch[2] is not None and touch[0] in self._shelves]
        stamp = doubt.stamp
        args = ["forget", stamp.id, str(stamp.at), doubt.arrival, member, place, doubt.note]
        return self._keys(stamp, adds), args

    def _keys(self, stamp: Stamp, touches: Sequence[Touch]) -> list[str]:
        tenant = self._tenants.get(stamp.tenant) or self._tenant(stamp.tenant)
        keys = [f"{tenant}meta", f"{tenant}ids:{stamp.at // HOUR}", f"{tenant}index", f"{tenant}pending"]
        for name, key, *_ in touches:
            shelf = self._shelves[name]
            keys.append(f"{tenant}{shelf.code}:{key}{shelf.suffix}")
        return keys

    def _tenant(self, tenant: str) -> str:
        """What the names of all keys of a tenant begin with. In braces is what a cluster chooses their place by."""
        if not self._generation:
            return ""  # Nothing is sent before the first contact.
        name = f"{self._generation}:{{{sha256(tenant.encode()).hexdigest()[:24]}}}:"
        self._tenants[tenant] = name
        return name

    def _ask(self, keys: list[str], args: list[Any], doubt: _Doubt | None) -> Any:
        """Run the script for a decision. A server that does not answer is not asked again before `tend` found it."""
        if not self._known:
            self._miss()
            raise StoreUnavailable(f"the store does not answer: {self._problem}")
        try:
            return self._server.call(keys, args)
        except Away as error:
            self._lose(str(error))
            self._miss()
            if error.sent and doubt:
                self._doubts.append(doubt)
            raise StoreUnavailable(f"the store does not answer: {error}") from error

    def _miss(self) -> None:
        self._failures += 1
        if self._missed is None:
            self._missed = self._clock()

    def _lose(self, problem: str) -> None:
        """Nothing is known of the server any more."""
        self._known, self._warm, self._problem = False, frozenset(), problem

    def _admitted(self, tenant: str) -> bool:
        """Whether a tenant has another epoch than we have because it is new, and not because something is lost."""
        name = self._tenants[tenant]
        try:
            if self._server.call([self._generation, f"{name}meta"], ["admit", self._epoch, tenant]) == 1:
                return True
            self._forgot()
        except Away as error:
            self._lose(str(error))
        return False

    def _forgot(self) -> None:
        """The server is there, and what it held is not. It takes events in, as before a first loading."""
        self._epoch, self._complete, self._loaded, self._warm = b"", None, frozenset(), frozenset()

    # News

    def listen(self, listener: Listener) -> None:
        """From now on `listener` hears what other members count, each event once it comes before one of ours."""
        self._listener = listener

    def tenants(self) -> list[str]:
        """Of whom there may be news. Raises StoreUnavailable."""
        if not self._known:
            raise StoreUnavailable(f"the store does not answer: {self._problem}")
        with self._guarded():
            names = [name.decode() for name in self._server.client.hkeys(self._generation)]
        return [name.removeprefix("tenant ") for name in names if name.startswith("tenant ")]

    def news(self, tenant: str) -> tuple[str, list[Any]]:
        """The news of a tenant and the place they go on from, to be heard. Raises StoreUnavailable."""
        name, place = self._tenants.get(tenant) or self._tenant(tenant), self._place(tenant)
        with self._guarded():
            return place, self._server.run([f"{name}meta"], ["hear", self.member, place])

    def hear(self, tenant: str, news: tuple[str, list[Any]]) -> None:
        """Hear them, unless others were heard since they were asked for: then those are the newer ones."""
        place, told = news
        if place == self._place(tenant):
            self._heard(tenant, told)

    def _place(self, tenant: str) -> str:
        return self._places.get(tenant, "0") if self._listener else ""

    def _heard(self, tenant: str, told: list[Any]) -> None:
        place, newest, *rest = told
        self._places[tenant] = place.decode()
        parts = iter(rest)
        if self._listener is not None:
            news = [News(what, int(arrival), note) for what, arrival, note in zip(parts, parts, parts, strict=True)]
            self._listener(tenant, int(newest or -EXACT), news)

    # A history

    def miss(self, since: int) -> None:
        """Another process decided events without the store, the first one at this time."""
        self._missed = since if self._missed is None else min(self._missed, since)
        self._warm = frozenset()

    def believe(self) -> None:
        """Another process, which was told of every event that this one decided, says that all is there that was loaded.

        Raises StoreUnavailable.
        """
        with self._turn:
            self._look()
            if self._missed is None:
                self._warm = self._loaded

    def add(self, stamp: Stamp, touches: Sequence[Touch], note: str = "") -> None:
        """As every store does. `note` is what other members are told."""
        keys, adds = self._keys(stamp, touches), [touch for touch in touches if touch[2] is not None]
        try:
            first = ["enter", str(self._lateness), str(self._longest), stamp.id, str(stamp.at), str(stamp.arrival)]
            (arrival,) = self._ask(keys[:4], first, None)
            for line, (name, _, values, _, _) in zip(self._keys(stamp, adds)[4:], adds, strict=True):
                shelf = self._shelves[name]
                args = ["fill", shelf.shape.letters, str(shelf.reach), str(self._cap), "a"]
                assert values is not None, "chosen so"
                self._ask([keys[0], keys[2], line], [*args, arrival, str(stamp.at), *shelf.shape.args(values)], None)
            if note and self._listener:
                self._heard(
                    stamp.tenant,
                    self._ask(keys[:1], ["tell", self.member, self._place(stamp.tenant), arrival, note], None),
                )
        except StoreUnavailable:
            # It was received about when it arrived, and is loaded again from there.
            self._missed = min(self._missed or stamp.arrival, stamp.arrival)
            raise

    def load(
        self, events: Iterable[tuple[Stamp, Sequence[Touch]]], names: Collection[str], since: int | None = None
    ) -> None:
        with self._turn:
            if not self._known or not self._epoch:
                self._look()
            needed = self.since(names)
            if since is not None and (needed is None or needed < since):
                raise StoreUnavailable("the store lost more, while the ledger was read, than was looked for")
            token, began = token_hex(8), self._clock()
            lock = f"{self._generation}:loads"
            with self._guarded():
                if not self._server.client.set(lock, token, nx=True, ex=int(2 * LOAD_SECONDS)):
                    raise StoreUnavailable("another process is loading the store")
                try:
                    self._load(events, set(names), since, token, began)
                finally:
                    if self._server.client.get(lock) == token.encode():
                        self._server.client.delete(lock)

    def _load(
        self,
        events: Iterable[tuple[Stamp, Sequence[Touch]]],
        names: Collection[str],
        since: int | None,
        token: str,
        began: int,
    ) -> None:
        epoch = self._epoch or token.encode()
        missed, self._missed = self._missed, None
        try:
            self._server.client.hset(self._generation, "loading", token)
            pipe = self._server.bulk.pipeline(transaction=False)
            for tenant in self._fill(events, set(names), pipe, whole=since is None):
                pipe.hset(f"{self._tenants[tenant]}meta", "epoch", epoch)
                pipe.hset(self._generation, f"tenant {tenant}", "1")
            pipe.execute()
            self._bury(since)
            fields: list[Any] = ["epoch", epoch, "complete", began - MARGIN]
            for name in names:
                fields += (f"span {name}", self._shelves[name].series.span)
            if not self._server.run([self._generation], ["finish", token, *fields]):
                self._lose("it lost what was being loaded")
            if not self._known:
                raise StoreUnavailable(f"the store was lost while it was loaded: {self._problem}")
            self._server.client.set(self._root, self._generation)
        except BaseException:
            self._missed = missed if missed is not None else self._missed
            raise
        self._epoch, self._complete = epoch, began - MARGIN
        self._loaded |= frozenset(names)
        if self._known and self._missed is None:
            self._warm |= frozenset(names)

    def _bury(self, since: int | None) -> None:
        """Take out what a process before us counted and never committed: it is pending although the ledger was read."""
        living = {*self._living(), self.member} if self.member else ()
        for pending, ids in (self._orphans or {}).items():
            tenant = pending.removesuffix("pending")
            for id, held in zip(ids, self._server.bulk.hmget(pending, ids), strict=True):
                if held is None:
                    continue
                arrival, at, member, _, *lines = orjson.loads(held)
                if member in living:
                    continue
                if since is not None and int(arrival) < since:
                    # It was not looked for. So old, it is in the ledger: whatever was not was taken out at a start.
                    self._server.bulk.hdel(pending, id)
                    continue
                keys = [f"{tenant}meta", f"{tenant}ids:{int(at) // HOUR}", f"{tenant}index", pending, *lines]
                self._server.run(keys, ["forget", id, at, arrival, "", "", ""])
        self._orphans = {}

    def _fill(
        self, events: Iterable[tuple[Stamp, Sequence[Touch]]], names: Collection[str], pipe: Any, *, whole: bool
    ) -> set[str]:
        """Put events into lines, some or the `whole` history; the tenants they are of. First all ids, so that each
        event has its one arrival."""
        hours: dict[tuple[str, str], list[tuple[Stamp, list[Any]]]] = {}
        lines: dict[tuple[str, str, str], list[list[Any]]] = {}
        tenants = set()
        for stamp, touches in events:
            meta, ids, *_ = self._keys(stamp, ())
            tenants.add(stamp.tenant)
            row: list[Any] = [stamp.at, stamp.arrival]
            hours.setdefault((meta, ids), []).append((stamp, row))
            for (name, _, values, _, _), line in zip(touches, self._keys(stamp, touches)[4:], strict=True):
                if values is not None and name in names:
                    lines.setdefault((meta, line, name), []).append([row, values])
        for given, rows in _batches(self._enter(hours), pipe):
            for arrival, row in zip(given, rows, strict=True):
                row[1] = int(arrival)
        for _ in _batches(self._rows(lines, whole), pipe):
            pass
        return tenants

    def _enter(self, hours: dict[tuple[str, str], list[tuple[Stamp, list[Any]]]]) -> Iterator[tuple[Any, Any]]:
        for (meta, ids), noted in hours.items():
            for start in range(0, len(noted), _BATCH):
                part = noted[start : start + _BATCH]
                args = [each for stamp, row in part for each in (stamp.id, row[0], row[1])]
                tenant, limits = meta.removesuffix("meta"), (self._lateness, self._longest)
                keys = (meta, ids, f"{tenant}index", f"{tenant}pending")
                yield (self._server.function, 4, *keys, "enter", *limits, *args), [row for _, row in part]

    def _rows(self, lines: dict[tuple[str, str, str], list[list[Any]]], whole: bool) -> Iterator[tuple[Any, Any]]:
        for (meta, line, name), rows in lines.items():
            shelf = self._shelves[name]
            once = {(row[0], row[1]): values for row, values in rows}
            ordered = sorted(once)
            index = f"{meta.removesuffix('meta')}index"
            for start in range(0, len(ordered), _BATCH):
                how = ("b" if start == 0 else "") + ("e" if start + _BATCH >= len(ordered) else "")
                args: list[Any] = [shelf.shape.letters, shelf.reach, self._cap, how or "m" if whole else "a"]
                for at, arrival in ordered[start : start + _BATCH]:
                    args += (arrival, at, *shelf.shape.args(once[at, arrival]))
                yield (self._server.function, 3, meta, index, line, "fill", *args), None

    # Loss and recovery

    def tend(self) -> None:
        if not self._turn.acquire(blocking=False):
            return  # Somebody does already.
        try:
            if self._known and self._epoch:
                self._check()
            if not self._known or not self._epoch:
                self._look()
            elif self._missed is None and self._epoch and self._warm.issuperset(self._shelves):
                with self._guarded():
                    for tenant in list(self._kept):
                        if kept := self._kept.pop(tenant, None):  # A decision may have taken them along meanwhile.
                            self._server.client.hdel(f"{self._tenants[tenant]}pending", *kept)
                    self._complete = self._clock() - MARGIN
                    self._server.client.hset(self._generation, "complete", self._complete)
                    self._server.client.set(self._root, self._generation)
        finally:
            self._turn.release()

    def _check(self) -> None:
        """Whether the server is still the one we know, on both ways to it."""
        try:
            self._server.ping()
        except Away as error:
            self._lose(str(error))
            return
        with self._guarded():
            if (self._server.client.hget(self._generation, "epoch") or b"") != self._epoch:
                self._forgot()

    def _look(self) -> None:
        """Find out what the server holds, and take out what may be there by mistake."""
        try:
            self._look_into()
        except redis.ResponseError as error:  # Nothing is known of this server yet: it may be any.
            raise StoreUnavailable(f"the store cannot be used: {error}") from error

    def _look_into(self) -> None:
        with self._guarded():
            told = self._server.client.info("memory") | self._server.client.info("server")
            policy = told.get("maxmemory_policy", "noeviction")
            if policy.startswith("allkeys"):
                raise StoreUnavailable(f"it evicts keys ({policy}), and would lose events without a word")
            if not self._generation:
                # Of several that come first all take the name that one of them gives.
                self._server.client.set(self._root, f"{self._root}:{token_hex(6)}", nx=True)
                self._generation = self._server.client.get(self._root).decode()
            self._server.teach()
            codes = self._server.client.pipeline(transaction=False)
            for name, shelf in self._shelves.items():
                codes.hsetnx(self._generation, f"code {name}", shelf.code)
            codes.execute()
            held = self._server.client.hgetall(self._generation)
            for name, shelf in self._shelves.items():
                shelf.code = held[f"code {name}".encode()].decode()
            if self._orphans is None:
                if self._listener is not None:
                    self._begin_at_the_end(held)
                found = self._server.bulk.scan_iter(match=f"{self._generation}:{{*}}:pending", count=1000)
                self._orphans = {name.decode(): [id.decode() for id in self._server.bulk.hkeys(name)] for name in found}
            for doubt in list(self._doubts):
                keys, args = self._forgetting(doubt)
                self._server.run(keys, args)
                self._doubts.remove(doubt)
        self._believe(held, told["run_id"])

    def _begin_at_the_end(self, held: Mapping[bytes, bytes]) -> None:
        """Hear what is told from now on: what was before is read from the ledger. Two minutes of all news at once would
        hold up the server, for everybody."""
        pipe = self._server.bulk.pipeline(transaction=False)
        tenants = [name.decode().removeprefix("tenant ") for name in held if name.startswith(b"tenant ")]
        for tenant in tenants:
            pipe.xrevrange(f"{self._tenant(tenant)}news", count=1)
        for tenant, newest in zip(tenants, pipe.execute(), strict=True):
            if newest:
                self._places.setdefault(tenant, newest[0][0].decode())

    def _believe(self, held: dict[bytes, bytes], run: str) -> None:
        """What follows from what the control key says: what was loaded, and what of it is surely all there."""
        epoch = held.get(b"epoch", b"")
        spans = {name: int(held.get(f"span {name}".encode(), -1)) for name in self._shelves}
        self._loaded = frozenset(
            name for name, shelf in self._shelves.items() if epoch and spans[name] >= shelf.series.span
        )
        self._complete = int(held[b"complete"]) if epoch else None
        # Another run may have come back from an older copy of its data; and before our first we know nothing.
        intact = bool(epoch) and (epoch, run) == (self._epoch, self._run) and self._missed is None
        self._warm = self._loaded if intact else frozenset()
        self._epoch, self._run, self._known, self._problem = epoch, run, True, ""

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            with self._server.guarded():
                yield
        except Away as error:
            self._lose(str(error))
            raise StoreUnavailable(f"the store does not answer: {error}") from error


class Listener(Protocol):
    """Is told a tenant's newest time, and what other members did, in order."""

    def __call__(self, tenant: str, newest: int, news: Sequence[News]) -> None: ...


def _batches(calls: Iterable[tuple[Any, Any]], pipe: Any) -> Iterator[tuple[Any, Any]]:
    """The results of many calls of the script, each with what belongs to it; some hundred go at a time."""
    left = iter(calls)
    while batch := list(islice(left, 100)):
        for args, _ in batch:
            pipe.fcall(*args)
        yield from zip(pipe.execute(), (about for _, about in batch), strict=True)
