"""One table of characters: how each is read, by itself.

A character is read as one character, or it is a mark: BLANK between words, LOOSE where somebody put a sign into a word,
GONE for what nobody sees, SEVERAL for what is read as more than one character, or only behind certain others.

The table is made of closed ranges, in which every character was assigned before Unicode 14 and so keeps its
compatibility mapping (Unicode's stability policy): it is the same on every Python, and a test pins its hash.
Traditional Han are in `simplified.txt`, lookalikes and emoji in `lookalikes.txt`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

BLANK, LOOSE, GONE, SEVERAL = " ", "\x1f", "\x00", "\x1e"
MARKS = BLANK + LOOSE + GONE + SEVERAL

_LOOSE_ASCII = "_*^~`'."
_KEPT_ASCII = "%"

_LETTERS = (
    *((0x00AA, 0x024F), (0x0250, 0x02AF), (0x02B0, 0x02FF), (0x0370, 0x052F), (0x1D00, 0x1DBF), (0x1E00, 0x1FFF)),
    *((0x2070, 0x209C), (0x2100, 0x218B), (0x2460, 0x24FF), (0x2C60, 0x2C7F), (0x2E80, 0x2FD5), (0x3041, 0x30FF)),
    *((0x3131, 0x318E), (0x3190, 0x31E3), (0x3200, 0x33FF), (0xA640, 0xA69F), (0xA720, 0xA7BF), (0xAB30, 0xAB6B)),
    *((0xF900, 0xFAD9), (0xFB00, 0xFB06), (0xFE10, 0xFE6B), (0xFF01, 0xFFEE), (0x1D400, 0x1D7FF), (0x1F100, 0x1F1FF)),
    *((0x1F200, 0x1F265), (0x2F800, 0x2FA1D)),
)
"""Where letters and digits in other clothes are; what is no letter there is LOOSE, but for what ASCII says."""

_SIGNS = (
    *((0x00A1, 0x00A9), (0x00AB, 0x00B1), (0x00B4, 0x00B8), (0x00BB, 0x00BB), (0x00BF, 0x00BF), (0x00D7, 0x00D7)),
    *((0x00F7, 0x00F7), (0x02C2, 0x02C5), (0x2010, 0x2027), (0x2030, 0x205E), (0x20A0, 0x20C0), (0x2190, 0x245F)),
    *((0x2500, 0x2BFF), (0x2E00, 0x2E5D), (0x3001, 0x3004), (0x3008, 0x3020), (0x3030, 0x3030), (0x303D, 0x303F)),
    *((0x30A0, 0x30A0), (0x30FB, 0x30FB), (0x4DC0, 0x4DFF), (0xD800, 0xF8FF), (0x1F000, 0x1F0FF), (0x1F300, 0x1FAFF)),
)
"""Signs and pictures: something between characters. Lone surrogates and private characters are, too."""

_BLANKS = "\t\n\x0b\x0c\r\x1c\x1d\x85\xa0\u1680\u202f\u205f\u2028\u2029\u3000\ufffc\ufffd" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_WORD_ENDS = "–—―‐‑‒‖‘’‚‛“”„‟…‹›«»¡¿、。〈〉《》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟￥¥£€"
"""Beside the signs of ASCII, what stands between words and seldom in them."""

_NOTHING = (
    *((0x00, 0x08), (0x0E, 0x1B), (0x1E, 0x1F), (0x7F, 0x84), (0x86, 0x9F), (0xAD, 0xAD), (0x300, 0x36F)),
    *((0x483, 0x489), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180E), (0x1AB0, 0x1AC0)),
    *((0x1DC0, 0x1DF9), (0x1DFB, 0x1DFF), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x20D0, 0x20F0)),
    *((0x302A, 0x302F), (0x3099, 0x309A), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFE20, 0xFE2F), (0xFEFF, 0xFEFF)),
    *((0xFFA0, 0xFFA0), (0xFFF9, 0xFFFB), (0x1F3FB, 0x1F3FF), (0xE0000, 0xE007F), (0xE0100, 0xE01EF)),
)
"""Controls, joiners, combining marks, selectors, fillers, tags, skin tones."""


@dataclass(frozen=True, slots=True)
class Table:
    """How characters are read. `single` maps each code point to one character or mark; of those marked SEVERAL,
    `several` says what they are read as, and `behind` what, and behind which characters alone."""

    single: Mapping[int, str]
    several: Mapping[str, str]
    behind: Mapping[str, tuple[str, str]]


@lru_cache(maxsize=1)
def table() -> Table:
    """The table, made once."""
    simplified = dict(_simplified())
    found: dict[str, str] = {**simplified}
    for first, last in _SIGNS:
        found |= {chr(point): LOOSE for point in range(first, last + 1)}
    for first, last in _LETTERS:
        for letter in map(chr, range(first, last + 1)):
            if (read := _plain(letter, simplified)) != letter:
                found[letter] = read
    found |= dict(_ascii())
    found |= dict.fromkeys(_BLANKS + _WORD_ENDS, BLANK)
    for first, last in _NOTHING:
        found |= {chr(point): GONE for point in range(first, last + 1)}
    behind = {}
    for read, after, signs in _lookalikes():
        for sign in signs:
            if after:
                behind[sign] = (read, after)
            else:
                found[sign] = read
    found = {letter: _followed(read, found) for letter, read in found.items()}
    several = {letter: read for letter, read in found.items() if len(read) > 1}
    single = {ord(letter): SEVERAL if letter in several else read for letter, read in found.items()}
    return Table(single | {ord(letter): SEVERAL for letter in behind}, several, behind)


def _followed(read: str, found: Mapping[str, str]) -> str:
    """What is read in the end: 叄 is 叁, and that is 三. A mark within several is nothing."""
    if read in MARKS:
        return read
    once = "".join(found.get(letter, letter) for letter in read)
    kept = "".join(letter for letter in once if letter not in MARKS) or LOOSE
    return kept if kept == read else _followed(kept, found)


def _plain(letter: str, simplified: Mapping[str, str]) -> str:
    """What a letter is without its clothes; LOOSE where nothing is left of it."""
    if letter in "™℠®©":
        return LOOSE
    whole = unicodedata.normalize("NFKC", letter).lower()
    if whole.isascii() and len(whole) == 1:
        return dict(_ascii()).get(whole, whole)
    parts = unicodedata.normalize("NFD", whole) if not "가" <= whole[0] <= "힣" else whole
    kept = [simplified.get(part, part) for part in parts if part.isalnum() or part in "々〇"]
    return "".join(kept) or LOOSE


def _ascii() -> Iterator[tuple[str, str]]:
    for letter in map(chr, range(0x20, 0x7F)):
        if letter.isupper():
            yield letter, letter.lower()
        elif not letter.isalnum() and letter not in _KEPT_ASCII:
            yield letter, LOOSE if letter in _LOOSE_ASCII else BLANK


def _simplified() -> Iterator[tuple[str, str]]:
    for read, many in _rows("simplified.txt"):
        yield from ((letter, read) for letter in many)


def _lookalikes() -> Iterator[tuple[str, str, str]]:
    for read, *after, signs in _rows("lookalikes.txt"):
        yield read, "".join(after), signs


def _rows(name: str) -> Iterator[list[str]]:
    text = files("engine.disguise").joinpath(name).read_text(encoding="utf-8")
    yield from (line.split() for line in text.splitlines() if line and not line.startswith("#"))
