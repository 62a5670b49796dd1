"""A policy's judgement as terms: from what is found, in all circumstances at once, to the verdict.

It says the same as `engine.policy.judge`, step by step; a property test holds one against the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import z3

from engine.policy import Policy
from engine.policy.chaining import RANK, Clause, any_rank, strata
from engine.policy.checks import clauses
from engine.reasoning.terms import NO, YES, Term, both, chosen, either, opposite
from engine.verdict import Finding

Held = dict[str, list[Term]]
"""By signal, for each severity from the mildest: whether it holds at that severity or a worse one."""


@dataclass(frozen=True, slots=True)
class Find:
    """Something that may be found: what, and whether it is."""

    finding: Finding
    term: Term


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a verdict depends on beside what is found, as terms. `tier` is the place of the tier in the policy.

    `causes` say what does not work, `tests` whether the `if` of a cause is true; `odd` whether the anomaly reaches the
    mark from which it counts; `tripped`, by rule, whether the breaker holds it back.
    """

    tier: Term
    causes: Mapping[str, Term]
    tests: Mapping[str, Term]
    odd: Term
    tripped: Mapping[str, Term]
    queue_full: Term
    passed: Term


@dataclass(slots=True)
class Weighed:
    """A verdict before breaker and capacity, as terms. `clauses` say which rules of the policy fired, `eased` which
    `at_most` had an effect."""

    rank: Term
    score: Term
    held: Held
    firm: Term
    clauses: list[Term] = field(default_factory=list)
    eased: dict[int, Term] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict's rank, what was weighed in full, and what was weighed in the end."""

    rank: Term
    full: Weighed
    final: Weighed


class Judgement:
    """A policy as terms."""

    def __init__(self, policy: Policy, circumstances: Circumstances) -> None:
        self._policy = policy
        self._pack = policy.pack
        self._so = circumstances
        self._rank = {verdict: rank for rank, verdict in enumerate(policy.verdicts)}
        self._clauses = clauses(policy.pack)

    def judge(self, found: Sequence[Find]) -> Verdict:
        """The verdict on what is found."""
        full = self.weigh(found)
        rank, final = self._held_back(found, full)
        rank = self._unless_full(rank, final.firm)
        if "challenge" in self._rank:
            asked = self._rank["challenge"]
            rank = chosen(both(self._so.passed, rank == asked), z3.IntVal(asked - 1), rank)
        return Verdict(rank, full, final)

    def weigh(self, found: Sequence[Find]) -> Weighed:
        """The verdict before breaker and capacity."""
        score, rank = self._scored(found)
        held = _held(found)
        fired = self._chained(held)
        hard = either(*(each.term for each in found if each.finding.hard))
        weighed = Weighed(rank, score, held, hard, fired)
        for index, rule in enumerate(self._pack.rules):
            if rule.at_most is not None:
                bound = self._rank[rule.at_most]
                weighed.eased[index] = both(fired[index], opposite(hard), rank > bound)
        for index, rule in enumerate(self._pack.rules):
            if rule.at_most is not None:
                rank = chosen(weighed.eased[index], _least(rank, self._rank[rule.at_most]), rank)
        for index, rule in enumerate(self._pack.rules):
            if rule.at_least is not None:
                rank = _raised(rank, fired[index], self._rank[rule.at_least])
        rank = self._degraded(rank)
        law = [(both(*(_term(held, each) for each in clause.when)), clause.verdict) for clause in self._pack.mandatory]
        for holds, verdict in law:
            rank = _raised(rank, holds, self._rank[verdict])
        weighed.rank = rank
        weighed.firm = either(hard, *(holds for holds, _ in law))
        return weighed

    def acts(self, held: Held) -> dict[str, Term]:
        """By what is done, whether it is."""
        done: dict[str, Term] = {}
        for clause in self._pack.actions:
            holds = _holds(held, clause.when, clause.unless)
            done[clause.do] = either(done.get(clause.do, NO), holds)
        return done

    def _scored(self, found: Sequence[Find]) -> tuple[Term, Term]:
        """The score, and the verdict that the tier gives for it."""
        cap, anomaly = self._pack.score.cap, self._pack.score.anomaly
        score = _least(_points(found), cap)
        if anomaly is not None:
            score = chosen(self._so.odd, _least(score + anomaly.points, cap), score)
        rank: Term = z3.IntVal(0)
        for place, thresholds in enumerate(self._pack.tiers.values()):
            reached: Term = z3.IntVal(0)
            for verdict, least in sorted(thresholds.items(), key=lambda row: row[1]):
                reached = chosen(score >= least, z3.IntVal(self._rank[verdict]), reached)
            rank = chosen(self._so.tier == place, reached, rank)
        return score, rank

    def _chained(self, held: Held) -> list[Term]:
        """Which clauses fire; `held` gains what they derive. The least fixpoint, stratum by stratum."""
        fired: list[Term] = [NO] * len(self._clauses)
        for members in strata(self._clauses):
            for _ in members:
                if not self._pass(members, held, fired):
                    break
        return fired

    def _pass(self, members: Iterable[int], held: Held, fired: list[Term]) -> bool:
        """One pass over the clauses of a stratum; whether something changed that another clause may ask for."""
        changed = False
        for index in members:
            clause = self._clauses[index]
            holds = _holds(held, clause.when, clause.unless)
            if fired[index] is not NO and holds.eq(fired[index]):
                continue
            fired[index] = holds
            changed = _derive(held, clause, holds) or changed
        return changed

    def _degraded(self, rank: Term) -> Term:
        for cause, part in self._pack.degraded.items():
            holds = self._so.causes.get(cause, NO)
            least = z3.IntVal(self._rank[part.at_least]) if part.at_least else z3.IntVal(0)
            if part.then:
                least = chosen(self._so.tests.get(cause, NO), z3.IntVal(self._rank[part.then]), least)
            rank = chosen(both(holds, least > rank), least, rank)
        return rank

    def _held_back(self, found: Sequence[Find], full: Weighed) -> tuple[Term, Weighed]:
        """The verdict without what tripped rules found, but at least `then`; never harsher than with it."""
        breaker = self._pack.breaker
        if breaker is None or not self._so.tripped:
            return full.rank, full
        left = self.weigh([self._stays(each) for each in found])
        softer = left.rank <= full.rank
        floor = _least(full.rank, self._rank[breaker.then])
        rank = chosen(softer, chosen(left.rank >= floor, left.rank, floor), full.rank)
        held = {
            signal: [chosen(softer, one, other) for one, other in zip(left.held[signal], terms, strict=True)]
            for signal, terms in full.held.items()
        }
        return rank, Weighed(rank, left.score, held, chosen(softer, left.firm, full.firm))

    def _stays(self, each: Find) -> Find:
        """What is left of a find when its rule may be held back."""
        if each.finding.rule not in self._so.tripped or self._policy.protects(each.finding):
            return each
        return Find(each.finding, both(each.term, opposite(self._so.tripped[each.finding.rule])))

    def _unless_full(self, rank: Term, firm: Term) -> Term:
        """The verdict while the review queue is full."""
        review = self._pack.review
        if review is None or review.overflow is None:
            return rank
        asked, after = self._rank["review"], self._rank[review.overflow]
        moves = both(self._so.queue_full, rank == asked, YES if after >= asked else opposite(firm))
        return chosen(moves, z3.IntVal(after), rank)


def _held(found: Sequence[Find]) -> Held:
    held: Held = {}
    for each in found:
        _add(held, each.finding.signal, RANK[each.finding.severity], each.term)
    return held


def _add(held: Held, signal: str, rank: int, term: Term) -> None:
    before = held.get(signal, [NO] * len(RANK))
    held[signal] = [either(was, term) if place <= rank else was for place, was in enumerate(before)]


def _derive(held: Held, clause: Clause, holds: Term) -> bool:
    """Put down what a clause derives; whether it derives anything."""
    if not clause.signal or holds is NO:
        return False
    _add(held, clause.signal, RANK[clause.severity], holds)
    return True


def _term(held: Held, term: str) -> Term:
    rank = any_rank(term)
    if rank is not None:
        return either(*(terms[rank] for terms in held.values()))
    return held[term][0] if term in held else NO


def _holds(held: Held, when: Sequence[str], unless: Sequence[str]) -> Term:
    """Whether all of `when` hold and nothing of `unless` does."""
    return both(*(_term(held, term) for term in when), *(opposite(_term(held, term)) for term in unless))


def _points(found: Sequence[Find]) -> Term:
    """The sum over groups of the highest points."""
    groups: dict[str, list[Find]] = {}
    total: list[Term] = []
    for each in found:
        if each.finding.group and each.finding.points:
            groups.setdefault(each.finding.group, []).append(each)
        elif each.finding.points:
            total.append(z3.If(each.term, each.finding.points, 0))
    for members in groups.values():
        highest: Term = z3.IntVal(0)
        for each in sorted(members, key=lambda one: one.finding.points):
            highest = z3.If(each.term, z3.IntVal(each.finding.points), highest)
        total.append(highest)
    return z3.Sum(total) if total else z3.IntVal(0)


def _least(term: Term, most: int) -> Term:
    return z3.If(term <= most, term, z3.IntVal(most))


def _raised(rank: Term, holds: Term, least: int) -> Term:
    return chosen(both(holds, rank < least), z3.IntVal(least), rank)
