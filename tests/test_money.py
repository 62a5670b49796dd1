"""Money is exact, of one currency, and printed as it was written; rates hold from their day until the next."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.money import CURRENCIES, MAX_MINOR, Money, Rates, six_places

RATES = Rates(
    "CNY",
    {
        "USD": [(date(2026, 1, 1), Decimal("7.00")), (date(2026, 11, 1), Decimal("7.20"))],
        "JPY": [(date(2026, 1, 1), Decimal("0.05"))],
    },
)


@pytest.mark.parametrize(
    ("text", "minor"),
    [
        ("4980.00 CNY", 498000),
        ("0.01 CNY", 1),
        ("-3.5 USD", -350),
        ("500 JPY", 500),
        ("1.234 KWD", 1234),
        ("7 CLF", 70000),
    ],
)
def test_amounts_are_whole_minor_units(text: str, minor: int) -> None:
    assert Money.parse(text) == Money(minor, text.split()[1])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("4980.001 CNY", "decimal places"),
        ("0.5 JPY", "decimal places"),
        ("NaN CNY", "decimal places"),
        ("Infinity CNY", "decimal places"),
        ("1e30 CNY", "out of range"),
        ("abc CNY", "decimal amount"),
        ("1 XXX", "ISO 4217"),
        ("1 cny", "ISO 4217"),
        ("4980.00", "currency"),
        ("", "currency"),
    ],
)
def test_what_is_no_amount_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Money.parse(text)


@given(st.integers(-MAX_MINOR + 1, MAX_MINOR - 1), st.sampled_from(sorted(CURRENCIES)))
def test_text_comes_back_as_the_same_money(minor: int, currency: str) -> None:
    money = Money(minor, currency)
    assert Money.parse(str(money)) == money


def test_a_computed_amount_shows_its_fraction() -> None:
    assert str(Money(Decimal("33.333333"), "CNY")) == "0.33333333 CNY"


@pytest.mark.parametrize(
    ("money", "currency", "day", "expected"),
    [
        (Money(100, "CNY"), "CNY", date(1990, 1, 1), Money(100, "CNY")),
        (Money(100, "USD"), "CNY", date(2026, 10, 31), Money(700, "CNY")),
        (Money(100, "USD"), "CNY", date(2026, 11, 1), Money(720, "CNY")),
        (Money(100, "JPY"), "CNY", date(2026, 11, 1), Money(500, "CNY")),
        (Money(500, "CNY"), "JPY", date(2026, 11, 1), Money(100, "JPY")),
        (Money(100, "JPY"), "USD", date(2026, 11, 1), Money(Decimal("69.444444"), "USD")),
        (Money(100, "USD"), "CNY", date(2025, 12, 31), None),
        (Money(100, "EUR"), "CNY", date(2026, 11, 1), None),
        (Money(100, "CNY"), "EUR", date(2026, 11, 1), None),
    ],
)
def test_conversion_takes_the_rate_of_the_day(money: Money, currency: str, day: date, expected: Money | None) -> None:
    assert RATES.convert(money, currency, day) == expected


def test_the_hash_of_the_rates_names_their_content() -> None:
    again = Rates("CNY", {code: list(days) for code, days in reversed(RATES.table.items())})
    other = Rates("CNY", {**RATES.table, "JPY": [(date(2026, 1, 1), Decimal("0.051"))]})
    assert RATES.hash == again.hash != other.hash


@pytest.mark.parametrize(
    ("value", "rounded"), [("0.0000005", "0.000000"), ("0.0000015", "0.000002"), ("2", "2.000000")]
)
def test_rounding_is_half_even(value: str, rounded: str) -> None:
    assert six_places(Decimal(value)) == Decimal(rounded)
