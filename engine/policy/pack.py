"""The policy file: what each part may hold, as pydantic models. `docs/policies.md` is its reference.

Models say how a value is written; what must fit together across the file is asked by `problems`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from engine.packs import Text
from engine.packs.durations import MICROSECONDS, Duration

_PER = {"m": 60, "h": 3600, "d": 86_400}
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,4})?)%", re.ASCII)
_RATE = re.compile(r"([1-9][0-9]{0,8})/([mhd])", re.ASCII)
LARGEST_RATE = 100_000


class Rate(NamedTuple):
    """At most `limit` in any `period` microseconds."""

    limit: int
    period: int


def _share(value: object) -> Decimal:
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    share = Decimal(match[1]) / 100 if match else Decimal(0)
    if not 0 < share <= 1:
        raise ValueError("write a share above 0% and up to 100%, such as 20%")
    return share


def _rate(value: object) -> Rate:
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) > LARGEST_RATE:
        raise ValueError(f"write how many in which time, such as 400/h (per m, h or d; at most {LARGEST_RATE})")
    return Rate(int(match[1]), _PER[match[2]] * MICROSECONDS)


def _written(pattern: re.Pattern[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern.pattern}$"})


Share = Annotated[Decimal, BeforeValidator(_share), _written(_SHARE)]
"""A part of one, written `20%`."""
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
"""A verdict, a tier, a rule's id, a queue, an action."""
SignalName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
Term = Annotated[str, StringConstraints(min_length=1, max_length=80)]
"""A signal's name, or `any <severity>`: some signal holds at that severity or a worse one."""
Severity = Literal["info", "low", "medium", "high", "critical"]


Points = Annotated[int, Field(strict=True, ge=1, le=100_000)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Anomaly(_Model):
    """`points` join the score when the model's percentile is `at` or above."""

    at: Decimal = Field(ge=0, le=100)
    points: Points


class Score(_Model):
    """`cap` is the highest score there is."""

    cap: Points = 100
    anomaly: Anomaly | None = None


class Derive(_Model):
    """A signal that holds because a rule of the policy fired."""

    signal: SignalName
    severity: Severity = "info"


class PolicyRule(_Model):
    """If all of `when` hold and none of `unless` does: derive a signal, or bound the verdict, or both."""

    id: Name
    about: Text | None = None
    when: list[Term] = Field(min_length=1)
    unless: list[Term] = []
    derive: Derive | None = None
    at_least: Name | None = None
    at_most: Name | None = None


class Mandatory(_Model):
    """Law and sanctions: if all of `when` hold, the verdict is at least this one, whatever else is so."""

    id: Name | None = None
    about: Text | None = None
    when: list[Term] = Field(min_length=1)
    verdict: Name
    basis: Text | None = None


class Degraded(_Model):
    """The least verdict while something does not work: `then` for an event of which `if` is true, else `at_least`."""

    at_least: Name | None = None
    if_: Text | None = Field(default=None, alias="if", max_length=4000)
    then: Name | None = None


class Challenge(_Model):
    """How a buyer may prove who they are, and what each end of it means. An expired challenge is an abandoned one."""

    by: list[Name] = Field(min_length=1)
    expires: Duration
    passed: Name
    failed: Name
    abandoned: Name


class Review(_Model):
    """A person decides. `approved` and `rejected` are the mildest and the severest verdict when not said."""

    queue: Name
    due: Duration
    if_late: Name
    approved: Name | None = None
    rejected: Name | None = None
    capacity: Annotated[Rate, BeforeValidator(_rate), _written(_RATE)] | None = None
    overflow: Name | None = None


class ActionClause(_Model):
    """Something to be done beside the verdict while all of `when` hold and none of `unless` does."""

    when: list[Term] = Field(min_length=1)
    unless: list[Term] = []
    do: Name
    for_: Duration | None = Field(default=None, alias="for")
    basis: Text | None = None


class BreakerClause(_Model):
    """A rule that declines too large a share of all events is held back until it no longer would."""

    per: Literal["rule"] = "rule"
    share_of_declines: Share
    over: Duration
    at_least_events: int = Field(strict=True, ge=1, le=10_000_000)
    then: Name


class InvariantTest(_Model):
    """A case of an invariant: an event with what came before it, or findings alone, and the circumstances.

    `found` names rules (or signals of Arbiter itself) that found something, in the place of what the event gives.
    """

    it: str = Field(max_length=200, description="what the case shows, as a sentence")
    kind: Name | None = Field(
        default=None, description="the kind of the event; the first that the policy judges when absent"
    )
    before: list[dict[str, Any]] = Field(default=[], max_length=1000, description="earlier events, as in a rule's test")
    event: dict[str, Any] = Field(default={}, description="the event, as in a rule's test")
    found: list[Text] | None = Field(default=None, max_length=1000, description="rules that found something")
    tier: Name | None = Field(default=None, description="the merchant's tier; the default one when absent")
    causes: list[Name] = Field(default=[], max_length=16, description="what does not work, as under `degraded`")
    anomaly: Decimal | None = Field(default=None, ge=0, le=100, description="the model's percentile")
    held_back: list[Text] = Field(default=[], max_length=1000, description="rules that the breaker holds back")
    queue_full: bool = Field(default=False, description="whether the queue of reviews is full")
    challenge_passed: bool = Field(default=False, description="whether the buyer has passed the challenge")
    expect: Literal["holds", "broken"] = Field(description="whether the invariant holds in this case")


class Invariant(_Model):
    """What is so of every event, whatever was found: `never` is never true, `always` is always true, each where `when`
    is. `arbiter prove` shows it, or prints a case that breaks it."""

    id: Name = Field(description="its name, unique within the policy")
    about: Text | None = Field(default=None, description="why it must be so")
    never: Text | None = Field(default=None, max_length=4000, description="a condition that is true of no event")
    always: Text | None = Field(default=None, max_length=4000, description="a condition that is true of every event")
    when: Text | None = Field(
        default=None, max_length=4000, description="of which events it speaks; of all when absent"
    )
    tests: list[InvariantTest] = Field(default=[], max_length=200, description="cases that `arbiter check` plays")


class PolicyPack(_Model):
    """A policy file, as written."""

    format: Literal[1] = 1
    policy: Name
    about: Text | None = None
    owner: Text | None = None
    for_: list[Name] = Field(alias="for", min_length=1)
    verdicts: list[Name] = Field(min_length=2, max_length=16)
    score: Score = Score()
    tiers: dict[Name, dict[Name, Annotated[int, Field(strict=True)]]] = Field(min_length=1)
    default_tier: Name
    rules: list[PolicyRule] = Field(default=[], max_length=1000)
    mandatory: list[Mandatory] = Field(default=[], max_length=1000)
    degraded: dict[Name, Degraded] = {}
    challenge: Challenge | None = None
    review: Review | None = None
    actions: list[ActionClause] = Field(default=[], max_length=1000)
    breaker: BreakerClause | None = None
    invariants: list[Invariant] = Field(default=[], max_length=200, description="what is so of every event")
