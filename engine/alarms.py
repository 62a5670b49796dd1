"""Who watches the alert lines: one process of a server, every 15 seconds, out of the ledger.

    alarms.raised                        what is raised now: (tenant, line, group) → Raised
    alarms.on_turn(heed)                 heed(Turn(...)) is called when something is raised or over

A line that is raised or over is a change in the ledger before anybody hears of it, so that after a restart it is as it
was. What a line looks at is kept as sums in sixty steps of its time, corrected when events end later; no event is kept.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import isawaitable
from typing import Any, NamedTuple

import orjson
import structlog

from engine.alerts import Line
from engine.callers import By
from engine.errors import ArbiterError, Unavailable
from engine.figures import MOST_GROUPS, OTHERS, ByHash, Change, Follower
from engine.jcs import canonical
from engine.journal import EVERYONE, Journal
from engine.ledger import Ledger
from engine.metrics import Figure, Key
from engine.rulebook import Rulebook
from engine.team import Team

LOOK_SECONDS = 15
"""How often the lines are looked at."""
REST_SECONDS = 0.001
"""After every few decisions that are read: verdicts go first, also while a start reads weeks back."""
AT_ONCE = 16
"""Groups of a line that are looked at before others have their turn."""
STEPS = 60
"""Into how many parts the time of a line is divided: it slides by one of them."""
RAISED, CLEARED = "alert_raised", "alert_cleared"
"""What the changes in the ledger are called."""
OWN = "alarms_own"
"""What other processes are asked: figures that are their own."""
STATE = "alarms_state"
"""What the process that watches is asked by the others."""
SELF = By("arbiter", "service")
FEW = frozenset({"", "kind", "tier", "detector"})
"""What figures may be told apart by and still be few: these are shown to Prometheus."""

log = structlog.get_logger("arbiter")

Place = tuple[str, str, str]
"""Tenant, line and group; the group is empty where a line is not told apart."""


@dataclass(frozen=True, slots=True)
class Raised:
    """An alert: since when (µs), the figure of then and what is told of it by language."""

    line: str
    group: str
    severity: str
    since: int
    value: float
    level: float
    cases: int
    currency: str
    message: Mapping[str, str]
    playbook: str | None


class Turn(NamedTuple):
    """An alert that was raised or is over, at a time (µs). `id` is that of its entry in the ledger."""

    tenant: str
    raised: bool
    alert: Raised
    at: int
    id: str


Heed = Callable[[Turn], Awaitable[None] | None]
Own = tuple[Mapping[str, float], int]
"""Of one process: the drift of each detector, and how often the store of windows did not answer since its start."""


# A line over time


@dataclass(frozen=True, slots=True)
class Watch:
    """How a line stands for one group: since when it is crossed, or, where it is raised, since when it is back."""

    crossed: int | None = None
    back: int | None = None
    raised: bool = False


def step(line: Line, watch: Watch, figures: Sequence[Figure], now: int) -> Watch:
    """How it stands after a look. It is raised once it was crossed at every look for `holds`, and over once it was
    back at every look for `calm`: a figure that goes to and fro stays what it is."""
    if watch.raised:
        if not all(map(line.back, figures)):
            return Watch(raised=True)
        back = now if watch.back is None else watch.back
        return Watch() if now - back >= line.calm else Watch(back=back, raised=True)
    if not any(map(line.crossed, figures)):
        return Watch()
    crossed = now if watch.crossed is None else watch.crossed
    return Watch(raised=True) if now - crossed >= line.holds else Watch(crossed=crossed)


class Sliding:
    """The sums of one line over its time, by (tenant, group)."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._step = max(1, line.over // STEPS)
        self._groups: dict[tuple[str, str], dict[int, dict[Key, int]]] = {}

    def add(self, change: Change) -> None:
        """Take in a decision that is new or has changed."""
        line = self.line
        if line.kinds and change.of.kind not in line.kinds:
            return
        at = change.received_at // self._step
        for group in change.of.values(line.by) if line.by else ("",):
            for times, side in ((-1, change.before), (1, change.after)):
                needed = [(key, n) for key, n in side.items() if line.metric.needs(key)]
                if needed:
                    mine = self._sums(change.of.tenant, group).setdefault(at, {})
                    for key, n in needed:
                        mine[key] = mine.get(key, 0) + times * n

    def _sums(self, tenant: str, group: str) -> dict[int, dict[Key, int]]:
        if (tenant, group) not in self._groups and len(self._groups) >= MOST_GROUPS:
            group = OTHERS
        return self._groups.setdefault((tenant, group), {})

    def figures(self, now: int) -> Iterator[tuple[tuple[str, str], list[Figure]]]:
        """The figures of every (tenant, group) at `now`, of events received within `over` before the label delay."""
        end = (now - self.line.label_delay) // self._step
        for place, steps in list(self._groups.items()):
            for old in [at for at in steps if at <= end - STEPS]:
                del steps[old]
            if not steps:
                del self._groups[place]
            elif place[1] != OTHERS:
                whole: dict[Key, int] = defaultdict(int)
                for at, sums in steps.items():
                    if at <= end:
                        for key, n in sums.items():
                            whole[key] += n
                yield place, self.line.metric.figures(whole, now, self.line.over)


class Counts:
    """How often something happened within a time, from totals that begin anew when a process does."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self._more: deque[tuple[int, int]] = deque()

    def add(self, now: int, totals: Mapping[int, int]) -> None:
        """Take in the totals of processes by their places."""
        more = sum(n - self._last.get(index, 0) if n >= self._last.get(index, 0) else n for index, n in totals.items())
        self._last |= totals
        if more:
            self._more.append((now, more))

    def within(self, now: int, over: int, longest: int) -> int:
        """How often since `over` ago; what is older than `longest` is forgotten."""
        while self._more and self._more[0][0] <= now - longest:
            self._more.popleft()
        return sum(n for at, n in self._more if at > now - over)


# The watcher


class Alarms:
    """Watches the alert lines of the rulebook in force."""

    def __init__(
        self,
        ledger: Ledger,
        by_hash: ByHash,
        rulebook: Callable[[], Rulebook],
        journal: Journal,
        team: Team,
        clock: Callable[[], int],
        own: Callable[[], Own],
    ) -> None:
        self._ledger = ledger
        self._rulebook = rulebook
        self._journal = journal
        self._team = team
        self._clock = clock
        self._own = own
        self._follower = Follower(ledger, by_hash, self._take, rest=REST_SECONDS)
        self._lines: tuple[Line, ...] | None = None
        self._sliding: dict[str, Sliding] = {}
        self._watches: dict[Place, Watch] = {}
        self._raised: dict[Place, Raised] = {}
        self._shown: dict[Place, tuple[Figure, ...]] = {}
        self._failures = Counts()
        self._heeds: list[Heed] = []
        self._looked: int | None = None
        self._looking = asyncio.Lock()
        team.on(OWN, lambda _: own())
        team.on(STATE, lambda _: self._state() if self._watching else None)

    @property
    def _watching(self) -> bool:
        return self._team.index == 0

    @property
    def raised(self) -> Mapping[Place, Raised]:
        """What is raised now, in the process that watches; in the others nothing."""
        return dict(self._raised)

    @property
    def shown(self) -> Mapping[Place, tuple[Figure, ...]]:
        """The figures of the last look, of lines whose groups are few."""
        few = {line.id for line in self._lines or () if line.by in FEW}
        return {place: figures for place, figures in self._shown.items() if place[1] in few}

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines that are watched."""
        return self._lines or ()

    @property
    def watched(self) -> bool:
        """Whether this process has looked at them."""
        return self._looked is not None

    def on_turn(self, heed: Heed) -> None:
        """Let `heed` know, in the process that watches, when something is raised or over, after it was recorded. An
        ArbiterError that it raises is logged, and holds nobody up."""
        self._heeds.append(heed)

    async def keep(self) -> None:
        """Watch, for ever. One of several processes does it for all."""
        while self._watching:
            try:
                await self.look()
            except Unavailable as error:
                log.warning("alerts_not_looked_at", reason=str(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Take in what was written since the last look, and see how every line stands."""
        async with self._looking:
            lines = self._rulebook().alerts
            if lines != self._lines:
                await self._begin(lines)
            if self._sliding:
                await self._follower.go()
            now = self._clock()
            longest = max((line.reach for line in lines), default=0)
            self._follower.forget(now - longest - longest // STEPS)
            totals = await self._owned()
            self._failures.add(now, {index: failures for index, (_, failures) in totals.items()})
            seen: dict[Place, tuple[Figure, ...]] = {}
            for line in lines:
                for number, ((tenant, group), figures) in enumerate(self._figures(line, now, totals, longest)):
                    seen[tenant, line.id, group] = tuple(figures)
                    if not number % AT_ONCE:
                        await asyncio.sleep(0)  # a server answers others meanwhile
            await self._compare({line.id: line for line in lines}, seen, now)
            self._shown, self._looked = seen, now

    async def _begin(self, lines: tuple[Line, ...]) -> None:
        """Go back as far as the lines look, and see in the ledger what is raised."""
        events = [line for line in lines if not line.metric.own]
        self._sliding = {line.id: Sliding(line) for line in events}
        reach = max((line.reach + line.over // STEPS for line in events), default=0)
        await self._follower.begin(self._clock() - reach)
        self._raised = raised_in(await self._ledger.alert_changes())
        self._watches = {place: Watch(raised=True) for place in self._raised}
        self._lines = lines

    def _take(self, change: Change) -> None:
        for sliding in self._sliding.values():
            sliding.add(change)

    async def _owned(self) -> dict[int, Own]:
        """What every process says of itself, by its place."""
        others = await self._team.ask(OWN)
        return {self._team.index: self._own(), **{index: (drift, failed) for index, (drift, failed) in others.items()}}

    def _figures(
        self, line: Line, now: int, totals: Mapping[int, Own], longest: int
    ) -> Iterable[tuple[tuple[str, str], Sequence[Figure]]]:
        if not line.metric.own:
            return self._sliding[line.id].figures(now)
        if line.metric.name == "store_failures":
            count = self._failures.within(now, line.over, longest)
            return [((EVERYONE, ""), [Figure(float(count), None, None, count)])]
        worst: dict[str, float] = {}
        for drifts, _ in totals.values():
            for detector, figure in drifts.items():
                group = detector if line.by else ""
                worst[group] = max(worst.get(group, 0.0), figure)
        return [((EVERYONE, group), [Figure(figure, None, None, 1)]) for group, figure in worst.items()]

    async def _compare(self, lines: Mapping[str, Line], seen: Mapping[Place, Sequence[Figure]], now: int) -> None:
        for place in [*seen, *(place for place in list(self._raised) if place not in seen)]:
            line = lines.get(place[1])
            before = self._watches.get(place, Watch())
            after = Watch() if line is None else step(line, before, seen.get(place, ()), now)
            if after.raised and not before.raised:
                assert line is not None, "a line that is gone raises nothing"
                await self._turn(place, _alert(line, place[2], seen[place], now), now, raised=True)
            elif before.raised and not after.raised:
                await self._turn(place, self._raised[place], now, raised=False)
            if after == Watch():
                self._watches.pop(place, None)
            else:
                self._watches[place] = after

    async def _turn(self, place: Place, alert: Raised, now: int, *, raised: bool) -> None:
        """Record it, then let it be so, then tell."""
        told = canonical(_recorded(alert)).decode()
        sides = (None, told) if raised else (told, None)
        what = RAISED if raised else CLEARED
        named = "/".join(filter(None, place[1:]))
        id = await self._journal.change(place[0], what, named, sides[0], sides[1], SELF)
        if raised:
            self._raised[place] = alert
        else:
            self._raised.pop(place, None)
        # Before others hear of it: what they raise must not let it be recorded again.
        self._watches[place] = Watch(raised=raised)
        log.warning(what, tenant=place[0], line=alert.line, group=alert.group, severity=alert.severity)
        for heed in self._heeds:
            try:
                answer = heed(Turn(place[0], raised, alert, now, id))
                if isawaitable(answer):
                    await answer
            except ArbiterError as error:  # the watch goes on whatever becomes of it elsewhere
                log.error("alert_not_heeded", line=alert.line, error=repr(error))

    # For people

    async def state(self, tenant: str) -> dict[str, Any]:
        """What is raised for a tenant, the server's own lines included, and how each line stood at the last look.
        Unavailable while the process that watches does not answer."""
        whole = self._state() if self._watching else (await self._team.ask(STATE)).get(0)
        if whole is None:
            raise Unavailable("the process that watches the alert lines does not answer yet", "unavailable")
        mine = (tenant, EVERYONE)
        return {
            "looked_at": whole["looked_at"],
            "raised": [alert for owner, alert in whole["raised"] if owner in mine],
            "lines": [
                {**line, "figures": [figure for owner, figure in figures if owner in mine]}
                for line, figures in whole["lines"]
            ],
        }

    def _state(self) -> dict[str, Any]:
        """All of it, as JSON, each with its tenant."""
        by_line: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        for (tenant, line, group), figures in self.shown.items():
            by_line[line] += [(tenant, {"group": group, **_figure(figure)}) for figure in figures]
        return {
            "looked_at": self._looked,
            "raised": [(place[0], shown(alert)) for place, alert in sorted(self._raised.items())],
            "lines": [(_line(line), by_line[line.id]) for line in self.lines],
        }


def _alert(line: Line, group: str, figures: Sequence[Figure], now: int) -> Raised:
    # Of several currencies the first that is beyond the line.
    figure = next((each for each in figures if line.crossed(each)), figures[0])
    return Raised(
        line=line.id,
        group=group,
        severity=line.severity,
        since=now,
        value=figure.value,
        level=line.level,
        cases=figure.of,
        currency=figure.currency,
        message=line.told(figure, group),
        playbook=line.playbook,
    )


def _recorded(alert: Raised) -> dict[str, Any]:
    """An alert as its entry has it. Numbers are decimal text: canonical JSON has no other form for all of them."""
    return {
        "line": alert.line,
        "group": alert.group,
        "severity": alert.severity,
        "since": alert.since,
        "value": f"{alert.value:.6f}",
        "level": f"{alert.level:.6f}",
        "cases": alert.cases,
        "currency": alert.currency,
        "message": dict(alert.message),
        "playbook": alert.playbook,
    }


def shown(alert: Raised) -> dict[str, Any]:
    """An alert as the API and `--json` show it."""
    return _recorded(alert)


def _figure(figure: Figure) -> dict[str, Any]:
    return {"value": f"{figure.value:.6f}", "cases": figure.of, "currency": figure.currency}


def _line(line: Line) -> dict[str, Any]:
    return {
        "id": line.id,
        "metric": line.metric.name,
        "unit": "us" if line.metric.unit == "time" else line.metric.unit,
        "kinds": sorted(line.kinds),
        "by": line.by,
        "over_s": line.over // 1_000_000,
        "above": None if line.above is None else f"{line.above:.6f}",
        "below": None if line.below is None else f"{line.below:.6f}",
        "severity": line.severity,
        "owner": line.owner,
        "playbook": line.playbook,
    }


def raised_in(leaves: Iterable[bytes]) -> dict[Place, Raised]:
    """What is raised, from all changes of alerts, the first one first."""
    found: dict[Place, Raised] = {}
    for leaf in leaves:
        record = orjson.loads(leaf)
        told = orjson.loads(record["after"] or record["before"])
        place = (record["tenant"], told["line"], told["group"])
        if record["what"] == RAISED:
            alert = Raised(**{**told, "value": float(told["value"]), "level": float(told["level"])})
            found[place] = replace(alert, since=record["decided_at"])
        else:
            found.pop(place, None)
    return found
