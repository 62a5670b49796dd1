"""`tune --scorecard`: features in bands with points, how well they rank what came after, and a draft of the rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from getpass import getuser
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from cli import tuned as shown
from cli.draft import in_half_a_year
from cli.features import Asked, read_features
from cli.language import said, term
from cli.observing import Sample, Seen, observe
from cli.report import grid
from cli.tunedraft import stem, write_draft
from engine.anomaly import Ranking
from engine.errors import RequestRefused
from engine.expr import BOOL, NUMBER, TEXT, literal
from engine.money import Money
from engine.packs.moments import day_of
from engine.ranking import ranking, recall_at
from engine.tuning import FEWEST_FRAUDS, Band, Banded, Feature, Goal, Observed, Periods, Tunable, Tuned, tuned
from engine.tuning.scorecard import DOUBLE, Scorecard, fit

_RATE = 0.01
"""The false-positive rate at which recall is told where no limit names one."""
_SAID = 300
"""Characters of a reason, at most: bands of many values are long."""


@dataclass(frozen=True, eq=False)
class Carded:
    """A scorecard of the features `asked` for, over both periods: how it ranks in each, its recall at the
    false-positive rate `rate`, and the score to act from. `cap` is where the policy's scores end, None without one."""

    asked: Sequence[Asked]
    card: Scorecard
    rankings: tuple[Ranking, Ranking]
    recalls: tuple[float, float]
    rate: float
    threshold: Tuned
    cap: int | None

    @property
    def most(self) -> int:
        """The highest score there can be."""
        return sum(max(band.points for band in banded.bands) for banded in self.card.features)


def carded(sample: Sample, text: str, goal_in: Callable[[str], Goal], bands: int, *, free: bool) -> Carded:
    """The scorecard of the features that a text asks for, fitted on the first part; `goal_in` a currency is what the
    score to act from is chosen by. Raises PackError and RequestRefused."""
    asked = read_features(text, sample.book.vocabulary(sample.table.kind))
    seen = observe(sample, [each.value for each in asked])
    goal, periods = goal_in(seen.currency), sample.periods(seen.at, seen.bad, FEWEST_FRAUDS)
    features = _features(asked, seen)
    first = [replace(each, values=_only(each.values, periods.fit)) for each in features]
    card = fit(first, seen.bad[periods.fit], bands, monotone=not free)
    if not card.features:
        raise RequestRefused(f"no scorecard: {'; '.join(f'{name}: {why}' for name, why in card.left_out)}")
    scores = card.scores(features)
    rate = next((limit.value for limit in goal.limits if limit.measure == "fpr"), _RATE)
    one, other = (ranking(seen.bad[rows], scores[rows]) for rows in (periods.fit, periods.later))
    recalls = [recall_at(seen.bad[rows], scores[rows], rate) for rows in (periods.fit, periods.later)]
    threshold = _acted_from(sample, seen, scores, periods, goal)
    policy = sample.book.kinds[sample.table.kind].policy
    cap = policy.pack.score.cap if policy else None
    return Carded(asked, card, (one, other), (recalls[0], recalls[1]), rate, threshold, cap)


def _features(asked: Sequence[Asked], seen: Seen) -> list[Feature]:
    """The features with their values. Raises RequestRefused for amounts in several currencies."""
    found, problems = [], []
    for each, column in zip(asked, seen.columns, strict=True):
        codes = sorted({value.currency for value in column if isinstance(value, Money)})
        if len(codes) > 1:
            problems.append(f"'{each.text}' has amounts in {', '.join(codes)}: write '{each.text} in {codes[0]}'")
        found.append(Feature(each.name, each.value.type, column, codes[0] if codes else ""))
    if problems:
        raise RequestRefused(f"--scorecard: {'; '.join(problems)}")
    return found


def _only(values: Sequence[Any], rows: Any) -> list[Any]:
    return [values[place] for place in np.flatnonzero(rows).tolist()]


def _acted_from(sample: Sample, seen: Seen, scores: Any, periods: Periods, goal: Goal) -> Tuned:
    """The sum of the points as a threshold."""
    all_, none = np.ones(len(scores), bool), np.zeros(len(scores), bool)
    subject = Tunable(
        name="score",
        about="the sum of the points",
        comparison=">=",
        type=NUMBER,
        present=None,
        spelt=str,
        observed=Observed(seen.at, seen.bad, seen.worth, scores.tolist(), all_, none, none),
        currency=seen.currency,
        kind=sample.table.kind,
    )
    return tuned(subject, periods, goal)


# Bands as conditions


def condition(banded: Banded, band: Band) -> str:
    """The band as a condition: one-sided where points go one way, for of one group the highest points count."""
    name = banded.name
    if band.missing:
        return f"{name} is missing"
    if banded.type == BOOL:
        return name if band.values == (True,) else f"not {name}"
    if band.values:
        listed = ", ".join(literal(value, TEXT).text for value in band.values)
        return f"{name} {'not in' if band.others else 'in'} [{listed}]"
    low, high = (None if end is None else _end(banded, end) for end in (band.low, band.high))
    if banded.shape == "up" or high is None:
        return f"{name} > {low}"
    if banded.shape == "down" or low is None:
        return f"{name} <= {high}"
    return f"{low} < {name} <= {high}"


def _end(banded: Banded, end: Any) -> str:
    return literal(Money(end, banded.currency) if banded.currency else end, banded.type).text


# The draft


def draft(sample: Sample, found: Carded, out: Path) -> None:
    """The bands that have points as rules in a new file, in the shadow: a group for each feature, of which only the
    highest points count, so that the score is the sum. Raises RequestRefused."""
    texts = {each.name: each.text for each in found.asked}
    used = {banded.name for banded in found.card.features}
    let = {each.let: each.text for each in found.asked if each.let and each.name in used}
    periods = found.threshold.periods
    days = f"{day_of(periods.first)} to {day_of(periods.mature - 1)}"
    head = {
        "pack": stem(out),
        "about": f"A scorecard drafted by arbiter tune on events of {days}: {DOUBLE} points double the odds of fraud, "
        f"which are about 1 to {_against(found)} at a score of 0.",
        "for": sample.table.kind,
        "owner": getuser(),
    }
    rules = [rule for banded in found.card.features for rule in _rules(stem(out), banded, texts[banded.name])]
    write_draft(sample, out, {**head, "let": let} if let else head, rules)


def _rules(name: str, banded: Banded, text: str) -> Iterator[Mapping[str, Any]]:
    """The rules of a feature; `text` is the feature as it was asked for."""
    group = re.sub(r"[^a-z0-9]+", "-", banded.name).strip("-")
    signal = f"{name.replace('-', '_')}_points"
    for number, band in enumerate((each for each in banded.bands if each.points), 1):
        said = shorten(condition(replace(banded, name=text), band), _SAID, placeholder=" …")
        yield {
            "id": f"{name}.{group}-{number}",
            "when": condition(banded, band),
            "signal": signal if signal[0].isalpha() else f"s_{signal}",
            "severity": "info",
            "points": band.points,
            "group": f"{name}-{group}",
            "because": {"en": said, "zh": f"评分卡：{said}"},
            "basis": {"kind": "house-policy", "review_by": in_half_a_year()},
            "mode": "shadow",
        }


def _against(found: Carded) -> str:
    """Good events for each fraud at a score of 0."""
    return f"{1 / found.card.odds:,.0f}"


# The terminal


def printed(found: Carded, out: Path | None) -> Iterator[str]:
    """Periods, bands with points, how they rank, and the score to act from."""
    yield from shown.periods_told(found.threshold)
    yield ""
    heads = map(term, ("feature", "band", "points", "events", "fraud"))
    yield from grid((*heads, term("share", "fraud")), _bands(found.card))
    against = _against(found)
    yield said(f"{DOUBLE} points double the odds of fraud; at a score of 0 they are about 1 to {against}")
    if found.cap is not None and found.most > found.cap:
        yield said(f"they come to {found.most} at most, and scores of the policy end at {found.cap}: see its score.cap")
    for name, why in found.card.left_out:
        yield said(f"left out: {name}: {why}")
    yield ""
    head = (said("how it ranks"), "AP", "AUC", said(f"recall at FPR {found.rate:.2%}"), said("fraud in all"))
    yield from grid(head, _ranks(found))
    yield ""
    yield from shown.threshold_told(found.threshold)
    if out is not None:
        yield shown.drafted(out)


def _bands(card: Scorecard) -> Iterator[tuple[str, ...]]:
    for banded in card.features:
        for band in banded.bands:
            share = f"{band.bad / band.events:.2%}" if band.events else "–"
            counts = (str(band.points), f"{band.events:,}", f"{band.bad:,}", share)
            yield (banded.name, _between(banded, band), *counts)


def _between(banded: Banded, band: Band) -> str:
    if banded.type == BOOL and band.values:
        return term("yes" if band.values == (True,) else "no", "band")
    if band.values or band.missing:
        return condition(banded, band).removeprefix(f"{banded.name} ")
    low, high = (None if end is None else _end(banded, end) for end in (band.low, band.high))
    return said(f"above {low}" if high is None else f"up to {high}" if low is None else f"above {low} to {high}")


def _ranks(found: Carded) -> Iterator[tuple[str, ...]]:
    for name, each, recall in zip(("first part", "later"), found.rankings, found.recalls, strict=True):
        share = f"{each.fraud / each.known:.2%}"
        yield (term(name), f"{each.average_precision:.3f}", f"{each.auc:.3f}", f"{recall:.3f}", share)


# JSON


def in_json(found: Carded, out: Path | None) -> dict[str, Any]:
    """Everything; money in minor units."""
    ranks = {
        name: {"average_precision": each.average_precision, "auc": each.auc, "recall": recall}
        for name, each, recall in zip(("fit", "later"), found.rankings, found.recalls, strict=True)
    }
    return {
        **shown.in_json(found.threshold, out),
        "draft": str(out) if out else None,
        "features": [_feature_json(banded) for banded in found.card.features],
        "odds": found.card.odds,
        "most": found.most,
        "cap": found.cap,
        "left_out": dict(found.card.left_out),
        "fpr": found.rate,
        "ranks": ranks,
    }


def _feature_json(banded: Banded) -> dict[str, Any]:
    bands = [
        {"when": condition(banded, band), "points": band.points, "events": band.events, "fraud": band.bad}
        for band in banded.bands
    ]
    return {"feature": banded.name, "bands": bands}
