"""Where running counts are kept: the contract of a store, and the store in memory.

`engine.features` says what is counted; a store only knows series. A series holds, per tenant and key, the events that
some windows have in common, with columns of what each event brings. It answers what a stretch of it holds as of one
event: how many, when the first and the last was, the sum of one column, how many different values another one has.

The time of an event is the pair (at, arrival): two events at one instant are told apart by their arrival, which
never repeats. A stretch is [at - length, (at, arrival)): the event itself is not in it unless the frame says so.
"""

from engine.stores.contract import (
    CAP,
    COUNT,
    DAY,
    DISTINCT,
    FIRST,
    FLAGS,
    HOUR,
    LAST,
    LATENESS,
    LEAST,
    MEAN,
    MOST,
    PERCENTILE,
    RANKED,
    RUNS,
    SPREAD,
    SQUARES,
    STREAK,
    SUM,
    SUMS,
    VALUES,
    Amount,
    Answer,
    Frame,
    Gap,
    Ratio,
    Series,
    Spread,
    Stamp,
    Store,
    StoreUnavailable,
    Touch,
    Values,
    quantile,
)
from engine.stores.memory import MemoryStore
from engine.stores.numbers import plain

__all__ = [
    "CAP",
    "COUNT",
    "DAY",
    "DISTINCT",
    "FIRST",
    "FLAGS",
    "HOUR",
    "LAST",
    "LATENESS",
    "LEAST",
    "MEAN",
    "MOST",
    "PERCENTILE",
    "RANKED",
    "RUNS",
    "SPREAD",
    "SQUARES",
    "STREAK",
    "SUM",
    "SUMS",
    "VALUES",
    "Amount",
    "Answer",
    "Frame",
    "Gap",
    "MemoryStore",
    "Ratio",
    "Series",
    "Spread",
    "Stamp",
    "Store",
    "StoreUnavailable",
    "Touch",
    "Values",
    "plain",
    "quantile",
]
