"""A sorted bag of numbers, and what a rank in it is."""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, Self

from engine.money import Money
from engine.stores.contract import LEAST, MOST, PERCENTILE, Answer, Gap


class Sorted:
    """A sorted bag of times, or of other numbers (`of`).

    Adding at the end, taking out anywhere and counting cost about the same at any size the cap allows: blocks of at
    most `WIDTH`, so that no operation moves more.
    """

    WIDTH = 8192
    __slots__ = ("_blocks", "_size", "_tops")

    def __init__(self) -> None:
        self._blocks: list[Any] = [array("q")]
        """None is empty but a first that stands alone."""
        self._tops: list[Any] = []
        """The largest of each block but the last."""
        self._size = 0

    @classmethod
    def of(cls, numbers: Iterable[int | Decimal]) -> Self:
        """A bag of numbers of any size, also Decimals."""
        self, ordered = cls(), sorted(numbers)
        blocks = [ordered[start : start + cls.WIDTH] for start in range(0, len(ordered), cls.WIDTH)]
        self._blocks = blocks or [[]]
        self._tops = [block[-1] for block in blocks[:-1]]
        self._size = len(ordered)
        return self

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: int) -> Any:
        """The number with so many before it."""
        if place <= self._size // 2:
            for block in self._blocks:
                if place < len(block):
                    return block[place]
                place -= len(block)
        place -= self._size  # From the end: high ranks are asked for most.
        for block in reversed(self._blocks):
            if -place <= len(block):
                return block[place]
            place += len(block)
        raise IndexError(place)

    def add(self, time: Any) -> None:
        place = bisect_left(self._tops, time)
        self._size += 1
        insort(self._blocks[place], time)
        if len(self._blocks[place]) > self.WIDTH:
            self._split(place)

    def discard(self, time: Any) -> None:
        """Take out one that is there."""
        place = bisect_left(self._tops, time)
        block = self._blocks[place]
        self._size -= 1
        del block[bisect_left(block, time)]
        if place < len(self._tops):
            if block:
                self._tops[place] = block[-1]
            else:
                del self._blocks[place], self._tops[place]
        elif not block and place:
            del self._blocks[place], self._tops[place - 1]

    def move(self, old: int | None, new: int) -> None:
        """Take out one, and add another that is not before any that is there."""
        if self._tops:
            if old is not None:
                self.discard(old)
            self.add(new)
        else:  # Small bags are by far the most.
            block = self._blocks[0]
            if old is None:
                self._size += 1
            else:
                del block[bisect_left(block, old)]
            block.append(new)
            if len(block) > self.WIDTH:
                self._split(0)

    def since(self, time: Any) -> int:
        """How many are not before `time`."""
        if not self._tops:
            block = self._blocks[0]
            return len(block) - bisect_left(block, time)
        place = bisect_left(self._tops, time)
        before = bisect_left(self._blocks[place], time)
        if place > len(self._tops) // 2:
            return len(self._blocks[place]) - before + sum(map(len, self._blocks[place + 1 :]))
        return self._size - before - sum(map(len, self._blocks[:place]))

    def _split(self, place: int) -> None:
        # Times mostly come at the end: a full last block stays full.
        block = self._blocks[place]
        half = len(block) // 2 if place < len(self._tops) else self.WIDTH
        self._blocks[place : place + 1] = [block[:half], block[half:]]
        self._tops.insert(place, block[half - 1])


def ranked(what: str, numbers: Sorted, unit: str, own: Any) -> Answer:
    """What is asked of some numbers of one unit, at least one, in order."""
    size = len(numbers)
    if what == PERCENTILE:
        if own is None:
            return None
        return Gap.MIXED if own[0] != unit else ("", 100 * (size - numbers.since(own[1])), size)
    return priced(numbers[rank(what, size) - 1], unit)


def rank(what: str, size: int) -> int:
    """Which one of so many numbers in order is asked for: 1 for the smallest."""
    if what == LEAST:
        return 1
    if what == MOST:
        return size
    share = _share(what)
    return max(1, -(-share.numerator * size // share.denominator))


new: Callable[..., Any] = tuple.__new__
"""Makes Money in a third of the time that a NamedTuple's own constructor takes; a reading holds many."""


def priced(number: Any, unit: str) -> Answer:
    """A number with its unit."""
    money: Money = new(Money, (number, unit)) if unit else number
    return money


@lru_cache(maxsize=1024)
def _share(what: str) -> Fraction:
    return Fraction(what.removeprefix("quantile "))
