"""The options that say which engine computes the columns of a backtest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from engine.columns import Warehouse, on_duckdb
from engine.errors import RequestRefused

F = TypeVar("F", bound=Callable[..., object])


def engine_options(command: F) -> F:
    """Adds --engine and --spark-url."""
    url = click.option(
        "--spark-url",
        metavar="URL",
        help="Where Spark runs, if not in this process: spark://host:7077, sc://host:15002.",
    )
    engine = click.option(
        "--engine",
        type=click.Choice(["duckdb", "spark"]),
        default="duckdb",
        show_default=True,
        help="What computes the columns; spark needs Java and the extra `spark`.",
    )
    return engine(url(command))


@contextmanager
def opened(engine: str, url: str | None, duckdb: Mapping[str, Any] | None = None) -> Iterator[Warehouse]:
    """An empty warehouse of the engine; `duckdb` are settings of that one. Raises RequestRefused where there is none
    to be had."""
    if engine == "duckdb":
        if url is not None:
            raise RequestRefused("--spark-url is of --engine spark")
        with on_duckdb(duckdb) as here:
            yield here
        return
    try:
        from engine.columns.spark import on_spark
        from engine.columns.spark_session import LOCAL
    except ModuleNotFoundError as missing:
        if str(missing.name).partition(".")[0] not in ("pyspark", "py4j"):
            raise
        raise RequestRefused("--engine spark needs: pip install 'arbiter[spark]', and Java 17 or 21") from None
    with on_spark(url or LOCAL) as there:
        yield there
