"""Exact Shapley values of a row's mean path length: what an auditor may want beside the quick walk of `Forest`.

For every leaf of every tree: its length counts in full where the row goes its way, and in proportion of the training
rows where a feature is left out (path-dependent TreeSHAP: Lundberg et al., "From local explanations to global
understanding with explainable AI for trees", 2020). A leaf's path asks about few features, so the sum over all their
subsets is the product of as many polynomials.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import factorial

import numpy as np

from engine.anomaly.forest import Forest, Node


def shapley(forest: Forest, row: Sequence[float]) -> list[float]:
    """By how much each feature lengthens the mean path of the (scaled) row; with `forest.base` they add up to it."""
    values = np.array(row, np.float32).tolist()
    total = [0.0] * forest.features
    for tree in forest.trees:
        for length, asked in _leaves(tree, values):
            for feature, part in _parts(asked):
                total[feature] += length * part
    return [each / len(forest.trees) for each in total]


_Asked = dict[int, tuple[float, bool]]
"""By feature: the share of training rows that go this way where it is left out, and whether the row itself does."""


def _leaves(tree: dict[int, Node], values: Sequence[float]) -> Iterator[tuple[float, _Asked]]:
    waiting: list[tuple[int, _Asked]] = [(0, {})]
    while waiting:
        number, asked = waiting.pop()
        node = tree[number]
        if node.feature < 0:
            yield node.length, asked
            continue
        value = values[node.feature]
        goes_left = value <= node.threshold or (node.missing_left and value != value)
        came = tree[node.left].rows + tree[node.right].rows
        share, on = asked.get(node.feature, (1.0, True))
        for child, goes in ((node.left, goes_left), (node.right, not goes_left)):
            waiting.append((child, {**asked, node.feature: (share * tree[child].rows / came, on and goes)}))


def _parts(asked: _Asked) -> Iterator[tuple[int, float]]:
    """For each feature of a leaf's path: its Shapley value for an indicator of that leaf."""
    size = len(asked)
    weights = [factorial(k) * factorial(size - k - 1) / factorial(size) for k in range(size)]
    product = [1.0]
    for share, on in asked.values():
        product = _times(product, share, on)
    for feature, (share, on) in asked.items():
        rest = _without(product, share, on)
        yield feature, (on - share) * sum(weight * each for weight, each in zip(weights, rest, strict=True))


def _times(product: list[float], share: float, on: bool) -> list[float]:
    """The product with one more factor (share + on * t); coefficients from t^0 on."""
    low, high = [each * share for each in product], [each * on for each in product]
    return [a + b for a, b in zip([*low, 0.0], [0.0, *high], strict=True)]


def _without(product: list[float], share: float, on: bool) -> list[float]:
    """The product without that factor."""
    if not on:
        return [each / share for each in product[:-1]]
    # From the highest coefficient down: there it is divided by 1, never by a small share.
    rest = [0.0] * (len(product) - 1)
    above = 0.0
    for place in range(len(rest) - 1, -1, -1):
        above = rest[place] = product[place + 1] - share * above
    return rest
