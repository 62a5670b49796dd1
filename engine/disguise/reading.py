"""A text as it is read: characters by the table, what stands between them left out, and where each of them was.

Signs between two digits stay where they say something: 1:1 and 3.5 are no 11 and 35.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine.disguise.characters import BLANK, GONE, LOOSE, SEVERAL, table

_MARKED = re.compile(f"[{BLANK}{LOOSE}{GONE}{SEVERAL}]+")
_BETWEEN_DIGITS = {".": ".", "．": ".", "﹒": ".", ":": ":", "：": ":", "∶": ":", "﹕": ":", "/": "/", "／": "/"}


@dataclass(frozen=True, slots=True)
class Reading:
    """`text` is what is read of `written`; `plain` is the same with a mark for each character that was left out.

    `places` says where in what was written each character of `text` stands; None: where it stands in `text`.
    Positions count characters (Unicode code points).
    """

    written: str
    plain: str
    text: str
    places: Sequence[int] | None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The first character, and the one behind the last, of what was written for `text[start:end]`."""
        if self.places is None:
            return start, end
        return self.places[start], self.places[end - 1] + 1

    def touches(self, index: int) -> bool:
        """Whether nothing that is seen stands between the character of `text` at `index` and the one before it."""
        return self.between(index) == ""

    def between(self, index: int) -> str:
        """What stands between the character of `text` at `index` and the one before it: '', BLANK or LOOSE."""
        if self.places is None:
            return ""
        marks = self.plain[self.places[index - 1] + 1 : self.places[index]]
        return LOOSE if LOOSE in marks or SEVERAL in marks else BLANK if BLANK in marks else ""


def read(written: str) -> Reading:
    """The reading of a text; nothing in it raises."""
    known = table()
    plain = written.translate(known.single)
    if not _MARKED.search(plain):
        return Reading(written, plain, plain, None)
    parts: list[str] = []
    places: list[int] = []
    done = 0
    for marks in _MARKED.finditer(plain):
        start, end = marks.span()
        parts.append(plain[done:start])
        places.extend(range(done, start))
        done = end
        if SEVERAL in marks[0]:
            for at in range(start, end):
                text = _several(written[at], parts)
                parts.append(text)
                places.extend([at] * len(text))
        elif end - start == 1 and (sign := _kept(written, plain, start)):
            parts.append(sign)
            places.append(start)
    parts.append(plain[done:])
    places.extend(range(done, len(plain)))
    return Reading(written, plain, "".join(parts), places)


def joined(reading: Reading, start: int, end: int) -> bool:
    """Whether `text[start:end]` was written as one, though something may stand between.

    A sign in the middle is no accident. A blank may be: 提高 仿皮 is no 高仿. So where one blank parts it, one of the
    two parts has to be a whole word, as 最 is in 全网 最 佳选.
    """
    if reading.places is None:
        return True
    gaps = [index for index in range(start + 1, end) if reading.between(index) == BLANK]
    if len(gaps) != 1 or any(reading.between(index) == LOOSE for index in range(start + 1, end)):
        return True
    return not (_goes_on(reading, start) and _goes_on(reading, end))


def _goes_on(reading: Reading, index: int) -> bool:
    """Whether a word goes on from the character before `index` to the one there: Latin beside Han are two words."""
    if not 0 < index < len(reading.text) or not reading.touches(index):
        return False
    return reading.text[index - 1].isascii() == reading.text[index].isascii()


def _several(sign: str, before: Sequence[str]) -> str:
    """What a character is read as that is read as several, or only behind some others."""
    known = table()
    if sign in known.several:
        return known.several[sign]
    if sign not in known.behind:
        return ""  # another mark in the same run
    text, after = known.behind[sign]
    last = next((part[-1] for part in reversed(before) if part), "")
    return text if last and last in after else ""


def _kept(written: str, plain: str, at: int) -> str:
    """A sign between two digits, where it says something."""
    sign = _BETWEEN_DIGITS.get(written[at], "")
    if sign and 0 < at < len(plain) - 1 and plain[at - 1].isdigit() and plain[at + 1].isdigit():
        return sign
    return ""
