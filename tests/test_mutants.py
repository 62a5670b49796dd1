"""Conditions changed in one place: which changes there are, and that each is a condition of its own."""

from __future__ import annotations

import pytest

from engine.expr import BOOL, MUTATIONS, Vocabulary, mutants, read
from tests.books import shipped

BOOK = shipped()
KINDS = {kind: BOOK.schema.fields(kind) for kind in BOOK.schema.kinds}
WORDS = Vocabulary(KINDS["payment"], KINDS, ("payment",))


def whole(path: str) -> bool:
    return all(fields[path].form.whole for fields in KINDS.values() if path in fields)


def changed(when: str, kind: str = "") -> list[str]:
    """The conditions that a condition becomes, those of one kind of change or all."""
    found = mutants(read(when, WORDS, BOOL), ("payment",), whole)
    return [mutant.condition.text for mutant in found if kind in ("", mutant.kind)]


COUNT = "count(payment last {length} by card.ref{more}) >= 5"

CHANGES = [
    ("amount > 5 CNY", "comparison", ["amount >= 5 CNY"]),
    ("amount > 5 CNY", "threshold", [f"amount > {limit} CNY" for limit in ("4.99", "5.01", "2.5", "10")]),
    ("amount < 5 JPY", "threshold", [f"amount < {limit} JPY" for limit in ("4", "6", "2", "10")]),
    ("buyer.orders >= 3", "threshold", [f"buyer.orders >= {limit}" for limit in (2, 4, 1, 6)]),
    ("buyer.orders >= 3", "comparison", []),  # over whole numbers `> 3` is `>= 4`
    ("buyer.orders == 0", "threshold", ["buyer.orders == -1", "buyer.orders == 1"]),
    ("amount > 30% * amount", "threshold", [f"amount > {part} * amount" for part in ("0.29", "0.31", "0.15", "0.6")]),
    (
        "at - buyer.signup_at < 1h",
        "threshold",
        [f"at - buyer.signup_at < {x}" for x in ("3599s", "3601s", "30m", "2h")],
    ),
    ('ip_type == "tor"', "comparison", ['ip_type != "tor"']),
    ('ip_type != "tor"', "comparison", ['ip_type == "tor"']),
    ('ip_type in ["tor", "vpn"]', "negation", ['ip_type not in ["tor", "vpn"]']),
    ('ip_type in ["tor", "vpn"]', "listed", ['ip_type in ["vpn"]', 'ip_type in ["tor"]']),
    ('ip_type in ["tor"]', "listed", []),
    ("not buyer.guest", "", ["buyer.guest"]),
    ("buyer.guest", "", ["not buyer.guest"]),
    ("buyer.orders is missing", "", ["buyer.orders is present"]),
    ("buyer.guest and buyer.verified", "logic", ["buyer.guest or buyer.verified"]),
    ("buyer.guest or buyer.verified", "dropped", ["buyer.verified", "buyer.guest"]),
    ("not (buyer.guest or buyer.verified)", "logic", ["not (buyer.guest and buyer.verified)"]),
    (
        "count(last 10m by card.ref) >= 5",
        "window",
        [COUNT.format(length=length, more="") for length in ("9m", "11m", "5m", "20m")],
    ),
    (
        "count(last 1d by card.ref) >= 5",
        "window",
        [COUNT.format(length=length, more="") for length in ("23h", "25h", "12h", "2d")],
    ),
    ("count(last 10m by card.ref) >= 5", "this", [COUNT.format(length="10m", more=", including this")]),
    ("count(transaction last 10m by card.ref) >= 5", "this", []),  # a payment is none of its own events
    (
        'count(last 10m by card.ref where buyer.guest and ip_type == "tor") >= 5',
        "dropped",
        [COUNT.format(length="10m", more=f" where {left}") for left in ('ip_type == "tor"', "buyer.guest")],
    ),
    ("count(last 10m by card.ref where buyer.guest) >= 5", "dropped", [COUNT.format(length="10m", more="")]),
    (
        "count(last 10m by card.ref where not buyer.guest) >= 5",
        "negation",
        [COUNT.format(length="10m", more=" where buyer.guest")],
    ),
    (
        "share(amount > 5 CNY last 1d by card.ref) >= 50%",
        "comparison",
        [
            "share(amount > 5 CNY of payment last 1d by card.ref) > 0.5",
            "share(amount >= 5 CNY of payment last 1d by card.ref) >= 0.5",
        ],
    ),
]


@pytest.mark.parametrize(("when", "kind", "becomes"), CHANGES, ids=[f"{row[1]} {row[0]}" for row in CHANGES])
def test_a_condition_is_changed_in_one_place_at_a_time(when: str, kind: str, becomes: list[str]) -> None:
    assert changed(when, kind) == becomes


def test_a_window_that_stands_twice_is_changed_in_both_places() -> None:
    (one,) = changed("count(last 10m by card.ref) >= 5 or 2 * count(last 10m by card.ref) > 30", "this")
    assert one.count("including this") == 2


def test_a_change_is_told_as_one_of_the_smallest_question_that_holds_it() -> None:
    found = mutants(read('not (ip_type == "tor" or amount > 2 * 5 CNY)', WORDS, BOOL), ("payment",), whole)
    told = {mutant.change for mutant in found}
    assert "amount > 10 CNY -> amount >= 10 CNY" in told
    assert 'without: ip_type == "tor"' in told


def test_every_mutant_of_every_shipped_rule_reads_again_as_itself_and_as_no_other() -> None:
    kinds = set()
    for rule in BOOK.rules:
        vocabulary = Vocabulary(
            {**KINDS[rule.kinds[0]]}, KINDS, rule.kinds, lists=BOOK.lists.names(), groups=groups_of(rule.condition)
        )
        found = mutants(rule.condition, rule.kinds, whole)
        texts = [mutant.condition.text for mutant in found]
        assert len(set(texts)) == len(texts)
        assert rule.condition.text not in texts
        assert all(mutant.condition.type == BOOL for mutant in found)
        kinds |= {mutant.kind for mutant in found}
        if not any(window.steps or window.groups for window in rule.condition.windows):
            some = texts[::9]
            assert [read(text, vocabulary, BOOL).text for text in some] == some
    assert kinds == MUTATIONS.keys()


def groups_of(condition: object) -> dict[str, object]:
    return {group.name: group for window in condition.windows for group in window.groups}
