"""Card payments of the Fraud Detection Handbook through the real engine: what was judged, and by which rules.

The packs are copied into a folder of their own, where a model is trained and pinned; nothing of the data stays.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cli.replay import Replay, Tally
from cli.tables import Bad, read_rows
from engine.anomaly import Period, name_of
from engine.decide import Decision
from engine.detectors import NO_MODELS, Models, Row, read_models
from engine.mapping import Table, read_map
from engine.rulebook import Rulebook, load
from engine.schema import Event
from engine.training import Rows, train

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared/data"
DATA = SHARED / "handbook/transactions.parquet"
PACKS = ROOT / "docs/examples/handbook-scorecard"
MAP = ROOT / "docs/examples/handbook.map.yaml"

TRAINED = np.datetime64("2018-05-01"), np.datetime64("2018-08-01")
"""The first day that points and model are fitted to, and the first that they are not: no test day is among them."""
FIRST = np.datetime64("2018-04-01")
STEP = 100_000
"""Rows between two lines about progress."""


@dataclass(frozen=True)
class Payments:
    """The columns of some days, in the order of time."""

    table: Any
    days: Any
    customers: Any
    amounts: Any
    fraud: Any


@dataclass(frozen=True)
class Judged:
    """What the engine made of each payment: score, percentile of the model (NaN without one), and a column a rule.

    `busy` is the processor's time for all of it, in seconds; `tally.seconds` that of the clock.
    """

    asked: Any
    scores: Any
    anomaly: Any
    fired: Any
    tally: Tally
    busy: float


@dataclass(frozen=True)
class Bench:
    """Packs with their model, ready to judge."""

    rulebook: Rulebook
    table: Table
    models: Models = NO_MODELS


def payments(since: Any, until: Any, data: Path = DATA) -> Payments:
    """The payments of the days from `since` up to, not including, `until`."""
    table = pq.read_table(data)
    days = table["TX_DATETIME"].to_numpy().astype("datetime64[D]")
    table = table.filter(pa.array((days >= since) & (days < until)))
    return Payments(
        table,
        table["TX_DATETIME"].to_numpy().astype("datetime64[D]"),
        table["CUSTOMER_ID"].to_numpy(),
        table["TX_AMOUNT"].to_numpy(),
        table["TX_FRAUD"].to_numpy() == 1,
    )


@contextmanager
def trained(packs: Path = PACKS, seed: int = 1) -> Any:
    """The packs with a model that was trained on the training period, pinned, in a folder that goes again."""
    with TemporaryDirectory() as folder:
        work = Path(folder)
        copytree(packs, work / "packs")
        name = _model(_ready(work / "packs", MAP), work / "models", seed)
        file = work / "packs/policies/anomaly.yaml"
        file.write_text(f"{file.read_text('utf-8')}model: {name}\n", "utf-8")
        yield work


def bench(work: Path, *, delay: int = 7, swap: Callable[[str], str] = str) -> Bench:
    """What `trained` made, where fraud is known after `delay` days; `swap` makes another text of the rules."""
    rules = work / "packs/rules/scorecard.yaml"
    before = rules.read_text("utf-8")
    mapping = work / "handbook.map.yaml"
    mapping.write_text(MAP.read_text("utf-8").replace("delay: 7d", f"delay: {delay}d"), "utf-8")
    try:
        rules.write_text(swap(before), "utf-8")
        ready = _ready(work / "packs", mapping)
    finally:
        rules.write_text(before, "utf-8")
    return Bench(ready.rulebook, ready.table, read_models(work / "models", ready.rulebook.detectors, strict=True))


def judged(bench: Bench, given: Payments, asked: Any, what: str) -> Judged:
    """Replay all payments; those that are not `asked` about only feed the windows."""
    size = len(given.days)
    rules = {rule.id: place for place, rule in enumerate(bench.rulebook.rules)}
    scores, anomaly = np.zeros(size, int), np.full(size, np.nan)
    fired = np.zeros((size, len(rules)), bool)

    def told(row: int, _: Event, decision: Decision) -> None:
        scores[row - 1] = decision.outcome.score
        if decision.look:
            anomaly[row - 1] = decision.look.odd.rank
        for finding in decision.findings:
            if finding.rule in rules:
                fired[row - 1, rules[finding.rule]] = True

    replay = _replay(bench, given)
    began = process_time()
    tally = replay.run(told, _refused, wants=lambda row, _: bool(asked[row - 1]), step=_progress(size, what))
    return Judged(asked, scores, anomaly, fired, tally, process_time() - began)


def _ready(packs: Path, mapping: Path) -> Bench:
    rulebook = load(packs / "rules", packs / "policies")
    return Bench(rulebook, read_map(mapping, rulebook.schema))


def _model(ready: Bench, into: Path, seed: int) -> str:
    """Train on the training period; the name of the model."""
    given = payments(FIRST, TRAINED[1])
    (detector,) = ready.rulebook.detectors
    used = given.days >= TRAINED[0]
    rows: list[Row] = []
    _replay(ready, given).measure(
        lambda _, __, row: rows.append(row),
        lambda *_: None,
        _refused,
        wants=lambda row, _: bool(used[row - 1]),
        step=_progress(len(used), "training the model"),
    )
    values = np.array([row.values for row in rows], float)
    period = Period(sha256="0" * 64, rows=len(rows), first=str(TRAINED[0]), last=str(TRAINED[1]))
    return name_of(train(Rows(values, [None] * len(rows), None), detector, period, into, seed=seed).body())


def _replay(ready: Bench, given: Payments) -> Replay:
    """As `arbiter score` reads a Parquet file."""
    file = pa.BufferOutputStream()
    pq.write_table(given.table, file)
    table = ready.table
    rows = read_rows(pa.BufferReader(file.getvalue()), DATA.name, "parquet", table.columns, table.check)
    return Replay(ready.rulebook, table, rows, ready.models)


def _progress(size: int, what: str) -> Callable[[int], None]:
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        if done % STEP == 0 or done == size:
            print(f"  {what}: {done:,} of {size:,}", file=sys.stderr, flush=True)

    return step


def _refused(bad: Bad) -> None:
    raise AssertionError(bad)
