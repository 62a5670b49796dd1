"""A history on its way into columns: events of one kind in the order of time, and what became known of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from math import gcd
from typing import Any

import pyarrow as pa

from engine.columns import Column, Exchange, Gathering, History, Sight, Timeline, Warehouse, reader
from engine.detectors import ANOMALY, FIELD
from engine.expr import Env, Type, Window
from engine.rulebook import KindBook, Rulebook
from engine.schema import Event, at_path

_SECOND = 1_000_000
_PLAIN = {
    "seq": pa.int64(),
    "at": pa.int64(),
    "tie": pa.int64(),
    "kind": pa.string(),
    "row": pa.int64(),
    "event_id": pa.string(),
    "bad": pa.bool_(),
    "refunded": pa.bool_(),
    "tier": pa.string(),
    "odd": pa.string(),
    "own_worth": pa.int64(),
    "base_worth": pa.int64(),
    "met": pa.string(),
    "states": pa.string(),
    "customer": pa.string(),
}
"""What stands beside the fields: the amount in minor units of its own and of the base currency; `met` names the
exceptions that hold for the event, `states` the degraded causes whose `if` is true, false or unknown; `tier` is the
merchant's, "" for the default one; `odd` the model's percentile where the policy's mark is reached; `customer` is whose
event it is."""
BESIDE = ("tier", "odd", "met", "states")
"""Those on which a verdict depends beside the rules that fired."""
_CUSTOMERS = ("buyer.account", "seller.account")


@dataclass(frozen=True)
class Past:
    """A history as columns. `own` are the fields as rules see them, `public` as windows do; `keys` the entities by
    path; `parts` the columns by which figures are split. Figures are in `currency`: that of all amounts where they have
    one, else the base currency. `last` is the time of the last event."""

    warehouse: Warehouse
    kind: str
    own: Mapping[str, Column]
    public: Mapping[str, Column]
    keys: Mapping[str, str]
    parts: Mapping[str, str]
    timeline: Timeline
    exchange: Exchange
    kinds: frozenset[str]
    events: int
    last: int
    currency: str

    @property
    def worth(self) -> str:
        """The column that holds what an event is worth, in minor units of `currency`."""
        return "base_worth" if self.currency == self.exchange.rates.base else "own_worth"

    def history(self) -> History:
        """All events and outcomes in their order, for windows."""
        bare = self.warehouse.table("facts")
        table = bare.mutate(moment=self.timeline.moment(bare["at"], bare["tie"]))
        keys = {path: table[name] for path, name in self.keys.items()}
        return History(table, self.timeline, self._sight(self.public, table), keys, self.kinds)

    def sight(self, table: Any, windows: Mapping[Window, Column], refused: Mapping[str, str]) -> Sight:
        """What a rule sees of a table that has the columns of the history and those of windows."""
        seen = self._sight(self.own, table)
        cells = {window: column.cell(table) for window, column in windows.items()}
        return replace(seen, windows=cells, refused={**seen.refused, **refused})

    def _sight(self, columns: Mapping[str, Column], table: Any) -> Sight:
        cells = {path: column.cell(table) for path, column in columns.items()}
        refused = {path: column.refused for path, column in columns.items() if column.refused}
        return Sight(cells, table["at"], exchange=self.exchange, refused=refused, lacks=self.warehouse.lacks)


class Collector:
    """Takes events and outcomes in the order of time."""

    def __init__(
        self, warehouse: Warehouse, rulebook: Rulebook, kind: str, degraded: Sequence[str], split: Sequence[str]
    ) -> None:
        self._warehouse, self._rulebook, self._kind = warehouse, rulebook, kind
        book = rulebook.kinds[kind]
        self._tests = {cause: book.degraded_tests[cause] for cause in degraded if cause in book.degraded_tests}
        windows = [rulebook.windows[slot] for slot in book.slots]
        known = rulebook.schema.fields("outcome")
        self._own = _typed(_paths_of(book), {**rulebook.schema.fields(kind), ANOMALY: FIELD})
        mark = book.policy.pack.score.anomaly if book.policy else None
        self._mark = mark.at if mark else None
        self._public = _typed({path for window in windows for path in _looks_at(window)}, known)
        self._keys = {path: f"k{number}" for number, path in enumerate(sorted(_entities(windows, known)))}
        self._parts = {path: f"p{number}" for number, path in enumerate(split)}
        types = {f"own {path}": type_ for path, type_ in self._own.items()}
        types |= {f"public {path}": type_ for path, type_ in self._public.items()}
        strings = dict.fromkeys([*self._keys.values(), *self._parts.values()], pa.string())
        self._gathering = Gathering(warehouse, "facts", types, _PLAIN | strings)
        self._read_own, self._read_public = reader(self._own), reader(self._public)
        self._nothing: list[Any] = [None] * len(self._own)
        self._seq = self._tie = self._ties = self._unit = self._events = 0
        self._first: int | None = None
        self._last = self._last_event = 0
        self._kinds: set[str] = set()
        self._codes: set[str] = set()

    def event(
        self,
        row: int,
        event: Event,
        bad: bool,
        *,
        refunded: bool = False,
        tier: str = "",
        anomaly: Decimal | None = None,
    ) -> None:
        """An event of the kind that is judged; `bad` when it turned out to be fraud. `tier` is the merchant's,
        `anomaly` the percentile that the model gives, if there is one."""
        public, _, entities = self._rulebook.schema.split(event)
        keys = {path: name for path, _, name in entities}
        own = event.values if anomaly is None else {**event.values, ANOMALY: anomaly}
        values = self._read_own(own) + self._read_public(public)
        odd = "" if anomaly is None or self._mark is None or anomaly < self._mark else str(anomaly)
        self._events += 1
        self._last_event = event.at
        parts = [_shown(at_path(event.values, path)) for path in self._parts]
        customer = next((keys[path] for path in _CUSTOMERS if path in keys), None)
        extra = (bad, refunded, tier, odd, *self._worths(event), self._met(event, keys), self._states(event), customer)
        self._add(event, values, row, extra, keys, parts)

    def outcome(self, outcome: Event, about: Event) -> None:
        """What became known of an event; it takes over what that holds."""
        split = self._rulebook.schema.split
        (first, _, theirs), (own, _, ours) = split(about), split(outcome)
        public = {**first, **own}
        keys = {path: name for path, _, name in (*theirs, *ours)}
        values = self._nothing + self._read_public(public)
        self._add(outcome, values, 0, (None,) * 9, keys, [None] * len(self._parts))

    def _add(
        self,
        event: Event,
        values: Sequence[Any],
        row: int,
        extra: Sequence[Any],
        keys: Mapping[str, str],
        parts: Sequence[str | None],
    ) -> None:
        at = event.at
        if self._first is None:
            self._first = at
        self._tie = self._tie + 1 if self._seq and at == self._last else 0
        assert at >= self._last or not self._seq, "events come in the order of time"
        self._ties = max(self._ties, self._tie)
        self._unit = gcd(self._unit, at - self._first)
        self._last = at
        self._kinds.add(event.kind)
        named = [keys.get(path) for path in self._keys]
        plain = (self._seq, at, self._tie, event.kind, row, event.id, *extra, *named, *parts)
        self._gathering.add(values, plain)
        self._seq += 1

    def done(self) -> Past:
        """The history, once all of it is there."""
        columns = self._gathering.done()
        own = {path: columns[f"own {path}"] for path in self._own}
        public = {path: columns[f"public {path}"] for path in self._public}
        first = self._first or 0
        timeline = Timeline(first, self._last, gcd(self._unit, _SECOND) or 1, self._ties + 1)
        codes = sorted({code for column in columns.values() for code in column.codes})
        exchange = Exchange(self._rulebook.rates, first, self._last, codes)
        return Past(
            self._warehouse,
            self._kind,
            own,
            public,
            self._keys,
            self._parts,
            timeline,
            exchange,
            frozenset(self._kinds),
            self._events,
            self._last_event,
            self._codes.pop() if len(self._codes) == 1 else self._rulebook.rates.base,
        )

    def _worths(self, event: Event) -> tuple[int | None, int | None]:
        amount = event.values.get("amount")
        if amount is None:
            return None, None
        self._codes.add(amount.currency)
        found = self._rulebook.convert(amount, self._rulebook.rates.base, event.at)
        return amount.minor, None if found is None else found.whole

    def _met(self, event: Event, keys: Mapping[str, str]) -> str:
        items = self._rulebook.exemptions.items
        return ",".join(each.id for each in items if each.meets(event.tenant, keys, event.values, event.received_at))

    def _states(self, event: Event) -> str:
        if not self._tests:
            return ""
        env = Env(event.at, event.received_at, {}, self._rulebook.convert)
        return ",".join(f"{cause}={test(event.values, (), env)}" for cause, test in self._tests.items())


def _paths_of(book: KindBook) -> set[str]:
    return {path for rule in book.rules for path in rule.condition.paths}


def _looks_at(window: Window) -> set[str]:
    """The paths whose public values a window looks at."""
    asked = [each for each in (window.argument, window.where, *(step.where for step in window.steps)) if each]
    return {*window.by, *(path for each in asked for path in each.paths)}


def _entities(windows: Iterable[Window], known: Mapping[str, Any]) -> set[str]:
    return {path for window in windows for path in _looks_at(window) if path in known and known[path].entity}


def _typed(paths: Collection[str], known: Mapping[str, Any]) -> dict[str, Type]:
    return {path: Type(known[path].type) for path in sorted(paths) if path in known}


def _shown(value: Any) -> str | None:
    return None if value is None else str(value)
