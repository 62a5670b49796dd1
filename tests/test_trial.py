"""The tests beside rules: the stage they play on, and what is said when one fails or makes no sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.trial import Trial, try_rules
from tests.books import ROOT, book

PACK = """\
pack: tried
about: A pack to try.
for: [payment]
owner: tests
let:
  tries: count(last 10m by card.ref, including this)
rules:
  - id: tried.rule
    when: {when}
    signal: tried
    because: {{en: tried, zh: 试}}
    basis: {{kind: house-policy, review_by: 2027-05-31}}
    tests:
      - it: does it
{test}
"""


def trials(folder: Path, test: str, when: str = "tries >= 3", **files: str) -> list[Trial]:
    """One rule with one test, tried."""
    rows = "\n".join("        " + line for line in test.splitlines())
    pack = PACK.format(when=when, test=rows)
    return list(try_rules(book(folder, {"rules/tried.yaml": pack, **files})))


def said(folder: Path, test: str, when: str = "tries >= 3", **files: str) -> str | None:
    (trial,) = trials(folder, test, when, **files)
    return trial.problem and trial.problem.render()


BEFORE = (
    "before: [{{repeat: {repeat}, every: {every}, event: {{card.ref: a}}}}]\nevent: {{card.ref: a}}\nexpect: {expect}"
)
QUIET = "event: {card.ref: a}\nexpect: quiet"
PLAYED = [
    ("enough before it", BEFORE.format(repeat=2, every="1m", expect="fires")),
    ("too few before it", BEFORE.format(repeat=1, every="1m", expect="quiet")),
    ("exactly at the edge", BEFORE.format(repeat=2, every="5m", expect="fires")),
    ("past the edge", BEFORE.format(repeat=2, every="301s", expect="quiet")),
    ("on another card", "before: [{repeat: 5, event: {card.ref: b}}]\nevent: {card.ref: a}\nexpect: quiet"),
    ("of another kind", "before: [{repeat: 5, kind: transaction, event: {card.ref: a}}]\n" + QUIET),
    ("without a card", "event: {card.ref: null}\nexpect: unknown"),
    ("ago", "before: [{repeat: 2, every: 1s, ago: 9m, event: {card.ref: a}}]\nevent: {card.ref: a}\nexpect: fires"),
    ("too long ago", "before: [{repeat: 2, every: 1s, ago: 11m, event: {card.ref: a}}]\n" + QUIET),
    (
        "one after the other",
        (
            "before:\n  - {every: 4m, event: {card.ref: a}}\n  - {every: 5m, event: {card.ref: a}}\n"
            "event: {card.ref: a}\nexpect: fires"
        ),
    ),
    ("at a time of its own", "event: {card.ref: a, at: 2026-01-01T00:00:00Z}\nexpect: quiet"),
]


@pytest.mark.parametrize("test", [row[1] for row in PLAYED], ids=[row[0] for row in PLAYED])
def test_history_is_played_as_written(tmp_path: Path, test: str) -> None:
    assert said(tmp_path, test) is None


def test_a_test_that_fails_says_what_the_rule_did_and_why(tmp_path: Path) -> None:
    assert said(tmp_path, "event: {card.ref: a}\nexpect: fires") == (
        "rules/tried.yaml:16:17: rule 'tried.rule': the test 'does it' expects 'fires', the rule is 'quiet'\n"
        "            expect: fires\n"
        "                    ^^^^^\n"
        "    hint: what the rule asked, and what it was told:\n"
        "      false   count(payment last 10m by card.ref, including this) >= 3"
        "    [count(payment last 10m by card.ref, including this) = 1]"
    )


ASKED = [
    ("amount > 5 CNY", "amount: 5.00 CNY", "false   amount > 5 CNY    [amount = 5.00 CNY]"),
    ("not buyer.guest", "buyer.guest: true", "true    buyer.guest    [buyer.guest = yes]"),
    ("buyer.name contains 'x'", "buyer.name: null", 'unknown buyer.name contains "x"    [buyer.name = unknown]'),
    (
        "hour(at) < 6 or amount in CNY > 1 CNY",
        'at: "2026-11-20T09:30:00+08:00", amount: 1.00 CNY',
        (
            'false   hour(at, "Asia/Shanghai") < 6    [at = 2026-11-20T09:30:00+08:00]\n'
            "      false   amount in CNY > 1 CNY    [amount = 1.00 CNY]"
        ),
    ),
    (
        "'\"toys\" in items.category'",
        "items.category: [tea, cups]",
        'false   "toys" in items.category    [items.category = tea, cups]',
    ),
    ("first seen(last 90d by card.ref) < at", "card.ref: a", "unknown first seen("),
    ("buyer.name == 'a'", f"buyer.name: {'b' * 100}", f"[buyer.name = {'b' * 80}…]"),
]


@pytest.mark.parametrize(("when", "event", "line"), ASKED, ids=[row[0] for row in ASKED])
def test_a_test_that_fails_shows_each_question_with_its_answer(
    tmp_path: Path, when: str, event: str, line: str
) -> None:
    problem = said(tmp_path, f"event: {{{event}}}\nexpect: fires", when.replace("'x'", '"x"').replace("'a'", '"a"'))

    assert problem is not None
    assert line in problem.partition("what it was told:\n      ")[2]


MISPLACED = [
    (
        "a field that does not exist",
        "event: {card.rf: a}\nexpect: quiet",
        "rules/tried.yaml:15:17: card.rf: this field is not declared",
    ),
    (
        "a value of another type in the history",
        "before:\n  - {event: {card.ref: a}}\n  - {event: {amount: 5}}\nexpect: quiet",
        "rules/tried.yaml:17:22: amount: ",
    ),
    (
        "a kind that does not exist",
        "kind: paymnt\nexpect: quiet",
        "rules/tried.yaml:15:15: there is no kind of event 'paymnt'",
    ),
    (
        "a time without a zone",
        "event: {at: 2026-11-20T10:00:00}\nexpect: quiet",
        "rules/tried.yaml:15:21: write a time such as 2026-11-20T10:00:00+08:00",
    ),
    (
        "two events of one id",
        "before: [{repeat: 2, event: {event_id: one}}]\nexpect: quiet",
        "rules/tried.yaml:15:37: another event of this test has this event_id, so this one would not count",
    ),
    (
        "an outcome of nothing",
        "before: [{kind: outcome, event: {outcome.refers_to: one}}]\nexpect: quiet",
        "rules/tried.yaml:15:41: no earlier event of this test has the id in outcome.refers_to",
    ),
]


@pytest.mark.parametrize(("test", "beginning"), [row[1:] for row in MISPLACED], ids=[row[0] for row in MISPLACED])
def test_what_is_no_event_is_told_at_its_place(tmp_path: Path, test: str, beginning: str) -> None:
    problem = said(tmp_path, test)

    assert problem is not None
    assert problem.startswith(beginning)


def test_one_bad_test_does_not_stop_the_others(tmp_path: Path) -> None:
    two = "event: {card.rf: a}\nexpect: quiet\n"
    second = "      - it: does it too\n        event: {card.ref: a}\n        expect: quiet"
    pack = PACK.format(when="tries >= 3", test="        " + two.replace("\n", "\n        ").rstrip() + "\n" + second)
    problems = [trial.problem is None for trial in try_rules(book(tmp_path, {"rules/tried.yaml": pack}))]

    assert problems == [False, True]


def test_an_outcome_brings_the_keys_of_its_event(tmp_path: Path) -> None:
    when = 'count(outcome last 7d by card.ref where outcome.result == "chargeback") == 1'
    test = (
        "before:\n"
        "  - {ago: 5d, event: {event_id: one, card.ref: a}}\n"
        "  - {kind: outcome, ago: 1d, event: {outcome.refers_to: one, outcome.result: chargeback}}\n"
        "event: {card.ref: a}\nexpect: fires"
    )
    assert said(tmp_path, test, f"'{when}'") is None


def test_lists_and_rates_of_the_rulebook_are_asked(tmp_path: Path) -> None:
    files = {
        "rules/bins.yaml": "list: bins\nabout: Bins.\nmatch: exact\nentries: ['622848']\n",
        "policies/rates.yaml": "rates: CNY\nabout: Rates.\ndays: {2026-11-01: {USD: 7.0}}\n",
    }
    when = "card.bin in list bins and amount in CNY >= 70 CNY"
    assert said(tmp_path, "event: {card.bin: '622848', amount: 10.00 USD}\nexpect: fires", when, **files) is None
    assert said(tmp_path, "event: {card.bin: '622849', amount: 10.00 USD}\nexpect: quiet", when, **files) is None
    assert said(tmp_path, "event: {card.bin: '622848', amount: 9.99 USD}\nexpect: quiet", when, **files) is None


def test_single_rules_can_be_tried(tmp_path: Path) -> None:
    made = book(tmp_path, {"rules/tried.yaml": PACK.format(when="tries >= 3", test="        expect: quiet")})

    assert [trial.rule for trial in try_rules(made, made.rules[:0])] == []
    assert [trial.rule for trial in try_rules(made, made.rules)] == ["tried.rule"]


def test_rules_that_are_off_or_in_the_shadow_are_tried_as_well(tmp_path: Path) -> None:
    """A rule must be right before it goes live."""
    for mode in ("off", "shadow"):
        pack = PACK.format(when="tries >= 3", test="        expect: fires").replace(
            "    signal", f"    mode: {mode}\n    signal"
        )
        (trial,) = try_rules(book(tmp_path / mode, {"rules/tried.yaml": pack}))
        assert trial.problem is not None


def test_the_handbook_s_rules_pass(tmp_path: Path) -> None:
    from engine.rulebook import load

    folder = ROOT / "docs" / "examples" / "handbook"
    problems = [trial.problem for trial in try_rules(load(folder / "rules", folder / "policies"))]
    assert problems
    assert not any(problems)
