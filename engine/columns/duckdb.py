"""Columns in one DuckDB of this process, spoken to through ibis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ibis
from ibis.backends.sql.compilers.duckdb import DuckDBCompiler
from sqlglot import expressions

from engine.columns.macros import BOUND, MACROS, MILLION, NOWHERE, USCC, WIDE_BOUND, weighed
from engine.expr import uscc

MEMORY = "5GB"
"""What DuckDB may hold in memory; what goes beyond it is put into a file beside the tables."""

_TYPES: Mapping[str, str] = {
    "BOOLEAN": "boolean",
    "TINYINT": "int8",
    "INTEGER": "int32",
    "BIGINT": "int64",
    "HUGEINT": "decimal(38, 0)",
    "DECIMAL(38,0)": "decimal(38, 0)",
    "DOUBLE": "float64",
    "VARCHAR": "string",
    "BOOLEAN[]": "array<boolean>",
    "BIGINT[]": "array<int64>",
    "VARCHAR[]": "array<string>",
}
"""Types of DuckDB as ibis calls them; other columns no table here has."""

_MACROS: Mapping[str, str] = {
    "arb_huge": "x::HUGEINT",
    "arb_wide": f"x::HUGEINT * {MILLION}",
    "arb_bounded": f"CASE WHEN x > -{BOUND} AND x < {BOUND} THEN x END",
    "arb_bounded_wide": f"CASE WHEN x > -{WIDE_BOUND} AND x < {WIDE_BOUND} THEN x END",
    "arb_half_even": (
        "sign(n) * (abs(n) // d + CASE WHEN 2 * (abs(n) % d) > d "
        "OR (2 * (abs(n) % d) = d AND (abs(n) // d) % 2 = 1) THEN 1 ELSE 0 END)"
    ),
    # Nothing goes through a float but two magnitudes, which only tell whether a product fits before it is computed
    # exactly: below 1e37 it is a HUGEINT, at it it is far beyond every bound.
    "arb_times": "CASE WHEN abs(a::DOUBLE) * abs(b::DOUBLE) < 1e37 THEN a::HUGEINT END * b::HUGEINT",
    "arb_divide": (
        "CASE WHEN b <> 0 THEN arb_bounded_wide(arb_half_even("
        f"CASE WHEN b < 0 THEN -(a::HUGEINT) ELSE a::HUGEINT END * {MILLION}, abs(b::HUGEINT))) END"
    ),
    "arb_remainder": "CASE WHEN b <> 0 THEN a::HUGEINT % b::HUGEINT END",
    "arb_round": "arb_half_even(x, unit) * unit",
    "arb_fold": ("CASE WHEN strlen(x) = length(x) THEN lower(x) ELSE translate(x, capitals, smalls) END"),
    "arb_quotient": "a // b",
    "arb_found": "regexp_matches(x, pattern)",
    "arb_uscc": (
        f"CASE WHEN length(x) <> {uscc.LENGTH} OR NOT regexp_matches(x, '{USCC}') THEN FALSE "
        f"WHEN x IS NOT NULL THEN ({weighed('strpos')}) % {len(uscc.LETTERS)} = 0 END"
    ),
    "arb_floor_mod": "((x % step) + step) % step",
    "arb_floor_div": "(x - arb_floor_mod(x, step)) // step",
    # Millionths as wholes; what is no whole becomes a number that no list holds.
    "arb_whole": f"CASE WHEN x % {MILLION} = 0 THEN x // {MILLION} WHEN x IS NOT NULL THEN {NOWHERE}::HUGEINT END",
    "arb_member": (
        "CASE WHEN x IS NULL OR items IS NULL THEN NULL WHEN list_contains(items, x) THEN TRUE "
        "WHEN list_count(items) < len(items) THEN NULL ELSE FALSE END"
    ),
    "arb_overlaps": (
        "CASE WHEN a IS NULL OR b IS NULL THEN NULL WHEN list_has_any(a, b) THEN TRUE "
        "WHEN (list_count(a) < len(a) AND len(b) > 0) OR (list_count(b) < len(b) AND len(a) > 0) THEN NULL "
        "ELSE FALSE END"
    ),
    "arb_size": "len(items)",
    "arb_least": "CASE WHEN len(items) > 0 AND list_count(items) = len(items) THEN list_min(items) END",
    "arb_greatest": "CASE WHEN len(items) > 0 AND list_count(items) = len(items) THEN list_max(items) END",
    "arb_total": (
        "CASE WHEN items IS NOT NULL THEN "
        "list_reduce(list_prepend(0::HUGEINT, items), lambda a, b: CASE WHEN abs(a + b) < lim THEN a + b END) END"
    ),
}
"""Exact arithmetic. Millionths are a HUGEINT."""


class _Compiler(DuckDBCompiler):  # type: ignore[misc]  # ibis has no types
    """ibis's own, with what is ours."""

    def visit_Not(self, op: Any, *, arg: Any) -> Any:
        """In brackets, which ibis leaves out: NOT x IS NULL is not about NOT x."""
        return expressions.paren(super().visit_Not(op, arg=arg))


class DuckDB:
    """A DuckDB with our macros."""

    lacks: Mapping[tuple[str, tuple[str, ...]], str] = {}

    def __init__(self, path: str = ":memory:", **config: Any) -> None:
        self._backend = ibis.duckdb.connect(path, **config)
        self._backend.compiler = _Compiler()
        for name, takes in MACROS.items():
            self.raw.execute(f"CREATE OR REPLACE TEMP MACRO {name}({', '.join(takes)}) AS {_MACROS[name]}")

    @property
    def raw(self) -> Any:
        """The connection of duckdb itself."""
        return self._backend.con

    def table(self, name: str) -> Any:
        """A table as an ibis expression."""
        # Not ibis's own way, which asks DuckDB 2 for what that no longer likes to be asked for.
        described = self.raw.execute(f"DESCRIBE {name}").fetchall()
        return ibis.table({column: _TYPES[kind] for column, kind, *_ in described}, name=name)

    def keep(self, name: str, expression: Any) -> Any:
        """Compute a table once and keep it under a name."""
        self.raw.execute(f"CREATE OR REPLACE TABLE {name} AS {self.sql(expression)}")
        return self.table(name)

    def put(self, name: str, data: Any) -> Any:
        """Keep an Arrow table under a name."""
        self.raw.register("arriving", data)
        self.raw.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM arriving")
        self.raw.unregister("arriving")
        return self.table(name)

    def append(self, name: str, block: Any) -> None:
        """Add an Arrow table to the rows of a table; the first one makes it."""
        self.raw.register("arriving", block)
        self.raw.execute(f"CREATE TABLE IF NOT EXISTS {name} AS SELECT * FROM arriving LIMIT 0")
        self.raw.execute(f"INSERT INTO {name} SELECT * FROM arriving")
        self.raw.unregister("arriving")

    def drop(self, name: str) -> None:
        """Forget a table."""
        self.raw.execute(f"DROP TABLE IF EXISTS {name}")

    def size(self, name: str) -> int:
        """How many rows a table has."""
        (row,) = self.raw.execute(f"SELECT count(*) FROM {name}").fetchall()
        return int(row[0])

    def sql(self, expression: Any) -> str:
        """The SQL of an expression."""
        found = str(self._backend.compile(expression))
        # Beside a HUGEINT, DuckDB takes a DECIMAL for a DOUBLE.
        assert "DECIMAL(" not in found, "integers are exact as HUGEINT alone"
        return found

    def arrow(self, expression: Any) -> Any:
        """What an expression gives, as an Arrow table."""
        return self.raw.sql(self.sql(expression)).to_arrow_table()

    def batches(self, expression: Any, size: int) -> Iterator[Any]:
        """The same in record batches of at most so many rows."""
        yield from self.raw.sql(self.sql(expression)).to_arrow_reader(size)

    def write(self, expression: Any, to: Path) -> None:
        """What an expression gives, into a Parquet file."""
        name = str(to).replace("'", "''")
        self.raw.execute(f"COPY ({self.sql(expression)}) TO '{name}' (FORMAT parquet, CODEC zstd)")

    def close(self) -> None:
        """Let go of all tables."""
        self._backend.disconnect()


@contextmanager
def on_duckdb(config: Mapping[str, Any] | None = None) -> Iterator[DuckDB]:
    """A DuckDB on disk in a temporary folder, which goes with it."""
    with TemporaryDirectory(prefix="arbiter-columns-") as folder:
        settings = {"memory_limit": MEMORY, "temp_directory": str(Path(folder, "spill"))} | dict(config or {})
        made = DuckDB(str(Path(folder, "columns.duckdb")), **settings)
        try:
            yield made
        finally:
            made.close()
