"""What `check` finds by reasoning: rules and policies that cannot do what they say, each with what shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from engine.packs import parse, read_all, validate
from engine.reasoning.conditions import about_rules
from engine.reasoning.policies import about_policies, about_signals
from engine.reasoning.remark import Remark
from engine.rulebook import Rulebook, load
from engine.rules import RuleTest
from engine.trial import player
from tests.books import ROOT, book, shipped

HEAD = """\
pack: p
about: Rules that tests choose.
for: {kinds}
owner: o
let:
  tries: count(last 10m by card.ref, including this)
  hour_tries: count(last 1h by card.ref, including this)
  cards: distinct(card.ref last 1d by device.id)
  spent: sum(amount in CNY last 1d by card.ref)
rules:
"""
POLICY = """\
policy: p
for: [transaction]
verdicts: [approve, challenge, decline]
tiers: {{standard: {{challenge: {challenge}, decline: {decline}}}}}
default_tier: standard
challenge: {{by: [3ds], expires: 15m, passed: rescore, failed: decline, abandoned: decline}}
{more}
"""


def rule(name: str, when: str, signal: str = "s", **more: object) -> str:
    lines = [f"    {key}: {value}\n" for key, value in {"points": 90, **more}.items()]
    return (
        f"  - id: x.{name}\n    when: {when}\n    signal: {signal}\n{''.join(lines)}"
        "    because: {en: a, zh: 甲}\n    basis: {kind: house-policy, review_by: 2027-05-31}\n"
    )


def rulebook(
    folder: Path, *rules: str, more: str = "", kinds: str = "transaction", challenge: int = 20, decline: int = 60
) -> Rulebook:
    policy = POLICY.format(challenge=challenge, decline=decline, more=more)
    return book(folder, {"rules/a.yaml": HEAD.format(kinds=kinds) + "".join(rules), "policies/p.yaml": policy})


def remarks(found: Rulebook) -> list[Remark]:
    return list(about_rules(found, found.rules))


def told(found: Rulebook) -> list[str]:
    return [remark.problem.what for remark in remarks(found)]


@pytest.mark.parametrize(
    ("when", "why"),
    [
        ("amount > 900 CNY and buyer.guest and amount < 100 CNY", "'amount > 900 CNY' and 'amount < 100 CNY' are"),
        ("basket.quantity < 0", "'basket.quantity < 0' is never true"),
        ("tries < 1", "is never true"),
        ("tries >= 5 and hour_tries < 5", "are never true together"),
        ('ip_type == "tor" and ip_type in ["vpn", "proxy"]', "are never true together"),
        ('buyer.guest and lower(card.scheme) == "VISA"', "'lower(card.scheme) == \"VISA\"' is never true"),
        ("hour(at) > 22 and hour(at) < 5", "are never true together"),
    ],
)
def test_a_rule_that_cannot_fire_is_found_with_its_reason(tmp_path: Path, when: str, why: str) -> None:
    [remark] = remarks(rulebook(tmp_path, rule("a", when)))
    assert remark.grave
    assert "rule 'x.a' can never fire: " in remark.problem.what
    assert why in remark.problem.what
    assert (remark.problem.file, remark.problem.line, remark.problem.column) == ("rules/a.yaml", 12, 11)


@pytest.mark.parametrize(
    ("when", "what"),
    [
        ("amount is present", "fires on every event"),
        ("buyer.guest or buyer.guest is missing or not buyer.guest", "fires on every event"),
        ("amount >= 0 CNY", "is never quiet"),
        ("tries > 3 or tries <= 3", "is never quiet"),
    ],
)
def test_a_rule_that_always_fires_is_found(tmp_path: Path, when: str, what: str) -> None:
    [remark] = remarks(rulebook(tmp_path, rule("a", when)))
    assert remark.grave
    assert what in remark.problem.what


@pytest.mark.parametrize(
    "when",
    [
        "amount > 100 CNY",
        "amount in CNY > 100 CNY and amount < 50 USD",
        "tries >= 5 and hour_tries < 8",
        "not (basket.quantity > 5)",
        "card.country != ip_country",
    ],
)
def test_a_rule_that_may_or_may_not_fire_is_left_alone(tmp_path: Path, when: str) -> None:
    assert told(rulebook(tmp_path, rule("a", when))) == []


PAIRS: Mapping[str, tuple[str, str, str, bool]] = {
    "the same in other words": (
        rule("a", "tries >= 5 and amount <= 20 CNY"),
        rule("b", "not (amount > 20 CNY) and tries > 4"),
        "rule 'x.b' repeats 'x.a'",
        False,
    ),
    "the same with other points": (
        rule("a", "buyer.guest", points=90),
        rule("b", "not not buyer.guest", points=10),
        "points is 90 in one and 10 in the other",
        True,
    ),
    "one within another": (
        rule("a", 'cards >= 5 and card.country == "CN"', points=90, group="g"),
        rule("b", "cards >= 3", points=90, group="g"),
        "rule 'x.a' adds nothing: 'x.b' fires whenever it does",
        False,
    ),
    "a shorter window within a longer one": (
        rule("a", "tries >= 5", points=90, group="g"),
        rule("b", "hour_tries >= 4", points=90, group="g"),
        "rule 'x.a' adds nothing",
        False,
    ),
}


@pytest.mark.parametrize("which", PAIRS)
def test_a_rule_that_says_what_another_says_is_found_with_an_event(tmp_path: Path, which: str) -> None:
    one, other, what, grave = PAIRS[which]
    found = rulebook(tmp_path, one, other)
    [remark] = remarks(found)
    assert what in remark.problem.what
    assert remark.grave is grave
    assert remark.witness in remark.problem.hint
    assert played(found, remark.witness) == {"x.a": "fires", "x.b": "fires"}


def played(found: Rulebook, witness: str) -> dict[str, str]:
    """What each rule does at a test in YAML."""
    [written] = parse(witness).data
    test = validate(parse(witness[2:].strip()), RuleTest)
    assert written["expect"] == test.expect
    return {each.id: player(found, each)(test) for each in found.rules}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (rule("a", "tries >= 5", points=90), rule("b", "hour_tries >= 4", points=50)),  # points add up
        (rule("a", "tries >= 5", points=90, group="g"), rule("b", "hour_tries >= 4", points=50, group="g")),
        (rule("a", "tries >= 5", "s"), rule("b", "tries >= 5", "t")),
        (rule("a", "tries >= 5", group="g"), rule("b", "hour_tries >= 4", group="g", mode="shadow")),
        (rule("a", "tries >= 5", group="g", severity="high"), rule("b", "hour_tries >= 4", group="g")),
        (rule("a", "tries >= 5 and buyer.guest", group="g"), rule("b", "tries >= 6", group="g")),
        (rule("a", "tries >= 5", group="g"), rule("b", "tries >= 5", group="g", mode="off")),
        (rule("a", "tries >= 5", points=90), rule("b", "tries >= 5", points=50, mode="shadow")),
    ],
)
def test_rules_that_each_add_something_are_left_alone(tmp_path: Path, one: str, other: str) -> None:
    assert told(rulebook(tmp_path, one, other)) == []


def test_only_rules_that_were_asked_about_are_told_of(tmp_path: Path) -> None:
    found = rulebook(tmp_path, rule("a", "tries < 1"), rule("b", "buyer.guest"), rule("c", "buyer.guest"))
    assert [remark.problem.what[:12] for remark in about_rules(found, found.rules[:1])] == ["rule 'x.a' c"]
    [remark] = about_rules(found, [found.rules[1]])
    assert "'x.c' repeats 'x.b'" in remark.problem.what


def policy_remarks(folder: Path, found: Rulebook) -> Iterator[Remark]:
    yield from about_policies(found, read_all(folder / "policies"))


CLAUSES = """\
rules:
  - {id: both, when: [small, large], derive: {signal: odd}}
  - {id: odd-ones, when: [odd], at_least: decline}
"""
SOFTER = """\
rules:
  - {id: soft, when: [good], at_most: approve}
  - {id: firm, when: [old], at_least: decline}
"""


def test_a_clause_whose_signals_exclude_each_other_is_found(tmp_path: Path) -> None:
    rules = rule("a", "amount < 10 CNY", "small"), rule("b", "amount > 900 CNY", "large")
    found = rulebook(tmp_path, *rules, more=CLAUSES)
    [remark] = [each for each in policy_remarks(tmp_path, found) if each.grave]
    assert "the rule 'both' never holds: no event can give small and large together" in remark.problem.what
    assert (remark.problem.file, remark.problem.line) == ("policies/p.yaml", 8)


def test_an_exception_that_always_loses_is_a_conflict(tmp_path: Path) -> None:
    rules = rule("a", "buyer.orders > 9", "good", points=0), rule("b", "buyer.orders > 5", "old", points=0)
    found = rulebook(tmp_path, *rules, rule("c", "buyer.guest", points=90), more=SOFTER)
    [remark] = [each for each in policy_remarks(tmp_path, found) if each.grave]
    assert "'soft' conflicts with the rest" in remark.problem.what


def test_an_exception_that_sometimes_wins_is_left_alone(tmp_path: Path) -> None:
    rules = rule("a", "buyer.orders > 5", "good", points=0), rule("b", "buyer.orders > 9", "old", points=0)
    found = rulebook(tmp_path, *rules, rule("c", "buyer.guest", points=90), more=SOFTER)
    assert [each for each in policy_remarks(tmp_path, found) if each.grave] == []


@pytest.mark.parametrize(
    ("rules", "unreached"),
    [
        ([rule("a", "buyer.guest", points=30), rule("b", "basket.virtual", points=30)], []),
        ([rule("a", "buyer.guest", points=30), rule("b", "not buyer.guest", points=30)], ["decline"]),
        (
            [rule("a", "buyer.guest", points=30, group="g"), rule("b", "basket.virtual", points=30, group="g")],
            ["decline"],
        ),
        ([rule("a", "buyer.guest", points=10)], ["challenge", "decline"]),
        ([rule("a", "buyer.guest", points=60, mode="shadow")], []),
        ([rule("a", "buyer.guest", points=60, mode="off"), rule("b", "basket.virtual", points=25)], ["decline"]),
    ],
)
def test_a_score_that_no_points_reach_is_noticed(tmp_path: Path, rules: list[str], unreached: list[str]) -> None:
    found = rulebook(tmp_path, *rules)
    remarks = [each for each in policy_remarks(tmp_path, found) if "no points reach" in each.problem.what]
    assert [each.problem.what.split("'")[1] for each in remarks] == unreached
    assert not any(each.grave for each in remarks)


def test_a_signal_that_nobody_uses_is_noticed(tmp_path: Path) -> None:
    rules = [
        rule("a", "buyer.guest", "asked", points=0),
        rule("b", "basket.virtual", "unasked", points=0),
        rule("c", "device.emulator", "pointed", points=5, if_unknown="unasked_too"),
        rule("d", "buyer.orders > 3", "grave", points=0, severity="critical"),
    ]
    more = (
        "rules:\n  - {id: r, when: [asked], derive: {signal: lost}}\n"
        "  - {id: q, when: [any critical], at_least: decline}"
    )
    found = rulebook(tmp_path, *rules, more=more)
    told = [(remark.problem.what.split("'")[1], remark.problem.line) for remark in about_signals(found, found.rules)]
    assert [signal for signal, _ in told] == ["unasked", "unasked_too"]
    [derived] = [each.problem.what for each in policy_remarks(tmp_path, found) if "nobody uses" in each.problem.what]
    assert "'lost'" in derived


def test_a_rule_for_events_that_no_policy_judges_is_noticed(tmp_path: Path) -> None:
    found = rulebook(tmp_path, rule("a", "buyer.guest"), kinds="payment")
    [remark] = about_signals(found, found.rules)
    assert "no policy judges payment" in remark.problem.what


def test_nothing_is_wrong_with_what_is_shipped() -> None:
    found = shipped()
    assert [each.problem.what for each in about_rules(found, found.rules)] == []
    assert [each.problem.what for each in about_policies(found, read_all(ROOT / "policies"))] == []
    assert [each.problem.what for each in about_signals(found, found.rules)] == []


def test_the_same_is_found_twice(tmp_path: Path) -> None:
    one, other, *_ = PAIRS["a shorter window within a longer one"]
    first = remarks(rulebook(tmp_path, one, other, rule("c", "tries < 1", "t")))
    assert first == remarks(load(tmp_path / "rules", tmp_path / "policies"))
