"""Windows as columns: what `engine.features` answers at one event, for all events of a history at once.

A window holds the events of its key that are before this one and not longer ago than its length. Events have one order
(by time, then as they arrived), and each a place in it, its `moment`: twice its time in units that all times have in
common, times the most events of one instant, plus its place among those. So the window is a RANGE of moments with two
constant ends: what is too old begins at an odd place, where no event is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import ibis

from engine.columns.cells import Amount, Cell, Number, Refused, choose, is_null, truth, unknown
from engine.columns.gathering import Column, stored
from engine.columns.lowering import Sight, lower
from engine.columns.macros import HUGE, MILLION, WHOLE, call
from engine.columns.stages import stages
from engine.expr import Expression, Window
from engine.stores import CAP

_MOMENTS = 2**62
_REFUSED = {
    "stddev": "a standard deviation, whose root is not exact in SQL",
    "median": "a median of a window",
    "quantile": "a quantile of a window",
    "percentile": "a percentile of a window",
    "streak": "a streak of a window",
}


@dataclass(frozen=True)
class Timeline:
    """The order of a history: its first time, the unit that all times since then are whole numbers of (microseconds),
    its last time, and the most events of one instant."""

    first: int
    last: int
    unit: int
    ties: int

    @property
    def fits(self) -> bool:
        """Whether every event has a moment of its own among the integers, the longest window before it included."""
        reach = 400 * 86_400_000_000
        return (self.last - self.first + reach) // self.unit * 2 * self.ties < _MOMENTS

    def moment(self, at: Any, tie: Any) -> Any:
        """The place of an event in the order."""
        return call("arb_quotient", WHOLE, at - self.first, self.unit) * (2 * self.ties) + tie

    def back(self, length: int) -> int:
        """How far before an event's moment a window of that length (µs) begins."""
        return length // self.unit * 2 * self.ties + self.ties - 1


@dataclass(frozen=True)
class History:
    """A table of events in their order. It has the columns `moment`, `at` and `kind`.

    `public` is what conditions within windows see, `keys` the columns of the entities by path, `kinds` the kinds of
    event that are there.
    """

    table: Any
    timeline: Timeline
    public: Sight
    keys: Mapping[str, Any]
    kinds: frozenset[str]


@dataclass
class Counted:
    """Windows as columns to add to a history: `columns` by name; `cells` says what each window's are; `mixed` names the
    yes/no columns that say where a window's amounts are of several currencies; `refused` why some are none."""

    columns: dict[str, Any] = field(default_factory=dict)
    cells: dict[Window, Column] = field(default_factory=dict)
    mixed: dict[Window, str] = field(default_factory=dict)
    refused: dict[Window, str] = field(default_factory=dict)


def counted(history: History, windows: Sequence[Window], *, full: frozenset[Window] = frozenset()) -> Counted:
    """The windows over a history. Of those in `full` a key may hold more events than a window counts: refused."""
    found = Counted()
    for number, window in enumerate(windows):
        try:
            if window in full:
                raise Refused(f"a window of which one key has more than {CAP:,} events")
            cell, mixed = _Counting(history, window).value()
        except Refused as refused:
            found.refused[window] = str(refused)
            continue
        _keep(found, window, f"w{number}", cell, mixed)
    return found


def present(history: History, window: Window) -> Any:
    """Whether an event has all parts of a window's key."""
    there: Any = ibis.literal(True)
    for part in _key(history, window):
        there = there & part.notnull()
    return there


def adds(history: History, window: Window) -> Any:
    """Whether a window counts an event, at the events after it."""
    counts, there = _Counting(history, window).counts, present(history, window)
    return there if counts is None else counts & there


def key(history: History, window: Window) -> list[Any]:
    """The columns that make a window's key."""
    return _key(history, window)


def _keep(found: Counted, window: Window, name: str, cell: Cell, mixed: Any) -> None:
    found.cells[window], columns = stored(name, window.type, cell)
    found.columns.update(columns)
    if mixed is not None:
        found.columns[f"{name}_mixed"] = mixed
        found.mixed[window] = f"{name}_mixed"


def _lowered(expression: Expression, history: History) -> Cell:
    if stages([expression.tree]):
        raise Refused("a formula inside of a window that would be too large")
    return lower(expression, history.public)


def _key(history: History, window: Window) -> list[Any]:
    parts: list[Any] = []
    for path in window.by:
        cell = _at(history, path)
        if isinstance(cell, Amount):
            parts.append(cell.minor.raw)
            if not cell.single:
                parts.append(cell.currency)
        else:
            parts.append(cell.raw if isinstance(cell, Number) else cell)
    return parts


def _at(history: History, path: str) -> Cell:
    """An entity, or a public value, at a path; what no event has is NULL."""
    if path in history.keys:
        return history.keys[path]
    if path in history.public.refused:
        raise Refused(history.public.refused[path])
    found = history.public.fields.get(path)
    return unknown("string") if found is None else found


class _Counting:
    """One window over a history."""

    def __init__(self, history: History, window: Window) -> None:
        self.history, self.window = history, window
        self._refuse()
        self.counts = self._counts()

    def value(self) -> tuple[Cell, Any]:
        """The window's value at each event, and where its amounts are of several currencies."""
        cell, mixed = _VALUES[self.window.function](self)
        there = present(self.history, self.window)
        return choose(there, cell, None), None if mixed is None else there & mixed

    def _refuse(self) -> None:
        window = self.window
        if window.steps:
            raise Refused("a pattern over several events")
        if window.groups:
            raise Refused("a group of linked accounts")
        if window.approximately:
            raise Refused("an approximate window")
        if window.function in _REFUSED:
            raise Refused(_REFUSED[window.function])
        if not self.history.timeline.fits:
            raise Refused("too many events of one instant, over too long a time")

    def _counts(self) -> Any:
        """Whether an event is one of those that the window is about; None where all are."""
        window, history = self.window, self.history
        counts: list[Any] = []
        if not history.kinds <= set(window.kinds):
            counts.append(history.table.kind.isin(list(window.kinds)))
        if window.where is not None:
            counts.append(truth(_lowered(window.where, history)))
        return reduce(operator.and_, counts) if counts else None

    def over(self, aggregate: Any) -> Any:
        """An aggregate over the events of the key within the length before this one."""
        back = self.history.timeline.back(self.window.length)
        ends = {"preceding": back, "following": 0} if self.window.including_this else {"preceding": (back, 1)}
        parts = _key(self.history, self.window)
        return aggregate.over(ibis.range_window(group_by=parts, order_by=self.history.table.moment, **ends))

    def _of(self, raw: Any) -> Any:
        """Values of the events that count, and NULL, which aggregates pass over, of the others: a FILTER is slower."""
        return raw if self.counts is None else ibis.ifelse(self.counts, raw, ibis.null())

    def _counted(self, so: Any) -> Any:
        """How many events of the stretch there are for which it is so; None: all."""
        if so is None:
            return self.over(self.history.table.count())
        one = ibis.ifelse(so, ibis.literal(1, type="int8"), ibis.null())
        return self.over(one.count())

    def _also(self, so: Any) -> Any:
        return so if self.counts is None else self.counts & so

    @property
    def argument(self) -> Cell:
        argument = self.window.argument
        assert argument is not None, "this function has an argument"
        return self._path(argument) if argument.text in argument.paths else _lowered(argument, self.history)

    def _path(self, argument: Expression) -> Cell:
        cell = _at(self.history, argument.text)
        return lower(argument, self.history.public) if cell is None else cell

    # What the functions give: (value, where currencies are mixed)

    def count(self) -> tuple[Cell, Any]:
        return Number(self._counted(self.counts)), None

    def seen(self) -> tuple[Cell, Any]:
        at = self._of(self.history.table["at"])
        return self.over(at.min() if self.window.function == "first_seen" else at.max()), None

    def distinct(self) -> tuple[Cell, Any]:
        cell = self.argument
        if isinstance(cell, Amount):
            raw = cell.minor.raw.cast("string") + " " + cell.currency if not cell.single else cell.minor.raw
        else:
            raw = cell.raw if isinstance(cell, Number) else truth(cell)
        return Number(self.over(self._of(raw).nunique())), None

    def share(self) -> tuple[Cell, Any]:
        so = self._counted(self._also(truth(self.argument)))
        return Number(self._mean(so, self._counted(self.counts), MILLION), True), None

    def sum(self) -> tuple[Cell, Any]:
        cell = self.argument
        raw, wide = _raw(cell)
        total = self.over(self._of(raw).sum())
        if not isinstance(cell, Amount):
            total = total.fill_null(0)
            return (Number(total, wide, True) if isinstance(cell, Number) else total), None
        own = ibis.ifelse(is_null(cell), ibis.null(), ibis.literal(0, type="int64"))
        return self._money(cell, Number(ibis.coalesce(total, own), wide, True))

    def avg(self) -> tuple[Cell, Any]:
        cell = self.argument
        raw, wide = _raw(cell)
        size = self.over(self._of(raw).count())
        total = self.over(self._of(raw).sum())
        if not isinstance(cell, Amount | Number):
            return self._mean(total, size, 1), None
        mean = Number(self._mean(total, size, 1 if wide else MILLION), True, True)
        return self._money(cell, mean) if isinstance(cell, Amount) else (mean, None)

    def extreme(self) -> tuple[Cell, Any]:
        cell = self.argument
        raw, wide = _raw(cell)
        held = self._of(raw)
        chosen = self.over(held.min() if self.window.function == "min" else held.max())
        if isinstance(cell, Amount):
            return self._money(cell, Number(chosen, wide))
        return (Number(chosen, wide) if isinstance(cell, Number) else chosen), None

    def _mean(self, total: Any, size: Any, scale: int) -> Any:
        mean = call("arb_half_even", HUGE, call("arb_huge", HUGE, total) * scale, size)
        return ibis.ifelse(size > 0, mean, ibis.null())

    def _money(self, cell: Amount, minor: Number) -> tuple[Cell, Any]:
        if cell.single:
            return Amount(minor, cell.currency), None
        held = self._of(cell.currency)
        least, most = self.over(held.min()), self.over(held.max())
        mixed = (least != most).fill_null(False)
        code = ibis.coalesce(least, cell.currency) if self.window.function == "sum" else least
        return choose(~mixed, Amount(minor, code), None), mixed


def _raw(cell: Cell) -> tuple[Any, bool]:
    number = cell.minor if isinstance(cell, Amount) else cell
    return (number.raw, number.wide) if isinstance(number, Number) else (number, False)


_VALUES: Mapping[str, Callable[[_Counting], tuple[Cell, Any]]] = {
    "count": _Counting.count,
    "sum": _Counting.sum,
    "avg": _Counting.avg,
    "distinct": _Counting.distinct,
    "min": _Counting.extreme,
    "max": _Counting.extreme,
    "share": _Counting.share,
    "first_seen": _Counting.seen,
    "last_seen": _Counting.seen,
}
