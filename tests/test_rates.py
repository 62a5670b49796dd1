"""The file of exchange rates."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from engine.errors import PackError
from engine.money import Money
from engine.packs import parse, read_all
from engine.rates import read_rates

SHIPPED = Path(__file__).parents[1] / "policies" / "rates"
HEAD = "rates: CNY\nabout: x\ndays:\n"


def test_the_shipped_rates_are_a_sample_that_works() -> None:
    """All eight currencies can be converted from 2015 on, and the file says that it is a sample."""
    documents = read_all(SHIPPED)
    rates = read_rates(documents)

    assert documents[0].data["sample"] is True
    assert set(rates.table) == {"USD", "EUR", "GBP", "JPY", "HKD", "KRW", "SGD", "AUD"}
    for code in rates.table:
        found = rates.convert(Money.of("1000", code), "CNY", date(2015, 1, 1))
        assert found is not None
        assert 1 < float(found.amount) < 20_000


def test_a_rate_holds_from_its_day_until_the_next() -> None:
    """Before the first day there is none."""
    rates = read_rates([parse(HEAD + "  2026-01-31: {USD: 7, JPY: 0.05}\n  2026-02-28: {USD: 8}\n")])
    dollar = Money.of("1.00", "USD")

    assert rates.convert(dollar, "CNY", date(2026, 1, 30)) is None
    assert rates.convert(dollar, "CNY", date(2026, 2, 27)) == Money(700, "CNY")
    assert rates.convert(dollar, "CNY", date(2026, 2, 28)) == Money(800, "CNY")
    assert rates.convert(Money.of("100", "JPY"), "USD", date(2026, 3, 1)) == Money(Decimal("62.5"), "USD")


def test_without_a_file_nothing_is_converted() -> None:
    """Only a currency into itself."""
    rates = read_rates([])

    assert rates.convert(Money.of("1.00", "USD"), "CNY", date(2026, 1, 1)) is None
    assert rates.convert(Money.of("1.00", "USD"), "USD", date(2026, 1, 1)) == Money(100, "USD")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("rates: CNX\nabout: x\ndays: {}\n", ["1:8: 'CNX' is no currency"]),
        ("rates: CNY\ndays: {}\n", ["1:1: 'about' is missing"]),
        (
            HEAD + "  yesterday: {USD: 7}\n  2026-02-30: {}\n",
            ["4:3: 'yesterday' is no day", "5:3: '2026-02-30' is no day"],
        ),
        (HEAD + "  2026-02-01: {USD: 7}\n  2026-01-01: {USD: 7}\n", ["5:3: this day comes after 2026-02-01"]),
        (
            HEAD + "  2026-02-01: {USD: 0, EUR: -1, GBP: a lot}\n",
            ["4:21: a rate", "4:29: a rate", "4:38: expected a number, found 'a lot'"],
        ),
        (HEAD + "  2026-02-01: {USD: 0, EUR: 1e10}\n", ["4:21: a rate is a number", "4:29: a rate is a number"]),
        (HEAD + "  2026-02-01: {US: 7, CNY: 1}\n", ["4:16: 'US' is no currency", "4:23: CNY is the base"]),
        (HEAD + "  2026-02-01: {USD: .nan}\n", ["4:21: '.nan' is not a number here"]),
    ],
)
def test_a_bad_file_is_refused_with_its_places(source: str, expected: list[str]) -> None:
    """Every problem at once."""
    with pytest.raises(PackError) as caught:
        read_rates([parse(source, "r.yaml")])
    found = [str(problem).removeprefix("r.yaml:") for problem in caught.value.problems]

    assert [shown[: len(begin)] for shown, begin in zip(found, expected, strict=True)] == expected


def test_there_is_one_file_of_rates() -> None:
    """Two would have to be reconciled."""
    with pytest.raises(PackError, match="second file"):
        read_rates([parse(HEAD + "  2026-02-01: {USD: 7}\n", name) for name in ("a", "b")])
