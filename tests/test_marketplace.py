"""bench.marketplace: the same seed gives the same market, its truth fits, and the engine finds some of each theme."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import orjson
import pytest

from bench.marketplace import crews, measure
from bench.marketplace.__main__ import DEVELOPMENT, HOLDOUT
from bench.marketplace.market import DAY, Market
from bench.marketplace.measure import SIGNALS, Line, Seed, Share, missed
from engine.expr import Env, compile_rules
from tests import books

PACKAGE = Path(measure.__file__).parent
DAYS, FED = 48, 14


def market(seed: int, crew: float = 0.4) -> Market:
    """A small one."""
    return measure.market(seed, people=420, shops=80, days=DAYS, crew=crew)


@pytest.fixture(scope="module")
def small() -> Market:
    made = market(7)
    made.stream()
    return made


@pytest.fixture(scope="module")
def found(small: Market) -> Seed:
    return measure.measure(small, books.shipped(), FED)


def bodies(made: Market) -> bytes:
    return orjson.dumps([entry.body for entry in made.stream()])


def test_the_same_seed_gives_the_same_market_and_another_another(small: Market) -> None:
    again = market(7)
    assert bodies(again) == bodies(small)
    assert again.theme_of == small.theme_of
    assert bodies(market(8)) != bodies(small)


def test_more_fraud_leaves_honest_trade_as_it_is(small: Market) -> None:
    more = market(7, crew=0.8)
    honest = [[entry.body["event_id"] for entry in made.stream() if entry.theme is None] for made in (small, more)]
    assert honest[0] == honest[1]


def test_events_come_in_the_order_of_time_with_ids_of_their_own(small: Market) -> None:
    stream = small.stream()
    assert [entry.at for entry in stream] == sorted(entry.at for entry in stream)
    assert max(Counter(entry.body["event_id"] for entry in stream).values()) == 1
    assert all(0 <= entry.at < DAYS * DAY for entry in stream)


def test_fraud_is_done_by_those_who_are_not_honest_and_only_after_the_first_days(small: Market) -> None:
    known = small.theme_of
    for entry in small.stream():
        if entry.theme is None:
            continue
        assert entry.at >= FED * DAY
        if entry.body["kind"] == "outcome":
            continue
        about = SIGNALS[entry.theme]
        who = entry.shop if about.subject == "shop" else entry.account
        failed = entry.body.get("account", {}).get("result") == "failure"  # a guess at the password of somebody honest
        assert failed or known[about.subject, str(who)] == entry.theme


def test_shops_show_the_papers_that_the_shipped_listing_rules_ask_for(small: Market) -> None:
    """Else these rules would be what tells honest shops from others, and the figures would say nothing about fraud."""
    rulebook = books.shipped()
    asked = {rule.id: rule for rule in rulebook.kinds["listing"].rules if not rule.windows}
    matcher = compile_rules([rule.condition for rule in asked.values()], ())
    found = Counter()
    for entry in small.stream():
        if entry.body["kind"] == "listing" and entry.theme is None:
            event = rulebook.schema.build(entry.body, received_at=books.NOW)
            env = Env(event.at, event.at, rulebook.lists.lookups(event.at, "t"), rulebook.convert)
            found.update(list(asked)[rule] for rule in matcher(event.values, (), env).fired)
            found["seen"] += 1

    assert found.pop("seen") > 100
    assert found == {}


@pytest.mark.slow
def test_every_theme_has_actors_with_fraud_of_their_own(small: Market, found: Seed) -> None:
    for theme, about in SIGNALS.items():
        known = {name for (kind, name), is_ in small.theme_of.items() if (kind, is_) == (about.subject, theme)}
        begun = {
            name for (kind, name), actor in found.actors.items() if actor.theme == theme and actor.first is not None
        }
        assert begun
        assert begun <= known


@pytest.mark.slow
def test_the_engine_flags_some_of_each_theme_and_few_of_the_honest(found: Seed) -> None:
    for line in measure.lines([found]):
        assert line.caught.part > 0, line.theme
        assert line.honest.value < 0.05, line.theme
    assert found.honest > 1_000
    assert measure.raised([found]).value < 0.02


def test_every_signal_of_a_theme_is_one_that_the_shipped_packs_raise() -> None:
    rulebook = books.shipped()
    raised = {rule.finding.signal for rule in rulebook.rules}
    policies = rulebook.policies.values()
    derived = {rule.derive.signal for policy in policies for rule in policy.pack.rules if rule.derive}
    assert frozenset().union(*(about.signals for about in SIGNALS.values())) <= raised | derived
    assert set(SIGNALS) == set(crews.THEMES)


def test_the_story_knows_no_rule() -> None:
    """The generator imports nothing of the engine, so that no threshold can come from there."""
    for name in ("market", "town", "honest", "crews"):
        tree = ast.parse((PACKAGE / f"{name}.py").read_text("utf-8"))
        modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        assert not [module for module in modules if module.split(".")[0] in ("engine", "cli", "api", "yaml")]


def test_no_seed_is_both_for_making_the_packs_and_for_measuring() -> None:
    assert not set(DEVELOPMENT) & set(HOLDOUT)


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 1000, 0.0021, 0.0117), (0, 0, 0, 1)],
)
def test_wilson_intervals(part: int, whole: int, low: float, high: float) -> None:
    assert Share(part, whole).interval == pytest.approx((low, high), abs=1e-4)


def test_a_theme_below_its_bar_is_told() -> None:
    good = Line("brushing", "shop", Share(90, 100), Share(0, 100), Share(5, 1000), (0.0, 0.0))
    assert missed([good]) == []
    bad = Line("brushing", "shop", Share(89, 100), Share(0, 100), Share(6, 1000), (0.0, 0.0))
    assert missed([bad]) == ["brushing: caught 89.0%, bar 90%", "brushing: 0.60% of honest shops flagged, bar 0.5%"]
