"""What the tests of rules would not notice: the work of `arbiter test --mutate`, spread over processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

from cli.group import counted
from cli.language import label, said
from cli.packs import Part, Tried
from engine.expr import MUTATIONS
from engine.mutation import Mutated, Survivor, mutate
from engine.rulebook import Rulebook, load

FEW = 8
"""So many rules are done in this process: another one would have to load the rulebook first."""


@dataclass(frozen=True, slots=True)
class Placed:
    """The mutants of one rule, and the file of the rule under the name that people gave."""

    file: str
    mutated: Mutated


@dataclass(frozen=True, slots=True)
class Results:
    """The mutants of all rules that were asked about."""

    rules: tuple[Placed, ...]
    searched: bool

    @property
    def total(self) -> int:
        """How many mutants there are."""
        return sum(each.mutated.total for each in self.rules)

    @property
    def killed(self) -> int:
        """How many of them some test notices."""
        return sum(each.mutated.killed for each in self.rules)

    @property
    def score(self) -> Decimal:
        """The part of the mutants that some test notices; 1 where there are none."""
        return Decimal(self.killed) / self.total if self.total else Decimal(1)


def mutated(looked_at: Iterable[Tried], jobs: int, *, search: bool) -> Results:
    """The mutants of the rules that were asked about, in their order. `search` looks for the missing tests."""
    placed: list[Placed] = []
    for tried in looked_at:
        part, ids = tried.part, [rule.id for rule in tried.rules]
        work = _spread if jobs > 1 and len(ids) > FEW else _here
        placed += (
            Placed(part.shown(each.place.file) or each.place.file, each)
            for each in work(part, tried.rulebook, ids, jobs, search)
        )
    return Results(tuple(placed), search)


def _here(part: Part, rulebook: Rulebook, ids: Sequence[str], jobs: int, search: bool) -> Iterator[Mutated]:
    del part, jobs
    by_id = {rule.id: rule for rule in rulebook.rules}
    return (mutate(rulebook, by_id[id], search=search) for id in ids)


def _spread(part: Part, rulebook: Rulebook, ids: Sequence[str], jobs: int, search: bool) -> Iterator[Mutated]:
    del rulebook
    given = (part.rules, part.policies, search)
    with ProcessPoolExecutor(jobs, initializer=_begin, initargs=given) as pool:
        yield from pool.map(_one, ids)


_worker: list[tuple[Rulebook, bool]] = []
"""What a process of the pool works on: set once, when it begins."""


def _begin(rules: Path, policies: Path, search: bool) -> None:
    _worker.append((load(rules, policies), search))


def _one(id: str) -> Mutated:
    ((rulebook, search),) = _worker
    return next(_here(_NOWHERE, rulebook, [id], 1, search))


_NOWHERE = Part(Path(), Path())


# Telling


def mutation_lines(results: Results) -> Iterator[str]:
    """Each rule with survivors: what changed, and the test that would have noticed it. Then the whole."""
    for placed in results.rules:
        if placed.mutated.survivors:
            yield from _told(placed, searched=results.searched)
            yield ""
    left = results.total - results.killed
    score = f"{100 * results.score:.1f} %"
    yield said(f"{counted(results.total, 'mutant')}, {results.killed:,} killed, {left:,} survived: {score}")


def _told(placed: Placed, *, searched: bool) -> Iterator[str]:
    one = placed.mutated
    killed = said(f"rule '{one.rule}': {one.killed} of {one.total} killed")
    yield f"{placed.file}:{one.place.line}:{one.place.column}: {killed}"
    for test, together in _by_test(one.survivors):
        for survivor in together:
            yield f"  {label(MUTATIONS[survivor.kind])}{said(survivor.change)}"
        if test is not None:
            yield said("  this test would notice:")
            yield "\n".join(f"      {line}" for line in test.splitlines())
        elif searched:
            yield said("  no event was found that tells these from the rule: perhaps they are the same in other words")


def _by_test(survivors: Iterable[Survivor]) -> Iterator[tuple[str | None, list[Survivor]]]:
    """Survivors that one test would notice, together; those without a test last."""
    order = {test: place for place, test in enumerate(dict.fromkeys(one.missing for one in survivors))}
    rows = sorted(survivors, key=lambda one: (one.missing is None, order[one.missing]))
    for test, together in groupby(rows, key=lambda one: one.missing):
        yield test, list(together)


def mutation_data(results: Results) -> dict[str, Any]:
    """The result in the form that `test --mutate --json` promises."""
    return {
        "total": results.total,
        "killed": results.killed,
        "score": float(round(results.score, 4)),
        "survivors": [
            {
                "rule": placed.mutated.rule,
                "file": placed.file,
                "line": placed.mutated.place.line,
                "column": placed.mutated.place.column,
                "kind": survivor.kind,
                "change": survivor.change,
                "test": survivor.missing,
            }
            for placed in results.rules
            for survivor in placed.mutated.survivors
        ],
        "by_rule": [
            {"rule": each.mutated.rule, "total": each.mutated.total, "killed": each.mutated.killed}
            for each in results.rules
        ],
    }
