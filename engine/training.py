"""Trains an anomaly model and writes it as a folder that a server can check and use.

    name = train(rows, detector, data, folder, seed=7)      # folder/<name>/card.json, all.onnx, segment-1.onnx …

Same rows, detector, seed and versions give the same bytes, and so the same name.
"""

from __future__ import annotations

import math
import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import IsolationForest

from engine.anomaly import (
    CARD,
    Card,
    Parts,
    Period,
    Ranking,
    Reference,
    SegmentCard,
    Usual,
    name_of,
    table,
)
from engine.anomaly.forest import Forest, Tree, graph
from engine.detectors import Detector
from engine.errors import RequestRefused
from engine.ranking import ranking

LEAST = 256
"""Rows below which no forest is trained."""
PARTS = 10
REFERENCES = 100
_PACKAGES = ("arbiter", "numpy", "onnx", "scikit-learn")


@dataclass(frozen=True, slots=True)
class Rows:
    """What a model is trained on: (n, features) floats in the features' own units, NaN for unknown; the segment of each
    row, or None; and which rows were reported as fraud by the end of the data, None where the data has no reports."""

    values: Any
    segments: Sequence[str | None]
    fraud: Any | None


def train(rows: Rows, detector: Detector, data: Period, folder: Path, *, seed: int) -> Card:
    """Train on `rows` and write the model below `folder`; its card. Raises RequestRefused for too few rows.

    The name of the model, and of its folder, is the SHA-256 of the card.
    """
    size = len(rows.segments)
    if size < LEAST:
        raise RequestRefused(f"an anomaly model needs at least {LEAST} rows; these are {size}")
    scaled = np.column_stack(
        [_scaled(rows.values[:, index], feature.scale) for index, feature in enumerate(detector.features)]
    ).astype(np.float32)
    files: dict[str, bytes] = {}
    segments = []
    ranks = np.zeros(size)
    for number, value in enumerate([None, *_segments(rows.segments, detector)]):
        mine = np.array([value is None or each == value for each in rows.segments])
        fitted = _fit(scaled[mine], detector, seed + number)
        body = onnx_of(fitted, scaled.shape[1])
        # The population is scored by what serves it, so that a row of it gets its own percentile.
        scores = Forest(body, scaled.shape[1]).scores(scaled[mine]).astype(float)
        ranks[mine] = np.searchsorted(np.sort(scores), scores) / len(scores)
        file = "all.onnx" if value is None else f"segment-{number}.onnx"
        files[file] = body
        segments.append(
            SegmentCard(
                value=value,
                rows=len(scores),
                file=file,
                sha256=sha256(body).hexdigest(),
                usual=tuple(_usual(column) for column in rows.values[mine].T),
                scores=tuple(table(scores.tolist())),
                score_parts=_parts(scores),
                reference=_reference(fitted, scaled[mine], seed),
            )
        )
    card = Card(
        detector=detector.name,
        kind=detector.kind,
        features=detector.cards,
        segment=detector.segment,
        segments=tuple(segments),
        trees=detector.trees,
        sample=detector.sample,
        seed=seed,
        data=data,
        versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        metrics=None if rows.fraud is None else _ranking(rows.fraud, ranks),
    )
    _write(folder, card.body(), files)
    return card


def _segments(of: Sequence[str | None], detector: Detector) -> list[str]:
    """The values of the segment field with rows enough for a forest of their own."""
    counts = Counter(value for value in of if value is not None)  # none at all where the detector has no segments
    return sorted(value for value, count in counts.items() if count >= detector.at_least)


def _scaled(column: Any, scale: str) -> Any:
    return np.copysign(np.log1p(np.abs(column)), column) if scale == "log" else column


def _fit(rows: Any, detector: Detector, seed: int) -> IsolationForest:
    sample = min(detector.sample, len(rows))
    return IsolationForest(n_estimators=detector.trees, max_samples=sample, random_state=seed).fit(rows)


def onnx_of(fitted: IsolationForest, features: int) -> bytes:
    """A fitted forest as the ONNX bytes that serve it (`engine.anomaly.forest`)."""
    trees = [_tree(each.tree_) for each in fitted.estimators_]
    return graph(trees, features, len(trees) * _average_path(fitted.max_samples_))


def _tree(tree: Any) -> Tree:
    """A fitted tree. A path that ends at a leaf is as long as the leaf is deep, and the average path of an unbuilt tree
    over the rows that ended there."""
    left, right, rows = tree.children_left, tree.children_right, tree.n_node_samples
    depth = np.zeros(tree.node_count, int)
    for node in range(tree.node_count):  # Parents come before their children.
        if left[node] >= 0:
            depth[left[node]] = depth[right[node]] = depth[node] + 1
    length = [float(deep) + _average_path(count) for deep, count in zip(depth.tolist(), rows.tolist(), strict=True)]
    # Down, not to the nearest: then float32 rows go the way they would against the float64 threshold.
    near = tree.threshold.astype(np.float32)
    below_it = np.nextafter(near, np.float32(-np.inf))
    threshold: list[float] = np.where(near > tree.threshold, below_it, near).tolist()
    return Tree(
        left.tolist(),
        right.tolist(),
        tree.feature.tolist(),
        threshold,
        tree.missing_go_to_left.astype(bool).tolist(),
        rows.tolist(),
        length,
    )


def _average_path(rows: int) -> float:
    """The average path length of an unsuccessful search among `rows`: equation 1 of the paper (`engine.anomaly`)."""
    if rows <= 2:
        return float(rows - 1) if rows > 0 else 0.0
    return 2.0 * (math.log(rows - 1) + np.euler_gamma) - 2.0 * (rows - 1) / rows


def _usual(column: Any) -> Usual:
    known = column[~np.isnan(column)]
    if not len(known):
        return Usual(low=None, median=None, high=None, parts=_parts(column))
    low, median, high = np.quantile(known, (0.05, 0.5, 0.95), method="inverted_cdf").tolist()
    return Usual(low=low, median=median, high=high, parts=_parts(column))


def _parts(column: Any) -> Parts:
    known = column[~np.isnan(column)]
    steps = [step / PARTS for step in range(1, PARTS)]
    edges = sorted(set(np.quantile(known, steps, method="inverted_cdf").tolist())) if len(known) else []
    counts = np.bincount(np.searchsorted(edges, known), minlength=len(edges) + 1).tolist()
    shares = [count / len(column) for count in (*counts, len(column) - len(known))]
    return Parts(edges=tuple(edges), shares=tuple(shares))


def _reference(fitted: IsolationForest, rows: Any, seed: int) -> Reference:
    chosen = rows[np.random.default_rng(seed).permutation(len(rows))[:REFERENCES]]
    given = (-fitted.score_samples(chosen)).tolist()
    shown = [[None if math.isnan(value) else value for value in row] for row in chosen.tolist()]
    return Reference(rows=tuple(map(tuple, shown)), scores=tuple(given))


def _ranking(fraud: Any, ranks: Any) -> Ranking | None:
    return ranking(fraud, ranks) if 0 < fraud.sum() < len(fraud) else None


def _write(folder: Path, card: bytes, files: dict[str, bytes]) -> None:
    """All files of a model, or none: a server may be looking."""
    into = folder / name_of(card)
    part = folder / f".{into.name}.{os.getpid()}"
    part.mkdir(parents=True)
    for name, body in {**files, CARD: card}.items():
        (part / name).write_bytes(body)
    if into.exists():  # Trained before: same name, same bytes.
        for file in part.iterdir():
            file.unlink()
        part.rmdir()
    else:
        part.rename(into)
