"""A model as served: its card, its forests, and what an event's row of features means to them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from engine.anomaly.card import CARD, Card, SegmentCard, name_of
from engine.anomaly.percentiles import GRID, percentile
from engine.errors import ModelUnavailable

if TYPE_CHECKING:
    from engine.anomaly.forest import Forest

TOLERANCE = 1e-6
"""By how much a score may differ from the one scikit-learn gave."""
MAX_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Odd:
    """How unusual a row is: `score` in (0, 1), larger is odder, and which percentage of the population is less so."""

    score: float
    percentile: Decimal

    @property
    def rank(self) -> float:
        """Where the row stands among all, across segments: the percentile, and the score where that is the same."""
        return float(self.percentile) + self.score / 1000


@dataclass(frozen=True, slots=True)
class Share:
    """What one feature adds to the oddness of a row.

    `change` is by how many nodes it shortens the mean path; changes of all features and the base add up to the row's
    own. `low` and `high` are the usual range: 90 % of the training rows of the segment.
    """

    feature: int
    value: float
    change: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class _Segment:
    card: SegmentCard
    forest: Forest


class Model:
    """A model that was read whole and found to be what its card says. Never changed; threads may share it."""

    def __init__(self, name: str, card: Card, forests: Mapping[str | None, tuple[SegmentCard, Forest]]) -> None:
        self.name = name
        self.card = card
        self._segments = {value: _Segment(*each) for value, each in forests.items()}
        self._rest = self._segments[None]
        self._logs = tuple(index for index, feature in enumerate(card.features) if feature.scale == "log")

    def segment(self, value: str | None) -> SegmentCard:
        """The part of the population that rows with this value of the segment field are compared with."""
        return self._segments.get(value, self._rest).card

    def look(self, row: Sequence[float], segment: str | None = None) -> Odd:
        """How unusual a row is: one float a feature, in the features' own units, NaN where it is unknown."""
        of = self._segments.get(segment, self._rest)
        score = of.forest.score(self.scaled(row))
        return Odd(score, percentile(of.card.scores, score))

    def look_all(self, rows: Any, segments: Sequence[str | None]) -> list[Odd]:
        """The same for many rows at once: (n, features) and n segments."""
        scaled = np.array([self.scaled(row) for row in rows], np.float32).reshape(-1, len(self.card.features))
        found: list[Odd | None] = [None] * len(segments)
        of = [segment if segment in self._segments else None for segment in segments]
        for value, each in self._segments.items():
            places = [place for place, own in enumerate(of) if own == value]
            if places:
                for place, score in zip(places, each.forest.scores(scaled[places]).tolist(), strict=True):
                    found[place] = Odd(score, percentile(each.card.scores, score))
        return [odd for odd in found if odd is not None]

    def why(self, row: Sequence[float], segment: str | None = None) -> tuple[Share, ...]:
        """What each feature adds, the largest addition first; equal ones in the order of the features."""
        of = self._segments.get(segment, self._rest)
        changes = of.forest.contributions(self.scaled(row))
        shares = (
            Share(index, value, -change, usual.low, usual.high)
            for index, (value, change, usual) in enumerate(zip(row, changes, of.card.usual, strict=True))
        )
        return tuple(sorted(shares, key=lambda share: (-share.change, share.feature)))

    def forest(self, segment: str | None = None) -> Forest:
        """The forest that rows of this segment go through."""
        return self._segments.get(segment, self._rest).forest

    def scaled(self, row: Sequence[float]) -> list[float]:
        """The row as the forest sees it."""
        scaled = list(row)
        for index in self._logs:
            scaled[index] = math.copysign(math.log1p(abs(scaled[index])), scaled[index])
        return scaled


def read_model(root: Path, name: str) -> Model:
    """The model `name` in the folder `root`. Raises ModelUnavailable, which says why."""
    folder = root / name
    body = _read(folder / CARD)
    if name_of(body) != name:
        raise ModelUnavailable(f"{folder / CARD} was changed: its SHA-256 is not {name}")
    try:
        card = Card.model_validate_json(body)
    except ValidationError as error:
        what = error.errors()[0]["msg"]
        raise ModelUnavailable(f"{folder / CARD} is no card that this version reads: {what}") from None
    if card.segments[0].value is not None:
        raise ModelUnavailable(f"{folder / CARD} has no forest for all rows")
    return Model(name, card, {each.value: (each, _forest(folder, card, each)) for each in card.segments})


def _forest(folder: Path, card: Card, segment: SegmentCard) -> Forest:
    # A server without a model need not load ONNX.
    from engine.anomaly.forest import Forest

    file = folder / segment.file
    body = _read(file)
    if sha256(body).hexdigest() != segment.sha256:
        raise ModelUnavailable(f"{file} was changed: its SHA-256 is not the one in {CARD}")
    if len(segment.usual) != len(card.features) or len(segment.scores) != len(GRID):
        raise ModelUnavailable(f"{folder / CARD}: the parts of a segment do not fit the features")
    try:
        forest = Forest(body, len(card.features))
        rows = np.array([[math.nan if v is None else v for v in row] for row in segment.reference.rows], np.float32)
        given = forest.scores(rows)
    except Exception as error:  # noqa: BLE001 - onnxruntime raises its own kinds
        raise ModelUnavailable(f"{file} cannot be used: {error}") from None
    if not np.allclose(given, np.array(segment.reference.scores), rtol=0, atol=TOLERANCE):
        raise ModelUnavailable(f"{file} gives other scores here than where it was trained")
    return forest


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ModelUnavailable(f"{file} is larger than {MAX_BYTES >> 20} MiB")
        return file.read_bytes()
    except OSError as error:
        raise ModelUnavailable(f"{file}: {error.strerror}") from None
