"""Thresholds and points fitted to a history: curves against the real engine at each threshold, and what is planted is
found."""

from __future__ import annotations

import csv
import json
import random
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from cli import main
from cli.features import parts
from cli.observing import opened
from cli.tunable import chosen, of_policy, of_rule
from engine.backtest import Tally
from engine.expr import DURATION, MONEY, NUMBER, TEXT, literal
from engine.money import Money
from engine.packs import read
from engine.packs.moments import DAY
from engine.rulebook import load
from engine.tuning import Feature, Goal, Observed, Period, best, fared, periods, read_limit, written
from engine.tuning.rounding import roundest
from engine.tuning.scorecard import fit
from tests import books, models, test_backtest, test_models
from tests.books import ROOT, SHARED

OCTOBER = ROOT / "docs/examples/october"
PAYMENTS = "data/handbook/transactions.parquet"
RATES = "rates: CNY\nabout: Made up.\nsample: true\ndays:\n  2026-09-01: {USD: 7.05, EUR: 8.2, JPY: 0.05}\n"
CALM = """\
policy: till
for: [transaction]
verdicts: [approve, challenge, review, decline]
tiers:
  standard: {challenge: 20, review: 45, decline: 90}
  watched: {challenge: 10, decline: 60}
default_tier: standard
challenge: {by: [3ds], expires: 15m, passed: rescore, failed: decline, abandoned: review}
review: {queue: desk, due: 30m, if_late: decline}
"""
BOUNDS = """\
rules:
  - {id: known, when: [guest_order, app_order], at_most: challenge}
  - {id: always-ask, when: [large_order], at_least: review}
"""
STATE = "breaker: {per: rule, share_of_declines: 5%, over: 1h, at_least_events: 3, then: challenge}\n"
FULL = CALM.replace("if_late: decline", "if_late: decline, capacity: 1/h, overflow: decline") + BOUNDS + STATE


def rule(id: str, when: str, *, signal: str = "odd", points: int = 10) -> str:
    quoted = when.replace("'", "''")
    return (
        f"  - id: tuned.{id}\n    when: '{quoted}'\n    signal: {signal}\n    points: {points}\n"
        "    because: {en: odd, zh: 异常}\n    basis: {kind: house-policy, review_by: 2027-05-31}\n"
    )


def pack(*rules: str, let: str = "") -> str:
    return f"pack: tuned\nabout: For tests.\nfor: transaction\nowner: tests\n{let}rules:\n" + "".join(rules)


def folder(at: Path, rules: str, policy: str = CALM) -> tuple[Path, Path]:
    books.write(at, {"rules/tuned.yaml": rules, "policies/till.yaml": policy, "policies/rates/r.yaml": RATES})
    return at / "rules", at / "policies"


def whole(subject: Any) -> Period:
    """The sums over all events."""
    return Period.of(subject.observed, subject.comparison, 1)


def said(*words: Any) -> Result:
    return CliRunner().invoke(main, ["tune", *map(str, words)])


# ---------------------------------------------------------------- curves

LADDER = (0, 1, 2, 3, 5, 15, 100, 700, 5000, 40_000)
CONDITIONS = {
    "an amount": ("amount in CNY > {} CNY", 1),
    "an amount of one currency": ("amount > {} CNY", 1),
    "one behind a not": ("not (amount in CNY <= {} CNY) and buyer.guest", 1),
    "a count": ("count(last 1d by buyer.account) >= {}", 1),
    "a duration that may be unknown": ('at - first seen(last 7d by card.ref) < {}h or channel == "web"', 1),
    "one of two": ("3 CNY < amount in CNY and (amount in CNY <= {} CNY or card.country is missing)", 2),
    "one as a value": ("(amount in CNY < {} CNY) == buyer.guest", 1),
    "a quotient": ("amount in CNY / count(last 2d by buyer.account) > {} CNY or ip_type == \"hosting\"", 1),
    "one that is there twice": ("amount in CNY > {0} CNY or (buyer.guest and not amount in CNY > {0} CNY)", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_curve_is_what_a_backtest_finds_at_each_threshold(tmp_path: Path, name: str) -> None:
    template, number = CONDITIONS[name]
    rules, policies = folder(tmp_path, pack(*(rule(f"at-{n}", template.format(n)) for n in LADDER)))
    data, mapping = test_backtest.written(tmp_path, 7, 260)
    mapping.write_text(mapping.read_text("utf-8").replace("refunded: refunded\n", ""), "utf-8")
    with test_backtest.judged_run(load(rules, policies), data, mapping) as run:
        wanted = {each.id: each.tally for each in run.figures.rules}
    sample = opened(data, mapping, rules=rules, policies=policies)
    of = chosen(sample, "tuned.at-2", number)
    subject = of_rule(sample, of.rule, of.threshold)
    period = whole(subject)
    factor = 3_600_000_000 if "h or" in template else 100 if "{} CNY" in template or "{0} CNY" in template else 1
    found = {f"tuned.at-{n}": period.at(n * factor) for n in LADDER}
    assert found == wanted
    assert len(set(found.values())) > 2
    assert period.all == run.figures.all


@pytest.mark.parametrize("tiers", [pytest.param("all in one tier", marks=pytest.mark.slow), "tiers of the table"])
@pytest.mark.parametrize(("verdict", "tier"), [("challenge", None), ("review", None), ("decline", "watched")])
def test_a_curve_of_scores_is_what_the_policy_says_at_each_threshold(
    tmp_path: Path, verdict: str, tier: str | None, tiers: str
) -> None:
    rules = pack(
        rule("guest", "buyer.guest", signal="guest_order", points=25),
        rule("app", 'channel == "app"', signal="app_order", points=20),
        rule("many", "count(last 1d by buyer.account) >= 2", signal="many_orders", points=35),
        rule("large", "amount in CNY > 5000 CNY", signal="large_order", points=15),
        rule("net", 'ip_type == "hosting"', signal="odd_network", points=40),
    )
    data, mapping = test_backtest.written(tmp_path, 3, 260)
    name, among = tier or "standard", {"watched"} if tier else {"standard", "trusted", "of old", ""}
    if tiers == "all in one tier":
        mapping.write_text(mapping.read_text("utf-8").replace("tier: tier\n", ""), "utf-8")
        among = {""}
    sample = opened(data, mapping, None, None, None, *folder(tmp_path / "now", rules, FULL))
    subject = of_policy(sample, verdict, tier)
    period, distinct = whole(subject), set()
    low, high = map(int, re.findall(r"\d+", subject.about))
    for score in sorted({low, (low + high) // 2, 25, 35, 55, high} & set(range(low, high + 1))):
        changed = re.sub(rf"(  {name}: .*{verdict}: )\d+", rf"\g<1>{score}", CALM + BOUNDS)
        if tiers == "all in one tier":
            changed = changed.replace("default_tier: standard", f"default_tier: {name}")
        book = load(*folder(tmp_path / str(score), rules, changed))
        with test_backtest.judged_run(book, data, mapping) as run:
            wanted = reached(run, verdict, among)
        assert period.at(score) == wanted, score
        distinct.add(wanted)
    assert len(distinct) > 1


def reached(run: Any, verdict: str, tiers: set[str]) -> Tally:
    """The events of these tiers that got a verdict or a severer one."""
    order = run.judged.policy.verdicts
    severe = [order.index(each.outcome.verdict) >= order.index(verdict) for each in run.judged.variants]
    columns = run.past.warehouse.arrow(run.judged.table.select("bad", "worth", "tier", "variant")).to_pylist()
    hit = [row for row in columns if row["tier"] in tiers and severe[row["variant"]]]
    worth = [int(row["worth"] or 0) for row in hit]
    bad_worth = sum(each for each, row in zip(worth, hit, strict=True) if row["bad"])
    return Tally(len(hit), sum(row["bad"] for row in hit), sum(worth), bad_worth)


def test_a_score_that_is_suggested_lies_between_those_of_its_neighbours(tmp_path: Path) -> None:
    """A clause asks about all that is found here, so any score would do: the highest one that there can be is."""
    rules = pack(rule("guest", "buyer.guest", points=58), rule("large", "amount > 700 CNY", signal="large_order"))
    options = shop(tmp_path, orders(), rules)
    bounds = "rules:\n  - {id: ask, when: [large_order], at_least: challenge}\n"
    (tmp_path / "policies/till.yaml").write_text(CALM.replace("review: 45", "review: 60") + bounds, "utf-8")
    found = asked(options, "--verdict", "challenge", "--limit", "recall >= 1%")
    assert found["suggested"]["at"] == "59"
    assert all(1 <= int(point["at"]) <= 59 for point in found["curve"])


NUMBERS = st.integers(-30, 30).map(Decimal) | st.decimals(-5, 5, places=3) | st.none()


@given(
    rows=st.lists(st.tuples(NUMBERS, st.booleans(), st.integers(0, 9), *[st.booleans()] * 3), min_size=1, max_size=30),
    comparison=st.sampled_from([">", ">=", "<", "<="]),
    limits=st.lists(
        st.sampled_from(["fpr <= 20%", "fpr <= 0%", "precision >= 50%", "recall >= 40%", "alerts <= 4/d"]), max_size=2
    ),
)
@settings(deadline=None)
def test_no_threshold_within_the_limits_finds_more_than_the_suggested_one(
    rows: list[Any], comparison: str, limits: list[str]
) -> None:
    values, bad, worth, *truths = map(list, zip(*rows, strict=True))
    arrays = [np.array(each) for each in (bad, worth, *truths)]
    observed = Observed(np.arange(len(rows)), arrays[0], arrays[1], values, *arrays[2:])
    period = Period.of(observed, comparison, 86_400_000_000)
    kept = [read_limit(each) for each in limits]
    found = best(period, Goal(tuple(kept)), NUMBER)

    ladder = {v + d for v in values if v is not None for d in (Decimal(0), Decimal("-0.0005"), Decimal("0.0005"))}
    edges = [written(period, int(edge), NUMBER) for edge in period.edges()]
    tallies = {limit: by_hand(rows, comparison, limit) for limit in (*ladder, *(e for e in edges if e is not None))}
    assert all(period.at(limit) == tally for limit, tally in tallies.items())
    offered = {tallies[edge] for edge in edges if edge is not None}
    within = [t for t in offered if t.bad and all(each.kept for each in fared(kept, period.figures(t)))]
    if found is None:
        assert not within
        return
    chosen = by_hand(rows, comparison, found)
    assert chosen in within
    if limits and all(each.startswith("recall") for each in limits):
        assert (chosen.good, -chosen.bad) == min((each.good, -each.bad) for each in within)
    else:
        assert (-chosen.bad, chosen.good) == min((-each.bad, each.good) for each in within)


def by_hand(rows: list[Any], comparison: str, limit: Any) -> Tally:
    compare: dict[str, Callable[[Any, Any], bool]] = {
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
    }
    hit = [
        (bad, worth)
        for value, bad, worth, true, false, unknown in rows
        if (unknown if value is None else true if compare[comparison](value, limit) else false)
    ]
    bad_worth = sum(worth for bad, worth in hit if bad)
    return Tally(len(hit), sum(bad for bad, _ in hit), sum(worth for _, worth in hit), bad_worth)


@given(low=st.integers(-(10**9), 10**9), more=st.integers(1, 10**6), first=st.booleans(),
       type_=st.sampled_from([NUMBER, MONEY, DURATION]))  # fmt: skip
def test_the_roundest_value_lies_where_it_must_and_can_be_written(low: int, more: int, first: bool, type_: Any) -> None:
    if type_ == DURATION:
        low, more = abs(low) * 1_000_000, more * 1_000_000
    found = roundest(low, low + more, type_, first=first)
    assert found is not None
    assert (low <= found < low + more) if first else (low < found <= low + more)
    text = literal(Money(found, "CNY") if type_ == MONEY else found, type_).text
    assert len(text) <= max(len(literal(Money(each, "CNY") if type_ == MONEY else each, type_).text)
                            for each in (low, low + more))  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "type_", "first", "wanted"),
    [
        (99_937, 120_000, MONEY, True, 100_000),
        (Decimal("1.82"), Decimal("2.31"), NUMBER, False, 2),
        (Decimal("0.2500001"), Decimal("0.2500002"), NUMBER, True, None),
        (86_000_000_000, 90_000_000_000, DURATION, True, 86_400_000_000),
    ],
)
def test_what_is_suggested_is_round(low: Any, high: Any, type_: Any, first: bool, wanted: Any) -> None:
    assert roundest(low, high, type_, first=first) == wanted


# ---------------------------------------------------------------- suggestions

SHOP = """\
map: shop
kind: transaction
zone: UTC
columns:
  fraud: {column: fraud, type: bool}
fields:
  event_id: id
  at: at
  amount: {column: amount, currency: CNY}
  buyer.guest: guest
  channel: channel
outcome: {when: fraud, result: chargeback, delay: 5d}
"""


def orders(days: int = 60, seed: int = 1) -> Iterator[dict[str, Any]]:
    """Ten orders a day; every tenth is fraud. Fraud costs from 700 up, a good order less than 612.34, guests commit
    more fraud, and the channel says nothing."""
    rng = random.Random(seed)
    for number in range(days * 10):
        fraud = rng.random() < 0.1
        day, place = divmod(number, 10)
        yield {
            "id": f"o{number}",
            "at": f"2026-{8 + day // 30:02d}-{1 + day % 30:02d}T{place:02d}:00:00Z",
            "amount": f"{rng.uniform(700, 3000) if fraud else rng.uniform(1, 612.34):.2f}",
            "guest": str(rng.random() < (0.8 if fraud else 0.3)).lower(),
            "channel": rng.choice(["app", "web"]),
            "fraud": str(fraud).lower(),
        }


def shop(at: Path, rows: Any, rules: str | None = None) -> list[Any]:
    """A table, its map and a rulebook as options."""
    rows = list(rows)
    at.mkdir(exist_ok=True)
    with (at / "orders.csv").open("w", newline="", encoding="utf-8") as to:
        writer = csv.DictWriter(to, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (at / "orders.map.yaml").write_text(SHOP, "utf-8")
    found = folder(at, rules or pack(rule("large", "amount > limit"), let="let:\n  limit: 50 CNY\n"))
    return ["--data", at / "orders.csv", "--map", at / "orders.map.yaml", "--rules", found[0], "--policies", found[1]]


def asked(options: list[Any], *words: str) -> dict[str, Any]:
    result = said(*options, *words, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.output))


def test_a_planted_threshold_is_found_and_holds_later(tmp_path: Path) -> None:
    found = asked(shop(tmp_path, orders()), "--rule", "tuned.large", "--limit", "fpr <= 0%")
    assert found["suggested"]["at"] == "700 CNY"  # the roundest between the two
    assert found["present"]["at"] == "50 CNY"
    assert found["suggested"]["fit"]["recall"][0] == found["suggested"]["later"]["recall"][0] == 1.0
    assert found["suggested"]["later"]["good"] == 0
    assert found["holds"] is True
    assert found["present"]["later"]["good"] > 100


def test_what_is_known_after_the_first_part_changes_no_suggestion(tmp_path: Path) -> None:
    rows = list(orders())
    first = asked(shop(tmp_path / "a", rows), "--rule", "tuned.large", "--limit", "fpr <= 2%")
    until = first["periods"]["later"]["from"]
    known = first["periods"]["fit"]["to"]
    assert known < until
    others = [
        row | {"fraud": "false" if row["fraud"] == "true" else "true"} if row["at"] > known else row for row in rows
    ]
    second = asked(shop(tmp_path / "b", others), "--rule", "tuned.large", "--limit", "fpr <= 2%")
    assert second["suggested"]["at"] == first["suggested"]["at"]
    assert second["suggested"]["fit"] == first["suggested"]["fit"]
    assert second["holds"] is False
    assert "fpr" in second["worse"]


def test_a_longer_delay_leaves_more_out_of_the_fit(tmp_path: Path) -> None:
    options = [*shop(tmp_path, orders()), "--rule", "tuned.large"]
    short, long = (asked(options, "--label-delay", each, "--fit-until", "2026-09-10") for each in ("1d", "20d"))
    assert short["periods"]["left_out"] == 10
    assert long["periods"]["left_out"] == 190
    assert short["periods"]["later"] == long["periods"]["later"]


def test_a_fit_that_does_not_hold_is_told(tmp_path: Path) -> None:
    rows = [row | {"amount": "2000.00"} if row["at"] >= "2026-09-09" else row for row in orders()]
    result = said(*shop(tmp_path, rows), "--rule", "tuned.large", "--limit", "fpr <= 1%", "--alert-cost", "500 CNY")
    assert result.exit_code == 0
    assert "the fit does not hold: later it breaks fpr <= 1%: 100.00%" in result.output
    assert "the fit does not hold: precision is worse later" in result.output
    assert "the fit does not hold: later the alerts cost more than they save" in result.output


def test_limits_that_cannot_be_kept_are_told_and_nothing_is_written(tmp_path: Path) -> None:
    out = tmp_path / "never.yaml"
    limits = ["--limit", "recall >= 100%", "--limit", "alerts <= 0.1/d", "--out", out]
    result = said(*shop(tmp_path, orders()), "--rule", "tuned.large", *limits)
    assert result.exit_code == 1
    assert "no threshold keeps recall >= 100% and alerts <= 0.1/d in the first part" in result.output
    assert not out.exists()
    told = said(*shop(tmp_path, orders()), "--rule", "tuned.large", *limits, "--json")
    assert json.loads(told.output)["suggested"] is None


def test_where_alerts_cost_something_what_is_worth_most_is_suggested(tmp_path: Path) -> None:
    """Fraud below 2000 CNY is not worth an alert of 2000 CNY; nothing is worth one of 4000 CNY."""
    options = [*shop(tmp_path, orders()), "--rule", "tuned.large"]
    found = asked(options, "--alert-cost", "2000 CNY")
    at = Decimal(found["suggested"]["at"].removesuffix(" CNY"))
    assert 1900 < at <= 2050
    tally = found["suggested"]["fit"]
    assert tally["value"] == tally["fraud_money"] - 200_000 * tally["events"] > 0
    assert all(point["fit"]["value"] <= tally["value"] for point in found["curve"])
    cheap = asked(options, "--alert-cost", "1 CNY")
    assert cheap["suggested"]["at"] == "700 CNY"
    result = said(*options, "--alert-cost", "4000 CNY")
    assert result.exit_code == 1
    assert "no threshold finds any fraud that is worth its alerts; nothing is suggested" in result.output


@pytest.mark.parametrize(
    ("fraud_until", "told"),
    [
        ("2026-07-31", "there is no fraud among the 340 transactions to fit on; there is no fraud among the 210 tran"),
        ("2026-08-08", "among the 340 transactions to fit on, and what fewer than 10 have in common is luck"),
        ("2026-09-04", "no fraud among the 210 transactions to report on: the history goes from 2026-08-01 to"),
    ],
)  # fmt: skip
def test_too_few_frauds_are_told(tmp_path: Path, fraud_until: str, told: str) -> None:
    rows = [row | ({} if row["at"][:10] <= fraud_until else {"fraud": "false"}) for row in orders()]
    result = said(*shop(tmp_path, rows), "--rule", "tuned.large", "--limit", "fpr <= 1%")
    assert result.exit_code == 1
    assert told in result.output


def test_rows_that_are_no_events_are_told_and_left_out_as_in_a_backtest(tmp_path: Path) -> None:
    rows = list(orders())
    wrong = [{**rows[5], "amount": "much"}, {**rows[6], "id": "o6"}, {**rows[7], "at": "2026-08-01 07:00"}]
    rows[5:8] = [wrong[0], rows[6], wrong[2]]
    result = said(*shop(tmp_path, [*rows, wrong[1]]), "--rule", "tuned.large", "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)["periods"]
    assert told["fit"]["events"] + told["later"]["events"] + told["left_out"] == 599  # UTC is the zone of the map
    assert "row 6: amount" in result.stderr
    assert "an earlier row has this id" in result.stderr


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("amount: {column: amount, currency: CNY}", "amount: {column: price, currency: CNY}", "price"),
        ("outcome: {when: fraud, result: chargeback, delay: 5d}", "", "no outcome, so nobody knows what was fraud"),
        ("result: chargeback", "result: false_positive", "'false_positive' is no fraud; those that are: chargeback"),
    ],
)
def test_a_mapping_that_says_nothing_of_fraud_is_refused(tmp_path: Path, old: str, new: str, told: str) -> None:
    options = shop(tmp_path, orders())
    (tmp_path / "orders.map.yaml").write_text(SHOP.replace(old, new), "utf-8")
    result = said(*options, "--rule", "tuned.large")
    assert result.exit_code == 1
    assert told in result.output


def test_everything_wrong_with_the_options_is_told_at_once(tmp_path: Path) -> None:
    words = ["--literal", "3", "--limit", "fpr", "--limit", "fdr <= 3%", "--fit-until", "x", "--label-delay", "y"]
    result = said(*shop(tmp_path, orders()), *words, "--alert-cost", "3", "--out", tmp_path / "no/X Y.txt")
    assert result.exit_code == 1
    options = [line.split(": ")[1] for line in result.output.splitlines()]
    wanted = "--literal --out --out --limit --limit --alert-cost --label-delay --fit-until"
    assert options[1:] == wanted.split()
    assert "say what is to be tuned" in result.output


def test_a_threshold_on_which_nothing_hangs_is_told(tmp_path: Path) -> None:
    rules = pack(rule("large", 'amount > 50 CNY and channel == "mini_program"'))
    result = said(*shop(tmp_path, orders(), rules), "--rule", "tuned.large", "--limit", "fpr <= 1%")
    assert result.exit_code == 1
    assert "no event of the first part hangs on this threshold: nothing is suggested" in result.output


# ---------------------------------------------------------------- anomaly models


@pytest.fixture
def till(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A till with an anomaly model in force, a rule that asks for it, and 20 days of payments."""
    model = models.trained(books.book(tmp_path / "plain", models.files()), tmp_path / "models")
    files = models.files(model)
    files["rules/odd.yaml"] = ODD
    books.write(tmp_path, files)
    rows = models.rows(size=1000, seed=3)
    with (tmp_path / "till.csv").open("w", newline="", encoding="utf-8") as to:
        out = csv.writer(to)
        out.writerow(["id", "at", "amount", "card", "fraud"])
        for number, (row, fraud) in enumerate(zip(rows.values, rows.fraud, strict=True)):
            at = f"2026-05-{1 + number // 50:02}T{number % 50 // 3:02}:{number % 3}0:00Z"
            out.writerow([f"e{number}", at, f"{row[0]:.2f}", f"c{number % 30}", int(fraud)])
    (tmp_path / "till.map.yaml").write_text(test_models.MAP, "utf-8")
    monkeypatch.setenv("ARBITER_MODEL_DIR", str(tmp_path / "models"))
    folders = ["--rules", tmp_path / "rules", "--policies", tmp_path / "policies"]
    return ["--data", tmp_path / "till.csv", "--map", tmp_path / "till.map.yaml", *folders]


ODD = """\
pack: odd
about: For tests.
for: payment
owner: tests
rules:
  - id: odd.large
    when: anomaly >= 99 and amount > 30 CNY
    signal: odd
    because: {en: odd, zh: 异常}
    basis: {kind: house-policy, review_by: 2027-05-31}
"""


def test_a_curve_of_percentiles_is_what_the_model_gives_when_it_scores(tmp_path: Path, till: list[Any]) -> None:
    out = tmp_path / "scored.jsonl"
    scored = CliRunner().invoke(main, ["score", str(till[1]), *map(str, till[2:]), "--out", str(out)])
    assert scored.exit_code == 0, scored.output
    lines = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    frauds = {line.split(",")[0] for line in till[1].read_text("utf-8").splitlines() if line.endswith(",1")}
    found = asked(till, "--anomaly")
    assert found["present"]["at"] == "99"
    until = found["periods"]["later"]["from"]
    later = [line for line in lines if line["at"] >= until]
    for point in [*found["curve"], found["present"]]:
        alerts = [line["event_id"] for line in later if Decimal(str(line["anomaly"])) >= Decimal(point["at"])]
        assert point["later"]["events"] == len(alerts)
        assert point["later"]["fraud"] == len(frauds.intersection(alerts))
    assert len(found["curve"]) > 2


def test_a_policy_that_counts_the_anomaly_is_tuned_with_the_model(tmp_path: Path, till: list[Any]) -> None:
    out = tmp_path / "scored.jsonl"
    scored = CliRunner().invoke(main, ["score", str(till[1]), *map(str, till[2:]), "--out", str(out)])
    assert scored.exit_code == 0, scored.output
    found = asked(till, "--verdict", "challenge")
    lines = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    later = [line for line in lines if line["at"] >= found["periods"]["later"]["from"]]
    wanted = sum(line["verdict"] != "approve" for line in later)
    assert found["present"]["later"]["events"] == wanted > 0


def test_a_rule_that_asks_for_the_anomaly_is_tuned_with_the_model(till: list[Any]) -> None:
    both = asked(till, "--rule", "odd.large", "--literal", "1")
    alone = {point["at"]: point["fit"]["events"] for point in asked(till, "--anomaly")["curve"]}
    assert both["present"]["fit"]["events"] > 0
    assert both["threshold"] == "anomaly >= 99"
    assert all(point["fit"]["events"] <= alone[point["at"]] for point in both["curve"] if point["at"] in alone)


def test_without_a_model_nothing_is_tuned_on_the_anomaly(
    tmp_path: Path, till: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = models.files()
    (tmp_path / "policies/anomaly.yaml").write_text(files["policies/anomaly.yaml"], "utf-8")
    for words in (["--anomaly"], ["--rule", "odd.large", "--literal", "1"]):
        result = said(*till, *words)
        assert result.exit_code == 1
        assert "no anomaly model looks at a payment: 'till' pins no model yet" in result.output


# ---------------------------------------------------------------- drafts


def test_a_draft_of_a_rule_is_in_the_shadow_keeps_its_text_and_passes_check(tmp_path: Path) -> None:
    options = shop(tmp_path, orders())
    out = tmp_path / "rules/larger.yaml"
    result = said(*options, "--rule", "tuned.large", "--limit", "fpr <= 0%", "--out", out)
    assert result.exit_code == 0, result.output
    book = load(tmp_path / "rules", tmp_path / "policies")
    (made,) = [each for each in book.rules if each.id == "larger.large"]
    assert made.mode == "shadow"
    assert made.condition.text == "amount > 700 CNY"
    data = read(out, root=tmp_path).data
    assert (data["let"]["limit"], data["rules"][0]["when"]) == ("700 CNY", "amount > limit")
    assert {test.expect for test in made.tests} == {"fires", "quiet"}
    checked = CliRunner().invoke(main, ["check", *map(str, options[4:]), str(out)])
    assert checked.exit_code == 0, checked.output
    assert CliRunner().invoke(main, ["fmt", "--check", str(out)]).exit_code == 0


def test_a_draft_never_overwrites(tmp_path: Path) -> None:
    out = tmp_path / "there.yaml"
    out.write_text("mine", "utf-8")
    for what in (["--rule", "tuned.large", "--limit", "fpr <= 1%"], ["--scorecard", "amount"]):
        result = said(*shop(tmp_path, orders()), *what, "--out", out)
        assert result.exit_code == 1
        assert "exists already" in result.output
        assert out.read_text("utf-8") == "mine"


MIXED = """\
pack: tuned
about: For tests.
for: [transaction, payment]
owner: tests
patterns:
  reset:
    sequence:
      - {event: account, where: account.action == "login"}
      - {event: account, where: account.action == "password_reset"}
    within: 2d
    by: buyer.account
let:
  much: 50 CNY
  unused: 50 CNY
rules:
  - {id: tuned.other, when: buyer.guest, signal: odd, because: {en: odd, zh: 异常}, basis: {law: [cn.ecl.13]}}
  - id: tuned.mixed
    when: (amount > much or reset) and not (amount > 999999 CNY)
    signal: mixed
    severity: high
    hard: true
    points: 12
    group: some
    because: {en: "{amount} is 'more': much", zh: "金额 {amount}"}
    basis: {law: [cn.ecl.13]}
    if_unknown: unsure
    tests:
      - {it: fires on more, event: {amount: 800 CNY}, expect: fires}
      - {it: is too low for the draft, event: {amount: 100 CNY}, expect: fires}
"""


def test_a_draft_keeps_all_that_the_rule_says(tmp_path: Path) -> None:
    options, out = shop(tmp_path, orders(), MIXED), tmp_path / "rules/more.yaml"
    result = said(*options, "--rule", "tuned.mixed", "--literal", "1", "--limit", "fpr <= 0%", "--out", out)
    assert result.exit_code == 0, result.output
    old, new = read(tmp_path / "rules/tuned.yaml", root=tmp_path).data, read(out, root=tmp_path).data
    (mine,) = new.pop("rules")
    assert new == {key: old[key] for key in ("for", "owner", "patterns")} | {
        "pack": "more",
        "about": "A draft by arbiter tune: tuned.mixed with 700 CNY instead of 50 CNY.",
        "let": {"much": "700 CNY"},
    }
    tests = [test["it"] for test in mine.pop("tests")]
    assert tests[0] == "fires on more"
    assert "is too low for the draft" not in tests
    whole = old["rules"][1] | {"id": "more.mixed", "mode": "shadow"}
    del whole["tests"]
    assert mine == whole


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("tuned", "its name would clash with the rule 'tuned.large' of rules/tuned.yaml"),
        ("lists", "its name would clash with"),
    ],
)
def test_a_draft_of_a_name_that_is_taken_is_refused(tmp_path: Path, name: str, told: str) -> None:
    options = shop(tmp_path, orders())
    (tmp_path / "rules/lists.yaml").write_text("list: some\nabout: Some.\nmatch: exact\nentries: [a]\n", "utf-8")
    for what in (["--rule", "tuned.large", "--limit", "fpr <= 1%"], ["--scorecard", "amount"]):
        result = said(*options, *what, "--out", tmp_path / f"{name}.yaml")
        assert result.exit_code == 1
        assert told in result.output
        assert not (tmp_path / f"{name}.yaml").exists()


THREE = pack(
    rule("large", "amount > 50 CNY"),
    rule("guest", "buyer.guest"),
    rule("two", "amount > 5 CNY and amount <= 900 CNY"),
)
REFUSED: list[tuple[list[str], str]] = [
    ([], "say what is to be tuned"),
    (["--rule", "tuned.large", "--verdict", "review"], "say what is to be tuned"),
    (["--rule", "tuned.larg"], "did you mean 'tuned.large'?"),
    (["--rule", "tuned.guest"], "has no threshold"),
    (["--rule", "tuned.two"], "choose one with --literal N\n  1  amount > 5 CNY\n  2  amount <= 900 CNY"),
    (["--rule", "tuned.two", "--literal", "3"], "has these thresholds"),
    (["--rule", "tuned.large", "--tier", "watched"], "--tier: it goes with --verdict"),
    (["--scorecard", "amount", "--literal", "1"], "--literal: it goes with --rule"),
    (["--rule", "tuned.large", "--free"], "--free: it goes with --scorecard"),
    (["--verdict", "reviw"], "did you mean 'review'?"),
    (["--verdict", "review", "--tier", "watched"], "has no score for it; those with one are challenge, decline"),
    (["--verdict", "review", "--tier", "gold"], "no such tier"),
    (["--verdict", "review", "--out", "x.yaml"], "a policy has no shadow"),
    (["--rule", "tuned.large", "--out", "x.txt"], "name it .yaml"),
    (["--rule", "tuned.large", "--limit", "fpr <= 0%", "--out", "X Y.yaml"], "small letters, digits and '-'"),
    (["--rule", "tuned.large", "--fit-until", "soon"], "--fit-until: 'soon': write a day"),
    (["--rule", "tuned.large", "--fit-until", "2026-08-02"], "there is no transaction to fit on"),
    (["--rule", "tuned.large", "--fit-until", "2027-08-02"], "there is no transaction to report on"),
    (["--scorecard", ","], "names no feature"),
    (["--scorecard", "amount, amount"], "is there twice"),
    (["--scorecard", "amout"], "did you mean 'amount'?"),
    (["--scorecard", "items.category"], "ask whether something is in it"),
    (["--scorecard", "at"], "has no bands"),
    (["--scorecard", "buyer.account"], "this is personal data (buyer.account)"),
    (["--scorecard", "channel"], "no scorecard: channel: no two of its bands differ"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "told"), REFUSED)
def test_what_cannot_be_tuned_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = said(*shop(tmp_path, orders(), THREE), *words)
    assert result.exit_code == 1, result.output
    assert told in result.output


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fpr", "write it as"),
        ("frp <= 1%", "did you mean 'fpr'?"),
        ("fpr >= 1%", "fpr is limited by '<='"),
        ("alerts <= 50", "alerts are counted by time"),
        ("fpr <= 1/d", "it is a share"),
        ("fpr <= 101%", "at most 100%"),
        ("fpr <= 0.5", "a share is written with %: 0.5%, or 50%"),
    ],
)
def test_a_limit_that_says_nothing_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        read_limit(text)


def test_limits_are_read_with_their_units() -> None:
    read_ = [read_limit(each).value for each in ("fpr<=0.5%", "alerts <= 2/h", "precision >= 30%", "alerts <= 50/d")]
    assert read_ == [0.005, 48.0, 0.3, 50.0]


# ---------------------------------------------------------------- scorecards


def test_a_scorecard_finds_what_was_planted_and_leaves_out_what_says_nothing(tmp_path: Path) -> None:
    rows = [row | {"amount": f"{float(row['amount']) % 613 + 1:.2f}"} if int(row["id"][1:]) % 3 else row
            for row in orders(90)]  # fmt: skip
    found = asked(shop(tmp_path, rows), "--scorecard", "amount, buyer.guest, channel")
    features = {each["feature"]: each["bands"] for each in found["features"]}
    assert set(features) == {"amount", "buyer.guest"}
    assert list(found["left_out"]) == ["channel"]
    points = [band["points"] for band in features["amount"]]
    assert points == sorted(points)
    assert points[0] == 0 < points[-1]
    guest = {band["when"]: band["points"] for band in features["buyer.guest"]}
    assert guest["not buyer.guest"] == 0 < guest["buyer.guest"]
    assert found["ranks"]["later"]["average_precision"] > 0.2


def test_the_engine_adds_up_the_points_of_a_drafted_scorecard(tmp_path: Path) -> None:
    """The draft made live in a policy gives the scores that the fit was measured with."""
    options = shop(tmp_path, orders(), pack(rule("none", "amount > 99999 CNY", points=0)))
    (tmp_path / "policies/till.yaml").write_text(CALM + "score: {cap: 1000}\n", "utf-8")
    out = tmp_path / "rules/card.yaml"
    words = ["--scorecard", "amount in CNY, half=amount in CNY / 2, buyer.guest, hour(at)", "--free", "--out", out]
    result = said(*options, *words, "--json")
    assert result.exit_code == 0, result.output
    checked = CliRunner().invoke(main, ["check", *map(str, options[4:]), str(out)])
    assert checked.exit_code == 0, checked.output
    assert {each.mode for each in load(tmp_path / "rules", tmp_path / "policies").rules if each.pack == "card"} == {
        "shadow"
    }
    out.write_text(out.read_text("utf-8").replace("mode: shadow", "mode: live"), "utf-8")
    book = load(tmp_path / "rules", tmp_path / "policies")
    with test_backtest.judged_run(book, tmp_path / "orders.csv", tmp_path / "orders.map.yaml") as run:
        bad = np.array(run.past.warehouse.arrow(run.judged.table.select("seq", "bad").order_by("seq"))["bad"])
        table = run.past.warehouse.arrow(run.judged.table.select("seq", "at", "variant").order_by("seq"))
        scores = np.array([run.judged.variants[each].outcome.score for each in table["variant"].to_pylist()])
        at = table["at"].to_numpy()
    told = json.loads(result.output)
    until = datetime.fromisoformat(told["periods"]["later"]["from"])
    parts_ = periods(at, int(until.timestamp()) * 1_000_000, 5 * DAY)
    for point in told["curve"]:
        limit = int(point["at"])
        for name, rows in (("fit", parts_.fit), ("later", parts_.later)):
            hit = rows & (scores >= limit)
            assert (point[name]["events"], point[name]["fraud"]) == (int(hit.sum()), int((hit & bad).sum())), limit
    assert len(told["curve"]) >= 2


@given(seed=st.integers(0, 10_000), most=st.integers(2, 6), monotone=st.booleans())
@settings(deadline=None, max_examples=25)
def test_bands_are_few_whole_and_go_one_way(seed: int, most: int, monotone: bool) -> None:
    rng = np.random.default_rng(seed)
    size = 1500
    x = rng.gamma(2.0, 100.0, size).round(2)
    bad = rng.random(size) < 1 / (1 + np.exp(-(x - 500) / 120))
    bad[0], bad[1] = True, False
    values: list[Any] = [None if rng.random() < 0.05 else Decimal(str(each)) for each in x]
    words: list[Any] = [rng.choice(["a", "b", "c"]) if each else "d" for each in bad]
    features = [Feature("x", NUMBER, values), Feature("w", TEXT, words)]
    card = fit(features, bad, most, monotone=monotone)
    for each in card.features:
        known = [band for band in each.bands if not band.missing]
        assert len(known) <= most + 1
        assert all(isinstance(band.points, int) and band.points >= 0 for band in each.bands)
        assert min(band.points for band in each.bands) == 0
        assert sum(band.events for band in each.bands) <= size
        points = [band.points for band in known]
        if each.name == "x" and monotone:
            assert points == sorted(points, reverse=each.shape == "down")
        for one, other in pairwise(known):
            assert one.values or one.high == other.low
    assert len(card.scores(features)) == size


def test_features_are_parted_at_commas_outside_of_brackets_and_quotes() -> None:
    text = 'amount in CNY, "a,b" in items.category, n=count(last 1d by card.ref, ip), channel in ["app", "web"]'
    wanted = ["amount in CNY", '"a,b" in items.category', "n=count(last 1d by card.ref, ip)"]
    assert parts(text) == [*wanted, 'channel in ["app", "web"]']


# ---------------------------------------------------------------- the page, the data


def test_the_commands_of_the_page_run_and_print_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs/tuning.md").read_text("utf-8")
    for name in ("rules", "policies", "docs/examples/october"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    printed = ""
    commands = [line.replace(" \\\n", " ") for line in re.findall(r"^    arbiter ((?:.*\\\n)*.*)$", page, re.MULTILINE)]
    assert len(commands) >= 4
    for command in commands:
        result = CliRunner().invoke(main, shlex.split(command))
        assert result.exit_code == 0, result.output
        printed += result.output
    shown = [line for block in re.findall(r"```text\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert len(shown) > 10
    missing = [line for line in shown if line.strip() and line.rstrip() not in printed.splitlines()]
    assert not missing


@pytest.mark.slow
@pytest.mark.data(PAYMENTS)
@pytest.mark.timeout(600)
def test_a_threshold_fitted_to_the_handbook_holds_later(tmp_path: Path) -> None:
    """Above 220 every payment is fraud by construction: without a false positive nothing lower is to be had."""
    import pyarrow.parquet as pq

    table = pq.read_table(SHARED / PAYMENTS, filters=[("CUSTOMER_ID", "<", 400)])
    pq.write_table(table, tmp_path / "some.parquet")
    books.write(tmp_path, {"rules/tuned.yaml": pack(rule("large", "amount > 100 EUR"))})
    shutil.copytree(ROOT / "docs/examples/handbook/policies", tmp_path / "policies", dirs_exist_ok=True)
    found = asked(
        ["--data", tmp_path / "some.parquet", "--map", ROOT / "docs/examples/handbook.map.yaml",
         "--rules", tmp_path / "rules", "--policies", tmp_path / "policies"],
        "--rule", "tuned.large", "--limit", "fpr <= 0%",
    )  # fmt: skip
    assert 180 <= float(found["suggested"]["at"].removesuffix(" EUR")) <= 220
    assert found["suggested"]["later"]["good"] <= 2
    assert found["suggested"]["later"]["recall"][0] > 0.1
