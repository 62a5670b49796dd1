"""What figures are held to: the file `policies/targets.yaml`.

targets: shop
about: What the team is held to, and over which time.
owner: payments-risk
label_delay: 7d              # after this, what became of an event is taken as known
goals:
  - {metric: interception, at_least: 95%}
  - {metric: loss, kinds: [transaction], at_most: 3 bp}

A figure is missed only where its interval says so: else chance alone may have done it, and that is what is said.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from engine.errors import Problem, did_you_mean
from engine.metrics import METRICS, Figure, Level, Metric, level
from engine.packs import Document, Text, fit
from engine.packs.durations import Duration

WEEK = 7 * 86_400 * 1_000_000

Judgement: TypeAlias = Literal["met", "missed", "missed by chance", "not known"]
"""Of a figure beside its target: `missed by chance` where the interval reaches the target, `not known` where it is
missed and no interval says how surely."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GoalText(_Model):
    """One figure and what it is held to: one of `at_least` and `at_most`."""

    metric: Text = Field(description="which figure, such as interception or loss")
    kinds: list[Text] = Field(default=[], description="of which kinds of event; of all when absent")
    at_least: Level | None = Field(default=None, description="the least that is wanted, such as 95%")
    at_most: Level | None = Field(default=None, description="the most that is wanted, such as 3 bp")


class TargetsPack(_Model):
    """What figures are held to."""

    targets: Text = Field(min_length=1, max_length=100, description="its name")
    about: Text = Field(min_length=1, max_length=2000, description="what the team is held to, and why")
    owner: Text = Field(min_length=1, max_length=120, description="who answers for it")
    label_delay: Duration = Field(
        default=WEEK, description="how long after an event it is taken as known what became of it; 7d when absent"
    )
    goals: list[GoalText] = Field(min_length=1, max_length=100, description="each figure with its target")


@dataclass(frozen=True, slots=True)
class Goal:
    """A target in the unit of its metric: the least that is wanted, or the most. `kinds`: none means all."""

    metric: Metric
    kinds: frozenset[str]
    at_least: float | None
    at_most: float | None

    def covers(self, metric: str, kind: str) -> bool:
        """Whether it is about this figure of this kind of event."""
        return metric == self.metric.name and (not self.kinds or kind in self.kinds)

    def judged(self, figure: Figure) -> Judgement:
        """What the figure says of the target."""
        if self.at_least is not None:
            met, reached = figure.value >= self.at_least, figure.high is not None and figure.high >= self.at_least
        else:
            assert self.at_most is not None, "a goal has one end"
            met, reached = figure.value <= self.at_most, figure.low is not None and figure.low <= self.at_most
        if met:
            return "met"
        return "not known" if figure.low is None else "missed by chance" if reached else "missed"


@dataclass(frozen=True, slots=True)
class Targets:
    """All goals, and after how long (µs) outcomes are taken as known."""

    label_delay: int = WEEK
    goals: tuple[Goal, ...] = ()


def read_targets(documents: Iterable[Document], kinds: Collection[str], problems: list[Problem]) -> Targets:
    """The targets of the given files, of which there may be one; what is wrong with them goes to `problems`."""
    found = Targets()
    for number, document in enumerate(documents):
        fits = fit(document, TargetsPack)
        wrong = [*fits.problems]
        if number:
            wrong.append(document.problem(("targets",), "there is a second file of targets", "keep one"))
        if fits.pack is not None:
            wrong += fits.beyond(_problems(fits.document, fits.pack, kinds))
            if not wrong:
                found = Targets(fits.pack.label_delay, tuple(map(_goal, fits.pack.goals)))
        problems += wrong
    return found


def _goal(text: GoalText) -> Goal:
    metric = METRICS[text.metric]
    ends = (None if each is None else level(each, metric.unit) for each in (text.at_least, text.at_most))
    return Goal(metric, frozenset(map(str, text.kinds)), *ends)


def _problems(document: Document, pack: TargetsPack, kinds: Collection[str]) -> Iterator[Problem]:
    for number, goal in enumerate(pack.goals):
        at: tuple[Any, ...] = ("goals", number)
        known = [name for name, each in METRICS.items() if not each.own]
        if goal.metric not in known:
            hint = did_you_mean(goal.metric, known) or "one of " + ", ".join(known)
            yield document.problem((*at, "metric"), f"there is no figure '{goal.metric}' of events", hint)
        elif (goal.at_least is None) == (goal.at_most is None):
            what = "a target says either the least or the most that is wanted"
            yield document.problem(at, what, "write one of at_least and at_most")
        else:
            yield from _levels(document, at, goal)
        for place, kind in enumerate(goal.kinds):
            if kind not in kinds:
                hint = did_you_mean(kind, kinds) or "one of " + ", ".join(kinds)
                yield document.problem((*at, "kinds", place), f"there is no kind of event '{kind}'", hint)


def _levels(document: Document, at: tuple[Any, ...], goal: GoalText) -> Iterator[Problem]:
    for key in ("at_least", "at_most"):
        value = getattr(goal, key)
        if value is not None:
            try:
                level(value, METRICS[goal.metric].unit)
            except ValueError as error:
                yield document.problem((*at, key), f"this is no level of '{goal.metric}'", str(error))
