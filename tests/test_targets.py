"""The file of targets: what can be wrong in it, told at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.targets import WEEK, Targets
from tests import books

PLAN = """\
targets: shop
about: What the team is held to.
owner: payments-risk
label_delay: 14d
goals:
  - {metric: interception, at_least: 95%}
  - {metric: loss, kinds: [payment], at_most: 3 bp}
"""
FILE = "policies/targets.yaml"


def test_targets_are_read_in_the_unit_of_their_figure(tmp_path: Path) -> None:
    found = books.book(tmp_path, {**books.SMALL, FILE: PLAN}).targets
    assert found.label_delay == 2 * WEEK
    assert [(goal.metric.name, goal.at_least, goal.at_most) for goal in found.goals] == [
        ("interception", 0.95, None),
        ("loss", None, 3.0),
    ]


def test_a_rulebook_without_targets_has_none(tmp_path: Path) -> None:
    assert books.book(tmp_path, books.SMALL).targets == Targets()


WRONG = [
    ("no such figure", "metric: loss", "metric: los", "did you mean 'loss'?"),
    ("a figure of processes", "metric: loss", "metric: drift", "there is no figure 'drift' of events"),
    ("no such kind", "[payment]", "[paiment]", "did you mean 'payment'?"),
    ("both ends", "at_least: 95%", "at_least: 95%, at_most: 99%", "write one of at_least and at_most"),
    ("no end", ", at_least: 95%", "", "write one of at_least and at_most"),
    ("another unit", "3 bp", "3%", "write basis points such as 3 bp"),
    ("no level at all", "3 bp", "[3]", "write a value such as 95%, 3 bp"),
]


@pytest.mark.parametrize(("old", "new", "said"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_a_target_that_cannot_be_is_told(old: str, new: str, said: str, tmp_path: Path) -> None:
    (told,) = books.told(tmp_path, {**books.SMALL, FILE: PLAN.replace(old, new)})
    assert told.startswith(f"{FILE}:")
    assert said in told


def test_a_second_file_is_told(tmp_path: Path) -> None:
    (told,) = books.told(tmp_path, {**books.SMALL, FILE: PLAN, "policies/zz.yaml": PLAN})
    assert "there is a second file of targets" in told
