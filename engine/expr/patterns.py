"""Patterns over several events of one key, from their written parts to the window that follows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from engine.errors import PackError, Problem
from engine.expr import nodes
from engine.expr.check import Checker, Refused, Vocabulary, expression
from engine.expr.nodes import BOOL, Expression, Feature, Step
from engine.expr.syntax import Raw, Report, parse

T = TypeVar("T")


def pattern(
    function: str,
    steps: Sequence[tuple[tuple[str, ...], str | None]],
    by: Sequence[str],
    length: int,
    vocabulary: Vocabulary,
    gap: int = 0,
) -> Expression:
    """Whether events of one key follow a pattern: yes/no, over the window of `length` microseconds before the event.

    `sequence`: for each step, in their order, an event of its own. `absence`: an event of the first step at least `gap`
    ago, and none of the second in the `gap` after it. A step is (kinds, condition or None). The kinds are known ones.
    Raises PackError with every problem of every text.
    """
    kinds = tuple(sorted({kind for own, _ in steps for kind in own}))
    texts = _Texts()

    def condition(own: tuple[str, ...], where: str | None) -> Expression | None:
        if where is None:
            return None
        return texts.read(where, lambda raw, report: _where(raw, Checker(vocabulary, report), own))

    made = tuple(Step(tuple(sorted(own)), condition(own, where)) for own, where in steps)
    keys = [texts.read(text, lambda raw, report: _keys(raw, Checker(vocabulary, report), kinds)) for text in by]
    texts.stop()
    ordered = tuple(sorted({key for own in keys for key in own or ()}))
    window = nodes.pattern_window(function, made, ordered, length, gap)
    return expression(Feature(BOOL, window.name, window=window))


def _where(raw: Raw, checker: Checker, kinds: tuple[str, ...]) -> Expression | None:
    return checker.where(raw, checker.inside_of(kinds))


def _keys(raw: Raw, checker: Checker, kinds: tuple[str, ...]) -> tuple[str, ...]:
    if raw.kind != "path":
        raise checker.refuse(raw, "this is no field", "name what the events have in common, such as buyer.account")
    if raw.word in checker.words.groups:
        account = checker.words.groups[raw.word].account
        raise checker.refuse(raw, "a pattern cannot look over a group", f"go by {account}")
    return checker.keys((raw,), checker.inside_of(kinds))


class _Texts:
    """Reads the texts of one pattern; the problems of all of them are told together."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._sound = True

    def read(self, text: str, check: Callable[[Raw, Report], T]) -> T | None:
        report = Report(text)
        try:
            return check(parse(text, report), report)
        except (PackError, Refused):
            self._sound = False
            self._problems += report.problems
            return None

    def stop(self) -> None:
        if not self._sound:
            raise PackError(self._problems)
