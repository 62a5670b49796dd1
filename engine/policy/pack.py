"""The policy file: what each part may hold, as pydantic models. `docs/policies.md` is its reference.

Models say how a value is written; what must fit together across the file is asked by `problems`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from engine.packs import FORMAT_MEANS, Text
from engine.packs.durations import MICROSECONDS, Duration
from engine.packs.shares import Share
from engine.policy.terms import TermsClause

_PER = {"m": 60, "h": 3600, "d": 86_400}
_RATE = re.compile(r"([1-9][0-9]{0,8})/([mhd])", re.ASCII)
LARGEST_RATE = 100_000


class Rate(NamedTuple):
    """At most `limit` in any `period` microseconds."""

    limit: int
    period: int


def _rate(value: object) -> Rate:
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) > LARGEST_RATE:
        raise ValueError(f"write how many in which time, such as 400/h (per m, h or d; at most {LARGEST_RATE})")
    return Rate(int(match[1]), _PER[match[2]] * MICROSECONDS)


def _written(pattern: re.Pattern[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern.pattern}$"})


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
"""A verdict, a tier, a rule's id, a queue, an action."""
ModeName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=40)]
"""A mode, as people type it."""
SignalName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
Term = Annotated[str, StringConstraints(min_length=1, max_length=80)]
"""A signal's name, or `any <severity>`: some signal holds at that severity or a worse one."""
Severity = Literal["info", "low", "medium", "high", "critical"]


Points = Annotated[int, Field(strict=True, ge=1, le=100_000)]

_WHEN = "signals that must hold, all of them; 'any high' holds when some signal is high or critical"
_UNLESS = "signals of which none may hold"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Anomaly(_Model):
    """`points` join the score when the model's percentile is `at` or above."""

    at: Decimal = Field(ge=0, le=100, description="the percentile of the model from which on they count")
    points: Points = Field(description="what joins the score")


class Score(_Model):
    """`cap` is the highest score there is."""

    cap: Points = Field(default=100, description="the highest score there is")
    anomaly: Anomaly | None = Field(default=None, description="points for what the anomaly model finds odd")


class Derive(_Model):
    """A signal that holds because a rule of the policy fired."""

    signal: SignalName = Field(description="the name of the signal")
    severity: Severity = Field(default="info", description="how grave it is")


class PolicyRule(_Model):
    """If all of `when` hold and none of `unless` does: derive a signal, or bound the verdict, or both."""

    id: Name = Field(description="its name, as the explanation shows it")
    about: Text | None = Field(default=None, description="what it is for")
    when: list[Term] = Field(min_length=1, description=_WHEN)
    unless: list[Term] = Field(default=[], description=_UNLESS)
    derive: Derive | None = Field(default=None, description="a signal that then holds, too")
    at_least: Name | None = Field(default=None, description="the mildest verdict that is then given")
    at_most: Name | None = Field(default=None, description="the severest verdict that is then given")


class Mandatory(_Model):
    """Law and sanctions: if all of `when` hold, the verdict is at least this one, whatever else is so."""

    id: Name | None = Field(default=None, description="its name, as the explanation shows it")
    about: Text | None = Field(default=None, description="what it is for")
    when: list[Term] = Field(min_length=1, description=_WHEN)
    verdict: Name = Field(description="the mildest verdict that is then given, whatever else is so")
    basis: Text | None = Field(default=None, description="the law or policy that it rests on")


class Degraded(_Model):
    """The least verdict while something does not work: `then` for an event of which `if` is true, else `at_least`."""

    at_least: Name | None = Field(default=None, description="the mildest verdict while this does not work")
    if_: Text | None = Field(
        default=None, alias="if", max_length=4000, description="a condition on the event, for which 'then' holds"
    )
    then: Name | None = Field(default=None, description="stands in the place of at_least where 'if' is true")


class Challenge(_Model):
    """How a buyer may prove who they are, and what each end of it means. An expired challenge is an abandoned one."""

    by: list[Name] = Field(min_length=1, description="by which means the buyer may prove who they are: 3ds, sms")
    expires: Duration = Field(description="how long the buyer has")
    passed: Name = Field(description="what follows a proof: a verdict, or rescore to judge again")
    failed: Name = Field(description="the verdict after a proof that failed")
    abandoned: Name = Field(description="the verdict when no proof came in time")


class Review(_Model):
    """A person decides. `approved` and `rejected` are the mildest and the severest verdict when not said."""

    queue: Name = Field(description="the queue in which it waits for a person")
    due: Duration = Field(description="until when somebody decides")
    if_late: Name = Field(description="the verdict when nobody did")
    approved: Name | None = Field(default=None, description="the verdict when approved; the mildest when absent")
    rejected: Name | None = Field(default=None, description="the verdict when rejected; the severest when absent")
    capacity: Annotated[Rate, BeforeValidator(_rate), _written(_RATE)] | None = Field(
        default=None, description="how many reviews the queue takes: 30/m, 400/h, 2000/d"
    )
    overflow: Name | None = Field(default=None, description="the verdict in place of a review when the queue is full")


class Appeal(_Model):
    """How whoever a verdict is against may object, and until when they are answered (Anti-Telecom-Fraud Law Art. 32,
    PIPL Art. 24, DSA Art. 20). A verdict that is lifted ends with everything that was done beside it, at once."""

    within: Duration = Field(description="how long after the verdict, or after it was told, an appeal can be opened")
    acknowledge: Duration = Field(description="until when a person takes it up")
    answer: Duration = Field(description="until when it is decided; the time in which more is waited for is added")
    more: Duration = Field(description="how long the person has to send what is asked for; then the appeal expires")
    lifted: Name | None = Field(default=None, description="the verdict after it is lifted; the mildest when absent")
    if_late: Literal["wait", "lift"] = Field(
        default="wait", description="when nobody answered in time: wait (it is shown as overdue), or lift"
    )
    counts_as: Literal["false_positive"] | None = Field(
        default=None, description="false_positive: a lifting is recorded as this outcome, so that windows see it"
    )


class ActionClause(_Model):
    """Something to be done beside the verdict while all of `when` hold and none of `unless` does.

    What `ends` when the person is cleared is lifted without their asking (Anti-Telecom and Online Fraud Law Art. 32).
    """

    when: list[Term] = Field(min_length=1, description=_WHEN)
    unless: list[Term] = Field(default=[], description=_UNLESS)
    do: Name = Field(description="what is to be done")
    for_: Duration | None = Field(default=None, alias="for", description="how long it holds; no end when absent")
    ends: Literal["cleared"] | None = Field(
        default=None,
        description="cleared: it ends at once when a passed challenge or a review leads to the mildest verdict",
    )
    basis: Text | None = Field(default=None, description="the law or policy that it rests on")


class BreakerClause(_Model):
    """A rule that declines too large a share of all events is held back until it no longer would."""

    per: Literal["rule"] = Field(default="rule", description="each rule trips by itself")
    share_of_declines: Share = Field(description="a rule trips when the events it declined are this share of all")
    over: Duration = Field(description="the sliding time in which events are counted")
    at_least_events: int = Field(
        strict=True, ge=1, le=10_000_000, description="how many events there must be before a rule can trip"
    )
    then: Name = Field(description="the mildest verdict for events that a tripped rule would have declined")


class Mode(_Model):
    """What a mode does that people switch on for a while (`arbiter mode`): a floor under the verdict, something to be
    done, or both, for the events of which `if` is true or unknown. Empty: this policy goes on as ever."""

    about: Text | None = Field(default=None, description="what it is for")
    at_least: Name | None = Field(default=None, description="the mildest verdict while the mode is on")
    do: Name | None = Field(default=None, description="what is then to be done, whatever was found")
    for_: Duration | None = Field(default=None, alias="for", description="how long it holds; no end when absent")
    basis: Text | None = Field(default=None, description="the law or policy that what is done rests on")
    if_: Text | None = Field(
        default=None, alias="if", max_length=4000, description="a condition on the event; for all events when absent"
    )

    @property
    def idle(self) -> bool:
        """Whether this policy goes on as ever in the mode."""
        return self.at_least is None and self.do is None


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

    format: Literal[1] = Field(default=1, description=FORMAT_MEANS)
    policy: Name = Field(description="its name")
    about: Text | None = Field(default=None, description="what it is for, for whoever reads it next")
    owner: Text | None = Field(default=None, description="who answers for it")
    for_: list[Name] = Field(alias="for", min_length=1, description="the kinds of event that it judges")
    verdicts: list[Name] = Field(min_length=2, max_length=16, description="all verdicts, mildest first")
    score: Score = Field(default=Score(), description="how points become a score")
    tiers: dict[Name, dict[Name, Annotated[int, Field(strict=True)]]] = Field(
        min_length=1, description="tier of the merchant → verdict → the score from which on it is reached"
    )
    default_tier: Name = Field(description="the tier of merchants without one")
    rules: list[PolicyRule] = Field(default=[], max_length=1000, description="what follows from signals")
    mandatory: list[Mandatory] = Field(
        default=[], max_length=1000, description="law and sanctions, which nothing else can soften"
    )
    degraded: dict[Name, Degraded] = Field(default={}, description="cause → what holds while something does not work")
    challenge: Challenge | None = Field(default=None, description="what a challenge asks, and what follows it")
    review: Review | None = Field(default=None, description="where a review waits, and what follows it")
    appeal: Appeal | None = Field(default=None, description="how to object to a verdict, and until when it is answered")
    actions: list[ActionClause] = Field(
        default=[], max_length=1000, description="what is to be done beside the verdict"
    )
    terms: list[TermsClause] = Field(
        default=[], max_length=100, description="what tiers drive beside scores: limits, deposits, samples, payouts"
    )
    breaker: BreakerClause | None = Field(default=None, description="holds back rules that decline too much")
    modes: dict[ModeName, Mode] = Field(
        default={}, max_length=32, description="mode → what it does here while somebody has switched it on"
    )
    invariants: list[Invariant] = Field(default=[], max_length=200, description="what is so of every event")
