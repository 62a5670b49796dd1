"""Thresholds and points fitted to a history: fitted on its first part, reported on the rest.

thresholds  the thresholds of a condition
rounding    values as people write them
periods     the two parts
curve       what it would have found at each threshold
limits      what a threshold must keep
suggestion  the best threshold that does
bands       a feature in a few bands
scorecard   bands with points

Only officers' commands import this.
"""

from engine.tuning.bands import Band, Banded, Feature
from engine.tuning.curve import Figures, Observed, Period, spread
from engine.tuning.limits import Kept, Limit, fallen, fared, read_limit
from engine.tuning.periods import Periods, periods
from engine.tuning.rounding import plain
from engine.tuning.suggestion import FEWEST_FRAUDS, Goal, Held, Tunable, Tuned, best, tuned, written
from engine.tuning.thresholds import Threshold, thresholds

__all__ = [
    "FEWEST_FRAUDS",
    "Band",
    "Banded",
    "Feature",
    "Figures",
    "Goal",
    "Held",
    "Kept",
    "Limit",
    "Observed",
    "Period",
    "Periods",
    "Threshold",
    "Tunable",
    "Tuned",
    "best",
    "fallen",
    "fared",
    "periods",
    "plain",
    "read_limit",
    "spread",
    "thresholds",
    "tuned",
    "written",
]
