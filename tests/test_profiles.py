"""Profiles: points from windows, tiers from points, and what the file may not say."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.assessments import play, try_profiles
from engine.profiles import Ladder, Rung, Standing, recomputed
from tests import books

DAY = 86_400_000_000

# ------------------------------------------------------------------------------------------- the ladder

LADDER = Ladder(
    (
        Rung("trusted", 0, 0, 0, 180 * DAY),
        Rung("standard", 10, 5, 90 * DAY, 90 * DAY),
        Rung("watched", 50, 30, 30 * DAY, 30 * DAY),
    ),
    "standard",
)


@pytest.mark.parametrize(
    ("tier", "stood", "points", "after"),
    [
        ("trusted", 0, 9, "trusted"),
        ("trusted", 0, 10, "standard"),
        ("trusted", 0, 50, "watched"),  # A worse tier comes at once, over any number of steps.
        ("standard", 0, 49, "standard"),
        ("standard", 0, 50, "watched"),
        ("standard", 500, 5, "standard"),  # Not below its `leave`.
        ("standard", 89, 4, "standard"),  # Not long enough.
        ("standard", 90, 4, "trusted"),
        ("watched", 500, 30, "watched"),  # Between leaving and entering nothing changes.
        ("watched", 500, 49, "watched"),
        ("watched", 29, 0, "watched"),
        ("watched", 30, 29, "standard"),
        ("watched", 30, 0, "standard"),  # A better one comes one step at a time.
        ("gone", 500, 0, "standard"),  # A tier that the ladder no longer has is the start, from now on.
    ],
)
def test_points_lead_from_a_tier_to_another(tier: str, stood: int, points: int, after: str) -> None:
    now = 1000 * DAY
    found = LADDER.next(Standing(tier, now - stood * DAY), points, now)
    assert found.tier == after
    assert found.since == (now if after != tier else now - stood * DAY)


def test_nobody_is_trusted_from_the_first_moment_on() -> None:
    assert LADDER.next(None, 0, 7) == Standing("standard", 7)
    assert LADDER.next(None, 60, 7) == Standing("watched", 7)


@st.composite
def ladders(draw: st.DrawFn) -> Ladder:
    names = [f"t{at}" for at in range(draw(st.integers(2, 5)))]
    enters = sorted(draw(st.sets(st.integers(1, 100), min_size=len(names) - 1, max_size=len(names) - 1)))
    rungs = [Rung(names[0], 0, 0, draw(st.integers(0, 5)), 1)]
    rungs += [
        Rung(name, enter, draw(st.integers(1, enter)), draw(st.integers(0, 5)), 1)
        for name, enter in zip(names[1:], enters, strict=True)
    ]
    return Ladder(tuple(rungs), draw(st.sampled_from(names)))


@given(ladders(), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 110)), max_size=40))
def test_it_walks_as_the_rules_say_in_words(ladder: Ladder, walk: list[tuple[int, int]]) -> None:
    """Against a plain reading: worse as far as the points reach; better by one, below `leave`, after `stay`."""
    standing, now = ladder.next(None, 0, 0), 0
    place, since = ladder.tiers.index(ladder.start), 0
    assert standing == Standing(ladder.tiers[place], since)
    for passed, points in walk:
        now += passed
        standing = ladder.next(standing, points, now)
        reached = place
        for at in range(place + 1, len(ladder.rungs)):
            if ladder.rungs[at].enter <= points:
                reached = at
        if reached > place:
            place, since = reached, now
        elif place > 0 and points < ladder.rungs[place].leave and since + ladder.rungs[place].stay <= now:
            place, since = place - 1, now
        assert standing == Standing(ladder.tiers[place], since)


@given(ladders(), st.lists(st.integers(0, 110), min_size=2, max_size=40))
def test_points_between_leaving_and_entering_never_move_anybody(ladder: Ladder, points: list[int]) -> None:
    worst = ladder.rungs[-1]
    standing = Standing(worst.tier, 0)
    for now, each in enumerate(points, 100):
        between = worst.leave + each % max(1, worst.enter - worst.leave + 1)
        standing = ladder.next(standing, between, now)
        assert standing == Standing(worst.tier, 0)


# ------------------------------------------------------------------------------------------- the file

PROFILE = """\
profile: merchant
about: How far a shop is trusted.
owner: merchant-risk
subject: merchant.id
moments: {events: [complaint, outcome], wait: 1h}
let:
  orders: count(payment last 90d by merchant.id)
  complaints: count(complaint last 90d by merchant.id)
factors:
  - id: complaints
    value: complaints / orders
    scale: [{from: 10%, points: 20}, {from: 50%, points: 60}]
    because: {en: "{complaints} complaints", zh: "投诉 {complaints} 次"}
    improve: {en: Answer buyers, zh: 回复买家}
  - id: few
    when: orders < 3
    points: 5
    group: small
    because: {en: Few orders, zh: 订单少}
    improve: {en: Sell, zh: 正常销售}
  - id: none
    when: orders == 0
    points: 8
    group: small
    if_unknown: counts
    because: {en: No orders, zh: 没有订单}
    improve: {en: Sell, zh: 正常销售}
start: standard
tiers:
  - {tier: standard, review: 90d}
  - {tier: watched, enter: 50, leave: 20, stay: 30d, review: 30d}
tests:
  - it: counts the heavier of a group
    subject: m1
    expect: {tier: standard, points: 8, factors: [few, none], no_factors: [complaints]}
  - it: watches at half
    subject: m1
    before:
      - {kind: payment, repeat: 4, every: 1d, event: {merchant.id: m1}}
      - {kind: complaint, repeat: 2, every: 1h, event: {merchant.id: m1}}
    expect: {tier: watched, points: 60}
"""
FILES = {**books.SMALL, "policies/tiers/merchant.yaml": PROFILE}


def test_its_tests_are_played(tmp_path: Path) -> None:
    book = books.book(tmp_path, FILES)
    assert [(trial.it, trial.problem) for trial, _ in try_profiles(book)] == [
        ("counts the heavier of a group", None),
        ("watches at half", None),
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("points: 8, factors", "points: 9, factors", "expects 9 points, there are 8"),
        ("{tier: watched, points: 60}", "{tier: standard, points: 60}", "expects the tier 'standard', it is 'watched'"),
        ("no_factors: [complaints]", "no_factors: [few]", "expects no factor 'few'"),
        ("factors: [few, none]", "factors: [fewer]", "there is no factor 'fewer'"),
        ("factors: [few, none]", "factors: [complaints]", "expects the factor 'complaints'"),
        ("kind: payment, repeat: 4", "kind: paymant, repeat: 4", "there is no kind of event 'paymant'"),
    ],
)
def test_a_test_that_expects_something_else_fails_in_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in PROFILE
    book = books.book(tmp_path, {**FILES, "policies/tiers/merchant.yaml": PROFILE.replace(old, new, 1)})
    problems = [trial.problem for trial, _ in try_profiles(book) if trial.problem]
    assert any(told in problem.what for problem in problems), problems


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("subject: merchant.id", "subject: merchant.idd", "there is no field 'merchant.idd'"),
        ("subject: merchant.id", "subject: amount", "'amount' names nobody"),
        ("subject: merchant.id", "subject: buyer.account", "the profile 'merchant' is the one by merchant.id"),
        ("events: [complaint, outcome]", "events: [complaints]", "there is no kind of event 'complaints'"),
        ("count(payment last 90d by merchant.id)", "count(last 90d by merchant.id)", "does not say over which kind"),
        ("when: orders < 3", 'when: merchant.country == "CN"', "unknown name 'merchant.country'"),
        ("when: orders < 3", "when: merchant.id in list bad-bins", "bad-bins"),
        ("when: orders < 3", "when: at > 2026-01-01", "a factor looks at windows of the subject"),
        ("when: orders < 3\n    points: 5", "when: orders < 3", "how many points does it give?"),
        ("when: orders < 3", "value: orders", "a value with a scale"),
        ("scale: [{from: 10%, points: 20}, {from: 50%, points: 60}]", "points: 3", "a value with a scale"),
        ("from: 50%", "from: 5%", "a scale goes up"),
        ("{complaints} complaints", "{complained} complaints", "the message shows 'complained', which is not known"),
        ("start: standard", "start: normal", "there is no tier 'normal'"),
        ("tier: standard, review", "tier: standard, enter: 3, review", "the first tier is the best one"),
        ("enter: 50, leave: 20", "leave: 20", "from how many points on is it entered?"),
        ("enter: 50, leave: 20", "enter: 50, leave: 51", "it would be left with the points that lead to it"),
        ("enter: 50, leave: 20", "enter: 100, leave: 20", "the factors give 68 points at most, so nobody comes here"),
        ("tier: watched", "tier: standard", "there is another 'standard'"),
        ("tier: watched", "tier: wached", "no policy has a tier 'wached'"),
        ("id: none", "id: few", "there is another 'few'"),
    ],
)
def test_what_does_not_fit_together_is_told_at_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in PROFILE
    found = books.told(tmp_path, {**FILES, "policies/tiers/merchant.yaml": PROFILE.replace(old, new, 1)})
    assert any(told in problem for problem in found), found
    assert all("policies/tiers/merchant.yaml:" in problem for problem in found), found


def test_a_second_profile_of_one_name_is_refused(tmp_path: Path) -> None:
    found = books.told(tmp_path, {**FILES, "policies/tiers/again.yaml": PROFILE})
    assert any("there is a profile 'merchant' already" in problem for problem in found)


def test_an_assessment_is_computed_again_from_its_record(tmp_path: Path) -> None:
    book = books.book(tmp_path, FILES)
    profile = book.profiles["merchant"]
    found = play(book, profile, profile.tests[1])
    record = orjson.loads(orjson.dumps(found.record()))
    assert recomputed(profile, "m1", record, book.convert) == record
    assert recomputed(profile, "m1", {**record, "points": 3}, book.convert) != {**record, "points": 3}
    other = {**record, "windows": [{**record["windows"][0], "value": 0}, *record["windows"][1:]]}
    assert recomputed(profile, "m1", other, book.convert)["points"] != record["points"]


def test_what_is_unknown_counts_where_the_file_says_so(tmp_path: Path) -> None:
    book = books.book(tmp_path, FILES)
    factors = {factor.id: factor for factor in book.profiles["merchant"].factors}
    assert (factors["none"].weighed(None), factors["few"].weighed(None)) == (8, 0)
    assert factors["complaints"].weighed(None) == 0


def test_windows_of_profiles_change_no_record_of_a_decision(tmp_path: Path) -> None:
    """They come behind those of rules, and no kind of event reads them."""
    plain, beside = books.book(tmp_path / "a", books.SMALL), books.book(tmp_path / "b", FILES)
    assert beside.windows[: len(plain.windows)] == plain.windows
    assert {kind: book.slots for kind, book in beside.kinds.items()} == {
        kind: book.slots for kind, book in plain.kinds.items()
    }
    assert len(beside.reads["assessed merchant"]) == 2
