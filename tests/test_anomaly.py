"""engine.anomaly and engine.training: the served model against scikit-learn, Shapley values and the card."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from decimal import Decimal
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest

from engine.anomaly import GRID, Drift, Model, percentile, read_model, table
from engine.anomaly.drift import LEAST, SCORE, SPAN, psi
from engine.anomaly.forest import Forest, Node
from engine.anomaly.shapley import shapley
from engine.errors import ModelUnavailable, RequestRefused
from engine.training import LEAST as LEAST_ROWS
from engine.training import onnx_of
from tests import models
from tests.books import book

FEATURES = 6
EMPTY = onnx.helper.make_graph([], "empty", [], [])


def fitted(seed: int = 3, *, trees: int = 30, missing: float = 0.05, rows: int = 3000) -> IsolationForest:
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, FEATURES)).astype(np.float32)
    values[random.random(values.shape) < missing] = np.nan
    return IsolationForest(n_estimators=trees, max_samples=256, random_state=seed).fit(values)


def asked(size: int, seed: int = 4, missing: float = 0.1) -> Any:
    random = np.random.default_rng(seed)
    values = (random.normal(size=(size, FEATURES)) * 3).astype(np.float32)
    values[random.random(values.shape) < missing] = np.nan
    return values


# ------------------------------------------------------------------------------ the served forest


@pytest.mark.parametrize("missing", [0.0, 0.05], ids=["trained on complete rows", "trained on rows with gaps"])
def test_a_served_score_is_scikit_learns(missing: float) -> None:
    trained = fitted(missing=missing)
    given_rows = asked(100_000)
    served = Forest(onnx_of(trained, FEATURES), FEATURES).scores(given_rows)
    assert np.abs(served + trained.score_samples(given_rows)).max() < 1e-6


def test_a_row_on_a_threshold_or_beside_it_goes_the_way_it_goes_in_scikit_learn() -> None:
    """One other way in one tree would show: it changes the score by far more than rounding does."""
    trained = fitted()
    splits = [
        (feature, np.float32(threshold))
        for each in trained.estimators_
        for feature, threshold, left in zip(
            each.tree_.feature, each.tree_.threshold, each.tree_.children_left, strict=True
        )
        if left >= 0
    ]
    base = asked(1, missing=0.0)[0]
    rows = []
    for feature, threshold in splits:
        for value in (threshold, np.nextafter(threshold, np.float32(9e9)), np.nextafter(threshold, np.float32(-9e9))):
            row = base.copy()
            row[feature] = value
            rows.append(row)
    served = Forest(onnx_of(trained, FEATURES), FEATURES).scores(np.array(rows))
    assert len(rows) > 5_000
    assert np.abs(served + trained.score_samples(np.array(rows))).max() < 1e-6


def test_one_row_scores_as_it_does_among_many() -> None:
    forest = Forest(onnx_of(fitted(), FEATURES), FEATURES)
    rows = asked(200)
    assert [forest.score(row) for row in rows.tolist()] == forest.scores(rows).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("explain", [Forest.contributions, shapley], ids=["the walk", "Shapley values"])
def test_contributions_add_up_to_the_score(explain: Callable[[Forest, list[float]], list[float]]) -> None:
    forest = Forest(onnx_of(fitted(), FEATURES), FEATURES)
    for row in asked(50).tolist():
        length = forest.base + sum(explain(forest, row))
        assert forest.oddness(length) == pytest.approx(forest.score(row), abs=1e-6)


def expected(tree: dict[int, Node], number: int, known: frozenset[int], row: list[float]) -> float:
    """The path length expected of a row of which only some features are known: as the definition says."""
    node = tree[number]
    if node.feature < 0:
        return node.length
    if node.feature in known:
        value = row[node.feature]
        left = value <= node.threshold or (node.missing_left and math.isnan(value))
        return expected(tree, node.left if left else node.right, known, row)
    parts = [(tree[child].rows, expected(tree, child, known, row)) for child in (node.left, node.right)]
    return sum(rows * length for rows, length in parts) / sum(rows for rows, _ in parts)


def test_shapley_values_are_those_of_the_definition() -> None:
    """Against the sum over all subsets of the other features."""
    forest = Forest(onnx_of(fitted(trees=5, rows=400), FEATURES), FEATURES)
    for row in asked(3).tolist():
        for feature, value in enumerate(shapley(forest, row)):
            others = [each for each in range(FEATURES) if each != feature]
            wanted = 0.0
            for size in range(FEATURES):
                weight = math.factorial(size) * math.factorial(FEATURES - size - 1) / math.factorial(FEATURES)
                for chosen in combinations(others, size):
                    without, within = frozenset(chosen), frozenset((*chosen, feature))
                    gain = [expected(tree, 0, within, row) - expected(tree, 0, without, row) for tree in forest.trees]
                    wanted += weight * sum(gain) / len(gain)
            assert value == pytest.approx(wanted, abs=1e-9)


def test_what_is_planted_contributes_most() -> None:
    forest = Forest(onnx_of(fitted(trees=100, missing=0.0), FEATURES), FEATURES)
    found = []
    for feature in range(FEATURES):
        row = [0.0] * FEATURES
        row[feature] = 6.0
        changes = forest.contributions(row)
        found.append(changes.index(min(changes)))
    assert found == list(range(FEATURES))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no ONNX"),
        (b"\x00\x01garbage", "no ONNX"),
        (
            onnx.helper.make_model(EMPTY).SerializeToString(),
            "no isolation forest",
        ),
    ],
    ids=["nothing", "garbage", "another graph"],
)
def test_bytes_that_are_no_forest_are_refused(body: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Forest(body, FEATURES)


# ------------------------------------------------------------------------------------ percentiles


def test_the_grid_is_tenths_and_from_99_hundredths() -> None:
    assert len(GRID) == 1091
    assert GRID[:3] == (Decimal("0.0"), Decimal("0.1"), Decimal("0.2"))
    assert GRID[989:993] == (Decimal("98.9"), Decimal("99.00"), Decimal("99.01"), Decimal("99.02"))
    assert GRID[-1] == Decimal("100.00")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=400), st.floats(0, 1))
def test_a_percentile_never_says_more_than_is_below(population: list[float], score: float) -> None:
    given_table = table(population)
    below = 100 * sum(each < score for each in population) / len(population)
    found = percentile(given_table, score)
    assert float(found) <= below + 1e-9
    after = GRID[GRID.index(found) + 1] if found != GRID[-1] else None
    if after is not None:  # The next step would say too much.
        assert float(after) > below - 100 / len(population) - 1e-9


def test_what_is_odder_than_all_is_at_100_and_what_is_like_the_most_usual_at_0() -> None:
    given_table = table([0.4, 0.5, 0.6])
    assert (percentile(given_table, 0.7), percentile(given_table, 0.4)) == (Decimal("100.00"), Decimal("0.0"))


# --------------------------------------------------------------------------- training and reading


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A rulebook with a detector, and a folder with one model of it."""
    folder = tmp_path_factory.mktemp("small")
    made = book(folder / "packs", models.files())
    return made, folder / "models", models.trained(made, folder / "models")


def test_the_same_rows_and_seed_give_the_same_model_and_another_seed_another_one(small: Any, tmp_path: Path) -> None:
    made, _, name = small
    assert models.trained(made, tmp_path) == name
    assert models.trained(made, tmp_path) == name  # It is there already: nothing is written, nothing fails.
    assert models.trained(made, tmp_path, seed=2) != name
    assert len(list(tmp_path.iterdir())) == 2


def test_a_model_gives_its_own_training_rows_their_own_percentiles(small: Any) -> None:
    _, folder, name = small
    values = models.rows().values
    found = read_model(folder, name).look_all(values, [None] * len(values))
    above = sum(odd.percentile >= 99 for odd in found) / len(found)
    assert 0.005 < above <= 0.0105


def test_looking_at_many_rows_is_looking_at_each(small: Any) -> None:
    _, folder, name = small
    model = read_model(folder, name)
    values = models.rows(size=50).values
    assert model.look_all(values, [None] * 50) == [model.look(row) for row in values.tolist()]


def test_why_names_the_feature_with_its_usual_range(small: Any) -> None:
    _, folder, name = small
    model = read_model(folder, name)
    odd, (first, second) = model.look((4980.0, 0.0)), model.why((4980.0, 0.0))
    assert odd.percentile > 99
    assert (first.feature, first.value) == (0, 4980.0)
    assert first.low is not None
    assert first.high is not None
    assert 3 < first.low < 10 < first.high < 200
    assert first.change > second.change


def test_the_card_says_how_well_the_score_ranks_what_was_reported(small: Any) -> None:
    _, folder, name = small
    metrics = read_model(folder, name).card.metrics
    assert metrics is not None
    assert metrics.known == 2000
    assert metrics.fraud == int(models.rows().fraud.sum())
    assert metrics.auc > 0.9


def test_rows_without_reports_give_a_card_without_a_ranking(small: Any, tmp_path: Path) -> None:
    made, _, _ = small
    rows = models.rows()
    assert models.card(made, tmp_path, of=type(rows)(rows.values, rows.segments, None)).metrics is None


SEGMENTED = models.DETECTOR + "segment: {by: merchant.category, at_least: 500}\n"


def test_a_category_with_rows_enough_has_a_forest_of_its_own(tmp_path: Path) -> None:
    made = book(tmp_path / "packs", {**models.files(), "policies/anomaly.yaml": SEGMENTED})
    rows = models.rows(segments=("toys", "toys", "jewellery", None))
    rows.values[2::4, 0] *= 100  # jewellery is dear
    card = models.card(made, tmp_path / "models", of=rows)
    assert [(each.value, each.rows) for each in card.segments] == [(None, 2000), ("jewellery", 500), ("toys", 1000)]
    model = read_model(tmp_path / "models", models.name_of(card.body()))
    assert model.look((2000.0, 0.0), "jewellery").percentile < 90
    assert model.look((2000.0, 0.0), "toys").percentile > 99
    assert model.look((2000.0, 0.0), "never seen").percentile == model.look((2000.0, 0.0), None).percentile


def test_too_few_rows_train_nothing(small: Any, tmp_path: Path) -> None:
    made, _, _ = small
    with pytest.raises(RequestRefused, match=f"at least {LEAST_ROWS} rows; these are 255"):
        models.trained(made, tmp_path, of=models.rows(size=255))
    assert not tmp_path.exists() or not list(tmp_path.iterdir())


def _changed_card(folder: Path) -> None:
    file = folder / "card.json"
    file.write_bytes(file.read_bytes().replace(b'"trees": 100', b'"trees": 101'))


def _changed_forest(folder: Path) -> None:
    file = folder / "all.onnx"
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(body)


DAMAGE = [
    ("the folder is gone", lambda folder: [file.unlink() for file in folder.iterdir()], "No such file"),
    ("the card was changed", _changed_card, "was changed"),
    ("one bit of the forest was changed", _changed_forest, "was changed"),
    ("the forest is gone", lambda folder: (folder / "all.onnx").unlink(), "No such file"),
]


@pytest.mark.parametrize(("damage", "says"), [row[1:] for row in DAMAGE], ids=[row[0] for row in DAMAGE])
def test_a_damaged_model_is_not_used(small: Any, tmp_path: Path, damage: Callable[[Path], Any], says: str) -> None:
    _, folder, name = small
    copy = tmp_path / name
    copy.mkdir()
    for file in (folder / name).iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert read_model(tmp_path, name).name == name
    damage(copy)
    with pytest.raises(ModelUnavailable, match=says):
        read_model(tmp_path, name)


def test_a_model_that_scores_otherwise_here_than_where_it_was_trained_is_not_used(small: Any, tmp_path: Path) -> None:
    """Its name and hashes fit: only the reference rows tell."""
    _, folder, name = small
    card = json.loads((folder / name / "card.json").read_bytes())
    card["segments"][0]["reference"]["scores"][0] += 0.001
    body = json.dumps(card).encode()
    copy = tmp_path / models.name_of(body)
    copy.mkdir()
    (copy / "card.json").write_bytes(body)
    (copy / "all.onnx").write_bytes((folder / name / "all.onnx").read_bytes())
    with pytest.raises(ModelUnavailable, match="other scores here"):
        read_model(tmp_path, copy.name)


# ------------------------------------------------------------------------------------------ drift


def drift_after(model: Model, values: Any) -> dict[tuple[str, str], float]:
    drift = Drift(model)
    for row in values.tolist():
        drift.add(row, None, model.look(row).score)
    return dict(drift.figures())


def test_rows_of_the_same_population_do_not_drift(small: Any) -> None:
    _, folder, name = small
    figures = drift_after(read_model(folder, name), models.rows(size=3000, seed=9).values)
    assert set(figures) == {("", "amount"), ("", "tries"), ("", SCORE)}
    assert max(figures.values()) < 0.05


def test_dearer_orders_drift_in_the_amount_and_the_score_alone(small: Any) -> None:
    _, folder, name = small
    values = models.rows(size=3000, seed=9).values
    values[:, 0] *= 6
    figures = drift_after(read_model(folder, name), values)
    assert figures["", "amount"] > 0.25
    assert figures["", SCORE] > 0.25
    assert figures["", "tries"] < 0.05


def test_a_value_that_stays_away_drifts(small: Any) -> None:
    _, folder, name = small
    values = models.rows(size=2000, seed=9).values
    values[:, 1] = np.nan
    assert drift_after(read_model(folder, name), values)["", "tries"] > 0.25


def test_few_rows_give_no_figure_and_old_ones_are_forgotten(small: Any) -> None:
    _, folder, name = small
    model = read_model(folder, name)
    values = models.rows(size=LEAST - 1, seed=9).values
    assert drift_after(model, values) == {}
    odd, plain = np.full((SPAN, 2), 9e6), models.rows(size=2 * SPAN, seed=9).values
    assert drift_after(model, np.concatenate([odd, plain]))["", "amount"] < 0.05


def test_two_samples_of_one_population_have_an_index_near_0() -> None:
    """What chance alone gives is taken off (the figures of docs/models.md)."""
    random = np.random.default_rng(5)
    found = []
    for _ in range(200):
        counts = np.bincount(random.integers(0, 10, 1000), minlength=10).tolist()
        then = (np.bincount(random.integers(0, 10, 1000), minlength=10) / 1000).tolist()
        found.append(psi(then, counts, 1000))
    assert np.mean(found) < 0.01
