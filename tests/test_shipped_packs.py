"""The packs we ship: what every one of them must have, beyond being valid."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from engine import packs
from engine.expr import Env
from engine.features import Facts, Features
from engine.stores import MemoryStore
from engine.trial import try_rules
from tests import books

ROOT = Path(__file__).parent.parent
DOCUMENTS = packs.read_all(ROOT / "rules")
RULES = [(document, rule) for document in DOCUMENTS for rule in document.data.get("rules", ())]
POLICIES = [document for document in packs.read_all(ROOT / "policies") if "policy" in document.data]
(RETENTION,) = [document.data for document in packs.read_all(ROOT / "policies") if "retention" in document.data]
RULEBOOK = books.shipped()
TODAY = date(2026, 11, 30)
RECEIVED = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()) * 1_000_000
CHINESE = re.compile(r"[\u4e00-\u9fff]")

every_rule = pytest.mark.parametrize("rule", [rule for _, rule in RULES], ids=[str(rule["id"]) for _, rule in RULES])


def kinds(document: packs.Document) -> list[str]:
    named = document.data["for"]
    return [str(kind) for kind in (named if isinstance(named, list) else [named])]


def test_every_subject_has_rules() -> None:
    folders = {document.file.split("/")[-2] for document, _ in RULES}
    assert folders == {"payments", "accounts", "promotions", "fake-trade", "listings", "merchants", "consumers"}
    assert len(RULES) >= 40


def test_rule_ids_are_unique_and_start_with_their_file() -> None:
    assert [name for name, times in Counter(str(rule["id"]) for _, rule in RULES).items() if times > 1] == []
    assert [rule["id"] for document, rule in RULES if rule["id"].split(".")[0] != Path(document.file).stem] == []


def test_pack_names_are_their_paths() -> None:
    named = {str(document.data["pack"]): document.file for document, _ in RULES}
    assert all(file.endswith(f"{name}.yaml") for name, file in named.items())


@every_rule
def test_rule_is_tried_firing_and_quiet(rule: dict[str, Any]) -> None:
    assert {"fires", "quiet"} <= {test["expect"] for test in rule["tests"]}


@every_rule
def test_rule_speaks_english_and_chinese(rule: dict[str, Any]) -> None:
    english, chinese = rule["because"]["en"], rule["because"]["zh"]
    assert not CHINESE.search(english)
    assert CHINESE.search(chinese)
    assert placeholders(english) == placeholders(chinese)


def placeholders(template: str) -> set[str]:
    return set(re.findall(r"\{([^{}]*)\}", template))


def cited() -> set[str]:
    by_rules = {str(article) for _, rule in RULES for article in rule["basis"].get("law", ())}
    clauses = [
        clause for policy in POLICIES for part in ("mandatory", "actions") for clause in policy.data.get(part, ())
    ]
    floors = [each["floor"] for each in RETENTION["classes"] if "floor" in each]
    by_terms = {str(article) for floor in floors for article in floor["law"]}
    return by_rules | by_terms | {str(clause["basis"]) for clause in clauses if "." in clause.get("basis", "")}


UNREAD = {
    "age-restricted.age-unknown",
    "age-restricted.minor",
    "proofs.eu-conformity",
    "proofs.food-import",
    "registrations.device-class",
    "requests.late-in-the-union",
}
"""Rules that rest on articles that nobody has read yet. This may only become shorter."""


def test_every_other_finding_rests_on_an_article_that_somebody_read() -> None:
    on_law = [rule for _, rule in RULES if "law" in rule["basis"]]
    unread = {str(rule["id"]) for rule in on_law if not any(read_today(str(id)) for id in rule["basis"]["law"])}
    assert unread <= UNREAD
    assert [id for id in cited() if not RULEBOOK.law.on(id, TODAY)] == []


def read_today(id: str) -> bool:
    version = RULEBOOK.law.on(id, TODAY)
    return version is not None and version.verified


def test_what_a_breach_costs_is_said_in_an_article_that_is_in_force() -> None:
    in_force = [version for article in RULEBOOK.law.articles.values() if (version := article.on(TODAY))]
    penalties = {version.penalty for version in in_force if version.penalty}
    assert len(penalties) > 60
    assert [id for id in penalties if RULEBOOK.law.on(id, TODAY) is None] == []


def test_an_id_bears_the_number_of_its_newest_version() -> None:
    for article in RULEBOOK.law.articles.values():
        last = article.id.removeprefix(f"{article.law.id}.")
        plain = re.sub(r"[^0-9a-z]+", ".", article.versions[-1].number).strip(".")
        assert plain in (last, f"{last}.a"), article.id


@pytest.mark.parametrize(
    ("id", "day", "number"),
    [
        ("cn.aucl.9", date(2025, 10, 14), "8"),
        ("cn.aucl.9", date(2025, 10, 15), "9"),
        ("cn.aucl.25", date(2025, 10, 14), "20"),
        ("cn.aucl.13.4", date(2025, 10, 14), None),
        ("cn.csl.23", date(2025, 12, 31), "21"),
        ("cn.csl.23", date(2026, 1, 1), "23"),
        ("cn.fsl.35", date(2021, 4, 28), None),
        ("cn.prm.19", date(2026, 1, 31), None),
        ("cn.prm.19", date(2026, 2, 1), "19"),
    ],
)
def test_the_table_knows_which_number_held_on_a_day(id: str, day: date, number: str | None) -> None:
    version = RULEBOOK.law.on(id, day)
    assert (version and version.number) == number


def test_the_table_is_written_in_both_languages_and_not_copied() -> None:
    for article in RULEBOOK.law.articles.values():
        for words in (article.name, article.law.name, *(version.duty for version in article.versions)):
            assert CHINESE.search(words["zh"]), article.id
            assert not CHINESE.search(words["en"]), article.id
            assert len(words["zh"]) <= 120, article.id


def test_house_policies_are_looked_at_again_within_a_year() -> None:
    dates = [str(rule["basis"]["review_by"]) for _, rule in RULES if "review_by" in rule["basis"]]
    assert all(date.startswith("2027-") for date in dates)


def test_each_kind_with_rules_is_judged_by_exactly_one_policy() -> None:
    judged = Counter(kind for policy in POLICIES for kind in kinds(policy))
    asked = {kind for document, _ in RULES for kind in kinds(document)}
    assert {kind: judged[kind] for kind in asked} == dict.fromkeys(asked, 1)


def test_every_signal_a_policy_waits_for_can_be_found_for_its_kinds() -> None:
    for policy in POLICIES:
        found = {str(rule["signal"]) for document, rule in RULES if {*kinds(document)} & {*kinds(policy)}}
        found |= {str(rule["if_unknown"]) for _, rule in RULES if "if_unknown" in rule}
        found |= {str(rule["derive"]["signal"]) for rule in policy.data["rules"] if "derive" in rule}
        clauses = [clause for part in ("rules", "mandatory", "actions") for clause in policy.data[part]]
        asked = {str(term) for clause in clauses for term in clause["when"]}
        assert {term for term in asked if not term.startswith("any ")} <= found, policy.file


def test_they_load_without_a_problem_and_every_inline_test_passes() -> None:
    trials = list(try_rules(RULEBOOK))
    assert [trial.problem.render() for trial in trials if trial.problem] == []
    assert len(trials) >= 2 * len(RULEBOOK.rules) == 2 * len(RULES)


SUSPICIOUS_WHEN_BARE = "merchant"  # a seller of whom nothing is known but an id is nothing to wave through


@pytest.mark.parametrize(
    "kind", [kind for policy in POLICIES for kind in kinds(policy) if kind != SUSPICIOUS_WHEN_BARE]
)
def test_an_event_with_the_bare_minimum_is_approved(kind: str) -> None:
    """What is missing must not add up to a suspicion: unknown is not bad."""
    body = RULEBOOK.schema.sample(kind)
    assert verdict_of(json.dumps(body).encode()) == "approve"


@pytest.mark.parametrize(
    ("example", "verdict"),
    [("order", "approve"), ("order-alipay", "review"), ("listing", "decline"), ("merchant", "review")],
)
def test_examples_are_judged_as_a_person_would(example: str, verdict: str) -> None:
    assert verdict_of((ROOT / f"docs/examples/{example}.json").read_bytes()) == verdict


def verdict_of(body: bytes) -> str:
    """The verdict on the first event there is, without a ledger or a server."""
    event = RULEBOOK.schema.parse(body, received_at=RECEIVED, tenant="test")
    public, _, entities = RULEBOOK.schema.split(event)
    features = Features(RULEBOOK.windows, MemoryStore(), reads=RULEBOOK.reads, convert=RULEBOOK.convert)
    features.restore(())
    keys = {path: f"{namespace}:{value}" for path, namespace, value in entities}
    reading = features.observe(Facts(event.kind, "test", event.id, event.at, 1, public, keys))
    env = Env(event.at, RECEIVED, RULEBOOK.lists.lookups(RECEIVED, "test"), RULEBOOK.convert)
    kind = RULEBOOK.kinds[event.kind]
    assert kind.policy
    return kind.policy.judge(kind.findings(kind.matcher(event.values, reading.values, env))).verdict
