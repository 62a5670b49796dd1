"""Invariants of policies: what is proven, what is broken and by which case, what is not told, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli import main
from engine.errors import PackError
from engine.force import refuse_failing
from engine.invariants import try_invariants
from engine.reasoning.prove import Proof, prove
from engine.rulebook import Rulebook, load
from tests.books import ROOT, shipped
from tests.test_check import HEAD, rule

POLICY = """\
policy: p
for: [transaction]
verdicts: [approve, challenge, review, decline]
tiers: {standard: {challenge: 30, review: 50, decline: 80}, banned: {decline: 10}}
default_tier: standard
rules:
  - {id: r1, when: [burst, guest], derive: {signal: thief, severity: critical}}
  - {id: r2, when: [thief], at_least: decline}
  - {id: soft, when: [good], unless: [any critical], at_most: challenge}
mandatory: [{when: [embargo], verdict: decline}]
degraded: {deadline: {at_least: review, if: amount < 10 CNY, then: approve}}
challenge: {by: [3ds], expires: 15m, passed: rescore, failed: decline, abandoned: decline}
review: {queue: q, due: 30m, if_late: decline, capacity: 400/h, overflow: challenge}
actions: [{when: [thief], do: block_card}]
breaker: {per: rule, share_of_declines: 20%, over: 15m, at_least_events: 500, then: review}
invariants:
"""
RULES = [
    rule("burst", "tries >= 5 and amount <= 20 CNY", "burst", points=40),
    rule("guest", "buyer.guest", "guest", points=20),
    rule("large", "amount > 30 CNY", "large", points=5),
    rule("embargo", 'card.country == "KP"', "embargo", points=5),
    rule("good", "buyer.orders > 3", "good", points=0),
    rule("cards", "cards >= 4 and spent > 100 CNY", "cards", points=35),
    rule("rate", "amount in CNY > 3 * avg(amount in CNY last 30d by card.ref)", "rate", points=5),
    rule("maybe", "device.emulator", "emulated", points=5, if_unknown="unsure"),
]


def rulebook(folder: Path, *invariants: str, tests: str = "", more: str = "") -> Rulebook:
    (folder / "rules").mkdir(exist_ok=True)
    (folder / "policies").mkdir(exist_ok=True)
    (folder / "rules/a.yaml").write_text(HEAD.format(kinds="transaction") + "".join(RULES) + more, "utf-8")
    lines = "".join(f"  - {{id: i{number}, {text}}}\n" for number, text in enumerate(invariants))
    (folder / "policies/p.yaml").write_text(POLICY + lines + tests, "utf-8")
    return load(folder / "rules", folder / "policies")


def proven(folder: Path, invariant: str) -> Proof:
    [proof] = prove(rulebook(folder, invariant))
    return proof


@pytest.mark.parametrize(
    ("invariant", "by"),
    [
        ('never: "verdict == approve when embargo"', "whatever is found"),
        ("always: verdict == decline, when: embargo", "whatever is found"),
        ('always: "verdict == decline when thief and not held_back"', "whatever is found"),
        ('never: "verdict < review when thief and not queue_full"', "whatever is found"),
        ('never: "verdict == approve when thief and not challenge_passed"', "whatever is found"),
        ('always: "any critical when thief"', "whatever is found"),
        ('always: "action.block_card when thief and not held_back"', "whatever is found"),
        ('never: "score > 100"', "whatever is found"),
        (
            """always: "verdict == 'decline' when tier == 'banned' and score >= 10 and not good and not held_back" """,
            "found",
        ),
        ('never: "large and burst"', "by the conditions of the rules"),
        ('always: "large when amount > 50 CNY"', "by the conditions of the rules"),
        ('always: "not embargo when card.country is missing"', "by the conditions of the rules"),
        ('never: "emulated and unsure"', "whatever is found"),
        ('always: "verdict == approve when score == 0 and not any info"', "whatever is found"),
    ],
)
def test_what_holds_of_every_event_is_proven(tmp_path: Path, invariant: str, by: str) -> None:
    proof = proven(tmp_path, invariant)
    assert (proof.status, proof.case) == ("proven", "")
    assert by in proof.why


def test_what_rests_on_a_rule_that_is_rolled_out_holds_only_of_those_it_is_live_for(tmp_path: Path) -> None:
    promise = 'always: "large when amount > 50 CNY"'
    assert proven(tmp_path, promise).status == "proven"
    [file] = (tmp_path / "rules").iterdir()
    rolled = file.read_text("utf-8").replace(
        "  - id: x.large\n", "  - id: x.large\n    rollout: 99% by buyer.account\n"
    )
    assert "rollout" in rolled
    file.write_text(rolled, "utf-8")
    [proof] = prove(load(tmp_path / "rules", tmp_path / "policies"))
    assert proof.status == "refuted", proof.why
    assert "amount: 50.01 CNY" in proof.case


@pytest.mark.parametrize(
    ("invariant", "shows"),
    [
        ("""never: "verdict == approve when merchant.tier == 'banned'" """, "tier: banned"),
        ("never: verdict < decline, when: thief", "held_back: ["),
        ('always: "verdict >= review when thief"', "queue_full: true"),
        ('never: "verdict == approve when thief"', "challenge_passed: true"),
        ('never: "burst and guest"', "before: ["),
        ("never: score > 60", "expect: holds"),
        ('never: "cards"', "expect: holds"),
        ('never: "verdict >= review when score == 0"', "causes: ["),
        ('never: "unsure"', "expect: holds"),
        ('never: "rate and burst"', "expect: holds"),
        ("never: buyer.guest", "buyer.guest: true"),
    ],
)
def test_what_is_broken_comes_with_a_case_that_fails(tmp_path: Path, invariant: str, shows: str) -> None:
    proof = proven(tmp_path, invariant)
    assert proof.status == "refuted", proof.why
    assert shows in proof.case
    tests = f"    tests:\n      {proof.case}\n"
    block = f"  - id: i0\n    {invariant.replace(', when:', chr(10) + '    when:')}\n{tests}"
    [(trial, file)] = try_invariants(rulebook(tmp_path, tests=block))
    assert file == "policies/p.yaml"
    assert trial.problem is not None
    assert "expects 'holds', it is 'broken'" in trial.problem.what
    assert "the verdict is" in trial.problem.hint


def test_what_only_the_solver_can_break_is_undecided(tmp_path: Path) -> None:
    """A kept list may hold anything, says the solver; here it is empty, so nothing can be played."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/l.yaml").write_text("list: nobody\nabout: Empty.\nmatch: exact\nentries: []\n", "utf-8")
    listed = rule("listed", "card.bin in list nobody", "listed", points=5)
    found = rulebook(tmp_path, 'never: "listed"', more=listed)
    [proof] = prove(found)
    assert (proof.status, proof.case) == ("undecided", "")
    assert "card.bin in list nobody" in proof.why
    assert run(tmp_path).exit_code == 3


def test_a_rule_that_counts_for_some_may_be_silent(tmp_path: Path) -> None:
    partly = rule("partly", "amount > 500 CNY", "partly", points=5, rollout="25% by buyer.account")
    silent, sound = prove(
        rulebook(
            tmp_path, 'always: "partly when amount > 600 CNY"', 'never: "partly and amount < 400 CNY"', more=partly
        )
    )
    assert (silent.status, sound.status) == ("refuted", "proven")
    assert "x.partly" not in silent.case


def test_the_exit_code_says_whether_something_is_broken(tmp_path: Path) -> None:
    rulebook(tmp_path, "never: verdict == approve when embargo")
    told = run(tmp_path)
    assert told.exit_code == 0
    assert "proven    p: i0 (whatever is found)" in told.output
    rulebook(tmp_path, "never: verdict == approve when embargo", "never: buyer.guest")
    told = run(tmp_path, "--json")
    found = json.loads(told.stdout)["invariants"]
    assert told.exit_code == 1
    assert [(each["id"], each["status"]) for each in found] == [("i0", "proven"), ("i1", "refuted")]
    assert found[1]["case"].startswith("- {it: breaks i1")
    assert (found[1]["file"], found[1]["line"]) == ("policies/p.yaml", 18)


def test_a_file_of_rules_has_no_invariants(tmp_path: Path) -> None:
    rulebook(tmp_path, "never: buyer.guest")
    told = run(tmp_path, str(tmp_path / "rules/a.yaml"))
    assert (told.exit_code, told.output) == (0, "0 invariants, 0 proven, 0 refuted, 0 undecided\n")


def run(folder: Path, *options: str) -> Any:
    return CliRunner().invoke(
        main, ["prove", "--rules", str(folder / "rules"), "--policies", str(folder / "policies"), *options]
    )


@pytest.mark.parametrize(
    ("invariant", "what"),
    [
        ("never: verdict == aprove", "unknown name 'aprove'"),
        ("""never: "verdict == approve when tier == 'gold'" """, "tier is never"),
        ("never: count(last 1h by card.ref) > 3", "not about windows"),
        ("about: nothing", "either 'never' or 'always'"),
        ("never: thief, always: thief", "either 'never' or 'always'"),
        ('never: "thief when guest", when: burst', "a 'when' in the condition already"),
        ("never: verdict", "this must be yes/no"),
        ("never: thiev", "did you mean 'thief'"),
        ("never: thief, unless: burst", "unless"),
    ],
)
def test_an_invariant_that_says_nothing_is_refused(tmp_path: Path, invariant: str, what: str) -> None:
    with pytest.raises(PackError) as refused:
        rulebook(tmp_path, invariant)
    assert what in "\n".join(problem.render() for problem in refused.value.problems)
    assert {problem.line for problem in refused.value.problems} == {17}


def test_two_invariants_of_one_id_are_refused(tmp_path: Path) -> None:
    block = "  - {id: i0, never: burst}\n"
    with pytest.raises(PackError, match="the id 'i0' is taken"):
        rulebook(tmp_path, "never: guest", tests=block)


@pytest.mark.parametrize(
    ("case", "what"),
    [
        ("found: [x.nobody], expect: holds", "no rule 'x.nobody'"),
        ("kind: payment, expect: holds", "does not judge events of the kind 'payment'"),
        ("event: {amount: five}, expect: holds", "amount"),
        ("before: [{evnt: {}}], expect: holds", "no earlier event"),
        ("found: [x.embargo], expect: broken", "expects 'broken', it is 'holds'"),
    ],
)
def test_a_case_that_cannot_be_played_or_fails_is_told_at_its_place(tmp_path: Path, case: str, what: str) -> None:
    block = f"  - id: one\n    never: verdict == approve when embargo\n    tests:\n      - {{it: a case, {case}}}\n"
    [(trial, _)] = try_invariants(rulebook(tmp_path, tests=block))
    assert trial.problem is not None
    assert what in trial.problem.render()
    assert trial.problem.line == 20


def test_a_rulebook_whose_cases_fail_does_not_come_into_force(tmp_path: Path) -> None:
    block = "  - id: one\n    never: verdict == approve when embargo\n"
    block += "    tests: [{it: a case, found: [x.embargo], expect: %s}]\n"
    refuse_failing(rulebook(tmp_path, tests=block % "holds"))
    with pytest.raises(PackError, match="invariant 'one': the case 'a case' expects 'broken', it is 'holds'"):
        refuse_failing(rulebook(tmp_path, tests=block % "broken"))


def test_no_server_loads_the_solver() -> None:
    code = "import sys, engine.assembly, api, cli.serve; sys.exit('z3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.slow
def test_what_is_shipped_is_proven() -> None:
    found = list(prove(shipped()))
    assert len(found) >= 8
    assert {each.policy for each in found} == {"account", "checkout", "listing", "merchant"}
    assert [each.id for each in found if each.status != "proven"] == []


def test_each_shipped_invariant_speaks_of_something() -> None:
    """No promise holds only because nothing can meet its `when`."""
    for promises in shipped().promises.values():
        for promise in promises:
            names = promise.paths - {"verdict", "score", "tier", "held_back", "queue_full", "challenge_passed"}
            assert names, promise.id


def test_proving_is_in_continuous_integration() -> None:
    assert ".venv/bin/arbiter prove" in (ROOT / ".ci/run").read_text("utf-8")


def test_a_case_has_nothing_in_a_list_that_it_does_not_need(tmp_path: Path) -> None:
    """Though many other texts are written in the rules."""
    more = rule(
        "gifts", 'buyer.guest and "gift_card" in items.category and not "toys" in items.category', "gifts", points=5
    )
    [proof] = prove(rulebook(tmp_path, 'never: "verdict == approve when gifts"', more=more))

    assert proof.status == "refuted"
    assert "items.category: [gift_card]" in proof.case
