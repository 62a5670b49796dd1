"""Tests found from a rule's condition: they do what they say, and lie next to each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.mutation import first_tests
from engine.rulebook import Rulebook
from engine.trial import player
from tests import books

PACK = """\
pack: payments/tried
about: One condition.
for: {kind}
owner: payments-risk
let:
  tries: count(last 10m by card.ref where amount <= 20 CNY, including this)
  paid: sum(amount in CNY last 1d by buyer.account)
  place: percentile(amount in CNY last 1d by merchant.id)
  cards: distinct(card.ref last 1d by device.id)
  weeks: count(last 60d by buyer.account where ip_type == "vpn")
rules:
  - id: tried.one
    when: '{when}'
    signal: tried
    because: {{en: "x", zh: "中"}}
    basis: {{kind: house-policy, review_by: 2027-05-31}}
"""

BOTH = [
    ("an amount", "amount in CNY > 5000 CNY", {"amount": "5000.01 CNY"}, {"amount": "5000.00 CNY"}),
    ("a number", "buyer.orders >= 20", {"buyer.orders": 20}, {"buyer.orders": 19}),
    ("yes/no", "buyer.guest", {"buyer.guest": True}, {"buyer.guest": False}),
    ("a choice", 'ip_type == "hosting"', {"ip_type": "hosting"}, None),
    ("one of several", 'buyer.age_band in ["under_8", "8_13"]', {"buyer.age_band": "under_8"}, None),
    ("what a list holds", '"gift_card" in items.category', {"items.category": ["gift_card"]}, None),
    ("nothing there", "buyer.orders is missing", {}, None),
    ("the hour", "hour(at) < 6", {"at": "2026-11-20T05:00:00+08:00"}, {"at": "2026-11-20T06:00:00+08:00"}),
    ("how long ago", "at - buyer.signup_at < 1d", {"buyer.signup_at": "2026-11-19T10:00:01+08:00"}, None),
    ("two at once", "amount > 100 CNY and buyer.guest", {"amount": "100.01 CNY", "buyer.guest": True}, None),
    ("an opposite", "not buyer.guest and amount > 9 CNY", {"amount": "9.01 CNY", "buyer.guest": False}, None),
]


def book(folder: Path, when: str, kind: str = "transaction") -> Rulebook:
    return books.book(folder, {"rules/tried.yaml": PACK.format(when=when, kind=kind)})


@pytest.mark.parametrize(("when", "fires", "quiet"), [row[1:] for row in BOTH], ids=[row[0] for row in BOTH])
def test_a_plain_condition_gets_a_test_on_each_side(
    when: str, fires: dict[str, object], quiet: dict[str, object] | None, tmp_path: Path
) -> None:
    rulebook = book(tmp_path, when)
    (rule,) = rulebook.rules
    play = player(rulebook, rule)
    found = {test.expect: test for test in first_tests(rulebook, rule)}
    assert {expect: play(test) for expect, test in found.items()} == {"fires": "fires", "quiet": "quiet"}
    assert found["fires"].event == fires
    assert quiet is None or found["quiet"].event == quiet
    # They differ in one value.
    one, other = found["fires"].event, found["quiet"].event
    assert sum(one.get(path) != other.get(path) for path in one | other) == 1


def test_a_count_gets_a_history_that_is_one_event_short(tmp_path: Path) -> None:
    rulebook = book(tmp_path, "tries >= 5", "payment")
    fires, quiet = first_tests(rulebook, rulebook.rules[0])
    assert [before.repeat for before in fires.before] == [4]
    assert [before.repeat for before in quiet.before] == [3]
    assert fires.event == quiet.event


HISTORIES = [
    ("a sum of what earlier events say", "paid > 9000 CNY"),
    ("a place among earlier amounts", 'place <= 2 and ip_type == "vpn"'),
    ("different values of a field", "cards >= 3"),
    ("more than one a minute", "tries >= 15"),
    ("a count beside a question of the event", 'weeks >= 2 and weeks < 9 and ip_type == "vpn"'),
    ("two windows at once", "cards >= 2 and paid >= 100 CNY"),
]


@pytest.mark.parametrize("when", [row[1] for row in HISTORIES], ids=[row[0] for row in HISTORIES])
def test_a_question_about_the_past_gets_a_history_on_each_side(when: str, tmp_path: Path) -> None:
    rulebook = book(tmp_path, when, "payment")
    play = player(rulebook, rulebook.rules[0])
    found = first_tests(rulebook, rulebook.rules[0])
    assert [(test.expect, play(test)) for test in found] == [("fires", "fires"), ("quiet", "quiet")]
    assert found[0].before


def test_what_no_value_makes_true_gets_no_test_that_fires(tmp_path: Path) -> None:
    rulebook = book(tmp_path, "amount > 5 CNY and amount < 5 CNY")
    assert [test.expect for test in first_tests(rulebook, rulebook.rules[0])] == ["quiet"]


def test_the_tests_are_the_same_each_time_and_found_for_seven_of_ten_shipped_rules() -> None:
    rulebook = books.shipped()
    rules = rulebook.rules[::6]
    found = [first_tests(rulebook, rule) for rule in rules]
    assert found[:4] == [first_tests(rulebook, rule) for rule in rules[:4]]
    assert sum(len(tests) == 2 for tests in found) >= len(rules) * 7 / 10
    for rule, tests in zip(rules, found, strict=True):
        play = player(rulebook, rule)
        assert [play(test) for test in tests] == [test.expect for test in tests], rule.id
