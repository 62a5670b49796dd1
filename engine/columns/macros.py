"""Exact arithmetic as SQL macros of DuckDB, and how an ibis expression calls them.

A number is an integer: of wholes, or of millionths where it may have decimal places ("wide", a HUGEINT). Nothing here
goes through a float but two magnitudes, which only tell whether a product fits before it is computed exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import ibis
import ibis.expr.datatypes as dt

MILLION = 1_000_000
HUGE = dt.Decimal(38, 0)
"""What ibis calls a HUGEINT; casts to it are made by a macro, as DECIMAL(38, 0) is another type to DuckDB."""
WHOLE = dt.int64
TRUTH = dt.boolean

_LIMIT = 10**18
_WIDE_LIMIT = _LIMIT * MILLION
_FITS = "1e37"
"""Below it a product is a HUGEINT; at it a product is far beyond every limit."""

_MACROS = {
    "arb_huge(x)": "x::HUGEINT",
    "arb_wide(x)": f"x::HUGEINT * {MILLION}",
    "arb_bounded(x)": f"CASE WHEN x > -{_LIMIT} AND x < {_LIMIT} THEN x END",
    "arb_bounded_wide(x)": f"CASE WHEN x > -{_WIDE_LIMIT} AND x < {_WIDE_LIMIT} THEN x END",
    "arb_half_even(n, d)": (
        "sign(n) * (abs(n) // d + CASE WHEN 2 * (abs(n) % d) > d "
        "OR (2 * (abs(n) % d) = d AND (abs(n) // d) % 2 = 1) THEN 1 ELSE 0 END)"
    ),
    "arb_times(a, b)": f"CASE WHEN abs(a::DOUBLE) * abs(b::DOUBLE) < {_FITS} THEN a::HUGEINT END * b::HUGEINT",
    "arb_divide(a, b)": (
        "CASE WHEN b <> 0 THEN arb_bounded_wide(arb_half_even("
        f"CASE WHEN b < 0 THEN -(a::HUGEINT) ELSE a::HUGEINT END * {MILLION}, abs(b::HUGEINT))) END"
    ),
    "arb_remainder(a, b)": "CASE WHEN b <> 0 THEN a::HUGEINT % b::HUGEINT END",
    "arb_round(x, unit)": "arb_half_even(x, unit) * unit",
    "arb_fold(x, capitals, smalls)": (
        "CASE WHEN strlen(x) = length(x) THEN lower(x) ELSE translate(x, capitals, smalls) END"
    ),
    "arb_found(x, pattern)": "regexp_matches(x, pattern)",
    "arb_floor_mod(x, step)": "((x % step) + step) % step",
    "arb_floor_div(x, step)": "(x - arb_floor_mod(x, step)) // step",
    # Millionths as wholes; what is no whole becomes a number that no list holds.
    "arb_whole(x)": f"CASE WHEN x % {MILLION} = 0 THEN x // {MILLION} WHEN x IS NOT NULL THEN {10**30}::HUGEINT END",
    "arb_member(x, items)": (
        "CASE WHEN x IS NULL OR items IS NULL THEN NULL WHEN list_contains(items, x) THEN TRUE "
        "WHEN list_count(items) < len(items) THEN NULL ELSE FALSE END"
    ),
    "arb_overlaps(a, b)": (
        "CASE WHEN a IS NULL OR b IS NULL THEN NULL WHEN list_has_any(a, b) THEN TRUE "
        "WHEN (list_count(a) < len(a) AND len(b) > 0) OR (list_count(b) < len(b) AND len(a) > 0) THEN NULL "
        "ELSE FALSE END"
    ),
    "arb_size(items)": "len(items)",
    "arb_least(items)": "CASE WHEN len(items) > 0 AND list_count(items) = len(items) THEN list_min(items) END",
    "arb_greatest(items)": "CASE WHEN len(items) > 0 AND list_count(items) = len(items) THEN list_max(items) END",
    "arb_total(items, lim)": (
        "CASE WHEN items IS NOT NULL THEN "
        "list_reduce(list_prepend(0::HUGEINT, items), lambda a, b: CASE WHEN abs(a + b) < lim THEN a + b END) END"
    ),
}


def prepare(connection: Any) -> None:
    """Create the macros in a DuckDB connection of ibis."""
    for head, body in _MACROS.items():
        connection.raw_sql(f"CREATE OR REPLACE TEMP MACRO {head} AS {body}")


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
