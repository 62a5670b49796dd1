"""What `check` notices in packs that are sound: someone should look, nothing is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from engine.assembly import wall_clock
from engine.errors import Problem
from engine.exemptions import PSEUDONYM
from engine.expr import names_in
from engine.law import citations, lagging
from engine.lists.files import as_written
from engine.packs import Document
from engine.packs.moments import day_of
from engine.rulebook import Rulebook
from engine.rules import Rule
from engine.wording import ENDS

_SHOWN = re.compile(r"\{([^{}]*)\}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def notices(rulebook: Rulebook, rules: Iterable[Rule], documents: Iterable[Document]) -> Iterator[Problem]:
    """The notices of some rules and files of a rulebook, each at its place."""
    today = day_of(wall_clock())
    for rule in rules:
        yield from _lagging(rule, today)
        yield from _untested(rule)
        yield from _unspoken(rule, rulebook)
    for document in documents:
        yield from lagging(rulebook.law, citations(document), today)
        if "pack" in document.data:
            yield from _unused(document)
        elif "list" in document.data:
            yield from _unasked(document, rulebook)
            yield from _stale(document, rulebook)
        elif "policy" in document.data:
            yield from _unworded(document, rulebook)
            yield from _untouched(document, rulebook)
        elif "links" in document.data:
            yield from _ungrouped(document, rulebook)
        elif "exceptions" in document.data:
            yield from _named(document, rulebook)


def _lagging(rule: Rule, today: date) -> Iterator[Problem]:
    """A house policy whose day of review has passed."""
    if rule.review_by is not None and rule.review_by < today:
        what = f"rule '{rule.id}' was to be looked at again by {rule.review_by}"
        yield rule.document.problem((*rule.loc, "basis", "review_by"), what)


def _untested(rule: Rule) -> Iterator[Problem]:
    """A rule that counts, or is to count, and was never seen to fire or never to stay quiet."""
    tried = {test.expect for test in rule.tests}
    missing = [f"one {words}" for what, words in (("fires", "that fires"), ("quiet", "that stays quiet"))
               if what not in tried]  # fmt: skip
    if missing and rule.mode != "off":
        what = f"rule '{rule.id}' lacks a test: {' and '.join(missing)}"
        yield rule.document.problem((*rule.loc, "id"), what)


def _unused(document: Document) -> Iterator[Problem]:
    """Patterns and `let` names that no rule of the file uses, in its condition, its message or through another name."""
    let: Mapping[str, str] = document.data.get("let") or {}
    patterns: Mapping[str, Any] = document.data.get("patterns") or {}
    waiting = [name for rule in document.data["rules"] for name in _used_by(rule)]
    used: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in used:
            continue
        used.add(name)
        waiting += names_in(let[name]) if name in let else ()
    for part, names in (("patterns", patterns), ("let", let)):
        for name in names:
            if name not in used:
                yield document.problem((part, name), f"no rule uses the name '{name}'", key=True)


def _used_by(rule: Mapping[str, Any]) -> Iterator[str]:
    yield from names_in(rule["when"])
    for text in rule["because"].values():
        yield from _SHOWN.findall(text)


def _unasked(document: Document, rulebook: Rulebook) -> Iterator[Problem]:
    """A list that no rule asks."""
    name = document.data["list"]
    asked = (each.lists for rule in rulebook.rules for each in (rule.condition, *rule.shown.values()))
    if not any(name in lists for lists in asked):
        yield document.problem(("list",), f"no rule asks the list '{name}'")


STALE = 30
"""Days after which a published list is old: authorities publish theirs at least that often."""


def _stale(document: Document, rulebook: Rulebook) -> Iterator[Problem]:
    """A list that is asked and empty, or whose entries have ended, or that was published long ago."""
    name = document.data["list"]
    asking = [rule.id for rule in rulebook.rules if name in rule.lists and rule.mode != "off"]
    if not asking:
        return
    written = as_written(document)
    now = wall_clock()
    rows = [*written.inside, *written.beside]
    over = sum(row.expires <= now for row in rows)
    if not rows:
        what = f"the list '{name}' is empty, so '{asking[0]}' finds nothing on it"
        yield document.problem(("list",), what, "unless its entries come through the API")
    elif over == len(rows):
        what = f"every entry of the list '{name}' has ended, so '{asking[0]}' finds nothing on it"
        yield document.problem(("list",), what, "renew them, or take the list out")
    elif over:
        yield document.problem(("list",), f"{over} of {len(rows)} entries of the list '{name}' have ended")
    published = str(written.pack.source.published) if written.pack.source else ""
    days = (day_of(now) - date.fromisoformat(published)).days if _DAY.fullmatch(published) else 0
    if days > STALE:
        what = f"the list '{name}' was published {days} days ago"
        yield document.problem(("source", "published"), what, "get the newest with: arbiter list import")


def remarks(
    rulebook: Rulebook, rules: Sequence[Rule], documents: Iterable[Document]
) -> tuple[list[Problem], list[Problem]]:
    """What the solver finds in some rules and files of a rulebook: mistakes, and what someone should look at."""
    from engine.reasoning.conditions import about_rules
    from engine.reasoning.policies import about_policies, about_signals

    grave: list[Problem] = []
    light: list[Problem] = []
    for found in (*about_rules(rulebook, rules), *about_policies(rulebook, documents), *about_signals(rulebook, rules)):
        (grave if found.grave else light).append(found.problem)
    return grave, light


def _ungrouped(document: Document, rulebook: Rulebook) -> Iterator[Problem]:
    """A group that no rule and no detector goes by."""
    used = {group.name for window in rulebook.windows for group in window.groups}
    for name in document.data["groups"]:
        if name not in used:
            yield document.problem(("groups", name), f"no rule uses the group '{name}'", key=True)


def _untouched(document: Document, rulebook: Rulebook) -> Iterator[Problem]:
    """Modes of other policies that this one does not have."""
    mine = document.data.get("modes", {})
    for name in dict.fromkeys(name for policy in rulebook.policies.values() for name in policy.pack.modes):
        if name not in mine:
            what = f"the mode '{name}' does not touch this policy"
            yield document.problem(("policy",), what, "write under 'modes' what it does here, or {} for nothing")


def _named(document: Document, rulebook: Rulebook) -> Iterator[Problem]:
    """Persons whom an exception names by a plain value: every export's rulebooks hold it, for ever."""
    fields = {path: each for kind in rulebook.schema.kinds for path, each in rulebook.schema.fields(kind).items()}
    for index, exception in enumerate(document.data["exceptions"]):
        for path, value in exception["subject"].items():
            if fields[path].privacy != "public" and not value.startswith(PSEUDONYM):
                what = f"{path} stands here in plain text, and so in every export and archive of this rulebook"
                hint = f"write '{PSEUDONYM}' and what is printed by: arbiter keys pseudonym {path} VALUE"
                yield document.problem(("exceptions", index, "subject", path), what, hint)


def _unspoken(rule: Rule, rulebook: Rulebook) -> Iterator[Problem]:
    """A signal that may count against somebody, and of which the person is told nothing but general words."""
    if rule.mode != "live" or (rule.finding.points == 0 and rule.finding.severity == "info"):
        return
    names = {rule.finding.signal: ("signal",)}
    if rule.if_unknown not in ("quiet", "fire"):
        names[rule.if_unknown] = ("if_unknown",)
    policies = {book.policy.name for kind in rule.kinds if (book := rulebook.kinds[kind]).policy is not None}
    for policy in sorted(policies):
        wording = rulebook.wording.get(policy)
        for name, key in names.items():
            if wording is not None and name not in wording.reasons:
                what = f"no notice of the policy '{policy}' says what the signal '{name}' means for a person"
                yield rule.document.problem((*rule.loc, *key), what, "write it under 'reasons' of a file of notices")


def _unworded(document: Document, rulebook: Rulebook) -> Iterator[Problem]:
    """What a policy may do to somebody and no notice has words for. Where no file of notices is kept, nobody is told
    anything by Arbiter, so nothing lacks."""
    policy = rulebook.policies.get(document.data["policy"])
    wording = rulebook.wording.get(document.data["policy"])
    if policy is None or wording is None:
        return
    hint = f"write it in a file of notices for '{policy.name}'"
    mildest = [] if policy.measures else [policy.verdicts[0]]
    for at, verdict in enumerate(policy.verdicts):
        if verdict not in wording.verdicts and verdict not in mildest:
            yield document.problem(("verdicts", at), f"no notice has words for the verdict '{verdict}'", hint)
    for measure in policy.measures:
        if measure not in wording.actions:
            yield document.problem(("policy",), f"no notice has words for the measure '{measure}'", hint)
    for end in ENDS if policy.pack.appeal else ():
        if end not in wording.ends:
            yield document.problem(
                ("appeal",), f"no notice has words for an appeal that ends as '{end}'", hint, key=True
            )
    if wording.says is None:
        yield document.problem(("policy",), "no notice has the sentences that every notice is made of ('says')", hint)
