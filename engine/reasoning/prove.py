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
from typing import Any, Literal

import z3

from engine.decide import notice
from engine.detectors import ANOMALY
from engine.errors import EventRefused
from engine.expr import Env, Window, interpret
from engine.expr.nodes import walk
from engine.invariants import Played, play
from engine.policy import Policy, Promise
from engine.policy.invariants import ANY
from engine.policy.pack import InvariantTest
from engine.reasoning.encode import Encoding, Ground
from engine.reasoning.judgement import Circumstances, Find, Judgement, Verdict
from engine.reasoning.solver import Model, Questions
from engine.reasoning.terms import NO, YES, Term, Value, both, either, opposite
from engine.reasoning.witness import Witness, ground_of, wishes
from engine.reasoning.written import case_text, length
from engine.rulebook import DEGRADED, OWN_SIGNALS, KindBook, Rulebook
from engine.rules import Rule
from engine.trial import CLOCK, Misplaced

Status = Literal["proven", "refuted", "undecided"]
WORK = 30_000_000
"""How much one question may cost; ten times as much as one about a rule."""
BESIDE = ("verdict", "score", "tier")
"""Names that are no fields of an event, whatever fields there are."""
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


def prove(rulebook: Rulebook, only: Sequence[str] = ()) -> Iterator[Proof]:
    """What can be shown of every invariant of every policy, in order. `only` names policies."""
    for name, promises in rulebook.promises.items():
        for promise in promises if not only or name in only else ():
            yield _proof(rulebook, rulebook.policies[name], promise)


def _proof(rulebook: Rulebook, policy: Policy, promise: Promise) -> Proof:
    """The answer for all kinds of event together: one that breaks it is enough, else each must be shown."""
    found = [_of_kind(rulebook, policy, promise, kind) for kind in policy.pack.for_]
    for status in ("refuted", "undecided"):
        for each in found:
            if each.status == status:
                return each
    rests = [each.why for each in found if each.why]
    return rests_on(policy, promise, bool(rests))


def rests_on(policy: Policy, promise: Promise, conditions: bool) -> Proof:
    """A proof, and whether it needs the conditions of the rules."""
    why = "by the conditions of the rules" if conditions else "whatever is found"
    return Proof(policy.name, promise.id, "proven", promise, why)


def _of_kind(rulebook: Rulebook, policy: Policy, promise: Promise, kind: str) -> Proof:
    free = _Case(rulebook, policy, promise, rulebook.kinds[kind], bound=False)
    questions = Questions(WORK)
    with questions.given(list(free.facts())):
        if questions.ask(free.broken).impossible:
            return Proof(policy.name, promise.id, "proven", promise)
    bound = _Case(rulebook, policy, promise, rulebook.kinds[kind], bound=True)
    questions = Questions(WORK)
    with questions.given(list(bound.facts())):
        answer = questions.nicest([bound.broken], bound.wishes())
        if answer.impossible:
            return Proof(policy.name, promise.id, "proven", promise, "by conditions")
        if answer.undecided:
            why = f"for {kind} events the solver found no answer within its limit of work"
            return Proof(policy.name, promise.id, "undecided", promise, why)
        return _confirmed(bound, questions, answer.model)


def _confirmed(case: _Case, questions: Questions, model: Model) -> Proof:
    """The first model that the real rules and policy confirm."""
    ruled_out: list[Term] = []
    for _ in range(TRIES):
        shown = case.confirmed(model)
        if shown is not None:
            return Proof(case.policy.name, case.promise.id, "refuted", case.promise, "", shown)
        ruled_out.append(case.otherwise(model))
        answer = questions.ask(case.broken, *ruled_out)
        if not answer.possible:
            break
        model = answer.model
    why = f"the solver finds {case.kind.kind} events that would break it, but none of them could be played: "
    why += f"it does not know {case.inexact()} well enough"
    return Proof(case.policy.name, case.promise.id, "undecided", case.promise, why)


class _Case:
    """One invariant and one kind of event. `bound`: rules fire where their conditions are true, else as they like."""

    def __init__(self, rulebook: Rulebook, policy: Policy, promise: Promise, kind: KindBook, *, bound: bool) -> None:
        self.rulebook = rulebook
        self.policy = policy
        self.promise = promise
        self.kind = kind
        self._rules = [rule for rule in kind.rules if rule.mode == "live"]
        self.encoding = Encoding(self._ground())
        self._more: list[Term] = []
        self.finds = [find for rule in self._rules for find in self._of_rule(rule, bound=bound)]
        self.circumstances = self._circumstances()
        self._own = [Find(notice(signal), self._raised(signal)) for signal in sorted(OWN_SIGNALS)]
        found = [*self.finds, *self._own]
        judgement = Judgement(policy, self.circumstances)
        self.verdict = judgement.judge(found)
        self._name(self.verdict, judgement, found)
        self.broken = self._broken()

    def facts(self) -> Iterator[Term]:
        """What is so of every event and its judgement."""
        yield from self.encoding.facts()
        yield from self._more

    def wishes(self) -> Iterator[Term]:
        """What makes a case that people read easily: nothing amiss, few findings, then plain values."""
        so = self.circumstances
        yield from map(opposite, (so.passed, so.queue_full, so.odd, *so.causes.values()))
        yield opposite(either(*so.tripped.values()))
        yield from (opposite(find.term) for find in self._own if find.finding.signal not in so.causes)
        yield so.tier == list(self.policy.pack.tiers).index(self.policy.pack.default_tier)
        yield from (opposite(find.term) for find in self.finds)
        yield from wishes(self.encoding)

    def _ground(self) -> Ground:
        """The event, and the names beside it, whose values are given later."""
        ground = ground_of(self.rulebook, (self.kind.kind,))
        return Ground({**ground.fields}, ground.required, ground.kinds)

    # What is found

    def _of_rule(self, rule: Rule, *, bound: bool) -> Iterator[Find]:
        """What a rule may find: that its condition is true, and that it is unknown where it says so."""
        fires, unsure = z3.Bool(f"{rule.id} counts"), z3.Bool(f"{rule.id} is unknown")
        self._more.append(z3.Not(z3.And(fires, unsure)))
        if bound:
            value = self.encoding.value(rule.condition.tree)
            partly = self._counts_in_part(rule)
            self._more.append(z3.Implies(fires, value.true) if partly else fires == value.true)
            self._more.append(z3.Implies(unsure, z3.Not(value.known)) if partly else unsure == opposite(value.known))
        yield Find(rule.finding, fires)
        otherwise = rule.when_unknown()
        if otherwise is not None:
            yield Find(otherwise, unsure)

    def _counts_in_part(self, rule: Rule) -> bool:
        """Whether the rule may fire and not count: it is rolled out to a share of all keys, or has an exception."""
        return rule.rollout is not None or any(each.covers(rule.finding) for each in self.rulebook.exemptions.items)

    def _circumstances(self) -> Circumstances:
        pack = self.policy.pack
        tier = z3.Int("the tier")
        self._more.append(z3.And(tier >= 0, tier < len(pack.tiers)))
        tests = {cause: self.encoding.value(each.tree).true for cause, each in self.kind.degraded_ifs.items()}
        review = pack.review is not None and pack.review.overflow is not None
        return Circumstances(
            tier=tier,
            causes={cause: z3.Bool(f"{cause} holds") for cause in DEGRADED},
            tests=tests,
            odd=self._odd(),
            tripped={rule.id: z3.Bool(f"{rule.id} is held back") for rule in self._rules} if pack.breaker else {},
            queue_full=z3.Bool("the queue is full") if review else NO,
            passed=z3.Bool("the challenge is passed") if pack.challenge else NO,
        )

    def _odd(self) -> Term:
        """Whether the anomaly reaches the mark: as the rules see it, where they can."""
        mark = self.policy.pack.score.anomaly
        if mark is None:
            return NO
        if self.encoding.event.field(ANOMALY) is None:
            return z3.Bool("the anomaly counts")
        value = self.encoding.event.of(ANOMALY)
        return both(value.known, value.value >= z3.RealVal(str(mark.at)))

    def _raised(self, signal: str) -> Term:
        """Whether Arbiter itself raises a signal: a cause is always told of."""
        cause = self.circumstances.causes.get(signal)
        return cause if cause is not None else z3.Bool(f"{signal} is raised")

    # The invariant

    def _name(self, verdict: Verdict, judgement: Judgement, found: Sequence[Find]) -> None:
        """Give the names beside the event their terms."""
        so, full = self.circumstances, verdict.full
        tier: Term = z3.IntVal(-1)
        for place, name in enumerate(self.policy.pack.tiers):
            tier = z3.If(so.tier == place, self.encoding.texts.number(name), tier)
        back = either(
            *(both(each.term, so.tripped[each.finding.rule]) for each in found if each.finding.rule in so.tripped)
        )
        terms: dict[str, Any] = {
            **{signal: terms[0] for signal, terms in full.held.items()},
            **{name: either(*(terms[rank] for terms in full.held.values())) for name, rank in ANY.items()},
            **{f"action.{name}": term for name, term in judgement.acts(verdict.final.held).items()},
            "verdict": verdict.rank,
            "score": full.score,
            "tier": tier,
            "merchant.tier": tier,
            "hard": either(*(each.term for each in found if each.finding.hard)),
            "queue_full": so.queue_full,
            "held_back": back,
            "challenge_passed": so.passed,
        }
        event = self.rulebook.schema.fields(self.kind.kind)
        for path in self.promise.paths:
            if path not in event or path in BESIDE:
                self.encoding.event.values[path] = Value(YES, terms.get(path, NO))

    def _broken(self) -> Term:
        claim = self.encoding.value(self.promise.claim.tree)
        when = YES if self.promise.when is None else self.encoding.value(self.promise.when.tree).true
        return both(when, opposite(claim.true) if self.promise.always else claim.true)

    # What breaks it

    def confirmed(self, model: Model) -> str | None:
        """The model as a case in YAML, if the real rules and policy break the invariant at it."""
        witness = Witness(self.rulebook, self.encoding, self.kind.kind, model)
        case = self._case(witness)
        shown = self._played_whole(witness, case) or self._played_found(witness, case)
        return case_text(shown) if shown is not None else None

    def otherwise(self, model: Model) -> Term:
        """That something else is found, or in other circumstances."""
        terms = [find.term for find in (*self.finds, *self._own)]
        return z3.Or([term != model.eval(term, model_completion=True) for term in terms])

    def inexact(self) -> str:
        """The parts of conditions that the solver knows too little about."""
        parts = [part for rule in self._rules for part in walk(rule.condition.tree) if part.type.name == "bool"]
        doubtful = dict.fromkeys(
            part.text for part in parts if not part.children or not self.encoding.value(part).exact
        )
        named = list(doubtful)[:2]
        return " and ".join(f"'{text[:80]}'" for text in named) or "how windows hang together"

    def _case(self, witness: Witness) -> InvariantTest:
        """The circumstances of a model; what is found is added by who plays it."""
        so, pack = self.circumstances, self.policy.pack
        tier = [name for place, name in enumerate(pack.tiers) if witness.is_true(so.tier == place)]
        anomaly = pack.score.anomaly.at if pack.score.anomaly and witness.is_true(so.odd) else None
        found = {find.finding.rule for find in self.finds if witness.is_true(find.term)}
        return InvariantTest.model_construct(
            it=f"breaks {self.promise.id}",
            kind=self.kind.kind if self.kind.kind != pack.for_[0] else None,
            before=[],
            event={},
            found=None,
            tier=tier[0] if tier and tier[0] != pack.default_tier else None,
            causes=[cause for cause, term in so.causes.items() if witness.is_true(term)],
            anomaly=anomaly,
            held_back=[rule for rule, term in so.tripped.items() if rule in found and witness.is_true(term)],
            queue_full=witness.is_true(so.queue_full),
            challenge_passed=witness.is_true(so.passed),
            expect="holds",
        )

    def _played_whole(self, witness: Witness, case: InvariantTest) -> InvariantTest | None:
        """The case with its event and history, if it breaks the invariant when it is played."""
        test = witness.test(case.it, "fires", [])
        if test is None:
            return None
        event = {path: value for path, value in test.event.items() if path not in self._names}
        before = [_plainly(each) for each in test.before]
        whole = case.model_copy(update={"event": event, "before": before})
        try:
            played = play(self.rulebook, self.policy, self.promise, whole)
        except Misplaced:
            return None
        return whole if played.broken else None

    def _played_found(self, witness: Witness, case: InvariantTest) -> InvariantTest | None:
        """The case with what rules find at the model's event and windows, if that breaks the invariant."""
        findings = self._really_found(witness)
        if findings is None:
            return None
        event = {path: value for path, value in witness.event().items() if path in self._promised()}
        told = case.model_copy(update={"event": event, "found": findings})
        try:
            played: Played = play(self.rulebook, self.policy, self.promise, told)
        except Misplaced:
            return None
        return told if played.broken else None

    def _promised(self) -> frozenset[str]:
        """The fields of the event that the invariant and the causes ask about."""
        asked = [self.promise.paths, *(each.paths for each in self.kind.degraded_ifs.values())]
        return frozenset().union(*asked) - self._names

    @property
    def _names(self) -> frozenset[str]:
        """The names in the invariant that are no fields of the event."""
        event = self.rulebook.schema.fields(self.kind.kind)
        return frozenset(path for path in self.promise.paths if path not in event or path in BESIDE)

    def _really_found(self, witness: Witness) -> list[str] | None:
        """The rules that find something by the interpreter at the model's event, and what Arbiter raises."""
        schema = self.rulebook.schema
        given = {path: each for path, each in witness.event().items() if path not in self._names}
        body = {**schema.sample_fields(self.kind.kind), "event_id": "case", "at": CLOCK, **given}
        body.pop(ANOMALY, None)
        try:
            event = schema.build(body, received_at=CLOCK, kind=self.kind.kind, tenant="test")
        except EventRefused:
            return None
        env = Env(
            event.at, event.received_at, self.rulebook.lists.lookups(event.received_at, "test"), self.rulebook.convert
        )
        windows = {window: self._held(witness, window) for window in self.encoding.windows.values}
        values = {**event.values, **({ANOMALY: given[ANOMALY]} if ANOMALY in given else {})}
        found = []
        counting = {rule.id: [find.term for find in self.finds if find.finding.rule == rule.id] for rule in self._rules}
        for rule in self._rules:
            holds = interpret(rule.condition, values, windows, env)
            if self._counts_in_part(rule) and not any(witness.is_true(term) for term in counting[rule.id]):
                continue
            if holds or (holds is None and rule.when_unknown() is not None):
                found.append(rule.id if holds else f"{rule.id}?")
        raised = [each.finding.signal for each in self._own if witness.is_true(each.term)]
        return [*found, *(signal for signal in raised if signal not in self.circumstances.causes)]

    def _held(self, witness: Witness, window: Window) -> Any:
        value = self.encoding.windows.values[window]
        return witness.value(value, type_=window.type) if witness.is_true(value.known) else None


def _plainly(before: Any) -> dict[str, Any]:
    """An earlier event as a case writes it."""
    told = {"kind": before.kind, "event": before.event, "ago": length(before.ago)}
    if before.repeat > 1:
        told |= {"repeat": before.repeat, "every": length(before.every)}
    return {key: value for key, value in told.items() if value is not None}
