"""What the tests of a rule would not notice: the rule is changed a little, and its tests are run again.

    found = mutate(rulebook, rule)
    found.killed, found.total           # how many changes some test notices
    found.survivors[0].change           # 'amount > 5000 CNY -> amount >= 5000 CNY'
    found.survivors[0].missing          # the inline test that would have noticed, as YAML
    first_tests(rulebook, rule)         # for a rule that has none: a test that fires and one that stays quiet

A survivor without a missing test is a change of which no event was found that tells it from the rule: perhaps the same
rule in other words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from engine.errors import Problem
from engine.expr import Mutant, mutants
from engine.mutation.missing import Missing, Search, answers, killed
from engine.rulebook import Rulebook
from engine.rules import Rule, RuleTest

__all__ = ["Mutated", "Survivor", "first_tests", "mutate"]


@dataclass(frozen=True, slots=True)
class Survivor:
    """A change that no test notices. `missing` is the test that would, as YAML, None when none was found."""

    kind: str
    change: str
    missing: str | None


@dataclass(frozen=True, slots=True)
class Mutated:
    """What became of the mutants of one rule; `place` is where its condition stands."""

    rule: str
    place: Problem
    total: int
    survivors: tuple[Survivor, ...]

    @property
    def killed(self) -> int:
        """How many mutants some test notices."""
        return self.total - len(self.survivors)


def mutate(rulebook: Rulebook, rule: Rule, *, search: bool = True) -> Mutated:
    """The mutants of a rule against its own tests, which all pass. With `search` each missing test is looked for."""
    fields = [rulebook.schema.fields(kind) for kind in rulebook.schema.kinds]

    def whole(path: str) -> bool:
        return all(table[path].form.whole for table in fields if path in table)

    made = mutants(rule.condition, rule.kinds, whole)
    tests = answers(rulebook, rule)
    left = [mutant for mutant in made if not killed(mutant, tests)]
    looking = Search(rulebook, rule, [test for test, _ in tests]) if search else None
    place = rule.document.problem((*rule.loc, "when"), "")
    names = {each.text: name for name, each in rule.shown.items() if each.text != name}
    return Mutated(rule.id, place, len(made), tuple(_survivors(left, looking, names)))


def first_tests(rulebook: Rulebook, rule: Rule) -> tuple[RuleTest, ...]:
    """Tests for a rule from its condition: one on which it fires and one on which it stays quiet, as near to each other
    as can be; fewer where none was found. The rule's own tests are not looked at."""
    return tuple(each.test for each in Search(rulebook, rule, []).first())


def _survivors(left: Sequence[Mutant], search: Search | None, names: dict[str, str]) -> Iterator[Survivor]:
    """Each with the test that is missing."""
    found = [*_missing(left, search)] if search else []
    fewest = _fewest(left, found)
    for mutant in left:
        missing = next((each for each in fewest if each.tells(mutant)), None)
        yield Survivor(mutant.kind, _named(mutant.change, names), missing.text if missing else None)


def _missing(left: Iterable[Mutant], search: Search) -> Iterator[Missing]:
    """The tests that are missing; what one that was found tells is not looked for again."""
    found = [] if search.tests else [*search.first()]
    for mutant in left:
        if not any(each.tells(mutant) for each in found) and (missing := search.missing(mutant)) is not None:
            found.append(missing)
    yield from found


def _fewest(left: Iterable[Mutant], found: Iterable[Missing]) -> list[Missing]:
    """Few of the tests that together tell as much as all: at each step the one that tells most of the rest."""
    tells = {each: {mutant.condition.text for mutant in left if each.tells(mutant)} for each in found}
    chosen: list[Missing] = []
    while tells:
        best = max(tells, key=lambda each: len(tells[each]))
        seen = tells.pop(best)
        if not seen:
            break
        chosen.append(best)
        tells = {each: rest - seen for each, rest in tells.items()}
    return chosen


def _named(change: str, names: dict[str, str]) -> str:
    """A change with the names that the rule's own message uses for its windows, where it changes none of them."""
    before, arrow, after = change.partition(" -> ")
    for text, name in sorted(names.items(), key=lambda each: -len(each[0])):
        if not arrow or (text in before and text in after):
            before, after = before.replace(text, name), after.replace(text, name)
    return before + arrow + after
