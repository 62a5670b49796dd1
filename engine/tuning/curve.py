"""What a rule would have found at every threshold: one pass over a period, exact at each.

A threshold decides one comparison of the condition, so sums by value are enough: of the events for which the condition
holds where the comparison is true, where it is false, and where the value is unknown.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.backtest import Tally
from engine.packs.moments import DAY
from engine.proportions import Interval, wilson
from engine.tuning.thresholds import ABOVE


@dataclass(frozen=True, eq=False)
class Observed:
    """Events in the order of time. `values`: what is compared, a plain number or None; then whether the condition holds
    where the comparison is true, false, and where the value is unknown (all arrays of yes/no). `at` is in microseconds,
    `worth` in minor units."""

    at: Any
    bad: Any
    worth: Any
    values: Sequence[Any]
    if_true: Any
    if_false: Any
    if_unknown: Any

    def chosen(self, rows: Any) -> Observed:
        """Those of the rows that a mask has."""
        values = [self.values[place] for place in np.flatnonzero(rows).tolist()]
        arrays = {name: getattr(self, name)[rows] for name in _ARRAYS}
        return replace(self, values=values, **arrays)


_ARRAYS = ("at", "bad", "worth", "if_true", "if_false", "if_unknown")


@dataclass(frozen=True)
class Figures:
    """What a threshold reaches, with 95 % intervals (Wilson 1927); None for a share of nothing. `alerts` are a day."""

    tally: Tally
    recall: Interval | None
    fpr: Interval | None
    precision: Interval | None
    alerts: Interval


@dataclass(frozen=True, eq=False)
class Period:
    """All events of a period, summed by value. `values` are those at which the threshold decides, in their order;
    `always` sums what the condition finds whatever the threshold. `span` is how long it is, in microseconds. A limit
    lies between `ends`, None for no end."""

    comparison: str
    values: Sequence[Any]
    sums_true: Any
    sums_false: Any
    always: Any
    all: Tally
    span: int
    ends: tuple[Any, Any] = (None, None)

    @classmethod
    def of(cls, observed: Observed, comparison: str, span: int, ends: tuple[Any, Any] = (None, None)) -> Period:
        """The sums of what was observed."""
        known = np.array([value is not None for value in observed.values], bool)
        decided = known & (observed.if_true != observed.if_false)
        values = sorted({observed.values[place] for place in np.flatnonzero(decided).tolist()})
        place = {value: rank for rank, value in enumerate(values)}
        ranks = np.array([place.get(value, -1) for value in observed.values], np.int64)
        weights = np.stack(
            [np.ones(len(ranks), np.int64), observed.bad, observed.worth, np.where(observed.bad, observed.worth, 0)], 1
        ).astype(np.int64)
        always = ~decided & np.where(known, observed.if_true, observed.if_unknown)
        return cls(
            comparison,
            values,
            _summed(ranks, weights, decided & observed.if_true, len(values)),
            _summed(ranks, weights, decided & observed.if_false, len(values)),
            weights[always].sum(axis=0),
            Tally(*map(int, weights.sum(axis=0))),
            max(span, 1),
            ends,
        )

    def at(self, limit: Any) -> Tally:
        """What the condition finds with this limit."""
        find = bisect_right if self.comparison in (">", "<=") else bisect_left
        return self.at_edge(find(self.values, limit))

    def at_edge(self, edge: int) -> Tally:
        """What it finds with a limit that has this edge."""
        return Tally(*map(int, self._at(np.array([edge]))[0]))

    def edges(self) -> Any:
        """All places between values: a limit finds something else at each; none where it decides nothing."""
        return np.arange(len(self.values) + 1 if len(self.values) else 0)

    def tallies(self) -> Any:
        """A row for each edge: events, those of them that were fraud, money, money of fraud."""
        return self._at(self.edges())

    def between(self, edge: int) -> tuple[Any, Any]:
        """The values between which a limit has this edge; None before the first and behind the last."""
        return self.values[edge - 1] if edge else None, self.values[edge] if edge < len(self.values) else None

    def figures(self, tally: Tally) -> Figures:
        """The shares of what was found."""
        share = wilson(tally.events, self.all.events)
        a_day = self.all.events * DAY / self.span
        alerts = Interval(*(part * a_day for part in share)) if share else Interval(0.0, 0.0, 0.0)
        return Figures(
            tally,
            wilson(tally.bad, self.all.bad),
            wilson(tally.good, self.all.good),
            wilson(tally.bad, tally.events),
            alerts,
        )

    def _at(self, edges: Any) -> Any:
        if self.comparison in ABOVE:
            true, false = self.sums_true[-1] - self.sums_true[edges], self.sums_false[edges]
        else:
            true, false = self.sums_true[edges], self.sums_false[-1] - self.sums_false[edges]
        return true + false + self.always


def _summed(ranks: Any, weights: Any, rows: Any, size: int) -> Any:
    """(size + 1, weights): sums of the rows whose value has a lower rank."""
    sums = np.zeros((size + 1, weights.shape[1]), np.int64)
    np.add.at(sums, ranks[rows] + 1, weights[rows])
    return sums.cumsum(axis=0)


def spread(period: Period, count: int) -> Iterator[int]:
    """About `count` edges that tell the curve, of those that find something: evenly by the fraud that they find, or by
    events where there is none. Of those that find the same fraud it is the one with the fewest events."""
    edges, tallies = period.edges(), period.tallies()
    edges, tallies = edges[tallies[:, 0] > 0], tallies[tallies[:, 0] > 0]
    if not len(edges):
        return
    found = tallies[:, 1] if period.all.bad else tallies[:, 0]
    order = np.lexsort((tallies[:, 0], found))
    wanted = np.linspace(found.min(), found.max(), count)
    places = np.clip(np.searchsorted(found[order], wanted), 0, len(order) - 1)
    yield from sorted({int(edges[order[place]]) for place in places})
