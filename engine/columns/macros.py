"""How an ibis expression calls the macros of exact arithmetic, which every engine has in its own SQL.

A number is an integer: of wholes, or of millionths where it may have decimal places ("wide", an integer of 38 digits).
What each macro means is said here; its SQL stands in `duckdb` and in `spark_sql`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import ibis
import ibis.expr.datatypes as dt

from engine.expr import uscc

MILLION = 1_000_000
BOUND = 10**18
"""At it a computed number is unknown."""
WIDE_BOUND = BOUND * MILLION
NOWHERE = 10**30
"""What no list holds."""
HUGE = dt.Decimal(38, 0)
"""An integer of 38 digits. Casts to it are made by a macro, as DECIMAL(38, 0) is not what DuckDB's HUGEINT is."""
WHOLE = dt.int64
TRUTH = dt.boolean

MACROS: Mapping[str, Sequence[str]] = {
    "arb_huge": ("x",),  # x as an integer of 38 digits
    "arb_wide": ("x",),  # wholes as millionths
    "arb_bounded": ("x",),  # unknown at BOUND
    "arb_bounded_wide": ("x",),  # unknown at WIDE_BOUND
    "arb_half_even": ("n", "d"),  # n / d to an integer, ties to the even one; d is above 0
    "arb_times": ("a", "b"),  # the product; unknown where it is far beyond every bound
    "arb_divide": ("a", "b"),  # a / b in millionths, half-even; unknown at 0 and at WIDE_BOUND
    "arb_remainder": ("a", "b"),  # with the sign of a; unknown at 0
    "arb_round": ("x", "unit"),  # to multiples of the unit, half-even
    "arb_quotient": ("a", "b"),  # a / b of integers of 64 bits, toward 0
    "arb_floor_mod": ("x", "step"),
    "arb_floor_div": ("x", "step"),
    "arb_fold": ("x", "capitals", "smalls"),  # small letters, by tables of ours beyond ASCII
    "arb_found": ("x", "pattern"),  # whether a pattern of RE2 is somewhere in a text
    "arb_uscc": ("x",),  # whether a text is a unified social credit code whose last character checks the others
    "arb_whole": ("x",),  # millionths as wholes; NOWHERE where they are none
    "arb_member": ("x", "items"),  # whether a list has x; unknown where one of several is unknown and none is x
    "arb_overlaps": ("a", "b"),
    "arb_size": ("items",),
    "arb_least": ("items",),  # unknown where one is, and of none
    "arb_greatest": ("items",),
    "arb_total": ("items", "lim"),  # unknown once a sum on the way is at the limit
}
"""The macros and what they take. An unknown argument makes an unknown answer but where it says otherwise."""


def weighed(place: str) -> str:
    """The SQL of what a unified social credit code `x` adds up to, a multiple of 31 in a right one. `place` is the
    function that says where in a text another one begins, from 1 on."""
    parts = enumerate((*uscc.WEIGHTS, 1), 1)
    return " + ".join(f"({place}('{uscc.LETTERS}', substr(x, {at}, 1)) - 1) * {weight}" for at, weight in parts)


USCC = f"^[{uscc.AUTHORITIES}][{uscc.BODIES}][0-9]{{6}}[{uscc.LETTERS}]{{10}}$"
"""The form of such a code, for engines whose patterns may end before a last line break: its length is asked, too."""


def call(name: str, result: Any, *args: Any) -> Any:
    """The ibis expression of a macro over expressions; `result` is its ibis type."""
    given = [each if hasattr(each, "type") else ibis.literal(each) for each in args]
    return _function(name, tuple(each.type() for each in given), result)(*given)


@lru_cache(maxsize=512)
def _function(name: str, types: Sequence[Any], result: Any) -> Any:
    return ibis.udf.scalar.builtin(_SHAPES[len(types)], name=name, signature=(tuple(types), result))


def _one(a: Any) -> Any: ...
def _two(a: Any, b: Any) -> Any: ...
def _three(a: Any, b: Any, c: Any) -> Any: ...


_SHAPES: Mapping[int, Callable[..., Any]] = {1: _one, 2: _two, 3: _three}
"""By the number of arguments: a function whose signature ibis takes for that of a macro."""
