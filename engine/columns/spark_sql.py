"""What an ibis expression over our tables is in the SQL of Spark.

ibis writes it; what is ours are the macros, which Spark has no way to keep without a catalog of functions, and three
things that would not be exact. Spark is in its mode without ANSI, where a number that overflows is NULL.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import ibis.expr.operations as ops
import sqlglot
from ibis.backends.sql.compilers.pyspark import PySparkCompiler
from sqlglot import expressions

from engine.columns.macros import BOUND, HUGE, MACROS, MILLION, NOWHERE, USCC, WIDE_BOUND, weighed
from engine.expr import uscc

_HUGE = "DECIMAL(38, 0)"


def _digits(bound: int) -> int:
    """Of the numbers below a power of ten."""
    return len(str(bound)) - 1


_TEXTS: Mapping[str, str] = {
    "arb_huge": f"CAST(x AS {_HUGE})",
    "arb_wide": f"CAST(x AS {_HUGE}) * {MILLION}",
    # What has more digits is NULL.
    "arb_bounded": f"CAST(x AS DECIMAL({_digits(BOUND)}, 0))",
    "arb_bounded_wide": f"CAST(x AS DECIMAL({_digits(WIDE_BOUND)}, 0))",
    # n is even multiples of d, and m beside them. A quotient of decimals has six places and at most 32 digits before
    # them; beyond it is NULL, as beyond every bound. DIV would give 64 bits.
    "arb_half_even": (
        f"CAST((CAST(n AS {_HUGE}) - CAST(n AS {_HUGE}) % (2 * d)) / d AS {_HUGE}) + CASE "
        f"WHEN 2 * abs(CAST(n AS {_HUGE}) % (2 * d)) <= d THEN 0 "
        f"WHEN 2 * abs(CAST(n AS {_HUGE}) % (2 * d)) < 3 * d THEN 1 ELSE 2 END * CASE WHEN n < 0 THEN -1 ELSE 1 END"
    ),
    "arb_times": f"CAST(a AS {_HUGE}) * CAST(b AS {_HUGE})",
    "arb_divide": (
        "CASE WHEN b <> 0 THEN arb_bounded_wide(arb_half_even("
        f"CASE WHEN b < 0 THEN -CAST(a AS {_HUGE}) ELSE CAST(a AS {_HUGE}) END * {MILLION}, "
        f"abs(CAST(b AS {_HUGE})))) END"
    ),
    "arb_remainder": f"CASE WHEN b <> 0 THEN CAST(a AS {_HUGE}) % CAST(b AS {_HUGE}) END",
    "arb_round": "arb_half_even(x, unit) * unit",
    "arb_quotient": "a DIV b",
    "arb_floor_mod": "pmod(x, step)",
    "arb_floor_div": "(x - pmod(x, step)) DIV step",
    "arb_fold": ("CASE WHEN octet_length(x) = char_length(x) THEN lower(x) ELSE translate(x, capitals, smalls) END"),
    "arb_uscc": (
        f"CASE WHEN char_length(x) <> {uscc.LENGTH} OR NOT x RLIKE '{USCC}' THEN FALSE "
        f"WHEN x IS NOT NULL THEN ({weighed('instr')}) % {len(uscc.LETTERS)} = 0 END"
    ),
    "arb_whole": (
        f"CASE WHEN x % {MILLION} = 0 THEN CAST(x / {MILLION} AS {_HUGE}) "
        f"WHEN x IS NOT NULL THEN CAST({NOWHERE} AS {_HUGE}) END"
    ),
    "arb_member": "array_contains(items, x)",
    "arb_overlaps": "arrays_overlap(a, b)",
    "arb_size": "CASE WHEN items IS NOT NULL THEN size(items) END",
    "arb_least": "CASE WHEN forall(items, each -> each IS NOT NULL) THEN array_min(items) END",
    "arb_greatest": "CASE WHEN forall(items, each -> each IS NOT NULL) THEN array_max(items) END",
    "arb_total": (
        f"aggregate(items, CAST(0 AS {_HUGE}), "
        "(total, each) -> CASE WHEN abs(total + each) < lim THEN total + each END)"
    ),
}
"""Exact arithmetic, on decimals of 38 digits."""


def sql(expression: Any) -> str:
    """The SQL of an expression."""
    found = _Compiler().to_sqlglot(expression)
    return str(found.sql(dialect=_Compiler.dialect, copy=False, unsupported_level=sqlglot.ErrorLevel.RAISE))


class _Compiler(PySparkCompiler):  # type: ignore[misc]  # ibis has no types
    """ibis's own, with what is ours."""

    def visit_ScalarUDF(self, op: Any, **args: Any) -> Any:
        """A call of a macro: its text, with the arguments in it, of the type that the call says."""
        return self.cast(_expanded(op.__func_name__, list(args.values())), op.dtype)

    def visit_Not(self, op: Any, *, arg: Any) -> Any:
        """In brackets, which ibis leaves out: NOT x IS NULL is not about NOT x."""
        return expressions.paren(super().visit_Not(op, arg=arg))

    def visit_Sum(self, op: Any, *, arg: Any, where: Any) -> Any:
        """A sum of integers of 64 bits goes round at the last of them: ours has 38 digits."""
        return super().visit_Sum(op, arg=self.cast(arg, HUGE), where=where)

    def visit_FloorDivide(self, *_: Any, **__: Any) -> Any:
        """ibis divides doubles here."""
        raise AssertionError("integers are divided by macros")

    def visit_WindowFunction(self, op: Any, **parts: Any) -> Any:
        """Spark counts no distinct values over a window, but collects them."""
        if isinstance(op.func, ops.CountDistinct):
            (value,) = parts["func"].this.expressions
            parts["func"] = self.f.anon.collect_set(value)
            return self.cast(self.f.anon.array_size(super().visit_WindowFunction(op, **parts)), op.dtype)
        return super().visit_WindowFunction(op, **parts)


def _expanded(name: str, args: list[Any]) -> Any:
    """The text of a macro with arguments in the place of its parameters."""
    given = dict(zip(MACROS[name], args, strict=True))

    def placed(node: Any) -> Any:
        if isinstance(node, expressions.Column) and node.name in given:
            return expressions.paren(given[node.name].copy())
        return node

    return expressions.paren(_tree(name).transform(placed))


@lru_cache(maxsize=64)
def _tree(name: str) -> Any:
    """The text of a macro, parsed, with the macros that it calls in it."""

    def called(node: Any) -> Any:
        if isinstance(node, expressions.Anonymous) and node.name in _TEXTS:
            return _expanded(node.name, [each.transform(called) for each in node.expressions])
        return node

    return sqlglot.parse_one(_TEXTS[name], dialect="spark").transform(called)
