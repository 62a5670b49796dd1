"""Numbers, amounts and times as plain numbers that can be reckoned with, and as an event writes them.

A plain number is the number itself, minor units of a currency, or microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from engine.expr import DURATION, INSTANT, spell
from engine.money import Money
from engine.packs.moments import BEIJING
from engine.rules import show
from engine.schema import FieldDef, duration, exact, instant

SECOND = 1_000_000
HOUR = 3_600 * SECOND
_READERS: Mapping[str, Callable[[Any], int | Decimal]] = {
    "number": exact,
    "money": lambda text: Money.parse(str(text)).minor,
    "duration": duration,
    "instant": instant,
}
MEASURED = frozenset(_READERS)
"""The types of which there is always one value more."""


def measured(field: FieldDef) -> bool:
    """Whether a field holds such a value. The time of the event itself is varied in a way of its own."""
    return field.type in MEASURED and field.path != "at"


def step_of(field: FieldDef) -> Fraction:
    """The smallest step from one value of a field to the next that is tried."""
    if field.type == "number" and not field.form.whole:
        return Fraction(1, 100)
    return Fraction(SECOND) if field.type in ("instant", "duration") else Fraction(1)


def as_number(value: Any, type_: str) -> Fraction | None:
    """A value that an event writes as a plain number; None for what is none."""
    try:
        return Fraction(_READERS[type_](value))
    except ValueError:
        return None


def as_written(value: Fraction | int | Decimal, type_: str, currency: str = "") -> Any:
    """A plain number as an event writes it."""
    match type_:
        case "number":
            exactly = Fraction(value)
            return int(exactly) if exactly.denominator == 1 else Decimal(exactly.numerator) / exactly.denominator
        case "money":
            return str(Money(int(value), currency))
        case "duration":
            return spell(int(value), DURATION)
    return moment(int(value))


def apart(left: Any, right: Any) -> Fraction | None:
    """By how much one value of a condition is more than another; None where that cannot be said."""
    if left is None or right is None:
        return None
    if isinstance(left, Money) and isinstance(right, Money):
        return Fraction(left.minor) - Fraction(right.minor) if left.currency == right.currency else None
    return Fraction(left) - Fraction(right)


def moment(microseconds: int) -> str:
    """An instant as a test writes it, in the zone of its reader."""
    return show(microseconds, INSTANT, "en", BEIJING)
