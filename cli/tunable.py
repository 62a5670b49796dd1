"""What can be tuned: the threshold of a rule, the score of a policy's verdict, the percentile of an anomaly model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from cli.backtest import backtested
from cli.observing import Sample, observe
from cli.replay import degraded
from engine.backtest import judge
from engine.columns import on_duckdb
from engine.detectors import ANOMALY, FIELD
from engine.errors import RequestRefused, did_you_mean, with_article
from engine.expr import NUMBER, Vocabulary, read
from engine.policy import Policy
from engine.policy.pack import PolicyPack
from engine.rules import Rule
from engine.tuning import Observed, Threshold, Tunable, plain, thresholds

# A rule


@dataclass(frozen=True)
class Chosen:
    """A rule, and the threshold of it that is meant."""

    rule: Rule
    threshold: Threshold


def chosen(sample: Sample, rule_id: str, number: int | None = None) -> Chosen:
    """The threshold of a rule: the only one, or that of a number. Raises RequestRefused."""
    rule = _rule(sample, rule_id)
    found = thresholds(rule.condition)
    if not found:
        raise RequestRefused(
            f"'{rule.id}' has no threshold: its condition compares no number, amount or duration with a written value "
            "by <, <=, > or >="
        )
    listed = "".join(f"\n  {place}  {each.text}" for place, each in enumerate(found, 1))
    if number is None and len(found) > 1:
        raise RequestRefused(f"'{rule.id}' has several thresholds: choose one with --literal N{listed}")
    if (number or 1) > len(found):
        raise RequestRefused(f"--literal {number}: '{rule.id}' has these thresholds{listed}")
    return Chosen(rule, found[(number or 1) - 1])


def _rule(sample: Sample, rule_id: str) -> Rule:
    known = {rule.id: rule for rule in sample.book.rules}
    if rule_id not in known:
        raise RequestRefused(f"there is no rule '{rule_id}'; {did_you_mean(rule_id, known) or 'see arbiter check'}")
    rule = known[rule_id]
    if sample.table.kind not in rule.kinds:
        kinds = ", ".join(rule.kinds)
        raise RequestRefused(f"'{rule_id}' is asked about {kinds} events, the table holds {sample.table.kind} events")
    return rule


def of_rule(sample: Sample, rule: Rule, threshold: Threshold) -> Tunable:
    """What a rule does at each event on either side of its threshold. Raises RequestRefused."""
    seen = observe(sample, (threshold.value, threshold.if_true, threshold.if_false, rule.condition))
    values = [plain(value, threshold.currency) for value in seen.columns[0]]
    truths = [np.array([value is True for value in column], bool) for column in seen.columns[1:]]
    return Tunable(
        name=rule.id,
        about=threshold.text,
        comparison=threshold.comparison,
        type=threshold.value.type,
        present=threshold.limit,
        spelt=threshold.spelt,
        observed=Observed(seen.at, seen.bad, seen.worth, values, *truths),
        currency=seen.currency,
        kind=sample.table.kind,
    )


# An anomaly model


def of_anomaly(sample: Sample) -> Tunable:
    """The percentile that the model in force gives each event; an alert is an event at or above the mark. Raises
    RequestRefused where no model looks at such events."""
    kind = sample.table.kind
    champion = sample.champions().champions[kind].model
    seen = observe(sample, [read(ANOMALY, Vocabulary({ANOMALY: FIELD}))])
    policy = sample.book.kinds[kind].policy
    mark = policy.pack.score.anomaly if policy else None
    all_, none = np.ones(len(seen.at), bool), np.zeros(len(seen.at), bool)
    return Tunable(
        name=f"anomaly model {champion.name[:12]}",
        about=f"{ANOMALY} at or above",
        comparison=">=",
        type=NUMBER,
        present=mark.at if mark else None,
        spelt=str,
        observed=Observed(seen.at, seen.bad, seen.worth, seen.columns[0], all_, none, none),
        currency=seen.currency,
        kind=kind,
        ends=(-1, 100),
    )


# A policy


def of_policy(sample: Sample, verdict: str, tier: str | None = None) -> Tunable:
    """The scores of all events, and what the policy says of each above and below the threshold of a verdict. Raises
    RequestRefused.

    It is judged with the threshold at its lowest and at its highest place: between them an event is reached as in the
    first where its score is at the threshold or above, and as in the second where it is below. Breaker and capacity of
    the review queue are left out, for what they do depends on all events before. Where the table says which tier a
    merchant had, it is about those of this tier alone; else as if all had it.
    """
    policy = sample.book.kinds[sample.table.kind].policy
    if policy is None:
        judged = ", ".join(sample.book.judged) or "none"
        raise RequestRefused(f"no policy judges {with_article(sample.table.kind)}; kinds that are judged: {judged}")
    name = tier or policy.pack.default_tier
    low, high = _range(policy.pack, verdict, name)
    placed = partial(_with, policy.pack, name, verdict)
    observed, tiers, currency = _scores(sample, placed, (low, high), verdict)
    if sample.table.has_tiers:
        own = [each == name or (name == policy.pack.default_tier and each not in policy.pack.tiers) for each in tiers]
        observed = observed.chosen(np.array(own, bool))
    return Tunable(
        name=f"{policy.name}, tier {name}",
        about=f"{verdict} from {low} to {high}",
        comparison=">=",
        type=NUMBER,
        present=policy.pack.tiers[name][verdict],
        spelt=str,
        observed=observed,
        currency=currency,
        kind=sample.table.kind,
        ends=(low - 1, high),
    )


def _range(pack: PolicyPack, verdict: str, tier: str) -> tuple[int, int]:
    """The lowest and the highest score that a verdict can begin at, between its neighbours."""
    if tier not in pack.tiers:
        hint = did_you_mean(tier, pack.tiers) or f"tiers are {', '.join(pack.tiers)}"
        raise RequestRefused(f"--tier {tier}: the policy '{pack.policy}' has no such tier; {hint}")
    scores = pack.tiers[tier]
    if verdict not in scores:
        hint = did_you_mean(verdict, scores) or f"those with one are {', '.join(scores)}"
        raise RequestRefused(f"--verdict {verdict}: tier {tier} of '{pack.policy}' has no score for it; {hint}")
    order = [each for each in pack.verdicts if each in scores]
    place = order.index(verdict)
    low = scores[order[place - 1]] + 1 if place else 1
    high = scores[order[place + 1]] - 1 if place + 1 < len(order) else pack.score.cap
    return low, high


def _with(pack: PolicyPack, tier: str, verdict: str, score: int) -> Policy:
    """The policy with another score for a verdict, all merchants in one tier, and no state of its own."""
    tiers = {**pack.tiers, tier: {**pack.tiers[tier], verdict: score}}
    review = pack.review and pack.review.model_copy(update={"capacity": None, "overflow": None})
    changes = {"tiers": tiers, "default_tier": tier, "breaker": None, "review": review}
    return Policy(pack.model_copy(update=changes))


def _scores(
    sample: Sample, placed: Callable[[int], Policy], ends: tuple[int, int], verdict: str
) -> tuple[Observed, Sequence[str], str]:
    """What was observed of the scores, the tiers of the merchants, and the currency of what events are worth."""
    with on_duckdb() as here:
        run = backtested(here, sample.book, sample.data, sample.form, sample.mapping, delay=sample.label_delay)
        book = sample.book.kinds[sample.table.kind]
        causes = degraded(sample.book, book, sample.models, book.everyone)

        def reached(score: int) -> tuple[Any, Any, Any]:
            """The events; their scores, and whether they get the verdict or a severer one, with a threshold."""
            policy = placed(score)
            kinds = {**sample.book.kinds, sample.table.kind: replace(book, policy=policy)}
            judged = judge(run.past, replace(sample.book, kinds=kinds), run.found, causes)
            events = here.arrow(judged.table.select("seq", "at", "bad", "worth", "tier", "variant").order_by("seq"))
            variants, least = events["variant"].to_numpy(), policy.verdicts.index(verdict)
            severe = [policy.verdicts.index(each.outcome.verdict) >= least for each in judged.variants]
            scores = np.array([each.outcome.score for each in judged.variants], np.int64)
            return events, scores[variants], np.array(severe, bool)[variants]

        low, high = ends
        events, scores, at_lowest = reached(low)
        _, _, at_highest = reached(high)
    values = [None if score < low else min(score, high) for score in scores.tolist()]
    worth = np.nan_to_num(events["worth"].fill_null(0).to_numpy()).astype(np.int64)
    at, bad = events["at"].to_numpy(), events["bad"].to_numpy()
    observed = Observed(at, bad, worth, values, at_lowest, at_highest, at_highest)
    return observed, events["tier"].to_pylist(), run.past.currency
