"""Values as plain numbers, and as people write them: of many that find the same, the roundest."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from engine.expr import DURATION, MONEY, NUMBER, Type
from engine.money import Money
from engine.packs.moments import DAY

_GRID: dict[Type, Decimal | int] = {NUMBER: Decimal("0.000001"), MONEY: 1}
"""The finest step that a written value can have: six places, a minor unit."""
_HOUR, _MINUTE, _SECOND = 3_600_000_000, 60_000_000, 1_000_000
_DURATIONS: tuple[int, ...] = (DAY * 100, DAY * 10, DAY * 7, DAY, 12 * _HOUR, 6 * _HOUR, _HOUR)
_DURATIONS += (30 * _MINUTE, 10 * _MINUTE, 5 * _MINUTE, _MINUTE, 30 * _SECOND, 10 * _SECOND, _SECOND)
"""Steps of durations from coarse to fine, in microseconds: the finest that can be written is a second."""


def plain(value: Any, currency: str) -> Any:
    """A value that can be compared with a written one: an amount in minor units of `currency`, None where it is of
    another; everything else as it is."""
    if isinstance(value, Money):
        return value.minor if value.currency == currency else None
    return value


def roundest(low: Any, high: Any, type_: Type, *, first: bool) -> int | Decimal | None:
    """The roundest value that can be written from `low` to `high`: without the upper end where `first`, else without
    the lower one. None where no value that can be written lies there."""
    for step in _steps(type_, max(abs(low), abs(high))):
        value = _multiple(low, step, ROUND_CEILING) if first else _multiple(high, step, ROUND_FLOOR)
        if (low <= value < high) if first else (low < value <= high):
            return _tidy(value, type_)
    return None


def _multiple(value: Any, step: Any, rounding: str) -> Any:
    return int((Decimal(value) / Decimal(step)).to_integral_value(rounding)) * step


def _steps(type_: Type, largest: Any) -> Iterator[int | Decimal]:
    """Steps from coarse to fine, in plain numbers."""
    if type_ == DURATION:
        yield from _DURATIONS
        return
    grid = Decimal(_GRID[type_])
    step = Decimal(10) ** max(0, Decimal(largest).adjusted() + 1 if largest else 0)
    while step >= grid:
        for part in (step, step / 2, step / 5):
            if part >= grid and part % grid == 0:
                yield part
        step /= 10


def _tidy(value: Any, type_: Type) -> int | Decimal:
    if type_ == NUMBER and value != int(value):
        return Decimal(value).normalize()
    return int(value)
