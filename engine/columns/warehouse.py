"""Where columns are kept and computed: one DuckDB of this process, spoken to through ibis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ibis

from engine.columns.macros import prepare

MEMORY = "5GB"
"""What DuckDB may hold in memory; what goes beyond it is put into a file beside the tables."""

_TYPES: Mapping[str, str] = {
    "BOOLEAN": "boolean",
    "TINYINT": "int8",
    "INTEGER": "int32",
    "BIGINT": "int64",
    "HUGEINT": "decimal(38, 0)",
    "DOUBLE": "float64",
    "VARCHAR": "string",
    "BOOLEAN[]": "array<boolean>",
    "BIGINT[]": "array<int64>",
    "VARCHAR[]": "array<string>",
}
"""Types of DuckDB as ibis calls them; other columns no table here has."""


class Warehouse:
    """A DuckDB with our macros. Tables that it makes stay until it is closed."""

    def __init__(self, path: str = ":memory:", **config: Any) -> None:
        self._backend = ibis.duckdb.connect(path, **config)
        prepare(self._backend)

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
        self._backend.disconnect()


@contextmanager
def warehouse(config: Mapping[str, Any] | None = None) -> Iterator[Warehouse]:
    """A warehouse on disk in a temporary folder, which goes with it."""
    with TemporaryDirectory(prefix="arbiter-columns-") as folder:
        settings = {"memory_limit": MEMORY, "temp_directory": str(Path(folder, "spill"))} | dict(config or {})
        made = Warehouse(str(Path(folder, "columns.duckdb")), **settings)
        try:
            yield made
        finally:
            made.close()
