"""Backtests against `arbiter score`: the same findings and verdicts, row by row; and figures against counts by hand."""

from __future__ import annotations

import csv
import json
import random
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from bench import backtest as bench
from cli import main
from cli.backtest import Run, backtested
from cli.history import History
from cli.replay import Replay
from cli.report import printed
from cli.tables import Bad, read_rows
from engine.backtest import Tally, findings
from engine.columns import on_duckdb
from engine.detectors import NO_MODELS, Models, read_models
from engine.mapping import read_map
from engine.proportions import wilson
from engine.rulebook import Rulebook, load
from tests import books, models
from tests.books import ROOT, SHARED
from tests.conftest import Opening

HANDBOOK = ROOT / "docs/examples/handbook"
PAYMENTS = "data/handbook/transactions.parquet"

MAP = """\
map: shop
kind: transaction
zone: UTC
columns:
  fraud: {column: fraud, type: bool}
  refunded: {column: refunded, type: bool}
fields:
  event_id: id
  at: at
  amount: {column: amount, currency: {column: currency}}
  buyer.account: buyer
  buyer.guest: guest
  buyer.signup_at: signup
  buyer.email: email
  card.ref: card
  card.country: card_country
  device.id: device
  ip: ip
  ip_country: ip_country
  ip_type: ip_type
  shipping.country: to
  merchant.id: shop
  channel: channel
  items.category: {column: categories, split: ";"}
  items.sku: {column: skus, split: ";"}
  session.source: source
tier: tier
refunded: refunded
outcome:
  when: fraud
  result: chargeback
  delay: 2d
"""
COLUMNS = (
    *("id", "at", "amount", "currency", "buyer", "guest", "signup", "email", "card", "card_country", "device", "ip"),
    *("ip_country", "ip_type", "to", "shop", "channel", "categories", "skus", "source", "fraud"),
    *("tier", "refunded"),
)


def rows(seed: int, count: int) -> Iterator[dict[str, str]]:
    """Orders of a few people, with ties, gaps, two currencies, and rows that are no events."""
    rng = random.Random(seed)
    at = 1_792_000_000
    for number in range(count):
        at += rng.choice([0, 0, 1, 30, 600, 4_000, 40_000])
        row = {
            "id": f"o{number}" if rng.random() > 0.01 else "o1",
            "at": f"20{26 + (at - 1_792_000_000) // 10**9}-{_clock(at)}",
            "amount": rng.choice(["1.00", "15.50", "88.00", "400.00", "699.99", "5200.00", "20000.00", "x"]),
            "currency": rng.choice(["CNY"] * 6 + ["USD", "USD", "JPY" if rng.random() < 0.1 else "EUR"]),
            "buyer": f"u{rng.randrange(25)}",
            "guest": rng.choice(["true", "false", "false", ""]),
            "signup": f"2026-09-2{rng.randrange(10)}T08:00:00Z",
            "email": rng.choice(["a@example.com", "b@mailinator.com", "kim.li@shop.example", ""]),
            "card": rng.choice([f"c{rng.randrange(20)}", f"c{rng.randrange(4)}", ""]),
            "card_country": rng.choice(["CN", "CN", "US", "RO", ""]),
            "device": rng.choice([f"d{rng.randrange(12)}", ""]),
            "ip": f"198.51.100.{rng.randrange(6)}",
            "ip_country": rng.choice(["CN", "CN", "DE", "RO", ""]),
            "ip_type": rng.choice(["residential", "mobile", "hosting", ""]),
            "to": rng.choice(["CN", "CN", "DE", "US"]),
            "shop": f"m{rng.randrange(3)}",
            "channel": rng.choice(["app", "web"]),
            "categories": rng.choice(["toys", "gift_card", "gift_card;toys", "phones", ""]),
            "skus": "",
            "source": rng.choice(["search", "friend 13800138000", "卡", ""]),
            "fraud": rng.choice(["true"] + ["false"] * 9 + [""]),
            "tier": rng.choice(
                ["standard", "trusted", "watched", "watched", "of old" if rng.random() < 0.05 else "", ""]
            ),
            "refunded": rng.choice(["true", "false", "false", ""]),
        }
        row["skus"] = (
            ";".join(f"s{rng.randrange(5)}" for _ in row["categories"].split(";")) if row["categories"] else ""
        )
        yield row


def _clock(at: int) -> str:
    days, seconds = divmod(at - 1_792_000_000, 86_400)
    hours, rest = divmod(seconds, 3_600)
    return f"{10 + days // 28:02d}-{1 + days % 28:02d}T{hours:02d}:{rest // 60:02d}:{rest % 60:02d}"


def written(folder: Path, seed: int, count: int) -> tuple[Path, Path]:
    """A table and its mapping file."""
    with (folder / "orders.csv").open("w", newline="", encoding="utf-8") as to:
        writer = csv.DictWriter(to, COLUMNS)
        writer.writeheader()
        writer.writerows(rows(seed, count))
    (folder / "orders.map.yaml").write_text(MAP, "utf-8")
    return folder / "orders.csv", folder / "orders.map.yaml"


Said = tuple[int, str, str, int, tuple[str, ...]]
"""A row's number, id, verdict, score and rules, as score and backtest both give them."""


def scored(
    book: Rulebook, data: Path, mapping: Path, using: Models = NO_MODELS
) -> tuple[list[Said], list[tuple[str, ...]]]:
    """What `arbiter score` says, and the signals."""
    table = read_map(mapping, book.schema)
    with data.open("rb") as source:
        found = read_rows(
            source, str(data), "parquet" if data.suffix == ".parquet" else "csv", table.columns, table.check
        )
    said: list[Said] = []
    signals: list[tuple[str, ...]] = []

    def told(row: int, event: Any, decision: Any) -> None:
        fired = (*decision.record["found"], *decision.record["shadow"])
        hit = {each["rule"] for each in decision.record["exempted"]}
        rules = tuple(sorted({*fired, *hit}))
        said.append((row, event.id, decision.outcome.verdict, decision.outcome.score, rules))
        signals.append(decision.outcome.signals)

    Replay(book, table, found, using).run(told, lambda _: None)
    return said, signals


@contextmanager
def judged_run(book: Rulebook, data: Path, mapping: Path, opening: Opening = on_duckdb, **more: Any) -> Iterator[Run]:
    kind = "parquet" if data.suffix == ".parquet" else "csv"
    with opening() as here:
        yield backtested(here, book, data, kind, mapping, **more)


def said_of(run: Run) -> tuple[list[Said], list[tuple[str, ...]]]:
    """What a backtest says; with an unknown condition that fires or notes something, its rule counts as well."""
    rules = run.book.kinds[run.past.kind].rules
    here = run.past.warehouse
    names = [*run.found.unsure]
    table = here.arrow(run.judged.table.select("seq", "row", "event_id", "variant", *names).order_by("seq")).to_pylist()
    said, signals = [], []
    for each in table:
        variant = run.judged.variants[each["variant"]]
        fired = {rules[at].id for at in variant.fired}
        unsure = [run.found.watched[at] for number, name in enumerate(names) for at in _bits(each[name], number)]
        fired |= {rules[at].id for at in unsure if rules[at].mode == "live"}
        said.append(
            (each["row"], each["event_id"], variant.outcome.verdict, variant.outcome.score, tuple(sorted(fired)))
        )
        signals.append(variant.outcome.signals)
    return said, signals


def _bits(value: int, number: int) -> list[int]:
    return [number * 60 + bit for bit in range(60) if value >> bit & 1]


NOTICED = {"thin_identity", "mixed_currencies", "feature_capped"}


def agree(book: Rulebook, data: Path, mapping: Path, using: Models = NO_MODELS, opening: Opening = on_duckdb) -> Run:
    wanted, signals = scored(book, data, mapping, using)
    with judged_run(book, data, mapping, opening) as run:
        found, given = said_of(run)
        for want, got in zip(wanted, found, strict=True):
            assert want == got
        for want_signals, got_signals in zip(signals, given, strict=True):
            assert set(want_signals) - NOTICED == set(got_signals) - NOTICED
        assert Counter(each[2] for each in wanted) == Counter(
            {each.verdict: each.tally.events for each in run.figures.verdicts if each.tally.events}
        )
        return run


@pytest.fixture(scope="module")
def shipped() -> Rulebook:
    return load(ROOT / "rules", ROOT / "policies")


@pytest.mark.parametrize("seed", [1, 2])
def test_a_backtest_of_the_shipped_rules_says_what_score_says(tmp_path: Path, shipped: Rulebook, seed: int) -> None:
    run = agree(shipped, *written(tmp_path, seed, 700))
    fired = {each.id for each in run.figures.rules if each.tally.events}
    assert len(fired) > 12, fired


# ---------------------------------------------------------------- rules that ask for everything

TIGHT_RULES = """\
pack: tight/all
about: Each way to find something.
for: transaction
owner: tests
let:
  spent: sum(amount in CNY last 2d by buyer.account)
  usual: >-
    default(sum(amount in CNY last 7d by buyer.account) / count(last 7d by buyer.account),
    avg(amount in CNY last 9d by card.ref))
patterns:
  twice:
    sequence: [{event: transaction, where: channel == "app"}, {event: transaction, where: amount in CNY > 50 CNY}]
    by: card.ref
    within: 1d
rules:
"""
RULES = {
    "count": "count(last 1h by card.ref) >= 2",
    "spent": "spent > 2000 CNY and spent <= 90000 CNY",
    "mean": "amount in CNY > 2 * avg(amount in CNY last 7d by buyer.account)",
    "spread": "stddev(amount last 7d by ip) > 100 CNY",
    "people": "distinct(buyer.account last 1d by device.id, including this) >= 3",
    "share": 'share(channel == "app" last 1d by device.id) > 60%',
    "largest": "max(amount last 1d by buyer.account) > 600 CNY",
    "since": "at - first seen(last 7d by card.ref) > 1d",
    "disputed": 'count(outcome last 30d by card.ref where outcome.result == "chargeback") >= 2',
    "middle": "amount in CNY > quantile(amount in CNY, 0.9 last 7d by merchant.id)",
    "followed": "twice and not buyer.guest",
    "listed": "ip in list watched-networks or buyer.email_domain in list watched-domains",
    "young": "at - buyer.signup_at < 30d and amount in CNY > 1000 CNY",
    "night": 'hour(at) < 6 or weekday(at, "Europe/Berlin") == 7',
    "goods": '"gift_card" in items.category or size(items.category) > 1',
    "said": 'session.source contains "138" or lower(session.source) == "search"',
    "odd": "amount in USD > 500 USD",
    "nested": "amount in CNY / usual / (spent / usual) > 1 or amount / (amount / (amount / 2)) > 40 CNY",
}
UNKNOWN = {
    "count": "if_unknown: unclear",
    "share": "if_unknown: fire",
    "said": "mode: shadow",
    "night": "hard: true",
}


def tight_rules(rules: Mapping[str, str]) -> str:
    return TIGHT_RULES + "".join(
        f"  - id: tight.{name}\n    when: {json.dumps(when, ensure_ascii=False)}\n    signal: {name}_seen\n"
        f'    severity: low\n    because: {{en: "{name}", zh: "{name}"}}\n'
        f"    basis: {{kind: house-policy, review_by: 2027-05-31}}\n"
        + "".join(f"    {line}\n" for line in [UNKNOWN.get(name, "points: 12")])
        + ("" if "points" in UNKNOWN.get(name, "points") else "    points: 12\n")
        for name, when in rules.items()
    )


TIGHT = {
    "rules/tight.yaml": tight_rules(RULES),
    "policies/tight.yaml": """\
policy: tight
for: [transaction]
verdicts: [approve, challenge, review, decline]
tiers:
  standard: {challenge: 12, review: 36, decline: 55}
  watched: {challenge: 10, review: 24, decline: 40}
  trusted: {challenge: 20, review: 60, decline: 80}
default_tier: standard
rules:
  - {id: no-key, when: [thin_identity], at_least: challenge}
  - {id: several, when: [mixed_currencies], at_least: challenge}
degraded:
  list_unavailable: {at_least: challenge, if: amount < 100 CNY, then: approve}
challenge: {by: [3ds], expires: 15m, passed: rescore, failed: decline, abandoned: review}
review: {queue: desk, due: 30m, if_late: decline, capacity: 2/h, overflow: challenge}
breaker: {per: rule, share_of_declines: 20%, over: 15m, at_least_events: 3, then: review}
""",
    "policies/rates.yaml": (
        "rates: CNY\nabout: Rates.\ndays:\n"
        "  2026-10-01: {USD: 7.1234567}\n  2026-10-05: {EUR: 8.05}\n  2026-11-01: {USD: 7.2}\n"
    ),
    "policies/exceptions/tight.yaml": """\
exceptions:
  - {id: shop-one, signal: goods_seen, subject: {merchant.id: m1}, owner: a, reason: ours, from: 2026-10-10,
     expires: 2026-12-15, approved_by: b}
  - {id: third, rule: tight.people, subject: {buyer.account: u3}, owner: a, reason: ours, from: 2026-10-10,
     expires: 2026-12-15, approved_by: b}
""",
    "rules/lists/watched-networks.yaml": (
        "list: watched-networks\nabout: Networks.\nmatch: cidr\nentries: [198.51.100.2/31]\n"
    ),
    "rules/lists/watched-domains.yaml": ("list: watched-domains\nabout: Domains.\nmatch: exact\nfile: gone.txt\n"),
}


def test_figures_tell_refunded_orders_and_the_tiers_of_merchants(tmp_path: Path) -> None:
    """One rule gives 30 points to orders of 100 CNY and more: a challenge for watched merchants, nothing for others."""
    rules = books.RULES.replace("for: payment", "for: transaction").replace("points: 40", "points: 30")
    policy = books.POLICY.replace("for: [payment]", "for: [transaction]")
    files = {
        **books.SMALL,
        "rules/small.yaml": rules.replace("amount == 41 CNY", "amount >= 100 CNY").replace("85 CNY", "8500 CNY"),
        "policies/till.yaml": policy,
    }
    (tmp_path / "orders.csv").write_text(
        "id,at,amount,charged_back,tier,refunded\n"
        "o1,2026-11-01T10:00:00Z,1.00,false,,true\n"
        "o2,2026-11-02T10:00:00Z,100.00,false,watched,true\n"
        "o3,2026-11-03T10:00:00Z,200.00,true,watched,true\n"
        "o4,2026-11-04T10:00:00Z,300.00,false,standard,\n"
        "o5,2026-11-05T10:00:00Z,400.00,false,watched,false\n",
        "utf-8",
    )
    (tmp_path / "orders.map.yaml").write_text(REFUNDS, "utf-8")
    with judged_run(books.book(tmp_path, files), tmp_path / "orders.csv", tmp_path / "orders.map.yaml") as run:
        figures, shown = run.figures, "\n".join(printed(run))

    asked = Tally(events=3, bad=1, worth=70_000, bad_worth=20_000, refunded=1, refunded_worth=10_000)
    passed = Tally(events=2, bad=0, worth=30_100, bad_worth=0, refunded=1, refunded_worth=100)
    assert (figures.stopped, figures.questioned, figures.passed) == (Tally(), asked, passed)
    tiers = {part.value: (part.all, part.questioned) for part in figures.parts["merchant's tier"]}
    assert tiers == {"watched": (asked, asked), "standard": (passed, Tally())}
    assert re.search(r"^of good orders, refunded and questioned +1 +50\.00% +100 CNY$", shown, re.MULTILINE), shown


@pytest.mark.parametrize("says", [False, True], ids=["nothing", "refunds"])
def test_where_nothing_says_what_was_fraud_no_rule_finds_none(payments: Path, tmp_path: Path, says: bool) -> None:
    mapping = (ROOT / "docs/examples/handbook.map.yaml").read_text("utf-8").partition("outcome:")[0]
    (tmp_path / "bare.map.yaml").write_text(mapping + ("refunded: fraud == 1\n" if says else ""), "utf-8")
    found = arbiter("backtest", "--data", payments, "--map", tmp_path / "bare.map.yaml", *FOLDERS)
    assert found.exit_code == 0, found.output
    assert re.search(r"^handbook\.large-amount +live +\d+ +– +– +– +– +\d+ ", found.output, re.MULTILINE), found.output
    assert ("refunded and passed" in found.output, "fraud stopped" in found.output) == (says, False)


REFUNDS = """\
map: refunds
kind: transaction
columns: {charged_back: bool, refunded: bool}
fields: {event_id: id, at: at, amount: {column: amount, currency: CNY}}
outcome: {when: charged_back, result: chargeback, delay: 2d}
refunded: refunded
tier: tier
"""


NEGATED = {
    "items": 'not ("gift_card" in items.category)',
    "list": "ip not in list watched-networks",
    "middle": "not (amount in CNY > quantile(amount in CNY, 0.5 last 7d by merchant.id))",
    "streak": 'not (streak(channel == "app" last 7d by device.id) > 1)',
    "guest": "(not buyer.guest) is missing",
    "land": 'default(card.country != "CN", channel == "web") and default(not buyer.guest, buyer.guest)',
    "money": "default(20 CNY, amount) < amount or default(amount in CNY, amount) == amount",
    "text": "default(" * 14 + "card.country" + ", ip_country)" * 14 + ' == "RO"',
    "count": "not (spent > 900 CNY)",
    "absent": '(merchant.category != "toys") is missing and (buyer.age_band == "adult") is missing',
}
"""What negates, or asks about a negation: SQL binds NOT less than it looks. What is deep, of several currencies, or of
fields that no row has."""


@pytest.mark.parametrize("name", NEGATED)
def test_a_rule_alone_that_negates_is_as_score_has_it(tmp_path: Path, name: str) -> None:
    """Beside others it may be asked about for their sake."""
    files = {**TIGHT, "rules/tight.yaml": tight_rules({name: NEGATED[name]})}
    files.pop("policies/exceptions/tight.yaml")  # they are about rules that are not there
    run = agree(books.book(tmp_path, files, strict=False), *written(tmp_path, 11, 150))
    assert run.figures.rules[0].tally.events


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Rulebook:
    return books.book(tmp_path_factory.mktemp("tight"), TIGHT, strict=False)


@pytest.mark.parametrize("seed", [3, 4])
def test_every_kind_of_rule_window_and_state_is_as_score_has_it(tmp_path: Path, tight: Rulebook, seed: int) -> None:
    """Patterns, roots, quantiles and lists go through the engine; queues fill up and breakers trip."""
    run = agree(tight, *written(tmp_path, seed, 800))
    reasons = {question.reason for question in run.found.questions}
    assert {"a pattern over several events", "a quantile of a window"} <= reasons
    assert 0 < run.found.asked <= run.past.events
    assert {each.id for each in run.figures.rules if not each.tally.events} <= {"tight.odd"}
    steps = {step.by for variant in run.judged.variants for step in variant.outcome.steps}
    assert {"overflow", "tripped", "degraded", "at_least"} <= steps


def test_a_window_of_which_a_key_holds_too_much_is_asked_of_the_engine(
    tmp_path: Path, tight: Rulebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "CAP", 40)
    with judged_run(tight, *written(tmp_path, 6, 200)) as run:
        reasons = {window.by: reason for window, reason in run.found.refused.items() if "more than" in reason}
    assert ("merchant.id",) not in reasons  # a quantile is refused anyway, for what it is
    assert reasons.keys() & {("ip",), ("device.id",), ("buyer.account",), ("card.ref",)} == set()
    monkeypatch.setattr(findings, "CAP", 5)
    run = agree(tight, *written(tmp_path, 6, 200))
    assert {window.by for window, reason in run.found.refused.items() if "more than" in reason} >= {("card.ref",)}


ODD = """\
  - id: small.odd
    when: anomaly >= 90 and tries >= 1
    signal: odd
    severity: low
    points: 15
    because: {en: odd, zh: 异常}
    basis: {kind: house-policy, review_by: 2027-05-31}
"""


def test_what_the_anomaly_model_says_is_as_score_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy gives it points from the 99th percentile on, and a rule asks for it from the 90th on."""
    pin = models.trained(books.book(tmp_path, models.files()), tmp_path / "models")
    files = models.files(pin)
    book = books.book(tmp_path, {**files, "rules/small.yaml": files["rules/small.yaml"] + ODD})
    rng = random.Random(8)
    lines = ["id,at,amount,card,charged_back,tier,refunded"]
    for number in range(600):
        at, amount = f"2026-11-01T{number // 60:02d}:{number % 60:02d}:00Z", rng.lognormvariate(3.0, 1.1)
        lines.append(f"p{number},{at},{amount:.2f},c{rng.randrange(60)},{rng.random() < 0.05},,")
    (tmp_path / "payments.csv").write_text("\n".join(lines) + "\n", "utf-8")
    fields = "card.ref: card, payment.stage: {value: attempt}"
    (tmp_path / "payments.map.yaml").write_text(
        REFUNDS.replace("kind: transaction", "kind: payment").replace("event_id: id,", f"event_id: id, {fields},"),
        "utf-8",
    )

    monkeypatch.setenv("ARBITER_MODEL_DIR", str(tmp_path / "models"))
    using = read_models(tmp_path / "models", book.detectors, strict=True)
    run = agree(book, tmp_path / "payments.csv", tmp_path / "payments.map.yaml", using)
    steps = Counter(step.by for variant in run.judged.variants for step in variant.outcome.steps)
    fired = {each.id: each.tally.events for each in run.figures.rules}
    assert steps["anomaly"] > 3
    assert 5 < fired["small.odd"] < 400, "it tells events apart"


def test_the_bench_finds_what_is_found_by_hand(tmp_path: Path) -> None:
    """200 rules over made events; what it costs to do so is measured by `python -m bench.backtest`."""
    with on_duckdb() as here:
        book = bench.rulebook(tmp_path)
        past = bench.history(here, book, 2_000)
        _, found = bench.ours(past, book)
        _, _, wanted = bench.theirs(here, past.timeline)
    assert found == wanted
    assert sum(events for events, _ in found) > 1_000


@pytest.mark.data(PAYMENTS)
def test_a_backtest_of_the_handbook_says_what_score_says(tmp_path: Path) -> None:
    """Of 150 customers, over half a year: outcomes are counted by terminal."""
    table = pq.read_table(SHARED / PAYMENTS, filters=[("CUSTOMER_ID", "<", 150)])
    pq.write_table(table, tmp_path / "part.parquet")
    book = load(HANDBOOK / "rules", HANDBOOK / "policies")
    run = agree(book, tmp_path / "part.parquet", ROOT / "docs/examples/handbook.map.yaml")
    assert not run.found.questions
    assert run.figures.all.bad > 300


# ---------------------------------------------------------------- figures


def test_the_figures_are_those_of_counting_by_hand(tmp_path: Path, tight: Rulebook) -> None:
    data, mapping = written(tmp_path, 5, 500)
    said, _ = scored(tight, data, mapping)
    with data.open(encoding="utf-8") as source:
        frauds = {number for number, row in enumerate(csv.DictReader(source), 1) if row["fraud"] == "true"}
    with judged_run(tight, data, mapping) as run:
        figures = run.figures
    assert figures.all.events == len(said)
    assert figures.all.bad == sum(row in frauds for row, *_ in said)
    for each in figures.verdicts:
        of_verdict = [row for row, _, verdict, *_ in said if verdict == each.verdict]
        assert (each.tally.events, each.tally.bad) == (len(of_verdict), len(frauds & set(of_verdict)))
    for rule in figures.rules:
        if rule.mode == "live" and rule.id not in ("tight.share", "tight.count"):
            fired = [row for row, _, _, _, rules in said if rule.id in rules]
            assert (rule.tally.events, rule.tally.bad) == (len(fired), len(frauds & set(fired))), rule.id
    for threshold in figures.curve:
        reached = [row for row, _, _, score, _ in said if score >= threshold.score]
        assert (threshold.tally.events, threshold.tally.bad) == (len(reached), len(frauds & set(reached)))
    for parts in figures.parts.values():
        assert sum(part.all.events for part in parts) == len(said)
        assert sum(part.stopped.bad for part in parts) == figures.stopped.bad
    assert figures.stopped.plus(figures.questioned).plus(figures.passed) == figures.all
    assert set(figures.parts) == {"card.country", "ip_country", "shipping.country", "merchant's tier", "amount"}


@pytest.mark.parametrize(
    ("hits", "of", "interval"),
    [
        (0, 10, (0.0, 0.0, 0.2775)),
        (10, 10, (1.0, 0.7225, 1.0)),
        (81, 263, (0.3080, 0.2553, 0.3662)),
        (15, 148, (0.1014, 0.0624, 0.1605)),
    ],
)
def test_intervals_are_those_of_newcombes_table(hits: int, of: int, interval: tuple[float, ...]) -> None:
    """Newcombe, "Two-sided confidence intervals for the single proportion" (1998), method 3, has the last two."""
    assert wilson(hits, of) == pytest.approx(interval, abs=5e-5)
    assert wilson(0, 0) is None


# ---------------------------------------------------------------- the command


def arbiter(*args: Any, **env: str) -> Result:
    return CliRunner().invoke(main, list(map(str, args)), env=env)


FOLDERS = ("--rules", HANDBOOK / "rules", "--policies", HANDBOOK / "policies")
TERMINALS = "TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_FRAUD\n"


@pytest.fixture
def payments(tmp_path: Path) -> Path:
    """Fourteen days of payments at two terminals: one is compromised after the second day."""
    lines = []
    for number in range(280):
        day, hour = divmod(number, 20)
        fraud = int(number % 2 and day > 1)
        amount = 250 if number == 77 else 20 + number % 3
        lines.append(f"{number},2018-04-{day + 1:02d} {hour:02d}:00:00,c{number % 7},t{number % 2},{amount},{fraud}\n")
    (tmp_path / "payments.csv").write_text(TERMINALS + "".join(lines), "utf-8")
    return tmp_path / "payments.csv"


def test_the_command_prints_figures_and_writes_a_report(tmp_path: Path, payments: Path) -> None:
    out = tmp_path / "june"
    mapping = ROOT / "docs/examples/handbook.map.yaml"
    found = arbiter("backtest", "--data", payments, "--map", mapping, "--by", "extra.terminal", "--out", out, *FOLDERS)
    assert found.exit_code == 0, found.output
    assert "handbook: 280 transactions, 2018-04-01 to 2018-04-15" in found.output
    assert "fraud stopped: money saved" in found.output
    assert {each.name for each in out.iterdir()} == {
        *("report.html", "verdicts.parquet", "rules.parquet", "thresholds.parquet", "parts.parquet")
    }
    verdicts = pq.read_table(out / "verdicts.parquet").to_pylist()
    assert [each["row"] for each in verdicts] == list(range(1, 281))
    assert next(each for each in verdicts if each["row"] == 78)["rules"][0] == "handbook.large-amount"
    rules = {each["rule"]: each for each in pq.read_table(out / "rules.parquet").to_pylist()}
    assert (rules["handbook.large-amount"]["events"], rules["handbook.large-amount"]["fraud"]) == (1, 1)
    html = (out / "report.html").read_text("utf-8")
    assert "By extra.terminal" in html
    assert "<svg" in html
    assert not [word for word in ("<script", "http:", "https:", "@import", "url(") if word in html]
    again = arbiter("backtest", "--data", payments, "--map", mapping, "--out", out, *FOLDERS)
    assert (again.exit_code, "is not empty" in again.output) == (1, True)


def test_a_longer_label_delay_shows_windows_less(payments: Path) -> None:
    mapping = ROOT / "docs/examples/handbook.map.yaml"
    book = load(HANDBOOK / "rules", HANDBOOK / "policies")
    caught = []
    for delay in ("1d", "7d", "30d"):
        with judged_run(book, payments, mapping, delay=delay) as run:
            (rule,) = [each for each in run.figures.rules if each.id == "handbook.compromised-terminal"]
            caught.append(rule.tally.events)
    assert caught[0] > caught[1] > caught[2] == 0


def test_a_rulebook_of_a_revision_is_that_of_then(tmp_path: Path, payments: Path) -> None:
    home = tmp_path / "checkout"
    books.write(home, {f"{name}/{path.name}": path.read_text("utf-8") for name in ("rules", "policies")
                       for path in (HANDBOOK / name).iterdir()})  # fmt: skip
    git = ("git", "-C", str(home), "-c", "user.name=tests", "-c", "user.email=tests@example.invalid")
    for args in (("init", "-q"), ("add", "."), ("commit", "-qm", "then")):
        subprocess.run([*git, *args], check=True)
    now = home / "rules/handbook.yaml"
    now.write_text(now.read_text("utf-8").replace("amount > 220 EUR", "amount > 10 EUR"), "utf-8")
    mapping = ROOT / "docs/examples/handbook.map.yaml"
    folders = ("--rules", home / "rules", "--policies", home / "policies")
    asked = ("backtest", "--data", payments, "--map", mapping, *folders)
    today, then = arbiter(*asked), arbiter(*asked, "--rulebook", "HEAD")
    assert (today.exit_code, then.exit_code) == (0, 0), today.output + then.output
    fired = [
        next(line.split()[2] for line in each.output.splitlines() if line.startswith("handbook.large-amount"))
        for each in (today, then)
    ]
    assert fired == ["280", "1"]
    assert "has no revision 'gone'" in arbiter(*asked, "--rulebook", "gone").output
    assert "is no revision" in arbiter(*asked, "--rulebook=--all").output
    bare = arbiter("backtest", "--data", payments, "--map", mapping, "--rulebook", "HEAD", "--rules", tmp_path / "r",
                   "--policies", tmp_path / "p")  # fmt: skip
    assert bare.exit_code == 2  # no such folders


WRONG = [
    (("--label-delay", "soon"), "write a duration such as 30s"),
    (("--by", "card.land"), "has no such field"),
    (("--by", "buyer.email"), "it holds personal data"),
]


@pytest.mark.parametrize(("args", "says"), WRONG)
def test_what_a_backtest_cannot_do_is_said(payments: Path, args: tuple[str, ...], says: str) -> None:
    mapping = ROOT / "docs/examples/handbook.map.yaml"
    found = arbiter("backtest", "--data", payments, "--map", mapping, *args, *FOLDERS)
    assert found.exit_code == 1
    assert says in found.output


def test_a_table_without_events_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text(TERMINALS + "1,never,c,t,1,0\n", "utf-8")
    mapping = ROOT / "docs/examples/handbook.map.yaml"
    found = arbiter("backtest", "--data", tmp_path / "empty.csv", "--map", mapping, *FOLDERS)
    assert (found.exit_code, "no event among them" in found.output) == (1, True)


def history_of(data: Path, mapping: Path, book: Rulebook) -> History:
    table = read_map(mapping, book.schema)
    with data.open("rb") as source:
        return History(table, read_rows(source, data.name, "csv", table.columns, table.check), book)


def test_a_history_is_walked_the_same_way_twice(tmp_path: Path, shipped: Rulebook) -> None:
    """The engine is asked in a second walk; what the first refused, it leaves out and does not tell again."""
    history = history_of(*written(tmp_path, 9, 300), shipped)
    refused: list[Bad] = []
    again: list[Bad] = []
    happened = list(history.walk(refused.append))
    assert list(history.walk(again.append)) == happened
    assert not again
    codes = {problem.code for _, problems in refused for problem in problems}
    assert {"wrong_type", "used_twice", "not_a_choice"} <= codes
    assert len(refused) + sum(each.about is None for each in happened) == 300
    gone = {row for row, _ in refused}
    assert not gone & {each.row for each in happened}


def test_the_events_of_some_rows_are_those_of_the_whole_walk(payments: Path) -> None:
    book = load(HANDBOOK / "rules", HANDBOOK / "policies")
    history = history_of(payments, ROOT / "docs/examples/handbook.map.yaml", book)
    everything = list(history.walk(lambda _: None))
    assert sum(each.about is not None for each in everything) == 120
    rows = {3, 4, 78, 280}
    wanted = [each for each in everything if each.row in rows and each.about is None]
    assert list(history.walk(lambda _: None, rows=rows)) == wanted


def test_the_command_of_the_page_runs(tmp_path: Path, payments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs/backtest.md").read_text("utf-8")
    told = page.split("    arbiter backtest ")[1].split("\n\n")[0].replace("\\\n", " ")
    words = (
        told.replace("transactions.parquet", str(payments))
        .replace("--out march", f"--out {tmp_path / 'march'}")
        .split()
    )
    found = arbiter("backtest", *words)
    assert found.exit_code == 0, found.output
    files = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `") and "." in line.split("`")[1]}
    assert {each.name for each in (tmp_path / "march").iterdir()} == files
