"""How well a score ranks fraud above the rest: the figures of docs that name recall with its false-positive rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


FIGURES: tuple[tuple[str, Callable[[Any, Any], float]], ...] = (
    ("AUC", lambda fraud, scores: float(roc_auc_score(fraud, scores))),
    ("average precision", lambda fraud, scores: float(average_precision_score(fraud, scores))),
    ("recall at 1 %", lambda fraud, scores: recall_at(fraud, scores, 0.01)),
    ("recall at 5 %", lambda fraud, scores: recall_at(fraud, scores, 0.05)),
)
"""What two models are compared by."""


def compared(fraud: Any, scores: Sequence[Any], seed: int = 0) -> list[tuple[str, list[tuple[float, float, float]]]]:
    """For each figure: (value, low, high) of each score, then of the last one less the first: 95 % intervals.

    Rows are drawn again `ROUNDS` times, the same ones for all scores, so that the difference is a paired one (Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993).
    """
    random = np.random.default_rng(seed)
    positive, negative = np.flatnonzero(fraud), np.flatnonzero(~fraud)
    drawn: list[list[list[float]]] = [[[] for _ in range(len(scores) + 1)] for _ in FIGURES]
    for _ in range(ROUNDS):
        # Within each class: every sample then has both.
        rows = np.concatenate([random.choice(positive, len(positive)), random.choice(negative, len(negative))])
        for figure, (_, measure) in zip(drawn, FIGURES, strict=True):
            values = [measure(fraud[rows], each[rows]) for each in scores]
            for held, value in zip(figure, [*values, values[-1] - values[0]], strict=True):
                held.append(value)
    found = []
    for (name, measure), figure in zip(FIGURES, drawn, strict=True):
        values = [measure(fraud, each) for each in scores]
        ends = [np.quantile(held, (0.025, 0.975)).tolist() for held in figure]
        found.append((name, [(v, *e) for v, e in zip([*values, values[-1] - values[0]], ends, strict=True)]))
    return found
