"""The file of exchange rates: `policies/rates/*.yaml`.

rates: CNY
about: Month-end rates of the bank we settle with.
days:
  2026-10-31: {USD: 7.0850, EUR: 8.2210}      # CNY for one unit; holds from this day until the next row
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field

from engine.errors import PackError, Problem, did_you_mean
from engine.money import CURRENCIES, Rates
from engine.packs import Document, Text, fit

BASE = "CNY"
"""The base of an empty table."""

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_MOST = Decimal(10**9)


class RatesPack(BaseModel):
    """Dated rates: for each day, units of the base currency for one unit of another."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: Text = Field(alias="rates", description="the currency that all rates are given in, such as CNY")
    about: Text = Field(min_length=1, max_length=2000, description="where the rates come from")
    sample: bool = Field(default=False, description="true while the rates are examples, not anybody's real rates")
    days: dict[Text, dict[Text, Decimal]] = Field(description="day → currency → rate")


def read_rates(documents: Iterable[Document]) -> Rates:
    """The rates of the given files, of which there may be one at most. Raises PackError with every problem.

    Without a file no two currencies can be converted.
    """
    found: list[Rates] = []
    problems: list[Problem] = []
    for document in documents:
        fits = fit(document, RatesPack)
        wrong = [*fits.problems]
        if found:
            problems.append(document.problem(("rates",), "there is a second file of rates", "keep all days in one"))
        if fits.pack is not None:
            wrong += fits.beyond(_problems(fits.document, fits.pack))
        problems += wrong
        found.append(Rates(BASE, {}) if wrong or fits.pack is None else _rates(fits.pack))
    if problems:
        raise PackError(problems)
    return found[0] if found else Rates(BASE, {})


def _rates(pack: RatesPack) -> Rates:
    table: dict[str, list[tuple[date, Decimal]]] = {}
    for day, row in pack.days.items():
        for currency, rate in row.items():
            table.setdefault(str(currency), []).append((date.fromisoformat(day), rate))
    return Rates(str(pack.base), {currency: tuple(rows) for currency, rows in table.items()})


def _problems(document: Document, pack: RatesPack) -> Iterator[Problem]:
    if pack.base not in CURRENCIES:
        yield document.problem(("rates",), f"'{pack.base}' is no currency", did_you_mean(pack.base, CURRENCIES))
    before = ""
    for day, row in pack.days.items():
        loc = ("days", str(day))
        if not _is_day(day):
            yield document.problem(loc, f"'{day}' is no day", "write it as 2026-10-31", key=True)
            continue
        if day <= before:
            yield document.problem(
                loc, f"this day comes after {before}", "put the days in order, oldest first", key=True
            )
        before = day
        yield from _row_problems(document, pack, str(day), row)


def _row_problems(document: Document, pack: RatesPack, day: str, row: dict[Text, Decimal]) -> Iterator[Problem]:
    for currency, rate in row.items():
        loc = ("days", day, str(currency))
        if currency not in CURRENCIES:
            yield document.problem(loc, f"'{currency}' is no currency", did_you_mean(currency, CURRENCIES), key=True)
        elif currency == pack.base:
            yield document.problem(loc, f"{currency} is the base: its rate is 1", "leave it out", key=True)
        if not 0 < rate < _MOST:
            yield document.problem(loc, f"a rate is a number above 0 and below {_MOST:,}")


def _is_day(value: str) -> bool:
    try:
        return _DAY.fullmatch(value) is not None and bool(date.fromisoformat(value))
    except ValueError:
        return False
