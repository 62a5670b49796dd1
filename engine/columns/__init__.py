"""Conditions and windows over whole columns, through ibis: what the engine says of one event after another, said of
all of them at once. For backtests; a server never imports it. DuckDB computes them in this process, or else Spark
(`engine.columns.spark`, which is imported only by who wants it).

    with on_duckdb() as here:
        gathering = Gathering(here, "facts", types, {"seq": pa.int64()})
        ...
        lower(condition, sight)         the condition as an ibis expression; Refused where columns cannot be exact

Each operator and function has one meaning for columns (`meanings`), each window function one (`windows`). Both are held
to the engine's own by tests, value by value. Nothing is approximate: what SQL would round, fold or order otherwise is
refused with its reason, and the engine itself answers it.
"""

from engine.columns.cells import Amount, Cell, Items, Number, Refused, unknown
from engine.columns.duckdb import DuckDB, on_duckdb
from engine.columns.gathering import Column, Gathering, reader, stored
from engine.columns.lowering import Sight, lower, lower_node
from engine.columns.rates import Exchange
from engine.columns.stages import stages
from engine.columns.warehouse import Warehouse
from engine.columns.windows import Counted, History, Timeline, adds, counted, key, present

__all__ = [
    "Amount",
    "Cell",
    "Column",
    "Counted",
    "DuckDB",
    "Exchange",
    "Gathering",
    "History",
    "Items",
    "Number",
    "Refused",
    "Sight",
    "Timeline",
    "Warehouse",
    "adds",
    "counted",
    "key",
    "lower",
    "lower_node",
    "on_duckdb",
    "present",
    "reader",
    "stages",
    "stored",
    "unknown",
]
