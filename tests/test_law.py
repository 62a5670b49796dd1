"""The table of law: versions of articles, what may cite them, and what a verdict shows of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli import main
from engine.arbiter import Arbiter
from engine.assembly import Settings
from engine.errors import NotFound
from engine.law import LawTable, citations, lagging
from tests.books import SHOP, SMALL, Clock, book, judged, payment, record_of, running, told, write

LAW = """\
law: cn.aucl
about: Fair competition.
owner: compliance
name: {en: Anti-Unfair Competition Law, zh: 反不正当竞争法}
country: CN
source: a mirror
articles:
  - id: cn.aucl.9
    name: {en: Misleading promotion, zh: 误导性宣传}
    versions:
      - number: "8"
        from: 2018-01-01
        to: 2025-10-14
        duty: {en: no false promotion, zh: 不得虚假宣传}
        verified: false
        open: the wording
      - number: "9"
        from: 2025-10-15
        duty: {en: "no false promotion, no fake reviews", zh: 不得虚假宣传、虚假评价}
        penalty: cn.aucl.25
        verified: true
  - id: cn.aucl.25
    name: {en: Penalty, zh: 罚则}
    versions: [{number: "25", from: 2025-10-15, duty: {en: a fine, zh: 罚款}, verified: true}]
"""

RULE = """\
pack: payments/cited
about: A rule that rests on law.
for: payment
owner: compliance
rules:
  - id: cited.one
    when: amount == 41 CNY
    signal: cited
    because: {en: found, zh: 发现}
    basis: {law: [cn.aucl.9], as_of: 2026-11-30}
"""

FILES = {**SMALL, "rules/cited.yaml": RULE, "policies/law/aucl.yaml": LAW}

# Reading


def test_the_day_picks_the_version(tmp_path: Path) -> None:
    law = book(tmp_path, FILES).law
    days = ["2017-12-31", "2018-01-01", "2025-10-14", "2025-10-15", "2030-01-01"]
    found = [law.on("cn.aucl.9", date.fromisoformat(day)) for day in days]
    assert [each and each.number for each in found] == [None, "8", "8", "9", "9"]
    assert law.on("cn.aucl.1", date(2026, 1, 1)) is None


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    {
        "a citation of nothing": ("[cn.aucl.9]", "[cn.aucl.8]", ":10:19: there is no article 'cn.aucl.8'"),
        "a citation from before the law": ("as_of: 2026", "as_of: 2016", "'cn.aucl.9' was not in force on 2016-11-30"),
        "a day of the law without a law": (
            "basis: {law: [cn.aucl.9], as_of: 2026-11-30}",
            "basis: {kind: house-policy, review_by: 2027-01-01, as_of: 2026-11-30}",
            "as_of is the day of the law that a rule rests on; a house policy rests on none",
        ),
        "a penalty that is not there": ("penalty: cn.aucl.25", "penalty: cn.aucl.24", "no article 'cn.aucl.24'"),
        "an article of another law": ("- id: cn.aucl.25", "- id: cn.ecl.25", "'cn.ecl.25' is no article of cn.aucl"),
        "an article twice": ("- id: cn.aucl.25", "- id: cn.aucl.9", "there is an article 'cn.aucl.9' already"),
        "versions that overlap": ("to: 2025-10-14", "to: 2025-10-15", "the version before it is still in force"),
        "versions in the wrong order": ("to: 2025-10-14", "to: 2017-10-14", "this version ends before it begins"),
        "a version without an end before another": ("        to: 2025-10-14\n", "", "still in force on this day"),
        "doubt without its reason": ("        open: the wording\n", "", "what is not verified says what is open"),
        "a reason without doubt": ("verified: false", "verified: true", "what is verified leaves nothing open"),
        "a hash that is none": ("penalty: cn.aucl.25", "sha256: 12ab", "write 64 hexadecimal digits"),
        "a day that is none": ("from: 2018-01-01", "from: 2018-02-30", "policies/law/aucl.yaml:12:15:"),
    }.values(),
    ids=str,
)  # fmt: skip
def test_mistakes_are_told_at_their_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    files = {path: text.replace(old, new, 1) if path in ("rules/cited.yaml", "policies/law/aucl.yaml") else text
             for path, text in FILES.items()}  # fmt: skip
    assert expected in "\n".join(told(tmp_path, files))


def test_policies_and_terms_are_held_to_the_table_as_rules_are(tmp_path: Path) -> None:
    policy = SMALL["policies/till.yaml"] + "mandatory: [{when: [cited], verdict: decline, basis: cn.aucl.99}]\n"
    action = (
        "actions: [{when: [cited], do: report, basis: cn.aucl.98}, {when: [cited], do: tell, basis: house-policy}]\n"
    )
    found = told(tmp_path, {**FILES, "policies/till.yaml": policy + action})
    assert ["cn.aucl.99" in found[0], "cn.aucl.98" in found[1], len(found)] == [True, True, 2]


def test_a_rulebook_without_a_table_of_law_is_believed(tmp_path: Path) -> None:
    files = {path: text for path, text in FILES.items() if "law/" not in path}
    assert not book(tmp_path, files).law


@pytest.mark.parametrize(
    ("as_of", "today", "noticed"),
    [
        ("2026-11-30", "2026-12-01", []),
        ("2025-01-01", "2025-10-14", []),
        ("2025-01-01", "2025-10-15", ["'cn.aucl.9' has changed since 2025-01-01: Art. 9 is in force from 2025-10-15"]),
        ("2025-01-01", "2017-01-01", ["'cn.aucl.9' is not in force today, 2017-01-01"]),
    ],
)
def test_a_rule_that_was_written_for_another_version_is_noticed(
    tmp_path: Path, as_of: str, today: str, noticed: list[str]
) -> None:
    files = {**FILES, "rules/cited.yaml": RULE.replace("2026-11-30", as_of)}
    found = book(tmp_path, files)
    document = next(rule.document for rule in found.rules if rule.id == "cited.one")
    assert [each.what for each in lagging(found.law, citations(document), date.fromisoformat(today))] == noticed


# Deciding


@pytest.fixture
def settings(key_path: Path, tmp_path: Path, _migrated_sqlite: Path) -> Settings:
    write(tmp_path, FILES)
    shutil.copyfile(_migrated_sqlite, tmp_path / "arbiter.db")
    url = f"sqlite:///{tmp_path / 'arbiter.db'}"
    return Settings(url, key_file=key_path, rules=tmp_path / "rules", policies=tmp_path / "policies")


@pytest.fixture
async def arbiter(settings: Settings) -> AsyncIterator[Arbiter]:
    async with running(settings, Clock()) as it:
        yield it


async def cited(arbiter: Arbiter, at: str) -> tuple[dict[str, Any], dict[str, Any]]:
    answer = await judged(arbiter, payment(f"p{at}", 41, at=at))
    reason = next(each for each in answer["reasons"] if each["rule"] == "cited.one")
    explained = await arbiter.explanation(answer["id"], SHOP)
    assert (await record_of(arbiter, answer))["reasons"] == answer["reasons"]
    return reason, next(rule for rule in explained["rules"] if rule["rule"] == "cited.one")


@pytest.mark.anyio
async def test_a_verdict_shows_the_article_that_was_in_force_when_it_happened(arbiter: Arbiter) -> None:
    reason, rule = await cited(arbiter, "2026-11-23T12:00:00Z")
    assert reason["law"] == ["cn.aucl.9"]
    assert reason["articles"] == [{"id": "cn.aucl.9", "number": "9", "from": "2025-10-15", "verified": True}]
    (article,) = rule["articles"]
    assert (article["law"]["zh"], article["name"]["en"]) == ("反不正当竞争法", "Misleading promotion")
    assert article["duty"]["en"] == "no false promotion, no fake reviews"


@pytest.mark.anyio
async def test_beside_an_older_version_stands_that_of_the_day_of_the_decision(arbiter: Arbiter) -> None:
    # 16:00 UTC is midnight in Beijing: the day after.
    for at, number, since in (("2025-10-14T15:59:59Z", "8", "2018-01-01"), ("2017-12-31T15:59:59Z", None, None)):
        reason, rule = await cited(arbiter, at)
        (article,) = reason["articles"]
        assert (article["number"], article["from"]) == (number, since)
        assert article["decision"] == {"number": "9", "from": "2025-10-15"}
        assert (rule["articles"][0]["duty"] is None) == (number is None)
    reason, _ = await cited(arbiter, "2025-10-14T16:00:00Z")
    assert "decision" not in reason["articles"][0]


@pytest.mark.anyio
async def test_an_article_is_read_with_all_its_versions(arbiter: Arbiter) -> None:
    shown = arbiter.article("cn.aucl.9")
    assert [(each["number"], each["to"], each["verified"]) for each in shown["versions"]] == [
        ("8", "2025-10-14", False),
        ("9", None, True),
    ]
    with pytest.raises(NotFound, match=r"no article 'cn\.aucl\.1'"):
        arbiter.article("cn.aucl.1")


def test_an_empty_table_is_none() -> None:
    assert not LawTable()


# The command


def law(folder: Path, *arguments: str) -> tuple[int, str]:
    write(folder, FILES)
    folders = ["--rules", str(folder / "rules"), "--policies", str(folder / "policies")]
    result = CliRunner().invoke(main, ["law", *arguments, *folders])
    return result.exit_code, result.output


def test_one_article_is_shown_whole_with_the_rules_on_it(tmp_path: Path) -> None:
    code, text = law(tmp_path, "cn.aucl.9", "--on", "2024-11-11")
    assert code == 0
    assert "* Art. 8  2018-01-01 – 2025-10-14" in text
    assert "  Art. 9  2025-10-15 –" in text
    assert "not verified: the wording" in text
    assert "1 rule on it: cited.one" in text
    assert "第 8 条  2018-01-01" in law(tmp_path, "cn.aucl.9", "--lang", "zh")[1]


@pytest.mark.parametrize(
    ("arguments", "ids", "last"),
    [
        (["--on", "2024-11-11"], ["cn.aucl.9", "cn.aucl.25"], "2 articles, 1 not verified, as of 2024-11-11"),
        (["cn.aucl", "--on", "2026-01-01", "--open"], [], "0 articles, 0 not verified, as of 2026-01-01"),
        (["cn", "--on", "2024-11-11", "--open"], ["cn.aucl.9"], "1 article, 1 not verified, as of 2024-11-11"),
    ],
)
def test_several_are_listed(tmp_path: Path, arguments: list[str], ids: list[str], last: str) -> None:
    code, text = law(tmp_path, *arguments)
    assert code == 0
    assert [line.split()[0] for line in text.splitlines() if line.startswith("  ")] == ids
    assert text.splitlines()[-1] == last


def test_as_json_each_has_its_versions_and_its_rules(tmp_path: Path) -> None:
    code, text = law(tmp_path, "cn.aucl.9", "--json", "--on", "2024-11-11")
    (article,) = json.loads(text)["articles"]
    assert (code, article["on"]["number"], article["rules"]) == (0, "8", ["cited.one"])


def test_what_is_not_in_the_table_is_told(tmp_path: Path) -> None:
    code, text = law(tmp_path, "cn.aucl.99")
    assert code == 1
    assert "there is no article 'cn.aucl.99' in the table of law; did you mean 'cn.aucl.9'?" in text
