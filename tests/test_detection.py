"""bench.detection and bench._scorecard on rows made here: figures, fitted points, and the packs they are about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import _scorecard, detection
from bench._judged import PACKS
from bench._others import stratified
from bench._scorecard import fit, with_points
from engine.rulebook import Rulebook, load
from engine.trial import try_rules

TEXT = (PACKS / "rules/scorecard.yaml").read_text("utf-8")


@pytest.fixture(scope="module")
def scorecard() -> Rulebook:
    return load(PACKS / "rules", PACKS / "policies")


def test_the_scorecard_does_what_its_tests_say(scorecard: Rulebook) -> None:
    assert [trial.problem for trial in try_rules(scorecard) if trial.problem] == []


def test_every_rule_of_the_scorecard_is_shown_firing_and_quiet(scorecard: Rulebook) -> None:
    for rule in scorecard.rules:
        assert {"fires", "quiet"} <= {test.expect for test in rule.tests}, rule.id


def test_a_group_of_the_scorecard_runs_from_mild_to_severe_and_the_cap_is_never_reached(scorecard: Rulebook) -> None:
    groups: dict[str, list[int]] = {}
    for rule in scorecard.rules:
        groups.setdefault(rule.finding.group, []).append(rule.finding.points)
    assert all(points == sorted(points) for points in groups.values()), groups
    policy = scorecard.kinds["transaction"].policy
    assert policy is not None
    assert sum(map(max, groups.values())) <= policy.pack.score.cap


def test_the_scorecard_where_frauds_are_known_sooner_is_still_a_rulebook(tmp_path: Path) -> None:
    """Its inline tests are about seven days, so only that it is read."""
    (tmp_path / "scorecard.yaml").write_text(detection.known_after_a_day(TEXT), "utf-8")
    assert len(load(tmp_path, PACKS / "policies").rules) == TEXT.count("\n  - id: ")


# Points


def rows(*counts: tuple[tuple[int, ...], int, int]) -> tuple[Any, Any]:
    """(which rules fire, payments, frauds among them) as columns."""
    fired = [row for row, size, _ in counts for _ in range(size)]
    fraud = [place < frauds for _, size, frauds in counts for place in range(size)]
    return np.array(fired, bool), np.array(fraud)


def test_ten_points_double_the_odds() -> None:
    fired, fraud = rows(((0,), 101_000, 1_000), ((1,), 26_000, 1_000))
    found = fit(fired, fraud, [""])
    assert found.points == (20,)  # 1 to 100, then 1 to 25
    assert found.odds == pytest.approx(0.01, rel=0.02)


def test_of_a_group_the_severest_rule_has_the_odds_of_what_it_fires_on() -> None:
    fired, fraud = rows(((0, 0), 101_000, 1_000), ((1, 0), 51_000, 1_000), ((1, 1), 9_000, 1_000))
    assert fit(fired, fraud, ["amount", "amount"]).points == (10, 36)  # 1 to 50 and 1 to 8, beside 1 to 100


def test_rules_of_two_groups_add_up() -> None:
    counts = ((0, 0), 101_000, 1_000), ((1, 0), 51_000, 1_000), ((0, 1), 26_000, 1_000), ((1, 1), 13_500, 1_000)
    assert fit(*rows(*counts), ["amount", "terminal"]).points == (10, 20)


def test_a_severer_rule_never_has_fewer_points_and_no_rule_less_than_none() -> None:
    fired, fraud = rows(((0, 0), 11_000, 1_000), ((1, 0), 3_000, 1_000), ((1, 1), 8_000, 1_000))
    first, second = fit(fired, fraud, ["amount", "amount"]).points
    assert first == second > 0
    assert fit(*rows(((0,), 2_000, 1_000), ((1,), 10_000, 10)), [""]).points == (0,)


def test_a_rule_that_hardly_ever_fires_stays_mild() -> None:
    often = fit(*rows(((0,), 101_000, 1_000), ((1,), 1_000, 1_000)), [""]).points[0]
    once = fit(*rows(((0,), 101_000, 1_000), ((1,), 1, 1)), [""]).points[0]
    assert 0 < once < often


def test_fitted_points_go_into_the_file_and_nothing_else_changes(scorecard: Rulebook) -> None:
    points = {rule.id: rule.finding.points for rule in scorecard.rules}
    assert with_points(TEXT, points) == TEXT
    changed = with_points(TEXT, {**points, "scorecard.day-2": 999})
    assert [new for old, new in zip(TEXT.splitlines(), changed.splitlines(), strict=True) if old != new] == [
        "    points: 999"
    ]


# Figures


def test_added_points_are_those_of_the_policy(scorecard: Rulebook) -> None:
    rules = scorecard.rules
    places = {rule.id: place for place, rule in enumerate(rules)}
    fired = np.zeros((2, len(rules)), bool)
    for name in ("over-220", "usual-2", "usual-3"):
        fired[1, places[f"scorecard.{name}"]] = True
    points = list(range(100, 100 + len(rules)))
    wanted = points[places["scorecard.over-220"]] + points[places["scorecard.usual-3"]]
    assert detection.added(fired, points, rules).tolist() == [0, wanted]
    assert (
        detection.added(fired, points, rules, without={"scorecard.over-220"})[1] == points[places["scorecard.usual-3"]]
    )


def test_a_line_has_the_false_positive_rate_beside_the_recall() -> None:
    fraud = np.array([True, True] + [False] * 198)
    scores = np.array([9, 3] + [5] * 99 + [1] * 99)
    line = detection.line_of("made up", fraud, scores)
    assert (line.payments, line.frauds, line.auc) == (200, 2, 0.75)
    assert line.recall_1 == pytest.approx(0.5)
    assert line.stopped == pytest.approx(0.5)


CARDS = [
    ("one of two cards is a fraud", [1, 1], [1, 2], [1, 0], [9, 8], 0.5),
    ("the best payment of a card counts, and any fraud", [1, 1, 1, 1], [1, 1, 2, 3], [1, 0, 0, 0], [1, 9, 5, 6], 0.5),
    ("a card that was found is not looked at again", [1, 1, 2, 2], [1, 2, 1, 3], [1, 0, 1, 0], [9, 8, 9, 8], 0.25),
    ("a card that was not found is", [1, 1, 1, 2, 2], [1, 2, 3, 1, 2], [1, 0, 0, 1, 0], [1, 8, 9, 9, 8], 0.25),
]  # fmt: skip


@pytest.mark.parametrize(
    ("days", "cards", "fraud", "scores", "share"), [row[1:] for row in CARDS], ids=[row[0] for row in CARDS]
)
def test_card_precision(days: list[int], cards: list[int], fraud: list[int], scores: list[int], share: float) -> None:
    given = np.array(days), np.array(cards), np.array(fraud, bool), np.array(scores)
    assert detection.card_precision(*given, top=2) == share


def test_a_figure_below_its_bar_is_told() -> None:
    good = [detection.Line(name, 1, 1, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0) for name in {bar[0] for bar in detection.BARS}]
    assert detection.missed(good) == []
    bad = [detection.Line(line.name, 1, 1, 1.0, 0.1, 1.0, 1.0, 0.0, 1.0) for line in good]
    assert "handbook long, 7 d: score: precision 0.100, bar 0.66" in detection.missed(bad)


def test_a_stratified_split_takes_its_share_of_both() -> None:
    fraud = np.arange(1000) < 10
    used = stratified(fraud, 0.7, seed=3)
    assert (used[fraud].sum(), used[~fraud].sum()) == (7, 693)


@pytest.mark.parametrize("bench", [detection, _scorecard], ids=["detection", "_scorecard"])
def test_without_the_data_nothing_is_measured(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "DATA", tmp_path / "none.parquet")
    assert bench.main() == 0
    assert "which is not here: not" in capsys.readouterr().out
