"""What a rulebook would have done: a history judged as columns, and the figures of it.

    collector = Collector(warehouse, rulebook, "transaction", degraded=(), split=("card.country",))
    collector.event(row, event, bad)                                in the order of time
    past = collector.done()
    found = find(past, rulebook, heeded(policy), ask)               `ask` is the real engine, for what is no column
    judged = judge(past, rulebook, found, degraded=())
    figures = measure(judged, ...)

Findings and verdicts are those of `arbiter score` on the same table: a test compares them row by row. Only officers'
commands import this.
"""

from engine.backtest.figures import (
    Figures,
    Part,
    RuleFigures,
    Tally,
    Threshold,
    VerdictFigures,
    measure,
    tallied,
)
from engine.backtest.findings import Ask, Asked, Found, Question, find
from engine.backtest.judging import Judged, Variant, heeded, judge
from engine.backtest.past import Collector, Past

__all__ = [
    "Ask",
    "Asked",
    "Collector",
    "Figures",
    "Found",
    "Judged",
    "Part",
    "Past",
    "Question",
    "RuleFigures",
    "Tally",
    "Threshold",
    "Variant",
    "VerdictFigures",
    "find",
    "heeded",
    "judge",
    "measure",
    "tallied",
]
