"""Where a shop stands with its checklists and the law: what is done, what is due, and which article nobody looks after.

    acts = acts_in(leaves)                                     what people recorded, newest last
    standings(book, acts, today)                               each item of each checklist, gaps first
    coverage(book, verdicts)                                   each article with its rules, tests, items and verdicts

Values in, values out: the ledger is read, and written, by whoever calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, TypeAlias

import orjson

from engine.checklists import Check, Checklist, Item
from engine.errors import RequestRefused, did_you_mean
from engine.jcs import canonical
from engine.law import Article
from engine.packs.moments import DAY, day_of
from engine.rollout import BUCKETS
from engine.rulebook import Rulebook
from engine.rules import Rule

WHAT = "compliance"
"""What a change in the ledger is called that says how an item came out."""

SOON = 30 * DAY
"""µs before it is due from which on an item is shown as due soon."""

Result: TypeAlias = Literal["met", "failed", "not_applicable"]
RESULTS: Sequence[Result] = ("met", "failed", "not_applicable")
Status: TypeAlias = Literal["failed", "overdue", "open", "due_soon", "met", "not_applicable"]

GAPS_FIRST: Sequence[Status] = ("failed", "overdue", "open", "due_soon", "met", "not_applicable")
"""The order in which items are shown."""

GAPS: frozenset[str] = frozenset(("failed", "overdue", "open"))
"""What somebody must do something about."""


@dataclass(frozen=True, slots=True)
class Act:
    """What a person recorded of an item: how it came out, the SHA-256 of the evidence, when (UTC µs), and who."""

    item: str
    result: Result
    evidence: tuple[str, ...]
    at: int
    by: str
    record: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How an item stands. `due` is the day by which it is to be done (again); `why` says what a check found wanting."""

    checklist: Checklist
    item: Item
    status: Status
    act: Act | None
    due: date | None
    why: tuple[str, ...]

    @property
    def id(self) -> str:
        """The item's name among all checklists."""
        return f"{self.checklist.id}.{self.item.id}"


@dataclass(frozen=True, slots=True)
class Coverage:
    """Who looks after an article: the live rules on it, their tests, the items of checklists, and how often a decision
    of these rules came out as each verdict."""

    article: Article
    rules: tuple[Rule, ...]
    tests: int
    items: tuple[Standing, ...]
    verdicts: Mapping[str, int]

    @property
    def gap(self) -> bool:
        """Whether nobody looks after it: an article that only says what a breach costs asks for nothing."""
        return not (self.rules or self.items)


def after(result: Result, evidence: Sequence[str]) -> str:
    """How an act stands in the ledger, as the `after` of a change."""
    return canonical({"result": result, "evidence": list(evidence)}).decode()


def acts_in(leaves: Iterable[bytes]) -> dict[str, Act]:
    """The newest act of each item in leaves of changes, the first one first."""
    found: dict[str, Act] = {}
    for leaf in leaves:
        record = orjson.loads(leaf)
        said = orjson.loads(record["after"])
        item = record["object"]
        evidence = tuple(said["evidence"])
        found[item] = Act(item, said["result"], evidence, record["decided_at"], record["by"]["name"], record["id"])
    return found


def item_of(book: Rulebook, name: str) -> tuple[Checklist, Item]:
    """The checklist and item of a name such as breach-readiness.drill. RequestRefused for another name, and for an
    item that the rulebook answers itself."""
    items = {f"{each.id}.{item.id}": (each, item) for each in book.checklists for item in each.items}
    if name not in items:
        hint = did_you_mean(name, items) or "arbiter compliance status shows them all"
        raise RequestRefused(f"there is no item '{name}'; {hint}")
    found = items[name]
    if found[1].check is not None:
        raise RequestRefused(f"'{name}' is answered by the rulebook itself: nobody records it")
    return found


def standings(book: Rulebook, acts: Mapping[str, Act], now: int, begun: int | None = None) -> list[Standing]:
    """How every item stands at `now` (UTC µs), gaps first, then as the checklists have them. `begun` is when the first
    event came: what comes back is first due in its time from then, unless the checklist says a day."""
    found = [_standing(book, each, item, acts, now, begun) for each in book.checklists for item in each.items]
    return sorted(found, key=lambda each: GAPS_FIRST.index(each.status))


def _standing(
    book: Rulebook, checklist: Checklist, item: Item, acts: Mapping[str, Act], now: int, begun: int | None
) -> Standing:
    if item.check is not None:
        why = tuple(_wanting(book, item.check))
        return Standing(checklist, item, "failed" if why else "met", None, None, why)
    act = acts.get(f"{checklist.id}.{item.id}")
    due = _due(item, act, begun)
    return Standing(checklist, item, _status(act, due, now), act, due, ())


def _due(item: Item, act: Act | None, begun: int | None) -> date | None:
    if act is None and item.due is not None:
        return item.due
    since = begun if act is None else act.at
    return day_of(since + item.every) if since is not None and item.every is not None else None


def _status(act: Act | None, due: date | None, now: int) -> Status:
    today = day_of(now)
    if act is not None and act.result == "failed":
        return "failed"
    if due is not None and due < today:
        return "overdue"
    if act is None:
        return "open"
    if due is not None and due <= day_of(now + SOON):
        return "due_soon"
    return "not_applicable" if act.result == "not_applicable" else "met"


def _wanting(book: Rulebook, check: Check) -> Iterator[str]:
    """What a check asks for that is not so. An invariant that it names is there, or the rulebook would not load."""
    rules = {rule.id: rule for rule in book.rules}
    for id in check.rules:
        rule = rules[id]
        if not _live(rule):
            yield f"the rule '{id}' is not live for everybody"
        if not {"fires", "quiet"} <= {test.expect for test in rule.tests}:
            yield f"the rule '{id}' lacks a test that fires or one that stays quiet"
    for kind, term in check.kept:
        kept = book.retention.ends("personal").get(kind)
        if kept is not None and kept < term:
            yield f"{kind} events are kept for {kept // DAY} days, less than {term // DAY}"


def _live(rule: Rule) -> bool:
    return rule.mode == "live" and (rule.rollout is None or rule.rollout.buckets == BUCKETS)


def coverage(book: Rulebook, found: Sequence[Standing], verdicts: Mapping[str, Mapping[str, int]]) -> list[Coverage]:
    """Every article with who looks after it, those first that nobody does. `verdicts` counts decisions by rule."""
    penalties = {version.penalty for each in book.law.articles.values() for version in each.versions}
    matrix = [
        _coverage(book, article, found, verdicts)
        for article in book.law.articles.values()
        if article.id not in penalties or any(article.id in rule.finding.cites for rule in book.rules)
    ]
    return sorted(matrix, key=lambda each: not each.gap)


def _coverage(
    book: Rulebook, article: Article, found: Sequence[Standing], verdicts: Mapping[str, Mapping[str, int]]
) -> Coverage:
    rules = tuple(rule for rule in book.rules if article.id in rule.finding.cites and rule.mode == "live")
    items = tuple(each for each in found if article.id in each.item.law)
    counts: dict[str, int] = {}
    for rule in rules:
        for verdict, count in verdicts.get(rule.id, {}).items():
            counts[verdict] = counts.get(verdict, 0) + count
    return Coverage(article, rules, sum(len(rule.tests) for rule in rules), items, counts)


def count_verdicts(records: Iterable[Mapping[str, Any]], counts: dict[str, dict[str, int]]) -> None:
    """Adds to `counts` (rule → verdict → decisions) what some records of decisions say."""
    for record in records:
        for rule in record["found"]:
            by_verdict = counts.setdefault(rule, {})
            by_verdict[record["verdict"]] = by_verdict.get(record["verdict"], 0) + 1


# As data


def standing_data(each: Standing) -> dict[str, Any]:
    """An item with its status, for `--json` and the report."""
    act = each.act
    return {
        "id": each.id,
        "asks": dict(each.item.asks),
        "law": list(each.item.law),
        "automatic": each.item.check is not None,
        "role": each.item.role,
        "evidence": dict(each.item.evidence) if each.item.evidence else None,
        "status": each.status,
        "due": each.due.isoformat() if each.due else None,
        "why": list(each.why),
        "done": None
        if act is None
        else {"result": act.result, "at": act.at, "by": act.by, "evidence": list(act.evidence), "record": act.record},
    }


def coverage_data(each: Coverage, today: date) -> dict[str, Any]:
    """An article with who looks after it, for `--json` and the report."""
    version = each.article.on(today)
    return {
        "id": each.article.id,
        "law": each.article.law.id,
        "name": dict(each.article.name),
        "number": version.number if version else None,
        "verified": version.verified if version else None,
        "rules": [rule.id for rule in each.rules],
        "tests": each.tests,
        "items": [standing.id for standing in each.items],
        "verdicts": dict(each.verdicts),
        "gap": each.gap,
    }


def rules_data(book: Rulebook) -> list[dict[str, Any]]:
    """Every rule with the articles that it cites."""
    return [{"id": rule.id, "cites": list(rule.finding.cites)} for rule in book.rules]
