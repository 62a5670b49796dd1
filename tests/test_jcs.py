"""Canonical JSON: the bytes of RFC 8785, and a refusal of everything it cannot hold exactly."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from engine.jcs import SAFE_INTEGER, canonical

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEYS = st.text(st.characters(max_codepoint=127), max_size=8)
LEAVES = st.none() | st.booleans() | TEXT | st.integers(-SAFE_INTEGER, SAFE_INTEGER)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))


@given(VALUES)
def test_bytes_equal_those_of_another_implementation(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


def test_keys_are_sorted_and_nothing_is_escaped_without_need() -> None:
    assert canonical({"b": "元", "a": [1, True, None], "": "/"}) == '{"":"/","a":[1,true,null],"b":"元"}'.encode()


@pytest.mark.parametrize(
    "value", [1.5, Decimal(1), b"x", {1}, 2**53, -(2**53), {"ä": 1}, {1: 2}, [0.0], {"a": {"b": float("nan")}}]
)
def test_what_would_change_on_the_way_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical(value)
