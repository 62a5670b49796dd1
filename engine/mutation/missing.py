"""The test that is missing: one that goes as it should with a rule, and otherwise with a mutant of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, count

from engine.expr import Expression, Mutant, Node, atoms_in, walk
from engine.mutation.asked import Part
from engine.mutation.first import beside, reached
from engine.mutation.given import Given, Purse, Spent, Tried, Variant
from engine.mutation.meeting import met
from engine.mutation.spelling import spell_test
from engine.mutation.variants import more, variants
from engine.packs import parse
from engine.rulebook import Rulebook
from engine.rules import Rule, RuleTest
from engine.trial import Built, Misplaced, stage

LONGEST_SENTENCE = 200

_VERBS = {"fires": "fires when", "quiet": "stays quiet when", "unknown": "does not know when"}


@dataclass(frozen=True, eq=False)
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
    """Looks for the missing tests of one rule. `tests` are those it has; each that is found joins them, for the next
    may be near it.
    """

    rulebook: Rulebook
    rule: Rule
    tests: list[RuleTest]

    def first(self) -> Iterator[Missing]:
        """For a rule without tests: one on which it fires, and near that one on which it stays quiet."""
        tree, built = self.rule.condition.tree, Built()
        fires = reached(self._given, _BARE, tree, True, built)
        if fires is not None:
            yield self._written(fires, "fires")
        base = Variant((), fires.test) if fires is not None else _BARE
        quiet = beside(self._given, base, tree, False, built) or reached(self._given, base, tree, False, built)
        if quiet is not None:
            yield self._written(quiet, "quiet")

    def missing(self, mutant: Mutant) -> Missing | None:
        """A test that tells the rule from a mutant; None when none was found within the budget."""
        chosen: tuple[Variant, str] | None = None
        for variant, expect in self._telling(mutant):
            if chosen is None or expect != "unknown":
                chosen = variant, expect
            if expect != "unknown":
                break
        if chosen is None:
            return None
        missing = self._written(*chosen)
        assert missing.tells(mutant), missing.text
        return missing

    def _telling(self, mutant: Mutant) -> Iterator[tuple[Variant, str]]:
        """Variants of which the rule and the mutant say different things, and what the rule says."""
        seen, built = set[str](), Built()
        for way in (self._near, self._more, self._two_aimed, self._two):
            purse = Purse(built)
            try:
                for variant in way(mutant, purse):
                    key = repr(variant.test)
                    if key not in seen:
                        seen.add(key)
                        yield from self._asked(variant, mutant, purse)
            except Spent:
                continue

    def _asked(self, variant: Variant, mutant: Mutant, purse: Purse) -> Iterator[tuple[Variant, str]]:
        tried = self._given(variant, purse).tried
        if tried is not None:
            expect = tried.answer(self.rule.condition)
            if tried.answer(mutant.condition) != expect:
                yield variant, expect

    # The ways, nearest first; each has a budget of its own.

    def _near(self, mutant: Mutant, purse: Purse) -> Iterator[Variant]:
        """One change that aims at the mutated part."""
        focus = self._focus(mutant)
        for base in self._bases():
            yield from variants(self._given(base, purse), focus)

    def _more(self, mutant: Mutant, purse: Purse) -> Iterator[Variant]:
        """So many more earlier events that two sides meet."""
        focus = self._focus(mutant)
        for base in self._bases():
            yield from more(self._given(base, purse), focus)

    def _two_aimed(self, mutant: Mutant, purse: Purse) -> Iterator[Variant]:
        """Two changes that both aim at the mutated part, of which the second makes two sides meet."""
        focus = self._focus(mutant)
        for base in self._bases():
            for first in variants(self._given(base, purse), focus):
                yield from met(self._given(first, purse), focus)

    def _two(self, mutant: Mutant, purse: Purse) -> Iterator[Variant]:
        """A change anywhere, and one that aims at the mutated part."""
        focus = self._focus(mutant)
        whole = Part.of([self.rule.condition.tree, mutant.condition.tree])
        for base in self._bases():
            for first in variants(self._given(base, purse), whole):
                yield first
                yield from variants(self._given(first, purse), focus)

    def _focus(self, mutant: Mutant) -> Part:
        return Part.of(_reading(mutant.old, self.rule.condition) + _reading(mutant.new, mutant.condition))

    def _bases(self) -> list[Variant]:
        """The tests to begin with; for a rule that has none, a bare event."""
        return [Variant((), test) for test in sorted(self.tests, key=_near_first)] or [_BARE]

    def _given(self, variant: Variant, purse: Purse) -> Given:
        return Given(self.rulebook, self.rule, variant, purse)

    def _written(self, variant: Variant, expect: str) -> Missing:
        """The test as YAML, read again and run as a pasted one would be."""
        words = " and ".join(dict.fromkeys(variant.words)) or "nothing is said"
        it = self._sentence(f"{_VERBS[expect]} {words}")
        text = spell_test(variant.test.model_copy(update={"it": it, "expect": expect}))
        test = RuleTest.model_validate(parse("tests:\n" + text).data["tests"][0])
        tried = Tried(self.rulebook, stage(self.rulebook, self.rule, test))
        assert tried.answer(self.rule.condition) == expect, text
        self.tests.append(test)
        return Missing(text, test, tried)

    def _sentence(self, wanted: str) -> str:
        """The sentence, with a number behind it where another test has it already."""
        wanted = wanted if len(wanted) <= LONGEST_SENTENCE - 5 else wanted[: LONGEST_SENTENCE - 6] + "…"
        taken = {test.it for test in self.tests}
        numbered = (f"{wanted} ({number})" for number in count(2))
        return next(it for it in chain([wanted], numbered) if it not in taken)


_BARE = Variant((), RuleTest(it="", expect="quiet"))
"""Nothing but an event."""


def _near_first(test: RuleTest) -> tuple[int, int]:
    """Those that fire first, for there every question counts; of them those with a short history."""
    return ("fires", "quiet", "unknown").index(test.expect), sum(before.repeat for before in test.before)


def _reading(part: Node, condition: Expression) -> list[Node]:
    """The questions of a condition in which a part stands: of a window all that read it."""
    return [atom for atom in atoms_in(condition.tree) if part in set(walk(atom))] or [part]


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
