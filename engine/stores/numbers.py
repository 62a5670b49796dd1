"""Exact numbers: integers while they are, and Decimals that keep every digit."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

EXACT = Context(prec=400, traps=[Inexact, InvalidOperation])
"""Sums keep every digit; a number with so many that it would not is our mistake, and raises."""


def plain(number: int | Decimal) -> int | Decimal:
    """The same number in its one plain form: an int when whole, otherwise a Decimal without trailing zeros."""
    if isinstance(number, int):
        return number
    return int(number) if number == number.to_integral_value() else EXACT.normalize(number)


def parsed(text: str) -> int | Decimal:
    """A plain number from its text."""
    return int(text) if text.removeprefix("-").isdigit() else Decimal(text)


def plus(one: Any, other: Any) -> Any:
    # `+` on Decimals rounds to the thread's precision of 28 digits without a word.
    return one + other if type(one) is int and type(other) is int else EXACT.add(one, other)


def times(one: Any, other: Any) -> Any:
    return one * other if type(one) is int and type(other) is int else EXACT.multiply(one, other)


def minus(one: Any, other: Any) -> Any:
    return one - other if type(one) is int and type(other) is int else EXACT.subtract(one, other)


def squares(numbers: Iterable[int | Decimal]) -> int | Decimal:
    total: int | Decimal = 0
    for number in numbers:
        total = plus(total, times(number, number))
    return total
