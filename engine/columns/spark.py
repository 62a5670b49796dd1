"""Columns in Apache Spark: a session of this process, or a cluster or a Connect server by its URL.

Spark is asked in SQL (`spark_sql`); tables are views of this session, computed once and kept where Spark keeps what is
cached. Nothing is written into its catalog.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from engine.columns.spark_session import LOCAL, session
from engine.columns.spark_sql import sql

LACKS: Mapping[tuple[str, tuple[str, ...]], str] = {
    ("matches", ("text", "pattern")): "a pattern, which Spark reads as Java does and not as RE2",
}
"""What Spark cannot answer exactly, by operator or function and what it takes."""

_EXACT: Mapping[str, str] = {
    "spark.sql.ansi.enabled": "false",  # what overflows is NULL, and no error
    "spark.sql.decimalOperations.allowPrecisionLoss": "true",  # quotients of 32 digits and six places
    "spark.sql.parser.escapedStringLiterals": "false",
    "spark.sql.caseSensitive": "true",
    "spark.sql.session.timeZone": "UTC",
}
"""What our SQL counts on."""

_TYPES: Mapping[str, str] = {
    "boolean": "boolean",
    "tinyint": "int8",
    "int": "int32",
    "bigint": "int64",
    "decimal(38,0)": "decimal(38,0)",
    "double": "float64",
    "string": "string",
    "array<boolean>": "array<boolean>",
    "array<bigint>": "array<int64>",
    "array<string>": "array<string>",
}
"""Types of Spark as ibis calls them; other columns no table here has."""


class Spark:
    """Tables of a Spark session. It leaves the session running."""

    lacks = LACKS

    def __init__(self, session: Any, folder: Path) -> None:
        for name, value in _EXACT.items():
            if session.conf.get(name) != value:
                session.conf.set(name, value)
        self._session, self._folder = session, folder
        self._kept: dict[str, Any] = {}
        self._views: set[str] = set()
        self._arriving: dict[str, Any] = {}

    def table(self, name: str) -> Any:
        """A table as an ibis expression."""
        self._arrived(name)
        fields = self._session.table(name).schema.fields
        return ibis.table({field.name: _TYPES[field.dataType.simpleString()] for field in fields}, name=name)

    def keep(self, name: str, expression: Any) -> Any:
        """Compute a table once and keep it under a name."""
        self.drop(name)
        frame = self._session.sql(sql(expression)).persist()
        frame.count()
        self._kept[name] = frame
        return self._named(name, frame)

    def put(self, name: str, data: Any) -> Any:
        """Keep an Arrow table under a name."""
        self.drop(name)
        return self._named(name, self._session.createDataFrame(data))

    def append(self, name: str, block: Any) -> None:
        """Add an Arrow table to the rows of a table; the first one makes it."""
        if name not in self._arriving:
            self._arriving[name] = pa.ipc.new_file(str(self._folder / f"{name}.arrow"), block.schema)
        self._arriving[name].write_table(block)

    def drop(self, name: str) -> None:
        """Forget a table."""
        frame = self._kept.pop(name, None)
        if frame is not None:
            frame.unpersist()
        # The view of a table that was put stays: with it Spark lets go of what was computed of the same rows.

    def size(self, name: str) -> int:
        """How many rows a table has."""
        return int(self._session.table(name).count())

    def arrow(self, expression: Any) -> Any:
        """What an expression gives, as an Arrow table."""
        return self._session.sql(sql(expression)).toArrow()

    def batches(self, expression: Any, size: int) -> Iterator[Any]:
        """The same in record batches of at most so many rows."""
        yield from self.arrow(expression).to_batches(size)

    def write(self, expression: Any, to: Path) -> None:
        """What an expression gives, into one Parquet file."""
        pq.write_table(self.arrow(expression), to, compression="zstd")

    def close(self) -> None:
        """Let go of all tables."""
        for name in list(self._kept):
            self.drop(name)
        for name in self._views:
            self._session.catalog.dropTempView(name)

    def _named(self, name: str, frame: Any) -> Any:
        frame.createOrReplaceTempView(name)
        self._views.add(name)
        return self.table(name)

    def _arrived(self, name: str) -> None:
        """What was appended, handed to Spark."""
        writer = self._arriving.pop(name, None)
        if writer is None:
            return
        writer.close()
        file = self._folder / f"{name}.arrow"
        with pa.memory_map(str(file)) as source:
            self.put(name, pa.ipc.open_file(source).read_all())
        file.unlink()


@contextmanager
def on_spark(url: str = LOCAL) -> Iterator[Spark]:
    """A warehouse in a session of its own. Raises RequestRefused where there is none to be had."""
    with session(url) as here, TemporaryDirectory(prefix="arbiter-columns-") as folder:
        made = Spark(here, Path(folder))
        try:
            yield made
        finally:
            made.close()
