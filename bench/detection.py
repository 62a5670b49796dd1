"""What the engine finds in public data: the scorecard of docs/examples/handbook-scorecard, and the anomaly model alone.

    python -m bench.detection [--check]

Card payments of the Fraud Detection Handbook, judged by the real engine (`cli.replay`) with a model trained in the same
run: its long split with frauds known 7 days and 1 day late, and its book split. Points and model come from May to July
2018, the tests from August on. Then two sets on which there is less to say: ULB, the model alone, and Fraud_Data, where
nothing found before August 2015 is of use after it. The splits are those of docs/detection.md, and every recall stands
beside its false-positive rate. Ten to fifteen minutes; progress goes to standard error. Needs ../shared/data.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np

from bench._judged import DATA, SHARED, Bench, Judged, Payments, bench, judged, payments, trained
from bench._others import FRAUD_DATA, ULB, fraud_data, ulb
from bench._scorecard import fit
from bench.handbook import LABELLED_FROM, TEST, asked
from engine.ranking import ranking, rate_at
from engine.rules import Rule

FED_FROM = np.datetime64("2018-06-19")
"""36 days before the book's training week, so that every window is full."""
LONG = np.datetime64("2018-08-08"), np.datetime64("2018-10-01")
SIZES = {"long": (517_457, 4_590), "book": (58_264, 385)}
"""Payments and frauds of the splits, as others have measured them."""
LARGE = 220
"""Above this every payment of the handbook is a fraud, by construction."""
LARGE_RULE = "scorecard.over-220"
TOP = 100
"""Cards that can be looked at in a day."""
MICROSECONDS = 250.0
"""Most of one core that the replay may take for an event: cells, windows, rules, model, policy."""

SOONER = (
    ("count(last 10d by extra.terminal) - count(last 7d", "count(last 4d by extra.terminal) - count(last 1d"),
    ("count(last 14d by extra.terminal) - count(last 7d", "count(last 8d by extra.terminal) - count(last 1d"),
    ("first seen(outcome last 28d", "first seen(outcome last 34d"),
    ('"confirmed_fraud") + 7d', '"confirmed_fraud") + 1d'),
    ("- sum(amount last 7d by", "- sum(amount last 1d by"),
    ("sum(amount of outcome last 23d", "sum(amount of outcome last 29d"),
    ("- count(last 7d by buyer.account)", "- count(last 1d by buyer.account)"),
    ("count(outcome last 23d by buyer.account", "count(outcome last 29d by buyer.account"),
)
"""The windows that go by the delay, where frauds are known after one day instead of seven."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table. `cards`: card precision of the best 100 a day; `stopped`: the false-positive rate at which
    95 % of the fraud is stopped."""

    name: str
    payments: int
    frauds: int
    auc: float
    precision: float
    recall_1: float
    recall_5: float
    stopped: float
    cards: float | None = None

    def __str__(self) -> str:
        cards = "" if self.cards is None else f"{self.cards:.3f}"
        return (
            f"{self.name:<52}{self.payments:>8,}{self.frauds:>7,}{self.auc:>7.3f}{self.precision:>7.3f}"
            f"{self.recall_1:>7.3f}{self.recall_5:>7.3f}{self.stopped:>8.1%}{cards:>8}"
        )


@dataclass(frozen=True, slots=True)
class Pace:
    """Microseconds for an event: of one core, and by the clock, which is more where others use the machine, too."""

    core: float
    clock: float


HEAD = f"{'':<52}{'rows':>8}{'fraud':>7}{'AUC':>7}{'AP':>7}{'R@1%':>7}{'R@5%':>7}{'FPR@95':>8}{'CP@100':>8}"

BARS = (
    ("handbook long, 7 d: score", "precision", 0.66),
    ("handbook long, 7 d: score", "recall_1", 0.75),
    ("handbook long, 1 d: score", "recall_5", 0.90),
    ("handbook book, 7 d: score", "precision", 0.50),
    ("handbook book, 7 d: score", "cards", 0.27),
)
"""The least of a figure of a line."""


def main() -> int:
    """Print the table; with --check, 1 when a figure misses its bar."""
    if not DATA.is_file():
        print("bench.detection needs ../shared/data/handbook/transactions.parquet, which is not here: not measured")
        return 0
    print(HEAD, flush=True)
    lines: list[Line] = []
    pace = Pace(0.0, 0.0)
    for found in measured():
        if isinstance(found, Line):
            lines.append(found)
            print(found, flush=True)
        else:
            pace = found
    for note in _elsewhere():
        print(note, flush=True)
    print(f"{pace.core:,.0f} µs of one core for an event, {pace.clock:,.0f} µs by the clock: cells to verdict")
    bad = missed(lines)
    if pace.core > MICROSECONDS:
        bad.append(f"{pace.core:,.0f} µs of one core for an event, bar {MICROSECONDS:,.0f}")
    for what in bad:
        print(f"below the bar: {what}")
    return 1 if bad and "--check" in sys.argv[1:] else 0


def missed(lines: Sequence[Line]) -> list[str]:
    """Which bars the table misses, in words."""
    found = []
    for name, figure, least in BARS:
        value = next(getattr(line, figure) for line in lines if line.name == name)
        if value < least:
            found.append(f"{name}: {figure} {value:.3f}, bar {least:.2f}")
    return found


def measured() -> Iterator[Line | Pace]:
    """The lines about the handbook, and how long an event of the run with 7 days took."""
    given = payments(FED_FROM, LONG[1])
    tests = {
        "long": given.days >= LONG[0],
        "book": asked(given.days, given.customers, given.fraud) & (given.days < TEST[1]),
    }
    for name, rows in tests.items():
        assert (rows.sum(), (rows & given.fraud).sum()) == SIZES[name], f"the {name} split is not the known one"
    with trained() as work:
        ready = bench(work)
        found = judged(ready, given, np.ones(len(given.days), bool), "frauds known after 7 days")
        events = found.tally.events + found.tally.outcomes
        yield Pace(1e6 * found.busy / events, 1e6 * found.tally.seconds / events)
        for name, rows in tests.items():
            yield from _lines(f"handbook {name}, 7 d", given, rows, ready, found)
        yield _own_week(given, tests["book"], ready, found)
        sooner = bench(work, delay=1, swap=known_after_a_day)
        found = judged(sooner, given, tests["long"], "frauds known after 1 day")
        yield from _lines("handbook long, 1 d", given, tests["long"], sooner, found)


def _lines(name: str, given: Payments, rows: Any, ready: Bench, found: Judged) -> Iterator[Line]:
    rules = ready.rulebook.rules
    points = [rule.finding.points for rule in rules]
    again = added(found.fired, points, rules)
    assert (again == found.scores)[found.asked].all(), "the score is the sum of the highest points of the groups"
    yield figures(f"{name}: score", given, rows, found.scores)
    left_out = added(found.fired, points, rules, without={LARGE_RULE})
    yield figures(f"{name}: without the rule amount > {LARGE}", given, rows, left_out)
    small = rows & (given.amounts <= LARGE)
    yield figures(f"{name}: only payments up to {LARGE}", given, small, found.scores)
    yield figures(f"{name}: anomaly model alone", given, rows, found.anomaly)


def _own_week(given: Payments, rows: Any, ready: Bench, found: Judged) -> Line:
    """The book's own terms: points from its training week, whose frauds are known when its test begins."""
    rules = ready.rulebook.rules
    week = (given.days >= LABELLED_FROM) & (given.days < LABELLED_FROM + np.timedelta64(7, "D"))
    points = fit(found.fired[week], given.fraud[week], [rule.finding.group for rule in rules]).points
    scores = added(found.fired, points, rules)
    return figures("handbook book, 7 d: points of its own week", given, rows, scores)


def known_after_a_day(text: str) -> str:
    """The rules with windows that fit frauds known after one day. The points stay."""
    for old, new in SOONER:
        assert text.count(old) == 1, f"the scorecard has once: {old}"
        text = text.replace(old, new)
    return text


def added(fired: Any, points: Sequence[int], rules: Sequence[Rule], without: Collection[str] = ()) -> Any:
    """The sum of the highest points of each group, as a policy adds them up; a rule without a group is its own."""
    groups: dict[str, Any] = {}
    for place, rule in enumerate(rules):
        if rule.id not in without:
            name = rule.finding.group or rule.id
            held = np.where(fired[:, place], points[place], 0)
            groups[name] = np.maximum(groups[name], held) if name in groups else held
    return sum(groups.values())


def figures(name: str, given: Payments, rows: Any, scores: Any) -> Line:
    """The line of the payments in `rows`."""
    cards = card_precision(given.days[rows], given.customers[rows], given.fraud[rows], scores[rows])
    return line_of(name, given.fraud[rows], scores[rows], cards)


def line_of(name: str, fraud: Any, scores: Any, cards: float | None = None) -> Line:
    """A line from any ranking."""
    found = ranking(fraud, scores)
    return Line(
        name,
        found.known,
        found.fraud,
        found.auc,
        found.average_precision,
        found.recall_at_1_percent,
        found.recall_at_5_percent,
        rate_at(fraud, scores, 0.95),
        cards,
    )


def card_precision(days: Any, cards: Any, fraud: Any, scores: Any, top: int = TOP) -> float:
    """Card precision: of the `top` cards with the highest score in a day, the share that was defrauded that day; mean
    of the days. A card found once is not looked at again (Le Borgne et al., "Fraud Detection Handbook", chapter 4.4).
    """
    gone: set[Any] = set()
    shares = []
    for day in np.unique(days):
        rows = np.flatnonzero((days == day) & ~np.isin(cards, list(gone)))
        names, place = np.unique(cards[rows], return_inverse=True)
        best = np.full(len(names), -np.inf)
        np.maximum.at(best, place, scores[rows])
        bad = np.zeros(len(names), bool)
        np.logical_or.at(bad, place, fraud[rows])
        chosen = np.argsort(-best, kind="stable")[:top]
        shares.append(bad[chosen].sum() / top)
        gone.update(names[chosen][bad[chosen]].tolist())
    return float(np.mean(shares))


def spread(name: str, splits: Sequence[Line]) -> Iterator[str]:
    """The mean of some splits as a line, and below it their standard deviation."""
    for what, over in ((f"{name}, mean of {len(splits)}", mean), ("  standard deviation", stdev)):
        auc, precision, recall_1, recall_5, stopped = (
            over(getattr(line, figure) for line in splits)
            for figure in ("auc", "precision", "recall_1", "recall_5", "stopped")
        )
        yield str(Line(what, splits[0].payments, splits[0].frauds, auc, precision, recall_1, recall_5, stopped))


def _elsewhere() -> Iterator[str]:
    """ULB and Fraud_Data, or that they are not here."""
    if (SHARED / ULB).is_file():
        yield from spread("ULB, random 70/30: model alone", [line_of("", *split) for split in ulb()])
    else:
        yield f"{ULB} is not here: not measured"
    if (SHARED / FRAUD_DATA).is_file():
        yield from (str(line_of(f"Fraud_Data {name}", *found)) for name, *found in fraud_data())
    else:
        yield f"{FRAUD_DATA} is not here: not measured"


if __name__ == "__main__":
    raise SystemExit(main())
