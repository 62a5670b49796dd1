"""The bands of a feature: few, large enough, each with another share of fraud than its neighbours.

Fine classes are joined where they are small, and then neighbours that do not differ (ChiMerge: Kerber 1992); where
points must go one way, those that would turn back are pooled (Ayer et al. 1955). A band's weight of evidence says how
much likelier fraud is in it than elsewhere (Siddiqi, "Credit Risk Scorecards", 2006).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from engine.expr import BOOL, TEXT, Type
from engine.tuning.rounding import plain, roundest

SHARES = (0.005, 0.01, 0.025, *(step / 20 for step in range(1, 20)), 0.975, 0.99, 0.995)
"""Where fine classes are divided, as shares of the events: closer at the ends, where fraud is."""
FEWEST, LEAST_SHARE = 20, 0.005
"""Events that a band has at least, and their share of all."""
SAME = 3.841458820694124
"""Chi-square of one degree of freedom at 5 %: bands below it do not differ."""

Shape = Literal["up", "down", "free", "values"]


@dataclass(frozen=True, slots=True)
class Feature:
    """What a scorecard looks at: values of one type, None where unknown. `currency` is that of amounts."""

    name: str
    type: Type
    values: Sequence[Any]
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Band:
    """A part of a feature: above `low` up to and including `high` (plain numbers, None for no end), or these `values`
    (`others`: all but these), or `missing`. `evidence` is its weight: above 0 fraud is likelier than elsewhere."""

    events: int = 0
    bad: int = 0
    low: Any = None
    high: Any = None
    values: tuple[Any, ...] = ()
    others: bool = False
    missing: bool = False
    evidence: float = 0.0
    points: int = 0


@dataclass(frozen=True, slots=True)
class Banded:
    """A feature in bands. `shape` says which way its points go; `place` gives the band of a value."""

    name: str
    type: Type
    currency: str
    shape: Shape
    bands: tuple[Band, ...]

    def place(self, value: Any) -> int | None:
        """The place of the band that has a value (as the engine gives it); None where none has."""
        looked_for = plain(value, self.currency)
        return next((at for at, band in enumerate(self.bands) if _has(band, looked_for)), None)

    def points(self, value: Any) -> int:
        """What a value adds to the score."""
        at = self.place(value)
        return 0 if at is None else self.bands[at].points


def _has(band: Band, value: Any) -> bool:
    if value is None or band.missing:
        return value is None and band.missing
    if band.values:
        return (value in band.values) != band.others
    return (band.low is None or value > band.low) and (band.high is None or value <= band.high)


def banded(feature: Feature, bad: Any, most: int, *, monotone: bool) -> Banded | None:
    """A feature of events of which `bad` were fraud, in at most `most` bands beside one for what is unknown; None where
    no two of them differ by more than chance. With `monotone` fraud goes one way along a number."""
    values = [plain(value, feature.currency) for value in feature.values]
    known = [place for place, value in enumerate(values) if value is not None]
    least = max(FEWEST, math.ceil(LEAST_SHARE * len(values)))
    given, fraud = [values[place] for place in known], bad[known]
    if feature.type in (BOOL, TEXT):
        shape: Shape = "values"
        bands = _by_value(given, fraud, least, most)
    else:
        classes = _large(list(_classes(given, fraud, feature.type)), least)
        shape = ("up" if _rises(classes) else "down") if monotone else "free"
        bands = _joined(_pooled(classes, shape) if monotone else classes, most)
    missing = len(values) - len(known)
    if missing >= least:
        bands = [*bands, Band(missing, int(bad.sum() - fraud.sum()), missing=True)]
    if len(bands) < 2:
        return None
    weighed = tuple(replace(band, evidence=_weight(band, bad)) for band in bands)
    return Banded(feature.name, feature.type, feature.currency, shape, weighed)


def _classes(values: Sequence[Any], bad: Any, type_: Type) -> Iterator[Band]:
    """Fine classes, divided at the roundest value between two shares of the events."""
    if not values:
        return
    ordered = sorted(values)
    marks = [ordered[int(share * (len(ordered) - 1))] for share in SHARES]
    cuts: list[Any] = []
    for low, high in zip(marks, [*marks[1:], ordered[-1]], strict=True):
        cut = roundest(low, high, type_, first=True) if low < high else None
        if cut is not None and (not cuts or cut > cuts[-1]):
            cuts.append(cut)
    ends = [None, *cuts, None]
    places = np.array([bisect_left(cuts, value) for value in values], np.int64)
    for at, (low, high) in enumerate(pairwise(ends)):
        rows = places == at
        yield Band(int(rows.sum()), int(bad[rows].sum()), low, high)


def _large(classes: list[Band], least: int) -> list[Band]:
    """Classes with enough events: a small one is joined to the one before it."""
    found: list[Band] = []
    for each in classes:
        if found and (found[-1].events < least or each.events < least):
            found[-1] = _join(found[-1], each)
        else:
            found.append(each)
    return found


def _join(one: Band, other: Band) -> Band:
    values = (*one.values, *other.values)
    return replace(one, events=one.events + other.events, bad=one.bad + other.bad, high=other.high, values=values)


def _share(band: Band) -> float:
    return band.bad / band.events if band.events else 0.0


def _rises(classes: Sequence[Band]) -> bool:
    """Whether fraud goes up along the classes more than down."""
    sizes = [band.events for band in classes]
    if not sum(sizes):
        return True
    places = np.arange(len(classes)) - np.average(np.arange(len(classes)), weights=sizes)
    return bool(np.dot(places * sizes, [_share(band) for band in classes]) >= 0)


def _pooled(classes: Sequence[Band], shape: Shape) -> list[Band]:
    """Classes whose share of fraud goes one way: neighbours that turn back are pooled."""
    sign = 1 if shape == "up" else -1
    found: list[Band] = []
    for each in classes:
        found.append(each)
        while len(found) > 1 and sign * (_share(found[-1]) - _share(found[-2])) <= 0:
            last = found.pop()
            found[-1] = _join(found[-1], last)
    return found


def _joined(bands: Sequence[Band], most: int) -> list[Band]:
    """Neighbours joined, the most alike first, until all differ and there are few enough."""
    found = list(bands)
    while len(found) > 1:
        apart = [_chi_square(one, other) for one, other in pairwise(found)]
        place = int(np.argmin(apart))
        if apart[place] >= SAME and len(found) <= most:
            break
        found[place : place + 2] = [_join(found[place], found[place + 1])]
    return found


def _chi_square(one: Band, other: Band) -> float:
    events, bad = one.events + other.events, one.bad + other.bad
    if not 0 < bad < events or not one.events or not other.events:
        return 0.0
    apart = one.bad * (other.events - other.bad) - other.bad * (one.events - one.bad)
    return events * apart**2 / (bad * (events - bad) * one.events * other.events)


def _by_value(values: Sequence[Any], bad: Any, least: int, most: int) -> list[Band]:
    """Values with alike shares of fraud together; rare ones are the others."""
    counts, frauds = Counter(values), Counter(value for value, each in zip(values, bad, strict=True) if each)
    named = [Band(counts[each], frauds[each], values=(each,)) for each in counts if counts[each] >= least]
    joined = _joined(sorted(named, key=lambda band: (_share(band), str(band.values))), most)
    listed = tuple(value for band in joined for value in band.values)
    rest = [value for value in counts if value not in listed]
    if not rest:
        return joined
    others = Band(sum(counts[each] for each in rest), sum(frauds[each] for each in rest), values=listed, others=True)
    return [*joined, others] if listed and others.events >= least else joined


def _weight(band: Band, bad: Any) -> float:
    """Weight of evidence: the log of how much larger the band's part of all fraud is than its part of all good events.
    Half an event more of each, so that none is without end."""
    frauds, good = int(bad.sum()), int((~bad).sum())
    return math.log(((band.bad + 0.5) / (frauds + 0.5)) / ((band.events - band.bad + 0.5) / (good + 0.5)))
