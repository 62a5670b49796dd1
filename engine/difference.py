"""What two rulebooks do not have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import unified_diff
from typing import Any

from engine.lists import NamedList
from engine.rulebook import Rulebook
from engine.rules import Rule


def difference(before: Rulebook, after: Rulebook) -> dict[str, dict[str, list[str]]]:
    """By name what was added, changed and removed: rules, policies, lists of the files, and the files themselves.

    Exceptions, rates, own fields, links, experiments and playbooks show as files alone.
    """
    return {
        "rules": _compared(*({rule.id: _said(rule) for rule in book.rules} for book in (before, after))),
        "policies": _compared(*({name: each.pack for name, each in book.policies.items()} for book in (before, after))),
        "lists": _compared(
            *({name: _held(each) for name, each in book.lists.lists.items()} for book in (before, after))
        ),
        "files": _compared(before.files, after.files),
    }


def unified(before: Mapping[str, bytes], after: Mapping[str, bytes], longest: int | None = None) -> Iterator[str]:
    """The lines that differ between the files of two rulebooks, as a unified diff. A file of more than `longest` lines
    is only named: comparing takes the square of them."""
    for name in sorted({*before, *after}):
        if before.get(name) == after.get(name):
            continue
        old, new = (files.get(name, b"").decode().splitlines(keepends=True) for files in (before, after))
        if longest is not None and max(len(old), len(new)) > longest:
            yield f"--- before/{name}\n+++ after/{name}\n# {len(old):,} lines before, {len(new):,} after: not shown\n"
            continue
        for line in unified_diff(old, new, f"before/{name}", f"after/{name}"):
            yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _compared(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[str]]:
    return {
        "added": sorted(after.keys() - before.keys()),
        "changed": sorted(name for name in before.keys() & after.keys() if before[name] != after[name]),
        "removed": sorted(before.keys() - after.keys()),
    }


def _said(rule: Rule) -> tuple[Any, ...]:
    """A rule as it reads, wherever in its file it stands."""
    texts = (rule.condition.text, {name: shown.text for name, shown in rule.shown.items()})
    about = (rule.pack, rule.kinds, rule.owner, rule.mode, rule.rollout, rule.if_unknown, rule.review_by, rule.tests)
    return (*texts, *about, rule.finding)


def _held(named: NamedList) -> tuple[Any, ...]:
    kind = (named.match, named.lowers, named.ignore_case, named.entity)
    return (named.hash, named.about, named.owner, *kind)
