"""An open scorecard: each feature in a few bands, each band with whole points, the score their sum.

The method is Siddiqi's ("Credit Risk Scorecards", 2006): each band of a feature has a weight of evidence, and a
logistic regression on these weights (with a ridge, from scikit-learn) says how much each feature counts beside the
others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.tuning.bands import Banded, Feature, banded

DOUBLE = 10
"""Points that double the odds of fraud."""
RIDGE = 1.0
"""How strongly features are drawn to count nothing (an L2 penalty on weights of evidence)."""
MOST_POINTS = 1000
"""The most points that a rule can have."""


@dataclass(frozen=True, slots=True)
class Scorecard:
    """Features with points; `odds` of fraud at a score of 0; `left_out` are features that say nothing more than the
    others, each with the reason."""

    features: tuple[Banded, ...]
    odds: float
    left_out: tuple[tuple[str, str], ...]

    def scores(self, features: Sequence[Feature]) -> Any:
        """The score of every event; `features` by name, as they were fitted."""
        by_name = {feature.name: feature for feature in features}
        total = np.zeros(len(features[0].values), np.int64)
        for each in self.features:
            values = by_name[each.name].values
            known = {value: each.points(value) for value in set(values)}
            total += np.array([known[value] for value in values], np.int64)
        return total


def fit(features: Sequence[Feature], bad: Any, most: int, *, monotone: bool = True) -> Scorecard:
    """Bands and points of features for events of which `bad` were fraud (both kinds there). At most `most` bands each,
    beside one for what is unknown; with `monotone` points go one way along a number."""
    kept, left_out = [], []
    for feature in features:
        found = banded(feature, bad, most, monotone=monotone)
        if found is None:
            left_out.append((feature.name, "no two of its bands differ by more than chance"))
        else:
            kept.append((feature, found))
    while kept:
        weights, base = _regression([_evidence(*each) for each in kept], bad)
        worst = int(np.argmin(weights))
        if weights[worst] > 0:
            pointed = [_pointed(each, weight) for (_, each), weight in zip(kept, weights, strict=True)]
            least = [_least(each) for _, each in kept]
            return Scorecard(tuple(pointed), math.exp(base + float(np.dot(weights, least))), tuple(left_out))
        left_out.append((kept.pop(worst)[0].name, "beside the others it says nothing, or the opposite"))
    return Scorecard((), float(bad.sum() / (~bad).sum()), tuple(left_out))


def _least(found: Banded) -> float:
    return min(band.evidence for band in found.bands)


def _evidence(feature: Feature, found: Banded) -> Any:
    known: dict[Any, float] = {}
    for value in set(feature.values):
        at = found.place(value)
        known[value] = 0.0 if at is None else found.bands[at].evidence
    return np.array([known[value] for value in feature.values])


def _regression(columns: Sequence[Any], bad: Any) -> tuple[Any, float]:
    from sklearn.linear_model import LogisticRegression

    found = LogisticRegression(C=1 / RIDGE, max_iter=1000, tol=1e-8).fit(np.column_stack(columns), bad)
    return found.coef_[0], float(found.intercept_[0])


def _pointed(found: Banded, weight: float) -> Banded:
    least, factor = _least(found), DOUBLE / math.log(2) * weight
    points = [min(MOST_POINTS, round(factor * (band.evidence - least))) for band in found.bands]
    bands = tuple(replace(band, points=each) for band, each in zip(found.bands, points, strict=True))
    return replace(found, bands=bands)
