"""What `propose` lays beside a rulebook by itself, for whoever approves: what check says, what its tests would not
notice, which past verdicts it changes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from cli.language import listed, said
from cli.mutating import mutated, mutation_lines
from cli.packs import Found, noticed, summary
from engine.difference import difference
from engine.rulebook import Rulebook

CHECKS, MUTATION, VERDICTS = "checks.txt", "mutation.txt", "verdicts.md"
OURS = (CHECKS, MUTATION, VERDICTS)


def made(before: Rulebook, found: Found, data: Path | None, mapping: Path | None) -> Mapping[str, str]:
    """The papers of what was found of a whole checkout, which is to come into force after `before`. Without a history
    there is none on verdicts, where no rule was added or changed none on mutation."""
    (tried,) = found.tried
    lines = {CHECKS: checks(found), MUTATION: mutation(before, found)}
    if data is not None and mapping is not None:
        lines[VERDICTS] = verdicts(before, tried.rulebook, data, mapping)
    texts = {name: "".join(f"{line}\n" for line in each) for name, each in lines.items()}
    return {name: text for name, text in texts.items() if text}


def checks(found: Found) -> Iterator[str]:
    """What `arbiter check` says of it."""
    yield listed(summary(found))
    yield from map(noticed, found.notices)


def mutation(before: Rulebook, found: Found) -> Iterator[str]:
    """What `arbiter test --mutate` says of the rules that are new or not what they were."""
    (tried,) = found.tried
    rules = difference(before, tried.rulebook)["rules"]
    touched = {*rules["added"], *rules["changed"]}
    chosen = replace(tried, rules=[rule for rule in tried.rules if rule.id in touched])
    if chosen.rules:
        yield from mutation_lines(mutated([chosen], os.cpu_count() or 1, search=True))


def verdicts(before: Rulebook, after: Rulebook, data: Path, mapping: Path) -> Iterator[str]:
    """What `arbiter diff` says of a history."""
    # Columns are loaded by whoever asks for them.
    from cli.diff import compared
    from cli.tables import format_of

    yield from compared(
        before, after, (said("what is in force"), said("this proposal")), data, format_of(data, None), mapping
    )
