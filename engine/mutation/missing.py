"""The test that is missing: one that goes as it should with a rule, and otherwise with a mutant of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from engine.errors import PackError
from engine.expr import Mutant
from engine.mutation.spelling import spell_test
from engine.mutation.variants import Part, Purse, Spent, Tried, Variant, Varied
from engine.packs import parse
from engine.rulebook import Rulebook
from engine.rules import Rule, RuleTest
from engine.trial import Misplaced, stage

BUDGET = 5_000
"""How many events are put together for one mutant, at most, before the search gives up."""
LONGEST_SENTENCE = 200

_VERBS = {"fires": "fires when", "quiet": "stays quiet when", "unknown": "does not know when"}


@dataclass(frozen=True)
class Missing:
    """A test that is missing, as YAML, and ready to be asked."""

    text: str
    test: RuleTest
    tried: Tried

    def tells(self, mutant: Mutant) -> bool:
        """Whether it fails with a mutant."""
        return self.tried.answer(mutant.condition) != self.test.expect


@dataclass
class Search:
    """Looks for the missing tests of one rule. `taken` are the sentences that its tests have already."""

    rulebook: Rulebook
    rule: Rule
    tests: Sequence[RuleTest]
    taken: set[str] = field(default_factory=set)

    def missing(self, mutant: Mutant) -> Missing | None:
        """A test that tells the rule from a mutant; None when none was found within the budget."""
        doubtful: tuple[Variant, str] | None = None
        for variant, expect in self._telling(mutant):
            if expect != "unknown":
                return self._written(variant, expect, mutant)
            doubtful = doubtful or (variant, expect)
        return self._written(*doubtful, mutant) if doubtful else None

    def _telling(self, mutant: Mutant) -> Iterator[tuple[Variant, str]]:
        """Variants of which the rule and the mutant say different things, and what the rule says."""
        purse, seen = Purse(BUDGET), set[str]()
        try:
            for variant in self._variants(mutant, purse):
                key = repr(variant.test)
                if key in seen:
                    continue
                seen.add(key)
                tried = self._varied(variant, purse).tried
                if tried is not None:
                    expect = tried.answer(self.rule.condition)
                    if tried.answer(mutant.condition) != expect:
                        yield variant, expect
        except Spent:
            return

    def _variants(self, mutant: Mutant, purse: Purse) -> Iterator[Variant]:
        """Near ones first: one change that aims at the mutated part, then two of which one does."""
        focus = Part.of([mutant.old, mutant.new])
        whole = Part.of([self.rule.condition.tree, mutant.condition.tree])
        bases = [Variant((), test) for test in sorted(self.tests, key=_firing_first)]
        for base in bases:
            yield from self._varied(base, purse).variants(focus)
        for base in bases:
            for first in self._varied(base, purse).variants(focus):
                yield from self._varied(first, purse).met(focus)
        for base in bases:
            for first in self._varied(base, purse).variants(whole):
                yield first
                yield from self._varied(first, purse).variants(focus)

    def _varied(self, variant: Variant, purse: Purse) -> Varied:
        return Varied(self.rulebook, self.rule, variant, purse)

    def _written(self, variant: Variant, expect: str, mutant: Mutant) -> Missing | None:
        """The test as YAML, read again and run as a pasted one would be."""
        it = self._sentence(f"{_VERBS[expect]} {' and '.join(dict.fromkeys(variant.words))}")
        text = spell_test(variant.test.model_copy(update={"it": it, "expect": expect}))
        try:
            test = RuleTest.model_validate(parse("tests:\n" + text).data["tests"][0])
            tried = Tried(self.rulebook, stage(self.rulebook, self.rule, test))
        except (PackError, Misplaced, ValueError):  # pragma: no cover - what is spelled can be read again
            raise AssertionError(f"a test was spelled that cannot be read:\n{text}") from None
        assert tried.answer(self.rule.condition) == expect, text
        assert tried.answer(mutant.condition) != expect, text
        self.taken.add(it)
        return Missing(text, test, tried)

    def _sentence(self, wanted: str) -> str:
        """The sentence, with a number behind it where another test has it already."""
        wanted = wanted if len(wanted) <= LONGEST_SENTENCE - 5 else wanted[: LONGEST_SENTENCE - 6] + "…"
        number = 2
        found = wanted
        while found in self.taken:
            found, number = f"{wanted} ({number})", number + 1
        return found


def _firing_first(test: RuleTest) -> int:
    return ("fires", "quiet", "unknown").index(test.expect)


def answers(rulebook: Rulebook, rule: Rule) -> list[tuple[RuleTest, Tried]]:
    """The tests of a rule that make sense, ready to be asked."""
    found = []
    for test in rule.tests:
        try:
            found.append((test, Tried(rulebook, stage(rulebook, rule, test))))
        except Misplaced:
            continue
    return found


def killed(mutant: Mutant, tests: Iterable[tuple[RuleTest, Tried]]) -> bool:
    """Whether some test fails with the mutant."""
    return any(tried.answer(mutant.condition) != test.expect for test, tried in tests)
