"""A policy given to the solver: it gives the verdict that the policy gives."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.packs import parse, validate
from engine.policy import Policy, PolicyPack, Situation
from engine.reasoning.judgement import Circumstances, Find, Judgement
from engine.reasoning.solver import Questions
from engine.verdict import Finding
from tests.books import shipped

HEAD = """\
policy: p
for: [transaction]
verdicts: [approve, challenge, review, decline]
score: {cap: 90, anomaly: {at: 99.5, points: 20}}
tiers:
  trusted:  {challenge: 60, review: 75, decline: 90}
  standard: {challenge: 40, decline: 85}
  watched:  {challenge: 25, review: 40, decline: 70}
default_tier: standard
mandatory: [{when: [m], verdict: decline}, {when: [x, any high], verdict: review}]
degraded:
  model_unavailable: {}
  features_unavailable: {at_least: review}
  deadline: {at_least: review, if: amount < 100 CNY, then: approve}
challenge: {by: [3ds], expires: 15m, passed: rescore, failed: decline, abandoned: decline}
review: {queue: q, due: 30m, if_late: decline, capacity: 400/h, overflow: challenge}
breaker: {per: rule, share_of_declines: 20%, over: 15m, at_least_events: 500, then: challenge}
actions: [{when: [x], unless: [any critical], do: hold}, {when: [loop], do: hold}, {when: [b], do: tell}]
"""
RULES = (
    """\
rules:
  - {id: d1, when: [a, b], derive: {signal: ab, severity: critical}}
  - {id: d2, when: [ab], at_least: decline}
  - {id: d3, when: [c], unless: [ab, any critical], derive: {signal: x, severity: high}}
  - {id: soft, when: [good], unless: [x], at_most: challenge}
  - {id: softer, when: [good, b], at_most: approve}
""",
    """\
rules:
  - {id: loop1, when: [a], derive: {signal: loop}}
  - {id: loop2, when: [loop], derive: {signal: round, severity: medium}}
  - {id: loop3, when: [round], derive: {signal: loop, severity: high}}
  - {id: loop4, when: [round, any high], derive: {signal: x, severity: critical}}
  - {id: alone1, when: [p1], derive: {signal: p2}}
  - {id: alone2, when: [p2], derive: {signal: p1}}
  - {id: never, when: [p1], at_least: decline}
  - {id: not, when: [b], unless: [loop, x], at_least: review}
  - {id: soft, when: [good], at_most: challenge}
""",
)
FINDINGS = (
    Finding("r1", "a", "low", 30, group="g"),
    Finding("r2", "a", "high", 20, group="g"),
    Finding("r3", "b", "medium", 25),
    Finding("r4", "c", "info", 45, group="h"),
    Finding("r5", "good", "info", 0),
    Finding("r6", "m", "high", 10, hard=True),
    Finding("r7", "x", "critical", 40),
    Finding("r8", "b", "low", 15, hard=True),
)
CAUSES = ("features_unavailable", "deadline")


@cache
def policy(rules: str) -> Policy:
    return Policy(validate(parse(HEAD + rules), PolicyPack))


@cache
def terms(rules: str) -> tuple[Questions, Any, list[Find], Circumstances, Mapping[str, Any]]:
    """The policy as terms over free variables; made once."""
    finds = [Find(each, z3.Bool(each.rule)) for each in FINDINGS]
    circumstances = Circumstances(
        tier=z3.Int("tier"),
        causes={cause: z3.Bool(cause) for cause in CAUSES},
        tests={"deadline": z3.Bool("small")},
        odd=z3.Bool("odd"),
        tripped={each.rule: z3.Bool(f"{each.rule} tripped") for each in FINDINGS},
        queue_full=z3.Bool("full"),
        passed=z3.Bool("passed"),
    )
    judgement = Judgement(policy(rules), circumstances)
    verdict = judgement.judge(finds)
    return Questions(), verdict, finds, circumstances, judgement.acts(verdict.final.held)


@pytest.mark.parametrize("rules", RULES)
@settings(max_examples=150, deadline=None)
@given(
    found=st.sets(st.sampled_from(range(len(FINDINGS)))),
    tripped=st.sets(st.sampled_from([each.rule for each in FINDINGS])),
    tier=st.sampled_from(("trusted", "standard", "watched")),
    causes=st.sets(st.sampled_from(CAUSES)),
    small=st.sampled_from((True, False, None)),
    odd=st.booleans(),
    full=st.booleans(),
    passed=st.booleans(),
)
def test_the_terms_give_the_verdict_of_the_policy(
    rules: str,
    found: set[int],
    tripped: set[str],
    tier: str,
    causes: set[str],
    small: bool | None,
    odd: bool,
    full: bool,
    passed: bool,
) -> None:
    findings = [each for index, each in enumerate(FINDINGS) if index in found]
    anomaly = Decimal("99.9") if odd else None
    calm = Situation(tier, tuple(sorted(causes)), anomaly, lambda _: small)
    situation = Situation(tier, calm.causes, anomaly, calm.test, frozenset(tripped), not full, passed)
    real = policy(rules)
    outcome, before = real.judge(findings, situation), real.judge(findings, calm)
    questions, verdict, finds, so, acts = terms(rules)
    signals = {name: held[0] for name, held in verdict.full.held.items()}
    pins = [
        *(find.term == (index in found) for index, find in enumerate(finds)),
        *(term == (rule in tripped) for rule, term in so.tripped.items()),
        *(term == (cause in causes) for cause, term in so.causes.items()),
        so.tests["deadline"] == (small is True),
        so.tier == list(real.pack.tiers).index(tier),
        so.odd == odd,
        so.queue_full == full,
        so.passed == passed,
    ]
    agreed = z3.And(
        verdict.rank == real.verdicts.index(outcome.verdict),
        verdict.full.score == before.score,
        *(term == (name in before.signals) for name, term in signals.items()),
        *(term == any(action.do == name for action in outcome.actions) for name, term in acts.items()),
    )
    with questions.given(pins):
        assert questions.ask(agreed).possible
        assert questions.ask(z3.Not(agreed)).impossible


def test_shipped_policies_can_be_given_to_the_solver() -> None:
    """With every rule found, each policy is as severe as it can be, by the terms and by itself."""
    for kind, book in shipped().kinds.items():
        if book.policy is None:
            continue
        finds = [Find(rule.finding, z3.BoolVal(True)) for rule in book.rules]
        none = Circumstances(z3.IntVal(0), {}, {}, z3.BoolVal(False), {}, z3.BoolVal(False), z3.BoolVal(False))
        verdict = Judgement(book.policy, none).judge(finds)
        outcome = book.policy.judge([find.finding for find in finds], Situation(next(iter(book.policy.pack.tiers))))
        wrong = Questions().ask(verdict.rank != book.policy.verdicts.index(outcome.verdict))
        assert wrong.impossible, kind
