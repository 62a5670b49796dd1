"""What approximate windows keep of many values: sketches of a fixed size, which can be put together.

A sketch is a function of the set of values alone: neither their order nor how they were spread over the sketches that
were merged shows in it. `mark` is what an event's value comes to; sketches are made of marks.

    Tally       sums by unit: exact
    Squares     sums and sums of squares by unit: exact
    Uniques     how many different texts: HyperLogLog (Flajolet et al., AofA 2007) with a 64-bit hash (Heule et al.,
                EDBT 2013) and the estimator of Ertl (arXiv:1702.01284, algorithm 6), which needs no table of
                corrections. 2^12 registers: a standard error of 1.04 / 64 = 1.63 %
    Spectrum    numbers in bins no wider than 1/128 of what they hold: DDSketch (Masson et al., VLDB 2019), with the
                logarithm interpolated linearly between powers of two, so that bins are found by integers alone

The hash has no secret: a ledger gives the same answer wherever it is read. Who may choose texts that are counted as
they are can therefore mislead Uniques; identifiers are counted by their pseudonyms, which nobody outside can choose.
"""

from __future__ import annotations

from array import array
from decimal import Decimal
from hashlib import blake2b
from math import inf, log, sqrt
from typing import Any, Protocol

import numpy as np

from engine.stores.bag import priced, rank
from engine.stores.contract import (
    FLAGS,
    MEAN,
    PERCENTILE,
    RANKED,
    SPREAD,
    SQUARES,
    SUM,
    SUMS,
    VALUES,
    Amount,
    Answer,
    Gap,
)
from engine.stores.numbers import EXACT, plain, plus, times


class Sketch(Protocol):
    """What is kept of one column of some events."""

    @staticmethod
    def mark(value: Any) -> Any:
        """What an event's value comes to."""

    def add(self, mark: Any) -> None:
        """Count one value."""

    def merge(self, other: Any) -> None:
        """Count all that another sketch of this kind has counted."""

    def answer(self, what: str, own: Any, /) -> Answer:
        """As a store answers; `own` is the mark of the event that asks, where it has one."""


class Tally:
    """How many numbers there are and what they come to, by unit."""

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums: dict[str, list[Any]] = {}

    @staticmethod
    def mark(value: Amount) -> Amount:
        return value

    def add(self, mark: Amount) -> None:
        unit, number = mark
        sums = self._sums.get(unit)
        if sums is None:
            self._sums[unit] = [1, number]
        else:
            sums[0] += 1
            sums[1] = plus(sums[1], number)

    def merge(self, other: Tally) -> None:
        for unit, more in other._sums.items():
            sums = self._sums.get(unit)
            self._sums[unit] = list(more) if sums is None else [plus(*pair) for pair in zip(sums, more, strict=True)]

    def answer(self, what: str, _: Any) -> Answer:
        if len(self._sums) != 1:
            return Gap.MIXED if self._sums else None
        ((unit, (size, *sums)),) = self._sums.items()
        sums = [plain(number) for number in sums]
        if what == SUM:
            return priced(sums[0], unit)
        if what == MEAN:
            return unit, sums[0], size
        assert what == SPREAD, what
        return unit, sums[0], sums[1], size


class Squares(Tally):
    """The sum of the squares too."""

    __slots__ = ()

    def add(self, mark: Amount) -> None:
        unit, number = mark
        sums = self._sums.get(unit)
        if sums is None:
            self._sums[unit] = [1, number, times(number, number)]
        else:
            sums[0] += 1
            sums[1] = plus(sums[1], number)
            sums[2] = plus(sums[2], times(number, number))


PRECISION = 12
REGISTERS = 1 << PRECISION
_RANKS = 64 - PRECISION
_FEW = 64
"""Registers that are kept one by one: up to here a dict takes less room than all of them."""
_ALPHA = 1 / (2 * log(2))


class Uniques:
    """How many different texts there are, from the longest run of zeros in their hashes by register."""

    __slots__ = ("_estimate", "_few", "_registers")

    def __init__(self) -> None:
        self._few: dict[int, int] = {}
        self._registers: bytearray | None = None
        self._estimate: int | None = 0

    @staticmethod
    def mark(value: str) -> int:
        """The register and, in the lowest six bits, one more than the zeros that lead the rest of the hash."""
        number = int.from_bytes(blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest())
        return (number & REGISTERS - 1) << 6 | _RANKS + 1 - (number >> PRECISION).bit_length()

    def add(self, mark: int) -> None:
        place, zeros = mark >> 6, mark & 63
        if self._registers is None:
            if zeros > self._few.get(place, 0):
                self._few[place] = zeros
                self._estimate = None
                if len(self._few) > _FEW:
                    self._spread()
        elif zeros > self._registers[place]:
            self._registers[place] = zeros
            self._estimate = None

    def merge(self, other: Uniques) -> None:
        if other._registers is None:
            for place, zeros in other._few.items():
                self.add(place << 6 | zeros)
            return
        mine = np.frombuffer(self._spread(), np.uint8)
        np.maximum(mine, np.frombuffer(other._registers, np.uint8), out=mine)
        self._estimate = None

    def _spread(self) -> bytearray:
        """All registers."""
        if self._registers is None:
            self._registers = bytearray(REGISTERS)
            for place, zeros in self._few.items():
                self._registers[place] = zeros
            self._few = {}
        return self._registers

    def answer(self, *_: Any) -> int:
        if self._estimate is None:
            self._estimate = int(_estimated(self._counts()) + 0.5)
        return self._estimate

    def _counts(self) -> list[int]:
        """How many registers have 0, 1, 2 … zeros."""
        if self._registers is not None:
            found: list[int] = np.bincount(np.frombuffer(self._registers, np.uint8), minlength=_RANKS + 2).tolist()
            return found
        counts = [REGISTERS - len(self._few), *[0] * (_RANKS + 1)]
        for zeros in self._few.values():
            counts[zeros] += 1
        return counts


def _estimated(counts: list[int]) -> float:
    """Ertl's improved raw estimator."""
    size = float(REGISTERS)
    total = size * _tau(1 - counts[_RANKS + 1] / size)
    for count in reversed(counts[1 : _RANKS + 1]):
        total = 0.5 * (total + count)
    return _ALPHA * size * size / (total + size * _sigma(counts[0] / size))


def _sigma(x: float) -> float:
    if x == 1:
        return inf
    weight, total, before = 1.0, x, -1.0
    while total != before:
        x, before = x * x, total
        total += x * weight
        weight *= 2
    return total


def _tau(x: float) -> float:
    if x in (0, 1):
        return 0.0
    weight, total, before = 1.0, 1 - x, -1.0
    while total != before:
        x, before = sqrt(x), total
        weight *= 0.5
        total -= (1 - x) ** 2 * weight
    return total / 3


STEPS_OF_TWO = 7
"""A power of two is cut into 2^7 bins: none is wider than 1/128 of the smallest number in it."""
_WHOLE = 10**6
"""Numbers have six places; further ones are cut off."""
_ROOM = 32


def bin_of(number: int | Decimal) -> int:
    """The bin of a number. Bins are in the order of their numbers; that of -x is the opposite of that of x."""
    scaled = number * _WHOLE if type(number) is int else int(EXACT.scaleb(Decimal(number), 6))
    size = abs(scaled)
    shift = size.bit_length() - STEPS_OF_TWO - 1
    place = size if shift <= 0 else (shift << STEPS_OF_TWO) + (size >> shift)
    return place if scaled >= 0 else -place


def middle(place: int) -> int | Decimal:
    """The number that stands for a bin: the middle one of its whole numbers, or of all if it has none."""
    size = abs(place)
    shift = max(0, (size >> STEPS_OF_TWO) - 1)
    low = size - (shift << STEPS_OF_TWO) << shift
    high = low + (1 << shift) - 1
    first, last = -(-low // _WHOLE), high // _WHOLE
    sign = 1 if place >= 0 else -1
    if first <= last:
        return sign * ((first + last) // 2)
    return plain(EXACT.scaleb(Decimal(sign * ((low + high) // 2)), -6))


class _Bins:
    """How many numbers each bin has: from the bin `low` on, as far as there are any."""

    __slots__ = ("counts", "low", "size")

    def __init__(self, place: int) -> None:
        self.low = place
        self.counts = array("Q", [0])
        self.size = 0

    def add(self, place: int) -> None:
        if not 0 <= place - self.low < len(self.counts):
            self._reach(place - _ROOM, place + _ROOM)
        self.counts[place - self.low] += 1
        self.size += 1

    def merge(self, other: _Bins) -> None:
        self._reach(other.low, other.low + len(other.counts) - 1)
        begin = other.low - self.low
        mine = np.frombuffer(self.counts, np.uint64)[begin : begin + len(other.counts)]
        mine += np.frombuffer(other.counts, np.uint64)
        self.size += other.size

    def _reach(self, low: int, high: int) -> None:
        before, behind = self.low - low, high - self.low - len(self.counts) + 1
        if before > 0:
            self.counts = array("Q", bytes(8 * before)) + self.counts
            self.low = low
        if behind > 0:
            self.counts.frombytes(bytes(8 * behind))

    def at(self, rank: int) -> int:
        """The bin of the number with this rank, 1 for the smallest."""
        return self.low + int(np.searchsorted(np.cumsum(np.frombuffer(self.counts, np.uint64)), rank))

    def below(self, place: int) -> int:
        """How many numbers stand in bins before this one."""
        return int(np.frombuffer(self.counts, np.uint64)[: max(0, place - self.low)].sum())


class Spectrum:
    """How numbers are spread, by unit."""

    __slots__ = ("_bins",)

    def __init__(self) -> None:
        self._bins: dict[str, _Bins] = {}

    @staticmethod
    def mark(value: Amount) -> tuple[str, int]:
        return value[0], bin_of(value[1])

    def add(self, mark: tuple[str, int]) -> None:
        unit, place = mark
        bins = self._bins.get(unit)
        if bins is None:
            bins = self._bins[unit] = _Bins(place)
        bins.add(place)

    def merge(self, other: Spectrum) -> None:
        for unit, bins in other._bins.items():
            if unit not in self._bins:
                self._bins[unit] = _Bins(bins.low)
            self._bins[unit].merge(bins)

    def answer(self, what: str, own: tuple[str, int] | None) -> Answer:
        if len(self._bins) != 1:
            return Gap.MIXED if self._bins else None
        ((unit, bins),) = self._bins.items()
        if what == PERCENTILE:
            if own is None:
                return None
            return Gap.MIXED if own[0] != unit else ("", 100 * bins.below(own[1]), bins.size)
        return priced(middle(bins.at(rank(what, bins.size))), unit)


SKETCHES: dict[str, type[Sketch]] = {
    SUMS: Tally,
    FLAGS: Tally,
    SQUARES: Squares,
    VALUES: Uniques,
    RANKED: Spectrum,
}
"""By what a column holds. Runs and steps of a pattern need every event in its order."""
