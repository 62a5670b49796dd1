"""Conditions given to the solver: they mean what the interpreter says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import z3
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from engine.errors import PackError
from engine.expr import BOOL, Expression, interpret, read
from engine.expr.functions import ROWS
from engine.expr.page import sample_env, sample_event, sample_vocabulary, written
from engine.money import Money
from engine.packs import read as read_file
from engine.reasoning.encode import Encoding, Ground
from engine.reasoning.rows import _ROWS
from engine.reasoning.terms import Listed
from tests.books import ROOT, put
from tests.terms import COUNT, MEAN, WORDS, answer, ask, conditions, equal, events, here, nested, pinned


def of(source: str) -> Expression:
    try:
        return read(source, WORDS, BOOL)
    except PackError:
        assume(False)
        raise


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(conditions, events(), st.sampled_from((None, 0, 1, 2, 3)), st.sampled_from((None, 100, 250)))
def test_the_solver_and_the_interpreter_mean_the_same(
    source: str, flat: dict[str, Any], counted: int | None, mean: int | None
) -> None:
    expression, values = of(source), nested(flat)
    features = {of(f"{COUNT} > 0").windows[0]: counted, read(MEAN, WORDS).windows[0]: mean and Money(mean, "CNY")}
    features = {window: value for window, value in features.items() if "card.ref" in flat and value is not None}
    encoding = Encoding(here())
    value = encoding.value(expression.tree)
    pins = list(pinned(encoding, values, features))
    facts = [*encoding.facts(), *pins]
    told = answer(expression, values, features)
    agreed = z3.Not(value.known) if told is None else value.true if told else value.false
    assert ask(facts, agreed).possible, "what is so must be possible"
    if value.exact:
        assert ask(facts, z3.Not(agreed)).impossible, "what is claimed to be exact must have one answer"


def known_cases() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every example of the reference and every pinned case, with what is given beside the sample event."""
    yield from ((source, {}) for row in ROWS for source, _ in row.examples)
    cases = read_file(ROOT / "tests/cases/expr.yaml", root=ROOT).data["meaning"]
    yield from ((str(case["when"]), case.get("given", {})) for case in cases if "is" in case)


@pytest.mark.parametrize(("source", "given"), list(known_cases()))
def test_every_example_and_pinned_case_means_the_same(source: str, given: Mapping[str, Any]) -> None:
    values = sample_event()
    for path, value in given.items():
        put(values, path, None if value is None else written(value))
    expression = read(source, sample_vocabulary())
    told = interpret(expression, values, {}, sample_env())
    encoding = Encoding(Ground(sample_vocabulary().fields, frozenset(("at",)), ("payment",)))
    value = encoding.value(expression.tree)
    if isinstance(told, list | tuple) or isinstance(value.value, Listed):
        return  # a list alone is no condition
    agreed = z3.Not(value.known) if told is None else z3.And(value.known, equal(encoding, value.value, told))
    facts = [*pinned(encoding, values, {}, sample_env().received_at), *encoding.facts()]
    if not ask(facts).possible:
        assert given, "the sample event is one that may be sent"
        return  # a value that no schema takes
    assert ask(facts, agreed).possible
    if value.exact:
        assert ask(facts, z3.Not(agreed)).impossible


def test_every_row_of_the_language_has_its_terms() -> None:
    assert {row.name for row in ROWS} <= set(_ROWS)


@pytest.mark.parametrize(
    ("source", "possible"),
    [
        ("amount > 900 CNY and amount < 100 CNY", False),
        ("amount > 900 CNY and amount in CNY < 100 CNY", False),
        ("amount in CNY > 900 CNY and amount in CNY < 1000 CNY", True),
        ("amount < 0 CNY", False),
        ("amount is missing", False),
        ("discount is missing", True),
        ("basket.quantity > 2 and basket.quantity < 3", False),
        ("basket.lowest_price_ratio > 2 and basket.lowest_price_ratio < 3", True),
        ('ip_type == "tor" and ip_type == "vpn"', False),
        ('ip_type not in ["tor", "vpn", "proxy", "hosting", "residential", "mobile", "unknown"]', False),
        ('ip_type not in ["tor", "vpn", "proxy", "hosting", "residential", "mobile"]', True),
        ('lower(card.scheme) == "App"', False),
        ('lower(card.scheme) == "app"', True),
        ('card.scheme == "A.pp" and plain(card.scheme) != "app"', False),
        ('plain(card.scheme) == "app" and plain(card.scheme) == "web"', False),
        ('plain(card.scheme) == "app" and lower(plain(card.scheme)) != "app"', False),
        ('card.scheme starts with "app" and not card.scheme starts with "a"', False),
        ('card.scheme starts with "app" and card.scheme starts with "web"', False),
        ('card.scheme ends with "app" and length(card.scheme) < 3', False),
        ('card.scheme == "app" and card.scheme matches "^web"', False),
        ('card.scheme == coupon.code and card.scheme starts with "a" and not coupon.code starts with "a"', False),
        ('card.country == "CN" and card.country != "CN"', False),
        ("buyer.guest and buyer.guest is missing", False),
        ("buyer.guest and not buyer.guest", False),
        ("hour(at) >= 24", False),
        ("hour(at) < 6 and hour(at) > 4", True),
        ("weekday(at) in [6, 7] and weekday(at) < 6", False),
        ("at - buyer.signup_at > 1d and at < buyer.signup_at", False),
        ("now < at - 10m", False),
        ("count(last 10m by card.ref) > 5 and count(last 1h by card.ref) < 3", False),
        ("count(last 1h by card.ref) > 5 and count(last 10m by card.ref) < 3", True),
        ("count(last 1h by card.ref, including this) < 1", False),
        ("count(last 1h by card.ref) >= 1 and card.ref is missing", False),
        ("count(last 1h by card.ref) > 2 and count(last 1h by card.ref) < 3", False),
        ("distinct(ip last 1h by card.ref) > count(last 1h by card.ref)", False),
        ("count(last 1h by card.ref where buyer.guest) > count(last 1h by card.ref)", False),
        ("count(last 1h by card.ref, including this) > count(last 1h by card.ref) + 1", False),
        ("sum(amount in CNY last 1h by card.ref) < 0 CNY", False),
        ("min(amount in CNY last 1h by card.ref) > max(amount in CNY last 1h by card.ref)", False),
        ("share(buyer.guest last 1h by card.ref) > 110%", False),
        ("percentile(amount in CNY last 1h by card.ref) > 100", False),
        ("first seen(last 1d by card.ref) < at - 2d", False),
        ('"a" in items.category and size(items.category) == 0', False),
        ('items.category overlaps ["a"] and not items.category overlaps ["a", "b"]', False),
        ("size(items.category) != size(items.sku)", False),
        ("amount + tax < amount", None),
        ("buyer.orders % 2 == 2", False),
        ("amount == 5 CNY and amount == 5 USD", False),
    ],
)
def test_what_can_be_is_told_from_what_cannot(source: str, possible: bool | None) -> None:
    encoding = Encoding(here())
    value = encoding.value(read(source, WORDS, BOOL).tree)
    found = ask(encoding.facts(), value.true)
    assert not found.undecided
    assert possible is None or found.possible == possible
