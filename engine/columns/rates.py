"""Exchange at the rate of the day, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import ibis

from engine.columns.cells import Amount, Number, Refused
from engine.columns.macros import HUGE, MILLION, WHOLE, call
from engine.columns.steps import step
from engine.expr.nodes import EPOCH
from engine.money import CURRENCIES, Rates

MOST = 2_000
"""Rates of one currency that an expression chooses among."""
_DIGITS = 12
_HIGHEST = 10**14
"""Millionths of the target's minor unit for one of the source. Times the largest amount that is 10^32, the highest
quotient that Spark's decimals have."""


@dataclass(frozen=True)
class Exchange:
    """The rates that hold for rows received from `first` to `last` (UTC µs); `codes` are the currencies that the rows
    have."""

    rates: Rates
    first: int
    last: int
    codes: Sequence[str]

    def convert(self, amount: Amount, currency: str, now: Any) -> Amount:
        """The amount in another currency. Raises Refused where a rate of two would be needed, or the amount is a
        computed one: online, such a product is rounded on its way."""
        sources = [amount.currency] if amount.single else [code for code in self.codes if code != currency]
        if sources == [currency]:
            return amount
        if currency != self.rates.base:
            raise Refused(f"an exchange into {currency}, which goes by way of {self.rates.base}")
        if amount.minor.wide or amount.minor.loose:
            raise Refused("an exchange of a computed amount")
        minor = amount.minor
        if amount.single:
            return Amount(Number(self._minor(minor.raw, amount.currency, currency, now), True), currency)
        found = ibis.ifelse(amount.currency == currency, minor.at(True), ibis.null())
        for code in sources:
            found = ibis.ifelse(amount.currency == code, self._minor(minor.raw, code, currency, now), found)
        return Amount(Number(found, True), currency)

    def _minor(self, raw: Any, source: str, target: str, now: Any) -> Any:
        """Millionths of the minor unit, half-even; NULL before the first day that has a rate."""
        shift = CURRENCIES[target] - CURRENCIES[source] + 6
        steps = [(at, _scaled(rate, shift)) for at, rate in self._steps(source)]
        if not steps:
            return call("arb_huge", HUGE, ibis.null(WHOLE))
        places = max(below for _, (_, below) in steps)
        factors = [(at, above * 10 ** (places - below)) for at, (above, below) in steps]
        highest = max(factor for _, factor in factors)
        if highest >= 2**63:
            raise Refused("rates with too many digits")
        if highest >= _HIGHEST * 10**places:
            raise Refused("a rate so high that an amount may have more than 32 digits")
        factor = ibis.ifelse(now < steps[0][0], ibis.null(WHOLE), step(now, factors))
        product = call("arb_times", HUGE, raw, factor)
        return call("arb_half_even", HUGE, product, 10**places) if places else product

    def _steps(self, source: str) -> list[tuple[int, Decimal]]:
        days = [(_midnight(day), rate) for day, rate in self.rates.table.get(source, ()) if _midnight(day) <= self.last]
        begun = max((at for at, _ in days if at <= self.first), default=None)
        steps = [(at, rate) for at, rate in days if begun is None or at >= begun]
        if len(steps) > MOST:
            raise Refused(f"more than {MOST:,} rates of {source} in the time of the data")
        return steps


def _scaled(rate: Decimal, shift: int) -> tuple[int, int]:
    """(factor, places): minor units times factor, over 10^places, are millionths of the target's minor units."""
    scaled = rate.scaleb(shift).normalize()
    places = max(0, -int(scaled.as_tuple().exponent))
    above = int(scaled.scaleb(places))
    if above >= 10**_DIGITS * MILLION:
        raise Refused("a rate with too many digits")
    return above, places


def _midnight(day: date) -> int:
    return (day - EPOCH.date()) // timedelta(microseconds=1)
