"""Shares of what was counted, and how far chance alone may have moved them."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

_NORMAL = NormalDist()


class Interval(NamedTuple):
    """A share, and the ends of its interval."""

    value: float
    low: float
    high: float


def wilson(hits: int, of: int, alpha: float = 0.05) -> Interval | None:
    """The share with its score interval of 1 - alpha (Wilson, "Probable inference", JASA 22, 1927), which holds for
    small numbers and near 0 and 1; None for a share of nothing."""
    if not of:
        return None
    share, z = hits / of, _NORMAL.inv_cdf(1 - alpha / 2)
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))
