"""What the script of `engine.stores.valkey` is told about events and windows, and what its answers mean.

The layout of a member of a line is in `valkey.lua`. Numbers cross as text, and sums are taken here from running totals:
exact at any size, as in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from engine.stores.bag import priced
from engine.stores.contract import (
    COUNT,
    DISTINCT,
    FIRST,
    FLAGS,
    LEAST,
    MEAN,
    MOST,
    PERCENTILE,
    RANKED,
    RUNS,
    SQUARES,
    STEPS,
    SUMS,
    VALUES,
    Amount,
    Answer,
    Frame,
    Gap,
    Values,
)
from engine.stores.lines import COUNTED
from engine.stores.numbers import EXACT, minus, plain, plus, times
from engine.stores.patterns import follows

SMALL = 1 << 53
"""Integers below it are exact on the server, where all numbers are doubles."""
_LIMB = 10**7
_DIGITS = 7
_PLAIN = "#"
"""The unit of numbers without one; nothing at all says that there was no number yet."""

_LETTERS = {SUMS: "S", FLAGS: "S", SQUARES: "Q", VALUES: "V", RUNS: "R", STEPS: "P", RANKED: "K"}
_WIDTHS = {"S": 5, "Q": 7, "V": 2, "R": 1, "P": 1, "K": 3}
_MIDDLE = 50_000
_COMPLEMENT = str.maketrans("0123456789", "9876543210")
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
    ranks: tuple[tuple[int, tuple[str, ...]], ...]
    """The columns of which ranks are asked for, and what."""
    rows: bool
    """Whether there may be members."""
    more: bool
    """Whether the server gives anything beside the members at its ends."""
    nothing: tuple[Answer, ...]
    """The answers where the stretch has no events."""


class _More(NamedTuple):
    """What the server gave beside the members: answers by question and column, and the members of the stretch."""

    answers: Mapping[tuple[str, int], Answer]
    rows: Sequence[bytes] | None


_NO_MORE = _More({}, None)
_NOTHING: list[bytes] = []


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
        rows = any(column >= 0 and self.letters[column] == "P" for _, column in questions)
        texts = tuple(sorted({column for what, column in questions if what == DISTINCT}))
        ranked: dict[int, dict[str, None]] = {}
        for what, column in questions:
            if column >= 0 and self.letters[column] == "K":
                ranked.setdefault(column, {})[what] = None
        wants = ("i" if including else "") + ("p" if rows else "") + "".join(f"|{column}|" for column in texts)
        ranks = tuple((column, tuple(whats)) for column, whats in ranked.items())
        nothing = tuple(0 if what in COUNTED else None for what, _ in questions)
        return Asked(length, including, questions, wants, texts, ranks, rows, bool(texts or ranks or rows), nothing)

    def wants(self, asked: Asked, own: Values | None) -> str:
        """What the server must give for a frame, where the event has these values of its own."""
        if not asked.ranks:
            return asked.wants
        parts = [asked.wants, "#"]
        for column, whats in asked.ranks:
            mine: Any = own and own[column]
            parts.append(f"{column}:{' '.join([_rank(what, mine) for what in whats])};")
        return "".join(parts)

    def answers(self, part: Part, frames: Sequence[Frame], at: int, cap: int, own: Values | None) -> list[Answer]:
        """The answers to all questions about one key, from what the server gave."""
        before, itself, newest = part[0], part[1], int(part[2])
        answers: list[Answer] = []
        place = 3
        split: dict[bytes, list[bytes]] = {}  # Frames mostly end alike.
        for asked in self.asked(frames):
            first = part[place]
            place += 1
            if first is None:
                answers += asked.nothing
                continue
            if first[:1] == b"!":
                answers += [Gap.CAPPED] * len(asked.questions)
                continue
            begin = first.split(b";")
            more: _More = _NO_MORE
            if asked.more:
                more, place = _more(asked, part, place, own)
            ordinal = int(begin[2])
            if newest - ordinal >= cap:
                answers += [Gap.CAPPED] * len(asked.questions)
                continue
            last = itself if asked.including and itself else before
            end, size = _NOTHING, 0
            if last is not None:
                end = split.get(last) or split.setdefault(last, last.split(b";"))
                size = int(end[2]) - ordinal + 1
            if size <= 0:
                answers += asked.nothing
                continue
            for question in asked.questions:
                what, column = question
                if what == COUNT:
                    answers.append(size)
                elif column < 0:
                    answers.append(int((begin if what == FIRST else end)[1]))
                elif asked.more and question in more.answers:
                    answers.append(more.answers[question])
                else:
                    answers.append(self._answer(what, column, begin, end, size, more.rows, at))
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
    ) -> Answer:
        letter, place = self.letters[column], self.places[column]
        if letter == "R":
            return min(int(end[place]), size)
        if letter == "P":
            if rows is None:
                return Gap.CAPPED
            fields = [row.split(b";") for row in rows[:size]]
            return follows(what, [int(each[1]) for each in fields], [int(each[place] or 0) for each in fields], at)
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
        return ("", "") if letter == "S" else ("", "", "")
    unit, number = value
    unit = unit or _PLAIN
    if letter == "K":
        return str(number), unit, ordered(number)
    if letter == "Q":
        return written(number), unit, written(plain(times(number, number)))
    return written(number), unit


def _rank(what: str, own: Amount | None) -> str:
    """A question about ranks as the server takes it."""
    if what == PERCENTILE:
        return f"p{own[0] or _PLAIN},{ordered(own[1])}," if own else "p"
    if what in (LEAST, MOST):
        return "0/1" if what == LEAST else "1/1"
    return what.removeprefix("quantile ")


def _more(asked: Asked, part: Part, place: int, own: Values | None) -> tuple[_More, int]:
    """What the server gave for a frame from a place on, and the place after it."""
    answers: dict[tuple[str, int], Answer] = {}
    for column in asked.texts:
        answers[DISTINCT, column] = Gap.CAPPED if part[place] is None else part[place]
        place += 1
    for column, whats in asked.ranks:
        size = part[place]
        place += 1
        if size is None or size < 0:
            answers.update({(what, column): Gap.CAPPED if size else Gap.NOT_WARM for what in whats})
            continue
        first, last, *found = part[place : place + 2 + len(whats)]
        place += 2 + len(whats)
        mine: Any = own and own[column]
        for what, answer in zip(whats, found, strict=True):
            answers[what, column] = _of_ranks(what, size, first, last, answer, mine)
    rows = None
    if asked.rows:
        rows = part[place]
        place += 1
    return _More(answers, rows), place


def _of_ranks(what: str, size: int, first: bytes, last: bytes, found: Any, mine: Amount | None) -> Answer:
    """The answer from how many numbers there are, the first and the last of them, and what was found."""
    if not size:
        return None
    unit = first.partition(b",")[0]
    if last.partition(b",")[0] != unit:
        return Gap.MIXED
    if what == PERCENTILE:
        if mine is None:
            return None
        return ("", 100 * found, size) if mine[0] == _unit(unit) else Gap.MIXED
    number = found.split(b",")[2].decode()
    return priced(int(number) if number.lstrip("-").isdigit() else Decimal(number), _unit(unit))


def ordered(number: int | Decimal) -> str:
    """A text for a number, such that texts stand in the order of their numbers."""
    sign, digits, exponent = Decimal(number).as_tuple()
    assert isinstance(exponent, int), "amounts are finite"
    text = "".join(map(str, digits)).lstrip("0").rstrip("0")
    if not text:
        return "1"
    above = len(str(abs(int("".join(map(str, digits)))))) + exponent + _MIDDLE
    assert 0 <= above < 2 * _MIDDLE, "amounts have fewer digits"
    if not sign:
        return f"2{above:05d}{text}"
    # The larger, the earlier; and a text that goes on comes before one that ends.
    return f"0{2 * _MIDDLE - above:05d}{text.translate(_COMPLEMENT)}~"


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
