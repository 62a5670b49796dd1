"""The file of a profile: what each part may hold. `engine.profiles` shows one; docs/merchants.md is its reference."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from engine.packs import FORMAT_MEANS, Form, Text
from engine.packs.bilingual import Bilingual
from engine.packs.durations import Duration
from engine.rules import Before, Kinds, Signal

_NAME = Form("[a-z0-9]+(-[a-z0-9]+)*", "write small letters, digits and '-', such as late-parcels")
_TIER = Form("[A-Za-z0-9][A-Za-z0-9_.-]*", "write letters, digits, '_', '.' and '-', such as watched")
_LIMIT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)(%?)", re.ASCII)
MOST_POINTS = 1000
"""Of one factor."""


def _limit(value: object) -> Decimal:
    found = _LIMIT.fullmatch(str(value)) if isinstance(value, str | int | Decimal) else None
    if found is None or isinstance(value, bool):
        raise ValueError("write a number or a share, such as 12, 0.5 or 3%")
    return Decimal(found[1]) / (100 if found[2] else 1)


Limit = Annotated[
    Decimal,
    BeforeValidator(_limit),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": f"^{_LIMIT.pattern}$"}]}),
]
"""A number from 0 on, or a share."""
Points = Annotated[int, Field(strict=True, ge=1, le=MOST_POINTS)]
Tier = Annotated[Text, _TIER]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ScaleText(_Model):
    """Points from a value on."""

    at_least: Limit = Field(alias="from", description="the value from which on these points hold: 12, 0.5, 3%")
    points: Points = Field(description="how many")


class FactorText(_Model):
    """One thing that counts: a condition with its points, or a value with a scale."""

    id: Annotated[Text, _NAME] = Field(max_length=64, description="its name")
    when: Text | None = Field(default=None, max_length=4000, description="a condition over windows of the subject")
    points: Points | None = Field(default=None, description="what the condition adds when it is true")
    value: Text | None = Field(default=None, max_length=4000, description="in the place of 'when': a number")
    scale: list[ScaleText] = Field(default=[], max_length=20, description="from which value on how many points")
    group: str = Field(default="", max_length=64, description="of one group only the highest points count")
    if_unknown: Literal["quiet", "counts"] = Field(
        default="quiet", description="what is unknown adds nothing, or all its points"
    )
    because: Bilingual = Field(description="why it counts, for whom it is about; {name} shows a `let` name")
    improve: Bilingual = Field(description="what they can do; without the limits that the profile has")


class TierText(_Model):
    """One tier."""

    tier: Tier = Field(max_length=64, description="its name, as policies have it")
    enter: Points | None = Field(default=None, description="points from which on it is entered; the best one has none")
    leave: Points | None = Field(default=None, description="points below which it is left; as 'enter' when absent")
    stay: Duration | None = Field(default=None, description="how long one stays, at least, before a better one")
    review: Duration = Field(description="after how long somebody in it is looked at again")


class MomentsText(_Model):
    """When somebody is assessed, beside the reviews that tiers have and whoever asks for it."""

    events: Kinds = Field(description="kinds of event after which the one they are about is assessed")
    wait: Duration = Field(description="not again so soon: events of that time are looked at together")


class ExpectText(_Model):
    """What an assessment must say."""

    tier: Text = Field(description="the tier afterwards")
    points: int | None = Field(default=None, ge=0, description="all points")
    factors: list[Text] = Field(default=[], description="factors that hold, among others")
    no_factors: list[Text] = Field(default=[], description="factors that do not")


class ProfileTest(_Model):
    """A history, where the subject stood, and what an assessment then says."""

    it: str = Field(max_length=200, description="what it shows, as a sentence")
    subject: Text = Field(max_length=64, description="who is assessed, as the events name them")
    before: list[Before] = Field(default=[], max_length=1000, description="what happened earlier, as in a rule's test")
    at: Text | None = Field(default=None, description="when; Friday 20 November 2026 at 10:00 in Shanghai if absent")
    tier: Text | None = Field(default=None, description="where they stood; nowhere yet when absent")
    stood: Duration | None = Field(default=None, description="how long they have stood there")
    expect: ExpectText = Field(description="what comes out")


class ProfilePack(_Model):
    """A profile, as written."""

    format: Literal[1] = Field(default=1, description=FORMAT_MEANS)
    profile: Annotated[Text, _NAME] = Field(max_length=64, description="its name; 'merchant' is what policies judge by")
    about: Text = Field(min_length=1, max_length=2000, description="whom it is about, and what for")
    owner: Text = Field(min_length=1, max_length=120, description="who answers for it")
    subject: Text = Field(max_length=128, description="the field of events that names them: merchant.id")
    moments: MomentsText | None = Field(default=None, description="after which events they are assessed")
    let: dict[Signal, Text] = Field(default={}, description="name → value, for factors and their messages")
    factors: list[FactorText] = Field(min_length=1, max_length=200, description="what counts")
    start: Tier = Field(description="the tier of whom nothing is known")
    tiers: list[TierText] = Field(min_length=2, max_length=16, description="all tiers, the best first")
    tests: list[ProfileTest] = Field(default=[], max_length=200, description="what it must say, by example")
