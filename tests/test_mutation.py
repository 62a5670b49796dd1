"""What the tests of a rule would not notice, and the test that is missing: it passes where it is pasted."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

import pytest

from engine.mutation import Mutated, mutate
from engine.mutation.spelling import spell_test
from engine.packs import parse
from engine.rules import Before, RuleTest
from engine.trial import try_rules
from tests.books import ROOT, book, shipped

PACK = """\
pack: changed
about: A pack to change.
for: [payment, transaction]
owner: tests
let:
  tries: count(last 10m by card.ref where amount <= 20 CNY, including this)
rules:
  - id: changed.rule
    when: {when}
    signal: changed
    because: {{en: "{{amount}}", zh: "{{amount}} 元"}}
    basis: {{kind: house-policy, review_by: 2027-05-31}}
    tests:
{tests}
"""
LISTS = {f"rules/lists/{path.name}": path.read_text("utf-8") for path in (ROOT / "rules/lists").glob("*.yaml")}


def changed(folder: Path, when: str, tests: str) -> Mutated:
    rulebook = book(folder, {"rules/changed.yaml": PACK.format(when=when, tests=indent(tests, " " * 6)), **LISTS})
    assert [trial.problem.render() for trial in try_rules(rulebook) if trial.problem] == []
    (rule,) = rulebook.rules
    return mutate(rulebook, rule)


FIRES = "- {it: fires, event: {amount: 900.00 CNY, card.ref: a, buyer.guest: true, ip_type: vpn}, expect: fires}\n"
BURST = """\
- it: fires
  before: [{repeat: 4, event: {amount: 5.00 CNY, card.ref: a}}]
  event: {amount: 5.00 CNY, card.ref: a}
  expect: fires
"""
DEVICES = """\
- it: fires
  before: [{event: {card.ref: a, device.id: d1}}]
  event: {card.ref: a, device.id: d2}
  expect: fires
"""

CONDITIONS = [
    ("a limit", "amount > 500 CNY", FIRES),
    ("a limit in another currency", "amount in CNY >= 500 CNY", FIRES),
    ("a question that can be left out", "amount > 500 CNY and buyer.guest", FIRES),
    ("one of two that would do", 'ip_type == "tor" or buyer.guest', FIRES),
    ("a list", 'ip_type in ["tor", "vpn", "proxy"]', FIRES),
    (
        "two fields",
        "card.country != ip_country and buyer.guest is missing",
        "- {it: fires, event: {card.country: US, ip_country: CN}, expect: fires}\n",
    ),
    (
        "a share of another field",
        "customs.declared_value < 30% * amount",
        "- {it: fires, event: {amount: 100.00 CNY, customs.declared_value: 10.00 CNY}, expect: fires}\n",
    ),
    (
        "an age",
        "at - buyer.signup_at < 1d",
        '- {it: fires, event: {buyer.signup_at: "2026-11-20T08:00:00+08:00"}, expect: fires}\n',
    ),
    (
        "an hour",
        "hour(at) >= 1 and hour(at) < 5",
        '- {it: fires, event: {at: "2026-11-20T03:30:00+08:00"}, expect: fires}\n',
    ),
    ("a count", "tries >= 5", BURST),
    (
        "the time since the first event",
        "first seen(last 30d by card.ref) < at - 7d",
        "- {it: fires, before: [{ago: 9d, event: {card.ref: a}}], event: {card.ref: a}, expect: fires}\n",
    ),
    (
        "how many different ones",
        "distinct(device.id last 1d by card.ref, including this) >= 2",
        DEVICES,
    ),
]


@pytest.mark.parametrize(("when", "tests"), [row[1:] for row in CONDITIONS], ids=[row[0] for row in CONDITIONS])
def test_with_the_missing_tests_pasted_in_every_change_is_noticed(tmp_path: Path, when: str, tests: str) -> None:
    before = changed(tmp_path / "before", when, tests)
    assert before.survivors
    missing = dict.fromkeys(one.missing for one in before.survivors)
    assert None not in missing
    after = changed(tmp_path / "after", when, tests + "\n".join(str(each) for each in missing))
    assert (after.total, after.killed, after.survivors) == (before.total, before.total, ())


def test_a_survivor_names_the_change_and_the_test_in_full(tmp_path: Path) -> None:
    found = changed(tmp_path, "amount >= 500 CNY", FIRES)
    assert (found.rule, found.total, found.place.line, found.place.column) == ("changed.rule", 5, 9, 11)
    assert [(one.kind, one.change) for one in found.survivors] == [
        ("comparison", "amount >= 500 CNY -> amount > 500 CNY"),
        ("threshold", "amount >= 500 CNY -> amount >= 499.99 CNY"),
        ("threshold", "amount >= 500 CNY -> amount >= 500.01 CNY"),
        ("threshold", "amount >= 500 CNY -> amount >= 250 CNY"),
    ]
    assert found.survivors[1].missing == (
        "- it: stays quiet when amount is 499.99 CNY\n"
        "  event: {amount: 499.99 CNY, card.ref: a, buyer.guest: true, ip_type: vpn}\n"
        "  expect: quiet"
    )
    assert found.survivors[0].missing == found.survivors[2].missing
    assert found.survivors[1].missing == found.survivors[3].missing


def test_what_no_event_can_tell_apart_survives_without_a_test(tmp_path: Path) -> None:
    found = changed(tmp_path, "amount > 500 CNY and amount > 500 CNY + 0 CNY and buyer.guest", FIRES)
    assert any(one.missing is None for one in found.survivors)


def test_a_window_is_told_by_the_name_that_the_message_uses(tmp_path: Path) -> None:
    pack = PACK.format(when="tries >= 5", tests=indent(BURST, " " * 6)).replace('en: "{amount}"', 'en: "{tries}"')
    rulebook = book(tmp_path, {"rules/changed.yaml": pack.replace('zh: "{amount} 元"', 'zh: "{tries} 次"')})
    told = {one.change for one in mutate(rulebook, rulebook.rules[0]).survivors}
    assert "tries >= 5 -> tries >= 4" in told


def test_a_rule_without_tests_is_given_its_first_ones(tmp_path: Path) -> None:
    found = changed(tmp_path, "amount > 500 CNY and buyer.guest", "[]")
    assert found.killed == 0
    expected = {
        str(parse(f"tests:\n{one.missing}").data["tests"][0]["expect"]) for one in found.survivors if one.missing
    }
    assert expected == {"fires", "quiet"}


def test_without_a_search_survivors_are_the_same_and_have_no_test(tmp_path: Path) -> None:
    rulebook = shipped()
    rule = next(rule for rule in rulebook.rules if rule.id == "geography.hidden-network")
    assert mutate(rulebook, rule, search=False).total == mutate(rulebook, rule).total


WRITTEN = [
    ("a number like text", {"card.bin": "622848"}, '{card.bin: "622848"}'),
    ("text that could be a word of YAML", {"note": "yes"}, '{note: "yes"}'),
    ("an address", {"ip": "203.0.113.9"}, '{ip: "203.0.113.9"}'),
    ("an amount", {"amount": "5.00 CNY"}, "{amount: 5.00 CNY}"),
    ("nothing", {"note": None}, "{note: null}"),
    ("quotes", {"note": 'say "hi"\\'}, '{note: "say \\"hi\\"\\\\"}'),
    ("a list of things", {"items": [{"category": "gift_card"}]}, "{items: [{category: gift_card}]}"),
    ("what nobody sees", {"note": "a\u200bb"}, '{note: "a\\u200Bb"}'),
    ("Chinese", {"listing.title": "国家级 新品"}, "{listing.title: 国家级 新品}"),
]


@pytest.mark.parametrize(("event", "text"), [row[1:] for row in WRITTEN], ids=[row[0] for row in WRITTEN])
def test_a_test_is_spelled_so_that_it_reads_again_as_itself(event: dict[str, object], text: str) -> None:
    test = RuleTest(it="does: it", event=event, expect="quiet")
    spelled = spell_test(test)
    assert f"  event: {text}" in spelled.splitlines()
    assert RuleTest.model_validate(parse(f"tests:\n{spelled}").data["tests"][0]) == test


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"event": {"ip_type": "vpn"}}, "{event: {ip_type: vpn}}"),
        ({"repeat": 3, "every": "2h", "event": {}}, "{repeat: 3, every: 2h, event: {}}"),
        ({"every": "2h", "event": {}}, "{every: 2h, event: {}}"),
        ({"every": "2h", "ago": "7d", "event": {}}, "{ago: 1w, event: {}}"),
    ],
)
def test_an_earlier_event_says_only_what_matters(told: dict[str, object], text: str) -> None:
    before = Before.model_validate(told)
    assert f"    - {text}" in spell_test(RuleTest(it="x", before=[before], event={}, expect="quiet")).splitlines()
