"""What happens after a verdict: a challenge is passed or not, a review ends, a payment is captured or blocked.

A resolution never changes the first entry. It is a new entry that points to it, with a new verdict where the policy
gives one. Everything here is values in, values out; `arbiter` reads and writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from engine.bodies import read_body
from engine.build import build
from engine.callers import By, Caller
from engine.decide import FORMAT, conclude, outcome_shown
from engine.errors import BodyRefused, Conflict, FieldProblem, with_article
from engine.policy import Policy, Resolution, resolve
from engine.rulebook import KindBook
from engine.verdict import Outcome, Step

SECOND = 1_000_000
CLEARED = ("passed", "approved")
"""The results that say nothing was wrong. What only ran out says nothing."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    person: str = Field(default="", max_length=120, description="Who decided, where a service reports it")


class ChallengeEnded(_Body):
    """The buyer was asked for proof, and this came of it."""

    what: Literal["challenge"]
    result: Literal["passed", "failed", "abandoned"]
    reason: str = Field(default="", max_length=2000)


class ReviewEnded(_Body):
    """A person looked at it and decided."""

    what: Literal["review"]
    result: Literal["approved", "rejected"]
    reason: str = Field(min_length=1, max_length=2000)


class Enforced(_Body):
    """What the checkout did in the end. `overridden` is a verdict set aside by hand, and needs its reason."""

    what: Literal["enforced"]
    result: Literal["captured", "blocked", "overridden"]
    reason: str = Field(default="", max_length=2000)


Report = Annotated[ChallengeEnded | ReviewEnded | Enforced, Field(discriminator="what")]
_REPORT: TypeAdapter[ChallengeEnded | ReviewEnded | Enforced] = TypeAdapter(Report)


@dataclass(frozen=True, slots=True)
class Case:
    """A decision and what came after it, in order: the records of the ledger."""

    first: Mapping[str, Any]
    later: tuple[Mapping[str, Any], ...] = ()

    @property
    def ruling(self) -> Mapping[str, Any]:
        """The record that holds the verdict as it stands."""
        return next((record for record in reversed(self.later) if record["verdict"] is not None), self.first)

    @property
    def verdict(self) -> str:
        """The verdict as it stands."""
        return str(self.ruling["verdict"])

    @property
    def measures(self) -> tuple[Mapping[str, Any], ...]:
        """What is done beside the verdict as it stands: each action of the records, unless it was lifted since."""
        standing: dict[str, Mapping[str, Any]] = {}
        for record in (self.first, *self.later):
            standing |= {action["do"]: action for action in record.get("actions", ())}
            for action in record.get("lifted", ()):
                standing.pop(action["do"], None)
        return tuple(standing.values())

    @property
    def due(self) -> int | None:
        """When what is asked must have ended, UTC microseconds; None when nothing is open."""
        return due_of(self.ruling)

    @property
    def newest(self) -> int:
        """When the last of it was recorded, UTC microseconds."""
        return max(int(record["decided_at"]) for record in (self.first, *self.later))

    def answered(self, what: str, result: str, by: By) -> Mapping[str, Any] | None:
        """The resolution that a report of `result` repeats: the newest of its sort, if the same one said the same.

        While the case waits for one of this sort, none is a repetition: it is asked for a second time.
        """
        if self.verdict == what:
            return None
        newest = next((record for record in reversed(self.later) if record["what"] == what), None)
        same = newest is not None and newest["said"] == result and newest["by"] == _by(by)
        return newest if same else None


def by_person(ruling: Mapping[str, Any]) -> bool:
    """Whether a person gave the verdict of this record. What merely ran out was nobody's judgement."""
    return ruling["type"] != "decision" and bool(ruling["by"]["person"]) and ruling["counted"] != "late"


class Stands(Protocol):
    """What holds of a decision at some moment: its verdict, and what is done beside it."""

    @property
    def verdict(self) -> str: ...

    @property
    def measures(self) -> tuple[Mapping[str, Any], ...]: ...


def is_against(case: Stands, policy: Policy) -> bool:
    """Whether what stands is against somebody: no mildest verdict, or something is done beside it."""
    return case.verdict != policy.verdicts[0] or bool(case.measures)


def last_against(case: Case, policy: Policy) -> tuple[Case, int | None] | None:
    """The case as it was when it was last against somebody, and when that ended (UTC µs; None: it still is). None where
    it never was."""
    for count in range(len(case.later), -1, -1):
        was = Case(case.first, case.later[:count])
        if is_against(was, policy):
            return was, None if count == len(case.later) else int(case.later[count]["decided_at"])
    return None


def due_of(record: Mapping[str, Any]) -> int | None:
    """When what this record asks for must have ended; None when it asks for nothing."""
    asks = record["asks"] or {}
    seconds = (
        asks["challenge"]["expires_s"] if "challenge" in asks else asks["review"]["due_s"] if "review" in asks else None
    )
    return None if seconds is None else record["decided_at"] + seconds * SECOND


def read_report(body: bytes, caller: Caller) -> tuple[ChallengeEnded | ReviewEnded | Enforced, By]:
    """The report in a body and who made it. Raises BodyRefused with every problem, never repeating what was sent."""
    report = read_body(_REPORT, body)
    by = caller.speaking_for(report.person)
    if (report.what == "review" or report.result == "overridden") and not by.person:
        what = "a person decides this: say who, or use the key of a person"
        raise BodyRefused([FieldProblem("person", "missing_field", what)])
    if report.result == "overridden" and not report.reason:
        raise BodyRefused([FieldProblem("reason", "missing_field", "setting a verdict aside needs a reason")])
    return report, by


def settle(
    id: str, kind: KindBook, case: Case, what: str, result: str, by: By, now: int, note: str | None = None
) -> dict[str, Any]:
    """The record of a resolution, with the verdict that follows from it by the policy the event was judged under.

    Where it clears somebody (the mildest verdict after a passed challenge or a review), the measures that the policy
    ends with that are `lifted`. A result that comes after its time counts as late. `note` is the commitment to a sealed
    remark. Raises Conflict when nothing of the kind is open.
    """
    policy = policy_of(kind)
    if what == "enforced":
        steps = _mismatch(policy, case.verdict, result)
        return sequel("resolution", id, case, what, (result, result), by, now, note, steps=steps)
    due = case.due
    counted: Any = "late" if due is not None and now > due else result
    asked: Any = what
    ruling = resolve(policy, case.verdict, Resolution(asked, counted))
    if ruling.verdict is None:
        outcome = conclude(kind, case.first, challenge_passed=True)
    else:
        outcome = Outcome(ruling.verdict, case.first["score"], (), (), (), policy.asks(ruling.verdict))
    steps = (ruling.step, *outcome.steps)
    lifted: tuple[Mapping[str, Any], ...] = ()
    if counted in CLEARED and outcome.verdict == policy.verdicts[0]:
        ending = policy.lifted_when_cleared
        lifted = tuple(measure for measure in case.measures if measure["do"] in ending)
        outcome = replace(outcome, actions=tuple(each for each in outcome.actions if each.do not in ending))
    record = sequel("resolution", id, case, what, (result, counted), by, now, note, outcome, steps)
    return record | ({"lifted": [dict(each) for each in lifted]} if lifted else {})


def policy_of(kind: KindBook) -> Policy:
    """The policy that judges this kind of event. Conflict where none does."""
    if kind.policy is None:
        raise Conflict(f"no policy judges {with_article(kind.kind)}")
    return kind.policy


def _by(by: By) -> dict[str, str]:
    return {"name": by.name, "kind": by.kind, "person": by.person}


def _mismatch(policy: Policy, verdict: str, result: str) -> tuple[Step, ...]:
    """What was done against the verdict, or before it was final, is a step of its own, so that an auditor finds it."""
    against = {"captured": policy.verdicts[-1], "blocked": policy.verdicts[0]}
    if against.get(result) == verdict:
        return (Step("enforced", "against the verdict", verdict, result),)
    if result == "captured" and verdict in ("challenge", "review"):
        return (Step("enforced", f"before the {verdict} ended", verdict, result),)
    return ()


def sequel(
    type_: str,
    id: str,
    case: Case,
    what: str,
    result: tuple[str, str],
    by: By,
    now: int,
    note: str | None = None,
    outcome: Outcome | None = None,
    steps: tuple[Step, ...] = (),
) -> dict[str, Any]:
    """The record of something that came after a decision. `result` is what was said and what it counted as; without an
    `outcome` it gives no verdict."""
    first = case.first
    said, counted = result
    # What is enforced gives no verdict of its own.
    shown = outcome_shown(replace(outcome or Outcome("", 0, (), (), ()), steps=steps))
    return {
        "format": FORMAT,
        "build": build(),
        "type": type_,
        "id": id,
        "tenant": first["tenant"],
        "refers_to": first["id"],
        "about": {"event_id": first["event"]["id"], "kind": first["event"]["kind"], "order": first["event"]["order"]},
        "decided_at": now,
        "what": what,
        "said": said,
        "counted": counted,
        "by": _by(by),
        "before": case.verdict,
        **shown,
        "verdict": outcome.verdict if outcome else None,
        "note": note,
    }
