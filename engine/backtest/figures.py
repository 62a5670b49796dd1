"""The figures of a judged history: what became of fraud and of good orders, by verdict, rule, threshold and part.

An event is *stopped* by the severest verdict, *questioned* by one in between, and *passed* by the mildest. Money is in
minor units of the history's currency; events without an amount, or without a rate, count as events and bring no money.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ibis
import pyarrow as pa

from engine.backtest.judging import Judged, Variant
from engine.backtest.past import Past
from engine.money import CURRENCIES
from engine.proportions import Interval, wilson
from engine.rules import Rule

MOST_VALUES = 20
"""Values of a part that are shown; the rest is one line."""
BANDS = (0, 10, 50, 100, 500, 1_000, 5_000, 10_000, 50_000)
"""Where bands of amounts begin, in whole units of the currency."""
BAND = "amount"
TIER = "merchant's tier"
PARTNERS = 3


class Tally(NamedTuple):
    """Events, those of them that were fraud, good ones that were refunded, and their money."""

    events: int = 0
    bad: int = 0
    worth: int = 0
    bad_worth: int = 0
    refunded: int = 0
    refunded_worth: int = 0

    def plus(self, other: Tally) -> Tally:
        return Tally(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    @property
    def good(self) -> int:
        return self.events - self.bad

    @property
    def good_worth(self) -> int:
        return self.worth - self.bad_worth


@dataclass(frozen=True)
class VerdictFigures:
    """What got one verdict."""

    verdict: str
    tally: Tally


@dataclass(frozen=True)
class RuleFigures:
    """What one rule found. `alone` are events on which no other rule of the kind fired; `lift` is its precision over
    the share of fraud in all events; `partners` are the rules that most often fire with it, each with the share of its
    events on which they do."""

    id: str
    signal: str
    mode: str
    tally: Tally
    alone: Tally
    precision: Interval | None
    recall: Interval | None
    lift: float | None
    partners: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Threshold:
    """What a threshold at a score would reach: events at and above it."""

    score: int
    tally: Tally
    recall: float | None
    false_positives: float | None
    alerts: float
    precision: float | None


@dataclass(frozen=True)
class Part:
    """The events with one value of a field: all, stopped and questioned ones."""

    value: str
    all: Tally
    stopped: Tally
    questioned: Tally


@dataclass(frozen=True)
class Figures:
    """Everything about one history. `labelled` says whether it tells fraud from good orders, `refunds` whether it tells
    which were refunded."""

    labelled: bool
    refunds: bool
    all: Tally
    stopped: Tally
    questioned: Tally
    passed: Tally
    verdicts: tuple[VerdictFigures, ...]
    rules: tuple[RuleFigures, ...]
    curve: tuple[Threshold, ...]
    parts: Mapping[str, tuple[Part, ...]]
    first: int
    last: int
    currency: str


def measure(
    past: Past, judged: Judged, rules: Sequence[Rule], *, labelled: bool, refunds: bool = False, tiers: bool = False
) -> Figures:
    """The figures of a history; `rules` are those of its kind. `tiers`: it tells the tiers of merchants."""
    by_variant = _by_variant(past, judged, refunds=refunds)
    verdicts = {verdict: Tally() for verdict in judged.policy.verdicts}
    for number, tally in by_variant.items():
        verdict = judged.variants[number].outcome.verdict
        verdicts[verdict] = verdicts[verdict].plus(tally)
    everything = _sum(verdicts.values())
    mildest, severest = judged.policy.verdicts[0], judged.policy.verdicts[-1]
    between = [tally for verdict, tally in verdicts.items() if verdict not in (mildest, severest)]
    return Figures(
        labelled=labelled,
        refunds=refunds,
        all=everything,
        stopped=verdicts[severest],
        questioned=_sum(between),
        passed=verdicts[mildest],
        verdicts=tuple(VerdictFigures(verdict, tally) for verdict, tally in verdicts.items()),
        rules=_rules(rules, judged.variants, by_variant, everything, labelled=labelled),
        curve=_curve(judged.variants, by_variant, everything),
        parts=_parts(past, judged, refunds=refunds, tiers=tiers),
        first=past.timeline.first,
        last=past.last,
        currency=past.currency,
    )


def _by_variant(past: Past, judged: Judged, *, refunds: bool) -> dict[int, Tally]:
    sums = tallied(judged.table, refunds=refunds)
    rows = past.warehouse.arrow(judged.table.group_by("variant").agg(**sums)).to_pylist()
    return {row["variant"]: _tally(row) for row in rows}


def tallied(table: Any, *, refunds: bool = False) -> dict[str, Any]:
    """The columns of a tally, to be summed over rows that have `bad` and `worth`, and `refunded` for the `refunds`."""
    # Sums of a choice: FILTER is far slower.
    worth = table.worth.fill_null(0)
    found = {
        "events": table.count(),
        "fraud": ibis.ifelse(table.bad, 1, 0).sum().cast("int64"),
        "money": worth.sum().cast("int64"),
        "fraud_money": ibis.ifelse(table.bad, worth, 0).sum().cast("int64"),
    }
    if refunds:
        refunded = table.refunded & ~table.bad
        found["refunded"] = ibis.ifelse(refunded, 1, 0).sum().cast("int64")
        found["refunded_money"] = ibis.ifelse(refunded, worth, 0).sum().cast("int64")
    return found


_TALLIED = ("events", "fraud", "money", "fraud_money", "refunded", "refunded_money")


def _tally(row: Mapping[str, Any]) -> Tally:
    return Tally(*(int(row.get(name) or 0) for name in _TALLIED))


def _sum(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total = total.plus(tally)
    return total


# Rules


@dataclass
class _RuleCount:
    tally: Tally = field(default_factory=Tally)
    alone: Tally = field(default_factory=Tally)
    beside: Counter[int] = field(default_factory=Counter)


def _rules(
    rules: Sequence[Rule],
    variants: Sequence[Variant],
    by_variant: Mapping[int, Tally],
    everything: Tally,
    *,
    labelled: bool,
) -> tuple[RuleFigures, ...]:
    counts = [_RuleCount() for _ in rules]
    for number, tally in by_variant.items():
        fired = variants[number].fired
        for index in fired:
            count = counts[index]
            count.tally = count.tally.plus(tally)
            if len(fired) == 1:
                count.alone = count.alone.plus(tally)
            for other in fired:
                count.beside[other] += tally.events
    found = [_rule(rules, index, counts[index], everything, labelled=labelled) for index in range(len(rules))]
    return tuple(sorted(found, key=lambda each: (-each.tally.bad, -each.tally.events, each.id)))


def _rule(rules: Sequence[Rule], index: int, count: _RuleCount, everything: Tally, *, labelled: bool) -> RuleFigures:
    rule, tally = rules[index], count.tally
    # Where nothing says what was fraud, a rule is not one that finds none.
    precision = wilson(tally.bad, tally.events) if labelled else None
    base = everything.bad / everything.events if everything.events else 0.0
    partners = [
        (rules[other].id, n / tally.events) for other, n in count.beside.most_common(PARTNERS + 1) if other != index
    ]
    return RuleFigures(
        id=rule.id,
        signal=rule.finding.signal,
        mode=rule.mode,
        tally=tally,
        alone=count.alone,
        precision=precision,
        recall=wilson(tally.bad, everything.bad),
        lift=precision.value / base if precision and base else None,
        partners=tuple(partners[:PARTNERS]),
    )


# Thresholds


def _curve(variants: Sequence[Variant], by_variant: Mapping[int, Tally], everything: Tally) -> tuple[Threshold, ...]:
    by_score: dict[int, Tally] = {}
    for number, tally in by_variant.items():
        score = variants[number].outcome.score
        by_score[score] = by_score.get(score, Tally()).plus(tally)
    found: list[Threshold] = []
    reached = Tally()
    for score in sorted(by_score, reverse=True):
        reached = reached.plus(by_score[score])
        found.append(
            Threshold(
                score,
                reached,
                _share(reached.bad, everything.bad),
                _share(reached.good, everything.good),
                reached.events / everything.events,
                _share(reached.bad, reached.events),
            )
        )
    return tuple(reversed(found))


def _share(hits: int, of: int) -> float | None:
    return hits / of if of else None


# Parts


def _parts(past: Past, judged: Judged, *, refunds: bool, tiers: bool) -> dict[str, tuple[Part, ...]]:
    ranks = {verdict: rank for rank, verdict in enumerate(judged.policy.verdicts)}
    standing = [ranks[variant.outcome.verdict] for variant in judged.variants]
    numbers = pa.array(range(len(standing)), pa.int64())
    ranked = past.warehouse.put("standing", pa.table({"number": numbers, "rank": pa.array(standing, pa.int64())}))
    table = judged.table.join(ranked, judged.table.variant == ranked.number)
    severest = len(judged.policy.verdicts) - 1
    split = {path: table[name] for path, name in past.parts.items()}
    if tiers:
        split[TIER] = ibis.ifelse(table.tier == "", judged.policy.pack.default_tier, table.tier)
    split[BAND] = _band(table.worth, CURRENCIES[past.currency])
    return {
        name: _part(past, table, column, severest, refunds=refunds, ordered=name == BAND)
        for name, column in split.items()
    }


def _part(past: Past, table: Any, column: Any, severest: int, *, refunds: bool, ordered: bool) -> tuple[Part, ...]:
    shown = table.mutate(part=column)
    grouped = shown.group_by("part", "rank").agg(**tallied(shown, refunds=refunds))
    found: dict[Any, list[Tally]] = {}
    for row in past.warehouse.arrow(grouped).to_pylist():
        three = found.setdefault(row["part"], [Tally(), Tally(), Tally()])
        tally = _tally(row)
        three[0] = three[0].plus(tally)
        if row["rank"]:
            at = 1 if row["rank"] == severest else 2
            three[at] = three[at].plus(tally)
    if ordered:
        return tuple(
            Part(_named_band(value), *found[value]) for value in sorted(found, key=lambda v: (v is None, v or 0))
        )
    return _largest(found)


def _largest(found: Mapping[Any, Sequence[Tally]]) -> tuple[Part, ...]:
    """The values with most events, and all others as one."""
    values = sorted(found, key=lambda value: (-found[value][0].events, str(value)))
    shown = [Part("(missing)" if value is None else str(value), *found[value]) for value in values[:MOST_VALUES]]
    if rest := values[MOST_VALUES:]:
        shown.append(Part(f"({len(rest)} others)", *(_sum(found[value][at] for value in rest) for at in range(3))))
    return tuple(shown)


def _band(worth: Any, exponent: int) -> Any:
    """The place among BANDS of an amount; NULL for none."""
    band = ibis.ifelse(worth.isnull(), ibis.null("int64"), ibis.literal(0, type="int64"))
    for number, begins in enumerate(BANDS[1:], 1):
        band = ibis.ifelse(worth >= begins * 10**exponent, ibis.literal(number, type="int64"), band)
    return band


def _named_band(number: int | None) -> str:
    if number is None:
        return "(no amount)"
    if number == len(BANDS) - 1:
        return f"{BANDS[-1]:,} and more"
    return f"{BANDS[number]:,} to {BANDS[number + 1]:,}"
