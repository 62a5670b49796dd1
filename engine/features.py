"""Windows over past events, online: what `count(last 10m by card.ref)` is for the event at hand.

    features = Features(rulebook.windows, MemoryStore())
    features.restore(ledger_facts)              # at start; until then every window is unknown, with the gap not_warm
    reading = features.observe(facts)           # read and add, in one step
    reading.values[3]                           # the value of windows[3], None when unknown

A window at an event with time t and arrival a holds the events of the same tenant and key whose kind is in
`window.kinds`, for which `where` is true, and for which t - length <= their time and (their time, their arrival) is
before (t, a). Ties cannot hide from each other, an event never sees itself, and a late one lands where it belongs.
`including this` adds the event itself, if its own kind and `where` allow.

    count                  how many; 0 for none
    sum                    exact; events without the argument are passed over. 0 for none; an empty sum of money is 0
                           in the currency of this event's own argument, unknown if it has none. Several currencies
                           in one window: unknown (write `amount in CNY`)
    avg                    the sum by the number of events that have the argument, half-even to six places
    distinct               how many different values; events without one are passed over
    min, max               the smallest and the largest value
    median, quantile       the smallest value that at least such a share of the values do not pass
    stddev                 of a sample (n - 1), half-even to six places; unknown for fewer than two
    percentile             100 x the share of the values below this event's own one, half-even to six places
    share                  the part of the events for which a condition is true; unknown counts as not
    streak                 how many of the newest events in a row it is true for
    sequence               whether events of their own, one after the other, are the steps of a pattern
    absence                whether an event of step one is long enough ago, with none of step two soon after it
    first_seen, last_seen  the time of the first and the last event; unknown for none

An approximate window holds the events since the last whole 1/64 of its length before t - length, up to one 64th too
many, and of a late event's own 64th also those after it that were added before. Of their values sketches are kept
(engine.stores.sketches): `distinct` has a standard error of 1.63 %; `min`, `max`, `median` and `quantile` are less than
1/128 off, and `percentile` is that of a value less than 1/128 off; the others are exact for the events held.

A window by a group holds the events of all accounts that are linked with this event's own, as of this event, whose own
identifiers count. Three functions ask about the links alone:

    group_size             how many accounts, the event's own among them
    group_links            how many identifiers two or more of them share
    linked                 whether two accounts of the event are so many shared identifiers apart, at most

Why a value is unknown is said by a gap beside it (`GAPS`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from hashlib import sha256
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from engine.expr import DURATION, MONEY, Env, Expression, Step, Window, value_of
from engine.jcs import canonical
from engine.links import Asked, Linkage, LinkPlan, linkages
from engine.links.plan import about_links
from engine.money import Money
from engine.stores import (
    BUCKETS,
    COUNT,
    DISTINCT,
    FIRST,
    FLAGS,
    LAST,
    LEAST,
    MEAN,
    MOST,
    PERCENTILE,
    RANKED,
    RUNS,
    SPREAD,
    SQUARES,
    STEPS,
    STREAK,
    SUM,
    SUMS,
    VALUES,
    Amount,
    Frame,
    Gap,
    Ratio,
    Series,
    Spread,
    Store,
    StoreUnavailable,
    Touch,
    absence,
    plain,
    quantile,
    sequence,
)

THIN_IDENTITY = "thin_identity"
STORE_UNAVAILABLE = "store_unavailable"

GAPS: Mapping[str, str] = {
    THIN_IDENTITY: "the event lacks a part of the window's key",
    Gap.NOT_WARM.value: "the window's history has not been loaded yet",
    STORE_UNAVAILABLE: "the store did not answer",
    Gap.CAPPED.value: "the key has more events than a window counts",
    Gap.TOO_LATE.value: "the event is later than the store allows for",
    Gap.MIXED.value: "the sum is over money of several currencies",
}
"""Every gap, and what it means."""

Test: TypeAlias = Callable[[dict[str, Any], Sequence[Any], Env], Any]
"""A compiled expression: what `engine.expr.value_of` gives."""
Convert: TypeAlias = Callable[[Money, str, int], Money | None]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the ledger keeps of an event that windows can see, and can be rebuilt from.

    `values` are its public values; `keys` maps the path of an entity to its pseudonym. `arrival` is one of a strictly
    increasing sequence, and the same when the event comes back from the ledger.
    """

    kind: str
    tenant: str
    id: str
    at: int
    arrival: int
    values: dict[str, Any]
    keys: Mapping[str, str]


@dataclass(slots=True)
class Reading:
    """The value of each window by its index, why some are unknown, whether this call added the event, and the arrival
    that the event has in the store.

    A window that this kind of event does not read is None without a gap.
    """

    values: list[Any]
    gaps: tuple[tuple[int, str], ...]
    added: bool
    arrival: int


class Features:
    """The windows of a rulebook, over one store. Threads may share it as far as they may share the store.

    `reads` says which windows (by index) an event kind reads; without it every kind reads all. `convert` gives the
    rates for `amount in CNY`: it is asked with the event's own time, so that a rebuilt window is the same.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        store: Store,
        *,
        reads: Mapping[str, Sequence[int]] | None = None,
        convert: Convert | None = None,
        compiler: Callable[[Expression], Test] = value_of,
    ) -> None:
        self.windows = tuple(windows)
        self._store = store
        self._reads = reads
        self._convert = convert or _no_rates
        self._compiler = compiler
        self._groups = _groups(self.windows)
        self._linkages = linkages(self.windows)
        self._series = [(group.series, group.windows) for group in self._groups]
        self._series += [(linkage.series, linkage.windows) for linkage in self._linkages]
        self._finishes = [_finish(window, compiler) for window in self.windows]
        self._plans: dict[str, _Plan] = {}
        """By event kind; made when first needed, and again once more windows are warm."""
        store.declare(series for series, _ in self._series)

    @property
    def ready(self) -> bool:
        """Whether every window is warm."""
        return not self.cold

    @property
    def history(self) -> int:
        """How far behind the newest event `restore` has to reach back, in microseconds."""
        return max((series.span for series, _ in self._series), default=0) + self._store.lateness

    @property
    def since(self) -> int | None:
        """From which time of receipt on `restore` needs the facts that `history` reaches; None for all of them."""
        return self._store.since(self.cold)

    def warm(self, window: int) -> bool:
        """Whether the window with this index has its whole history."""
        return all(self._store.warm(series.name) for series, windows in self._series if window in windows)

    def observe(self, facts: Facts) -> Reading:
        """The windows as of this event, and the event added to them, as one step.

        An event that was added before (tenant and id) is not added again, and reads as of the first time. When the
        store does not answer, all windows are unknown with a gap and nothing is added.
        """
        plan = self._plans.get(facts.kind) or self._plan(facts.kind)
        values: list[Any] = [None] * len(self.windows)
        gaps: list[tuple[int, str]] = []
        if plan.idle:
            return Reading(values, (), False, facts.arrival)
        env = self._env(facts) if plan.computes else None
        touches, order = plan.touches(facts, env, gaps)
        try:
            arrival, added, answers = self._store.observe(facts, touches)
        except StoreUnavailable:
            return Reading(values, plan.unavailable, False, facts.arrival)
        for index, answer in zip(order, answers, strict=True):
            kind = type(answer)
            if kind is int or kind is Money:
                values[index] = answer
            elif kind is Gap:
                gaps.append((index, str(answer)))
            else:
                values[index] = self._finishes[index](answer, facts, env)
        return Reading(values, tuple(gaps), added, arrival)

    def keep(self, facts: Facts) -> None:
        """Let the store know that an observed event is in the ledger now."""
        self._store.keep(facts)

    def forget(self, facts: Facts) -> None:
        """Take an event out again whose commit failed: the windows are as if it had never been observed.

        Does nothing for facts that were not added (a duplicate, a store that was away). Raises StoreUnavailable.
        """
        self._store.forget(facts, self._plan(facts.kind).adds(facts, self._env(facts)))

    @property
    def cold(self) -> dict[str, Series]:
        """By name, the series whose history has to be loaded."""
        return {series.name: series for series, _ in self._series if not self._store.warm(series.name)}

    def restore(self, facts: Iterable[Facts], since: int | None = None, only: Collection[str] | None = None) -> None:
        """Load the history of every window that is not warm, in one call and in any order: all of it, or what was
        received from `since` on, if the property said so before the facts were read.

        Events may be observed meanwhile, and be among the facts. `only` names the series of which the store holds all
        but these facts. Raises StoreUnavailable.
        """
        cold = [name for name in self.cold if only is None or name in only]
        if cold:
            self._store.load(self._rows(facts), cold, since)
        self._plans.clear()  # Which groups can be asked about stands in them.

    def add(self, facts: Facts) -> None:
        """Add an event of the ledger that the windows may lack, with the arrival it has. Raises StoreUnavailable."""
        self._store.add(facts, self._plan(facts.kind).adds(facts, self._env(facts)))

    def close(self, *, leave: bool = False) -> None:
        """Let the store drop what no other Features counts; `leave` where another process does it (`Store.release`)."""
        self._store.release([series.name for series, _ in self._series], leave=leave)

    def _rows(self, facts: Iterable[Facts]) -> Iterator[tuple[Facts, list[Touch]]]:
        for one in facts:
            plan = self._plan(one.kind)
            if plan.idle:
                continue
            yield one, plan.adds(one, self._env(one) if plan.computes else None)

    def _env(self, facts: Facts) -> Env:
        return Env(at=facts.at, received_at=facts.at, lists={}, convert=self._convert)

    def _plan(self, kind: str) -> _Plan:
        plan = self._plans.get(kind)
        if plan is None:
            reads = range(len(self.windows)) if self._reads is None else self._reads.get(kind, ())
            wanted = frozenset(reads)
            parts = [self._part(group, kind, wanted) for group in self._groups]
            links = [LinkPlan(each, kind, self._asked(each, wanted), _text_at) for each in self._linkages]
            used = [part for part in parts if part.adds or not wanted.isdisjoint(part.group.windows)]
            plan = self._plans[kind] = _Plan(used, self._compiler, [each for each in links if not each.idle])
        return plan

    def _part(self, group: _Group, kind: str, reads: frozenset[int]) -> _Part:
        read = tuple(index for index in group.windows if index in reads and not self.windows[index].groups)
        frames, order = _frames(group, self.windows, read)
        return _Part(group, kind in group.kinds, read, frames, order)

    def _asked(self, linkage: Linkage, reads: frozenset[int]) -> list[Asked]:
        """The questions about groups that a kind of event has, of one series of links."""
        read = [index for index in linkage.windows if index in reads]
        links = {index for index in read if not self.windows[index].kinds}
        asked = [about_links(index, self.windows[index], cold=not self.warm(index)) for index in sorted(links)]
        for group in self._groups:
            grouped = [index for index in group.windows if index in read]
            for one in dict.fromkeys(self.windows[index].groups[0] for index in grouped):
                mine = [index for index in grouped if self.windows[index].groups[0] == one]
                frames, order = _frames(group, self.windows, mine)
                cold = not self.warm(mine[0])
                asked.append(Asked(one, order, series=group.series.name, by=group.by, frames=frames, cold=cold))
        return asked


_Give: TypeAlias = Callable[[Facts, Any], Any]
"""A value of an event, given the Env too (None where nothing needs it)."""
_Finish: TypeAlias = Callable[[Any, Facts, Any], Any]
"""The value of a window from an answer that is not the value itself."""
_Compiler: TypeAlias = Callable[[Expression], Test]

_COLUMNS = {
    "sum": SUMS,
    "avg": SUMS,
    "stddev": SQUARES,
    **dict.fromkeys(("min", "max", "median", "quantile", "percentile"), RANKED),
    "share": FLAGS,
    "streak": RUNS,
    "distinct": VALUES,
    "sequence": STEPS,
    "absence": STEPS,
}
_QUESTIONS = {
    "count": COUNT,
    "first_seen": FIRST,
    "last_seen": LAST,
    "sum": SUM,
    "avg": MEAN,
    "stddev": SPREAD,
    "min": LEAST,
    "max": MOST,
    "percentile": PERCENTILE,
    "share": MEAN,
    "streak": STREAK,
    "distinct": DISTINCT,
}


def _question(window: Window) -> str:
    if window.function in ("median", "quantile"):
        return quantile(Fraction(1, 2) if window.parameter is None else Fraction(window.parameter))
    if window.function == "sequence":
        return sequence(len(window.steps))
    if window.function == "absence":
        return absence(window.gap)
    return _QUESTIONS[window.function]


class _Column(NamedTuple):
    """One column of a series: what it holds, of which argument or steps of a pattern."""

    holds: str
    argument: Expression | None
    steps: tuple[Step, ...] = ()

    @property
    def name(self) -> tuple[str, str]:
        return self.holds, self.argument.text if self.argument else "; ".join(step.text for step in self.steps)


class _Group(NamedTuple):
    """The windows that share a series: those over the same kinds, by the same key, where the same is true. Approximate
    ones are of one length too."""

    series: Series
    kinds: tuple[str, ...]
    by: tuple[str, ...]
    where: Expression | None
    columns: tuple[_Column, ...]
    windows: tuple[int, ...]


class _Part(NamedTuple):
    """What one kind of event has to do with a group: whether it adds, which windows it reads, the questions that can be
    answered now, and the windows in the order of the questions."""

    group: _Group
    adds: bool
    read: tuple[int, ...]
    frames: tuple[Frame, ...]
    order: tuple[int, ...]


def _groups(windows: Sequence[Window]) -> tuple[_Group, ...]:
    members: dict[tuple[Any, ...], list[int]] = {}
    for index, window in enumerate(windows):
        if not window.kinds:  # A question about links alone counts no events.
            continue
        where = window.where.text if window.where else None
        own = (window.length,) if window.approximately else ()
        members.setdefault((tuple(sorted(window.kinds)), tuple(sorted(window.by)), where, *own), []).append(index)
    return tuple(_group(key, [windows[index] for index in indexes], indexes) for key, indexes in members.items())


def _group(key: tuple[Any, ...], windows: Sequence[Window], indexes: Sequence[int]) -> _Group:
    columns = {column.name: column for column in map(_column, windows) if column}
    ordered = tuple(columns[name] for name in sorted(columns))
    # The same in every process, and another once events would be counted otherwise.
    head = "approximate/1" if windows[0].approximately else "series/1"
    grouped = any(window.groups for window in windows)
    said = [head, *key, [list(column.name) for column in ordered], *(["grouped"] if grouped else [])]
    span = max(window.length for window in windows)
    bucket = -(-span // BUCKETS) if windows[0].approximately else 0
    series = Series(
        name=sha256(canonical(said)).hexdigest(),
        columns=tuple(column.holds for column in ordered),
        span=span + bucket,
        bucket=bucket,
        grouped=grouped,
    )
    return _Group(series, key[0], key[1], windows[0].where, ordered, tuple(indexes))


def _column(window: Window) -> _Column | None:
    if window.argument or window.steps:
        return _Column(_COLUMNS[window.function], window.argument, window.steps)
    return None


def _frames(
    group: _Group, windows: Sequence[Window], indexes: Sequence[int]
) -> tuple[tuple[Frame, ...], tuple[int, ...]]:
    """The questions that windows put to their series, by stretch, and the windows in the order of the questions."""
    names = [column.name for column in group.columns]
    stretches: dict[tuple[int, bool], list[tuple[int, tuple[str, int]]]] = {}
    for index in indexes:
        window = windows[index]
        column = _column(window)
        question = (_question(window), names.index(column.name) if column else -1)
        stretches.setdefault((window.length, window.including_this), []).append((index, question))
    frames = tuple(
        (length, including_this, tuple(question for _, question in asked))
        for (length, including_this), asked in stretches.items()
    )
    return frames, tuple(index for asked in stretches.values() for index, _ in asked)


class _Plan:
    """What to do at one kind of event. What several series have in common is worked out once an event."""

    def __init__(self, parts: Sequence[_Part], compiler: _Compiler, links: Sequence[LinkPlan] = ()) -> None:
        self._links = links
        bys = sorted({part.group.by for part in parts})
        self._keys = [(by[0] if len(by) == 1 else "", _key(by)) for by in bys]
        adding = [part.group for part in parts if part.adds]
        # A percentile asks about the event's own value, whether or not the event is counted.
        giving = adding + [part.group for part in parts if _ranks(part.frames) and not part.adds]
        wheres = {group.where.text: group.where for group in adding if group.where}
        self._wheres = [compiler(where) for where in wheres.values()]
        columns = {column.name: column for group in giving for column in group.columns}
        self._gives = [_give(column, compiler) for column in columns.values()]
        bundles = dict.fromkeys(tuple(column.name for column in group.columns) for group in giving)
        self._picks = [_picker([list(columns).index(name) for name in names]) for names in bundles]
        self.computes = bool(wheres) or any(
            column.argument is None or not _is_path(column.argument) for part in parts for column in part.group.columns
        )
        self._rows = []
        for group, adds, read, frames, order in parts:
            where = list(wheres).index(group.where.text) if adds and group.where else -1
            names = tuple(column.name for column in group.columns)
            bundle = list(bundles).index(names) if adds else -1
            probe = list(bundles).index(names) if _ranks(frames) else -1
            thin = tuple((index, THIN_IDENTITY) for index in read)
            self._rows.append((group.series.name, bys.index(group.by), where, bundle, probe, frames, order, thin))
        self._adding = [row[:4] for row, part in zip(self._rows, parts, strict=True) if part.adds]
        self.idle = not parts and not links
        asking = [part.read for part in parts] + [plan.read for plan in links]
        self.unavailable = tuple((index, STORE_UNAVAILABLE) for each in asking for index in each)

    def touches(self, facts: Facts, env: Any, gaps: list[tuple[int, str]]) -> tuple[list[Touch], list[int]]:
        """What to tell and ask the store, and which windows the answers are for. Gaps that show already are added."""
        touches: list[Touch] = []
        order: list[int] = []
        places, truths, bundles = self._common(facts, env)
        for series, place, where, bundle, probe, frames, asked, thin in self._rows:
            key = places[place]
            if key is None:
                gaps.extend(thin)
                continue
            values = bundles[bundle] if truths[where] else None
            if frames or values is not None:
                touches.append((series, key, values, frames, bundles[probe]))
                order += asked
        for plan in self._links:
            touch, answered, lacking, waiting = plan.touch(facts)
            if touch is not None:
                touches.append(touch)
                order += answered
            gaps += [(index, THIN_IDENTITY) for index in lacking] + [(index, Gap.NOT_WARM.value) for index in waiting]
        return touches, order

    def adds(self, facts: Facts, env: Any) -> list[Touch]:
        """What the event adds, and no questions."""
        places, truths, bundles = self._common(facts, env)
        touches: list[Touch] = [
            (series, key, bundles[bundle], (), None)
            for series, place, where, bundle in self._adding
            if truths[where] and (key := places[place]) is not None
        ]
        return touches + [touch for plan in self._links if (touch := plan.tie(facts)) is not None]

    def _common(self, facts: Facts, env: Any) -> tuple[list[str | None], list[bool], list[Any]]:
        """The keys; whether each `where` is true, and True at the end for none; what to add, and None for nothing."""
        keys = facts.keys
        places = [keys.get(path) or key(facts) for path, key in self._keys]
        truths = [where(facts.values, (), env) is True for where in self._wheres]
        truths.append(True)
        found = [give(facts, env) for give in self._gives]
        bundles: list[Any] = [pick(found) for pick in self._picks]
        bundles.append(None)
        return places, truths, bundles


def _ranks(frames: Sequence[Frame]) -> bool:
    return any(what == PERCENTILE for _, _, questions in frames for what, _ in questions)


def _picker(places: list[int]) -> Callable[[list[Any]], Sequence[Any]]:
    """The values at some places of a list; a slice gives a sequence where a single place would not."""
    return (
        itemgetter(*places) if len(places) > 1 else itemgetter(slice(places[0], places[0] + 1) if places else slice(0))
    )


def _is_path(argument: Expression) -> bool:
    """Whether it is a path alone. That may be an entity's, which is known by its pseudonym."""
    return argument.text in argument.paths


def _argument(argument: Expression, compiler: _Compiler) -> _Give:
    if _is_path(argument):
        return _path(argument.text)
    test = compiler(argument)
    return lambda facts, env: test(facts.values, (), env)


def _give(column: _Column, compiler: _Compiler) -> _Give:
    """What an event brings to a column; None where it has nothing."""
    if column.argument is None:
        return _bits(column.steps, compiler)
    argument = _argument(column.argument, compiler)
    if column.holds == FLAGS:
        return lambda facts, env: _ONE if argument(facts, env) is True else _ZERO
    if column.holds == RUNS:
        return lambda facts, env: argument(facts, env) is True
    form = _text if column.holds == VALUES else _amount

    def give(facts: Facts, env: Any) -> Any:
        value = argument(facts, env)
        return None if value is None else form(value)

    return give


def _bits(steps: Sequence[Step], compiler: _Compiler) -> _Give:
    """Which steps of a pattern an event is, as bits; None for none."""
    tests = [(step.kinds, compiler(step.where) if step.where else None) for step in steps]

    def give(facts: Facts, env: Any) -> int | None:
        bits = 0
        for number, (kinds, test) in enumerate(tests):
            if facts.kind in kinds and (test is None or test(facts.values, (), env) is True):
                bits |= 1 << number
        return bits or None

    return give


_ONE: Amount = ("", 1)
_ZERO: Amount = ("", 0)


def _amount(value: int | Decimal | Money) -> Amount:
    return (value.currency, plain(value.minor)) if isinstance(value, Money) else ("", plain(value))


def _key(by: tuple[str, ...]) -> Callable[[Facts], str | None]:
    """The text of a key; None when the event lacks a part of it."""
    if len(by) == 1:
        path = _path(by[0])

        def single(facts: Facts) -> str | None:
            value = path(facts, None)
            return value if type(value) is str else None if value is None else _text(value)

        return single
    parts = [_path(path) for path in by]

    def combined(facts: Facts) -> str | None:
        found = [path(facts, None) for path in parts]
        if None in found:
            return None
        texts = map(_text, found)
        # With lengths, so that no two combinations run into one another.
        return "".join([f"{len(text)}:{text}" for text in texts])

    return combined


def _text_at(path: str) -> Callable[[Facts], str | None]:
    return _key((path,))


def _path(path: str) -> _Give:
    """What the event has at a path: the pseudonym of an entity, or a public value."""
    *parents, name = path.split(".")

    def reach(facts: Facts, _: Any = None) -> Any:
        pseudonym = facts.keys.get(path)
        if pseudonym is not None:
            return pseudonym
        found: Any = facts.values
        for parent in parents:
            found = found.get(parent)
            if found is None:
                return None
        return found.get(name)

    return reach


def _text(value: Any) -> str:
    """One text per value: 1, 1.0 and 1.00 are the same key."""
    if type(value) is Decimal:
        value = plain(value)
    elif type(value) is bool:
        return "true" if value else "false"
    elif type(value) is Money:
        return f"{_text(value.minor)} {value.currency}"
    elif type(value) not in (str, int):
        raise TypeError(f"a window cannot go by a {type(value).__name__}")
    return str(value)


_EXACT_ENOUGH = Context(prec=400, rounding=ROUND_HALF_EVEN, traps=[])
_SIX_PLACES = Decimal("0.000001")


def _finish(window: Window, compiler: _Compiler) -> _Finish:
    if window.function == "sum":
        assert window.argument is not None
        return _empty_money(_argument(window.argument, compiler)) if window.argument.type == MONEY else _number
    if window.function in ("avg", "share", "percentile"):
        return _mean_duration if window.type == DURATION else _mean
    if window.steps:
        return _followed
    if not window.kinds:
        return _as_it_is
    if window.function == "stddev":
        return _deviation_duration if window.type == DURATION else _deviation
    return _as_it_is


def _as_it_is(answer: Any, *_: Any) -> Any:
    return answer


def _followed(answer: bool | None, *_: Any) -> bool:
    return answer is True  # Nothing follows where nothing is.


def _number(answer: Decimal | None, *_: Any) -> int | Decimal:
    return 0 if answer is None else answer


def _empty_money(argument: _Give) -> _Finish:
    def finish(_: Any, facts: Facts, env: Any) -> Money | None:
        own = argument(facts, env)
        return None if own is None else Money(0, own.currency)

    return finish


def _mean(ratio: Ratio | None, *_: Any) -> Decimal | Money | None:
    if ratio is None:
        return None
    # As engine.money.six_places, after a division that is exact enough for the rounding to be right at any size.
    mean = _EXACT_ENOUGH.quantize(_quotient(ratio), _SIX_PLACES)
    return Money(mean, ratio[0]) if ratio[0] else mean


def _mean_duration(ratio: Ratio | None, *_: Any) -> int | None:
    """Durations are whole microseconds, which are the sixth place of a second."""
    return None if ratio is None else int(_EXACT_ENOUGH.quantize(_quotient(ratio), Decimal(1)))


def _deviation(spread: Spread | None, *_: Any) -> Decimal | Money | None:
    root = _root(spread)
    if spread is None or root is None:
        return None
    deviation = _EXACT_ENOUGH.quantize(root, _SIX_PLACES)
    return Money(deviation, spread[0]) if spread[0] else deviation


def _deviation_duration(spread: Spread | None, *_: Any) -> int | None:
    root = _root(spread)
    return None if root is None else int(_EXACT_ENOUGH.quantize(root, Decimal(1)))


def _root(spread: Spread | None) -> Decimal | None:
    """The standard deviation of a sample, from its sums: exact up to the root itself."""
    if spread is None or spread[3] < 2:
        return None
    _, total, squares, size = spread
    work = _EXACT_ENOUGH
    above = work.subtract(work.multiply(Decimal(size), Decimal(squares)), work.multiply(Decimal(total), Decimal(total)))
    return work.sqrt(work.divide(above, Decimal(size * (size - 1))))


def _quotient(ratio: Ratio) -> Decimal:
    _, total, size = ratio
    return _EXACT_ENOUGH.divide(Decimal(total), Decimal(size))


def _no_rates(money: Money, currency: str, _: int) -> Money | None:
    return money if money.currency == currency else None
