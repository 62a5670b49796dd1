"""Suites: whole decisions that must come out as written. Windows in memory, rules, exceptions, policy: the way online.

    suites, problems = read_suites(Path("policies"))
    for trial in try_suites(rulebook, suites): ...

A suite is no part of the rulebook: it says what a rulebook must do, and changes nothing of what it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import PackError, Problem
from engine.packs import Document, Loc, fit, is_suite, read_through, yaml_files
from engine.rulebook import Rulebook
from engine.suites.expansion import Filled, Misnamed, combinations, fill
from engine.suites.judging import Judged, judge
from engine.suites.naming import misnamed
from engine.suites.pack import SuitePack
from engine.trial import CLOCK, Misplaced, Trial

__all__ = ["Suite", "SuitePack", "read_suites", "try_suites"]

LONGEST_EXPLAINED = 40
"""Lines of an explanation that are shown below a case that failed."""


@dataclass(frozen=True)
class Suite:
    """One file of cases."""

    pack: SuitePack
    document: Document

    @property
    def name(self) -> str:
        """What it is called."""
        return str(self.pack.suite)


def read_suites(root: Path) -> tuple[tuple[Suite, ...], tuple[Problem, ...]]:
    """The suites below a folder, as far as they fit, and every problem with their form."""
    problems: list[Problem] = []
    suites = []
    for path in yaml_files(root, problems):
        if not is_suite(path):
            continue
        try:
            found = fit(read_through(path, root=root), SuitePack)
        except PackError as error:
            problems += error.problems
            continue
        problems += found.problems
        if found.pack is not None:
            suites.append(Suite(found.pack, found.document))
    return tuple(suites), tuple(problems)


def try_suites(rulebook: Rulebook, suites: Iterable[Suite]) -> Iterator[Trial]:
    """Every case of every suite, in order."""
    for suite in suites:
        for index, case in enumerate(suite.pack.cases):
            wrong = misnamed(rulebook, suite.pack, case)
            if wrong is not None:
                yield Trial(suite.name, str(case.it), _problem(suite, index, wrong))
                continue
            for values in combinations(case):
                yield _tried(rulebook, suite, index, values)


def _tried(rulebook: Rulebook, suite: Suite, index: int, values: Mapping[str, Any]) -> Trial:
    case = suite.pack.cases[index]
    try:
        filled = fill(suite.pack, case, values)
    except Misnamed as error:
        return Trial(suite.name, str(case.it), _problem(suite, index, error))
    wrong = misnamed(rulebook, suite.pack, filled)
    if wrong is not None:
        return Trial(suite.name, filled.it, _problem(suite, index, wrong))
    try:
        judged = judge(rulebook, str(suite.pack.for_), filled, CLOCK)
    except Misplaced as error:
        loc: Loc = ("cases", index, *error.loc)
        problem = suite.document.problem(loc, str(error), error.hint, key=error.key and suite.document.stands(loc))
        return Trial(suite.name, filled.it, problem)
    return Trial(suite.name, filled.it, _difference(suite, index, filled, judged))


def _problem(suite: Suite, index: int, error: Misnamed) -> Problem:
    return suite.document.problem(("cases", index, *error.loc), str(error), error.hint)


def _difference(suite: Suite, index: int, filled: Filled, judged: Judged) -> Problem | None:
    """What came out otherwise than written, and why it came out so."""
    wrong = list(judged.differences(filled.expect))
    if not wrong:
        return None
    loc, said = wrong[0]
    also = [f"also: {words}" for _, words in wrong[1:]]
    why = judged.lines()[:LONGEST_EXPLAINED]
    what = f"suite '{suite.name}': the case '{filled.it}' {said}"
    hint = "\n".join([*also, "how it was judged:", *(f"  {line}" for line in why)])
    return suite.document.problem(("cases", index, "expect", *loc), what, hint)
