"""The policy at work: findings in, verdict out, with every step on the way."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple

from engine.errors import PackError, Problem
from engine.packs import Document
from engine.packs.durations import MICROSECONDS
from engine.policy.chaining import RANK, Chain, Clause, any_rank
from engine.policy.checks import Fault, clauses, problems
from engine.policy.pack import Mode, PolicyPack
from engine.policy.terms import MERCHANT, Terms
from engine.verdict import Action, Finding, Outcome, Step


def _never_true(_cause: str) -> bool | None:
    return None


@dataclass(frozen=True, slots=True)
class Situation:
    """What a verdict depends on beside the findings, all of it as values that the record keeps.

    `tier` is the merchant's ("" for the default one). `causes` name what does not work. `anomaly` is the model's
    percentile, None without a model. `test` answers the `if` of a cause: True, False or None for unknown. `tripped` are
    rules whose breaker is open. `review_open` says whether the review queue takes more. `challenge_passed` is set when
    an event is judged again after its buyer passed the challenge. `modes` are those that somebody switched on, each
    with the answer to its `if` (True without one). `standings` are the tiers by profile, beside the merchant's; `event`
    is the event's id, by which samples are drawn.
    """

    tier: str = ""
    causes: tuple[str, ...] = ()
    anomaly: Decimal | None = None
    test: Callable[[str], bool | None] = _never_true
    tripped: frozenset[str] = frozenset()
    review_open: bool = True
    challenge_passed: bool = False
    modes: tuple[tuple[str, bool | None], ...] = ()
    standings: Mapping[str, str] = field(default_factory=dict)
    event: str = ""


_CALM = Situation()


class _Condition(NamedTuple):
    """A flat condition over the fixpoint: signals that hold, the severity some signal has, what must not hold."""

    signals: frozenset[str]
    rank: int
    without: frozenset[str]
    below: int

    @classmethod
    def of(cls, when: Sequence[str], unless: Sequence[str] = ()) -> _Condition:
        ranks = [rank for rank in map(any_rank, when) if rank is not None]
        limits = [rank for rank in map(any_rank, unless) if rank is not None]
        asked = frozenset(term for term in when if any_rank(term) is None)
        without = frozenset(term for term in unless if any_rank(term) is None)
        return cls(asked, max(ranks, default=-1), without, min(limits, default=len(RANK)))

    def holds(self, held: Mapping[str, int], worst: int) -> bool:
        signals, rank, without, below = self
        return signals <= held.keys() and rank <= worst < below and without.isdisjoint(held)


class _Bound(NamedTuple):
    name: str
    rank: int


class _Weighed(NamedTuple):
    """A verdict before breaker and capacity. `firm`: a hard finding or a mandatory clause stands behind it."""

    rank: int
    score: int
    signals: Mapping[str, int]
    firm: bool
    steps: list[Step]


class Policy:
    """A policy pack, compiled and frozen. Any number of threads may judge at once.

    Raises PackError with every fault that `problems` finds; `document` gives them their places in the file.
    """

    def __init__(
        self, pack: PolicyPack, known_signals: Collection[str] | None = None, document: Document | None = None
    ) -> None:
        faults = problems(pack, known_signals)
        if faults:
            raise PackError(placed(faults, pack, document))
        self.pack = pack
        self.name = pack.policy
        self.verdicts = tuple(pack.verdicts)
        self._rank = {verdict: rank for rank, verdict in enumerate(self.verdicts)}
        self._tiers = {tier: self._thresholds(thresholds) for tier, thresholds in pack.tiers.items()}
        self.terms = Terms(pack.terms, pack.policy)
        self._calm = Outcome(self.verdicts[0], 0, (), (), ())
        self._compile_rules()
        self._compile_flat()

    def judge(self, findings: Sequence[Finding], situation: Situation = _CALM) -> Outcome:
        """The outcome for one event. Pure: equal arguments give equal outcomes, whatever ran before."""
        if not (findings or situation.causes or situation.modes or self._odd(situation)) and (
            situation.tier in self._known_tiers
        ):
            return self._calm if not self.pack.terms else self._with_terms(self._calm, situation)
        weighed = self._weigh(findings, situation)
        if situation.tripped:
            weighed = self._held_back(findings, situation, weighed)
        rank = self._in_modes(self._unless_full(weighed, situation), situation, weighed.steps)
        if situation.challenge_passed and self.verdicts[rank] == "challenge":
            rank = self._step(weighed.steps, "challenge", "passed", rank, rank - 1)
        outcome = self._outcome(weighed, rank, situation)
        return outcome if not self.pack.terms else self._with_terms(outcome, situation)

    def tiers(self, situation: Situation) -> dict[str, str]:
        """The tiers that count, by profile: the merchant's as scores are read by it, and the others as they stand."""
        tier = situation.tier if situation.tier in self.pack.tiers else self.pack.default_tier
        return {**situation.standings, MERCHANT: tier}

    def _with_terms(self, outcome: Outcome, situation: Situation) -> Outcome:
        """What the tiers drive beside the verdict."""
        found = self.terms.held(self.tiers(situation), situation.event, situation.test)
        if not found:
            return outcome
        done = {action.do for action in outcome.actions}
        more = [action for held in found.values() for action in held.actions if action.do not in done]
        actions = (*outcome.actions, *dict.fromkeys(more))
        return replace(outcome, actions=actions, terms={name: held.values for name, held in found.items()})

    @property
    def measures(self) -> tuple[str, ...]:
        """What may be done beside the verdict, by the actions, the modes and the limits of tiers, each once."""
        modes = [mode.do for mode in self.pack.modes.values() if mode.do]
        limits = [limit.do for clause in self.pack.terms for limit in clause.limits]
        return tuple(dict.fromkeys([*(action.do for action in self.pack.actions), *modes, *limits]))

    @cached_property
    def lifted_when_cleared(self) -> frozenset[str]:
        """The measures that end at once when a passed challenge or a review leads to the mildest verdict."""
        return frozenset(action.do for action in self.pack.actions if action.ends == "cleared")

    @property
    def mandatory_signals(self) -> frozenset[str]:
        """The signals that mandatory clauses rest on, directly or through derived ones."""
        return frozenset(term for term in self._needed if any_rank(term) is None)

    def blamed(self, findings: Iterable[Finding], outcome: Outcome) -> frozenset[str]:
        """The rules that count towards the breaker: they found something that matters here, and the event was declined.

        An event that was saved from the severest verdict only by an open breaker still counts, so a breaker stays open
        until its rule has calmed down. Hard findings and those that mandatory clauses rest on never count.
        """
        severest = self.verdicts[-1]
        saved = bool(outcome.steps) and outcome.steps[0].by == "tripped" and outcome.steps[0].before == severest
        if unforced(outcome) != severest and not saved:
            return frozenset()
        matters = (f for f in findings if f.points > 0 or self._asked_for(f))
        return frozenset(f.rule for f in matters if not self.protects(f))

    def heeds(self, finding: Finding) -> bool:
        """Whether anything of the pack can look at such a finding: its points, its signal or its severity."""
        return finding.points != 0 or self._asked_for(finding) or self.protects(finding)

    def behind(
        self, signals: Collection[str], ranks: Mapping[str, int], measures: Collection[str] | None = None
    ) -> frozenset[str]:
        """Of the `signals` that hold, those on which something that speaks against an event rests, directly or through
        derived ones: a rule with `at_least`, a mandatory clause, an action; with `measures` these actions alone.
        `ranks` are the severities of those that were found."""
        derived = {rule.derive.signal: RANK[rule.derive.severity] for rule in self.pack.rules if rule.derive}
        held = {signal: max(ranks.get(signal, 0), derived.get(signal, 0)) for signal in signals}
        worst = max(held.values(), default=-1)
        actions = [each for each in self.pack.actions if measures is None or each.do in measures]
        against = [(action.when, action.unless) for action in actions]
        if measures is None:
            against += [(rule.when, rule.unless) for rule in self.pack.rules if rule.at_least]
            against += [(clause.when, []) for clause in self.pack.mandatory]
        asked = {term for when, unless in against if _Condition.of(when, unless).holds(held, worst) for term in when}
        needed = _needed(asked, [each for each in clauses(self.pack) if _Condition.of(each.when).holds(held, worst)])
        levels = [rank for rank in map(any_rank, needed) if rank is not None]
        return frozenset(signal for signal, rank in held.items() if signal in needed or rank >= min(levels, default=9))

    def asks(self, verdict: str) -> dict[str, Any] | None:
        """What the verdict asks of somebody: a challenge of the buyer, a review of a person."""
        if verdict == "challenge" and (challenge := self.pack.challenge):
            return {"challenge": {"by": list(challenge.by), "expires_s": challenge.expires // MICROSECONDS}}
        if verdict == "review" and (review := self.pack.review):
            return {"review": {"queue": review.queue, "due_s": review.due // MICROSECONDS}}
        return None

    # Compiling

    def _thresholds(self, thresholds: Mapping[str, int]) -> tuple[list[int], list[int]]:
        """Scores in ascending order, and the rank reached from each on; 0 leads to the mildest verdict."""
        rows = sorted((score, self._rank[verdict]) for verdict, score in thresholds.items())
        return [score for score, _ in rows], [0, *(rank for _, rank in rows)]

    def _compile_rules(self) -> None:
        rules = self.pack.rules
        self._chain = Chain(clauses(self.pack))
        self._derive_steps = [_derive_step(clause) for clause in self._chain.clauses]
        self._at_most = [_Bound(r.id, self._rank[r.at_most]) if r.at_most else None for r in rules]
        self._at_least = [_Bound(r.id, self._rank[r.at_least]) if r.at_least else None for r in rules]

    def _compile_flat(self) -> None:
        pack, rank = self.pack, self._rank
        self._known_tiers = frozenset(("", *pack.tiers))
        self._mandatory = [
            (_Condition.of(clause.when), _Bound(clause.id or " + ".join(clause.when), rank[clause.verdict]))
            for clause in pack.mandatory
        ]
        self._actions = [
            (_Condition.of(a.when, a.unless), Action(a.do, (a.for_ or 0) // MICROSECONDS, str(a.basis or "")))
            for a in pack.actions
        ]
        self._needed = _needed([term for clause in pack.mandatory for term in clause.when], self._chain.clauses)
        self._needed_rank = min((r for r in map(any_rank, self._needed) if r is not None), default=len(RANK))
        self._modes = {
            name: (rank[mode.at_least] if mode.at_least else 0, _action(mode)) for name, mode in pack.modes.items()
        }
        lists = [(r.when, r.unless) for r in pack.rules] + [(a.when, a.unless) for a in pack.actions]
        self._asked = frozenset(term for pair in lists for terms in pair for term in terms)
        self._asked_rank = min((r for r in map(any_rank, self._asked) if r is not None), default=len(RANK))

    # Weighing

    def _weigh(self, findings: Sequence[Finding], situation: Situation) -> _Weighed:
        steps: list[Step] = []
        score, rank = self._scored(findings, situation, steps)
        held: dict[str, int] = {}
        hard = False
        for finding in findings:
            severity = RANK[finding.severity]
            if held.get(finding.signal, -1) < severity:
                held[finding.signal] = severity
            hard = hard or finding.hard
        signals, fired = self._chain.run(held)
        rank = self._bounded(fired, rank, hard, steps)
        for cause in situation.causes:
            rank = self._degraded(cause, situation, rank, steps)
        worst = max(signals.values(), default=-1)
        law = [bound for condition, bound in self._mandatory if condition.holds(signals, worst)]
        rank = self._raised("mandatory", law, rank, steps)
        return _Weighed(rank, score, signals, hard or bool(law), steps)

    def _scored(self, findings: Sequence[Finding], situation: Situation, steps: list[Step]) -> tuple[int, int]:
        """The score, and the verdict that the tier gives for it."""
        tier = situation.tier or self.pack.default_tier
        if tier not in self._tiers:
            steps.append(Step("tier", "unknown", tier, self.pack.default_tier))
            tier = self.pack.default_tier
        cap, anomaly = self.pack.score.cap, self.pack.score.anomaly
        score = min(cap, _points(findings))
        if anomaly and self._odd(situation):
            before, score = score, min(cap, score + anomaly.points)
            steps.append(Step("anomaly", str(situation.anomaly), str(before), str(score)))
        scores, ranks = self._tiers[tier]
        return score, self._step(steps, "score", tier, 0, ranks[bisect_right(scores, score)])

    def _odd(self, situation: Situation) -> bool:
        """Whether the model's percentile reaches the mark from which it counts."""
        mark = self.pack.score.anomaly
        return mark is not None and situation.anomaly is not None and situation.anomaly >= mark.at

    def _bounded(self, fired: Sequence[int], rank: int, hard: bool, steps: list[Step]) -> int:
        """Derived signals for the record, then the mildest `at_most`, then the severest `at_least`."""
        steps += [step for step in map(self._derive_steps.__getitem__, fired) if step]
        caps = [bound for bound in map(self._at_most.__getitem__, fired) if bound and bound.rank < rank]
        if caps:
            name, lowered = min(caps, key=lambda bound: bound.rank)
            if hard:
                steps.append(Step("hard", name, self.verdicts[rank], self.verdicts[rank]))
            else:
                rank = self._step(steps, "at_most", name, rank, lowered)
        return self._raised("at_least", filter(None, map(self._at_least.__getitem__, fired)), rank, steps)

    def _raised(self, by: str, bounds: Iterable[_Bound], rank: int, steps: list[Step]) -> int:
        higher = [bound for bound in bounds if bound.rank > rank]
        if not higher:
            return rank
        bound = max(higher, key=lambda bound: bound.rank)
        return self._step(steps, by, bound.name, rank, bound.rank)

    def _degraded(self, cause: str, situation: Situation, rank: int, steps: list[Step]) -> int:
        """The verdict while `cause` is so. Always a step, so that nothing degrades unseen."""
        part = self.pack.degraded.get(cause)
        floor = part.at_least if part else None
        if part and part.then and situation.test(cause) is True:
            floor = part.then
        raised = max(rank, self._rank[floor]) if floor else rank
        steps.append(Step("degraded", cause, self.verdicts[rank], self.verdicts[raised]))
        return raised

    # Breaker, capacity, challenge

    def _held_back(self, findings: Sequence[Finding], situation: Situation, full: _Weighed) -> _Weighed:
        """The verdict without what tripped rules found, but at least `then`; never harsher than with it."""
        stays = [f.rule not in situation.tripped or self.protects(f) for f in findings]
        if all(stays) or self.pack.breaker is None:
            return full
        left = self._weigh([f for f, stay in zip(findings, stays, strict=True) if stay], situation)
        if left.rank > full.rank:
            return full  # what the rule found only softened
        rules = ", ".join(sorted({f.rule for f, stay in zip(findings, stays, strict=True) if not stay}))
        steps = [Step("tripped", rules, self.verdicts[full.rank], self.verdicts[left.rank]), *left.steps]
        floor = min(full.rank, self._rank[self.pack.breaker.then])
        rank = self._raised("breaker", [_Bound(rules, floor)], left.rank, steps)
        return left._replace(rank=rank, steps=steps)

    def protects(self, finding: Finding) -> bool:
        """Whether a breaker leaves it alone: hard, or something a mandatory clause may rest on."""
        return finding.hard or finding.signal in self._needed or RANK[finding.severity] >= self._needed_rank

    def _asked_for(self, finding: Finding) -> bool:
        return finding.signal in self._asked or RANK[finding.severity] >= self._asked_rank

    def _unless_full(self, weighed: _Weighed, situation: Situation) -> int:
        """The verdict while the review queue is full. What is hard or mandatory waits in it all the same."""
        review, rank = self.pack.review, weighed.rank
        if situation.review_open or review is None or review.overflow is None or self.verdicts[rank] != "review":
            return rank
        after = self._rank[review.overflow]
        if weighed.firm and after < rank:
            weighed.steps.append(Step("hard", "overflow", "review", "review"))
            return rank
        return self._step(weighed.steps, "overflow", review.queue, rank, after)

    def active(self, modes: Iterable[str]) -> tuple[str, ...]:
        """Those of some modes that change something here, in the order of their names."""
        return tuple(sorted(name for name in modes if name in self.pack.modes and not self.pack.modes[name].idle))

    def _in_modes(self, rank: int, situation: Situation, steps: list[Step]) -> int:
        """The verdict in the modes that are on. It comes last, so nothing softens what it asks for; and always is a
        step, so that nobody wonders why. What cannot be told counts as true: a mode is there to be careful."""
        for name, holds in situation.modes:
            if name in self._modes and holds is not False:
                raised = max(rank, self._modes[name][0])
                steps.append(Step(MODE, name, self.verdicts[rank], self.verdicts[raised]))
                rank = raised
        return rank

    # Writing down

    def _step(self, steps: list[Step], by: str, name: str, before: int, after: int) -> int:
        if before != after:
            steps.append(Step(by, name, self.verdicts[before], self.verdicts[after]))
        return after

    def _outcome(self, weighed: _Weighed, rank: int, situation: Situation) -> Outcome:
        verdict = self.verdicts[rank]
        actions = self._acts(weighed.signals, situation) if self._actions or situation.modes else ()
        asks = self.asks(verdict)
        return Outcome(verdict, weighed.score, tuple(weighed.signals), actions, tuple(weighed.steps), asks)

    def _acts(self, signals: Mapping[str, int], situation: Situation) -> tuple[Action, ...]:
        """The actions whose conditions hold, and those of modes; of equal ones the one that lasts longest (0 has no
        end)."""
        worst = max(signals.values(), default=-1)
        acts = [action for condition, action in self._actions if condition.holds(signals, worst)]
        acts += [
            action
            for name, holds in situation.modes
            if holds is not False and (action := self._modes.get(name, (0, None))[1]) is not None
        ]
        chosen: dict[str, Action] = {}
        for action in acts:
            other = chosen.setdefault(action.do, action)
            if other.seconds and (not action.seconds or action.seconds > other.seconds):
                chosen[action.do] = action
        return tuple(chosen.values())


MODE = "mode"
"""The `by` of the step of a mode."""


def unforced(outcome: Outcome) -> str:
    """The verdict that there would have been in no mode: what breakers and the room of queues go by."""
    return next((step.before for step in outcome.steps if step.by == MODE), outcome.verdict)


def _action(mode: Mode) -> Action | None:
    return Action(mode.do, (mode.for_ or 0) // MICROSECONDS, str(mode.basis or "")) if mode.do else None


def _points(findings: Iterable[Finding]) -> int:
    """The sum over groups of the highest points; a finding without a group counts by itself. Never below 0."""
    total, groups = 0, dict[str, int]()
    for finding in findings:
        if not finding.group:
            total += finding.points
        elif finding.points > groups.get(finding.group, 0):
            groups[finding.group] = finding.points
    return max(0, total + sum(groups.values()))


def _derive_step(clause: Clause) -> Step | None:
    if not clause.signal:
        return None
    unless = f" unless {' or '.join(clause.unless)}" if clause.unless else ""
    return Step("derive", clause.id, f"{' + '.join(clause.when)}{unless}", clause.signal)


def _needed(terms: Iterable[str], chained: Sequence[Clause]) -> frozenset[str]:
    """The terms that some of `terms` may rest on, through any number of clauses."""
    needed, queue = set[str](), list(terms)
    while queue:
        term = queue.pop()
        if term in needed:
            continue
        needed.add(term)
        rank = any_rank(term)
        for clause in chained:
            if clause.signal and (clause.signal == term if rank is None else RANK[clause.severity] >= rank):
                queue += [*clause.when, *clause.unless]
    return frozenset(needed)


def placed(faults: Iterable[Fault], pack: PolicyPack, document: Document | None) -> list[Problem]:
    """Faults at their places in the file."""
    return [_place(fault, pack, document) for fault in faults]


def _place(fault: Fault, pack: PolicyPack, document: Document | None) -> Problem:
    if document is not None:
        return document.problem(fault.loc, fault.what, fault.hint)
    where = ".".join(str(part) for part in fault.loc)
    return Problem(f"policy {pack.policy}", 1, 1, f"{where}: {fault.what}", fault.hint)
