"""How well a score ranks fraud above the rest: the figures of docs that name recall with its false-positive rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from engine.anomaly import Ranking

ROUNDS = 200
"""Bootstrap samples behind an interval."""


def ranking(fraud: Any, scores: Any) -> Ranking:
    """The figures of `scores` (larger is more suspicious) against `fraud` (booleans, both kinds there)."""
    return Ranking(
        known=len(fraud),
        fraud=int(fraud.sum()),
        auc=float(roc_auc_score(fraud, scores)),
        average_precision=float(average_precision_score(fraud, scores)),
        recall_at_1_percent=recall_at(fraud, scores, 0.01),
        recall_at_5_percent=recall_at(fraud, scores, 0.05),
    )


def recall_at(fraud: Any, scores: Any, rate: float) -> float:
    """The share of fraud above a threshold that at most `rate` of the rest pass, between thresholds in proportion."""
    false, true, _ = roc_curve(fraud, scores)
    return float(np.interp(rate, false, true))


def rate_at(fraud: Any, scores: Any, recall: float) -> float:
    """The smallest share of the rest that must be stopped to stop `recall` of the fraud."""
    false, true, _ = roc_curve(fraud, scores)
    return float(np.interp(recall, true, false))


FIGURES = {
    "AUC": "auc",
    "average precision": "average_precision",
    "recall at 1 %": "recall_at_1_percent",
    "recall at 5 %": "recall_at_5_percent",
}
"""What two models are compared by: in words, and the field of a ranking."""


def compared(fraud: Any, scores: Sequence[Any], seed: int = 0) -> dict[str, list[tuple[float, float, float]]]:
    """For each figure: (value, low, high) of each score, then of the last one less the first: 95 % intervals.

    Rows are drawn again `ROUNDS` times, the same ones for all scores, so that the difference is a paired one (Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993).
    """
    random = np.random.default_rng(seed)
    positive, negative = np.flatnonzero(fraud), np.flatnonzero(~fraud)
    drawn = []
    for _ in range(ROUNDS):
        # Within each class: every sample then has both.
        rows = np.concatenate([random.choice(positive, len(positive)), random.choice(negative, len(negative))])
        drawn.append(_figures(fraud[rows], [each[rows] for each in scores]))
    ends = np.quantile(drawn, (0.025, 0.975), axis=0)  # (end, score, figure)
    values = _figures(fraud, scores)
    return {
        name: [(float(values[k, at]), float(ends[0, k, at]), float(ends[1, k, at])) for k in range(len(values))]
        for at, name in enumerate(FIGURES)
    }


def _figures(fraud: Any, scores: Sequence[Any]) -> Any:
    """(scores + 1, figures): of each score, and of the last one less the first."""
    found = [ranking(fraud, each) for each in scores]
    rows = [[getattr(each, field) for field in FIGURES.values()] for each in found]
    return np.array([*rows, np.subtract(rows[-1], rows[0])])
