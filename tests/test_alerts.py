"""Alert lines: what can be wrong in their files, when they are crossed, when they are back, and what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.alerts import CALM, Line
from engine.metrics import MINUTE, Figure
from tests import books

FILE = "policies/alerts/shop.yaml"
PLAN = """\
alerts: shop
about: What the night shift is called for.
owner: payments-risk
lines:
  - id: declines-jump
    metric: declines
    kinds: [payment]
    by: tier
    over: 30m
    above: 12%
    at_least_events: 20
    for: 10m
    clear: {at: 10%}
    severity: high
    message: {en: "{value} of {of} declined, above {level}", zh: "{of} 的 {value} 被拒绝，高于 {level}"}
    playbook: misfire
  - id: interception-low
    metric: interception
    over: 30d
    below: 95%
    severity: medium
    message: {en: few, zh: 少}
"""


def lines(folder: Path, plan: str = PLAN) -> dict[str, Line]:
    return {line.id: line for line in books.book(folder, {**books.SMALL, FILE: plan}).alerts}


def test_lines_are_read_with_what_holds_where_nothing_is_said(tmp_path: Path) -> None:
    found = lines(tmp_path)
    jump, low = found["declines-jump"], found["interception-low"]
    assert (jump.above, jump.clear_at, jump.holds, jump.calm) == (0.12, 0.1, 10 * MINUTE, CALM)
    assert (jump.by, jump.kinds, jump.at_least, jump.playbook) == ("tier", {"payment"}, 20, "misfire")
    assert (jump.label_delay, low.label_delay) == (0, 7 * 24 * 60 * MINUTE)
    assert (low.below, low.clear_at, low.holds, low.by, low.at_least) == (0.95, 0.95, 0, "", 1)


def test_an_alert_is_over_no_sooner_than_it_came(tmp_path: Path) -> None:
    assert lines(tmp_path, PLAN.replace("for: 10m", "for: 2h"))["declines-jump"].calm == 120 * MINUTE
    shorter = PLAN.replace("{at: 10%}", "{at: 10%, for: 1m}")
    assert lines(tmp_path, shorter)["declines-jump"].calm == MINUTE


WRONG = [
    ("no such figure", "metric: declines", "metric: decline", "did you mean 'declines'?"),
    ("no such kind", "[payment]", "[paiment]", "did you mean 'payment'?"),
    ("no such group", "by: tier", "by: tir", "did you mean 'tier'?"),
    ("a group of others", "by: tier", "by: detector", "'declines' cannot be told apart by 'detector'"),
    ("both sides", "above: 12%", "above: 12%\n    below: 5%", "write one of above and below"),
    ("no side", "    above: 12%\n", "", "write one of above and below"),
    ("another unit", "above: 12%", "above: 12", "write a share such as 95%"),
    ("clear of another unit", "{at: 10%}", "{at: 10}", "write a share such as 95%"),
    ("over while crossed", "{at: 10%}", "{at: 13%}", "the alert would be over while the line is still crossed"),
    ("no such severity", "severity: high", "severity: info", "an alert cannot be 'info'"),
    ("one language", ', zh: "{of} 的 {value} 被拒绝，高于 {level}"', "", "'zh' is missing"),
    ("a hole of nothing", "{value} of", "{vlue} of", "a message cannot show 'vlue'"),
    ("a label delay of nothing", "over: 30m", "over: 30m\n    label_delay: 7d", "does not ask how events ended"),
    ("too far back", "over: 30d", "over: 90d", "a line looks back 92 days at most"),
    ("one name twice", "id: interception-low", "id: declines-jump", "there is an alert line 'declines-jump' already"),
    ("a name with spaces", "id: interception-low", "id: Low!", "write small letters, digits and '-'"),
    ("no events", "at_least_events: 20", "at_least_events: 0", "at least 1"),
]


@pytest.mark.parametrize(("old", "new", "said"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_a_line_that_cannot_be_is_told(old: str, new: str, said: str, tmp_path: Path) -> None:
    told = books.told(tmp_path, {**books.SMALL, FILE: PLAN.replace(old, new)})
    assert told
    assert all(each.startswith(f"{FILE}:") for each in told)
    assert said in "".join(told)


def test_money_is_not_added_up_over_kinds(tmp_path: Path) -> None:
    loss = PLAN.replace("metric: interception", "metric: loss").replace("below: 95%", "above: 3 bp")
    (told,) = books.told(tmp_path, {**books.SMALL, FILE: loss})
    assert "name one kind under kinds, or write by: kind" in told
    for mended in ("metric: loss\n    by: kind", "metric: loss\n    kinds: [payment]"):
        assert books.told(tmp_path, {**books.SMALL, FILE: loss.replace("metric: loss", mended)}) == []


def test_lines_of_the_server_are_of_no_kind(tmp_path: Path) -> None:
    own = PLAN.replace("metric: interception", "metric: store_failures\n    kinds: [payment]")
    (told,) = books.told(tmp_path, {**books.SMALL, FILE: own.replace("below: 95%", "above: 5")})
    assert "'store_failures' is of the server, not of events" in told


def test_names_are_taken_over_all_files(tmp_path: Path) -> None:
    told = books.told(tmp_path, {**books.SMALL, FILE: PLAN, "policies/alerts/z.yaml": PLAN})
    assert len(told) == 2
    assert all("already" in each for each in told)


def figure(value: float, cases: int = 100) -> Figure:
    return Figure(value, None, None, cases)


@pytest.mark.parametrize(
    ("value", "cases", "crossed", "back"),
    [
        (0.12, 100, False, False),
        (0.1201, 100, True, False),
        (0.1001, 100, False, False),
        (0.1, 100, False, True),
        (0.9, 19, False, True),
        (0.9, 20, True, False),
    ],
)
def test_a_line_above(value: float, cases: int, crossed: bool, back: bool, tmp_path: Path) -> None:
    line = lines(tmp_path)["declines-jump"]
    assert (line.crossed(figure(value, cases)), line.back(figure(value, cases))) == (crossed, back)


@pytest.mark.parametrize(("value", "crossed", "back"), [(0.95, False, True), (0.9499, True, False)])
def test_a_line_below(value: float, crossed: bool, back: bool, tmp_path: Path) -> None:
    line = lines(tmp_path)["interception-low"]
    assert (line.crossed(figure(value)), line.back(figure(value))) == (crossed, back)


def test_a_count_needs_no_number_of_cases(tmp_path: Path) -> None:
    plan = PLAN.replace("metric: declines", "metric: reviews_open").replace("12%", "5").replace("10%", "3")
    line = lines(tmp_path, plan)["declines-jump"]
    assert line.crossed(figure(6, 6))
    assert line.back(figure(3, 3))


def test_a_message_shows_figure_line_and_group(tmp_path: Path) -> None:
    line = lines(tmp_path)["declines-jump"]
    assert line.told(figure(0.5), "watched") == {
        "en": "50.00% of watched declined, above 12.00%",
        "zh": "watched 的 50.00% 被拒绝，高于 12.00%",
    }
