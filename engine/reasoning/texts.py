"""Texts as numbers. A text that a condition writes has a number of its own; any other number is another text.

What a condition asks of a text beside equality (`starts with`, `matches`, `lower` …) is a function that the solver
knows nothing of but the answers at the texts written somewhere, and what follows from one answer for another: what
starts with "abc" starts with "ab", does not start with "x", and is at least three characters long. That is decided
quickly at any size, where a theory of strings is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import z3

from engine.expr import uscc
from engine.expr.functions import BY_NAME
from engine.reasoning.terms import Term, opposite

_LOWER: Callable[[str], str] = BY_NAME["lower", 1][0].python
_PLAIN: Callable[[str], str] = BY_NAME["plain", 1][0].python
_TESTS: dict[str, Callable[[str, Any], bool]] = {
    name: BY_NAME[name, 2][0].python for name in ("starts with", "ends with", "contains", "matches")
}
_USCC = "valid_uscc"
_TESTS[_USCC] = lambda text, _: uscc.valid(text)
_PARTS = ("starts with", "ends with", "contains")


class Texts:
    """The texts of one encoding, and the questions about them."""

    def __init__(self) -> None:
        self.written: list[str] = []
        """Texts by their numbers."""
        self._numbers: dict[str, int] = {}
        self._terms: dict[Any, Term] = {}
        self._questions: dict[tuple[str, str], tuple[Any, Any]] = {}
        self._lower = z3.Function("lower", z3.IntSort(), z3.IntSort())
        self._plain = z3.Function("plain", z3.IntSort(), z3.IntSort())
        self._length = z3.Function("length", z3.IntSort(), z3.IntSort())
        self._lowered: dict[Any, Term] = {}
        self._plained = False
        self._measured = False

    def number(self, text: str) -> Term:
        """The number of a text."""
        if text not in self._numbers:
            self._numbers[text] = len(self.written)
            self.written.append(text)
        return z3.IntVal(self._numbers[text])

    def know(self, term: Term) -> Term:
        """`term` is some text: what follows for one question from another will hold of it."""
        if not z3.is_int_value(term):
            self._terms[term.get_id()] = term
        return term

    def asked(self, question: str, term: Term, text: str, written: Any) -> Term:
        """Whether `question` (a row's name) holds of a text and what stands at its right, `written`."""
        found = self._questions.get((question, text))
        if found is None:
            found = z3.Function(f"{question} {text}", z3.IntSort(), z3.BoolSort()), written
            self._questions[question, text] = found
        return found[0](self.know(term))

    def lower(self, term: Term) -> Term:
        """The text in small letters."""
        found = self._lower(self.know(term))
        self._lowered[found.get_id()] = found
        return self.know(found)

    def plain(self, term: Term) -> Term:
        """The text as it is read, of which only the written ones are known."""
        self._plained = True
        return self.know(self._plain(self.know(term)))

    def length(self, term: Term) -> Term:
        """How many characters."""
        self._measured = True
        return self._length(self.know(term))

    def questions(self, term: Term) -> Iterator[tuple[str, Any, Term]]:
        """Every question there is, as (name, what is asked for, the answer for this text)."""
        for (name, _), (function, written) in self._questions.items():
            yield name, written, function(term)

    def facts(self) -> Iterator[Term]:
        """What is always so of the texts and questions so far."""
        if self._plained:
            for text in list(self.written):
                self.number(_PLAIN(text))
        if self._lowered:
            for text in list(self.written):
                self.number(_LOWER(text))
        yield from self._at_written()
        for term in self._terms.values():
            yield from self._at(term)

    def _at_written(self) -> Iterator[Term]:
        for number, text in enumerate(self.written):
            for (name, _), (function, written) in self._questions.items():
                answer = function(number)
                yield answer if _TESTS[name](text, written) else z3.Not(answer)
            if self._lowered:
                yield self._lower(number) == self._numbers[_LOWER(text)]
            if self._plained and _PLAIN(text) in self._numbers:
                yield self._plain(number) == self._numbers[_PLAIN(text)]
            if self._measured:
                yield self._length(number) == len(text)

    def _at(self, term: Term) -> Iterator[Term]:
        parts = [(name, written, answer) for name, written, answer in self.questions(term) if name in _PARTS]
        for one, other in combinations(parts, 2):
            yield from _between(*one, *other)
            yield from _between(*other, *one)
        yield from (answer for _, written, answer in parts if not written)
        if self._measured:
            yield self._length(term) >= 0
            for name, _, answer in self.questions(term):
                if name == _USCC:
                    yield z3.Implies(answer, self._length(term) == uscc.LENGTH)
            for _, written, answer in parts:
                yield z3.Implies(answer, self._length(term) >= len(written))
        if self._lowered:
            small = self._lower(term)
            yield self._lower(small) == small
            if self._measured:
                yield self._length(small) == self._length(term)
        if term.get_id() in self._lowered:
            for _, written, answer in parts:
                if _LOWER(written) != written:
                    yield z3.Not(answer)


def _between(name: str, text: str, answer: Term, other: str, sought: str, follows: Term) -> Iterator[Term]:
    """What the first answer says about the second."""
    if name == other and name != "contains":
        whole = text.startswith if name == "starts with" else text.endswith
        longer = sought.startswith if name == "starts with" else sought.endswith
        if whole(sought):
            yield z3.Implies(answer, follows)
        elif not longer(text):
            yield z3.Implies(answer, opposite(follows))
    elif other == "contains" and sought in text:
        yield z3.Implies(answer, follows)


def asks(question: str, text: str, written: Any) -> bool:
    """The answer to a question about a text."""
    return _TESTS[question](text, written)
