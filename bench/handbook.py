"""The handbook's three plain rules through the real `decide`, on its book split.

    python -m bench.handbook [--check]

Card payments of the Fraud Detection Handbook (Le Borgne et al.), test days 2018-08-08 to 2018-08-14. Frauds become
known seven days late. Cards whose fraud was known seven days before a test day are left out of that day's figure, as
the handbook does; they still feed the windows, which are fed for the 31 days before, so that the longest is full. The
figure is the recall at the false-positive rate that three yes/no rules give. Needs ../shared/data.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cli.replay import Replay
from cli.tables import Bad, Rows, read_rows
from engine.decide import Decision
from engine.mapping import Table, read_map
from engine.rulebook import load
from engine.schema import Event

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared/data/handbook/transactions.parquet"
PACKS = ROOT / "docs/examples"

FED_FROM = np.datetime64("2018-07-08")
LABELLED_FROM = np.datetime64("2018-07-25")
TEST = np.datetime64("2018-08-08"), np.datetime64("2018-08-15")
DELAY = np.timedelta64(7, "D")
SIZE = 58_264, 385
"""Payments in the test, and frauds among them."""
RECALL = 0.60, 0.64
FALSE_POSITIVES = 0.0015, 0.0025


@dataclass(frozen=True, slots=True)
class Result:
    """What the rules did with the payments in the test, and how fast.

    `seconds` is all the work from cells to verdicts; `judging` the part of it that judged `judged` events.
    """

    payments: int
    frauds: int
    caught: int
    false: int
    events: int
    judged: int
    seconds: float
    judging: float

    @property
    def recall(self) -> float:
        """Share of the frauds that were declined."""
        return self.caught / self.frauds

    @property
    def false_positives(self) -> float:
        """Share of the honest payments that were declined."""
        return self.false / (self.payments - self.frauds)


def main() -> int:
    """Print the table; with --check, 1 when the result is not the one that is known."""
    if not DATA.is_file():
        print("bench.handbook needs ../shared/data/handbook/transactions.parquet, which is not here: not measured")
        return 0
    result = measure()
    print(f"payments tested           {result.payments:>10,}   frauds {result.frauds}")
    print(f"declined                  {result.caught + result.false:>10,}   of them frauds {result.caught}")
    rate = result.events / result.seconds
    print(
        f"events fed and judged     {result.events:>10,}   {rate:,.0f}/s, {1e6 / rate:,.0f} µs each, rows to verdicts"
    )
    each = 1e6 * result.judging / result.judged
    print(f"of them judged            {result.judged:>10,}   {each:,.0f} µs each, windows and decide")
    print(f"recall {result.recall:.3f} at {result.false_positives:.2%} false positives")
    good = (
        (result.payments, result.frauds) == SIZE
        and RECALL[0] <= result.recall <= RECALL[1]
        and FALSE_POSITIVES[0] <= result.false_positives <= FALSE_POSITIVES[1]
    )
    return 0 if good or "--check" not in sys.argv[1:] else 1


def measure(data: Path = DATA) -> Result:
    """One run."""
    rulebook = load(PACKS / "handbook/rules", PACKS / "handbook/policies")
    table = read_map(PACKS / "handbook.map.yaml", rulebook.schema)
    payments = _fed(pq.read_table(data))
    days = _days(payments)
    fraud = payments["TX_FRAUD"].to_numpy() == 1
    tested = asked(days, payments["CUSTOMER_ID"].to_numpy(), fraud)
    declined = np.zeros(len(days), bool)

    def told(row: int, _: Event, decision: Decision) -> None:
        declined[row - 1] = decision.outcome.verdict == "decline"

    replay = Replay(rulebook, table, _rows(payments, table))
    tally = replay.run(told, _refused, wants=lambda row, _: bool(days[row - 1] >= TEST[0]))
    return Result(
        payments=int(tested.sum()),
        frauds=int((tested & fraud).sum()),
        caught=int((tested & fraud & declined).sum()),
        false=int((tested & ~fraud & declined).sum()),
        events=tally.events + tally.outcomes,
        judged=tally.verdicts.total(),
        seconds=tally.seconds,
        judging=tally.judging,
    )


def _days(payments: Any) -> Any:
    return payments["TX_DATETIME"].to_numpy().astype("datetime64[D]")


def _fed(payments: Any) -> Any:
    """The payments from the first that a window needs to the end of the test."""
    days = _days(payments)
    return payments.filter(pa.array((days >= FED_FROM) & (days < TEST[1])))


def _rows(payments: Any, table: Table) -> Rows:
    """As `arbiter score` reads a Parquet file."""
    file = pa.BufferOutputStream()
    pq.write_table(payments, file)
    return read_rows(pa.BufferReader(file.getvalue()), DATA.name, "parquet", table.columns, table.check)


def asked(days: Any, customers: Any, fraud: Any) -> Any:
    """Which payments the handbook tests on: those of the test days whose customer is not known to be defrauded."""
    tested = np.zeros(len(days), bool)
    for day in np.arange(*TEST):
        known = (days >= LABELLED_FROM) & (days < day - DELAY) & fraud
        tested |= (days == day) & ~np.isin(customers, customers[known])
    return tested


def _refused(bad: Bad) -> None:
    raise AssertionError(bad)


if __name__ == "__main__":
    raise SystemExit(main())
