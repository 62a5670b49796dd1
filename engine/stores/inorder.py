"""What nearly every event does to a long line: it is the newest of its key, is added at the end, and asks.

One function is made for the columns of a series and the questions of one kind of event, with what `Line.add` and
`Line.read` would look up again and again written out. The source is made of counted names and numbers alone, as in
`engine.expr.python`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, TypeAlias

from engine.money import Money
from engine.stores.bag import new
from engine.stores.contract import COUNT, FIRST, FLAGS, SUM, SUMS, VALUES, Answer, Frame, Gap, Values
from engine.stores.lines import Line

Step: TypeAlias = Callable[[Line, int, int, Values | None, int, Values | None, list[Answer]], bool]
"""(line, at, arrival, values, cap, own, answers) → whether the event was added and its answers are there. If not, it is
not as usual: nothing happened, and `Line.add` and `Line.read` are to do it."""

LARGEST = 2**62
"""Totals beyond this are left to the column, which keeps them as Python's own numbers in time."""


@lru_cache(maxsize=4096)
def step(columns: tuple[str, ...], frames: tuple[Frame, ...]) -> Step:
    """The function for a series that keeps `columns`, and these questions about it."""
    running = [number for number, holds in enumerate(columns) if holds in (SUMS, FLAGS)]
    texts = [number for number, holds in enumerate(columns) if holds == VALUES]
    others = [number for number in range(len(columns)) if number not in running + texts]
    space: dict[str, Any] = {
        "__builtins__": {"len": len, "type": type, "int": int},
        "array": array,
        "low": bisect_left,
        "capped": Gap.CAPPED,
        "new": new,
        "Money": Money,
    }
    lines = [
        "times = line.times",
        "place = len(times)",
        # A line that is due for its tidying, or was emptied, and an event that ties or is late.
        "if values is None or place >= line.due or not place or at <= times[-1]: return False",
        *(f"c{number} = line.columns[{number}]" for number in range(len(columns))),
        *(line for number in running for line in _checked(number)),
        *(f"c{number}.append(values[{number}], at, arrival)" for number in others),
        *(f"s{number} = c{number}.append(values[{number}], at, arrival)" for number in texts),
        *(f"t{number}.append(n{number})" for number in running),
        "times.append(at)",
        "line.arrivals.append(arrival)",
        "least = place + 1 - cap",
        "lost = line.lost",
        *(line for frame in frames for line in _answered(frame, columns, space)),
        "return True",
    ]
    body = "\n    ".join(lines)
    # See the module's docstring.
    exec(compile(f"def step(line, at, arrival, values, cap, own, answers):\n    {body}\n", "<step>", "exec"), space)  # noqa: S102
    made: Step = space.pop("step")
    return made


def _checked(number: int) -> Iterator[str]:
    """The new total of a column of running totals, if it is of one unit and of whole numbers up to `LARGEST`."""
    yield f"v = values[{number}]"
    yield f"t{number} = c{number}.totals"
    yield f"u{number} = c{number}.unit"
    yield f"if v is None or v[0] != u{number} or c{number}.sizes is not None: return False"
    yield f"if type(t{number}) is not array or type(v[1]) is not int: return False"
    yield f"e{number} = t{number}[-1]"
    yield f"n{number} = e{number} + v[1]"
    yield f"if not {-LARGEST} < n{number} < {LARGEST}: return False"


def _answered(frame: Frame, columns: tuple[str, ...], space: dict[str, Any]) -> Iterator[str]:
    """The answers about one stretch, in order."""
    length, including_this, questions = frame
    end = "(place + 1)" if including_this else "place"
    yield f"begin = low(times, at - {length}, 0, {end})"
    yield f"if begin < least or at - {length} <= lost: answers += (capped,) * {len(questions)}"
    answers = [_answer(question, frame, columns, space, end) for question in questions]
    yield f"else: answers += ({', '.join(answers)},)"


def _answer(question: tuple[str, int], frame: Frame, columns: tuple[str, ...], space: dict[str, Any], end: str) -> str:
    what, column = question
    length, including_this, _ = frame
    if what == COUNT:
        return f"{end} - begin"
    if column < 0:
        return f"None if begin == {end} else times[{'begin' if what == FIRST else f'{end} - 1'}]"
    if columns[column] == VALUES:
        # Without the event itself: what was seen since, but for its own text if that had not been.
        own = "" if including_this else f" - 1 + (s{column} >= at - {length})"
        return f"c{column}.recent.since(at - {length}){own}"
    if what == SUM and columns[column] in (SUMS, FLAGS):
        last = f"n{column}" if including_this else f"e{column}"
        total = f"{last} - (t{column}[begin - 1] if begin else c{column}.base)"
        return f"None if begin == {end} else new(Money, ({total}, u{column})) if u{column} else {total}"
    name = f"w{len(space)}"
    space[name] = what
    return f"c{column}.answer({name}, begin, {end}, at, {length}, own and own[{column}])"
