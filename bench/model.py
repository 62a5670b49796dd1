"""One row through a served anomaly model, beside scikit-learn's `score_samples` in the same run.

    python -m bench.model [--check]

100 trees of 256 rows, 30 features, one value in twenty unknown. Both score the same rows, one at a time and in turns.
Then 100,000 rows at once, and as many on a threshold or one float32 step beside it: the largest difference, which would
be far larger if one tree sent one row another way. Last, what explaining one row costs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.ensemble import IsolationForest

from engine.anomaly.forest import Forest
from engine.anomaly.shapley import shapley
from engine.training import onnx_of

RATIO = 1 / 200
"""Most that a served row may take, as a share of scikit-learn's time."""
TOLERANCE = 1e-6
EXPLAIN = 100e-6
"""Most seconds for the walk that explains a row."""
FEATURES, ROWS, ONES, ROUNDS = 30, 100_000, 60, 5


def main() -> int:
    """Print the table; with --check, 1 when a figure misses its bar."""
    random = np.random.default_rng(7)
    fitted = IsolationForest(n_estimators=100, max_samples=256, random_state=7).fit(_rows(random, 50_000))
    forest = Forest(onnx_of(fitted, FEATURES), FEATURES)
    asked = _rows(random, ROWS)
    ones = asked[:ONES]
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        theirs += [_timed(fitted.score_samples, row[None]) for row in ones]
        ours += [_timed(forest.score, row, times=20) for row in ones.tolist()]
    walk = median(_timed(forest.contributions, row, times=5) for row in ones.tolist())
    exact = median(_timed(shapley, forest, row) for row in ones[:5].tolist())
    apart = _apart(fitted, forest, asked), _apart(fitted, forest, _beside(fitted, asked, random))
    ratio = median(ours) / median(theirs)
    print(f"one row, scikit-learn       {1e6 * median(theirs):>10,.0f} µs")
    print(f"one row, served             {1e6 * median(ours):>10,.1f} µs   1/{1 / ratio:,.0f}")
    print(f"explained by the walk       {1e6 * walk:>10,.1f} µs")
    print(f"Shapley values              {1e6 * exact:>10,.0f} µs")
    print(f"{ROWS:,} rows              {apart[0]:>10.1e}   largest difference")
    print(f"{ROWS:,} at thresholds     {apart[1]:>10.1e}   largest difference")
    print(f"served: 1/{1 / ratio:,.0f} of scikit-learn's time, bar 1/{1 / RATIO:.0f}")
    good = ratio <= RATIO and max(apart) <= TOLERANCE and walk <= EXPLAIN
    return 0 if good or "--check" not in sys.argv[1:] else 1


def _rows(random: Any, size: int) -> Any:
    rows = random.normal(size=(size, FEATURES)).astype(np.float32)
    rows[random.random(rows.shape) < 0.05] = np.nan
    return rows


def _beside(fitted: IsolationForest, rows: Any, random: Any) -> Any:
    """The rows, each with one value on a threshold of some tree, or one step of float32 above or below it."""
    splits = [
        (feature, threshold)
        for each in fitted.estimators_
        for feature, threshold in zip(each.tree_.feature, each.tree_.threshold, strict=True)
        if feature >= 0
    ]
    moved = rows.copy()
    steps = (lambda x: x, lambda x: np.nextafter(x, np.float32(9e9)), lambda x: np.nextafter(x, np.float32(-9e9)))
    for place, split in enumerate(random.integers(0, len(splits), len(rows))):
        feature, threshold = splits[split]
        moved[place, feature] = steps[place % 3](np.float32(threshold))
    return moved


def _apart(fitted: IsolationForest, forest: Forest, rows: Any) -> float:
    return float(np.abs(forest.scores(rows) + fitted.score_samples(rows)).max())


def _timed(work: Callable[..., Any], *args: Any, times: int = 1) -> float:
    began = perf_counter()
    for _ in range(times):
        work(*args)
    return (perf_counter() - began) / times


if __name__ == "__main__":
    raise SystemExit(main())
