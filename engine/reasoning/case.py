"""One invariant over one kind of event, as terms: what may be found, in what circumstances, and when it is broken.

And the way back: from a model in which it is broken to a case that the real rules and policy play.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import z3

from engine.decide import notice
from engine.detectors import ANOMALY
from engine.errors import EventRefused
from engine.expr import Env
from engine.expr.check import atoms_in, expression
from engine.invariants import Played, play
from engine.mutation.spelling import earlier
from engine.policy import Policy, Promise
from engine.policy.invariants import ANY
from engine.policy.pack import InvariantTest
from engine.reasoning.encode import Encoding
from engine.reasoning.judgement import Circumstances, Find, Judgement, Verdict
from engine.reasoning.solver import Model
from engine.reasoning.terms import NO, YES, Term, Value, both, either, opposite
from engine.reasoning.witness import Imagined, Witness, ground_of, wishes
from engine.reasoning.written import listed
from engine.rulebook import DEGRADED, OWN_SIGNALS, KindBook, Rulebook
from engine.rules import Rule
from engine.trial import CLOCK, Misplaced


class Case:
    """One invariant and one kind of event. `bound`: rules fire where their conditions are true, else as they like."""

    def __init__(self, rulebook: Rulebook, policy: Policy, promise: Promise, kind: KindBook, *, bound: bool) -> None:
        self.rulebook = rulebook
        self.policy = policy
        self.promise = promise
        self.kind = kind
        self.names = promise.beside(rulebook.schema.fields(kind.kind))
        self._rules = [rule for rule in kind.rules if rule.mode == "live"]
        self.encoding = Encoding(ground_of(rulebook, (kind.kind,)))
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
        for path in self.names:
            self.encoding.event.values[path] = Value(YES, terms.get(path, NO))

    def _broken(self) -> Term:
        claim = self.encoding.value(self.promise.claim.tree)
        when = YES if self.promise.when is None else self.encoding.value(self.promise.when.tree).true
        return both(when, opposite(claim.true) if self.promise.always else claim.true)

    # What breaks it

    def confirmed(self, model: Model) -> tuple[InvariantTest | None, InvariantTest | None]:
        """The model as a case, if the real rules and policy break the invariant at it: with its whole history, or with
        what the rules find when windows hold what the model says."""
        witness = Witness(self.rulebook, self.encoding, self.kind.kind, model)
        case = self._case(witness)
        whole = self._played_whole(witness, case)
        return whole, None if whole is not None else self._played_found(witness, case)

    def otherwise(self, model: Model) -> Term:
        """That something else is found, or in other circumstances."""
        terms = [find.term for find in (*self.finds, *self._own)]
        return z3.Or([term != model.eval(term, model_completion=True) for term in terms])

    def misjudged(self, model: Model) -> str:
        """The questions to which the model has other answers than the interpreter, at its own event and windows."""
        witness = Witness(self.rulebook, self.encoding, self.kind.kind, model)
        scene = self._scene(witness)
        if scene is None:
            return "fields that no event has like this"
        atoms = {atom.text: atom for rule in self._rules for atom in atoms_in(rule.condition.tree)}
        told = [
            f"'{text[:80]}'"
            for text, atom in atoms.items()
            if scene.answer(expression(atom)) != witness.answer(self.encoding.value(atom))
        ]
        return listed(told[:3]) if told else "how windows hang together"

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
        event = {path: value for path, value in test.event.items() if path not in self.names}
        before = list(map(earlier, test.before))
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
        return frozenset().union(*asked) - self.names

    def _really_found(self, witness: Witness) -> list[str] | None:
        """The rules that find something by the interpreter at the model's event, and what Arbiter raises."""
        scene = self._scene(witness)
        if scene is None:
            return None
        found = []
        counting = {rule.id: [find.term for find in self.finds if find.finding.rule == rule.id] for rule in self._rules}
        for rule in self._rules:
            holds = scene.answer(rule.condition)
            if self._counts_in_part(rule) and not any(witness.is_true(term) for term in counting[rule.id]):
                continue
            if holds or (holds is None and rule.when_unknown() is not None):
                found.append(rule.id if holds else f"{rule.id}?")
        raised = [each.finding.signal for each in self._own if witness.is_true(each.term)]
        return [*found, *(signal for signal in raised if signal not in self.circumstances.causes)]

    def _scene(self, witness: Witness) -> Imagined | None:
        """The model's event as the engine would take it, with its windows; None where it would be refused."""
        schema = self.rulebook.schema
        given = {path: each for path, each in witness.event().items() if path not in self.names}
        body = {**schema.sample_fields(self.kind.kind), "event_id": "case", "at": CLOCK, **given}
        body.pop(ANOMALY, None)
        try:
            event = schema.build(body, received_at=CLOCK, kind=self.kind.kind, tenant="test")
        except EventRefused:
            return None
        lists = self.rulebook.lists.lookups(event.received_at, "test")
        env = Env(event.at, event.received_at, lists, self.rulebook.convert)
        values = {**event.values, **({ANOMALY: given[ANOMALY]} if ANOMALY in given else {})}
        return Imagined(values, witness.features(), env)
