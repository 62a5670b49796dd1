"""What the script of `engine.stores.valkey` is told about events and windows, and what its answers mean.

The layout of a member of a line is in `valkey.lua`. Numbers cross as text, and sums are taken here from running totals:
exact at any size, as in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from engine.stores.bag import priced
from engine.stores.contract import (
    COUNT,
    DISTINCT,
    FIRST,
    FLAGS,
    LOOK,
    MEAN,
    RANKED,
    RUNS,
    SQUARES,
    STEPS,
    SUMS,
    VALUES,
    Answer,
    Frame,
    Gap,
    Values,
)
from engine.stores.lines import COUNTED, of_few
from engine.stores.numbers import EXACT, minus, plain, plus, times

SMALL = 1 << 53
"""Integers below it are exact on the server, where all numbers are doubles."""
_LIMB = 10**7
_DIGITS = 7
_PLAIN = "#"
"""The unit of numbers without one; nothing at all says that there was no number yet."""

_LETTERS = {SUMS: "S", FLAGS: "S", SQUARES: "Q", VALUES: "V", RUNS: "R", STEPS: "P", RANKED: "K"}
_WIDTHS = {"S": 5, "Q": 7, "V": 2, "R": 1, "P": 1, "K": 2}
_HEAD = 3
"""Arrival, time, ordinal."""
_FRAMES = 10_000
"""Most frames of one series that are remembered; a rulebook has some hundred."""

Part = Sequence[Any]
"""What the script says about one touch."""


class Asked(NamedTuple):
    """A frame, and what the server must give for it beside the members at its ends (see `valkey.lua`)."""

    length: int
    including: bool
    questions: Sequence[tuple[str, int]]
    wants: str
    texts: tuple[int, ...]
    """The columns of which texts are counted."""
    rows: bool
    """Whether there may be members."""


class Shape:
    """How the members of a series are written: `letters`, one a column, and where the fields of each column begin."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.letters = "".join(_LETTERS[holds] for holds in columns)
        self.places = [_HEAD + sum(_WIDTHS[letter] for letter in self.letters[:end]) for end in range(len(columns))]
        self._asked: dict[int, tuple[Sequence[Frame], list[Asked]]] = {}
        """By the identity of the frames, which are kept with it: to compare them would take longer than to ask."""

    def args(self, values: Values) -> list[str]:
        """What an event brings, as the server takes it."""
        args: list[str] = []
        for letter, value in zip(self.letters, values, strict=True):
            args += _args(letter, value)
        return args

    def asked(self, frames: Sequence[Frame]) -> list[Asked]:
        """What the server must give for the questions about one key."""
        known = self._asked.get(id(frames))
        if known is None:
            if len(self._asked) >= _FRAMES:
                self._asked.clear()
            known = self._asked[id(frames)] = frames, [self._of(frame) for frame in frames]
        return known[1]

    def _of(self, frame: Frame) -> Asked:
        length, including, questions = frame
        letters = {self.letters[column] for _, column in questions if column >= 0}
        rows = "r" if "K" in letters else "p" if "P" in letters else ""
        texts = tuple(sorted({column for what, column in questions if what == DISTINCT}))
        wants = ("i" if including else "") + rows + "".join(f"|{column}|" for column in texts)
        return Asked(length, including, questions, wants, texts, bool(rows))

    def answers(self, part: Part, frames: Sequence[Frame], at: int, cap: int, own: Values | None) -> list[Answer]:
        """The answers to all questions about one key, from what the server gave."""
        before, itself, newest = part[0], part[1], int(part[2])
        answers: list[Answer] = []
        place = 3
        for _, including, questions, wants, texts, has_rows in self.asked(frames):
            first, rows = part[place], None
            counts: Sequence[int] = ()
            place += 1
            if first is not None and wants and wants != "i":
                counts = part[place : place + len(texts)]
                place += len(texts)
                if has_rows:
                    rows = part[place]
                    place += 1
            last = itself if including and itself else before
            size = 0
            if first is not None:
                begin = first.split(b";")
                if begin[0][:1] == b"!" or newest - int(begin[2]) >= cap:
                    answers += [Gap.CAPPED] * len(questions)
                    continue
                if last:
                    end = last.split(b";")
                    size = int(end[2]) - int(begin[2]) + 1
            if size <= 0:
                answers += [0 if what in COUNTED else None for what, _ in questions]
                continue
            for what, column in questions:
                if what == COUNT:
                    answers.append(size)
                elif column < 0:
                    answers.append(int((begin if what == FIRST else end)[1]))
                elif what == DISTINCT:
                    answers.append(counts[texts.index(column)])
                else:
                    answers.append(self._answer(what, column, begin, end, size, rows, at, own))
        return answers

    def _answer(
        self,
        what: str,
        column: int,
        begin: list[bytes],
        end: list[bytes],
        size: int,
        rows: Sequence[bytes] | None,
        at: int,
        own: Values | None,
    ) -> Answer:
        letter, place = self.letters[column], self.places[column]
        if letter == "R":
            return min(int(end[place]), size)
        if letter in "KP":
            if letter == "P" and size > LOOK:
                return Gap.CAPPED
            assert rows is not None, "asked for with the question"
            events = [_event(letter, column, place, row) for row in rows[:size]]
            return of_few(what, column, events, at, own and own[column])
        ahead, held = int(begin[place + 3]), int(end[place + 3]) + (end[place] != b"")
        if ahead == held:
            return None
        if int(end[place + 4]) > ahead:  # A run of another unit ended after the beginning.
            return Gap.MIXED
        unit = _unit(end[place + 1])
        total = _total(begin[place + 2], end[place + 2], end[place])
        if what == MEAN:
            return unit, total, held - ahead
        if letter == "Q":
            return unit, total, _total(begin[place + 6], end[place + 6], end[place + 5]), held - ahead
        return priced(total, unit)


def _args(letter: str, value: Any) -> tuple[str, ...]:
    if letter == "V":
        return ("",) if value is None else ("=" + value.replace("%", "%25").replace(";", "%3B"),)
    if letter == "R":
        return ("1" if value else "0",)
    if letter == "P":
        return (str(value or ""),)
    if value is None:
        return ("", "", "") if letter == "Q" else ("", "")
    unit, number = value
    unit = unit or _PLAIN
    if letter == "K":
        return str(number), unit
    if letter == "Q":
        return written(number), unit, written(plain(times(number, number)))
    return written(number), unit


def _event(letter: str, column: int, place: int, row: bytes) -> tuple[int, int, Any]:
    fields = row.split(b";")
    text = fields[place].decode()
    value: Any
    if not text:
        value = None
    elif letter == "P":
        value = int(text)
    else:
        number = int(text) if text.lstrip("-").isdigit() else Decimal(text)
        value = (_unit(fields[place + 1]), number)
    return int(fields[1]), 0, {column: value}


@lru_cache(maxsize=1024)
def _unit(text: bytes) -> str:
    unit = text.decode()
    return "" if unit == _PLAIN else unit


def _total(begin: bytes, end: bytes, own: bytes) -> int | Decimal:
    """From before the first to after the last, which has a total before it and a number of its own."""
    if begin[:1] != b"B" and end[:1] != b"B" and own[:1] != b"B":
        return int(end) - int(begin) + int(own or 0)
    total = minus(parsed(end), parsed(begin))
    return plain(plus(total, parsed(own)) if own else total)


def written(number: int | Decimal) -> str:
    """A number as the script adds it up: plain digits while a double holds it, else limbs of seven digits."""
    if isinstance(number, int):
        if -SMALL < number < SMALL:
            return str(number)
        low, whole = 0, number
    else:
        exponent = number.as_tuple().exponent
        assert isinstance(exponent, int), "amounts are finite"
        low = exponent // _DIGITS
        whole = int(EXACT.scaleb(number, -_DIGITS * low))
    limbs = []
    while not -_LIMB <= whole < _LIMB:
        whole, limb = divmod(whole, _LIMB)
        limbs.append(limb)
    return ",".join([f"B{low}", *map(str, limbs), str(whole)])


def parsed(text: bytes) -> int | Decimal:
    """The opposite of `written`."""
    if text[:1] != b"B":
        return int(text)
    low, *limbs = map(int, text[1:].split(b","))
    whole = 0
    for limb in reversed(limbs):
        whole = whole * _LIMB + limb
    return whole * _LIMB**low if low >= 0 else plain(EXACT.scaleb(Decimal(whole), _DIGITS * low))
