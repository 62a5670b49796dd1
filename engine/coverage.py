"""What the tests of a rule have seen of it: whether it fired, stayed quiet or did not know, and each answer to each of
its questions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.expr import compile_rules, truth
from engine.rulebook import Rulebook
from engine.rules import Rule
from engine.trial import Misplaced, stage

ENDS = {"fires": "firing", "quiet": "quiet"}
"""What every rule should be seen doing, and how that is said. Not every rule can be unknown."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One question of a rule, and the answers that tests have had to it: "true", "false", "unknown"."""

    asks: str
    answers: frozenset[str]

    @property
    def whole(self) -> bool:
        """Whether it was seen true and seen false."""
        return {"true", "false"} <= self.answers


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the tests of one rule have seen: its ends ("fires", "quiet", "unknown") and its questions in their order."""

    rule: str
    ends: frozenset[str]
    questions: tuple[Seen, ...]

    def unseen(self) -> Iterator[str]:
        """What was never seen, in words."""
        for end, words in ENDS.items():
            if end not in self.ends:
                yield f"never seen {words}"
        for seen in self.questions:
            for answer in ("true", "false"):
                if answer not in seen.answers:
                    yield f"never seen {answer}: {seen.asks}"


def coverage(rulebook: Rulebook, rule: Rule) -> Coverage:
    """What the inline tests of a rule have seen of it. Tests that make no sense have seen nothing."""
    matcher = compile_rules([rule.condition], rule.condition.windows, watch_unknown=(0,))
    numbers = list(dict.fromkeys(number for number, _ in matcher.atoms_of(0)))
    answers: dict[int, set[str]] = {number: set() for number in numbers}
    ends: set[str] = set()
    for test in rule.tests:
        try:
            staged = stage(rulebook, rule, test)
        except Misplaced:
            continue
        match = matcher(staged.values, staged.features(rule.condition.windows, rulebook), staged.env)
        ends.add("fires" if match.fired else "unknown" if match.unsure else "quiet")
        for number in numbers:
            answers[number].add(truth(number, match.true, match.unknown))
    seen = tuple(Seen(matcher.atoms[number].text, frozenset(answers[number])) for number in numbers)
    return Coverage(rule.id, frozenset(ends), seen)
