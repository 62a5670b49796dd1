"""k-anonymity, l-diversity and who is one person, beside definitions that are slow and plain."""

from __future__ import annotations

from decimal import Decimal
from itertools import chain, combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.anonymity import LEVELS, Row, anonymity, band, diversity, persons, suppress
from engine.money import Money

ROWS = st.lists(
    st.builds(
        Row,
        st.tuples(st.sampled_from("ab"), st.sampled_from("xy")),
        st.tuples(st.sampled_from("pq"), st.sampled_from("rs")),
        st.integers(0, 4),
    ),
    max_size=9,
)


def holds(rows: tuple[Row, ...], k: int, diverse: int) -> bool:
    """By the words of the definitions: each row has as many persons, and values, that look like it."""
    return all(
        len({other.person for other in rows if other.quasi == row.quasi}) >= k
        and all(
            len({other.sensitive[at] for other in rows if other.quasi == row.quasi}) >= diverse
            for at in range(len(row.sensitive))
        )
        for row in rows
    )


@given(ROWS, st.integers(1, 4), st.integers(1, 3))
def test_what_is_left_holds_and_no_larger_part_would(rows: list[Row], k: int, diverse: int) -> None:
    kept = suppress(rows, k, diverse)
    assert holds(tuple(kept), k, diverse)
    subsets = chain.from_iterable(combinations(rows, size) for size in range(len(rows), len(kept), -1))
    assert not any(holds(subset, k, diverse) for subset in subsets)


@given(ROWS, st.integers(1, 4), st.integers(1, 3))
def test_the_check_says_the_same_as_the_definitions(rows: list[Row], k: int, diverse: int) -> None:
    if rows:
        assert (anonymity(rows) >= k and diversity(rows) >= diverse) == holds(tuple(rows), k, diverse)
    else:
        assert (anonymity(rows), diversity(rows)) == (0, 0)


@given(st.lists(st.frozensets(st.integers(0, 7), max_size=3), max_size=10))
def test_rows_are_one_person_s_when_identities_link_them(keys: list[frozenset[int]]) -> None:
    """Beside it: what is linked grows until nothing is added."""
    found = persons(keys)
    for at, own in enumerate(keys):
        linked = {at}
        while True:
            seen = frozenset().union(*(keys[each] for each in linked))
            more = {n for n, other in enumerate(keys) if other & seen or (not other and not own)}
            if more <= linked:
                break
            linked |= more
        assert {n for n in range(len(keys)) if found[n] == found[at]} == linked


def test_many_rows_of_one_person_hide_nobody() -> None:
    rows = [Row(("a",), (value,), "u-1") for value in ("approve", "decline") * 50]
    assert anonymity(rows) == 1
    assert suppress(rows, 2, 1) == []


COARSER: list[tuple[str, str, Any, str]] = [
    ("time", "week", 1_795_435_200_000_000, "2026-W48"),
    ("time", "month", 1_795_435_200_000_000, "2026-11"),
    ("time", "quarter", 1_795_435_200_000_000, "2026-Q4"),
    ("time", "year", 1_798_732_800_000_000, "2027"),  # 2026-12-31T16:00Z is the new year in Shanghai
    ("money", "band", Money.parse("199.99 CNY"), "100-200 CNY"),
    ("money", "band", Money.parse("200 CNY"), "200-500 CNY"),
    ("money", "decade", Money.parse("200 CNY"), "100-1000 CNY"),
    ("money", "band", Money.parse("0 USD"), "0 USD"),
    ("number", "band", Decimal("0.004"), "0.002-0.005"),
    ("number", "band", 7, "5-10"),
    ("number", "decade", -3, "below 0"),
    ("bool", "exact", True, "yes"),
    ("country", "region", "CN", "Asia"),
    ("country", "region", "ZZ", "?"),
    ("text", "prefix", "electronics/phones", "electronics"),
    ("text", "exact", "shoes", "shoes"),
]


@pytest.mark.parametrize(("sort", "level", "value", "shown"), COARSER)
def test_values_are_made_coarser(sort: str, level: str, value: Any, shown: str) -> None:
    assert LEVELS[sort][level](value) == shown


@given(st.decimals("0.001", "1000000", places=3))
def test_a_band_holds_its_number(value: Decimal) -> None:
    low, high = map(Decimal, band(value).split("-"))
    assert low <= value < high
    assert high / low in (2, Decimal("2.5"))
