"""What a tier drives beside its scores: limits, deposits, samples for review, later payouts.

    terms:
      - tier: [watched]
        deposit: 50000.00 CNY
        payout_delay: 14d
        sample: 10%
        limits:
          - {id: large-order, if: amount in CNY > 20000 CNY, do: hold_order}
      - {profile: anchor, tier: [watched], sample: 20%}

None of it changes a verdict: a decision carries the values (`terms`), whether it falls into the sample, and actions for
what is over a limit. All follow from the tiers, the answers to the limits, and the event's id, which the record has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from engine.money import Money
from engine.packs import Text
from engine.packs.bilingual import Bilingual
from engine.packs.durations import MICROSECONDS, Duration
from engine.packs.shares import Share
from engine.rollout import BUCKETS, bucket
from engine.verdict import Action

MERCHANT = "merchant"
"""The profile whose tier is the one that policies judge by."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]


def _money(value: object) -> Money:
    found = Money.parse(value) if isinstance(value, str) else None
    if found is None or found.minor < 0:
        raise ValueError("write an amount and a currency, such as 50000.00 CNY")
    return found


Amount = Annotated[
    Money, BeforeValidator(_money), WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? [A-Z]{3}$"})
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class LimitClause(_Model):
    """Something to be done with an event that goes beyond what the tier may."""

    id: Name = Field(description="its name, unique within the policy")
    for_: list[Name] = Field(default=[], alias="for", description="kinds of event that it is about; all when absent")
    if_: Text = Field(alias="if", max_length=4000, description="a condition on the event and on windows, as in a rule")
    do: Name = Field(description="what is to be done while it is true")
    because: Bilingual | None = Field(default=None, description="why, in words for the person")


class TermsClause(_Model):
    """What holds for some tiers of a profile."""

    profile: Name = Field(default=MERCHANT, description="whose tier: merchant when absent, or another profile")
    tier: list[Name] = Field(min_length=1, max_length=16, description="the tiers for which this holds")
    about: Text | None = Field(default=None, description="what it is for")
    deposit: Amount | None = Field(default=None, description="what has to be paid to the platform: 50000.00 CNY")
    payout_delay: Duration | None = Field(default=None, description="how long payouts wait after delivery")
    sample: Share | None = Field(default=None, description="the share of events that somebody looks at all the same")
    limits: list[LimitClause] = Field(default=[], max_length=50, description="what is beyond this tier")


class Held(NamedTuple):
    """The terms of one profile that hold for an event, and what they ask to be done."""

    values: Mapping[str, Any]
    actions: Sequence[Action]


class Terms:
    """The terms of one policy, by profile and tier."""

    def __init__(self, clauses: Sequence[TermsClause], policy: str) -> None:
        self._policy = policy
        self._by: dict[tuple[str, str], TermsClause] = {
            (clause.profile, tier): clause for clause in clauses for tier in clause.tier
        }
        self.profiles = tuple(dict.fromkeys(clause.profile for clause in clauses if clause.profile != MERCHANT))
        """Those whose tiers a decision has to know, beside the merchant's."""

    def of(self, tiers: Mapping[str, str]) -> Iterator[TermsClause]:
        """The clauses that hold for these tiers, by profile."""
        found = (self._by.get((profile, tier)) for profile, tier in tiers.items())
        return (clause for clause in found if clause is not None)

    def held(self, tiers: Mapping[str, str], event: str, test: Callable[[str], bool | None]) -> dict[str, Held]:
        """What holds for an event with this id: profile → its terms. `test` answers for limits, by `limit_name`."""
        return {clause.profile: self._held(clause, tiers[clause.profile], event, test) for clause in self.of(tiers)}

    def _held(self, clause: TermsClause, tier: str, event: str, test: Callable[[str], bool | None]) -> Held:
        over = [limit for limit in clause.limits if test(limit_name(limit.id)) is True]
        actions = [Action(limit.do) for limit in over]
        values: dict[str, Any] = {"tier": tier}
        if clause.deposit is not None:
            values["deposit"] = f"{clause.deposit.amount} {clause.deposit.currency}"
        if clause.payout_delay is not None:
            values["payout_delay_s"] = clause.payout_delay // MICROSECONDS
        if clause.sample is not None:
            drawn = bucket(f"sample {self._policy} {clause.profile}", event) < clause.sample * BUCKETS
            values["sampled"] = drawn
        if clause.limits:
            told = [{"id": limit.id, "because": limit.because.plain if limit.because else None} for limit in over]
            values["over"] = told
        return Held(values, actions)


def limit_name(limit: str) -> str:
    """The name under which a record has the answer to a limit."""
    return f"limit {limit}"
