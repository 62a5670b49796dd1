"""Personal data that people type into text that is not made for it: a phone number in a category, an e-mail in a brand.

    masked("客服13800138000")        ->  "客服[mobile]"
    identifying("order-13800138000") ->  "mobile"

Known are things with a shape of their own: Chinese mobile numbers (1[3-9] and 9 digits), other phone numbers behind `+`
or with an area code, resident identity numbers (GB 11643, MOD 11-2), unified social credit codes (GB 32100, MOD 31),
bank cards (`cardnumbers`), e-mail and IP addresses, and passport numbers behind the word. Digits of any script and
full-width signs count, invisible characters do not, and 汉字 or letters may stand right beside a number. Names and
postal addresses have no shape, and are not found.

The patterns are RE2's: the time is linear in the text, whatever it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import date
from ipaddress import AddressValueError, IPv6Address
from typing import Any, NamedTuple

import re2

from engine.schema.cardnumbers import found as holds_card_number
from engine.schema.cardnumbers import is_card_number
from engine.schema.keys import IPV4

KINDS = ("resident_id", "uscc", "bank_card", "mobile", "phone", "landline", "email", "ip", "passport")
"""What is found; of two of one length the first one here counts."""

IDENTIFYING = frozenset({"resident_id", "mobile", "phone", "email"})
"""What is looked for in identifiers too: it names a person, and hardly any other identifier looks like it."""


class Span(NamedTuple):
    """Where something personal stands in a text, in characters."""

    start: int
    end: int
    kind: str


def find(text: str) -> list[Span]:
    """All that is personal in `text`, in order; spans do not overlap."""
    if not suspicious(text):
        return []
    plain, places = _plain(text)
    found: list[Span] = []
    for span in sorted((*_candidates(plain), *_passports(text, plain, places), *_spelt_out(text, places))):
        if found and span.start < found[-1].end:
            found[-1] = _together(found[-1], span)
        else:
            found.append(span)
    return [Span(places[span.start], places[span.end - 1] + 1, span.kind) for span in found]


def _together(one: Span, other: Span) -> Span:
    """Both where they overlap, as what the longer one is: 13800138000@example.com is an e-mail address."""
    longer = max(one, other, key=lambda each: (each.end - each.start, -KINDS.index(each.kind)))
    return Span(one.start, max(one.end, other.end), longer.kind)


def masked(text: str) -> str:
    """`text` with the name of its kind in place of all that is personal, such as `[mobile]`.

    The same for every person: a name that told two of them apart would link their events for ever.
    """
    pieces, at = [], 0
    for span in find(text):
        pieces += [text[at : span.start], f"[{span.kind}]"]
        at = span.end
    shown = "".join([*pieces, text[at:]])
    # A card in an odd spelling has no one place.
    return "[bank_card]" if holds_card_number(shown) else shown


_PLACEHOLDER = re.compile(rf"\[(?:{'|'.join(KINDS)})\]")


def was_masked(text: str) -> bool:
    """Whether `text` looks as if `masked` had changed it. A placeholder that somebody typed is taken for one, too."""
    return _PLACEHOLDER.search(text) is not None


def identifying(text: str) -> str:
    """The kind of personal data that an identifier is or has as one of its parts; empty when there is none.

    A letter or digit right beside a number makes it another number here: `A13800138000` is an order, not a phone.
    """
    if not may_identify(text):
        return ""
    return next((span.kind for span in find(text) if span.kind in IDENTIFYING and _alone(text, span)), "")


def _alone(text: str, span: Span) -> bool:
    before, after = text[: span.start][-1:], text[span.end :][:1]
    return span.kind == "email" or not (_word(before) or _word(after))


def _word(character: str) -> bool:
    return character.isascii() and character.isalnum()


# -- The quick look --------------------------------------------------------------------------------------------

_AT = "@\uff20\ufe6b"
_ODD_DIGITS = "\u00b2\u00b3\u00b9\u2070-\u2089\u2460-\u2468\u24ea\u2776-\u277e\u2780-\u2788\u278a-\u2792"
_DIGIT = rf"[\d{_ODD_DIGITS}]"
"""A digit of any script, one raised or lowered, one in a circle."""
_SPELT_OUT = "零〇一二三四五六七八九幺壹贰叁肆伍陆柒捌玖"
_VALUES = dict(zip(_SPELT_OUT, "0012345678911" + "23456789", strict=True))
_NUMERALS = re.compile(rf"[{_SPELT_OUT}]{{11,}}")
"""Digits in 汉字, as many as a mobile number has; 幺 is how a one is read out."""
_QUICK = re.compile(
    rf"[{_AT}]"
    rf"|{_DIGIT}(?:(?:(?!{_DIGIT})[\W_]){{0,8}}{_DIGIT}){{6}}"  # every number has seven digits with signs between
    rf"|{_NUMERALS.pattern}"
    r"|\d[.\uff0e\u3002\uff61]\d{1,3}[.\uff0e\u3002\uff61]\d"  # IPv4
    r"|[:\uff1a][\da-fA-F\uff21-\uff26\uff41-\uff46]{0,4}[:\uff1a]"  # IPv6
)


# ASCII digits become '0', what may stand between digits and everything outside ASCII falls away, all else becomes 'x'.
_CLASSES = bytes(0x30 if 0x30 <= code <= 0x39 else 0x78 for code in range(256))
_DROPPED = bytes(code for code in range(128) if not chr(code).isalnum()) + bytes(range(0x80, 0x100))
_SEVEN = b"0" * 7
# A full stop between domains, a digit that is raised, lowered or in a circle, or many in 汉字. Over UTF-8, in one pass.
_ODD = re2.compile(f"\u3002|[{_ODD_DIGITS}]|{_NUMERALS.pattern}".encode())
# The first UTF-8 bytes of digits of other scripts and of full-width signs.
_NOT_LEADS = bytes(code for code in range(256) if code not in b"\xd9\xdb\xdf\xe0\xe1\xea\xef\xf0")


def suspicious(text: str) -> bool:
    """Whether a closer look at `text` is worth while: a quick look that misses nothing of what that one finds. May be
    asked of many texts at once, joined by line breaks."""
    raw = text.encode(errors="replace")
    likely = (
        _SEVEN in raw.translate(_CLASSES, _DROPPED)
        or b"@" in raw
        or raw.count(b".") > 2
        or raw.count(b":") > 1
        or (len(raw) > len(text) and (raw.translate(None, _NOT_LEADS) != b"" or _ODD.search(raw) is not None))
    )
    return likely and _QUICK.search(text) is not None


_BETWEEN = r"[\W_]{0,8}"
_MOBILE = re.compile(rf"1{_BETWEEN}[3-9](?:{_BETWEEN}\d){{9}}(?![0-9A-Za-z])")
_REGION = (
    rf"(?:[16]{_BETWEEN}[1-5]|[28]{_BETWEEN}[1-3]|3{_BETWEEN}[1-7]|4{_BETWEEN}[1-6]|5{_BETWEEN}[0-4]|7{_BETWEEN}1)"
)
_RESIDENT = re.compile(
    rf"(?<![0-9A-Za-z]){_REGION}{_BETWEEN}(?:\d{_BETWEEN}){{4}}(?:1{_BETWEEN}9|2{_BETWEEN}0)(?:{_BETWEEN}\d){{2}}"
    rf"{_BETWEEN}[01]"
)


def may_identify(text: str) -> bool:
    """The quick look of `identifying`, for one text or many with line breaks between.

    Most identifiers are long numbers: this one knows more of them to be harmless."""
    return (
        "@" in text
        or "+" in text
        or not text.isascii()
        or _MOBILE.search(text) is not None
        or _RESIDENT.search(text) is not None
    )


# -- One byte a character --------------------------------------------------------------------------------------

_OTHER = "\x80"
"""Any character that means nothing here, such as 汉字. A text in which one byte is one character has one place for a
match, in bytes and in characters."""

_INVISIBLE = re.compile(
    "[\u00ad\u0300-\u036f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u20d0-\u20ff\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
_FULL_STOPS = frozenset("\u3002\uff61")
"""Dots of a domain name too (IDNA, RFC 3490)."""

_ENUMERATION = "\u3001"
"""The comma between the items of a Chinese list."""
_DASHES = frozenset("\u00b7\u2010\u2011\u2012\u2013\u2014\u2015\u2022\u2212\u30fb\ufe58\ufe63\uff0d\u2043")


def _plain(text: str) -> tuple[bytes, list[int]]:
    """(`text` in one byte a character, the place that each has in `text`)."""
    if text.isascii():
        return text.encode(), list(range(len(text)))
    signs, places = [], []
    for place, character in enumerate(text):
        if not _INVISIBLE.match(character):
            signs.append(character if character.isascii() else _sign(character))
            places.append(place)
    return "".join(signs).encode("latin-1"), places


def _sign(character: str) -> str:
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    if character in _DASHES:
        return "-"
    if character in _FULL_STOPS:
        return "."
    if character == _ENUMERATION:
        return ","
    if character.isspace():
        return " "
    normal = unicodedata.normalize("NFKC", character)
    return normal if len(normal) == 1 and normal.isascii() else _OTHER


# -- Candidates ------------------------------------------------------------------------------------------------


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # bytes as they are
    options.log_errors = False
    return re2.compile(pattern.encode("latin-1"), options)


_RUN = _compiled(r"[0-9](?:(?:[ \t\r\n().\-/_*~|:]{0,3}|, ?)[0-9])*[Xx]?")
_GROUP = re.compile(rb"[0-9]+")
_CODE = _compiled(r"[0-9ANYany][1-9][0-9]{6}[0-9A-Za-z]{10}")
_MAIL_NAME = r"(?:[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}|" + f"{_OTHER}{{1,64}})"
_LABEL = rf"[A-Za-z0-9{_OTHER}-]{{1,63}}"
_MAIL_HOST = rf"(?:[A-Za-z0-9-]{{1,63}}\.)+[A-Za-z]{{2,24}}|(?:{_LABEL}\.)+(?:xn--[A-Za-z0-9]+|{_OTHER}{{2,4}})"
_MAIL = _compiled(rf"{_MAIL_NAME} ?@ ?(?:{_MAIL_HOST})")
_ADDRESS4 = _compiled(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_ADDRESS6 = _compiled(r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:[0-9]{0,3}\.[0-9.]{5,11})?")
_PASSPORT_WORD = re.compile(r"护照|護照|passport", re.IGNORECASE)
_PASSPORT = _compiled(r"[A-Za-z][A-Za-z]?[0-9]{7,8}")
_PASSPORT_NEAR = 16


def _candidates(plain: bytes) -> Iterator[Span]:
    for run in _RUN.finditer(plain):
        yield from _numbers(plain, run.start(), run.end())
    for code in _CODE.finditer(plain):
        start, end = code.span()
        if not _alnum(plain[start - 1 : start]) and not _alnum(plain[end : end + 1]) and is_uscc(code[0].decode()):
            yield Span(start, end, "uscc")
    if b"@" in plain:
        yield from (Span(mail.start(), mail.end(), "email") for mail in _MAIL.finditer(plain))
    yield from _addresses(plain)


def _numbers(plain: bytes, start: int, end: int) -> Iterator[Span]:
    """What a run of digits with signs between them holds: neighbouring groups, as such numbers are written."""
    groups = [(start + each.start(), start + each.end()) for each in _GROUP.finditer(plain[start:end])]
    digits = [plain[first:last].decode() for first, last in groups]
    letter = plain[end - 1 : end].upper() == b"X"
    for at, count in _windows(digits):
        first, last = groups[at][0], groups[at + count - 1][1]
        ends = at + count == len(groups)
        sizes = tuple(map(len, digits[at : at + count]))
        signed = plain[first - 1 : first] == b"+" and not plain[first - 2 : first - 1].isdigit()
        text = "".join(digits[at : at + count])
        if letter and ends and len(text) == 17 and _is_id(text + "X", sizes):
            yield Span(first, last + 1, "resident_id")
        kind = _kind(text, sizes)
        if not kind and signed and ends and 10 <= len(text) <= 15:
            kind = "phone"
        if kind:
            yield Span(first - signed, last, kind)
    for at in range(len(groups) - 1):
        yield from _area(plain, groups, digits, at)


_SPELT = {"1": (11, 17, 18), "8": (13, 17, 18), "0": (15,)}
"""How many single digits one number is spelt with, by its first: mobile numbers with and without 86, identity numbers.
Cards in any spelling are refused before anything is masked."""
_SPELT_ID = (17, 18)


def _windows(digits: list[str]) -> Iterator[tuple[int, int]]:
    """(first group, how many) of neighbouring groups that may be one number: a few groups, or many single digits."""
    alone = 0
    for at in range(len(digits) - 1, -1, -1):
        alone = alone + 1 if len(digits[at]) == 1 else 0
        if alone > 10:
            yield from ((at, count) for count in _SPELT.get(digits[at], _SPELT_ID) if count <= alone)
        size = 0
        for count, each in enumerate(digits[at : at + _MOST_GROUPS], 1):
            size += len(each)
            if size > 9:
                yield at, count
            if size > 19:
                break


_MOST_GROUPS = 5
_ID_SIZES = frozenset(
    {
        (18,),
        (17,),
        (6, 8, 4),
        (6, 8, 3),
        (6, 4, 4, 4),
        (6, 4, 4, 3),
        (6, 12),
        (6, 11),
        (3, 3, 8, 4),
        (10, 4, 4),
        (10, 4, 3),
    }
)
_MOBILE_SIZES = frozenset(
    {
        (11,),
        (3, 4, 4),
        (3, 8),
        (7, 4),
        (4, 4, 3),
        (3, 3, 5),
        (5, 6),
        (4, 7),
        (4, 3, 4),
        (3, 3, 3, 2),
        (3, 4, 2, 2),
        (3, 2, 2, 2, 2),
    }
)
_CARD_SIZES = frozenset({(4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 6, 5), (6, 13), (4, 4, 4, 7), (8, 8), (4, 15), (6, 10)})
_COUNTRY = re.compile(r"(?:00)?86")


def _kind(text: str, sizes: tuple[int, ...]) -> str:
    """What digits are that are written in groups of these sizes; empty when they are nothing that is known."""
    if _is_id(text, sizes):
        return "resident_id"
    if _mobile(text, sizes):
        return "mobile"
    known = len(sizes) == 1 or sizes in _CARD_SIZES or len(sizes) == len(text)
    return "bank_card" if known and is_card_number(text) else ""


def _is_id(text: str, sizes: tuple[int, ...]) -> bool:
    return len(text) == 18 and (sizes in _ID_SIZES or len(sizes) >= 17) and is_resident_id(text)


def _mobile(text: str, sizes: tuple[int, ...]) -> bool:
    country = _COUNTRY.match(text) if len(text) > 11 else None
    number = text[country.end() :] if country else text
    if len(number) != 11 or number[0] != "1" or number[1] not in "3456789":
        return False
    if len(sizes) == len(text):
        return True
    if country is None:
        return sizes in _MOBILE_SIZES
    ahead = country.end()
    return (sizes[0] == ahead and sizes[1:] in _MOBILE_SIZES) or (
        sizes[0] > ahead and (sizes[0] - ahead, *sizes[1:]) in _MOBILE_SIZES
    )


def _area(plain: bytes, groups: list[tuple[int, int]], digits: list[str], at: int) -> Iterator[Span]:
    """A landline: area code, a dash or bracket, seven or eight digits (in one or two groups)."""
    if not re.fullmatch(r"0(?:10|2[0-9]|[3-9][0-9]{2})", digits[at]) or at + 1 >= len(groups):
        return
    between = plain[groups[at][1] : groups[at + 1][0]]
    if between != b" " and between.strip() not in (b"-", b")", b")-"):
        return
    for count in (1, 2):
        rest = digits[at + 1 : at + 1 + count]
        if len(rest) == count and len("".join(rest)) in (7, 8) and rest[0][0] not in "01" and len(rest[0]) >= 3:
            yield Span(groups[at][0], groups[at + count][1], "landline")


def _addresses(plain: bytes) -> Iterator[Span]:
    for each in _ADDRESS4.finditer(plain):
        start, end = each.span()
        text = each[0].decode()
        longer = plain[end : end + 1] == b"." and _alnum(plain[end + 1 : end + 2])
        apart = not _near(plain[start - 1 : start]) and not _alnum(plain[end : end + 1]) and not longer
        # 120.0.0.0 is the version of a browser; an address that ends in 0 is a network.
        if apart and IPV4.fullmatch(text) and text[0] != "0" and not text.endswith(".0"):
            yield Span(start, end, "ip")
    if plain.count(b":") < 2:
        return
    for each in _ADDRESS6.finditer(plain):
        start, end = each.span()
        if _alnum(plain[start - 1 : start]) or _alnum(plain[end : end + 1]) or end - start < 6:
            continue
        try:
            IPv6Address(each[0].decode())
        except AddressValueError:
            continue
        yield Span(start, end, "ip")


def _passports(text: str, plain: bytes, places: list[int]) -> Iterator[Span]:
    """A letter or two and seven or eight digits, close behind the word: alone they are the number of an article."""
    if _PASSPORT_WORD.search(text) is None:
        return
    for each in _PASSPORT.finditer(plain):
        start, end = each.span()
        before = text[max(0, places[start] - _PASSPORT_NEAR) : places[start]]
        apart = not _alnum(plain[start - 1 : start]) and not _alnum(plain[end : end + 1])
        if apart and _PASSPORT_WORD.search(before):
            yield Span(start, end, "passport")


def _spelt_out(text: str, places: list[int]) -> Iterator[Span]:
    """A mobile or identity number in 汉字. Its places are those of the plain text, as those of all others."""
    at = {place: index for index, place in enumerate(places)} if _NUMERALS.search(text) else {}
    for run in _NUMERALS.finditer(text):
        digits = "".join(_VALUES[sign] for sign in run[0])
        for size in (18, 13, 11):
            for first in range(len(digits) - size + 1):
                kind = _kind(digits[first : first + size], (size,))
                if kind:
                    yield Span(at[run.start() + first], at[run.start() + first + size - 1] + 1, kind)


def _alnum(sign: bytes) -> bool:
    return sign.isalnum() and sign.isascii()


def _near(sign: bytes) -> bool:
    return sign == b"." or _alnum(sign)


# -- Checks ----------------------------------------------------------------------------------------------------

_PROVINCES = frozenset(
    map(str, (*range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47), *range(50, 55), *range(61, 66), 71))
) | {"81", "82", "83"}
"""The first two digits of a region (GB/T 2260), and those of residents from Hong Kong, Macao and Taiwan."""

_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECK = "10X98765432"


def is_resident_id(text: str) -> bool:
    """Whether 18 characters are a resident identity number (GB 11643): region, day of birth, check character MOD 11-2.

    Of random numbers of 18 digits 1 in 50,000 is one.
    """
    body, check = text[:17], text[17:].upper()
    if len(text) != 18 or not (body.isascii() and body.isdigit()) or body[:2] not in _PROVINCES or body[10] > "1":
        return False
    if _ID_CHECK[sum(int(digit) * weight for digit, weight in zip(body, _ID_WEIGHTS, strict=True)) % 11] != check:
        return False
    try:
        return 1900 <= date(int(body[6:10]), int(body[10:12]), int(body[12:14])).year <= 2049
    except ValueError:
        return False


_CODE_SIGNS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_CODE_VALUES = {sign: value for value, sign in enumerate(_CODE_SIGNS)}
_CODE_WEIGHTS = tuple(pow(3, place, 31) for place in range(17))
_ORGAN_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)
_REGISTERED = {
    "1": "1239",
    "2": "19",
    "3": "123459",
    "4": "19",
    "5": "1239",
    "6": "129",
    "7": "129",
    "8": "19",
    "9": "123",
    "A": "19",
    "N": "1239",
    "Y": "1",
}
"""Who registers → the sorts of body it registers (GB 32100, table 1)."""


def is_uscc(text: str) -> bool:
    """Whether 18 characters are a unified social credit code (GB 32100): who registered it, region, check MOD 31.

    One of digits alone must have the check digit of its organisation code (GB 11714) too: so many numbers have 18.
    """
    code = text.upper()
    if len(code) != 18 or code[1] not in _REGISTERED.get(code[0], "") or code[2:4] not in (*_PROVINCES, "10"):
        return False
    if not code[2:8].isdigit() or any(sign not in _CODE_VALUES for sign in code):
        return False
    total = sum(_CODE_VALUES[sign] * weight for sign, weight in zip(code, _CODE_WEIGHTS, strict=False))
    if _CODE_SIGNS[-total % 31] != code[17]:
        return False
    return not code.isdigit() or code[16] == _organ_check(code[8:16])


def _organ_check(digits: str) -> str:
    total = sum(int(digit) * weight for digit, weight in zip(digits, _ORGAN_WEIGHTS, strict=True))
    return "0123456789X0"[11 - total % 11]
