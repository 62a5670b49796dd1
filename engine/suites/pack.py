"""The file of a suite, `NAME_test.yaml`: whole decisions that must come out as written. `docs/testing.md` is its page.

suite: checkout
about: What the shop promised its buyers.
for: transaction
at: 2026-11-20T10:00:00+08:00
fixtures:
  guest: {buyer.guest: true, ip_type: residential}
histories:
  tested: [{kind: payment, repeat: 4, event: {card.ref: a, amount: 5.00 CNY}}]
cases:
  - it: approves a small order
    event: [guest, {amount: 20.00 CNY}]
    expect: {verdict: approve, score: 0}
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.packs import FORMAT_MEANS, Form, Text, text
from engine.rules import Before

_NAME = Form("[a-z0-9]+([._-][a-z0-9]+)*", "write small letters, digits, '-', '_' and '.', such as checkout")
Name = Annotated[Text, _NAME]
Fields = dict[Text, Any]
"""Values of an event by their paths."""
Events = Text | Fields | list[Text | Fields]
"""A fixture by its name, fields, or several of them, of which later ones lie over earlier ones."""
History = Text | list[Text | Before]
"""A history by its name, or a list of earlier events and of histories by their names."""
Written = int | Text
"""A number, or the name of one in curly brackets."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Expected(_Model):
    """What must come out. What is not named may be anything; a list names what must be among what there is."""

    verdict: Text | None = Field(default=None, description="the verdict")
    score: Written | None = Field(default=None, description="the score, exactly")
    signals: list[Text] = Field(default=[], description="signals that hold, derived ones too")
    no_signals: list[Text] = Field(default=[], description="signals that do not hold")
    rules: list[Text] = Field(default=[], description="rules among the reasons")
    no_rules: list[Text] = Field(default=[], description="rules that are not among the reasons")
    actions: list[Text] = Field(default=[], description="what is to be done beside the verdict")
    no_actions: list[Text] = Field(default=[], description="what is not to be done")
    exempted: list[Text] = Field(default=[], description="exceptions that took a finding away")
    asks: Text | None = Field(default=None, description="what is asked of somebody: challenge, review or nothing")
    by: list[Text] = Field(default=[], description="the ways in which a challenge may be met")
    steps: list[Text] = Field(default=[], description="steps of the policy by their names: a rule, a tier, a clause")
    explanation: list[Text] = Field(default=[], description="pieces of the explanation, in any language")


class Case(_Model):
    """One event with its past, and what must come out. With `rows` or `matrix` it is one case for each of them."""

    it: Text = Field(max_length=200, description="what it shows, as a sentence; the judged event does it")
    kind: Text | None = Field(default=None, description="the kind of the judged event, when not the suite's")
    at: Text | None = Field(default=None, description="when it happens, when not at the suite's time")
    tier: Text = Field(default=text(""), description="the merchant's tier; the policy's default tier when absent")
    before: History = Field(default=[], description="what happened before")
    event: Events = Field(default={}, description="the event that is judged")
    degraded: list[Text] = Field(default=[], description="what does not work, such as features_unavailable")
    tripped: list[Text] = Field(default=[], description="rules whose breaker is open")
    review: Literal["open", "full"] = Field(default="open", description="whether the review queue takes more")
    modes: list[Text] = Field(default=[], description="modes that are switched on")
    exceptions: bool = Field(default=True, description="false: as if there were no exceptions")
    rows: list[dict[Name, Any]] = Field(default=[], max_length=500, description="values for {names}, a row a case")
    matrix: dict[Name, list[Any]] = Field(default={}, description="values for {names}, each with each")
    expect: Expected = Field(description="what must come out; what is not said may be as it likes")


class SuitePack(_Model):
    """A file of whole decisions that must come out as written."""

    format: Literal[1] = Field(default=1, description=FORMAT_MEANS)
    suite: Name = Field(max_length=80, description="its name")
    about: Text | None = Field(default=None, max_length=2000, description="what it holds")
    for_: Text = Field(alias="for", description="the kind of event where none is said")
    at: Text | None = Field(
        default=None, description="when judged events happen; Friday 20 November 2026, 10:00 +08:00"
    )
    fixtures: dict[Name, Fields] = Field(default={}, description="parts of events, by name")
    histories: dict[Name, list[Text | Before]] = Field(default={}, description="what happened before, by name")
    cases: list[Case] = Field(min_length=1, max_length=1000, description="what must come out")
