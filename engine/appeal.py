"""An appeal against a verdict: its states, its times, who may take which step, and the record of each.

    open → in_review → upheld | partly | lifted
            ↕ more_asked → expired              withdrawn at any time before

Each step is a record that points to the decision and holds the state after it. The times were promised when the appeal
was opened: they stand in its first record, and a later policy does not shorten them. Everything here is values in,
values out; `hearings` reads and writes.

Anti-Telecom-Fraud Law Art. 32 ¶3 (an appeal is checked in time, what was wrong is lifted at once), PIPL Art. 24 ¶3 and
GDPR Art. 22(3) (a person on request), DSA Art. 20 (not by a program alone, with reasons).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from engine.bodies import read_body
from engine.callers import By, Caller
from engine.cases import Case, by_person, is_against, sequel
from engine.errors import BodyRefused, Conflict, FieldProblem, SecondPerson
from engine.lists import same_person
from engine.packs.durations import MICROSECONDS
from engine.policy import Policy, PolicyPack
from engine.schema import identifying, identifying_problem
from engine.verdict import Outcome, Step

APPEAL = "appeal"
"""The type of the records."""

Kind: TypeAlias = Literal["appeal", "human_review"]
State: TypeAlias = Literal["open", "in_review", "more_asked", "upheld", "partly", "lifted", "withdrawn", "expired"]
WAITING: tuple[State, ...] = ("open", "in_review", "more_asked")
STATES: tuple[State, ...] = get_args(State)

TEXT = 4000
"""Characters of a reason at most."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    person: str = Field(default="", max_length=120, description="Who did it, where a service reports it")


class NewAppeal(_Body):
    """Whoever the verdict is against objects, or asks that a person looks at it."""

    kind: Kind = Field(description="appeal: it is wrong; human_review: a person shall look at it")
    ref: str = Field(min_length=1, max_length=64, description="Your own id of it: a repetition gets the first answer")
    reason: str = Field(min_length=1, max_length=TEXT, description="What the person says; it is sealed")


class Taken(_Body):
    """A person takes it up."""

    what: Literal["take"]


class MoreAsked(_Body):
    """Something is missing: what, in words for the person."""

    what: Literal["ask"]
    en: str = Field(min_length=1, max_length=TEXT, description="What is asked for, in English")
    zh: str = Field(min_length=1, max_length=TEXT, description="What is asked for, in Chinese")


class Added(_Body):
    """The person says more, or sends what was asked for."""

    what: Literal["add"]
    ref: str = Field(min_length=1, max_length=64, description="Your own id of it: a repetition gets the first answer")
    reason: str = Field(min_length=1, max_length=TEXT, description="What the person says; it is sealed")


class Withdrawn(_Body):
    """The person takes it back."""

    what: Literal["withdraw"]


class AppealDecided(_Body):
    """A person who had no part in the verdict decides, and says why."""

    what: Literal["decide"]
    result: Literal["upheld", "partly", "lifted"]
    en: str = Field(min_length=1, max_length=TEXT, description="Why, in English")
    zh: str = Field(min_length=1, max_length=TEXT, description="Why, in Chinese")
    verdict: str = Field(default="", max_length=64, description="Of partly: the milder verdict, where it changes")
    lift: str = Field(default="", max_length=1000, description="Of partly: the measures that end, with blanks between")


AnyStep: TypeAlias = Taken | MoreAsked | Added | Withdrawn | AppealDecided
_STEP: TypeAdapter[Any] = TypeAdapter(Annotated[AnyStep, Field(discriminator="what")])
_NEW: TypeAdapter[NewAppeal] = TypeAdapter(NewAppeal)


@dataclass(frozen=True, slots=True)
class Terms:
    """What was promised when it was opened. Times in seconds; `lifted` is the verdict after a lifting."""

    acknowledge_s: int
    answer_s: int
    more_s: int
    lifted: str
    if_late: str
    counts_as: str | None

    @classmethod
    def of(cls, pack: PolicyPack, policy: Policy) -> Terms:
        """Those of a policy's part `appeal`, for a decision by `policy`, of which it may be a later version."""
        part = pack.appeal
        assert part is not None, "without a part 'appeal' nothing is promised"
        lifted = part.lifted if part.lifted in policy.verdicts else policy.verdicts[0]
        acknowledge, answer, more = (each // MICROSECONDS for each in (part.acknowledge, part.answer, part.more))
        return cls(acknowledge, answer, more, lifted, part.if_late, part.counts_as)


@dataclass(frozen=True, slots=True)
class Appeal:
    """How far an appeal is. Times are UTC microseconds; `more_by` is None while nothing is waited for.

    `id` is that of its first record, `ref` the caller's own. `overdue` is not kept: it depends on when it is asked.
    """

    id: str
    ref: str
    kind: Kind
    state: State
    opened_at: int
    acknowledge_by: int
    answer_by: int
    asked_at: int | None
    more_by: int | None
    reviewer: str
    if_late: str

    @property
    def waits(self) -> bool:
        """Whether somebody still has to do something."""
        return self.state in WAITING

    def overdue(self, now: int) -> bool:
        """Whether it was neither taken up nor answered in time. While more is waited for, nobody is late."""
        by = {"open": min(self.acknowledge_by, self.answer_by), "in_review": self.answer_by}.get(self.state)
        return by is not None and by < now

    def ends(self, now: int) -> Literal["expired", "lifted"] | None:
        """How it ends by itself by now, if it does."""
        if self.state == "more_asked" and self.more_by is not None and self.more_by < now:
            return "expired"
        if self.state in ("open", "in_review") and self.answer_by < now and self.if_late == "lift":
            return "lifted"
        return None


def appeal_of(record: Mapping[str, Any]) -> Appeal:
    """How far an appeal was after this record of it."""
    return Appeal(**record[APPEAL])


def appeals_in(case: Case) -> tuple[Appeal, ...]:
    """The appeals of a case as they stand, oldest first."""
    newest = {record[APPEAL]["id"]: record for record in case.later if record["type"] == APPEAL}
    return tuple(map(appeal_of, newest.values()))


def steps_of(case: Case, id: str) -> list[Mapping[str, Any]]:
    """The records of one appeal, in order."""
    return [record for record in case.later if record["type"] == APPEAL and record[APPEAL]["id"] == id]


def read_new(body: bytes, caller: Caller) -> tuple[NewAppeal, By]:
    """The appeal in a body and who brings it. Raises BodyRefused with every problem."""
    new = read_body(_NEW, body)
    _plain(new.ref)
    return new, caller.speaking_for(new.person)


def read_step(body: bytes, caller: Caller) -> tuple[AnyStep, By]:
    """The step in a body and who takes it.

    Raises BodyRefused with every problem; SecondPerson where a person has to take it: with a service's key nobody can
    check that it is another one than who gave the verdict.
    """
    step: AnyStep = read_body(_STEP, body)
    if isinstance(step, Added):
        _plain(step.ref)
    if isinstance(step, Taken | MoreAsked | AppealDecided) and caller.kind != "person":
        raise SecondPerson("a person looks at an appeal: use the key of a person")
    if isinstance(step, AppealDecided) and step.result != "partly" and (step.verdict or step.lift):
        what = "a verdict and measures are chosen with partly alone"
        raise BodyRefused([FieldProblem("verdict" if step.verdict else "lift", "out_of_range", what)])
    return step, caller.speaking_for(step.person)


def _plain(ref: str) -> None:
    kind = identifying(ref)
    if kind:
        raise BodyRefused([identifying_problem("ref", kind)])


# What may be opened


def known_opening(case: Case, ref: str) -> Mapping[str, Any] | None:
    """The record by which an appeal with this `ref` was opened, if one was."""
    opened = (record for record in case.later if record["type"] == APPEAL and record["said"] == "opened")
    return next((record for record in opened if record[APPEAL]["ref"] == ref), None)


def refuse_opening(case: Case, policy: Policy, within: int, kind: Kind, now: int) -> None:
    """Raises Conflict unless this appeal can be opened now; `within` is in µs from the verdict or its notice."""
    if not is_against(case, policy):
        raise Conflict("nothing is held against anybody here: the verdict is the mildest one, without measures")
    waiting = [each for each in appeals_in(case) if each.waits]
    if waiting:
        raise Conflict(f"an appeal is {waiting[0].state} already: add to it")
    if kind == "human_review" and by_person(case.ruling):
        raise Conflict("a person gave this verdict: object with an appeal")
    answered = {each.id for each in appeals_in(case) if each.kind == kind and each.state in ("upheld", "partly")}
    records = [case.first, *case.later]
    if any(record["id"] in answered for record in records[records.index(case.ruling) :]):
        raise Conflict("this was answered: whoever is not content turns to an authority or a court")
    if now > last_told(case) + within:
        raise Conflict("the time in which an appeal can be opened is over")


def last_told(case: Case) -> int:
    """When the verdict that stands was given or, if later, when the person was told of it, UTC microseconds."""
    ruling = case.ruling
    sent = [
        int(record["notice"]["at"]) for record in case.later if (record.get("notice") or {}).get("of") == ruling["id"]
    ]
    return max([int(ruling["decided_at"]), *sent])


def refuse_same_person(case: Case, by: By) -> None:
    """Raises SecondPerson when whoever decides had a part in what is appealed."""
    judged = ("approved", "rejected", "overridden", "upheld", "partly", "lifted")
    if any(record["said"] in judged and same_person(record["by"]["person"], by.person) for record in case.later):
        raise SecondPerson("who had a part in the verdict does not decide on the appeal against it")


# The records


def opened(id: str, case: Case, new: NewAppeal, terms: Terms, by: By, now: int, note: str) -> dict[str, Any]:
    """The record by which an appeal begins."""
    acknowledge, answer = (now + seconds * MICROSECONDS for seconds in (terms.acknowledge_s, terms.answer_s))
    state = Appeal(
        id, new.ref, new.kind, "open", now, acknowledge, answer, None, None, reviewer="", if_late=terms.if_late
    )
    return _record(id, case, state, ("opened", "opened"), by, now, note) | {"terms": asdict(terms)}


def moved(
    id: str, case: Case, appeal: Appeal, terms: Terms, step: AnyStep, by: By, now: int, note: str | None
) -> dict[str, Any]:
    """The record of a step that does not end an appeal by a decision. Raises Conflict when it cannot be taken now."""
    _refuse_ended(appeal)
    if isinstance(step, Taken):
        refuse_same_person(case, by)
        after = replace(appeal, state="in_review", reviewer=by.person)
        return _record(id, case, _answering(after, appeal, now), ("taken", "taken"), by, now, note)
    if isinstance(step, MoreAsked):
        refuse_same_person(case, by)
        by_then, since = now + terms.more_s * MICROSECONDS, appeal.asked_at or now
        after = replace(appeal, state="more_asked", asked_at=since, more_by=by_then, reviewer=by.person)
        return _record(id, case, after, ("more_asked", "more_asked"), by, now, note)
    if isinstance(step, Added):
        after = replace(appeal, state="in_review" if appeal.state == "more_asked" else appeal.state)
        record = _record(id, case, _answering(after, appeal, now), ("added", "added"), by, now, note)
        return record | {"added": step.ref}
    assert isinstance(step, Withdrawn), "a decision is a record of its own"
    return _record(id, case, replace(appeal, state="withdrawn"), ("withdrawn", "withdrawn"), by, now, note)


def decided(
    id: str,
    case: Case,
    appeal: Appeal,
    terms: Terms,
    policy: Policy,
    step: AppealDecided,
    by: By,
    now: int,
    note: str,
    still: Mapping[str, Any],
) -> dict[str, Any]:
    """The record by which a person ends an appeal. A lifting is one record: the verdict after it, and the measures that
    end with it. `still` is what may hit the next event alike, and only people can undo.

    Raises Conflict when it has ended; BodyRefused for a part that cannot be lifted; SecondPerson as
    `refuse_same_person` does.
    """
    _refuse_ended(appeal)
    refuse_same_person(case, by)
    verdict, measures = _lifted(case, policy, terms, step)
    after = replace(appeal, state=step.result, reviewer=by.person)
    return _ended(id, case, after, (step.result, step.result), by, now, note, policy, verdict, measures, still)


def ended_late(
    id: str, case: Case, appeal: Appeal, terms: Terms, policy: Policy, now: int, still: Mapping[str, Any]
) -> dict[str, Any]:
    """The record by which an appeal ends by itself: nothing came, or nobody answered and the policy then lifts."""
    end = appeal.ends(now)
    assert end is not None, "who ends it looked whether it is over"
    by, after = By("arbiter", "service"), replace(appeal, state=end)
    if end == "expired":
        return _record(id, case, after, ("expired", "late"), by, now, None)
    return _ended(id, case, after, ("lifted", "late"), by, now, None, policy, terms.lifted, tuple(case.measures), still)


def _refuse_ended(appeal: Appeal) -> None:
    if not appeal.waits:
        raise Conflict(f"this appeal has ended: {appeal.state}")


def _answering(after: Appeal, before: Appeal, now: int) -> Appeal:
    """The appeal where nothing is waited for any more: the time of waiting is added to that of the answer."""
    waited = 0 if before.asked_at is None else now - before.asked_at
    return replace(after, asked_at=None, more_by=None, answer_by=before.answer_by + waited)


def _lifted(
    case: Case, policy: Policy, terms: Terms, step: AppealDecided
) -> tuple[str | None, tuple[Mapping[str, Any], ...]]:
    """The verdict after a decision, None where it stays, and the measures that end."""
    if step.result == "upheld":
        return None, ()
    if step.result == "lifted":
        return terms.lifted, case.measures
    problems = list(_not_in_part(case, policy, step))
    if problems:
        raise BodyRefused(problems)
    named = step.lift.split()
    return step.verdict or None, tuple(each for each in case.measures if each["do"] in named)


def _not_in_part(case: Case, policy: Policy, step: AppealDecided) -> Iterator[FieldProblem]:
    held = [each["do"] for each in case.measures]
    milder = policy.verdicts[: policy.verdicts.index(case.verdict)]
    if not (step.verdict or step.lift):
        yield FieldProblem("verdict", "missing_field", "say a milder verdict, measures to lift, or both")
    if step.verdict and step.verdict not in milder:
        yield FieldProblem("verdict", "not_a_choice", "must be milder than the one that stands", ", ".join(milder))
    if set(step.lift.split()) - set(held):
        what = "names a measure that does not hold"
        yield FieldProblem("lift", "not_a_choice", what, "those that hold: " + (", ".join(held) or "none"))


def _ended(
    id: str,
    case: Case,
    appeal: Appeal,
    result: tuple[str, str],
    by: By,
    now: int,
    note: str | None,
    policy: Policy,
    verdict: str | None,
    measures: tuple[Mapping[str, Any], ...],
    still: Mapping[str, Any],
) -> dict[str, Any]:
    outcome, steps = None, tuple[Step, ...]()
    if verdict is not None:
        outcome = Outcome(verdict, case.first["score"], (), (), (), policy.asks(verdict))
        steps = (Step(appeal.kind, result[0], case.verdict, verdict),)
    record = _record(id, case, appeal, result, by, now, note, outcome, steps)
    return record | {"lifted": [dict(each) for each in measures], "still": dict(still)}


def _record(
    id: str,
    case: Case,
    appeal: Appeal,
    result: tuple[str, str],
    by: By,
    now: int,
    note: str | None,
    outcome: Outcome | None = None,
    steps: tuple[Step, ...] = (),
) -> dict[str, Any]:
    made = sequel(APPEAL, id, case, appeal.kind, result, by, now, note, outcome, steps)
    return made | {APPEAL: asdict(appeal)}
