"""What tests have seen of a rule."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

import pytest

from engine.coverage import coverage
from tests.books import book, shipped
from tests.test_mutation import PACK

WHEN = "amount > 500 CNY and buyer.guest"
FIRES = "- {it: fires, event: {amount: 900.00 CNY, buyer.guest: true}, expect: fires}\n"
SMALL = "- {it: is quiet, event: {amount: 5.00 CNY, buyer.guest: true}, expect: quiet}\n"
KNOWN = "- {it: is quiet too, event: {amount: 900.00 CNY, buyer.guest: false}, expect: quiet}\n"
UNSAID = "- {it: cannot tell, event: {amount: 900.00 CNY}, expect: unknown}\n"
NONSENSE = "- {it: makes no sense, event: {amuont: 5.00 CNY}, expect: quiet}\n"

SEEN = [
    ("nothing", " []", ["never seen firing", "never seen quiet"], 4),
    ("one side", FIRES, ["never seen quiet", "never seen false: amount > 500 CNY", "never seen false: buyer.guest"], 0),
    ("one question", FIRES + SMALL, ["never seen false: buyer.guest"], 0),
    ("all", FIRES + SMALL + KNOWN + UNSAID, [], 0),
    ("a test that makes no sense", FIRES + KNOWN + NONSENSE, ["never seen false: amount > 500 CNY"], 0),
]


@pytest.mark.parametrize(("tests", "unseen", "more"), [row[1:] for row in SEEN], ids=[row[0] for row in SEEN])
def test_what_was_never_seen_is_told_in_words(tmp_path: Path, tests: str, unseen: list[str], more: int) -> None:
    rulebook = book(tmp_path, {"rules/changed.yaml": PACK.format(when=WHEN, tests=indent(tests, " " * 6))})
    told = list(coverage(rulebook, rulebook.rules[0]).unseen())
    assert told[: len(unseen)] == unseen
    assert len(told) == len(unseen) + more


def test_an_unknown_answer_is_seen_as_such(tmp_path: Path) -> None:
    rulebook = book(tmp_path, {"rules/changed.yaml": PACK.format(when=WHEN, tests=indent(UNSAID, " " * 6))})
    found = coverage(rulebook, rulebook.rules[0])
    assert found.ends == {"unknown"}
    assert [(one.asks, one.answers) for one in found.questions] == [
        ("amount > 500 CNY", {"true"}),
        ("buyer.guest", {"unknown"}),
    ]


def test_every_shipped_rule_is_seen_firing_and_quiet() -> None:
    rulebook = shipped()
    assert all({"fires", "quiet"} <= coverage(rulebook, rule).ends for rule in rulebook.rules)
