"""The cases of invariants, played by the rules and the policy that decide online.

A case gives an event with its history, or findings alone, and the circumstances of the decision; it says whether the
invariant holds then. What `arbiter prove` finds against an invariant is such a case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from engine.decide import notice
from engine.errors import Problem, did_you_mean
from engine.expr import interpret
from engine.policy import Policy, Promise, Situation
from engine.policy.chaining import RANK
from engine.policy.invariants import ANY
from engine.policy.pack import InvariantTest
from engine.rulebook import OWN_SIGNALS, KindBook, Rulebook
from engine.rules import Before
from engine.trial import Misplaced, Staged, Trial, stage_scene
from engine.verdict import Finding, Outcome

_BEFORE = TypeAdapter(list[Before])


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a case: whether the invariant is broken, what was found, and the outcome."""

    broken: bool
    found: tuple[str, ...]
    outcome: Outcome


def try_invariants(rulebook: Rulebook) -> Iterator[tuple[Trial, str]]:
    """Play the cases that stand beside the invariants of all policies, in order, each with the file that it is in."""
    for name, promises in rulebook.promises.items():
        for promise in promises:
            for index, case in enumerate(promise.written.tests):
                problem = _problem(rulebook, name, promise, index, case)
                yield Trial(f"{name}: {promise.id}", case.it, problem), promise.document.file


def _problem(rulebook: Rulebook, name: str, promise: Promise, index: int, case: InvariantTest) -> Problem | None:
    loc = (*promise.loc, "tests", index)
    try:
        played = play(rulebook, rulebook.policies[name], promise, case)
    except Misplaced as error:
        return promise.document.problem((*loc, *error.loc), str(error), error.hint, key=error.key)
    got = "broken" if played.broken else "holds"
    if got == case.expect:
        return None
    what = f"invariant '{promise.id}': the case '{case.it}' expects '{case.expect}', it is '{got}'"
    hint = f"the verdict is {played.outcome.verdict} with a score of {played.outcome.score}"
    hint += f"; found by {', '.join(played.found)}" if played.found else "; nothing was found"
    return promise.document.problem((*loc, "expect"), what, hint)


def play(rulebook: Rulebook, policy: Policy, promise: Promise, case: InvariantTest) -> Played:
    """A case, by the real rules and policy. Raises Misplaced for one that holds no event, no time, or unknown names."""
    kind = rulebook.kinds[_kind(policy, case)]
    staged = _staged(rulebook, kind, case)
    findings = _findings(rulebook, kind, staged, case)
    return _judged(rulebook, policy, promise, staged, findings, case)


def _judged(
    rulebook: Rulebook,
    policy: Policy,
    promise: Promise,
    staged: Staged,
    findings: Sequence[Finding],
    case: InvariantTest,
) -> Played:
    """What the policy makes of findings in a case, and whether that breaks the invariant."""
    kind = rulebook.kinds[staged.kind]
    everything = (*findings, *map(notice, case.causes))
    tests = {
        cause: interpret(kind.degraded_ifs[cause], staged.values, {}, staged.env)
        for cause in case.causes
        if cause in kind.degraded_ifs
    }
    calm = Situation(tier=case.tier or "", causes=tuple(case.causes), anomaly=case.anomaly, test=tests.get)
    found = policy.judge(everything, calm)
    outcome = policy.judge(everything, _situation(calm, case))
    values = {**staged.values, **_names(policy, everything, found, outcome, case)}
    beside = promise.beside(rulebook.schema.fields(staged.kind))
    values |= {path: path in found.signals for path in beside - values.keys() if "." not in path}
    if "merchant.tier" in beside:
        values["merchant"] = {**values.get("merchant", {}), "tier": values["tier"]}
    claim = interpret(promise.claim, values, {}, staged.env)
    when = True if promise.when is None else interpret(promise.when, values, {}, staged.env)
    return Played(promise.broken(claim, when), tuple(dict.fromkeys(each.rule for each in findings)), outcome)


def _situation(calm: Situation, case: InvariantTest) -> Situation:
    return Situation(
        tier=calm.tier,
        causes=calm.causes,
        anomaly=calm.anomaly,
        test=calm.test,
        tripped=frozenset(map(str, case.held_back)),
        review_open=not case.queue_full,
        challenge_passed=case.challenge_passed,
    )


def _names(
    policy: Policy, findings: Sequence[Finding], found: Outcome, outcome: Outcome, case: InvariantTest
) -> dict[str, Any]:
    """The values of what promises may name beside the event and its signals."""
    fired = {step.name for step in found.steps if step.by == "derive"}
    severities = [each.severity for each in findings]
    severities += [rule.derive.severity for rule in policy.pack.rules if rule.derive and rule.id in fired]
    worst = max((RANK[severity] for severity in severities), default=-1)
    done = {action.do for action in outcome.actions}
    return {
        **{name: rank <= worst for name, rank in ANY.items()},
        "verdict": policy.verdicts.index(outcome.verdict),
        "score": found.score,
        "tier": case.tier if case.tier in policy.pack.tiers else policy.pack.default_tier,
        "hard": any(each.hard for each in findings),
        "queue_full": case.queue_full,
        "held_back": any(each.rule in case.held_back for each in findings),
        "challenge_passed": case.challenge_passed,
        "action": {clause.do: clause.do in done for clause in policy.pack.actions},
    }


# The event and what is found


class _Scene(NamedTuple):
    """The event of a case, with what came before it."""

    before: Sequence[Before]
    kind: str
    event: Mapping[str, Any]


def _kind(policy: Policy, case: InvariantTest) -> str:
    kind = case.kind or policy.pack.for_[0]
    if kind not in policy.pack.for_:
        hint = "it judges " + ", ".join(policy.pack.for_)
        raise Misplaced(f"this policy does not judge events of the kind '{kind}'", "kind", hint=hint)
    return kind


def _staged(rulebook: Rulebook, kind: KindBook, case: InvariantTest) -> Staged:
    """The event of a case, made ready."""
    try:
        earlier = _BEFORE.validate_python(case.before)
    except ValidationError as error:
        raise Misplaced("this is no earlier event", "before", hint="as in a rule's test") from error
    return stage_scene(rulebook, kind.kind, _Scene(earlier, kind.kind, case.event))


def _findings(rulebook: Rulebook, kind: KindBook, staged: Staged, case: InvariantTest) -> list[Finding]:
    """What the case says was found, or what the rules find at its event."""
    if case.found is None:
        windows = [rulebook.windows[slot] for slot in kind.slots]
        values: list[Any] = [None] * len(rulebook.windows)
        for slot, value in zip(kind.slots, staged.features(windows, rulebook), strict=True):
            values[slot] = value
        # Nobody is drawn in a case: a rule of a rollout counts, as it will for some.
        rolled = frozenset(id for id, _ in kind.rollouts)
        return list(kind.findings(kind.matcher(staged.values, values, staged.env), rolled))
    by_rule = {rule.id: rule.finding for rule in kind.rules}
    by_rule |= {f"{rule.id}?": found for rule in kind.rules if (found := rule.when_unknown()) is not None}
    by_rule |= {signal: notice(signal) for signal in OWN_SIGNALS}
    for index, name in enumerate(case.found):
        if name not in by_rule:
            hint = did_you_mean(name, by_rule) or "the id of a rule; with '?' behind it where its condition is unknown"
            raise Misplaced(f"no rule '{name}' for {kind.kind} events", "found", index, hint=hint)
    return [by_rule[name] for name in dict.fromkeys(map(str, case.found))]
