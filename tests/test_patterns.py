"""Patterns in rule files: sequences and absences as an officer writes them, and what is told of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.expr import Vocabulary, pattern
from engine.features import Facts, Features
from engine.schema import schema
from engine.stores import HOUR, MemoryStore
from engine.stores.contract import LOOK
from engine.trial import try_rules
from tests.books import book, told

PACK = """\
pack: payments/steps
about: Steps that follow each other, or do not.
for: payment
owner: payments-risk
patterns:
  tried:
    sequence:
      - {event: account, where: account.action == "login" and account.new_device}
      - {event: [payment, transaction], where: amount <= 20 CNY}
    within: 1h
    by: device.id
  not_taken:
    absence:
      - {event: payment, where: payment.stage == "attempt"}
      - {event: payment, where: payment.stage == "capture"}
    for: 30m
    within: 1d
    by: [card.ref, merchant.id]
let:
  either: tried or not_taken
rules:
  - id: steps.one
    when: tried
    signal: tried
    because: {en: tried out, zh: 试探}
    basis: {kind: house-policy, review_by: 2027-05-31}
    tests:
      - it: fires when a small payment follows the login
        before:
          - {kind: account, ago: 20m, event: {device.id: d, account.action: login, account.new_device: true}}
          - {ago: 10m, event: {device.id: d, amount: 5.00 CNY}}
        event: {device.id: d}
        expect: fires
      - it: stays quiet when the login came after it
        before:
          - {ago: 20m, event: {device.id: d, amount: 5.00 CNY}}
          - {kind: account, ago: 10m, event: {device.id: d, account.action: login, account.new_device: true}}
        event: {device.id: d}
        expect: quiet
      - it: cannot know without a device
        event: {device.id: null}
        expect: unknown
  - id: steps.two
    when: not_taken
    signal: not_taken
    because: {en: not taken, zh: 未入账}
    basis: {kind: house-policy, review_by: 2027-05-31}
    tests:
      - it: fires when half an hour passed without a capture
        before: [{ago: 31m, event: {card.ref: c, merchant.id: m, payment.stage: attempt}}]
        event: {card.ref: c, merchant.id: m}
        expect: fires
      - it: stays quiet when the time is not over
        before: [{ago: 29m, event: {card.ref: c, merchant.id: m, payment.stage: attempt}}]
        event: {card.ref: c, merchant.id: m}
        expect: quiet
      - it: stays quiet when it was taken
        before:
          - {ago: 50m, event: {card.ref: c, merchant.id: m, payment.stage: attempt}}
          - {ago: 40m, event: {card.ref: c, merchant.id: m, payment.stage: capture}}
        event: {card.ref: c, merchant.id: m}
        expect: quiet
      - it: fires when another shop took its own
        before:
          - {ago: 50m, event: {card.ref: c, merchant.id: m, payment.stage: attempt}}
          - {ago: 40m, event: {card.ref: c, merchant.id: other, payment.stage: capture}}
        event: {card.ref: c, merchant.id: m}
        expect: fires
  - id: steps.three
    when: either
    signal: any
    because: {en: either, zh: 任一}
    basis: {kind: house-policy, review_by: 2027-05-31}
    tests:
      - {it: knows patterns by name in other names, event: {device.id: d, card.ref: c, merchant.id: m}, expect: quiet}
"""


def test_patterns_do_what_their_tests_say(tmp_path: Path) -> None:
    trials = list(try_rules(book(tmp_path, {"rules/steps.yaml": PACK})))
    assert [(trial.it, trial.problem and trial.problem.render()) for trial in trials if trial.problem] == []
    assert len(trials) == 8


def test_a_pattern_has_a_canonical_name_which_the_record_and_the_explanation_show(tmp_path: Path) -> None:
    first, second = (window.name for window in book(tmp_path, {"rules/steps.yaml": PACK}).windows)
    login = 'account where account.action == "login" and account.new_device'
    assert first == f"sequence({login}; payment, transaction where amount <= 20 CNY last 1h by device.id)"
    attempt, capture = (f'payment where payment.stage == "{stage}"' for stage in ("attempt", "capture"))
    assert second == f"absence({attempt}; {capture} for 30m last 1d by card.ref, merchant.id)"


MISTAKES: list[tuple[str, tuple[str, str], list[str]]] = [
    ("a kind", ("event: account,", "event: acount,"), ["steps.yaml:8:17", "no kind of event 'acount'", "'account'"]),
    ("a field", ("account.new_device}", "account.newdevice}"), ["steps.yaml:8:63", "'account.newdevice'"]),
    ("no condition", ("where: amount <= 20 CNY", "where: amount"), ["takes a yes/no"]),
    ("personal data", ("where: amount <= 20 CNY", 'where: buyer.name == "x"'), ["cannot read buyer.name"]),
    (
        "a list",
        ("where: amount <= 20 CNY", "where: ip in list tor"),
        ["a window cannot read ip: it is personal and not kept"],
    ),
    ("a window in a step", ("amount <= 20 CNY}", "count(last 1d by device.id) > 1}"), ["cannot stand inside a window"]),
    ("a key nobody has", ("by: device.id", "by: devise.id"), ["steps.yaml:11:9", "'devise.id'", "'device.id'"]),
    ("a key that is no field", ("by: device.id", 'by: device.id == "x"'), ["steps.yaml:11:9", "this is no field"]),
    ("a key that a step lacks", ("by: device.id", "by: payment.stage"), ["have no payment.stage"]),
    ("one step", ("      - {event: [payment, transaction], where: amount <= 20 CNY}\n", ""), ["two to eight steps"]),
    ("an absence without its time", ("    for: 30m\n", ""), ["steps.yaml:12:3", "'for' is missing"]),
    (
        "a sequence with one",
        ("within: 1h\n", "within: 1h\n    for: 5m\n"),
        ["steps.yaml:6:3", "a sequence has no 'for'"],
    ),
    ("a time longer than the look", ("for: 30m", "for: 2d"), ["nothing within this time can be so long ago"]),
    ("a name twice", ("  either: tried or not_taken", "  tried: amount > 5 CNY"), ["'tried' is already a pattern"]),
    ("a name of a field", ("  tried:", "  amount:"), ["'amount' is already a field of the event"]),
    ("a misspelt key", ("    within: 1h", "    wthin: 1h"), ["'within' is missing", "unknown key 'wthin'"]),
]


@pytest.mark.parametrize(("change", "says"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_what_is_wrong_with_a_pattern_is_told_with_its_place(
    tmp_path: Path, change: tuple[str, str], says: list[str]
) -> None:
    assert change[0] in PACK
    text = "\n".join(told(tmp_path, {"rules/steps.yaml": PACK.replace(*change)}))
    for each in says:
        assert each in text


def test_a_pattern_that_is_wrong_is_one_problem_and_not_one_more_wherever_it_is_used(tmp_path: Path) -> None:
    problems = told(tmp_path, {"rules/steps.yaml": PACK.replace("amount <= 20 CNY", "amonut <= 20 CNY")})
    assert len(problems) == 1


def test_an_own_field_that_is_wrong_is_one_problem_and_not_one_more_in_a_pattern(tmp_path: Path) -> None:
    files = {
        "policies/schema.yaml": "fields:\n  extra.small: {doc: A, example: true}\n",
        "rules/steps.yaml": PACK.replace("amount <= 20 CNY", "extra.small").replace("merchant.id", "extra.small"),
    }
    assert len(told(tmp_path, files)) == 1


def test_a_key_with_more_events_than_a_pattern_looks_at_is_unknown_and_says_so() -> None:
    known = schema()
    kinds = {kind: known.fields(kind) for kind in known.kinds}
    words = Vocabulary(fields=known.fields("payment"), kinds=kinds, kind=("payment",))
    windows = pattern("sequence", [(("payment",), "amount > 5 CNY")] * 2, ["card.ref"], HOUR, words).windows
    features = Features(windows, MemoryStore())
    features.restore(())
    for number in range(LOOK + 2):
        reading = features.observe(Facts("payment", "shop", f"e{number}", number, number, {}, {"card.ref": "c"}))
        full = number > LOOK
        assert reading.values == [None if full else False]
        assert reading.gaps == (((0, "feature_capped"),) if full else ())
