"""Experiments: as many units as were declared, one test, and the same answer whenever somebody looks."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from api.desk import Meters
from cli import main
from cli.experiment import lines
from engine.arbiter import Caller
from engine.assembly import Settings
from engine.experiments import Arm, Experiment, Standing, Unit, compared, sample, standing
from engine.packs.durations import MICROSECONDS
from engine.rollout import Rollout
from tests import books

# How many


@pytest.mark.parametrize(
    ("usual", "effect", "ratio", "shadow", "live"),
    [
        (0.6, 0.1, 1, 388, 388),  # 0.6 against 0.5, the harder side; against 0.7 it would be 356
        (0.05, 0.025, 1, 1471, 1471),
        (0.05, 0.025, 1 / 3, 2825, 942),
        (0.02, 0.05, 1, 269, 269),  # a share below none is no side
    ],
)
def test_the_sample_is_that_of_the_formula(usual: float, effect: float, ratio: float, shadow: int, live: int) -> None:
    assert sample(usual, effect, 0.05, 0.8, ratio) == {"shadow": shadow, "live": live}


def test_the_interval_is_that_of_newcombes_example() -> None:
    found = compared(Arm(80, 48), Arm(70, 56), 0.05)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)
    assert round(found.difference, 4) == 0.2
    assert found.differs == (found.p < 0.05)


def test_arms_without_any_or_with_nothing_but_hits_do_not_differ() -> None:
    for hits in (0, 50):
        found = compared(Arm(50, hits), Arm(50, hits), 0.05)
        assert (found.p, found.differs, found.difference) == (1.0, False, 0.0)
        assert found.low < 0 < found.high


# Looking

ASKED = Experiment(
    *("e", "Does it?", "risk", "a.b", ("payment",), Rollout(5000, "card.ref"), 0),
    *(frozenset({"chargeback"}), frozenset(), 0, 0.3, 0.15, 0.05, 0.8),
)
RUNS = 1_500


def looks(rng: random.Random, live_share: float) -> Iterator[tuple[Standing, bool]]:
    """What somebody who looks after every ten units of each arm is told, and what a test at each look would say."""
    units: dict[str, list[Unit]] = {"shadow": [], "live": []}
    for _ in range(ASKED.needed["live"] // 10 + 4):
        for arm, share in (("shadow", 0.3), ("live", live_share)):
            units[arm] += [Unit("e", 0, rng.random() < share) for _ in range(10)]
        now = {arm: Arm(len(of), sum(unit.hit for unit in of)) for arm, of in units.items()}
        yield standing(ASKED, units, 0, 1), compared(now["shadow"], now["live"], 0.05).differs


def simulated(live_share: float) -> tuple[float, float]:
    """How often a difference is told, and how often somebody who tests at each look sees one at some look."""
    rng, told, peeked = random.Random(20261130), 0, 0
    for _ in range(RUNS):
        seen = list(looks(rng, live_share))
        results = [each.result for each, _ in seen if each.result is not None]
        assert results
        assert len(set(results)) == 1, "once it is there, more units change nothing"
        told += results[0].differs
        peeked += any(differs for _, differs in seen)
    return told / RUNS, peeked / RUNS


def test_looking_early_does_not_raise_the_error_rate() -> None:
    differed, peeked = simulated(0.3)
    assert differed < 0.05 + 3 * (0.05 * 0.95 / RUNS) ** 0.5
    assert peeked > 0.12, "who tests at each look is wrong far more often"


def test_the_effect_that_was_declared_is_found_with_the_power_that_was_declared() -> None:
    differed, _ = simulated(0.45)
    assert differed > 0.8 - 3 * (0.8 * 0.2 / RUNS) ** 0.5


def test_before_both_arms_are_full_nothing_is_told_of_how_they_differ() -> None:
    hits = [Unit("e", 0, True)] * 1_000
    found = standing(ASKED, {"shadow": hits, "live": hits[:5]}, 3, 10)
    assert (found.result, found.ready_at, found.keyless) == (None, None, 3)
    assert "share" not in json.dumps(found.json())


def test_the_last_outcome_of_the_sample_has_its_time() -> None:
    slow = Experiment(*(getattr(ASKED, name) if name != "within" else 50 for name in ASKED.__slots__))
    units = [Unit("e", 7, False)] * 1_000
    assert standing(slow, {"shadow": units, "live": units}, 0, 56).ready_at == 57
    assert standing(slow, {"shadow": units, "live": units}, 0, 56).result is None
    assert standing(slow, {"shadow": units, "live": units}, 0, 57).result is not None


@pytest.mark.parametrize(
    ("live", "shown"),
    [(0.3, "p = 1.0000: no difference was shown"), (0.42, "p = 0.0"), (1.0, "p < 0.0001: the arms differ")],
)
def test_a_report_counts_the_units_of_the_sample_and_gives_no_p_of_nothing(live: float, shown: str) -> None:
    needed = ASKED.needed["live"]
    hits = {"shadow": round(0.3 * needed), "live": round(live * needed)}
    units = {arm: [Unit("e", 0, number < hit) for number in range(needed + 9)] for arm, hit in hits.items()}
    text = "\n".join(lines(standing(ASKED, units, 0, 1)))
    assert f"{needed} of {needed} units; 9 later ones not counted" in text
    assert shown in text


def test_a_p_value_has_its_digits_where_the_arms_are_far_apart() -> None:
    # The normal distribution is 1 to sixteen digits here, and less it is not.
    assert 0 < compared(Arm(1_000, 100), Arm(1_000, 900), 0.05).p < 1e-200


# Packs

RULE = """\
pack: payments/tried
about: A rule on its way.
for: payment
owner: payments-risk
rules:
  - id: tried.one
    when: amount >= 5 CNY
    signal: tried
    because: {en: tried, zh: 试}
    basis: {kind: house-policy, review_by: 2027-05-31}
    rollout: 50% by card.ref
"""
PLAN = """\
experiment: tried-one
question: Does the rule lower the share of chargebacks?
owner: payments-risk
rule: tried.one
from: 2026-11-01
metric: {outcome: [chargeback], within: 1d}
expect: {usual: 50%, effect: 50%}
"""
FILES = {**books.SMALL, "rules/tried.yaml": RULE, "policies/experiments/tried.yaml": PLAN}

WRONG = [
    ("no such rule", "rule: tried.one", "rule: tried.onne", "did you mean 'tried.one'?"),
    ("a rule for everybody", "rule: tried.one", "rule: small.burst", "there is nothing to compare"),
    ("neither metric", "{outcome: [chargeback], within: 1d}", "{}", "counts either outcomes or verdicts"),
    ("no time", ", within: 1d", "", "'within' says how long an outcome is waited for"),
    ("no such outcome", "[chargeback]", "[chargebak]", "did you mean 'chargeback'?"),
    ("no such verdict", "{outcome: [chargeback], within: 1d}", "{verdict: [aprove]}", "did you mean 'approve'?"),
    ("an effect that cannot be", "usual: 50%, effect: 50%", "usual: 50%, effect: 60%", "no share differs so much"),
    ("an effect that is nothing", "effect: 50%", "effect: 0.001%", "ask for a larger effect"),
    ("a certainty", "owner: pay", "power: 100%\nowner: pay", "nothing is that certain"),
    ("a share that is none", "effect: 50%", "effect: 0.5", "such as 20%"),
]


@pytest.mark.parametrize(("old", "new", "said"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_a_plan_that_cannot_be_is_told(old: str, new: str, said: str, tmp_path: Path) -> None:
    told = books.told(tmp_path, {**FILES, "policies/experiments/tried.yaml": PLAN.replace(old, new)})
    assert told
    assert all("policies/experiments/tried.yaml:" in each for each in told)
    assert said in "".join(told)


def test_a_second_test_of_one_rule_is_told(tmp_path: Path) -> None:
    other = PLAN.replace("tried-one", "again")
    (told,) = books.told(tmp_path, {**FILES, "policies/experiments/z.yaml": other})
    assert "one question has one test" in told


def test_a_rule_that_counts_when_unknown_makes_arms_that_are_not_alike(tmp_path: Path) -> None:
    rule = RULE.replace("    rollout", "    if_unknown: fire\n    rollout")
    (told,) = books.told(tmp_path, {**FILES, "rules/tried.yaml": rule})
    assert "the arms would not be alike" in told


# The ledger

OFFICER = Caller("li.si", "person", "shop-a", frozenset({"rules", "admin"}))
DAY = 86_400 * MICROSECONDS


async def said(arbiter: Any) -> dict[str, Any]:
    (found,) = (await arbiter.experiments(OFFICER))["experiments"]
    return dict(found)


@pytest.mark.anyio
async def test_an_experiment_from_its_plan_to_its_answer(tmp_path: Path, ledger_url: str, key_path: Path) -> None:
    before = {name: content for name, content in FILES.items() if "experiments" not in name}
    books.write(tmp_path, before)
    rules, policies = tmp_path / "rules", tmp_path / "policies"
    clock = books.Clock()
    given = Settings(database_url=ledger_url, key_file=key_path, rules=rules, policies=policies)
    async with books.running(given, clock) as arbiter:
        # What was seen before the question was asked does not count.
        await books.judged(arbiter, books.payment("early", 9, card={"ref": "c-early"}))
        books.write(tmp_path, FILES)
        await arbiter.reload(OFFICER)
        arms: dict[str, list[str]] = {"shadow": [], "live": []}
        for number in range(60):
            answer = await books.judged(arbiter, books.payment(f"e{number}", 9, card={"ref": f"c-{number}"}))
            arms["live" if "tried" in answer["signals"] else "shadow"].append(f"e{number}")
            if number == 3:
                assert (await said(arbiter))["result"] is None
        await books.judged(arbiter, books.payment("again", 9, card={"ref": "c-7"}))  # the same card
        await books.judged(arbiter, books.payment("nobody", 9))
        found = await said(arbiter)
        needed = found["needed"]
        assert found["units"] == {arm: len(events) for arm, events in arms.items()}
        assert (found["keyless"], found["result"]) == (1, None)
        assert found["ready_at"] == books.NOW + DAY
        assert all(len(arms[arm]) >= needed[arm] for arm in arms)

        # Of the shadow's sample all but one are charged back, one of them too late to count.
        clock.now += DAY // 2
        for place, event in enumerate(arms["shadow"][: needed["shadow"] - 1]):
            clock.now = books.NOW + (DAY // 2 if place else DAY) + place
            body = {
                "kind": "outcome",
                "event_id": f"o-{event}",
                "outcome": {"refers_to": event, "result": "chargeback"},
            }
            at = "2026-11-24T12:00:00Z" if not place else "2026-11-23T20:00:00Z"
            await arbiter.observe(orjson.dumps({**body, "at": at}), books.SHOP)
        clock.now = books.NOW + DAY
        result = (await said(arbiter))["result"]
        assert result["shadow"] == {
            "units": needed["shadow"],
            "hits": needed["shadow"] - 2,
            "share": f"{(needed['shadow'] - 2) / needed['shadow']:.6f}",
        }
        assert (result["live"]["hits"], result["differs"]) == (0, True)
        text = Meters(dict, standings=lambda: arbiter.standings).text().decode()
        assert (
            f'arbiter_experiment_needed{{arm="live",experiment="tried-one",tenant="shop-a"}} {needed["live"]}.0' in text
        )
        assert 'arbiter_experiment_difference{end="difference",experiment="tried-one",tenant="shop-a"} -0.' in text
        # More units change nothing, and a rule that asks something else begins anew.
        await books.judged(arbiter, books.payment("later", 9, card={"ref": "c-later"}))
        assert (await said(arbiter))["result"] == result
        books.write(tmp_path, {"rules/tried.yaml": RULE.replace(">= 5 CNY", ">= 6 CNY")})
        await arbiter.reload(OFFICER)
        assert (await said(arbiter))["units"] == {"shadow": 0, "live": 0}


@pytest.mark.anyio
async def test_all_experiments_are_counted_in_one_reading_each_from_its_day_on(
    tmp_path: Path, ledger_url: str, key_path: Path
) -> None:
    other = {
        "rules/other.yaml": RULE.replace("tried.one", "tried.two").replace("payments/tried", "payments/other"),
        "policies/experiments/other.yaml": PLAN.replace("tried-one", "tried-two")
        .replace("tried.one", "tried.two")
        .replace("2026-11-01", "2026-11-24"),
    }
    books.write(tmp_path, {**FILES, **other})
    given = Settings(
        database_url=ledger_url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies"
    )
    clock = books.Clock()
    async with books.running(given, clock) as arbiter:
        for number in range(5):
            await books.judged(arbiter, books.payment(f"e{number}", 9, card={"ref": f"c-{number}"}))
        clock.now += DAY
        await books.judged(arbiter, books.payment("e5", 9, card={"ref": "c-5"}))
        found = (await arbiter.experiments(OFFICER))["experiments"]
    assert {each["experiment"]: sum(each["units"].values()) for each in found} == {"tried-one": 6, "tried-two": 1}


def test_the_command_says_how_far_it_is_and_no_more(tmp_path: Path, ledger_url: str, key_path: Path) -> None:
    books.write(tmp_path, FILES)
    given = {"ARBITER_DATABASE_URL": ledger_url, "ARBITER_KEY_FILE": str(key_path)}
    where = [f"--rules={tmp_path / 'rules'}", f"--policies={tmp_path / 'policies'}"]

    def run(*words: str) -> Any:
        return CliRunner().invoke(main, ["experiment", *words, *where], env=given)

    found = run("status")
    assert found.exit_code == 0, found.output
    assert "tried-one: Does the rule lower the share of chargebacks?" in found.stdout
    assert "no result before both arms are full" in found.stdout
    assert json.loads(run("status", "--json").stdout)[0]["units"] == {"shadow": 0, "live": 0}
    assert run("report", "tried-one").exit_code == 1
    assert "did you mean 'tried-one'?" in run("report", "tried-on").stderr
