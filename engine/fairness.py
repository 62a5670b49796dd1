"""Are different people asked different prices for the same goods? A stratified permutation test.

    compared(sold, 0.05, 0.01)      one Comparison for each group of each trait

Prices are compared within strata alone: the same goods on the same day in the same currency. If who a buyer is does
not matter, then within a stratum any price could have been anybody's: labels are exchangeable there. The sum of the
logarithms of a group's prices, less what its strata make of it, has then a mean of 0 and a variance that is known
exactly, whatever the prices look like (Strasser and Weber, "On the asymptotic theory of permutation statistics",
1999; stratified as by van Elteren, 1960); with enough cases it is normal. The difference is that of a regression with
a constant for each stratum, its interval from the variance that does not suppose equal spread (White, 1980). Of all
groups that are tested the p-values are corrected together (Holm, 1979): a difference is told where there is none in
at most `alpha` of all reports, not of all groups.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import erfc, exp, log, sqrt
from statistics import NormalDist
from typing import NamedTuple

_NORMAL = NormalDist()
FEWEST = 30
"""Prices of a group, and of the others, in strata that tell something; fewer are not tested."""
FEWEST_STRATA = 10
"""Strata in which a group and others bought, and prices differ at all."""


class Sold(NamedTuple):
    """What one buyer paid for goods on a day: the stratum, the buyer ("" where unknown), the price (minor units), and
    the buyer's group by trait."""

    stratum: tuple[str, ...]
    buyer: str
    price: float
    groups: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A group against all others. `prices` and `strata` are those that tell something. `difference` is that of the
    group's prices, as a part of the others'; `low` and `high` the ends of its interval. `p` is corrected; None, and no
    difference, where there are too few. `differs`: more than chance, and more than is worth knowing."""

    trait: str
    group: str
    prices: int
    strata: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    differs: bool = False


class _Test(NamedTuple):
    """Sums over strata: of the group's centred prices, their variance under exchange, of squares, and of squared
    products of residuals."""

    prices: int
    members: int
    strata: int
    slope: float
    z: float
    error: float


def compared(sold: Iterable[Sold], alpha: float = 0.05, least: float = 0.01) -> list[Comparison]:
    """Every group of every trait against all others, the surest difference first. `least`: the part of a price from
    which a difference is worth knowing."""
    units = _one_each(sold)
    traits = sorted({trait for unit in units for trait in unit.groups})
    found: list[tuple[Comparison, float | None]] = []
    for trait in traits:
        mine = [unit for unit in units if trait in unit.groups]
        names = sorted(Counter(unit.groups[trait] for unit in mine))
        # Of two groups each is the other's opposite: one test says it all.
        tested = names[: len(names) if len(names) > 2 else len(names) - 1]
        found += [_compared(trait, name, mine, alpha) for name in tested]
    return _judged(found, alpha, least)


def _one_each(sold: Iterable[Sold]) -> list[Sold]:
    """One price a buyer and stratum, the mean of what they paid: who buys ten times is no ten persons."""
    prices: dict[tuple[tuple[str, ...], str], list[Sold]] = defaultdict(list)
    for number, each in enumerate(sold):
        assert each.price > 0, "a price is more than nothing"
        prices[each.stratum, each.buyer or f"\0{number}"].append(each)
    return [mine[0]._replace(price=exp(sum(log(each.price) for each in mine) / len(mine))) for mine in prices.values()]


def _compared(trait: str, name: str, units: Sequence[Sold], alpha: float) -> tuple[Comparison, float | None]:
    strata: dict[tuple[str, ...], list[tuple[bool, float]]] = defaultdict(list)
    for unit in units:
        strata[unit.stratum].append((unit.groups[trait] == name, log(unit.price)))
    test = _test(strata.values())
    bare = Comparison(trait, name, test.prices, test.strata)
    if test.members < FEWEST or test.prices - test.members < FEWEST or test.strata < FEWEST_STRATA:
        return bare, None
    half = _NORMAL.inv_cdf(1 - alpha / 2) * test.error
    ends = (exp(each) - 1 for each in (test.slope, test.slope - half, test.slope + half))
    difference, low, high = ends
    return replace(bare, difference=difference, low=low, high=high), erfc(abs(test.z) / sqrt(2))


def _test(strata: Iterable[Sequence[tuple[bool, float]]]) -> _Test:
    """The sums over the strata in which both bought and prices differ: elsewhere nothing is told."""
    prices = members = count = 0
    product = spread = squares = 0.0
    rows: list[tuple[float, float]] = []
    for stratum in strata:
        n, mine = len(stratum), sum(is_mine for is_mine, _ in stratum)
        values = [value for _, value in stratum]
        if not 0 < mine < n or max(values) - min(values) < 1e-9:
            continue
        share, mean = mine / n, sum(values) / n
        centred = [(is_mine - share, value - mean) for is_mine, value in stratum]
        dd, yy = sum(d * d for d, _ in centred), sum(y * y for _, y in centred)
        product += sum(d * y for d, y in centred)
        spread += dd * yy / (n - 1)
        squares += dd
        rows += centred
        prices, members, count = prices + n, members + mine, count + 1
    if not squares or not spread:
        return _Test(prices, members, count, 0.0, 0.0, 0.0)
    slope = product / squares
    meat = sum((d * (y - slope * d)) ** 2 for d, y in rows)
    # A constant was taken out of each stratum: so many fewer cases are free.
    free = max(prices - count - 1, 1)
    error = sqrt(meat * prices / free) / squares
    return _Test(prices, members, count, slope, product / sqrt(spread), error)


def _judged(found: Sequence[tuple[Comparison, float | None]], alpha: float, least: float) -> list[Comparison]:
    tested = sorted((p, number) for number, (_, p) in enumerate(found) if p is not None)
    corrected: dict[int, float] = {}
    highest = 0.0
    for rank, (bare, number) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * bare))
        corrected[number] = highest
    judged = []
    for number, (each, _) in enumerate(found):
        p = corrected.get(number)
        large = each.difference is not None and abs(each.difference) >= least
        judged.append(replace(each, p=p, differs=p is not None and p < alpha and large))
    return sorted(judged, key=lambda each: (1.0 if each.p is None else each.p, each.trait, each.group))
