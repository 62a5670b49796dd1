"""A score as a percentile of the training population: to a tenth, from 99 on to a hundredth.

The table of a population holds one score for each step of `GRID`: the smallest that at least so many percent of the
population do not pass.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from decimal import Decimal

GRID = tuple(Decimal(step).scaleb(-1) for step in range(990)) + tuple(
    Decimal(step).scaleb(-2) for step in range(9900, 10_001)
)
"""The percentiles there are, from 0 to 100."""


def table(scores: Sequence[float]) -> list[float]:
    """The table of a population's scores."""
    ordered = sorted(scores)
    size = len(ordered)
    # The k-th smallest is the first that k of `size` do not pass; integers keep 99.9 % of 1,000 at exactly 999.
    ranks = (-(-int(step * 100) * size // 10_000) for step in GRID)
    return [ordered[max(rank, 1) - 1] for rank in ranks]


def percentile(scores: Sequence[float], score: float) -> Decimal:
    """Of which percentage of the population it is known that their scores are below `score`; 100 is above all."""
    return GRID[max(bisect_left(scores, score) - 1, 0)]
