"""Questions to the solver, asked the same way every time: a fixed seed, and a limit on work, not on time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import z3

from engine.reasoning.terms import Term

Model: TypeAlias = Any
"""A z3 model: a value for each variable."""

WORK = 3_000_000
"""How much the solver does for one question, in its own unit, which is the same on every machine: a second or so."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the solver says: possible (with a model), impossible, or neither (`undecided`)."""

    possible: bool
    model: Model = None
    undecided: bool = False

    @property
    def impossible(self) -> bool:
        """Whether it is certain that nothing fits."""
        return not self.possible and not self.undecided


class Questions:
    """A solver that is asked many things: making one costs more than most questions."""

    def __init__(self, work: int = WORK) -> None:
        self._solver = z3.SimpleSolver()
        self._solver.set("rlimit", work)
        self._solver.set("random_seed", 0)

    @contextmanager
    def given(self, facts: Iterable[Term]) -> Iterator[None]:
        """Within it the facts hold."""
        self._solver.push()
        try:
            self._solver.add(*facts)
            yield
        finally:
            self._solver.pop()

    def ask(self, *claims: Term) -> Answer:
        """Whether the claims can hold together."""
        with self.given(claims):
            found = self._solver.check()
            if found == z3.sat:
                return Answer(possible=True, model=self._solver.model())
            return Answer(possible=False, undecided=found == z3.unknown)

    def fewest(self, claims: Sequence[Term]) -> list[int]:
        """Of claims that cannot hold together, some that cannot either, each of which is needed; by their indexes."""
        needed = list(range(len(claims)))
        for index in range(len(claims)):
            rest = [each for each in needed if each != index]
            if self.ask(*(claims[each] for each in rest)).impossible:
                needed = rest
        return needed

    def nicest(self, claims: Sequence[Term], wishes: Iterable[Term]) -> Answer:
        """As `ask`, with as many of the wishes as fit, the first ones first."""
        best = self.ask(*claims)
        if not best.possible:
            return best
        with self.given(claims):
            return self._granted(list(wishes), best)

    def _granted(self, wishes: Sequence[Term], best: Answer) -> Answer:
        """Grant the wishes, half by half where they do not fit together; those that are granted stay so."""
        found = self.ask(*wishes)
        if found.possible:
            self._solver.add(*wishes)
            return found
        if len(wishes) <= 1:
            return best
        middle = len(wishes) // 2
        best = self._granted(wishes[:middle], best)
        return self._granted(wishes[middle:], best)
