"""Experiments: does a rule do what it is for? One question, one metric, one sample, one test, all said beforehand.

    experiment: large-guests
    question: Does asking guests with large first orders who they are lower the share of chargebacks?
    owner: payments-risk
    rule: first-order.large-guest                  # which has a rollout: live in one arm, in the shadow in the other
    from: 2026-12-01
    metric: {outcome: [chargeback], within: 30d}   # or {verdict: [approve]}
    expect: {usual: 4%, effect: 2%}

A unit is a key of the rollout, seen at the rule's first finding about it; chance alone says in which arm it is. Each
arm needs as many units as show the effect with the wanted power (two-sided test of two proportions: Fleiss, Levin and
Paik, Statistical Methods for Rates and Proportions, 3rd ed., 2003, 4.2, without continuity correction). Until both
arms are full and all their outcomes had their time, nobody is told how the arms differ; then the test is done on
exactly the first units of each, so it comes out the same whenever somebody looks. Looking early changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import ceil, erfc, sqrt
from statistics import NormalDist
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from engine.errors import Problem, did_you_mean
from engine.packs import Document, Form, Since, Text, fit
from engine.packs.durations import Duration
from engine.packs.shares import Share
from engine.proportions import Interval, wilson
from engine.rollout import BUCKETS, Rollout

_NAME = Form("[a-z0-9]+(-[a-z0-9]+)*", "write small letters, digits and '-', such as large-guests")
_NORMAL = NormalDist()
MOST = 100_000_000
"""Units of an arm: an experiment that needs more is none."""

SHADOW, LIVE = "shadow", "live"
ARMS = (SHADOW, LIVE)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MetricText(_Model):
    """What is counted of each unit: one of `outcome` and `verdict`."""

    outcome: list[Text] = Field(default=[], description="results of which one became known, such as chargeback")
    within: Duration | None = Field(default=None, description="how long after the event an outcome counts")
    verdict: list[Text] = Field(default=[], description="verdicts of which one was given, such as approve")


class ExpectText(_Model):
    """What the sample must be able to show."""

    usual: Share = Field(description="the share in the shadow, as far as it is known")
    effect: Share = Field(description="the least difference worth knowing, in points of percent")


class ExperimentPack(_Model):
    """A question about a rule that is rolled out, and all that is needed to answer it, said before the first event."""

    experiment: Annotated[Text, _NAME] = Field(max_length=64, description="its name")
    question: Text = Field(min_length=10, max_length=500, description="what is asked, as a sentence")
    owner: Text = Field(min_length=1, max_length=120, description="who answers for it")
    rule: Text = Field(description="the id of a rule with a rollout: live in one arm, in the shadow in the other")
    since: Since = Field(alias="from", description="the day from which on events count")
    metric: MetricText = Field(description="what is counted of each unit")
    expect: ExpectText = Field(description="the usual share, and the least difference worth knowing")
    alpha: Share = Field(default=Decimal("0.05"), description="how often a difference is told where there is none")
    power: Share = Field(default=Decimal("0.8"), description="how often the least difference is found where it is")


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment, checked. `within` is in µs, 0 for a metric of verdicts."""

    name: str
    question: str
    owner: str
    rule: str
    kinds: tuple[str, ...]
    rollout: Rollout
    since: int
    outcomes: frozenset[str]
    verdicts: frozenset[str]
    within: int
    usual: float
    effect: float
    alpha: float
    power: float

    @property
    def needed(self) -> Mapping[str, int]:
        """How many units each arm needs."""
        share = self.rollout.buckets / BUCKETS
        return sample(self.usual, self.effect, self.alpha, self.power, share / (1 - share))


def sample(usual: float, effect: float, alpha: float, power: float, ratio: float) -> dict[str, int]:
    """The units that each arm needs, `ratio` of them live for one in the shadow, so that a two-sided test at `alpha`
    finds a difference of `effect` from `usual`, up or down, with `power` (Fleiss, Levin and Paik 2003, 4.2)."""
    within = [other for other in (usual - effect, usual + effect) if 0 <= other <= 1]
    shadow = max(_shadow_size(usual, other, alpha, power, ratio) for other in within)
    return {SHADOW: ceil(shadow), LIVE: ceil(ratio * shadow)}


def _shadow_size(one: float, other: float, alpha: float, power: float, ratio: float) -> float:
    mean = (one + ratio * other) / (ratio + 1)
    spread = _NORMAL.inv_cdf(1 - alpha / 2) * sqrt((ratio + 1) * mean * (1 - mean))
    spread += _NORMAL.inv_cdf(power) * sqrt(ratio * one * (1 - one) + other * (1 - other))
    return spread**2 / (ratio * (one - other) ** 2)


@dataclass(frozen=True, slots=True)
class Arm:
    """Of how many units the metric was true."""

    units: int
    hits: int

    @property
    def share(self) -> float:
        """The part of the units."""
        return self.hits / self.units

    def interval(self, alpha: float) -> Interval:
        """The share with its score interval of 1 - alpha (Wilson 1927)."""
        found = wilson(self.hits, self.units, alpha)
        assert found is not None, "an arm has units"
        return found


@dataclass(frozen=True, slots=True)
class Result:
    """What the test says: the difference live less shadow with its interval of 1 - alpha, and the p-value."""

    shadow: Arm
    live: Arm
    difference: float
    low: float
    high: float
    p: float
    differs: bool

    @property
    def arms(self) -> Mapping[str, Arm]:
        """The arms by name."""
        return {SHADOW: self.shadow, LIVE: self.live}


def compared(shadow: Arm, live: Arm, alpha: float) -> Result:
    """The two-sided z-test of two proportions with pooled variance (Fleiss, Levin and Paik 2003, 3.2) and the hybrid
    score interval of their difference (Newcombe, Statistics in Medicine 17, 1998, method 10)."""
    difference = live.share - shadow.share
    pooled = (shadow.hits + live.hits) / (shadow.units + live.units)
    error = sqrt(pooled * (1 - pooled) * (1 / shadow.units + 1 / live.units))
    p = 1.0 if error == 0 else erfc(abs(difference) / error / sqrt(2))  # 2 * (1 - Φ), also where Φ is next to 1
    one, other = shadow.interval(alpha), live.interval(alpha)
    low = difference - sqrt((live.share - other.low) ** 2 + (one.high - shadow.share) ** 2)
    high = difference + sqrt((other.high - live.share) ** 2 + (shadow.share - one.low) ** 2)
    return Result(shadow, live, difference, low, high, p, p < alpha)


# Reading


@dataclass(frozen=True, slots=True)
class Asked:
    """What an experiment must know of a rule: its kinds of event, its rollout, and whether it says something where
    its condition is unknown."""

    kinds: tuple[str, ...]
    rollout: Rollout | None
    watched: bool = False


def read_experiments(
    documents: Iterable[Document],
    rules: Mapping[str, Asked],
    results: Iterable[str],
    verdicts: Iterable[str],
    problems: list[Problem],
) -> tuple[Experiment, ...]:
    """The experiments of the given files; what is wrong with them goes to `problems`.

    `results` are those that an outcome may have, `verdicts` those of all policies.
    """
    found: list[Experiment] = []
    for document in documents:
        fits = fit(document, ExperimentPack)
        wrong = [*fits.problems]
        if fits.pack is not None:
            known = {"outcome": tuple(results), "verdict": tuple(verdicts)}
            wrong += fits.beyond(_problems(fits.document, fits.pack, rules, known, found))
            if not wrong:
                found.append(_experiment(fits.pack, rules[fits.pack.rule]))
        problems += wrong
    return tuple(found)


def _experiment(pack: ExperimentPack, asked: Asked) -> Experiment:
    assert asked.rollout is not None, "a rule without a rollout is a problem"
    return Experiment(
        name=str(pack.experiment),
        question=str(pack.question),
        owner=str(pack.owner),
        rule=str(pack.rule),
        kinds=asked.kinds,
        rollout=asked.rollout,
        since=pack.since,
        outcomes=frozenset(map(str, pack.metric.outcome)),
        verdicts=frozenset(map(str, pack.metric.verdict)),
        within=pack.metric.within or 0,
        usual=float(pack.expect.usual),
        effect=float(pack.expect.effect),
        alpha=float(pack.alpha),
        power=float(pack.power),
    )


def _problems(
    document: Document,
    pack: ExperimentPack,
    rules: Mapping[str, Asked],
    known: Mapping[str, tuple[str, ...]],
    others: Iterable[Experiment],
) -> list[Problem]:
    found = [*_of_rule(document, pack, rules), *_of_metric(document, pack, known)]
    for other in others:
        if other.name == pack.experiment:
            found.append(document.problem(("experiment",), f"there is an experiment '{other.name}' already"))
        elif other.rule == pack.rule:
            what = f"the experiment '{other.name}' asks about this rule already"
            hint = "one question has one test: two on one sample find a difference too often"
            found.append(document.problem(("rule",), what, hint))
    usual, effect = pack.expect.usual, pack.expect.effect
    if usual - effect < 0 and usual + effect > 1:
        what = "no share differs so much from the usual one"
        found.append(document.problem(("expect", "effect"), what, "write a smaller effect"))
    for key, share in (("alpha", pack.alpha), ("power", pack.power)):
        if share == 1:
            found.append(document.problem((key,), "nothing is that certain", "write 5% for alpha, 80% for power"))
    return found or _too_large(document, pack, rules)


def _of_rule(document: Document, pack: ExperimentPack, rules: Mapping[str, Asked]) -> list[Problem]:
    asked = rules.get(pack.rule)
    if asked is None:
        return [document.problem(("rule",), f"there is no rule '{pack.rule}'", did_you_mean(pack.rule, rules))]
    if asked.rollout is None or asked.rollout.buckets in (0, BUCKETS):
        what = f"the rule '{pack.rule}' is the same for everybody, so there is nothing to compare"
        return [document.problem(("rule",), what, "give it a rollout between 0% and 100%")]
    if asked.watched:
        what = f"the rule '{pack.rule}' also counts when it is unknown, which the shadow does not"
        return [document.problem(("rule",), what, "take if_unknown out of it: the arms would not be alike")]
    return []


def _of_metric(document: Document, pack: ExperimentPack, known: Mapping[str, tuple[str, ...]]) -> list[Problem]:
    metric, found = pack.metric, []
    if bool(metric.outcome) == bool(metric.verdict):
        hint = "write {outcome: [chargeback], within: 30d} or {verdict: [approve]}"
        found.append(document.problem(("metric",), "an experiment counts either outcomes or verdicts", hint))
    elif bool(metric.outcome) != (metric.within is not None):
        what = "'within' says how long an outcome is waited for: it goes with 'outcome'"
        found.append(document.problem(("metric",), what, "such as within: 30d"))
    for key, names in (("outcome", metric.outcome), ("verdict", metric.verdict)):
        for at, name in enumerate(names):
            if name not in known[key]:
                hint = did_you_mean(name, known[key]) or "one of " + ", ".join(known[key])
                found.append(document.problem(("metric", key, at), f"there is no {key} '{name}'", hint))
    return found


def _too_large(document: Document, pack: ExperimentPack, rules: Mapping[str, Asked]) -> list[Problem]:
    needed = max(_experiment(pack, rules[pack.rule]).needed.values())
    if needed <= MOST:
        return []
    what = f"this needs {needed:,} units in an arm, and more than {MOST:,} there never are"
    return [document.problem(("expect", "effect"), what, "ask for a larger effect")]


# Counting


@dataclass(frozen=True, slots=True)
class Unit:
    """The first finding of the rule about one key: the event, when it happened, and whether the metric is true."""

    event: str
    at: int
    hit: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """How far an experiment is: units of each arm, when the last needed outcome has had its time (None while an arm
    is not full), findings without a key, and the result once there is one."""

    experiment: Experiment
    units: Mapping[str, int]
    ready_at: int | None
    keyless: int
    result: Result | None

    def json(self) -> dict[str, Any]:
        """As the API and `--json` show it. Shares are decimal text with six places."""
        asked, result = self.experiment, self.result
        return {
            "experiment": asked.name,
            "question": asked.question,
            "rule": asked.rule,
            "rollout": str(asked.rollout),
            "needed": dict(asked.needed),
            "units": dict(self.units),
            "keyless": self.keyless,
            "ready_at": self.ready_at,
            "result": None if result is None else _shown(result),
        }


def _shown(result: Result) -> dict[str, Any]:
    arms = {
        name: {"units": arm.units, "hits": arm.hits, "share": f"{arm.share:.6f}"} for name, arm in result.arms.items()
    }
    figures = {name: f"{getattr(result, name):.6f}" for name in ("difference", "low", "high", "p")}
    return {**arms, **figures, "differs": result.differs}


def standing(experiment: Experiment, units: Mapping[str, list[Unit]], keyless: int, now: int) -> Standing:
    """How far an experiment is at `now`, from its units by arm in the order of their arrival."""
    needed = experiment.needed
    counts = {arm: len(units[arm]) for arm in ARMS}
    if any(counts[arm] < needed[arm] for arm in ARMS):
        return Standing(experiment, counts, None, keyless, None)
    taken = {arm: units[arm][: needed[arm]] for arm in ARMS}
    ready_at = max(unit.at + experiment.within for of in taken.values() for unit in of)
    if now < ready_at:
        return Standing(experiment, counts, ready_at, keyless, None)
    shadow, live = (Arm(len(taken[arm]), sum(unit.hit for unit in taken[arm])) for arm in ARMS)
    return Standing(experiment, counts, ready_at, keyless, compared(shadow, live, experiment.alpha))
