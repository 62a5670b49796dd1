"""Checklists and coverage: what is done, what is due, which article nobody looks after, and what a person recorded."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli import main
from engine import database
from engine.assembly import wall_clock
from engine.compliance import Act, acts_in, after, count_verdicts, coverage, standings
from engine.packs.moments import DAY, start_of
from engine.rulebook import Rulebook
from engine.schema.kinds import KIND_NAMES
from engine.vault import KeyFile
from tests.books import SMALL, book, told, write
from tests.test_law import LAW, RULE

CHECKLIST = """\
checklist: platform
name: {en: Platform duties, zh: 平台义务}
about: What tests ask.
owner: compliance
items:
  - id: cited
    asks: {en: There is a rule, zh: 有规则}
    law: [cn.aucl.9]
    check: {rules: [cited.one]}
  - id: verify
    asks: {en: Merchants are verified, zh: 核验商家}
    law: [cn.aucl.9]
    role: merchant-compliance
    evidence: {en: the list, zh: 清单}
    every: 180d
  - id: plan
    asks: {en: There is a plan, zh: 有预案}
    role: security
    evidence: {en: the plan, zh: 预案}
    due: 2026-12-31
"""
TESTED = RULE.replace(
    "    basis: {law",
    "    tests:\n      - {it: fires, event: {amount: 41.00 CNY}, expect: fires}\n"
    "      - {it: stays quiet, event: {amount: 42.00 CNY}, expect: quiet}\n    basis: {law",
)
FILES = {**SMALL, "rules/cited.yaml": TESTED, "policies/law/aucl.yaml": LAW, "policies/compliance/p.yaml": CHECKLIST}
TODAY = start_of("2026-11-30")


@pytest.fixture
def found(tmp_path: Path) -> Rulebook:
    return book(tmp_path, FILES)


def act(item: str, result: Any, day: str) -> dict[str, Act]:
    return {item: Act(item, result, ("ab" * 32,), start_of(day), "zhang.san", "id")}


def states(book: Rulebook, acts: dict[str, Act], now: int = TODAY) -> dict[str, str]:
    return {each.item.id: each.status for each in standings(book, acts, now)}


# Standing


def test_what_the_rulebook_answers_is_asked_of_it(tmp_path: Path, found: Rulebook) -> None:
    assert states(found, {})["cited"] == "met"
    for old, new, why in (
        ("when: amount == 41 CNY", "mode: shadow\n    when: amount == 41 CNY", "is not live for everybody"),
        ("when: amount == 41 CNY", "rollout: 50% by card.ref\n    when: amount == 41 CNY", "is not live for everybody"),
        ("expect: quiet", "expect: unknown", "lacks a test that fires or one that stays quiet"),
    ):
        other = book(tmp_path / new[:7], {**FILES, "rules/cited.yaml": TESTED.replace(old, new)})
        standing = next(each for each in standings(other, {}, TODAY) if each.item.id == "cited")
        assert standing.status == "failed"
        assert why in standing.why[0]


@pytest.mark.parametrize(
    ("done", "result", "today", "status"),
    [
        (None, None, "2026-11-30", "open"),
        ("2026-11-30", "met", "2026-11-30", "met"),
        ("2026-11-30", "met", "2027-04-28", "met"),  # 180 days: due on 29 May 2027
        ("2026-11-30", "met", "2027-04-29", "due_soon"),
        ("2026-11-30", "met", "2027-05-29", "due_soon"),
        ("2026-11-30", "met", "2027-05-30", "overdue"),
        ("2026-11-30", "failed", "2026-11-30", "failed"),
        ("2026-11-30", "failed", "2027-11-30", "failed"),
        ("2026-11-30", "not_applicable", "2026-12-01", "not_applicable"),
        ("2026-11-30", "not_applicable", "2027-05-30", "overdue"),
    ],
)
def test_what_a_person_answers_is_due_again(found: Rulebook, done: str, result: Any, today: str, status: str) -> None:
    acts = act("platform.verify", result, done) if done else {}
    assert states(found, acts, start_of(today))["verify"] == status


def test_what_comes_back_is_first_due_in_its_time_from_the_first_event(found: Rulebook) -> None:
    begun = start_of("2026-11-30")
    shown = {each.item.id: each.due for each in standings(found, {}, TODAY, begun)}
    assert {item: str(due) for item, due in shown.items() if due} == {"verify": "2027-05-29", "plan": "2026-12-31"}
    late = standings(found, {}, start_of("2027-05-30"), begun)
    assert {each.item.id: each.status for each in late} == {"cited": "met", "verify": "overdue", "plan": "overdue"}


@pytest.mark.parametrize(
    ("done", "today", "status"),
    [
        ("", "2026-12-31", "open"),
        ("", "2027-01-01", "overdue"),
        ("2027-02-01", "2027-02-01", "met"),
        ("2027-02-01", "2036-02-01", "met"),  # once is enough
    ],
)
def test_what_is_due_on_a_day_is_overdue_behind_it(found: Rulebook, done: str, today: str, status: str) -> None:
    acts = act("platform.plan", "met", done) if done else {}
    assert states(found, acts, start_of(today))["plan"] == status


def test_gaps_come_first(found: Rulebook) -> None:
    shown = standings(found, act("platform.verify", "failed", "2026-11-30"), TODAY)
    assert [each.item.id for each in shown] == ["verify", "plan", "cited"]


BY = {"by": {"name": "li"}}


def test_the_newest_act_counts() -> None:
    def leaf(at: int, result: Any) -> bytes:
        record = {
            "object": "a.b",
            "after": after(result, ["f" * 64]),
            "decided_at": at,
            "id": "1",
            "by": {"name": "li"},
        }
        return json.dumps(record).encode()

    found = acts_in([leaf(1, "failed"), leaf(2, "met")])
    assert (found["a.b"].result, found["a.b"].at, found["a.b"].evidence) == ("met", 2, ("f" * 64,))


# Coverage


def test_an_article_shows_who_looks_after_it(found: Rulebook) -> None:
    counts: dict[str, dict[str, int]] = {}
    records = [{"found": ["cited.one"], "verdict": verdict} for verdict in ("review", "review", "decline")]
    count_verdicts([*records, {"found": [], "verdict": "approve"}], counts)
    (article,) = coverage(found, standings(found, {}, TODAY), counts)
    assert (article.article.id, [rule.id for rule in article.rules], article.tests) == ("cn.aucl.9", ["cited.one"], 2)
    assert sorted(each.item.id for each in article.items) == ["cited", "verify"]
    assert (article.verdicts, article.gap) == ({"review": 2, "decline": 1}, False)


def test_an_article_that_nobody_looks_after_comes_first(tmp_path: Path) -> None:
    extra = (
        "  - id: cn.aucl.11\n    name: {en: Prizes, zh: 有奖销售}\n"
        '    versions: [{number: "11", from: 2025-10-15, duty: {en: a cap, zh: 上限}, verified: true}]\n'
    )
    found = book(tmp_path, {**FILES, "policies/law/aucl.yaml": LAW + extra})
    matrix = coverage(found, standings(found, {}, TODAY), {})
    assert [(each.article.id, each.gap) for each in matrix] == [("cn.aucl.11", True), ("cn.aucl.9", False)]


# Reading


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    {
        "a rule that is not there": ("[cited.one]", "[cited.two]", "there is no rule 'cited.two'"),
        "a promise that nobody makes": ("rules: [cited.one]", "invariants: [till.x]", "no policy promises 'till.x'"),
        "a check of nothing": ("{rules: [cited.one]}", "{}", "this check asks nothing"),
        "a term of no event": ("rules: [cited.one]", "kept: [{kind: pay, for: 3y}]", "there is no kind of event 'pay'"),
        "nobody who answers": ("    check: {rules: [cited.one]}\n", "", "answered either by the rulebook"),
        "two who answer": ("    check: {", "    role: me\n    check: {", "answered either by the rulebook"),
        "no evidence": ("    evidence: {en: the plan, zh: 预案}\n", "", "lays evidence beside it"),
        "a check that is due": ("    check: {", "    every: 10d\n    check: {", "so it has no 'every'"),
        "an item twice": ("id: plan", "id: verify", "there is another item 'verify'"),
        "an article that is not there": ("law: [cn.aucl.9]", "law: [cn.aucl.7]", "no article 'cn.aucl.7'"),
    }.values(),
)
def test_mistakes_are_told_at_their_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    (problem,) = told(tmp_path, {**FILES, "policies/compliance/p.yaml": CHECKLIST.replace(old, new, 1)})
    assert expected in problem
    assert problem.startswith("policies/compliance/p.yaml:")


def test_a_checklist_does_not_complain_of_a_rule_that_could_not_be_read(tmp_path: Path) -> None:
    problems = told(tmp_path, {**FILES, "rules/cited.yaml": TESTED.replace("amount ==", "amont ==")})
    assert len(problems) == 1
    assert "amont" in problems[0]


def test_two_checklists_of_one_name_are_refused(tmp_path: Path) -> None:
    assert "another checklist" in told(tmp_path, {**FILES, "policies/compliance/q.yaml": CHECKLIST})[0]


def test_what_is_kept_too_short_is_told(tmp_path: Path) -> None:
    all_kinds = ", ".join(KIND_NAMES.split())
    kept = (
        f"retention: t\nabout: Tests.\nclasses:\n  - id: all\n    about: All.\n    for: [{all_kinds}]\n"
        "    personal: 400d\n    pseudonyms: 400d\n    digests: 10d\n    because: {en: so, zh: 是}\n"
    )
    checklist = CHECKLIST.replace("rules: [cited.one]", "kept: [{kind: payment, for: 3y}, {kind: review, for: 1y}]")
    files = {**FILES, "policies/retention.yaml": kept, "policies/compliance/p.yaml": checklist}
    standing = next(each for each in standings(book(tmp_path, files), {}, TODAY) if each.item.check)
    assert standing.why == ("payment events are kept for 400 days, less than 1098",)


# The command


@pytest.fixture
def shop(tmp_path: Path, key_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path, FILES)
    monkeypatch.setenv("ARBITER_DATABASE_URL", f"sqlite:///{tmp_path / 'arbiter.db'}")
    monkeypatch.setenv("ARBITER_KEY_FILE", str(key_path))
    monkeypatch.setenv("ARBITER_RULES", str(tmp_path / "rules"))
    monkeypatch.setenv("ARBITER_POLICIES", str(tmp_path / "policies"))
    KeyFile.read(key_path)
    return tmp_path


def arbiter(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, [*map(str, arguments)])
    return result.exit_code, result.output


def test_without_a_ledger_nothing_is_recorded(shop: Path) -> None:
    code, text = arbiter("compliance", "status")
    assert code == 1
    assert "there is no ledger" in text
    assert "open            platform.verify: Merchants are verified" in text
    assert "items: 3, open 2, met 1; rules that cite law: 1; articles with rules: 1 of 1" in text
    assert not (shop / "arbiter.db").exists()


def test_what_is_recorded_is_shown_and_its_evidence_is_named_by_its_hash(shop: Path) -> None:
    database.migrate(f"sqlite:///{shop / 'arbiter.db'}")
    proof = shop / "list.csv"
    proof.write_text("m-1,2026-11-30\n", "utf-8")
    digest = sha256(proof.read_bytes()).hexdigest()
    for item in ("platform.verify", "platform.plan"):
        code, text = arbiter("compliance", "record", item, "--result", "met", "--evidence", proof, "--note", "done")
        assert code == 0, text
        assert f"sha256 {digest}" in text
    code, text = arbiter("compliance", "status", "--json")
    assert code == 0
    data = json.loads(text)
    items = {each["id"]: each for each in data["items"]}
    assert items["platform.verify"]["done"]["evidence"] == [digest]
    assert items["platform.verify"]["done"]["at"] <= wall_clock() < items["platform.verify"]["done"]["at"] + DAY
    assert {"id": "cited.one", "cites": ["cn.aucl.9"]} in data["rules"]
    assert [each["id"] for each in data["articles"]] == ["cn.aucl.9"]
    code, text = arbiter("compliance", "record", "platform.verify", "--result", "failed", "--note", "some are late")
    assert code == 0
    assert "failed          platform.verify" in arbiter("compliance", "status")[1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["platform.nothing", "--result", "met", "--note", "x"], "there is no item 'platform.nothing'"),
        (["platform.cited", "--result", "met", "--note", "x"], "is answered by the rulebook itself"),
        (["platform.plan", "--result", "met", "--note", "x"], "what is met has evidence"),
        (["platform.plan", "--result", "failed", "--note", " "], "--note is empty"),
    ],
)
def test_a_record_that_says_too_little_is_refused(shop: Path, arguments: list[str], expected: str) -> None:
    code, text = arbiter("compliance", "record", *arguments)
    assert code != 0
    assert expected in text


def test_the_report_is_one_page_that_needs_nothing_and_runs_nothing(shop: Path) -> None:
    out = shop / "report.html"
    checklist = (shop / "policies/compliance/p.yaml").read_text("utf-8")
    (shop / "policies/compliance/p.yaml").write_text(checklist.replace("en: There is a plan", "en: <script>x"), "utf-8")
    assert arbiter("compliance", "report", "--out", out)[0] == 0
    text = out.read_text("utf-8")
    assert "&lt;script&gt;x" in text
    assert "<script" not in text
    assert "http" not in text
    assert "<h2>Anti-Unfair Competition Law 反不正当竞争法</h2>" in text
    assert arbiter("compliance", "report", "--out", out, "--lang", "zh")[0] == 0
    assert "<h2>缺口</h2>" in out.read_text("utf-8")
