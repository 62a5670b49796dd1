"""What a threshold must keep, such as `fpr <= 0.5%` or `alerts <= 50/d`, and whether it does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from engine.errors import did_you_mean
from engine.packs.moments import DAY
from engine.proportions import Interval
from engine.tuning.curve import Figures, Period

MEASURES = {"fpr": "<=", "alerts": "<=", "recall": ">=", "precision": ">="}
"""What can be limited, and how."""
_WRITTEN = re.compile(r"\s*([a-z]+)\s*(<=|>=|<|>|=)\s*([0-9]+(?:\.[0-9]+)?)\s*(%|/[mhd])?\s*")
_EXAMPLE = "write it as 'fpr <= 0.5%', 'alerts <= 50/d', 'precision >= 30%' or 'recall >= 80%'"
_PER_DAY = {"/m": 1440, "/h": 24, "/d": 1}


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit. `value` is a share, of alerts a number a day."""

    measure: str
    value: float
    text: str

    @property
    def most(self) -> bool:
        """Whether it is an upper one."""
        return MEASURES[self.measure] == "<="

    def keeps(self, value: float) -> bool:
        """Whether a figure is within it."""
        return value <= self.value if self.most else value >= self.value


def read_limit(text: str) -> Limit:
    """The limit as written. Raises ValueError with how to write it."""
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise ValueError(_EXAMPLE)
    measure, sign, number, unit = found.groups()
    if measure not in MEASURES:
        raise ValueError(f"nothing is called '{measure}'; {did_you_mean(measure, MEASURES) or _EXAMPLE}")
    if sign != MEASURES[measure]:
        raise ValueError(f"{measure} is limited by '{MEASURES[measure]}'; {_EXAMPLE}")
    rate = unit in _PER_DAY
    if rate != (measure == "alerts"):
        raise ValueError("alerts are counted by time, such as 50/d" if not rate else "it is a share, such as 0.5%")
    if not unit:
        raise ValueError(f"a share is written with %: {number}%, or {(100 * Decimal(number)).normalize():f}%")
    value = float(Decimal(number) * _PER_DAY[unit]) if rate else float(Decimal(number) / 100)
    if not rate and value > 1:
        raise ValueError("a share is at most 100%")
    return Limit(measure, value, f"{measure} {sign} {number}{unit}")


def within(limits: Sequence[Limit], tallies: Any, period: Period) -> Any:
    """A mask of the tallies (rows) of a period that keep all limits."""
    kept = np.ones(len(tallies), bool)
    for limit in limits:
        hits, of = _share(limit, tallies, period)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = hits / of
        kept &= (share <= limit.value) if limit.most else (share >= limit.value)  # a share of nothing keeps none
    return kept


def _share(limit: Limit, tallies: Any, period: Period) -> tuple[Any, Any]:
    events, bad = tallies[:, 0], tallies[:, 1]
    if limit.measure == "fpr":
        return events - bad, np.float64(period.all.good)
    if limit.measure == "alerts":
        return events * float(DAY), np.float64(period.span)
    return bad, np.float64(period.all.bad) if limit.measure == "recall" else events.astype(float)


@dataclass(frozen=True, slots=True)
class Kept:
    """How a limit fared. `kept` by the figure itself; `chance`: it is not, but the interval reaches the limit."""

    limit: Limit
    figure: Interval | None
    kept: bool
    chance: bool


def fared(limits: Sequence[Limit], figures: Figures) -> tuple[Kept, ...]:
    """Every limit against the figures of a period."""
    return tuple(_fared(limit, getattr(figures, limit.measure)) for limit in limits)


def _fared(limit: Limit, figure: Interval | None) -> Kept:
    if figure is None:
        return Kept(limit, None, False, False)
    kept = limit.keeps(figure.value)
    return Kept(limit, figure, kept, not kept and limit.keeps(figure.low if limit.most else figure.high))


def fallen(fit: Figures, later: Figures) -> Iterator[str]:
    """The figures that are worse later than in the fit by more than chance: their intervals lie apart."""
    for name, sign in MEASURES.items():
        before, after = getattr(fit, name), getattr(later, name)
        if before is None or after is None:
            continue
        if (after.low > before.high) if sign == "<=" else (after.high < before.low):
            yield name
