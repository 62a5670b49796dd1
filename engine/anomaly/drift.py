"""How far the events of late differ from the training population: the population stability index (PSI).

PSI = sum over the parts of (now - then) * ln(now / then). Two samples of one population do not give 0 but about
(parts - 1) * (1/n + 1/m), so that is taken off, and below `LEAST` rows no figure is given.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from engine.anomaly.card import Parts, SegmentCard
from engine.anomaly.model import Model

LEAST = 1000
SPAN = 5000
"""Rows in one bucket; figures are over the last full bucket and the one that fills."""
_SMALLEST = 1e-4
"""A share that is 0 counts as so much: its logarithm would be infinite."""
SCORE = "anomaly"


class Drift:
    """Counts the rows that one model looked at. For one thread."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._now: dict[str | None, _Bucket] = {}
        self._last: dict[str | None, _Bucket] = {}
        self.detector = model.card.detector
        self.model = model.name

    def add(self, row: Sequence[float], segment: str | None, score: float) -> None:
        """One more row, and the score it got."""
        card = self._model.segment(segment)
        bucket = self._now.get(card.value)
        if bucket is None:
            bucket = self._now[card.value] = _Bucket(card)
        bucket.add(row, score)
        if bucket.rows == SPAN:
            self._last[card.value] = self._now.pop(card.value)

    def figures(self) -> Mapping[tuple[str, str], float]:
        """PSI by segment ("" for the rest) and feature, or `anomaly` for the score. Segments with few rows are out."""
        found = {}
        names = (*(feature.name for feature in self._model.card.features), SCORE)
        for value in {*self._now, *self._last}:
            buckets = [held[value] for held in (self._last, self._now) if value in held]
            card, rows = buckets[0].card, sum(bucket.rows for bucket in buckets)
            if rows < LEAST:
                continue
            for index, (name, then) in enumerate(zip(names, _parts(card), strict=True)):
                counts = [sum(parts) for parts in zip(*(bucket.counts[index] for bucket in buckets), strict=True)]
                found[value or "", name] = psi(then.shares, counts, card.rows)
        return found


class _Bucket:
    def __init__(self, card: SegmentCard) -> None:
        self.card = card
        self.rows = 0
        self._edges = [parts.edges for parts in _parts(card)]
        self.counts = [[0] * (len(edges) + 2) for edges in self._edges]
        """By feature: how many rows in each part, and last those without a value."""

    def add(self, row: Sequence[float], score: float) -> None:
        self.rows += 1
        for counts, edges, value in zip(self.counts, self._edges, (*row, score), strict=True):
            counts[-1 if value != value else bisect_left(edges, value)] += 1


def _parts(card: SegmentCard) -> tuple[Parts, ...]:
    return (*(usual.parts for usual in card.usual), card.score_parts)


def psi(then: Sequence[float], counts: Sequence[int], rows: int) -> float:
    """The index of `counts` against the shares `then` of `rows` rows, less what chance alone gives; never below 0."""
    total = sum(counts)
    index, parts = 0.0, 0
    for share, count in zip(then, counts, strict=True):
        if not share and not count:
            continue
        parts += 1
        before, now = max(share, _SMALLEST), max(count / total, _SMALLEST)
        index += (now - before) * math.log(now / before)
    return max(0.0, index - (parts - 1) * (1 / total + 1 / rows))
