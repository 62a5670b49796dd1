"""Full card numbers, which must not come in (PCI DSS 4.0.1, 3.5.1).

    found("卡号 ４１１１-1111 1111·1111")  ->  True

A card number is a run of 13 to 19 digits with a scheme's prefix, a length of that scheme and a right Luhn digit
(ISO/IEC 7812-1). Digits of any script count, and spaces, dashes, dots and invisible characters between them do not.
Of random 16-digit numbers 3.3 % look like a card number (prefix 33 %, Luhn 10 %), of 19 digits 2.1 %, of 13 1.0 %:
fields where such numbers are expected are declared identifiers and passed by.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import groupby

_MAESTRO = (13, 14, 15, 16, 17, 18, 19)
# First and last prefix → lengths of the number.
_SCHEMES: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (4, 4, (13, 16, 18, 19)),  # Visa
    (51, 55, (16,)),  # Mastercard
    (2221, 2720, (16,)),  # Mastercard
    (34, 34, (15,)),  # American Express
    (37, 37, (15,)),
    (300, 305, (14, 16, 19)),  # Diners Club
    (3095, 3095, (14, 16, 19)),
    (36, 36, (14, 16, 19)),
    (38, 39, (14, 16, 19)),
    (60, 60, (16, 17, 18, 19)),  # Discover, RuPay
    (644, 649, (16, 17, 18, 19)),  # Discover
    (65, 65, (16, 17, 18, 19)),
    (62, 62, (16, 17, 18, 19)),  # UnionPay
    (81, 81, (16, 17, 18, 19)),
    (9558, 9558, (19,)),  # ICBC cards older than the 62 range
    (3528, 3589, (16, 17, 18, 19)),  # JCB
    (2200, 2204, (16, 17, 18, 19)),  # Mir
    (508, 508, (16,)),  # RuPay
    (82, 82, (16,)),
    (9792, 9792, (16,)),  # Troy
    (506, 506, (16, 18, 19)),  # Verve, Elo
    (5018, 5018, _MAESTRO),  # Maestro
    (5020, 5020, _MAESTRO),
    (5038, 5038, _MAESTRO),
    (5893, 5893, _MAESTRO),
    (6304, 6304, _MAESTRO),
    (6759, 6763, _MAESTRO),
)


def _lengths() -> dict[str, frozenset[int]]:
    """First four digits → lengths of card numbers that begin so."""
    table: dict[str, frozenset[int]] = {}
    for low, high, lengths in _SCHEMES:
        room = 10 ** (4 - len(str(low)))
        for prefix in range(low * room, (high + 1) * room):
            table[str(prefix)] = table.get(str(prefix), frozenset()) | frozenset(lengths)
    return table


_LENGTHS = _lengths()
_NONE: frozenset[int] = frozenset()


_ASCII_BETWEEN = b" \t\r\n-._/*"
_BETWEEN = (
    r"[ \t\r\n\-._/*\u00a0\u00b7\u2000-\u200a\u2010-\u2015\u2022\u202f\u205f\u2212\u3000\u30fb\ufe58\ufe63"
    r"\uff0d\uff0e\uff0f\uff3f]"
)
_RUN = re.compile(rf"[0-9](?:{_BETWEEN}{{0,8}}[0-9]){{12,}}")
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_GROUP = re.compile(r"[0-9]+")
_OTHER_DIGIT = re.compile(r"[^\D0-9]")
_INVISIBLE = re.compile(
    "[\u00ad\u0300-\u036f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u20d0-\u20ff\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]+"
)

# For the quick look: ASCII digits become '0', what may stand between digits and everything outside ASCII falls away,
# all else but the quote becomes 'x'. Thirteen zeros in a row are then a reason to look closer.
_CLASSES = bytes(0x30 if 0x30 <= code <= 0x39 else code if code == 0x22 else 0x78 for code in range(256))
_DROPPED = _ASCII_BETWEEN + bytes(range(0x80, 0x100))
_THIRTEEN = b"0" * 13
_ESCAPED_SPACE = re.compile(rb"\\[nrt]")
# The first UTF-8 bytes of decimal digits of other scripts; EF also begins full-width punctuation, so it is read closer.
_NOT_LEADS = bytes(code for code in range(256) if code not in b"\xd9\xdb\xdf\xe0\xe1\xea\xf0")
_FULL_WIDTH = re.compile(rb"\xef\xbc[\x90-\x99]")


def luhn(digits: str) -> bool:
    """Whether the last of the ASCII `digits` is the right Luhn check digit."""
    values = [ord(digit) - 48 for digit in digits]
    return (sum(values[-1::-2]) + sum(_DOUBLED[value] for value in values[-2::-2])) % 10 == 0


def is_card_number(digits: str) -> bool:
    """Whether ASCII `digits` are a card number: prefix and length of a scheme, and the Luhn digit."""
    if len(digits) not in _LENGTHS.get(digits[:4], _NONE) or not luhn(digits):
        return False
    # An article number (EAN-13) that begins with 4 is far commoner than the 13-digit cards of the last century.
    return len(digits) != 13 or not _ean(digits)


def _ean(digits: str) -> bool:
    values = [ord(digit) - 48 for digit in digits]
    return (sum(values[0::2]) + 3 * sum(values[1::2])) % 10 == 0


def in_json(text: bytes) -> bool:
    """Whether any string, number or key of the JSON holds a card number.

    `text` is UTF-8 without `\\u` escapes of printable characters, as orjson writes it.
    """
    if b"\\" in text:
        text = _ESCAPED_SPACE.sub(b" ", text)
    if not text.isascii() and _other_digits(text):
        return found(text.decode())
    return any(map(found, _suspects(text)))


def _suspects(text: bytes) -> Iterator[str]:
    """The pieces between quotes that hold thirteen digits in a row, once what may stand between them is taken out."""
    squeezed = text.translate(_CLASSES, _DROPPED)
    at = squeezed.find(_THIRTEEN)
    if at < 0:
        return
    pieces: list[bytes] = []
    quotes = start = 0
    while at >= 0:
        quotes += squeezed.count(b'"', start, at)
        if quotes + 1 >= len(pieces):  # ids stand at the front of a body: seldom is all of it split
            pieces = text.split(b'"', 4 * quotes + 4)
        yield pieces[quotes].decode()
        start = squeezed.find(b'"', at)
        at = squeezed.find(_THIRTEEN, start) if start >= 0 else -1


def _other_digits(text: bytes) -> bool:
    if _FULL_WIDTH.search(text):
        return True
    return bool(text.translate(None, _NOT_LEADS)) and _OTHER_DIGIT.search(text.decode()) is not None


def found(text: str) -> bool:
    """Whether a card number stands anywhere in `text`."""
    if text.isascii() and text.isdigit():
        return is_card_number(text)
    return any(map(is_card_number, _candidates(plain_digits(text))))


def plain_digits(text: str) -> str:
    """`text` with the decimal digits of every script as ASCII and without invisible characters."""
    if text.isascii():
        return text
    return _OTHER_DIGIT.sub(lambda match: str(unicodedata.decimal(match[0])), _INVISIBLE.sub("", text))


def _candidates(text: str) -> Iterator[str]:
    for run in _RUN.finditer(text):
        groups = _GROUP.findall(run[0])
        yield "".join(groups)
        yield from groups
        yield from _joined(groups)
        yield from _spelt(groups)


def _joined(groups: list[str]) -> Iterator[str]:
    """Neighbouring groups as cards are written (4-4-4-4, 4-6-5). Sizes, dates and prices are shorter groups."""
    for start, first in enumerate(groups):
        digits = first
        for group in groups[start + 1 : start + 6]:
            if len(digits) > 15 or len(groups[start]) < 4 or len(group) < 3:
                break
            digits += group
            yield digits
            if len(group) < 4:
                break


def _spelt(groups: list[str]) -> Iterator[str]:
    """A number spelt in ones, twos or threes ("4 1 1 1 …"), with an expiry or a security code behind it.

    Behind the number may stand, in groups of the same size, three or four digits or both; before it, one group.
    """
    start = 0
    for size, same in groupby(groups, key=len):
        count = len(list(same))
        if size <= 3 and count * size >= 12:
            rest = groups[start + count : start + count + 1]
            last = rest[0] if rest and len(rest[0]) < size else ""  # what is left over: "411 111 111 111 111 1"
            digits = "".join(groups[start : start + count])
            for first in (0, size):
                yield digits[first:] + last
                yield from (digits[first:-more] for more in (3, 4, 7, 8))
        start += count
