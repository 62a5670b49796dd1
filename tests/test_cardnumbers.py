"""Card numbers are found however they are written, and ordinary numbers pass."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.schema import cardnumbers

# Numbers that schemes and payment services publish for tests.
PUBLISHED = {
    "visa": "4111111111111111",
    "visa, 13 digits": "4222222222222",
    "visa, 19 digits": "4000000000000000006",
    "mastercard": "5555555555554444",
    "mastercard, 2 series": "2223003122003222",
    "american express": "378282246310005",
    "diners": "30569309025904",
    "diners, 36": "36227206271667",
    "discover": "6011111111111117",
    "unionpay": "6200000000000005",
    "unionpay, 19 digits": "6205500000000000004",
    "unionpay, 81": "8171999927660000",
    "jcb": "3566002020360505",
    "maestro": "6759649826438453",
}
SEPARATORS = ["", " ", "-", ".", "  ", " - ", "\u200b", "\u00a0", "·", "\u3000", "\n", "\u2013", "_", "/", "\ufeff"]
SCRIPTS = [0x30, 0xFF10, 0x0660, 0x06F0, 0x0966, 0x1D7CE]


def with_check_digit(body: str) -> str:
    return next(body + last for last in "0123456789" if cardnumbers.luhn(body + last))


def in_json(text: str) -> bool:
    return cardnumbers.in_json(orjson.dumps({"note": text}))


@pytest.mark.parametrize("number", PUBLISHED.values(), ids=PUBLISHED.keys())
def test_a_published_test_number_of_every_scheme_is_found(number: str) -> None:
    assert cardnumbers.found(number)
    assert in_json(f"卡号{number}谢谢")
    assert cardnumbers.in_json(orjson.dumps({"n": int(number)})), "as a JSON number"
    assert cardnumbers.in_json(orjson.dumps({number: 1})), "as the name of a field"


@pytest.mark.parametrize("separator", SEPARATORS, ids=ascii)
@pytest.mark.parametrize("zero", SCRIPTS, ids=hex)
def test_separators_and_digits_of_other_scripts_hide_nothing(separator: str, zero: int) -> None:
    digits = [chr(zero + int(digit)) for digit in "4111111111111111"]
    groups = ["".join(digits[at : at + 4]) for at in range(0, 16, 4)]
    for text in (separator.join(groups), separator.join(digits)):
        assert cardnumbers.found(text)
        assert in_json(f"付款 {text}。")


@given(
    st.sampled_from(sorted(PUBLISHED.values())),
    st.lists(st.sampled_from(SEPARATORS), min_size=19, max_size=19),
    st.text(alphabet=st.characters(exclude_categories=["Nd", "Cs"]), max_size=20),
)
@settings(max_examples=150, deadline=None)
def test_any_mixture_of_separators_in_any_text_is_seen_through(number: str, separators: list[str], around: str) -> None:
    hidden = "".join(digit + separators[at] for at, digit in enumerate(number[:-1])) + number[-1]
    assert in_json(f"{around}|{hidden}|{around}")


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1111 12/27",
        "2026-11-20 4111-1111-1111-1111",
        "数量 2 4111 1111 1111 1111",
        "%B4111111111111111^ZHANG/SAN^2712101?",
        ";4111111111111111=27121010000000000000?",
        "tok_4111111111111111",
        "card:4111111111111111,cvv:123",
        "378282 246310 005",
        "3782 822463 10005",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 12/27",
        "4-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1 123",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 12/27 123",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 2 / 2 7",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 2 / 2 7 1 2 3",
        "4.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1 1 2 3",
        "1. 4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "3 7 8 2 8 2 2 4 6 3 1 0 0 0 5 1234",
        "41 11 11 11 11 11 11 11 12/27",
        "41 11 11 11 11 11 11 11 123",
        "411 111 111 111 111 1 12/27",
        "411-111-111-111-111-1 123",
    ],
)
def test_a_number_among_other_digits_and_in_track_data_is_found(text: str) -> None:
    assert cardnumbers.found(text)
    assert in_json(text)


@pytest.mark.parametrize(
    "text",
    [
        "202611200830001234",
        "2088102146225135",
        "13800138000, 13900139000",
        "+86 138 0013 8000",
        "+49 1512 3456789",
        "91330106MA27XXXX06",
        "2026-11-20T08:30:00.123456+08:00",
        "1763598600000",
        "1763598600000000",
        "4111 1111 1111 1112",
        "尺码 36 37 38 39 40 41 42 43 44 45",
        "4901234567894",
        "6901234567892",
        "9787111122333",
        "31.230416 121.473701",
        "4111111111111111111111111111",
        "0000000000000000",
        "550e8400-e29b-41d4-a716-446655440000",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/142.0.7444.135 Safari/537.36",
        "价格 1999 2999 3999 4999 元",
        "评分 5 4 4 5 3 4 5 5 4 3 5 5 4 5 4 5",
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
        "4100000000000000000000000000000",
        "",
    ],
)
def test_ordinary_numbers_pass(text: str) -> None:
    assert not cardnumbers.found(text)


def test_about_three_of_a_hundred_random_numbers_look_like_cards() -> None:
    """The price of the scan in free text; fields where such numbers are expected are declared identifiers."""
    rng = random.Random(20261120)
    hits = sum(cardnumbers.is_card_number(str(rng.randrange(10**15, 10**16))) for _ in range(40_000))
    assert 0.028 < hits / 40_000 < 0.038
    dated = sum(
        cardnumbers.is_card_number(f"2026{rng.randrange(1, 13):02}{rng.randrange(1, 29):02}{rng.randrange(10**8):08}")
        for _ in range(5_000)
    )
    assert dated == 0, "numbers that begin with a date of this century are no cards"


def random_digits(rng: random.Random, *sizes: int) -> str:
    return " ".join("".join(rng.choices("0123456789", k=size)) for size in sizes)


@pytest.mark.parametrize(
    ("what", "text", "low", "high"),
    [
        ("random texts of 16 digits", lambda rng: random_digits(rng, 16), 2.7, 3.7),
        ("19 digits", lambda rng: random_digits(rng, 19), 1.5, 2.3),
        ("19 digits from 1 to 4 on", lambda rng: rng.choice("1234") + random_digits(rng, 18), 2.8, 3.9),
        ("those from 4 on", lambda rng: "4" + random_digits(rng, 18), 9, 11),
        ("two groups of 8", lambda rng: random_digits(rng, 8, 8), 2.7, 3.7),
        ("eight groups of 4", lambda rng: random_digits(rng, *[4] * 8), 13, 16),
        ("twenty single digits", lambda rng: random_digits(rng, *[1] * 20), 7, 11),
    ],
)
def test_what_the_scan_costs_is_what_the_page_says(
    what: str, text: Callable[[random.Random], str], low: float, high: float
) -> None:
    """In per cent of random texts. Figures of docs/events.md, so that nobody is told less than it is."""
    rng = random.Random(20261120)
    hits = 100 * sum(cardnumbers.found(text(rng)) for _ in range(20_000)) / 20_000
    page = " ".join((Path(__file__).parents[1] / "docs/events.md").read_text("utf-8").split())

    assert low < hits < high, what
    assert f"{round(hits)} % of {what}" in page


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_the_quick_look_at_json_misses_nothing_that_the_slow_one_finds(text: str) -> None:
    assert in_json(text) == cardnumbers.found(text) or in_json(text)


@given(st.text(alphabet=st.sampled_from("0123456789 -.４٤\u200b中\n"), max_size=60))
@settings(max_examples=400, deadline=None)
def test_the_quick_look_agrees_on_texts_full_of_digits(text: str) -> None:
    assert in_json(text) or not cardnumbers.found(text)


@pytest.mark.parametrize("bulk", ["1" * 200_000, "1 " * 100_000, "1234 " * 40_000, "１" * 60_000, "4 " * 12 + "x" * 9])
def test_long_runs_of_digits_take_no_long_time(bulk: str) -> None:
    assert not cardnumbers.found(bulk)


@given(st.text(alphabet="0123456789", min_size=12, max_size=18))
def test_exactly_one_last_digit_satisfies_luhn(body: str) -> None:
    assert sum(cardnumbers.luhn(body + last) for last in "0123456789") == 1
    assert cardnumbers.luhn(with_check_digit(body))


def test_no_time_of_our_days_in_microseconds_is_a_card_number() -> None:
    # `Schema.build` relies on it: it does not look into such a time.
    rng = random.Random(7)
    assert not any(cardnumbers.is_card_number(f"1{rng.randrange(10**15):015}") for _ in range(20_000))
