"""The best threshold within limits: chosen on one period, held against the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from engine.backtest import Tally
from engine.expr import DURATION, MONEY, NUMBER, Type
from engine.tuning.curve import Figures, Observed, Period
from engine.tuning.limits import Kept, Limit, fallen, fared, within
from engine.tuning.periods import Periods
from engine.tuning.rounding import roundest

FEWEST_FRAUDS = 10
"""Frauds below which nothing is fitted: what such a few have in common is luck."""
_STEPS = {NUMBER: 1, MONEY: 1, DURATION: 1_000_000}
"""One, a minor unit, a second."""


@dataclass(frozen=True, eq=False)
class Tunable:
    """A threshold: whose it is, how it compares what, where it stands now (None: nowhere), and what was observed of
    events of the `kind`, their money in minor units of `currency`. `spelt` writes a value as people do. A value lies
    above the first of the `ends`, and is at most the second; None for no end."""

    name: str
    about: str
    comparison: str
    type: Type
    present: int | Decimal | None
    spelt: Callable[[Any], str]
    observed: Observed
    currency: str
    kind: str
    ends: tuple[Any, Any] = (None, None)


@dataclass(frozen=True, slots=True)
class Goal:
    """What a threshold is chosen by: the limits that it keeps, and what an alert costs in minor units (None: that is
    not counted)."""

    limits: tuple[Limit, ...] = ()
    cost: int | None = None

    @property
    def given(self) -> bool:
        """Whether there is anything to choose by."""
        return bool(self.limits) or self.cost is not None

    def value(self, tally: Tally) -> int | None:
        """What it is worth to look at these events, in minor units: the money of the fraud less what the alerts cost
        (Bahnsen et al., "Example-dependent cost-sensitive decision trees", 2015)."""
        return None if self.cost is None else tally.bad_worth - self.cost * tally.events


@dataclass(frozen=True, slots=True)
class Held:
    """How a threshold that was chosen in one period fares in the next: the limits, the figures that are `worse` by more
    than chance explains, and what it is worth (minor units; None where alerts have no cost)."""

    limits: tuple[Kept, ...]
    worse: tuple[str, ...]
    value: int | None

    @property
    def costs(self) -> bool:
        """Whether the alerts cost more than they save."""
        return self.value is not None and self.value <= 0

    @property
    def holds(self) -> bool:
        """Whether the choice stands: no limit is broken by more than chance may do, nothing is worse, and it pays."""
        return not self.worse and not self.costs and all(each.kept or each.chance for each in self.limits)


@dataclass(frozen=True, eq=False)
class Tuned:
    """A threshold over both periods. `suggested` is None without a goal, or where nothing reaches it."""

    subject: Tunable
    periods: Periods
    fit: Period
    later: Period
    goal: Goal
    suggested: int | Decimal | None

    def figures(self, limit: Any) -> tuple[Figures, Figures]:
        """What a threshold reaches in the first part, and later."""
        return self.fit.figures(self.fit.at(limit)), self.later.figures(self.later.at(limit))

    def held(self) -> Held | None:
        """How what is suggested fares later; None where nothing is."""
        if self.suggested is None:
            return None
        before, after = self.figures(self.suggested)
        return Held(fared(self.goal.limits, after), tuple(fallen(before, after)), self.goal.value(after.tally))


def tuned(subject: Tunable, periods: Periods, goal: Goal) -> Tuned:
    """The sums of both periods, and the threshold that reaches the goal in the first."""
    fit, later = (
        Period.of(subject.observed.chosen(rows), subject.comparison, span, subject.ends)
        for rows, span in (
            (periods.fit, periods.mature - periods.first),
            (periods.later, periods.last - periods.until),
        )
    )
    suggested = best(fit, goal, subject.type) if goal.given else None
    if suggested is not None and subject.present is not None and fit.at(suggested) == fit.at(subject.present):
        suggested = subject.present  # what finds the same need not be changed
    return Tuned(subject, periods, fit, later, goal, suggested)


def best(period: Period, goal: Goal, type_: Type) -> int | Decimal | None:
    """The threshold that keeps all limits and finds most fraud, of equal ones with fewest good events hit; where recall
    is the only limit, fewest good events come first; where alerts cost something, what is worth most comes first. None
    where none keeps them and finds any fraud, or none is worth its alerts.

    It is the roundest value of those that find the same in this period.
    """
    tallies, edges = period.tallies(), period.edges()
    if not len(edges):
        return None
    events, frauds, _, saved = tallies.T
    allowed = within(goal.limits, tallies, period) & (frauds > 0)
    keys = [events - frauds, -frauds]  # the last one counts first
    if goal.cost is not None:
        worth = saved - goal.cost * events
        allowed &= worth > 0
        keys.append(-worth)
    elif {limit.measure for limit in goal.limits} == {"recall"}:
        keys.reverse()
    rows = np.flatnonzero(allowed)
    for place in rows[np.lexsort([key[rows] for key in keys])]:
        value = written(period, int(edges[place]), type_)
        if value is not None:
            return value
    return None


def written(period: Period, edge: int, type_: Type) -> int | Decimal | None:
    """The roundest value with this edge; None where none can be written. Beyond the last value and before the first it
    lies no further off than a tenth."""
    (low, high), (least, most) = period.between(edge), period.ends
    if low is None:
        low = max(least, high - _tenth(high, type_)) if least is not None else high - _tenth(high, type_)
    if high is None:
        high = min(most, low + _tenth(low, type_)) if most is not None else low + _tenth(low, type_)
    return roundest(low, high, type_, first=period.comparison in (">", "<="))


def _tenth(value: Any, type_: Type) -> Any:
    """A tenth of a value, at least the smallest step that people count in."""
    return max(_STEPS[type_], abs(value) // 10)
