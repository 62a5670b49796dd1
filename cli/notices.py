"""What `check` notices in packs that are sound: someone should look, nothing is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from engine.assembly import wall_clock
from engine.errors import Problem
from engine.exemptions import PSEUDONYM
from engine.expr import names_in
from engine.packs import Document
from engine.packs.moments import day_of
from engine.rulebook import Rulebook
from engine.rules import Rule

_SHOWN = re.compile(r"\{([^{}]*)\}")


def notices(rulebook: Rulebook, rules: Iterable[Rule], documents: Iterable[Document]) -> Iterator[Problem]:
    """The notices of some rules and files of a rulebook, each at its place."""
    for rule in rules:
        yield from _lagging(rule)
        yield from _untested(rule)
    for document in documents:
        if "pack" in document.data:
            yield from _unused(document)
        elif "list" in document.data:
            yield from _unasked(document, rulebook)
        elif "links" in document.data:
            yield from _ungrouped(document, rulebook)
        elif "exceptions" in document.data:
            yield from _named(document, rulebook)


def _lagging(rule: Rule) -> Iterator[Problem]:
    """A house policy whose day of review has passed."""
    today = day_of(wall_clock())
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


def _ungrouped(document: Document, rulebook: Rulebook) -> Iterator[Problem]:
    """A group that no rule and no detector goes by."""
    used = {group.name for window in rulebook.windows for group in window.groups}
    for name in document.data["groups"]:
        if name not in used:
            yield document.problem(("groups", name), f"no rule uses the group '{name}'", key=True)


def _named(document: Document, rulebook: Rulebook) -> Iterator[Problem]:
    """Persons whom an exception names by a plain value: every export's rulebooks hold it, for ever."""
    fields = {path: each for kind in rulebook.schema.kinds for path, each in rulebook.schema.fields(kind).items()}
    for index, exception in enumerate(document.data["exceptions"]):
        for path, value in exception["subject"].items():
            if fields[path].privacy != "public" and not value.startswith(PSEUDONYM):
                what = f"{path} stands here in plain text, and so in every export and archive of this rulebook"
                hint = f"write '{PSEUDONYM}' and what is printed by: arbiter keys pseudonym {path} VALUE"
                yield document.problem(("exceptions", index, "subject", path), what, hint)
