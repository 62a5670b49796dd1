"""Suites: whole decisions as tests, and what is said when one does not come out or makes no sense."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import indent
from types import MappingProxyType

import pytest

from engine.rulebook import Rulebook, load
from engine.suites import read_suites, try_suites
from engine.trial import Trial
from tests.books import RULES, SMALL, book, shipped, told, write

SUITE = """\
suite: till
about: What the till does.
for: payment
fixtures:
  odd: {amount: 41.00 CNY}
  on_card: {card.ref: a, amount: 5.00 CNY}
histories:
  twice: [{repeat: 2, every: 1m, event: {card.ref: a}}]
  again: [twice]
  round: [round]
cases:
"""
EXEMPT = """\
exceptions:
  - id: lab
    rule: small.challenge
    subject: {card.ref: a}
    owner: payments-risk
    reason: Our own laboratory.
    from: 2026-11-01
    expires: 2026-12-01
    approved_by: compliance-lead
"""
FILES = {**SMALL, "policies/exceptions/lab.yaml": EXEMPT}


def played(folder: Path, case: str, more: Mapping[str, str] = MappingProxyType({})) -> list[Trial]:
    """The trials of a suite with one case; `more` are files instead of the usual ones."""
    write(folder, {**FILES, **more, "policies/till_test.yaml": SUITE + indent(case, "  ")})
    suites, problems = read_suites(folder / "policies")
    assert problems == ()
    return list(try_suites(load(folder / "rules", folder / "policies"), suites))


GOES = [
    ("a verdict", "event: {amount: 5.00 CNY}\nexpect: {verdict: approve, score: 0, asks: nothing}"),
    (
        "a fixture",
        "event: odd\nexpect: {verdict: challenge, score: 40, signals: [odd_amount], by: [3ds]}",
    ),
    (
        "what lies over a fixture",
        "event: [odd, {amount: 61.00 CNY}]\nexpect: {verdict: review, asks: review, no_signals: [odd_amount]}",
    ),
    (
        "a tier",
        "tier: watched\nevent: odd\nexpect: {verdict: review, steps: [watched], no_rules: [small.review]}",
    ),
    ("a history", "before: twice\nevent: on_card\nexpect: {score: 20, rules: [small.burst]}"),
    ("a history of histories", "before: [again]\nevent: on_card\nexpect: {score: 20}"),
    ("events and histories", "before: [twice, {event: {card.ref: b}}]\nevent: on_card\nexpect: {score: 20}"),
    (
        "too short a history",
        "before: [{event: {card.ref: a}}]\nevent: on_card\nexpect: {score: 0, no_rules: [small.burst]}",
    ),
    ("an exception", "event: [on_card, odd]\nexpect: {verdict: approve, exempted: [lab]}"),
    ("no exceptions", "exceptions: false\nevent: [on_card, odd]\nexpect: {verdict: challenge}"),
    (
        "an exception that has ended",
        'at: "2026-12-02T10:00:00+08:00"\nevent: [on_card, odd]\nexpect: {verdict: challenge}',
    ),
    (
        "a list that is away",
        "event: {amount: 5.00 CNY, ip: 192.0.2.1}\ndegraded: [list_unavailable]\nexpect: {no_signals: [listed]}",
    ),
    ("a list that is there", "event: {amount: 5.00 CNY, ip: 192.0.2.1}\nexpect: {verdict: decline, signals: [listed]}"),
    (
        "windows that are away",
        "before: twice\nevent: on_card\ndegraded: [features_unavailable]\nexpect: {steps: [features_unavailable]}",
    ),
    (
        "an explanation in two languages",
        'event: odd\nexpect: {explanation: [41.00 CNY is odd, 金额 41.00 CNY 异常, "true    amount == 41 CNY"]}',
    ),
]


@pytest.mark.parametrize("case", [row[1] for row in GOES], ids=[row[0] for row in GOES])
def test_a_case_is_judged_as_an_event_is(tmp_path: Path, case: str) -> None:
    (trial,) = played(tmp_path, "- it: does it\n" + indent(case, "  "))
    assert (trial.rule, trial.it) == ("till", "does it")
    assert trial.problem is None, trial.problem.render()


def test_rows_and_a_matrix_give_a_case_for_each(tmp_path: Path) -> None:
    case = (
        '- it: "{tier} gives {verdict} for {amount}, {kept}"\n'
        "  rows: [{amount: 41.00 CNY, verdict: challenge}, {amount: 61.00 CNY, verdict: review}]\n"
        "  matrix: {tier: [standard], kept: [true, false]}\n"
        '  tier: "{tier}"\n'
        '  event: {amount: "{amount}", buyer.guest: "{kept}"}\n'
        '  expect: {verdict: "{verdict}"}\n'
    )
    trials = played(tmp_path, case)
    assert [trial.it for trial in trials] == [
        f"standard gives {verdict} for {amount}, {kept}"
        for amount, verdict in (("41.00 CNY", "challenge"), ("61.00 CNY", "review"))
        for kept in (True, False)
    ]
    assert [trial.problem for trial in trials] == [None] * 4


FAILS = [
    (
        "a verdict",
        "event: odd\nexpect: {verdict: approve, score: 3}",
        "policies/till_test.yaml:14:23: suite 'till': the case 'does it' expects the verdict 'approve', it is",
        "also: expects a score of 3, it is 40",
    ),
    (
        "a signal",
        "event: odd\nexpect: {signals: [odd_amount, listed]}",
        ":14:36: ",
        "expects the signal 'listed', there is odd_amount, thin_identity",
    ),
    (
        "no signal",
        "event: odd\nexpect: {no_signals: [odd_amount]}",
        ":14:27: ",
        "expects no signal 'odd_amount', it is there",
    ),
    (
        "what is asked",
        "event: odd\nexpect: {asks: review}",
        ":14:20: ",
        "expects that 'review' is asked, it is 'challenge'",
    ),
    ("an exception", "event: odd\nexpect: {exempted: [lab]}", ":14:25: ", "expects the exception 'lab', there is none"),
    (
        "an explanation",
        "event: odd\nexpect: {explanation: [nothing odd]}",
        ":14:28: ",
        "expects 'nothing odd' in the explanation",
    ),
    (
        "an unknown fixture",
        "event: ood\nexpect: {score: 0}",
        ":13:12: there is no fixture 'ood'",
        "did you mean 'odd'?",
    ),
    (
        "an unknown history",
        "before: twicee\nexpect: {score: 0}",
        ":13:13: there is no history 'twicee'",
        "did you mean 'twice'?",
    ),
    ("a history of itself", "before: round\nexpect: {score: 0}", ":13:13: the history 'round' names itself", ""),
    (
        "an unknown signal",
        "event: odd\nexpect: {no_signals: [od_amount]}",
        ":14:26: there is no signal 'od_amount'",
        "did you mean 'odd_amount'?",
    ),
    (
        "an unknown verdict",
        "event: odd\nexpect: {verdict: aprove}",
        ":14:23: there is no verdict 'aprove'",
        "did you mean 'approve'?",
    ),
    (
        "an unknown tier",
        "tier: watch\nexpect: {score: 0}",
        ":13:11: there is no tier 'watch'",
        "did you mean 'watched'?",
    ),
    ("an unknown kind", "kind: paymnt\nexpect: {score: 0}", ":13:11: there is no kind of event 'paymnt'", ""),
    ("a kind that nobody judges", "kind: listing\nexpect: {score: 0}", ":13:11: no policy judges a listing", ""),
    (
        "an unknown name",
        'event: {amount: "{amuont}"}\nexpect: {score: 0}',
        ":13:12: nothing gives a value for '{amuont}'",
        "",
    ),
    (
        "an unknown field",
        "event: {amuont: 5.00 CNY}\nexpect: {score: 0}",
        ":13:13: amuont: this field is not declared",
        "",
    ),
    ("nothing expected", "event: odd\nexpect: {}", ":14:13: this case expects nothing", "such as {verdict: approve}"),
]


@pytest.mark.parametrize(("case", "beginning", "hint"), [row[1:] for row in FAILS], ids=[row[0] for row in FAILS])
def test_what_is_wrong_with_a_case_is_told_with_its_place(tmp_path: Path, case: str, beginning: str, hint: str) -> None:
    (trial,) = played(tmp_path, "- it: does it\n" + indent(case, "  "))
    assert trial.problem is not None
    shown = trial.problem.render()
    assert beginning in shown.splitlines()[0], shown
    assert hint in shown, shown


def test_a_case_that_fails_shows_how_the_event_was_judged(tmp_path: Path) -> None:
    (trial,) = played(tmp_path, "- it: does it\n  event: odd\n  expect: {verdict: approve}\n")
    assert trial.problem is not None
    assert trial.problem.hint.splitlines()[:-1] == [
        "how it was judged:",
        "  challenge at score 40",
        "  score standard: approve -> challenge",
        "  small.challenge: odd_amount, medium, 40 points",
        "    41.00 CNY is odd",
        "    金额 41.00 CNY 异常",
        "    true    amount == 41 CNY",
        "  notice: thin_identity",
    ]


def test_a_case_that_fails_says_which_rule_was_in_the_shadow(tmp_path: Path) -> None:
    """An officer who rolls a rule out to a quarter of all cards wonders why its case does not come out."""
    shadow = RULES.replace("    signal: odd_amount", "    mode: shadow\n    signal: odd_amount")
    (trial,) = played(
        tmp_path, "- it: does it\n  event: odd\n  expect: {verdict: challenge}\n", {"rules/small.yaml": shadow}
    )
    assert trial.problem is not None
    assert "  in the shadow, so it counts for nothing: small.challenge" in trial.problem.hint.splitlines()


SHAPES = [
    ("an unknown key", "expect: {verdct: approve}", "till_test.yaml:13:14: unknown key 'verdct'"),
    ("no expectation", "event: odd", "till_test.yaml:12:5: 'expect' is missing"),
    ("bad YAML", "expect: {verdict: approve", "till_test.yaml:"),
]


@pytest.mark.parametrize(("case", "beginning"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES])
def test_what_is_wrong_with_the_form_of_a_suite_is_a_problem_of_the_suite_alone(
    tmp_path: Path, case: str, beginning: str
) -> None:
    write(tmp_path, {**FILES, "policies/till_test.yaml": SUITE + "  - it: does it\n" + indent(case, "    ")})
    _, problems = read_suites(tmp_path / "policies")
    assert any(beginning in problem.render() for problem in problems), [each.render() for each in problems]
    assert load(tmp_path / "rules", tmp_path / "policies").judged == ("payment",), "a server takes the rulebook"


def test_a_suite_is_no_part_of_the_rulebook(tmp_path: Path) -> None:
    without = book(tmp_path / "without", FILES)
    suite = SUITE + "  - {it: does it, event: odd, expect: {score: 40}}\n"
    with_it = book(tmp_path / "with", {**FILES, "rules/deep/till_test.yaml": suite})
    assert (with_it.hash, with_it.files.keys()) == (without.hash, without.files.keys())


def test_a_suite_by_another_name_is_told(tmp_path: Path) -> None:
    suite = SUITE + "  - {it: does it, event: odd, expect: {score: 40}}\n"
    (problem,) = told(tmp_path, {**FILES, "policies/till.tests.yaml": suite})
    assert problem.startswith("policies/till.tests.yaml:1:1: this is a suite of tests by another name")
    assert "ends with _test.yaml" in problem


def test_a_pack_that_is_named_like_a_suite_is_a_pack_all_the_same(tmp_path: Path) -> None:
    small = SMALL["rules/small.yaml"].replace("small.", "small_test.".replace("_", "-"))
    found = book(tmp_path, {**SMALL, "rules/small_test.yaml": small})
    assert {rule.id for rule in found.rules} >= {"small-test.burst", "small.burst"}


def test_every_shipped_policy_has_a_suite_and_every_case_comes_out(shipped_suites: list[Trial]) -> None:
    assert {trial.rule for trial in shipped_suites} == set(shipped().policies)
    assert [trial.problem.render() for trial in shipped_suites if trial.problem] == []


@pytest.fixture
def shipped_suites() -> list[Trial]:
    rulebook: Rulebook = shipped()
    suites, problems = read_suites(Path(__file__).parent.parent / "policies")
    assert problems == ()
    return list(try_suites(rulebook, suites))
