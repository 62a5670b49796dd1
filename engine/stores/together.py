"""What the lines of several keys hold together: answers for each, put into one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from engine.money import Money
from engine.stores.bag import priced
from engine.stores.contract import (
    COUNT,
    DISTINCT,
    FIRST,
    GROUP_LOOK,
    LAST,
    LEAST,
    MEAN,
    MOST,
    SUM,
    Answer,
    Frame,
    Gap,
)
from engine.stores.lines import Few, Line
from engine.stores.numbers import plain, plus

_OF_ONE = {SUM: MEAN, DISTINCT: COUNT}
"""What is asked of each line instead: sums with their units; how many events there are to look at."""


def together(lines: Sequence[Few | Line], frames: Sequence[Frame], at: int, arrival: int, cap: int) -> list[Answer]:
    """The answers to all questions of the frames, of all lines as if they were one, as of an event.

    `cap` holds for each line. `distinct` is Gap.CAPPED where several lines have more than GROUP_LOOK events in all.
    """
    places = [line.ends(at, arrival) for line in lines]
    if len(lines) == 1:  # Most groups are of one account.
        return _of(lines[0], frames, at, places[0], cap)
    asked = _of_lines(tuple(frames))
    found = [_of(line, asked, at, ends, cap) for line, ends in zip(lines, places, strict=True)]
    made: list[Answer] = []
    for length, this, questions in frames:
        for what, column in questions:
            each = [answers[len(made)] for answers in found]
            if Gap.CAPPED in each:
                made.append(Gap.CAPPED)
            elif what == DISTINCT:
                held = [(line, ends) for line, ends, count in zip(lines, places, each, strict=True) if count]
                if len(held) == 1:
                    made += _of(held[0][0], ((length, this, ((DISTINCT, column),)),), at, held[0][1], cap)
                else:
                    few = sum(_counts(each)) <= GROUP_LOOK
                    made.append(_distinct(held, column, at - length, this) if few else Gap.CAPPED)
            else:
                made.append(_put(what, each))
    return made


@lru_cache(maxsize=1024)
def _of_lines(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """What each line is asked."""
    return tuple(
        (length, this, tuple((_OF_ONE.get(what, what), column) for what, column in questions))
        for length, this, questions in frames
    )


def _of(line: Few | Line, frames: Sequence[Frame], at: int, ends: tuple[int, int], cap: int) -> list[Answer]:
    answers: list[Answer] = []
    line.read(frames, at, *ends, cap, None, answers)
    return answers


def _counts(each: Sequence[Any]) -> list[int]:
    return list(each)


def _distinct(lines: Sequence[tuple[Few | Line, tuple[int, int]]], column: int, since: int, this: bool) -> int:
    texts = {text for line, ends in lines for text in line.texts(column, since, ends[this])}
    return len(texts - {None})


def _put(what: str, each: Sequence[Any]) -> Answer:
    if what == COUNT:
        return sum(_counts(each))
    if Gap.MIXED in each:
        return Gap.MIXED
    known = [answer for answer in each if answer is not None]
    if not known:
        return None
    if what in (FIRST, LAST):
        first: int = min(known) if what == FIRST else max(known)
        return first
    if what in (LEAST, MOST):
        return _extreme(what, known)
    if len({answer[0] for answer in known}) > 1:
        return Gap.MIXED
    unit, *sums = known[0]
    for _, *more in known[1:]:
        sums = [plus(one, other) for one, other in zip(sums, more, strict=True)]
    sums = [plain(number) for number in sums]
    return priced(sums[0], unit) if what == SUM else _whole(unit, sums)


def _whole(unit: str, sums: Sequence[Any]) -> Answer:
    """A Ratio or a Spread."""
    made: Any = (unit, *sums)
    answer: Answer = made
    return answer


def _extreme(what: str, known: Sequence[Any]) -> Answer:
    units = {answer.currency if type(answer) is Money else "" for answer in known}
    if len(units) > 1:
        return Gap.MIXED
    extreme: Answer = min(known) if what == LEAST else max(known)  # of one unit: money then compares by its number
    return extreme
