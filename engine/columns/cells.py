"""Values as columns: what an expression of each type is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import ibis

from engine.columns.macros import HUGE, MILLION, WHOLE, call


class Refused(Exception):
    """Columns cannot say this exactly; the message says why. The real engine answers it instead."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number: `raw` wholes, or millionths where `wide`. `loose` ones are sums of windows: a window counts a million
    events at most, so that they stay below 10^24, which leaves room for all arithmetic on millionths."""

    raw: Any
    wide: bool = False
    loose: bool = False

    def at(self, wide: bool) -> Any:
        """The integers, as millionths where `wide`; a wide one never becomes one of wholes."""
        return call("arb_wide", HUGE, self.raw) if wide and not self.wide else self.raw


@dataclass(frozen=True, slots=True)
class Amount:
    """Money: minor units, and the currency: a code where all are of one, else a column. Both are NULL together."""

    minor: Number
    currency: Any

    @property
    def single(self) -> bool:
        """Whether the currency is the same in every row."""
        return isinstance(self.currency, str)


@dataclass(frozen=True, slots=True)
class Items:
    """A list column of text or yes/no, or of integers: whole numbers (`numbers`), instants, durations."""

    raw: Any
    numbers: bool = False


Cell: TypeAlias = Any
"""Number, Amount, Items, or an ibis expression: yes/no as a boolean, text, instants and durations in microseconds.
What a condition writes as a list, a pattern, a zone or a name is the Python value itself."""


def truth(expression: Any) -> Any:
    """An ibis boolean for what may be a Python one."""
    return ibis.literal(expression) if isinstance(expression, bool) else expression


def unknown(kind: str) -> Any:
    """NULL of an ibis type. Not the literal: of a comparison with that ibis makes IS NULL."""
    return ibis.ifelse(ibis.literal(False), ibis.null(kind), ibis.null(kind))


def number(value: Any) -> Number:
    """A written number. Raises Refused where it has more than six places."""
    scaled = value * MILLION
    if scaled != int(scaled):
        raise Refused("a number with more than six decimal places")
    if abs(scaled) >= MILLION * 10**18:
        raise Refused("a number of 10^18 or more")
    wide = value != int(value)
    return Number(whole(int(scaled) if wide else int(value)), wide)


def whole(value: int) -> Any:
    """An integer of any size as an expression."""
    if -(2**63) <= value < 2**63:
        return ibis.literal(value, type=WHOLE)
    return call("arb_huge", HUGE, ibis.literal(str(value)))


def is_null(cell: Cell) -> Any:
    """Whether a cell is NULL."""
    if isinstance(cell, Amount):
        return is_null(cell.minor)
    if isinstance(cell, Number | Items):
        return cell.raw.isnull()
    return truth(cell).isnull()


def choose(condition: Any, one: Cell, other: Cell) -> Cell:
    """`one` where the condition holds, else `other` (None is NULL)."""
    if isinstance(one, Amount):
        return _choose_amount(condition, one, other)
    if isinstance(one, Number):
        wide = one.wide or (other is not None and other.wide)
        last = ibis.null() if other is None else other.at(wide)
        loose = one.loose or (other is not None and other.loose)
        return Number(ibis.ifelse(condition, one.at(wide), last), wide, loose)
    return ibis.ifelse(condition, truth(one), ibis.null() if other is None else truth(other))


def _choose_amount(condition: Any, one: Amount, other: Amount | None) -> Amount:
    minor = choose(condition, one.minor, other.minor if other else None)
    if one.single and (other is None or (other.single and other.currency == one.currency)):
        return Amount(minor, one.currency)
    last = ibis.null() if other is None else _currency(other)
    return Amount(minor, ibis.ifelse(condition, _currency(one), last))


def _currency(amount: Amount) -> Any:
    return ibis.literal(amount.currency) if amount.single else amount.currency
