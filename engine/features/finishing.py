"""The value of a window, from an answer of the store that is not the value itself: exact, and rounded once."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, TypeAlias

from engine.expr import DURATION, MONEY, Window
from engine.features.facts import Compiler, Facts
from engine.features.giving import Give, argument_of
from engine.money import Money
from engine.stores import Ratio, Spread

Finish: TypeAlias = Callable[[Any, Facts, Any], Any]
"""The value of a window from an answer that is not the value itself."""

_EXACT_ENOUGH = Context(prec=400, rounding=ROUND_HALF_EVEN, traps=[])
_SIX_PLACES = Decimal("0.000001")


def finish_of(window: Window, compiler: Compiler) -> Finish:
    """How a window's value is made of its answer."""
    if window.function == "sum":
        assert window.argument is not None
        return _empty_money(argument_of(window.argument, compiler)) if window.argument.type == MONEY else _number
    if window.function in ("avg", "share", "percentile"):
        return _mean_duration if window.type == DURATION else _mean
    if window.steps:
        return _followed
    if not window.kinds:
        return _as_it_is
    if window.function == "stddev":
        return _deviation_duration if window.type == DURATION else _deviation
    return _as_it_is


def _as_it_is(answer: Any, *_: Any) -> Any:
    return answer


def _followed(answer: bool | None, *_: Any) -> bool:
    return answer is True  # Nothing follows where nothing is.


def _number(answer: Decimal | None, *_: Any) -> int | Decimal:
    return 0 if answer is None else answer


def _empty_money(argument: Give) -> Finish:
    def finish(_: Any, facts: Facts, env: Any) -> Money | None:
        own = argument(facts, env)
        return None if own is None else Money(0, own.currency)

    return finish


def _mean(ratio: Ratio | None, *_: Any) -> Decimal | Money | None:
    if ratio is None:
        return None
    # As engine.money.six_places, after a division that is exact enough for the rounding to be right at any size.
    mean = _EXACT_ENOUGH.quantize(_quotient(ratio), _SIX_PLACES)
    return Money(mean, ratio[0]) if ratio[0] else mean


def _mean_duration(ratio: Ratio | None, *_: Any) -> int | None:
    """Durations are whole microseconds, which are the sixth place of a second."""
    return None if ratio is None else int(_EXACT_ENOUGH.quantize(_quotient(ratio), Decimal(1)))


def _deviation(spread: Spread | None, *_: Any) -> Decimal | Money | None:
    root = _root(spread)
    if spread is None or root is None:
        return None
    deviation = _EXACT_ENOUGH.quantize(root, _SIX_PLACES)
    return Money(deviation, spread[0]) if spread[0] else deviation


def _deviation_duration(spread: Spread | None, *_: Any) -> int | None:
    root = _root(spread)
    return None if root is None else int(_EXACT_ENOUGH.quantize(root, Decimal(1)))


def _root(spread: Spread | None) -> Decimal | None:
    """The standard deviation of a sample, from its sums: exact up to the root itself."""
    if spread is None or spread[3] < 2:
        return None
    _, total, squares, size = spread
    work = _EXACT_ENOUGH
    above = work.subtract(work.multiply(Decimal(size), Decimal(squares)), work.multiply(Decimal(total), Decimal(total)))
    return work.sqrt(work.divide(above, Decimal(size * (size - 1))))


def _quotient(ratio: Ratio) -> Decimal:
    _, total, size = ratio
    return _EXACT_ENOUGH.divide(Decimal(total), Decimal(size))
