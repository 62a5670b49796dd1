"""A small anomaly model for tests: payments by amount and by how many there were on the card within the hour."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.anomaly import Card, Period, name_of
from engine.detectors import Detector
from engine.rulebook import Rulebook
from engine.training import Rows, train
from tests.books import SMALL

DETECTOR = """\
anomaly: till
about: Payments like no others.
for: payment
owner: payments-risk
features:
  amount: {value: amount, unit: CNY, scale: log, label: {en: amount, zh: 金额}}
  tries: {value: "count(last 1h by card.ref)", label: {en: payments on the card in an hour, zh: 该卡一小时内笔数}}
"""

DATA = Period(sha256="0" * 64, rows=2000, first="2026-05-01T00:00:00Z", last="2026-07-31T00:00:00Z")


def files(pin: str | None = None, *challengers: str, counted: bool = True) -> dict[str, str]:
    """The small rulebook with a detector, and a policy that counts the anomaly from the 99th percentile on."""
    found = dict(SMALL)
    lines = [f"model: {pin}\n"] if pin else []
    lines += [f"challengers: [{', '.join(challengers)}]\n"] if challengers else []
    found["policies/anomaly.yaml"] = DETECTOR + "".join(lines)
    if counted:
        found["policies/till.yaml"] += "score: {cap: 100, anomaly: {at: 99, points: 45}}\n"
        found["policies/till.yaml"] += "degraded: {model_unavailable: {at_least: review}}\n"
    return found


def rows(size: int = 2000, seed: int = 1, *, segments: tuple[str | None, ...] = (None,)) -> Rows:
    """Amounts around 20, and nearly always no other payment on the card. One in a hundred is fraud, and large."""
    random = np.random.default_rng(seed)
    amounts = np.round(np.exp(random.normal(3.0, 0.8, size)), 2)
    tries = random.poisson(0.2, size).astype(float)
    fraud = random.random(size) < 0.01
    amounts[fraud] *= 30
    tries[random.random(size) < 0.05] = np.nan
    return Rows(np.column_stack([amounts, tries]), [segments[i % len(segments)] for i in range(size)], fraud)


def detector_of(book: Rulebook) -> Detector:
    """The one detector of a rulebook."""
    (found,) = book.detectors
    return found


def trained(book: Rulebook, folder: Path, *, seed: int = 1, of: Rows | None = None) -> str:
    """Train on `rows` (or others); the name of the model below `folder`."""
    return name_of(card(book, folder, seed=seed, of=of).body())


def card(book: Rulebook, folder: Path, *, seed: int = 1, of: Rows | None = None) -> Card:
    """The same; its card."""
    return train(of or rows(), detector_of(book), DATA, folder, seed=seed)
