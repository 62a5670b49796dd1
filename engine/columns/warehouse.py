"""Where columns are kept and computed: what every engine that can do it offers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol


class Warehouse(Protocol):
    """Tables of one engine by name. They stay until it is closed, or dropped.

    Expressions are those of ibis over its tables; their arithmetic calls our macros (`macros`), which each engine has
    in its own SQL. `lacks` are the operators and functions that this engine cannot answer exactly, each with its
    reason, beside those that no engine can.
    """

    @property
    def lacks(self) -> Mapping[tuple[str, tuple[str, ...]], str]: ...

    def table(self, name: str) -> Any:
        """A table as an ibis expression."""

    def keep(self, name: str, expression: Any) -> Any:
        """Compute a table once and keep it under a name."""

    def put(self, name: str, data: Any) -> Any:
        """Keep an Arrow table under a name."""

    def append(self, name: str, block: Any) -> None:
        """Add an Arrow table to the rows of a table; the first one makes it."""

    def drop(self, name: str) -> None:
        """Forget a table."""

    def size(self, name: str) -> int:
        """How many rows a table has."""

    def arrow(self, expression: Any) -> Any:
        """What an expression gives, as an Arrow table."""

    def batches(self, expression: Any, size: int) -> Iterator[Any]:
        """The same in record batches of at most so many rows."""

    def write(self, expression: Any, to: Path) -> None:
        """What an expression gives, into one Parquet file."""

    def close(self) -> None:
        """Let go of all tables."""
