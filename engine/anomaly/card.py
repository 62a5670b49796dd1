"""The card of a model: what it was trained on, what it expects, and the population it compares with.

A model is a folder named by the SHA-256 of its `card.json`; the card names the SHA-256 of every other file. So a
rulebook that pins the name pins every byte.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

CARD = "card.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FeatureCard(_Part):
    """One feature as the model was trained on it: its canonical expression with what groups in it are, unit, scale."""

    name: str
    expression: str
    unit: str
    scale: Literal["plain", "log"]


class Parts(_Part):
    """A distribution in parts: part k holds the values above edge k - 1 and up to edge k, the last one those above all
    edges; then follows the share of unknown values. The shares are of all rows."""

    edges: tuple[float, ...]
    shares: tuple[float, ...]


class Usual(_Part):
    """What one feature is among the training rows of a segment, in the feature's own unit.

    `low` and `high` hold 90 % of the known values between them; None when no value was known.
    """

    low: float | None
    median: float | None
    high: float | None
    parts: Parts


class Reference(_Part):
    """Rows of training data and the scores that scikit-learn gave them: what a reader must reproduce."""

    rows: tuple[tuple[float | None, ...], ...]
    scores: tuple[float, ...]


class SegmentCard(_Part):
    """One forest: the rows of one value of the segment field, or those of all rows where `value` is None.

    `scores` is the table of the population (`percentiles`), in score_samples turned positive: larger is odder.
    """

    value: str | None
    rows: int = Field(ge=1)
    file: str = Field(pattern=r"^[a-z0-9-]+\.onnx$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    usual: tuple[Usual, ...]
    scores: tuple[float, ...]
    score_parts: Parts
    reference: Reference


class Period(_Part):
    """The training data: the hash of the file, its rows used, and the times of the first and last of them."""

    sha256: str
    rows: int
    first: str
    last: str


class Ranking(_Part):
    """How well a score ranks the rows that were reported as fraud above the others.

    A recall names the share of the others that would be stopped with it.
    """

    known: int
    fraud: int
    auc: float
    average_precision: float
    recall_at_1_percent: float
    recall_at_5_percent: float


class Card(_Part):
    """See the module.

    `metrics` are over the training rows and what was reported of them by the end of the data, where there were reports.
    The forest never saw the reports, so this is no fit to them; a test on later data it is not either.
    """

    format: Literal[1] = 1
    detector: str
    kind: str
    features: tuple[FeatureCard, ...] = Field(min_length=1)
    segment: str | None
    segments: tuple[SegmentCard, ...] = Field(min_length=1)
    trees: int
    sample: int
    seed: int
    data: Period
    versions: dict[str, str]
    metrics: Ranking | None = None

    def body(self) -> bytes:
        """The bytes of `card.json`: same card, same bytes."""
        return orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)


def name_of(card: bytes) -> str:
    """The name of the model whose card these bytes are."""
    return sha256(card).hexdigest()
