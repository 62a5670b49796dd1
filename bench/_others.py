"""Two public sets beside the handbook, through the engine: ULB card data, and the e-commerce orders of Fraud_Data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench._judged import ROOT, SHARED
from cli.replay import Replay
from cli.tables import format_of, read_rows
from engine.anomaly import Period, name_of, read_model
from engine.decide import Decision
from engine.detectors import Detector, Row
from engine.mapping import read_map
from engine.rulebook import load
from engine.schema import Event
from engine.training import Rows, train

ULB = "ulb/creditcard_truncated.parquet"
FRAUD_DATA = "ecommerce/fraud_data.csv"
SEEDS = 5
TRAIN_SHARE = 0.7
_V = range(28)
_UNTIL = 1_438_819_200_000_000
"""2015-08-06, in UTC: orders before it are trained on."""

_POLICY = """\
policy: bench
for: [transaction]
verdicts: [approve, decline]
tiers: {standard: {decline: 50}}
default_tier: standard
"""
_RULES = """\
pack: bench
about: An order right after sign-up.
for: transaction
owner: bench
rules:
  - id: bench.at-once
    when: at - buyer.signup_at <= 60s
    signal: at_once
    points: 50
    because: {en: An order within a minute of sign-up, zh: 注册后一分钟内下单}
    basis: {kind: house-policy, review_by: 2027-05-31}
    tests:
      - it: fires after a minute
        event: {at: "2026-11-20T10:01:00+08:00", buyer.signup_at: "2026-11-20T10:00:00+08:00"}
        expect: fires
      - it: stays quiet after two
        event: {at: "2026-11-20T10:02:00+08:00", buyer.signup_at: "2026-11-20T10:00:00+08:00"}
        expect: quiet
"""
_ORDERS = """\
anomaly: orders
about: Orders of Fraud_Data like no others.
for: transaction
owner: bench
features:
  amount: {value: amount, unit: USD, scale: log, label: {en: amount, zh: 金额}}
  of_device: {value: count(last 30d by device.id), label: {en: orders of the device, zh: 设备订单数}}
  hour: {value: hour(at), label: {en: hour, zh: 小时}}
  of_address: {value: count(last 30d by ip), label: {en: orders of the address, zh: 地址订单数}}
"""


def ulb() -> Iterator[tuple[Any, Any]]:
    """(fraud, score of the model alone) of the test part of five random stratified splits, 70 to 30."""
    with TemporaryDirectory() as folder:
        work = Path(folder)
        _packs(work, _ulb_features())
        (work / "policies/schema.yaml").write_text(_ulb_fields(), "utf-8")
        (work / "ulb.map.yaml").write_text(_ulb_map(), "utf-8")
        found = _measured(work, work / "ulb.map.yaml", SHARED / ULB)
        for seed in range(1, SEEDS + 1):
            used = stratified(found.fraud, TRAIN_SHARE, seed)
            yield found.fraud[~used], found.scores(used, work / "models", seed)[~used]


def fraud_data() -> Iterator[tuple[str, Any, Any]]:
    """(what, fraud, score) of Fraud_Data before and after its split: the model alone, and the rule of one minute."""
    with TemporaryDirectory() as folder:
        work = Path(folder)
        _packs(work, _ORDERS)
        found = _measured(work, ROOT / "docs/examples/fraud-data.map.yaml", SHARED / FRAUD_DATA)
        before = found.times < _UNTIL
        scores = found.scores(before, work / "models", 1)
        for name, rows in (("to 2015-08-05", before), ("from 2015-08-06", ~before)):
            yield f"{name}: model alone", found.fraud[rows], scores[rows]
            yield f"{name}: within 60 s of sign-up", found.fraud[rows], found.points[rows]


def stratified(fraud: Any, share: float, seed: int) -> Any:
    """Which rows to train on: `share` of the frauds and of the rest, at random."""
    random = np.random.default_rng(seed)
    used = np.zeros(len(fraud), bool)
    for rows in (np.flatnonzero(fraud), np.flatnonzero(~fraud)):
        used[random.permutation(rows)[: round(share * len(rows))]] = True
    return used


class _Found:
    """The rows of a table as a model sees them, the points of the rule, and what became of them."""

    def __init__(self, detector: Detector, rows: list[Row], points: list[int], times: list[int], fraud: list[bool]):
        self.detector = detector
        self.values = np.array([row.values for row in rows], float)
        self.points = np.array(points)
        self.times = np.array(times)
        self.fraud = np.array(fraud)

    def scores(self, used: Any, folder: Path, seed: int) -> Any:
        """The score of every row by a model trained on the rows `used`."""
        rows = Rows(self.values[used], [None] * int(used.sum()), None)
        period = Period(sha256="0" * 64, rows=int(used.sum()), first="", last="")
        card = train(rows, self.detector, period, folder, seed=seed)
        model = read_model(folder, name_of(card.body()))
        looks = model.look_all(list(map(tuple, self.values.tolist())), [None] * len(self.values))
        return np.array([odd.score for odd in looks])


def _measured(work: Path, mapping: Path, data: Path) -> _Found:
    """All rows through the engine twice: for the model, and for the rule."""
    rulebook = load(work / "rules", work / "policies")
    table = read_map(mapping, rulebook.schema)
    with data.open("rb") as source:
        rows = read_rows(source, data.name, format_of(data, None), table.columns, table.check)
    seen: dict[int, Row] = {}
    times: dict[int, int] = {}
    points: dict[int, int] = {}
    frauds: set[int] = set()

    def row(number: int, event: Event, found: Row) -> None:
        seen[number], times[number] = found, event.at

    def told(number: int, _: Event, decision: Decision) -> None:
        points[number] = decision.outcome.score

    # Fraud_Data has one row that was cut off.
    Replay(rulebook, table, rows).measure(row, lambda number, _: frauds.add(number), lambda _: None)
    Replay(rulebook, table, rows).run(told, lambda _: None)
    (detector,) = rulebook.detectors
    numbers = sorted(seen)
    return _Found(
        detector,
        [seen[number] for number in numbers],
        [points[number] for number in numbers],
        [times[number] for number in numbers],
        [number in frauds for number in numbers],
    )


def _packs(work: Path, detector: str) -> None:
    files = {"rules/bench.yaml": _RULES, "policies/bench.yaml": _POLICY, "policies/anomaly.yaml": detector}
    for name, text in files.items():
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_text(text, "utf-8")


def _ulb_fields() -> str:
    lines = [f"  extra.v{n}: {{type: number, doc: Component {n}, example: 1, kinds: [transaction]}}" for n in _V]
    return "\n".join(["fields:", *lines, ""])


def _ulb_features() -> str:
    head = "anomaly: cards\nabout: ULB payments like no others.\nfor: transaction\nowner: bench\nfeatures:"
    lines = [f"  v{n}: {{value: extra.v{n}, label: {{en: component {n}, zh: 分量 {n}}}}}" for n in _V]
    amount = "  amount: {value: amount, unit: EUR, scale: log, label: {en: amount, zh: 金额}}"
    return "\n".join([head, *lines, amount, ""])


def _ulb_map() -> str:
    fields = "\n".join(f"  extra.v{n}: V{n}" for n in _V)
    return f"""\
map: ulb
about: ULB card payments; they have no time, so all happen at one.
kind: transaction
zone: UTC
columns:
  price: {{column: Amount, type: number}}
  label: {{column: label, type: number}}
fields:
  event_id: {{row: "u-"}}
  at: {{value: "2013-09-01T00:00:00Z"}}
  amount: {{expression: price, currency: EUR}}
{fields}
outcome: {{when: label == 1, result: confirmed_fraud, delay: 1d}}
"""
