"""A policy: what its file may say, and what it makes of findings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import Conflict, PackError
from engine.packs import parse, validate
from engine.policy import (
    Breaker,
    Capacity,
    Policy,
    PolicyPack,
    Rate,
    Resolution,
    Ruling,
    Situation,
    problems,
    resolve,
)
from engine.policy import pack as pack_module
from engine.policy.pack import BreakerClause, Severity
from engine.verdict import SEVERITIES, Action, Finding, Outcome, Step

DOCS = Path(__file__).parent.parent / "docs" / "policies.md"

CHECKOUT = """\
policy: checkout
for: [transaction, payment]
verdicts: [approve, challenge, review, decline]
score: {cap: 100, anomaly: {at: 99.5, points: 20}}
tiers:
  trusted:  {challenge: 60, review: 75, decline: 95}
  standard: {challenge: 40, review: 60, decline: 85}
  watched:  {challenge: 25, review: 40, decline: 70}
default_tier: standard
rules:
  - id: stolen-card
    when: [card_testing, geo_mismatch]
    derive: {signal: stolen_card, severity: critical}
  - id: no-stolen-cards
    when: [stolen_card]
    at_least: decline
  - id: loyal-buyer
    when: [long_clean_history]
    unless: [account_takeover, any critical]
    at_most: challenge
mandatory:
  - {when: [sanctions_hit], verdict: decline}
degraded:
  model_unavailable: {}
  features_unavailable: {at_least: review}
  deadline: {at_least: review, if: amount < 100 CNY, then: approve}
challenge: {by: [3ds, wallet, sms], expires: 15m, passed: rescore, failed: decline, abandoned: decline}
review: {queue: payments, due: 30m, if_late: decline, capacity: 400/h, overflow: challenge}
actions:
  - {when: [coupon_farm], do: withhold_coupon}
  - {when: [payout_takeover], do: hold_payout, for: 72h, basis: house-policy}
breaker: {per: rule, share_of_declines: 20%, over: 15m, at_least_events: 500, then: review}
"""
"""The policy of the design, whole."""

MINUTE = 60 * 1_000_000
HOUR = 60 * MINUTE


CHECKOUT_DATA: Mapping[str, Any] = parse(CHECKOUT).data


def loaded(text: str = CHECKOUT) -> PolicyPack:
    return validate(parse(text, "policies/checkout.yaml"), PolicyPack)


def changed(**parts: Any) -> PolicyPack:
    """The checkout policy with parts of it replaced; a part that is None falls away."""
    data = {**CHECKOUT_DATA, **parts}
    return PolicyPack.model_validate({key: value for key, value in data.items() if value is not None})


def finding(signal: str, points: int = 0, severity: str = "low", **rest: Any) -> Finding:
    return Finding(rest.pop("rule", f"rules.{signal}"), signal, severity, points, **rest)


CHECK = Policy(loaded())


# The file.


def test_the_policy_of_the_design_loads_without_a_problem() -> None:
    pack = loaded()
    assert problems(pack) == []
    assert pack.degraded["deadline"].if_ == "amount < 100 CNY"
    assert pack.review is not None
    assert pack.review.capacity == Rate(400, HOUR)
    assert pack.challenge is not None
    assert pack.challenge.expires == 15 * MINUTE
    assert pack.breaker is not None
    assert pack.breaker.share_of_declines == Decimal("0.2")


def test_metadata_may_stand_in_it() -> None:
    pack = loaded("format: 1\nabout: Orders\nowner: payments-risk\n" + CHECKOUT)
    assert (pack.about, pack.owner) == ("Orders", "payments-risk")


def test_the_condition_of_a_degraded_cause_knows_where_it_stands() -> None:
    condition = loaded().degraded["deadline"].if_
    assert condition is not None
    problem = condition.problem(0, "wrong")
    assert CHECKOUT.splitlines()[problem.line - 1][problem.column - 1 :].startswith("amount < 100 CNY")


def test_the_severities_are_those_of_findings() -> None:
    assert Severity.__args__ == SEVERITIES  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        pytest.param("at_least: decline", "atleast: decline", "at_least", id="an unknown key"),
        pytest.param("expires: 15m", "expires: 15 minutes", "15m", id="a duration in words"),
        pytest.param("expires: 15m", "expires: 0m", "15m", id="no duration at all"),
        pytest.param("expires: 15m", "expires: 15", "15m", id="a duration without a unit"),
        pytest.param("for: 72h", "for: 9999d", "366d", id="a duration of decades"),
        pytest.param("share_of_declines: 20%", "share_of_declines: 0.2", "20%", id="a share that is no per cent"),
        pytest.param("share_of_declines: 20%", "share_of_declines: 120%", "20%", id="more than all"),
        pytest.param("capacity: 400/h", "capacity: 400", "400/h", id="a rate without a time"),
        pytest.param("capacity: 400/h", "capacity: 0/h", "400/h", id="a rate of nothing"),
        pytest.param("cap: 100", "cap: yes", "", id="a word for a number"),
        pytest.param("cap: 100", "cap: true", "", id="a truth for a number"),
        pytest.param("signal: stolen_card", "signal: Stolen Card", "", id="a signal with a space"),
        pytest.param("severity: critical", "severity: fatal", "", id="an unknown severity"),
        pytest.param("when: [stolen_card]", "when: []", "", id="an empty condition"),
        pytest.param("default_tier: standard\n", "", "default_tier", id="a missing part"),
        pytest.param("per: rule", "per: merchant", "", id="a breaker per something else"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_place(old: str, new: str, place: str) -> None:
    with pytest.raises(PackError) as refused:
        loaded(CHECKOUT.replace(old, new))
    problem = refused.value.problems[0]
    assert problem.file == "policies/checkout.yaml"
    assert problem.line > 0
    assert place in problem.what + problem.hint


@pytest.mark.parametrize(
    ("parts", "loc", "what"),
    [
        pytest.param({"verdicts": ["approve", "challenge", "review", "decline", "approve"]}, ("verdicts", 4), "twice"),
        pytest.param({"default_tier": "standrad"}, ("default_tier",), "no tier"),
        pytest.param({"tiers": {"standard": {"declin": 80}}}, ("tiers", "standard", "declin"), "no verdict"),
        pytest.param({"tiers": {"standard": {"approve": 10}}}, ("tiers", "standard", "approve"), "needs no score"),
        pytest.param({"tiers": {"standard": {"decline": 101}}}, ("tiers", "standard", "decline"), "no score reaches"),
        pytest.param({"tiers": {"standard": {"decline": 0}}}, ("tiers", "standard", "decline"), "above 0"),
        pytest.param(
            {"tiers": {"standard": {"challenge": 40, "review": 40}}},
            ("tiers", "standard", "review"),
            "above 'challenge'",
        ),
        pytest.param(
            {"tiers": {"standard": {"challenge": 60, "decline": 40}}}, ("tiers", "standard", "decline"), "at 60"
        ),
        pytest.param({"rules": [{"id": "r", "when": ["a"]}]}, ("rules", 0), "does nothing"),
        pytest.param({"rules": [{"id": "r", "when": ["a"], "at_least": "no"}]}, ("rules", 0, "at_least"), "no verdict"),
        pytest.param({"rules": [{"id": "r", "when": ["a"], "at_most": "no"}]}, ("rules", 0, "at_most"), "no verdict"),
        pytest.param(
            {"rules": [{"id": "r", "when": [x], "at_least": "review"} for x in "ab"]}, ("rules", 1, "id"), "taken"
        ),
        pytest.param(
            {"rules": [{"id": "r", "when": ["a", "a"], "at_least": "review"}]}, ("rules", 0, "when", 1), "twice"
        ),
        pytest.param(
            {"rules": [{"id": "r", "when": ["any critcal"], "at_least": "review"}]}, ("rules", 0, "when", 0), "severity"
        ),
        pytest.param(
            {"rules": [{"id": "r", "when": ["a", "not b"], "at_least": "review"}]},
            ("rules", 0, "when", 1),
            "is not a signal",
        ),
        pytest.param(
            {"rules": [{"id": "r", "when": ["a or b"], "at_least": "review"}]}, ("rules", 0, "when", 0), "not a signal"
        ),
        pytest.param(
            {"rules": [{"id": "r", "when": ["a"], "unless": ["a"], "at_least": "review"}]},
            ("rules", 0, "unless", 0),
            "never hold",
        ),
        pytest.param(
            {"rules": [{"id": "r", "when": ["any critical"], "unless": ["any high"], "at_least": "review"}]},
            ("rules", 0, "unless", 0),
            "never hold",
        ),
        pytest.param(
            {"rules": [{"id": "r", "when": ["a"], "unless": ["any info"], "at_least": "review"}]},
            ("rules", 0, "unless", 0),
            "never hold",
        ),
        pytest.param(
            {"rules": [{"id": "r", "when": [f"s{n}" for n in range(16)], "at_least": "review"}]},
            ("rules", 0, "when"),
            "more than 15",
        ),
        pytest.param(
            {"rules": [{"id": "r", "when": ["a"], "unless": ["b"], "derive": {"signal": "b"}}]},
            ("rules", 0, "unless", 0),
            "own absence",
        ),
        pytest.param(
            {
                "rules": [
                    {"id": "r", "when": ["a"], "unless": ["any high"], "derive": {"signal": "b"}},
                    {"id": "q", "when": ["b"], "derive": {"signal": "c", "severity": "high"}},
                ]
            },
            ("rules", 0, "unless", 0),
            "leads to b → c",
        ),
        pytest.param(
            {"rules": [{"id": "r", "when": ["a"], "at_least": "review", "at_most": "challenge"}]},
            ("rules", 0, "at_most"),
            "asks for at least",
        ),
        pytest.param(
            {
                "rules": [
                    {"id": "r", "when": ["a"], "at_least": "review"},
                    {"id": "q", "when": ["b", "a"], "at_most": "challenge"},
                ]
            },
            ("rules", 1, "at_most"),
            "'r' asks for at least",
        ),
        pytest.param(
            {"rules": [{"id": "r", "when": ["sanctions_hit"], "at_most": "review"}]},
            ("rules", 0, "at_most"),
            "mandatory clause 1",
        ),
        pytest.param({"mandatory": [{"when": ["a"], "verdict": "deny"}]}, ("mandatory", 0, "verdict"), "no verdict"),
        pytest.param(
            {"mandatory": [{"when": ["a", "b"], "verdict": "decline"}, {"when": ["b", "a"], "verdict": "review"}]},
            ("mandatory", 1, "when"),
            "same condition",
        ),
        pytest.param({"degraded": {"deadline": {"at_least": "x"}}}, ("degraded", "deadline", "at_least"), "no verdict"),
        pytest.param({"degraded": {"deadline": {"then": "approve"}}}, ("degraded", "deadline"), "go together"),
        pytest.param({"degraded": {"deadlin": {}}}, ("degraded", "deadlin"), "no cause"),
        pytest.param({"challenge": None}, ("verdicts", 1), "needs a 'challenge:'"),
        pytest.param({"review": None}, ("verdicts", 2), "needs a 'review:'"),
        pytest.param({"actions": [{"when": ["any bad"], "do": "x"}]}, ("actions", 0, "when", 0), "severity"),
        pytest.param(
            {"breaker": {"share_of_declines": "20%", "over": "1h", "at_least_events": 1, "then": "decline"}},
            ("breaker", "then"),
            "change nothing",
        ),
    ],
)
def test_what_does_not_fit_together_is_a_problem(parts: dict[str, Any], loc: tuple[str | int, ...], what: str) -> None:
    faults = problems(changed(**parts), None, {"deadline", "model_unavailable", "features_unavailable"})
    assert [fault for fault in faults if fault.loc == loc and what in fault.what], faults


@pytest.mark.parametrize(
    ("section", "key", "value", "what"),
    [
        ("challenge", "passed", "challenge", "cannot lead to a challenge"),
        ("challenge", "failed", "challenge", "severer"),
        ("challenge", "abandoned", "approve", "severer"),
        ("challenge", "failed", "rescore", "no verdict"),
        ("challenge", "by", ["sms", "sms"], "twice"),
        ("review", "if_late", "review", "back to a review"),
        ("review", "overflow", "review", "back to a review"),
        ("review", "overflow", None, "go together"),
        ("review", "approved", "decline", "milder"),
        ("review", "queue", "payments", ""),
    ],
)
def test_challenge_and_review_may_not_dead_end(section: str, key: str, value: Any, what: str) -> None:
    part = {**parse(CHECKOUT).data[section], key: value}
    faults = problems(changed(**{section: {k: v for k, v in part.items() if v is not None}}))
    assert any(what in fault.what for fault in faults) if what else not faults


def test_the_mildest_verdict_asks_for_nothing() -> None:
    pack = changed(verdicts=["challenge", "approve", "review", "decline"], tiers={"standard": {"decline": 80}})
    assert any("mildest" in fault.what for fault in problems(pack))


def test_unknown_signals_are_named_with_the_nearest_known_one() -> None:
    known = {"card_testing", "geo_mismatch", "long_clean_history", "account_takeover", "sanctions_hits", "coupon_farm"}
    faults = problems(loaded(), known)
    assert [(fault.loc, fault.hint) for fault in faults] == [
        (("mandatory", 0, "when", 0), "did you mean 'sanctions_hits'?"),
        (("actions", 1, "when", 0), "did you mean 'account_takeover'?"),
    ]


def test_a_policy_with_problems_is_not_made_and_each_has_its_place() -> None:
    text = CHECKOUT.replace("at_least: decline", "at_least: declin").replace("tier: standard", "tier: standrad")
    document = parse(text, "policies/checkout.yaml")
    with pytest.raises(PackError) as refused:
        Policy(validate(document, PolicyPack), document=document)
    assert [str(problem) for problem in refused.value.problems] == [
        "policies/checkout.yaml:9:15: no tier 'standrad'",
        "policies/checkout.yaml:16:15: no verdict 'declin' in this policy",
    ]
    with pytest.raises(PackError, match="default_tier: no tier 'standrad'"):
        Policy(loaded(text))


# The score.


def test_an_event_without_findings_has_the_mildest_verdict_and_never_enters_the_chain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = Policy(loaded())
    monkeypatch.delattr(policy, "_chain")
    assert policy.judge([], Situation(anomaly=Decimal(99))) == Outcome("approve", 0, (), (), ())
    with pytest.raises(AttributeError):
        policy.judge([finding("a")])


@pytest.mark.parametrize(
    ("findings", "anomaly", "score"),
    [
        pytest.param([("a", 20, ""), ("b", 15, "")], None, 35, id="findings without a group each count"),
        pytest.param([("a", 20, "g"), ("b", 15, "g")], None, 20, id="of a group the highest counts"),
        pytest.param([("a", 20, "g"), ("b", 15, "h"), ("c", 1, "")], None, 36, id="groups add up"),
        pytest.param([("a", 70, ""), ("b", 70, "")], None, 100, id="the cap is the cap"),
        pytest.param([("a", -70, ""), ("b", 10, "")], None, 0, id="no score lies below 0"),
        pytest.param([("a", 20, "")], Decimal("99.49"), 20, id="an anomaly below the mark adds nothing"),
        pytest.param([("a", 20, "")], Decimal("99.5"), 40, id="an anomaly at the mark adds its points"),
        pytest.param([("a", 90, "")], Decimal(100), 100, id="the cap holds for the anomaly, too"),
        pytest.param([], Decimal(100), 20, id="an anomaly counts without findings"),
    ],
)
def test_the_score(findings: list[tuple[str, int, str]], anomaly: Decimal | None, score: int) -> None:
    outcome = CHECK.judge([finding(s, points, group=g) for s, points, g in findings], Situation(anomaly=anomaly))
    assert outcome.score == score


def test_the_points_of_an_anomaly_are_a_step() -> None:
    outcome = CHECK.judge([finding("a", 30)], Situation(anomaly=Decimal("99.9")))
    assert outcome.steps == (
        Step("anomaly", "99.9", "30", "50"),
        Step("score", "standard", "approve", "challenge"),
    )


@pytest.mark.parametrize(
    ("tier", "points", "verdict"),
    [
        ("standard", 39, "approve"),
        ("standard", 40, "challenge"),
        ("standard", 59, "challenge"),
        ("standard", 60, "review"),
        ("standard", 85, "decline"),
        ("", 40, "challenge"),
        ("trusted", 59, "approve"),
        ("watched", 25, "challenge"),
    ],
)
def test_the_tier_says_which_score_leads_where(tier: str, points: int, verdict: str) -> None:
    assert CHECK.judge([finding("a", points)], Situation(tier)).verdict == verdict


def test_a_tier_that_the_policy_does_not_know_is_judged_as_the_default_one_and_said_so() -> None:
    assert CHECK.judge([], Situation("gold")).steps == (Step("tier", "unknown", "gold", "standard"),)
    assert CHECK.judge([finding("a", 50)], Situation("gold")).verdict == "challenge"


# Rules.


def test_a_derived_signal_leads_to_the_verdict_step_by_step() -> None:
    outcome = CHECK.judge([finding("card_testing", 45, "high"), finding("geo_mismatch")])
    assert outcome == Outcome(
        verdict="decline",
        score=45,
        signals=("card_testing", "geo_mismatch", "stolen_card"),
        actions=(),
        steps=(
            Step("score", "standard", "approve", "challenge"),
            Step("derive", "stolen-card", "card_testing + geo_mismatch", "stolen_card"),
            Step("at_least", "no-stolen-cards", "challenge", "decline"),
        ),
    )


LOYAL = finding("long_clean_history")


@pytest.mark.parametrize(
    ("others", "verdict"),
    [
        pytest.param([finding("a", 90)], "challenge", id="at_most softens"),
        pytest.param([finding("a", 10)], "approve", id="at_most never hardens"),
        pytest.param([finding("a", 90, "critical")], "decline", id="unless any critical"),
        pytest.param([finding("a", 70), finding("account_takeover")], "review", id="unless a signal"),
        pytest.param([finding("a", 90, hard=True)], "decline", id="not what is hard"),
        pytest.param([finding("sanctions_hit")], "decline", id="mandatory wins"),
    ],
)
def test_at_most_softens_what_may_be_softened(others: list[Finding], verdict: str) -> None:
    assert CHECK.judge([LOYAL, *others]).verdict == verdict


def test_a_softening_that_a_hard_finding_forbids_is_said() -> None:
    outcome = CHECK.judge([LOYAL, finding("a", 90, hard=True)])
    assert outcome.steps[-1] == Step("hard", "loyal-buyer", "decline", "decline")


BOUNDS = Policy(
    changed(
        rules=[
            {"id": "most-review", "when": ["a"], "at_most": "review"},
            {"id": "most-challenge", "when": ["b"], "at_most": "challenge"},
            {"id": "least-challenge", "when": ["c"], "at_least": "challenge"},
            {"id": "least-review", "when": ["d"], "at_least": "review"},
        ],
        mandatory=[{"id": "law", "when": ["e"], "verdict": "review"}, {"when": ["f"], "verdict": "decline"}],
    )
)


@pytest.mark.parametrize(
    ("signals", "points", "verdict", "steps"),
    [
        ("ab", 90, "challenge", ["score", "most-challenge"]),
        ("a", 90, "review", ["score", "most-review"]),
        ("cd", 0, "review", ["least-review"]),
        ("abd", 90, "review", ["score", "most-challenge", "least-review"]),
        ("ac", 90, "review", ["score", "most-review"]),
        ("e", 0, "review", ["law"]),
        ("e", 90, "decline", ["score"]),
        ("be", 90, "review", ["score", "most-challenge", "law"]),
        ("ef", 0, "decline", ["f"]),
    ],
)
def test_the_mildest_at_most_then_the_severest_at_least_then_what_is_mandatory(
    signals: str, points: int, verdict: str, steps: list[str]
) -> None:
    outcome = BOUNDS.judge([finding(signal) for signal in signals] + [finding("x", points)])
    assert outcome.verdict == verdict
    assert [step.by if step.by == "score" else step.name for step in outcome.steps] == steps


def test_every_step_goes_on_from_the_one_before() -> None:
    outcome = BOUNDS.judge([finding("b"), finding("d"), finding("f"), finding("x", 90)])
    way = [(step.before, step.after) for step in outcome.steps]
    assert way == [("approve", "decline"), ("decline", "challenge"), ("challenge", "review"), ("review", "decline")]


# Degraded.


@pytest.mark.parametrize(
    ("cause", "passes", "points", "verdict"),
    [
        ("model_unavailable", None, 0, "approve"),
        ("features_unavailable", None, 0, "review"),
        ("features_unavailable", None, 90, "decline"),
        ("deadline", True, 0, "approve"),
        ("deadline", True, 50, "challenge"),
        ("deadline", False, 0, "review"),
        ("deadline", None, 0, "review"),
        ("list_unavailable", None, 0, "approve"),
    ],
)
def test_a_cause_sets_the_least_verdict(cause: str, passes: bool | None, points: int, verdict: str) -> None:
    """`then` takes the place of `at_least` when the test is true; it never pulls down what was found."""
    findings = [finding("x", points)] if points else []
    outcome = CHECK.judge(findings, Situation(causes=(cause,), test=lambda _: passes))
    assert outcome.verdict == verdict
    assert outcome.steps[-1].by == "degraded"
    assert outcome.steps[-1].name == cause


def test_a_cause_stands_above_at_most() -> None:
    outcome = CHECK.judge([LOYAL, finding("x", 90)], Situation(causes=("features_unavailable",)))
    assert outcome.verdict == "review"


# Actions and what a verdict asks for.


def test_actions_follow_from_signals_with_their_time_in_seconds() -> None:
    outcome = CHECK.judge([finding("coupon_farm"), finding("payout_takeover")])
    assert outcome.actions == (Action("withhold_coupon"), Action("hold_payout", 72 * 3600, "house-policy"))


def test_actions_see_derived_signals_and_of_equal_ones_the_longest_holds() -> None:
    policy = Policy(
        changed(
            actions=[
                {"when": ["stolen_card"], "do": "hold", "for": "1h"},
                {"when": ["any critical"], "do": "hold", "for": "2h"},
                {"when": ["card_testing"], "unless": ["stolen_card"], "do": "note"},
                {"when": ["geo_mismatch"], "unless": ["any critical"], "do": "note"},
                {"when": ["a"], "do": "hold"},
            ]
        )
    )
    both = [finding("card_testing"), finding("geo_mismatch")]
    assert policy.judge(both).actions == (Action("hold", 7200),)
    assert policy.judge(both[:1]).actions == (Action("note"),)
    assert policy.judge([*both, finding("a")]).actions == (Action("hold", 0),)


def test_a_challenge_and_a_review_say_what_they_ask_for() -> None:
    assert CHECK.judge([finding("x", 40)]).asks == {"challenge": {"by": ["3ds", "wallet", "sms"], "expires_s": 900}}
    assert CHECK.judge([finding("x", 60)]).asks == {"review": {"queue": "payments", "due_s": 1800}}
    assert CHECK.judge([finding("x", 85)]).asks is None


# Capacity.


def test_a_full_queue_sends_reviews_elsewhere() -> None:
    outcome = CHECK.judge([finding("x", 60)], Situation(review_open=False))
    assert outcome.verdict == "challenge"
    assert outcome.steps[-1] == Step("overflow", "payments", "review", "challenge")
    assert outcome.asks is not None
    assert "challenge" in outcome.asks


@pytest.mark.parametrize("others", [[finding("x", 60, hard=True)], [finding("e")]])
def test_what_is_hard_or_mandatory_waits_in_a_full_queue(others: list[Finding]) -> None:
    outcome = BOUNDS.judge(others, Situation(review_open=False))
    assert outcome.verdict == "review"
    assert outcome.steps[-1] == Step("hard", "overflow", "review", "review")


def test_an_overflow_that_is_severer_holds_for_all() -> None:
    policy = Policy(changed(review={**parse(CHECKOUT).data["review"], "overflow": "decline"}))
    assert policy.judge([finding("x", 60, hard=True)], Situation(review_open=False)).verdict == "decline"


def test_capacity_counts_a_sliding_hour_exactly() -> None:
    capacity = Capacity(Rate(2, HOUR))
    assert [capacity.take(now) for now in (0, 10, 20)] == [True, True, False]
    assert not capacity.open(HOUR - 1)
    assert capacity.open(HOUR)
    assert capacity.take(HOUR)
    assert capacity.snapshot(HOUR) == {"taken": 2, "limit": 2}
    assert capacity.take(HOUR + 10)
    assert not capacity.take(HOUR + 11)


def test_capacity_stands_still_for_a_clock_that_jumps_back_a_little_and_starts_afresh_for_more() -> None:
    capacity = Capacity(Rate(1, HOUR))
    assert capacity.take(100 * HOUR)
    assert not capacity.open(100 * HOUR - 5)
    assert capacity.open(50 * HOUR)
    assert capacity.take(50 * HOUR)
    assert not capacity.open(51 * HOUR - 1)


# Breaker.

RUNAWAY = finding("new_rule", 90, rule="r.new")
TRIPPED = Situation(tripped=frozenset({"r.new"}))


def test_a_tripped_rule_leads_to_no_more_than_the_breaker_says() -> None:
    outcome = CHECK.judge([RUNAWAY], TRIPPED)
    assert (outcome.verdict, outcome.score, outcome.signals) == ("review", 0, ())
    assert outcome.steps == (
        Step("tripped", "r.new", "decline", "approve"),
        Step("breaker", "r.new", "approve", "review"),
    )


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        pytest.param([replace(RUNAWAY, points=45)], "challenge", id="not more than with the rule"),
        pytest.param([replace(RUNAWAY, points=10)], "approve", id="nothing where the rule did nothing"),
        pytest.param([RUNAWAY, finding("x", 90)], "decline", id="nothing against what others found"),
        pytest.param([replace(RUNAWAY, hard=True)], "decline", id="not what is hard"),
        pytest.param([replace(RUNAWAY, signal="sanctions_hit", points=0)], "decline", id="not what is mandatory"),
        pytest.param(
            [replace(RUNAWAY, signal="long_clean_history", points=0), finding("x", 90)],
            "challenge",
            id="a rule that only softens stays",
        ),
        pytest.param(
            [replace(RUNAWAY, signal="card_testing", points=0), finding("geo_mismatch")],
            "review",
            id="what was derived falls, too",
        ),
    ],
)
def test_a_breaker_touches_only_what_a_tripped_rule_hardened(findings: list[Finding], verdict: str) -> None:
    assert CHECK.judge(findings, TRIPPED).verdict == verdict


def test_a_breaker_keeps_off_what_a_mandatory_clause_rests_on_through_other_rules() -> None:
    policy = Policy(changed(mandatory=[{"when": ["stolen_card"], "verdict": "decline"}]))
    findings = [replace(RUNAWAY, signal="card_testing", points=0), finding("geo_mismatch")]
    assert policy.judge(findings, TRIPPED).verdict == "decline"
    by_severity = Policy(changed(mandatory=[{"when": ["any critical"], "verdict": "decline"}]))
    assert by_severity.judge([replace(RUNAWAY, severity="critical")], TRIPPED).verdict == "decline"


def test_without_a_breaker_nothing_is_held_back() -> None:
    assert Policy(changed(breaker=None)).judge([RUNAWAY], TRIPPED).verdict == "decline"


@pytest.mark.parametrize(
    ("findings", "situation", "blamed"),
    [
        ([RUNAWAY], Situation(), {"r.new"}),
        ([RUNAWAY], TRIPPED, {"r.new"}),
        ([replace(RUNAWAY, points=60)], Situation(), set()),
        ([RUNAWAY, finding("x", 0)], Situation(), {"r.new"}),
        ([RUNAWAY, finding("geo_mismatch", 0)], Situation(), {"r.new", "rules.geo_mismatch"}),
        ([replace(RUNAWAY, hard=True), finding("y", 1)], Situation(), {"rules.y"}),
        ([finding("sanctions_hit", 50), finding("y", 1)], Situation(), {"rules.y"}),
    ],
)
def test_rules_are_blamed_for_declines_they_had_a_part_in(
    findings: list[Finding], situation: Situation, blamed: set[str]
) -> None:
    """Also for those that only an open breaker turned away: it must not close while its rule still runs away."""
    assert CHECK.blamed(findings, CHECK.judge(findings, situation)) == blamed


def breaker(events: int = 10, share: str = "20%") -> Breaker:
    return Breaker(
        BreakerClause.model_validate(
            {"share_of_declines": share, "over": "15m", "at_least_events": events, "then": "review"}
        )
    )


def test_a_breaker_trips_at_its_share_once_there_are_enough_events() -> None:
    running = breaker()
    for at in range(9):
        running.record({"r"}, at)
    assert running.tripped(9) == frozenset()
    running.record((), 9)
    assert running.tripped(9) == {"r"}
    assert running.snapshot(9) == {"events": 10, "declines": {"r": 9}}


def test_a_breaker_counts_each_rule_against_all_events() -> None:
    running = breaker()
    for at in range(10):
        running.record(["a", "b"] if at == 0 else ["a"] if at == 1 else (), at)
    assert running.tripped(10) == {"a"}


def test_a_breaker_closes_when_the_period_has_slid_on() -> None:
    running = breaker()
    for at in range(20):
        running.record({"r"} if at < 4 else (), at * MINUTE // 10)
    assert running.tripped(2 * MINUTE) == {"r"}
    for at in range(20):
        running.record((), 10 * MINUTE + at)
    assert running.tripped(10 * MINUTE + 20) == frozenset()
    assert running.snapshot(30 * MINUTE) == {"events": 0, "declines": {}}


def test_a_breaker_holds_a_bounded_amount_and_survives_jumps_of_the_clock() -> None:
    running = breaker(events=1)
    for at in range(5_000):
        running.record({f"r{at % 7}"}, at * MINUTE)
    assert len(running._slots) <= 60
    assert len(running._events) <= 60
    assert len(running.tripped(5_000 * MINUTE)) <= 7
    running.record({"r"}, 4_999 * MINUTE)
    running.record({"back"}, 3 * MINUTE)
    assert running.snapshot(3 * MINUTE) == {"events": 1, "declines": {"back": 1}}


# Resolutions.


@pytest.mark.parametrize(
    ("verdict", "resolution", "after"),
    [
        ("challenge", Resolution("challenge", "passed"), None),
        ("challenge", Resolution("challenge", "failed"), "decline"),
        ("challenge", Resolution("challenge", "abandoned"), "decline"),
        ("challenge", Resolution("challenge", "late"), "decline"),
        ("review", Resolution("review", "approved"), "approve"),
        ("review", Resolution("review", "rejected"), "decline"),
        ("review", Resolution("review", "late"), "decline"),
    ],
)
def test_each_end_of_a_challenge_or_review_means_something(
    verdict: str, resolution: Resolution, after: str | None
) -> None:
    step = Step(resolution.asked, resolution.result, verdict, after or "rescore")
    assert resolve(CHECK, verdict, resolution) == Ruling(after, step)


def test_a_policy_may_say_what_a_passed_challenge_and_an_approved_review_mean() -> None:
    parts = parse(CHECKOUT).data
    policy = Policy(
        changed(
            challenge={**parts["challenge"], "passed": "approve"}, review={**parts["review"], "approved": "challenge"}
        )
    )
    assert resolve(policy, "challenge", Resolution("challenge", "passed")).verdict == "approve"
    assert resolve(policy, "review", Resolution("review", "approved")).verdict == "challenge"


def test_a_resolution_that_nothing_waits_for_is_a_conflict() -> None:
    with pytest.raises(Conflict):
        resolve(CHECK, "decline", Resolution("review", "approved"))
    listing = Policy(
        changed(
            verdicts=["approve", "decline"],
            tiers={"standard": {"decline": 60}},
            challenge=None,
            review=None,
            rules=None,
            degraded=None,
            breaker=None,
        )
    )
    with pytest.raises(Conflict):
        resolve(listing, "review", Resolution("review", "approved"))


def test_a_resolution_that_does_not_fit_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="does not end"):
        resolve(CHECK, "review", Resolution("review", "passed"))
    with pytest.raises(ValueError, match="does not end"):
        resolve(CHECK, "review", Resolution("nothing", "passed"))  # type: ignore[arg-type]


def test_an_event_judged_again_after_its_challenge_is_asked_for_none() -> None:
    passed = Situation(challenge_passed=True)
    outcome = CHECK.judge([finding("x", 45)], passed)
    assert outcome.verdict == "approve"
    assert outcome.steps[-1] == Step("challenge", "passed", "challenge", "approve")
    assert CHECK.judge([finding("x", 60)], passed).verdict == "review"
    assert CHECK.judge([finding("x", 90)], passed).verdict == "decline"
    assert CHECK.judge([finding("x", 60)], replace(passed, review_open=False)).verdict == "approve"


# The whole, against a plain retelling of the order in which a policy judges.

VERDICTS = ("approve", "challenge", "review", "decline")
SIGNALS = ("a", "b", "c", "d", "e")


def plain_verdict(pack: PolicyPack, findings: Sequence[Finding], situation: Situation) -> str:
    """The verdict by the words of docs/policies.md, for policies whose rules derive nothing."""
    dropped = [
        f for f in findings if f.rule in situation.tripped and not f.hard and f.signal not in mandatory_terms(pack)
    ]
    verdict, firm = plain_weigh(pack, findings, situation)
    if dropped:
        left, left_firm = plain_weigh(pack, [f for f in findings if f not in dropped], situation)
        assert pack.breaker is not None
        if left <= verdict:
            verdict, firm = min(verdict, max(left, VERDICTS.index(pack.breaker.then))), left_firm
    if VERDICTS[verdict] == "review" and not situation.review_open and not firm:
        verdict = VERDICTS.index("challenge")
    if VERDICTS[verdict] == "challenge" and situation.challenge_passed:
        verdict -= 1
    return VERDICTS[verdict]


def mandatory_terms(pack: PolicyPack) -> set[str]:
    return {term for clause in pack.mandatory for term in clause.when}


def plain_weigh(pack: PolicyPack, findings: Sequence[Finding], situation: Situation) -> tuple[int, bool]:
    held = {f.signal for f in findings}
    worst = max((SEVERITIES.index(f.severity) for f in findings), default=-1)

    def so(term: str) -> bool:
        return worst >= SEVERITIES.index(term[4:]) if term.startswith("any ") else term in held

    groups: dict[Any, int] = {}
    for place, f in enumerate(findings):
        key = f.group or place
        groups[key] = max(groups.get(key, 0), f.points)
    score = min(pack.score.cap, sum(groups.values()))
    thresholds = pack.tiers.get(situation.tier, pack.tiers[pack.default_tier])
    verdict = max([0, *(VERDICTS.index(v) for v, at in thresholds.items() if score >= at)])
    firing = [r for r in pack.rules if all(map(so, r.when)) and not any(map(so, r.unless))]
    if not any(f.hard for f in findings):
        verdict = min([verdict, *(VERDICTS.index(r.at_most) for r in firing if r.at_most)])
    verdict = max([verdict, *(VERDICTS.index(r.at_least) for r in firing if r.at_least)])
    for cause in situation.causes:
        floor = pack.degraded[cause].at_least
        if pack.degraded[cause].then and situation.test(cause):
            floor = pack.degraded[cause].then
        verdict = max(verdict, VERDICTS.index(floor) if floor else 0)
    law = [VERDICTS.index(clause.verdict) for clause in pack.mandatory if all(map(so, clause.when))]
    return max([verdict, *law]), bool(law) or any(f.hard for f in findings)


some_terms = st.lists(st.sampled_from([*SIGNALS, "any high", "any critical"]), min_size=1, max_size=3, unique=True)
bounds = st.one_of(
    st.fixed_dictionaries({"at_least": st.sampled_from(VERDICTS)}),
    st.fixed_dictionaries({"at_most": st.sampled_from(VERDICTS)}),
)


@st.composite
def packs(draw: st.DrawFn) -> PolicyPack:
    rules = [
        {"id": f"r{at}", "when": draw(some_terms), "unless": draw(st.one_of(st.just([]), some_terms)), **draw(bounds)}
        for at in range(draw(st.integers(0, 5)))
    ]
    law = [
        {"when": [signal], "verdict": draw(st.sampled_from(VERDICTS))}
        for signal in draw(st.lists(st.sampled_from(SIGNALS), max_size=2, unique=True))
    ]
    return changed(rules=rules, mandatory=law)


some_findings = st.lists(
    st.builds(
        Finding,
        rule=st.sampled_from(["r.one", "r.two", "r.three"]),
        signal=st.sampled_from(SIGNALS),
        severity=st.sampled_from(SEVERITIES),
        points=st.integers(0, 60),
        hard=st.sampled_from([False, False, False, True]),
        group=st.sampled_from(["", "", "g"]),
    ),
    max_size=5,
)
situations = st.builds(
    Situation,
    tier=st.sampled_from(["", "trusted", "watched", "unheard"]),
    causes=st.lists(st.sampled_from(["deadline", "features_unavailable"]), max_size=2, unique=True).map(tuple),
    test=st.sampled_from([True, False, None]).map(lambda answer: lambda _cause: answer),
    tripped=st.frozensets(st.sampled_from(["r.one", "r.two"])),
    review_open=st.booleans(),
    challenge_passed=st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(
    packs().filter(lambda pack: not problems(pack)),
    st.lists(st.tuples(some_findings, situations), min_size=1, max_size=8),
)
def test_a_policy_judges_in_the_order_it_says(pack: PolicyPack, events: list[tuple[list[Finding], Situation]]) -> None:
    policy = Policy(pack)
    for findings, situation in events:
        outcome = policy.judge(findings, situation)
        assert outcome.verdict == plain_verdict(pack, findings, situation)
        assert outcome == policy.judge(findings, situation)


# The reference.


def blocks() -> list[Mapping[str, Any]]:
    texts = re.findall(r"^```yaml(?: fragment)?\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [parse(text, "docs/policies.md").data for text in texts]


def test_every_yaml_block_of_the_reference_loads() -> None:
    """What names its policy is a whole one; each of the others replaces parts of the first."""
    whole, *rest = blocks()
    assert len(rest) >= 8
    for block in (whole, *rest):
        pack = PolicyPack.model_validate(block if "policy" in block else {**whole, **block})
        assert problems(pack) == [], block
        Policy(pack)


def test_the_reference_names_every_key_of_the_file() -> None:
    text = DOCS.read_text(encoding="utf-8")
    base = PolicyPack.__base__
    models = [m for m in vars(pack_module).values() if isinstance(m, type) and base in m.__bases__]
    keys = {field.alias or name for model in models for name, field in model.model_fields.items()}
    assert len(keys) > 40
    assert {key for key in keys if f"`{key}`" not in text} == set()


def test_a_policy_file_has_a_json_schema() -> None:
    schema = PolicyPack.model_json_schema(by_alias=True)
    assert schema["$defs"]["Challenge"]["properties"]["expires"]["type"] == "string"
    assert set(schema["required"]) == {"policy", "for", "verdicts", "tiers", "default_tier"}
