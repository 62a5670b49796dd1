"""Fits the points of the handbook's scorecard to its training period, and prints the file with them.

    python -m bench._scorecard > scorecard.yaml

The engine says which rules fire on each payment of May, June and July 2018; nothing later is looked at. The points are
a logistic regression on that, rounded: ten points double the odds of fraud. Of a group the highest points count, so its
rules stand from the mildest to the severest, and each may add to the one before but never take away: what an officer
reads goes one way. Needs ../shared/data.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench._judged import DATA, FIRST, PACKS, TRAINED, bench, judged, payments, trained

DOUBLE = 10
"""Points that double the odds."""
PULL = 1.0
"""How strongly points are drawn to 0 (an L2 penalty on log odds): rules that hardly ever fire stay mild."""

SWEEPS, STILL, TINY = 10_000, 1e-6, 1e-9


@dataclass(frozen=True, slots=True)
class Fitted:
    """Points a rule, and the odds of fraud where nothing fires."""

    points: tuple[int, ...]
    odds: float


def main() -> int:
    """Print the scorecard with its points fitted again; what each rule found goes to standard error."""
    if not DATA.is_file():
        print("bench._scorecard needs ../shared/data/handbook/transactions.parquet, which is not here: not fitted")
        return 0
    given = payments(FIRST, TRAINED[1])
    asked = given.days >= TRAINED[0]
    with trained() as work:
        ready = bench(work)
        found = judged(ready, given, asked, "looking at the training period")
    rules = ready.rulebook.rules
    fired, fraud = found.fired[asked], given.fraud[asked]
    fitted = fit(fired, fraud, [rule.finding.group for rule in rules])
    for place, rule in enumerate(rules):
        held = fired[:, place]
        share = fraud[held].mean() if held.any() else math.nan
        print(f"{rule.id:<32}{held.sum():>9,} fired {share:>7.1%} fraud {fitted.points[place]:>5}", file=sys.stderr)
    print(f"nothing fires: odds of 1 to {1 / fitted.odds:,.0f}", file=sys.stderr)
    text = (PACKS / "rules/scorecard.yaml").read_text("utf-8")
    points = {rule.id: value for rule, value in zip(rules, fitted.points, strict=True)}
    print(with_points(text, points), end="")
    return 0


def fit(fired: Any, fraud: Any, groups: Sequence[str]) -> Fitted:
    """Points for rules (columns of `fired`, booleans) whose groups run from mild to severe; "" is a group of its own.

    Each rule brings what it adds to the one before it in its group, at least 0.
    """
    steps = _steps(fired, groups)
    kinds, place = np.unique(np.packbits(steps, axis=1), axis=0, return_inverse=True)
    place = place.ravel()
    size = np.bincount(place).astype(float)
    frauds = np.bincount(place, weights=fraud)
    rows = np.column_stack([np.ones(len(kinds)), np.unpackbits(kinds, axis=1)[:, : len(groups)]])

    found = _descended(rows, size, frauds)
    totals: dict[str, float] = {}
    points = []
    for place_, group in enumerate(groups):
        name = group or f"#{place_}"
        totals[name] = totals.get(name, 0.0) + found[place_ + 1]
        points.append(round(DOUBLE / math.log(2) * totals[name]))
    return Fitted(tuple(points), math.exp(found[0]))


def _descended(rows: Any, size: Any, frauds: Any) -> Any:
    """Weights of the logistic regression, the first of them free and the others at least 0, one coordinate at a time.

    The loss is convex, and a step is Newton's, so this ends where the loss is least.
    """
    weights = np.zeros(rows.shape[1])
    for _ in range(SWEEPS):
        moved = 0.0
        for place, column in enumerate(rows.T):
            share = 1 / (1 + np.exp(-(rows @ weights)))
            pull = PULL if place else 0.0
            slope = column @ (size * share - frauds) + pull * weights[place]
            bend = column @ (size * share * (1 - share)) + pull + TINY
            new = weights[place] - np.clip(slope / bend, -1.0, 1.0)
            new = max(new, 0.0) if place else new
            moved = max(moved, abs(new - weights[place]))
            weights[place] = new
        if moved < STILL:
            return weights
    raise AssertionError("the points did not settle")


def _steps(fired: Any, groups: Sequence[str]) -> Any:
    """A column a rule: whether it or a severer one of its group fired."""
    steps = fired.copy()
    last: dict[str, int] = {}
    for place in range(len(groups) - 1, -1, -1):
        group = groups[place]
        if group and group in last:
            steps[:, place] |= steps[:, last[group]]
        last[group] = place
    return steps


def with_points(text: str, points: Mapping[str, int]) -> str:
    """The file of rules with other points, everything else as it was. Each rule has its `points:` on a line."""
    parts = re.split(r"(?m)^(?=  - id: )", text)
    return "".join([parts[0], *(_pointed(part, points) for part in parts[1:])])


def _pointed(part: str, points: Mapping[str, int]) -> str:
    name = part.split("\n", 1)[0].removeprefix("  - id: ").strip()
    text, count = re.subn(r"(?m)^(    points: )\d+$", rf"\g<1>{points[name]}", part)
    assert count == 1, f"{name} has one line with points"
    return text


if __name__ == "__main__":
    raise SystemExit(main())
