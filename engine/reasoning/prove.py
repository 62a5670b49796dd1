"""Invariants of policies: shown for every event and every combination of findings, or broken by a case.

    for proof in prove(rulebook): print(proof.id, proof.status)

It goes in two steps, for each kind of event that the policy judges. First anything may be found: every rule may fire
or not, whatever the others do. If the invariant holds even so, it does not rest on the rules at all. If not, each rule
fires where its condition is true, and windows hold whatever some history gives them. What breaks it then is played by
the real rules and the real policy, and only if these break it too is the invariant refuted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from engine.policy import Policy, Promise
from engine.policy.pack import InvariantTest
from engine.reasoning.case import Case
from engine.reasoning.solver import Model, Questions
from engine.reasoning.terms import Term
from engine.reasoning.written import case_text
from engine.rulebook import Rulebook

Status = Literal["proven", "refuted", "undecided"]
WORK = 30_000_000
"""How much one question may cost; ten times as much as one about a rule."""
BY_ITSELF, BY_CONDITIONS = "whatever is found", "by the conditions of the rules"
"""What a proof rests on."""
TRIES = 8
"""Models that are looked at before the answer is that none could be confirmed."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of an invariant. `why` says what a proof rests on or what stands in the way of one; `case`, in YAML, is
    a case that fails when it is put under the `tests` of the invariant."""

    policy: str
    id: str
    status: Status
    promise: Promise
    why: str = ""
    case: str = ""


def prove(rulebook: Rulebook, only: Sequence[str] | None = None) -> Iterator[Proof]:
    """What can be shown of every invariant of every policy, in order; `only` names policies, without it of all."""
    for name, promises in rulebook.promises.items():
        for promise in promises if only is None or name in only else ():
            yield _proof(rulebook, rulebook.policies[name], promise)


def _proof(rulebook: Rulebook, policy: Policy, promise: Promise) -> Proof:
    """The answer for all kinds of event together: one that breaks it is enough, else each must be shown."""
    found: list[Proof] = []
    for kind in policy.pack.for_:
        found.append(_of_kind(rulebook, policy, promise, kind))
        if found[-1].status == "refuted":
            return found[-1]
    return max(found, key=lambda each: (each.status == "undecided", each.why == BY_CONDITIONS))


def _of_kind(rulebook: Rulebook, policy: Policy, promise: Promise, kind: str) -> Proof:
    free = Case(rulebook, policy, promise, rulebook.kinds[kind], bound=False)
    questions = Questions(WORK)
    with questions.given(list(free.facts())):
        if questions.ask(free.broken).impossible:
            return Proof(policy.name, promise.id, "proven", promise, BY_ITSELF)
    bound = Case(rulebook, policy, promise, rulebook.kinds[kind], bound=True)
    questions = Questions(WORK)
    with questions.given(list(bound.facts())):
        answer = questions.nicest([bound.broken], bound.wishes())
        if answer.impossible:
            return Proof(policy.name, promise.id, "proven", promise, BY_CONDITIONS)
        if answer.undecided:
            why = f"for {kind} events the solver found no answer within its limit of work"
            return Proof(policy.name, promise.id, "undecided", promise, why)
        return _confirmed(bound, questions, answer.model)


def _confirmed(case: Case, questions: Questions, model: Model) -> Proof:
    """The first model that the real rules and policy confirm, rather one that can be played with its whole history."""
    first = model
    ruled_out: list[Term] = []
    in_part: InvariantTest | None = None
    for _ in range(TRIES):
        whole, part = case.confirmed(model)
        in_part = in_part or part
        if whole is not None:
            return Proof(case.policy.name, case.promise.id, "refuted", case.promise, "", case_text(whole))
        ruled_out.append(case.otherwise(model))
        answer = questions.nicest([case.broken, *ruled_out], case.wishes())
        if not answer.possible:
            break
        model = answer.model
    if in_part is not None:
        return Proof(case.policy.name, case.promise.id, "refuted", case.promise, "", case_text(in_part))
    why = (
        f"the solver finds {case.kind.kind} events that would break it, but none of them could be played: "
        f"it takes more for possible of {case.misjudged(first)} than there is"
    )
    return Proof(case.policy.name, case.promise.id, "undecided", case.promise, why)
