"""A text as it is read: characters by the table, what stands between them left out, and where each of them was.

Signs between two digits stay where they say something: 1:1 and 3.5 are no 11 and 35.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress

from engine.disguise.characters import BLANK, GONE, LOOSE, MARKS, SEVERAL, table

_MARKED = re.compile(f"[{BLANK}{LOOSE}{GONE}{SEVERAL}]+")
_PARTED = re.compile(f"(?<=[0-9])[{BLANK}{LOOSE}](?=[0-9])")
_BETWEEN_DIGITS = {".": ".", "．": ".", "﹒": ".", ":": ":", "：": ":", "∶": ":", "﹕": ":", "/": "/", "／": "/"}


@dataclass(frozen=True)
class Reading:
    """`text` is what is read of `written`; `plain` is the same with a mark for each character that was left out.

    `known` are the places of the characters of `text`, where some were read as several. Positions count characters
    (Unicode code points).
    """

    written: str
    plain: str
    text: str
    known: Sequence[int] | None = None

    @cached_property
    def places(self) -> Sequence[int] | None:
        """Where in what was written each character of `text` stands; None: where it stands in `text`. Most texts have
        nothing that is found, and are never asked."""
        if self.known is not None or len(self.text) == len(self.plain):
            return self.known
        return list(compress(range(len(self.plain)), [letter not in MARKS for letter in self.plain]))

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
    marked = written.translate(table().single)
    if not _MARKED.search(marked):
        return Reading(written, marked, marked)
    marked = _with_kept(written, marked)
    if SEVERAL not in marked:
        # Three times faster than one translate.
        return Reading(written, marked, marked.replace(BLANK, "").replace(LOOSE, "").replace(GONE, ""))
    parts: list[str] = []
    places: list[int] = []
    for at, letter in enumerate(marked):
        text = _several(written[at], parts) if letter == SEVERAL else "" if letter in MARKS else letter
        parts.append(text)
        places.extend([at] * len(text))
    return Reading(written, marked, "".join(parts), places)


def plain(written: str) -> str:
    """The text as it is read, with one blank between words that were written apart, and none around them. A text in
    which nothing can be read is empty."""
    reading = read(written)
    if reading.known is None:
        apart = reading.plain.replace(LOOSE, "").replace(GONE, "")
    else:
        ends = (0, *(place + 1 for place in reading.known))
        apart = "".join(
            (BLANK if BLANK in reading.plain[end:start] else "") + letter
            for end, start, letter in zip(ends, reading.known, reading.text, strict=False)
        )
    return BLANK.join(filter(None, apart.split(BLANK)))


def _with_kept(written: str, plain: str) -> str:
    """With the signs between two digits that say something."""
    found = [parted.start() for parted in _PARTED.finditer(plain) if written[parted.start()] in _BETWEEN_DIGITS]
    if not found:
        return plain
    letters = list(plain)
    for at in found:
        letters[at] = _BETWEEN_DIGITS[written[at]]
    return "".join(letters)


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
    text, after = known.behind[sign]
    last = next((part[-1] for part in reversed(before) if part), "")
    return text if last and last in after else ""
