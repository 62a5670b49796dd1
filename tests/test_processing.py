"""Records of processing against the law: a check fires where a record does not show what is asked, and only there."""

from __future__ import annotations

import copy
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cli import main
from engine.packs.moments import start_of
from engine.processing import CHECKS, World, findings, own, written
from engine.rulebook import Rulebook
from engine.schema import schema
from tests import books

NOW = start_of("2026-11-30")
RETENTION = """\
retention: shop
about: What is kept.
classes:
  - id: all
    about: All of it.
    for: [KINDS]
    personal: 180d
    pseudonyms: 400d
    digests: 180d
    because: {en: so long, zh: 如此}
"""
KINDS = ", ".join(schema().kinds)
PERSONAL = sorted(
    {path for kind in schema().kinds for path, each in schema().fields(kind).items() if each.privacy != "public"}
)

GOOD: dict[str, Any] = {
    "processing": "shop",
    "about": "All that is processed.",
    "owner": "privacy",
    "controller": {
        "name": {"en": "Example Mall", "zh": "示例商城"},
        "contact": "privacy@example.com",
        "persons": 12_000_000,
        "officer": {"filed": "2026-01-10"},
        "audited": "2026-03-01",
        "trained": "2026-06-01",
        "incident_plan": "2026-01-01",
        "access": "By role; the officer grants it",
    },
    "purposes": {
        "fraud": {
            "says": {"en": "Stop fraud", "zh": "阻止欺诈"},
            "needs": sorted({path.split(".")[0] for path in PERSONAL}),
            "version": 2,
            "service": False,
        }
    },
    "records": [
        {
            "id": "orders",
            "purpose": "fraud",
            "kinds": schema().kinds,
            "subjects": ["buyer", "seller"],
            "fields": PERSONAL,
            "since": "2026-05-01",
            "term": "400d",
            "encrypted": True,
            "basis": {"is": "consent", "evidence": "the register of consents"},
            "consent": {"version": 2, "withdraw": "in the app, under privacy", "refusal": "nothing"},
            "notice": {
                "version": "7",
                "from": "2026-05-01",
                "purposes": ["fraud"],
                "fields": sorted({path.split(".")[0] for path in PERSONAL}),
                "term": "400d",
                "rights": True,
                "sensitive": True,
                "recipients": ["bank"],
            },
            "recipients": [
                {"name": "cloud", "role": "processor", "contract": "C-1", "checked": "2026-02-01"},
                {"name": "bank", "role": "controller", "consent": "separate"},
            ],
            "automated": {
                "impact": "major",
                "explanation": True,
                "human": True,
                "prices": True,
                "fairness_tested": "2026-09-01",
                "marketing": True,
                "opt_out": True,
            },
            "sensitive": {"necessity": {"en": "No refund without it", "zh": "退款所必需"}, "consent": "separate"},
            "children": {"guardian": True, "rules": "children-3"},
            "abroad": [
                {
                    "country": "SG",
                    "mechanism": "assessment",
                    "persons": 5000,
                    "told": True,
                    "consent": "separate",
                    "authorities": "approved",
                }
            ],
            "assessment": {"paper": "PIA-4", "on": "2026-04-20", "kept": "3y"},
        }
    ],
}

GONE = object()


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """GOOD with values put at paths, or taken out."""
    data = copy.deepcopy(GOOD)
    for path, value in changes:
        *around, last = [int(part) if part.isdigit() else part for part in path.split("/")]
        node: Any = data
        for part in around:
            node = node[part]
        if value is GONE:
            del node[last]
        else:
            node[last] = value
    return data


R = "records/0"
# The check, and what makes it fire: each such file has this finding and no other.
FIRES: list[tuple[str, list[tuple[str, Any]]]] = [
    ("nobody", [("controller", GONE)]),
    ("officer", [("controller/officer", GONE)]),
    ("audit", [("controller/audited", GONE)]),
    ("audit-old", [("controller/audited", "2024-11-27")]),
    ("training", [("controller/trained", "2025-11-28")]),
    ("training", [("controller/trained", GONE)]),
    ("incidents", [("controller/incident_plan", GONE)]),
    ("access", [("controller/access", GONE)]),
    ("needless", [("purposes/fraud/needs", [each for each in GOOD["purposes"]["fraud"]["needs"] if each != "ip"])]),
    ("basis", [(f"{R}/basis", GONE)]),
    ("evidence", [(f"{R}/basis/evidence", GONE)]),
    ("consent", [(f"{R}/consent", GONE)]),
    ("consent-old", [(f"{R}/consent/version", 1)]),
    ("withdraw", [(f"{R}/consent/withdraw", GONE)]),
    ("forced", [(f"{R}/consent/refusal", "service")]),
    ("notice", [(f"{R}/notice", GONE), (f"{R}/recipients", GOOD["records"][0]["recipients"][:1])]),
    ("notice-late", [(f"{R}/notice/from", "2026-05-02")]),
    ("notice-purpose", [(f"{R}/notice/purposes", [])]),
    ("notice-fields", [(f"{R}/notice/fields", ["buyer"])]),
    ("notice-term", [(f"{R}/notice/term", GONE)]),
    ("notice-shorter", [(f"{R}/notice/term", "399d")]),
    ("notice-rights", [(f"{R}/notice/rights", False)]),
    ("notice-sensitive", [(f"{R}/notice/sensitive", False)]),
    ("term", [(f"{R}/term", GONE)]),
    ("contract", [(f"{R}/recipients/0/contract", GONE)]),
    ("unwatched", [(f"{R}/recipients/0/checked", "2025-11-28")]),
    ("unwatched", [(f"{R}/recipients/0/checked", GONE)]),
    ("sharing-consent", [(f"{R}/recipients/1/consent", "none")]),
    ("sharing-told", [(f"{R}/notice/recipients", [])]),
    ("explanation", [(f"{R}/automated/explanation", False)]),
    ("human", [(f"{R}/automated/human", False)]),
    ("opt-out", [(f"{R}/automated/opt_out", False)]),
    ("fairness", [(f"{R}/automated/fairness_tested", GONE)]),
    ("fairness", [(f"{R}/automated/fairness_tested", "2025-11-28")]),
    ("separate-consent", [(f"{R}/sensitive/consent", "none")]),
    ("protection", [(f"{R}/encrypted", False)]),
    ("guardian", [(f"{R}/children/guardian", False)]),
    ("children-rules", [(f"{R}/children/rules", GONE)]),
    ("abroad-told", [(f"{R}/abroad/0/told", False)]),
    ("abroad-consent", [(f"{R}/abroad/0/consent", "none")]),
    ("authorities", [(f"{R}/abroad/0/authorities", "open")]),
    ("assessment", [(f"{R}/assessment", GONE)]),
    ("assessment-late", [(f"{R}/assessment/on", "2026-05-02")]),
    ("assessment-kept", [(f"{R}/assessment/kept", "2y")]),
    ("unrecorded", [(f"{R}/fields", [path for path in PERSONAL if path != "ip"])]),
]
# What lies just on the other side, or is no matter of the check: nothing is found.
QUIET: list[list[tuple[str, Any]]] = [
    [],
    [("controller/persons", 999_999), ("controller/officer", GONE)],
    [("controller/persons", 10_000_000), ("controller/audited", "2020-01-01")],
    [("controller/audited", "2024-11-30")],
    [("controller/trained", "2025-11-30")],
    [(f"{R}/basis/is", "contract"), (f"{R}/consent", GONE)],
    [(f"{R}/consent/version", 3)],
    [(f"{R}/consent/refusal", "service"), ("purposes/fraud/service", True)],
    [(f"{R}/notice/term", "500d")],
    [(f"{R}/recipients/0/checked", "2025-11-30")],
    [(f"{R}/recipients/1/consent", "law")],
    [(f"{R}/automated/impact", "minor"), (f"{R}/automated/explanation", False), (f"{R}/automated/human", False)],
    [(f"{R}/automated/prices", False), (f"{R}/automated/fairness_tested", GONE)],
    [(f"{R}/automated/marketing", False), (f"{R}/automated/opt_out", False)],
    [(f"{R}/automated/fairness_tested", "2025-11-30")],
    [(f"{R}/basis/is", "contract"), (f"{R}/sensitive/consent", "none"), (f"{R}/abroad/0/consent", "none")],
    [(f"{R}/abroad/0/country", "CN"), (f"{R}/abroad/0/mechanism", GONE), (f"{R}/abroad/0/told", False)],
    [(f"{R}/assessment/on", "2026-05-01")],
    [(f"{R}/abroad", [])],
]


def book(folder: Path, data: dict[str, Any], retention: str = RETENTION) -> Rulebook:
    files = {**books.SMALL, "policies/retention.yaml": retention.replace("KINDS", KINDS)}
    return books.book(folder, {**files, "policies/processing/shop.yaml": yaml.safe_dump(data, allow_unicode=True)})


def found(folder: Path, data: dict[str, Any], retention: str = RETENTION) -> list[str]:
    made = book(folder, data, retention)
    return [each.check.id for each in findings(made.processing, World(made.schema, made.retention, NOW))]


@pytest.mark.parametrize(("check", "changes"), FIRES, ids=[f"{number}-{row[0]}" for number, row in enumerate(FIRES)])
def test_a_record_that_does_not_show_it_has_this_finding_and_no_other(
    check: str, changes: list[tuple[str, Any]], tmp_path: Path
) -> None:
    assert found(tmp_path, changed(*changes)) == [check]


@pytest.mark.parametrize("changes", QUIET, ids=map(str, range(len(QUIET))))
def test_a_record_that_shows_it_or_need_not_has_no_finding(changes: list[tuple[str, Any]], tmp_path: Path) -> None:
    assert found(tmp_path, changed(*changes)) == []


def abroad(mechanism: str | None, persons: int, of: int = 900_000) -> list[tuple[str, Any]]:
    there = (f"{R}/abroad/0/mechanism", GONE if mechanism is None else mechanism)
    return [there, (f"{R}/abroad/0/persons", persons), ("controller/persons", of)]


NO_SENSITIVE = [
    (f"{R}/kinds", []),
    (f"{R}/fields", ["crm.visits"]),
    (f"{R}/sensitive", GONE),
    ("purposes/fraud/needs", ["crm"]),
    (f"{R}/notice/fields", ["crm"]),
]
"""A record of another system, with nothing sensitive in it."""


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        (abroad(None, 5), ["mechanism"]),
        (abroad("few-exempt", 5), ["not-few"]),
        ([*NO_SENSITIVE, *abroad("few-exempt", 99_999)], []),
        ([*NO_SENSITIVE, *abroad("few-exempt", 100_000)], ["not-few"]),
        (abroad("standard-contract", 9_999), []),
        (abroad("standard-contract", 10_000), ["assess-abroad"]),
        ([*NO_SENSITIVE, *abroad("certification", 999_999)], []),
        ([*NO_SENSITIVE, *abroad("certification", 1_000_000)], ["assess-abroad"]),
        (abroad("contract-exempt", 2_000_000), []),
        (abroad("standard-contract", 5, of=1_000_000), ["stays-here"]),
        (abroad("assessment", 5, of=1_000_000), []),
    ],
)
def test_data_go_abroad_by_the_way_that_their_number_allows(
    changes: list[tuple[str, Any]], wanted: list[str], tmp_path: Path
) -> None:
    # A record of another system leaves Arbiter's own fields unrecorded, which is another matter.
    assert [each for each in found(tmp_path, changed(*changes)) if each != "unrecorded"] == wanted


def test_plain_data_that_lie_open_are_a_matter_of_security_alone(tmp_path: Path) -> None:
    told = found(tmp_path, changed(*NO_SENSITIVE, (f"{R}/encrypted", False)))
    assert [each for each in told if each != "unrecorded"] == ["encryption"]


def test_sensitive_fields_are_known_by_their_marks_and_need_words(tmp_path: Path) -> None:
    assert found(tmp_path, changed((f"{R}/sensitive", GONE))) == ["necessity", "separate-consent"]


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("personal: 180d", "personal: 401d", "kept-longer"),
        ("pseudonyms: 400d", "pseudonyms: 401d", "kept-longer"),
        (KINDS, KINDS, ""),
    ],
)
def test_what_the_retention_file_keeps_longer_than_it_says_is_found(
    old: str, new: str, wanted: str, tmp_path: Path
) -> None:
    told = found(tmp_path, GOOD, RETENTION.replace("KINDS", KINDS).replace(old, new))
    assert set(told) == ({wanted} if wanted else set())


def test_without_a_retention_file_data_are_kept_for_ever(tmp_path: Path) -> None:
    files = {**books.SMALL, "policies/processing/shop.yaml": yaml.safe_dump(GOOD, allow_unicode=True)}
    made = books.book(tmp_path, files)
    told = [each.check.id for each in findings(made.processing, World(made.schema, made.retention, NOW))]
    assert set(told) == {"kept-for-ever"}


def test_every_check_fires_in_some_case_and_cites_law_that_there_is() -> None:
    elsewhere = {"mechanism", "not-few", "assess-abroad", "stays-here", "encryption", "necessity"}
    assert {check for check, _ in FIRES} | elsewhere | {"kept-longer", "kept-for-ever"} == set(CHECKS)
    law = books.shipped().law
    today = date(2026, 11, 30)
    assert [(check, id) for check, each in CHECKS.items() for id in each.law if law.on(id, today) is None] == []
    articles = {int(id.split(".")[2]) for each in CHECKS.values() for id in each.law if id.startswith("cn.pipl.")}
    wanted = {6, 7, *range(13, 18), 19, 21, 23, 24, *range(28, 32), *range(38, 42), 51, 52, *range(54, 57)}
    assert wanted <= articles


@pytest.mark.parametrize("check", CHECKS.values(), ids=str)
def test_a_finding_is_told_in_both_languages(check: Any) -> None:
    assert not any("\u4e00" <= each <= "\u9fff" for each in check.en)
    assert any("\u4e00" <= each <= "\u9fff" for each in check.zh)
    assert check.en.count("{}") == check.zh.count("{}")


# Files


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([(f"{R}/purpose", "fruad")], "did you mean 'fraud'?"),
        ([(f"{R}/notice/purposes", ["fruad"])], "there is no purpose 'fruad' above"),
        ([(f"{R}/kinds", ["paiment"])], "did you mean 'payment'?"),
        ([(f"{R}/fields", ["buyer.emial"])], "did you mean 'buyer.email'?"),
        ([("purposes/fraud/needs", ["buyer.emial"])], "there is no field 'buyer.emial'"),
        ([(f"{R}/basis/is", "interest")], "expected one of consent, contract, law"),
        ([("records", [*GOOD["records"], *copy.deepcopy(GOOD["records"])])], "there is a record 'orders' already"),
    ],
)
def test_what_means_nothing_is_told_at_its_place(changes: list[tuple[str, Any]], said: str, tmp_path: Path) -> None:
    text = yaml.safe_dump(changed(*changes), allow_unicode=True)
    told = books.told(tmp_path, {**books.SMALL, "policies/processing/shop.yaml": text})
    assert told
    assert all(each.startswith("policies/processing/shop.yaml:") for each in told)
    assert said in "".join(told)


# Arbiter's own


def test_the_shipped_record_is_the_generated_one() -> None:
    made = books.shipped()
    (shipped,) = [each.pack for each in made.processing if each.pack.processing == "arbiter"]
    generated = yaml.safe_load(written(own(made.schema, made.retention)))["records"]
    kept = [
        {
            "id": record.id,
            "purpose": record.purpose,
            "kinds": list(record.kinds),
            "subjects": list(record.subjects),
            "fields": list(record.fields),
            "term": f"{(record.term or 0) // 86_400_000_000}d",
        }
        for record in shipped.records
    ]
    assert kept == generated, "arbiter processing own prints what has changed"


def test_every_personal_field_of_the_schema_is_in_a_generated_record() -> None:
    made = books.shipped()
    held = {path for each in own(made.schema, made.retention) for path in each.fields}
    marked = {
        path
        for kind in made.schema.kinds
        for path, each in made.schema.fields(kind).items()
        if each.privacy != "public"
    }
    assert held == marked


def test_the_shipped_record_leaves_open_what_only_its_user_can_know() -> None:
    made = books.shipped()
    told = {each.check.id for each in findings(made.processing, World(made.schema, made.retention, NOW))}
    assert told == {"nobody", "basis", "notice", "necessity", "guardian", "children-rules", "assessment"}


def test_the_command_tells_findings_with_place_articles_and_both_languages() -> None:
    run = CliRunner().invoke(main, ["processing", "check", "--json"])
    assert run.exit_code == 1
    told = json.loads(run.stdout)
    first = next(each for each in told if each["check"] == "basis")
    assert first["law"] == [{"id": "cn.pipl.13", "verified": True}]
    assert first["file"] == "policies/processing/arbiter.yaml"
    assert first["line"] > 1
    assert first["message"]["zh"] == "未写明合法性基础"
    chinese = CliRunner().invoke(main, ["processing", "check", "--lang", "zh"])
    assert "未写明合法性基础" in chinese.stdout
    assert "cn.pipl.13" in chinese.stdout
    assert CliRunner().invoke(main, ["processing", "own"]).stdout.startswith("records:")
