"""Values spelt as YAML are read again as what they were."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.packs import parse
from engine.packs.spelling import spelt

# NUL stands in no pack and in no event.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NUMBERS = st.integers(-(10**14), 10**14)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS.filter(bool), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "a: b",
        "12",
        "true",
        "# x",
        "it's",
        'say "x"',
        "",
        " x",
        "中文，好",
        "a\nb",
        "{x}",
        "null",
        "5 CNY",
        "~",
        'a "\\d+"',
        "un\u200bseen",
        "\x7f",
        "next\x85line",
        "\u2028",
    ],
)
def test_a_text_is_spelt_so_that_it_is_read_as_it_was(text: str) -> None:
    assert parse(f"a: {spelt(text)}").data["a"] == text
    assert parse(f"a: [{spelt(text)}]").data["a"] == [text]


@given(VALUES)
def test_any_value_of_an_event_is_read_as_it_was(value: Any) -> None:
    assert parse(f"a: [{spelt(value)}]").data["a"] == [value]


def test_a_number_with_places_keeps_them_and_has_no_exponent() -> None:
    assert [spelt(Decimal(text)) for text in ("0.30", "1E+3", "1E-7")] == ["0.30", "1000", "0.0000001"]
