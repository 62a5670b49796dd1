"""Every operator and function of the condition language, one row each.

A row says how it is written, what it takes and gives, what it means for one event (`python`), and shows examples that
a test runs. What it means for columns stands in engine.columns.meanings, by the same row. Arguments are never None: a
strict row is unknown when one of its arguments is. A row may itself give None for unknown.

Numbers are int or Decimal. Computed numbers are exact, have at most six decimal places (half-even) and stay below
10^18; beyond that they are unknown. NaN and infinity cannot arise.
"""

from __future__ import annotations

import operator
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

import re2

from engine.disguise import plain
from engine.expr import uscc
from engine.expr.nodes import EPOCH, Env, Finds, Type
from engine.money import Money

Number = int | Decimal
_SCALARS = ("text", "number", "money", "bool", "instant", "duration")

LIMIT = 10**18
PATTERN_LENGTH = 500
PATTERN_PROGRAM = 2_000
"""Longest compiled RE2 program (its instructions): bounds the time of one match to text length x this."""
PATTERN_MEMORY = 1 << 20

UNTOLD = "…"
"""Stands for a phrase that came through the API: it can be deleted, and what conditions give may be in a record."""

_PLACES = Decimal("0.000001")
# Wide enough that no product of two bounded numbers is rounded before `tidy` looks at it; nothing traps, so an
# overflow becomes infinity, which `tidy` turns into unknown.
_EXACT = Context(prec=120, rounding=ROUND_HALF_EVEN, traps=[])


def tidy(value: Decimal) -> Number | None:
    """`value` to six places, half-even, as int where it is whole; None when it is not below 10^18."""
    if not value.is_finite() or value.copy_abs() >= LIMIT:
        return None
    value = value.quantize(_PLACES, context=_EXACT)
    whole = int(value)
    if whole == value:
        return whole if -LIMIT < whole < LIMIT else None
    return value.normalize(_EXACT)


def _bounded(value: int) -> int | None:
    return value if -LIMIT < value < LIMIT else None


def _add(a: Number, b: Number) -> Number | None:
    if type(a) is int and type(b) is int:
        return _bounded(a + b)
    return tidy(_EXACT.add(a, b))


def _subtract(a: Number, b: Number) -> Number | None:
    if type(a) is int and type(b) is int:
        return _bounded(a - b)
    return tidy(_EXACT.subtract(a, b))


def _multiply(a: Number, b: Number) -> Number | None:
    if type(a) is int and type(b) is int:
        return _bounded(a * b)
    return tidy(_EXACT.multiply(a, b))


def _divide(a: Number, b: Number) -> Number | None:
    return tidy(_EXACT.divide(a, b)) if b else None


def _modulo(a: Number, b: Number) -> Number | None:
    # Decimal's remainder takes the dividend's sign; Python's % on int would take the divisor's.
    return tidy(_EXACT.remainder(a, b)) if b else None


def _negate(a: Number) -> Number:
    return -a if type(a) is int else _EXACT.minus(a)


def _absolute(a: Number) -> Number:
    return abs(a) if type(a) is int else _EXACT.abs(a)


def _rounded(a: Number, places: int = 0) -> Number | None:
    return a if type(a) is int else tidy(_EXACT.quantize(a, Decimal(1).scaleb(-places)))


def _money(minor: Number | None, currency: str) -> Money | None:
    return None if minor is None else Money(minor, currency)


def _same(operation: Callable[[Number, Number], Any]) -> Callable[[Money, Money], Any]:
    """`operation` on two amounts of one currency; two currencies are unknown."""
    return lambda a, b: operation(a.minor, b.minor) if a.currency == b.currency else None


def _amounts(operation: Callable[[Number, Number], Number | None]) -> Callable[[Money, Money], Money | None]:
    """`operation` on two amounts of one currency, giving money."""
    return lambda a, b: _money(operation(a.minor, b.minor), a.currency) if a.currency == b.currency else None


def _scaled(operation: Callable[[Number, Number], Number | None]) -> Callable[[Money, Number], Money | None]:
    return lambda a, b: _money(operation(a.minor, b), a.currency)


def _whole(value: Number | None) -> int | None:
    return None if value is None else int(_EXACT.quantize(Decimal(value), Decimal(1)))


def _convert(env: Env, money: Money, currency: str) -> Money | None:
    return env.convert(money, currency, env.received_at)


def _member(x: Any, items: Sequence[Any]) -> bool | None:
    return True if x in items else None if None in items else False


def _member_money(x: Money, items: Sequence[Money | None]) -> bool | None:
    if x in items:
        return True
    return None if any(item is None or item.currency != x.currency for item in items) else False


def _overlaps(items: Sequence[Any], others: Sequence[Any]) -> bool | None:
    if any(item is not None and item in others for item in items):
        return True
    return None if (None in items and others) or (None in others and items) else False


def _in_list(env: Env, value: str, name: str) -> bool | None:
    known = env.lists.get(name)
    return None if known is None else known(value)


def _overlaps_list(env: Env, values: Sequence[str | None], name: str) -> bool | None:
    known = env.lists.get(name)
    if known is None:
        return None
    found = [None if value is None else known(value) for value in values]
    return True if True in found else None if None in found else False


def _phrases(env: Env, text: str, name: str) -> list[str] | None:
    known = env.lists.get(name)
    if known is None:
        return None
    assert isinstance(known, Finds), "only a list of phrases with disguises is asked for them"
    hits = known.hits(text)
    return None if hits is None else list(dict.fromkeys(hit.phrase or UNTOLD for hit in hits))


def _sum_of(items: Sequence[Number | None]) -> Number | None:
    total: Number | None = 0
    for item in items:
        if item is None or total is None:
            return None
        total = _add(total, item)
    return total


def _sum_of_money(items: Sequence[Money | None]) -> Money | None:
    if not items or None in items or len({item.currency for item in items if item is not None}) != 1:
        return None
    amounts = [item for item in items if item is not None]
    return _money(_sum_of([item.minor for item in amounts]), amounts[0].currency)


def _extreme(choose: Callable[[Iterable[Any]], Any]) -> Callable[[Sequence[Any]], Any]:
    return lambda items: None if not items or None in items else choose(items)


def _extreme_money(choose: Callable[[Iterable[Any]], Any]) -> Callable[[Sequence[Money | None]], Money | None]:
    def extreme(items: Sequence[Money | None]) -> Money | None:
        known = [item for item in items if item is not None]
        if not items or len(known) < len(items) or len({item.currency for item in known}) != 1:
            return None
        return Money(choose([item.minor for item in known]), known[0].currency)

    return extreme


def _default(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo:
    """The time zone of that IANA name, from the pinned tzdata package, never from the machine. KeyError if unknown."""
    area, _, _ = name.partition("/")
    if (
        not all(part.replace("_", "").replace("-", "").replace("+", "").isalnum() for part in name.split("/"))
        or not area
    ):
        raise KeyError(name)
    place = files("tzdata").joinpath("zoneinfo", *name.split("/"))
    if not place.is_file():
        raise KeyError(name)
    with place.open("rb") as data:
        return ZoneInfo.from_file(data, key=name)


FIRST_INSTANT, LAST_INSTANT = -62_135_510_400_000_000, 253_402_214_399_999_999
"""The years 1 to 9999, less a day at each end for the zone: what lies outside has no calendar and is unknown."""


def _moment(operation: Callable[[Number, Number], Number | None]) -> Callable[[int, int], int | None]:
    """`operation` giving an instant that the calendar knows."""

    def moment(at: int, by: int) -> int | None:
        found = operation(at, by)
        return int(found) if found is not None and FIRST_INSTANT <= found <= LAST_INSTANT else None

    return moment


def _calendar(at: int, name: str) -> datetime:
    return (EPOCH + timedelta(microseconds=at)).astimezone(zone(name))


def _hour(at: int, name: str) -> int:
    return _calendar(at, name).hour


def _weekday(at: int, name: str) -> int:
    return _calendar(at, name).isoweekday()


@lru_cache(maxsize=1)
def folding() -> dict[int, int]:
    """Capital letter → small letter, by code point: simple case folding, the same on every Python.

    A letter folds when Unicode 3.2 (which Python ships beside its own, newer data) already calls it upper or title
    case and its folding is one character. Unicode promises that the folding of an assigned letter never changes, so
    the table depends on no Python version; a test pins its hash.
    """
    table = {}
    for point in range(0x10500):
        letter = chr(point)
        if unicodedata.ucd_3_2_0.category(letter) in ("Lu", "Lt"):
            folded = letter.casefold()
            if len(folded) == 1 and folded != letter:
                table[point] = ord(folded)
    return table


def _lower(text: str) -> str:
    return text.lower() if text.isascii() else text.translate(folding())


class Pattern:
    """A RE2 pattern, compiled with its logging off and its memory bounded. Raises ValueError for a bad one."""

    __slots__ = ("_compiled", "source")

    def __init__(self, source: str) -> None:
        if len(source) > PATTERN_LENGTH:
            raise ValueError(f"a pattern has at most {PATTERN_LENGTH} characters")
        options = re2.Options()
        options.log_errors = False
        options.max_mem = PATTERN_MEMORY
        options.never_capture = True
        try:
            self._compiled = re2.compile(source, options)
        except re2.error as error:
            reason = error.args[0] if error.args else ""
            raise ValueError(reason.decode() if isinstance(reason, bytes) else str(reason)) from None
        if self._compiled.programsize > PATTERN_PROGRAM:
            raise ValueError("pattern too large")
        self.source = source

    def __str__(self) -> str:
        return self.source

    def found_in(self, text: str) -> bool:
        """Whether the pattern occurs anywhere in `text`."""
        # A lone surrogate cannot be UTF-8; it stands for no character, so any replacement does.
        return self._compiled.search(text.encode("utf-8", "replace")) is not None


def _matches(text: str, pattern: Pattern) -> bool:
    return pattern.found_in(text)


@dataclass(frozen=True, slots=True)
class Row:
    """One operator or function for one set of argument types.

    `args` and `result` are type names; "T" stands for one of `among`, "list[T]" for a list of it. `form` says how it
    is written. `code` is the meaning again as Python source with {0}, {1} for the arguments, where a call would be
    slow. A row that is not `strict` is given unknown arguments as None. `sees_env` rows are given the Env first.
    """

    name: str
    args: tuple[str, ...]
    result: str
    python: Callable[..., Any]
    doc: str
    examples: tuple[tuple[str, str], ...]
    form: str = "infix"
    code: str = ""
    among: tuple[str, ...] = ()
    strict: bool = True
    sees_env: bool = False

    def result_for(self, types: Sequence[Type]) -> Type | None:
        """The result type for arguments of these types; None when the row does not take them."""
        if len(types) != len(self.args):
            return None
        bound = ""
        for wanted, given in zip(self.args, types, strict=True):
            if "T" not in wanted:
                if wanted != given.name:
                    return None
                continue
            name = given.name if wanted == "T" else given.element.name if given.element else ""
            if name not in self.among or bound not in ("", name):
                return None
            bound = name
        return Type(self.result.replace("T", bound)) if "T" in self.result else Type(self.result)


def _compared(name: str, operation: Callable[[Any, Any], Any], doc: str, *examples: tuple[str, str]) -> list[Row]:
    """The rows of one comparison: for plain values, and for money of one currency."""
    plain = ("number", "instant", "duration", *(("text", "bool") if name == "==" else ()))
    return [
        Row(
            name,
            ("T", "T"),
            "bool",
            operation,
            doc,
            examples,
            code=f"{{0}} {name} {{1}}",
            among=plain,
        ),
        Row(
            name,
            ("money", "money"),
            "bool",
            _same(operation),
            "Money compares within one currency; two currencies are unknown.",
            (),
            code=f"({{0}}[0] {name} {{1}}[0] if {{0}}[1] == {{1}}[1] else None)",
        ),
    ]


def _textual(name: str, operation: Callable[[str, str], bool], code: str, doc: str, *examples: tuple[str, str]) -> Row:
    return Row(
        name,
        ("text", "text"),
        "bool",
        operation,
        doc,
        examples,
        code=code,
    )


def _chosen(name: str, choose: Callable[..., Any], word: str) -> list[Row]:
    """The rows of min or max: of two values, and of a list."""
    plain = ("number", "instant", "duration")
    chosen = "3" if name == "min" else "5"
    return [
        Row(
            name,
            ("T", "T"),
            "T",
            choose,
            f"The {word} of two values; unknown when one is.",
            ((f"{name}(quantity, 5)", chosen), (f"{name}(weight, 5)", "unknown")),
            "call",
            among=plain,
        ),
        Row(
            name,
            ("money", "money"),
            "money",
            _amounts(choose),
            f"The {word} of two amounts of one currency; two currencies are unknown.",
            ((f"{name}(fee, 2 CNY)", "1 CNY" if name == "min" else "2 CNY"), (f"{name}(fee, tip)", "unknown")),
            "call",
        ),
        Row(
            name,
            ("list[T]",),
            "T",
            _extreme(choose),
            f"The {word} element; unknown for an empty list or when an element is missing.",
            ((f"{name}(items.quantity)", "1" if name == "min" else "2"),),
            "call",
            among=plain,
        ),
        Row(
            name,
            ("list[money]",),
            "money",
            _extreme_money(choose),
            f"The {word} amount of a list, when all are of one currency.",
            ((f"{name}(items.price)", "8.5 CNY" if name == "min" else "80 CNY"),),
            "call",
        ),
    ]


_COMPARISONS = [
    *_compared(
        "==",
        operator.eq,
        "Equal. Text is compared exactly, letter by letter. `!=` is its opposite.",
        ('note == "Gift 卡"', "true"),
        ("quantity != 3", "false"),
        ("weight == 0", "unknown"),
    ),
    *_compared(
        "<",
        operator.lt,
        "Less. Comparisons chain: `1 < quantity <= 3` is `quantity > 1 and quantity <= 3`.",
        ("quantity < 4", "true"),
        ("1 < quantity <= 3", "true"),
        ("amount < 100 CNY", "true"),
    ),
    *_compared("<=", operator.le, "Less or equal.", ("quantity <= 3", "true"), ("tip <= amount", "unknown")),
    *_compared(">", operator.gt, "Greater.", ("quantity > 3", "false"), ("at - buyer.signup_at > 1d", "false")),
    *_compared(">=", operator.ge, "Greater or equal.", ("quantity >= 3", "true"), ("at >= 2026-11-20", "true")),
]

_ARITHMETIC = [
    Row("+", ("number", "number"), "number", _add, "Sum.", (("quantity + 1.5", "4.5"),)),
    Row("+", ("money", "money"), "money", _amounts(_add), "Sum of one currency.", (("amount + fee", "89.5 CNY"),)),
    Row(
        "+",
        ("duration", "duration"),
        "duration",
        _add,
        "Sum of two durations.",
        (("1h + 30m", "90m"),),
    ),
    Row(
        "+",
        ("instant", "duration"),
        "instant",
        _moment(_add),
        "A later instant.",
        (("at + 1h", "2026-11-20T09:30:00Z"),),
    ),
    Row("-", ("number", "number"), "number", _subtract, "Difference.", (("quantity - 5", "-2"),)),
    Row(
        "-",
        ("money", "money"),
        "money",
        _amounts(_subtract),
        "Difference of one currency; two currencies are unknown.",
        (("amount - fee", "87.5 CNY"), ("amount - tip", "unknown")),
    ),
    Row(
        "-",
        ("duration", "duration"),
        "duration",
        _subtract,
        "Difference of two durations.",
        (("1h - 30m", "30m"),),
    ),
    Row(
        "-",
        ("instant", "instant"),
        "duration",
        _subtract,
        "How long from the second to the first.",
        (("at - buyer.signup_at", "510m"),),
    ),
    Row(
        "-",
        ("instant", "duration"),
        "instant",
        _moment(_subtract),
        "An earlier instant.",
        (("at - 30m", "2026-11-20T08:00:00Z"),),
    ),
    Row(
        "-",
        ("T",),
        "T",
        _negate,
        "The opposite number or duration.",
        (("-quantity", "-3"),),
        "sign",
        among=("number", "duration"),
    ),
    Row(
        "-",
        ("money",),
        "money",
        lambda a: Money(_negate(a.minor), a.currency),
        "The opposite amount.",
        (("-fee", "-1 CNY"),),
        "sign",
    ),
    Row(
        "*",
        ("number", "number"),
        "number",
        _multiply,
        "Product.",
        (("quantity * 25%", "0.75"),),
    ),
    Row("*", ("money", "number"), "money", _scaled(_multiply), "A multiple.", (("amount * 2", "177 CNY"),)),
    Row(
        "*",
        ("number", "money"),
        "money",
        lambda a, b: _money(_multiply(a, b.minor), b.currency),
        "A multiple.",
        (("10% * amount", "8.85 CNY"),),
    ),
    Row(
        "*",
        ("duration", "number"),
        "duration",
        lambda a, b: _whole(_multiply(a, b)),
        "A multiple, to the microsecond.",
        (("10m * 1.5", "15m"),),
    ),
    Row(
        "*",
        ("number", "duration"),
        "duration",
        lambda a, b: _whole(_multiply(a, b)),
        "A multiple, to the microsecond.",
        (("2 * 10m", "20m"),),
    ),
    Row(
        "/",
        ("number", "number"),
        "number",
        _divide,
        "Quotient to six places, half-even; by zero it is unknown.",
        (("quantity / 2", "1.5"), ("2 / quantity", "0.666667"), ("1 / (quantity - 3)", "unknown")),
    ),
    Row("/", ("money", "number"), "money", _scaled(_divide), "A share.", (("amount / 4", "22.125 CNY"),)),
    Row(
        "/",
        ("money", "money"),
        "number",
        _same(_divide),
        "How many times one amount holds another of the same currency.",
        (("amount / fee", "88.5"),),
    ),
    Row(
        "/",
        ("duration", "number"),
        "duration",
        lambda a, b: _whole(_divide(a, b)),
        "A share, to the microsecond.",
        (("1h / 4", "15m"),),
    ),
    Row(
        "/",
        ("duration", "duration"),
        "number",
        _divide,
        "How many times one duration holds another.",
        (("(at - buyer.signup_at) / 1h", "8.5"),),
    ),
    Row(
        "%",
        ("number", "number"),
        "number",
        _modulo,
        "Remainder; it takes the sign of the left side; by zero it is unknown. A % glued to digits is a percentage.",
        (("quantity % 2", "1"), ("-quantity % 2", "-1"), ("quantity % 0", "unknown")),
    ),
    Row(
        "in",
        ("money", "currency"),
        "money",
        _convert,
        "The amount in another currency at the rate of the day the event was received; unknown without a rate.",
        (("tip in CNY", "21 CNY"), ("amount in JPY", "unknown")),
        "convert",
        sees_env=True,
    ),
]

_TEXTS = [
    _textual(
        "starts with",
        str.startswith,
        "{0}.startswith({1})",
        "Whether the text begins so. `not starts with` is its opposite.",
        ('note starts with "Gift"', "true"),
        ('note not starts with "gift"', "true"),
    ),
    _textual(
        "ends with", str.endswith, "{0}.endswith({1})", "Whether the text ends so.", ('note ends with "卡"', "true")
    ),
    _textual(
        "contains",
        operator.contains,
        "{1} in {0}",
        "Whether the text holds the other text. For lists write `in`.",
        ('note contains "ft"', "true"),
        ('coupon contains "x"', "unknown"),
    ),
    Row(
        "matches",
        ("text", "pattern"),
        "bool",
        _matches,
        "Whether a RE2 pattern is found anywhere in the text; anchor it with ^ and $, ignore case with (?i). "
        "A backslash stands for itself.",
        ((r'note matches "^G\w+"', "true"), ('note matches "(?i)^gift$"', "false")),
        code="{1}.found_in({0})",
    ),
    Row(
        "lower",
        ("text",),
        "text",
        _lower,
        "The text in small letters: Unicode simple case folding, the same on every Python.",
        (('lower(note) == "gift 卡"', "true"),),
        "call",
    ),
    Row(
        "plain",
        ("text",),
        "text",
        plain,
        "The text as a person reads it: width, capitals, traditional characters, lookalikes, signs in words and what "
        "nobody sees are undone (docs/listings.md), words stand one blank apart. Empty where nothing can be read.",
        (('plain(note) == "gift 卡"', "true"), ('plain("ＶＸ：  a·b") == "vx ab"', "true")),
        "call",
    ),
    Row(
        "length",
        ("text",),
        "number",
        len,
        "How many characters (Unicode code points).",
        (("length(note)", "6"),),
        "call",
        "len({0})",
    ),
    Row(
        "valid_uscc",
        ("text",),
        "bool",
        uscc.valid,
        "Whether the text can be a unified social credit code 统一社会信用代码 (GB 32100-2015): 18 characters, the "
        "last of which checks the others (ISO 7064 MOD 31-3). Only the register knows whether it was given out.",
        (("valid_uscc(note)", "false"), ("valid_uscc(coupon)", "unknown")),
        "call",
    ),
]

_LISTS = [
    Row(
        "in",
        ("T", "list[T]"),
        "bool",
        _member,
        "Whether the value is one of a list. A list with a missing element that would decide is unknown. "
        "`not in` is its opposite.",
        (
            ('note in ["Gift 卡", "x"]', "true"),
            ("quantity not in [1, 2]", "true"),
            ('"toys" in items.category', "true"),
        ),
        among=("text", "number", "instant", "duration"),
    ),
    Row(
        "in",
        ("money", "list[money]"),
        "bool",
        _member_money,
        "Whether the amount is one of a list; amounts of another currency are unknown.",
        (("fee in [1 CNY, 2 CNY]", "true"), ("tip in [1 CNY]", "unknown")),
    ),
    Row(
        "overlaps",
        ("list[T]", "list[T]"),
        "bool",
        _overlaps,
        "Whether two lists share an element.",
        (('items.category overlaps ["voucher", "toys"]', "true"), ("items.quantity overlaps [7]", "false")),
        among=("text", "number"),
    ),
    Row(
        "in list",
        ("text", "name"),
        "bool",
        _in_list,
        "Whether a kept list holds the value now (at the time received); unknown when the list is not there.",
        (("buyer.email_domain in list vip", "true"), ("coupon in list vip", "unknown")),
        "list",
        sees_env=True,
    ),
    Row(
        "overlaps list",
        ("list[text]", "name"),
        "bool",
        _overlaps_list,
        "Whether a kept list holds one of the values.",
        (("items.category overlaps list vip", "false"),),
        "list",
        sees_env=True,
    ),
    Row(
        "phrases",
        ("text", "name"),
        "list[text]",
        _phrases,
        "Which phrases of a kept list with `disguises` stand in the text, as the list writes them, in their order, "
        "each once. A message may show them although the text is the seller's. Unknown when the list is not there.",
        (('phrases(note, "presents")', '["gift"]'), ('size(phrases(coupon, "presents")) > 0', "unknown")),
        "call",
        sees_env=True,
    ),
    Row(
        "size",
        ("list[T]",),
        "number",
        len,
        "How many elements, missing ones too.",
        (("size(items.category)", "2"),),
        "call",
        "len({0})",
        among=_SCALARS,
    ),
    Row(
        "sum",
        ("list[number]",),
        "number",
        _sum_of,
        "The sum of a list; unknown when an element is missing. An empty list sums to 0.",
        (("sum(items.quantity)", "3"),),
        "call",
    ),
    Row(
        "sum",
        ("list[money]",),
        "money",
        _sum_of_money,
        "The sum of a list of amounts; unknown when it is empty, an amount is missing, or currencies differ.",
        (("sum(items.price)", "88.5 CNY"),),
        "call",
    ),
]

_PRESENCE = [
    Row(
        "is missing",
        ("T",),
        "bool",
        lambda a: a is None,
        "Whether the value is not there, or unknown. `is present` is its opposite.",
        (("coupon is missing", "true"), ("note is present", "true")),
        "postfix",
        among=(*_SCALARS, *(f"list[{name}]" for name in _SCALARS)),
        strict=False,
    ),
    Row(
        "default",
        ("T", "T"),
        "T",
        _default,
        "The value, or the second one when the first is missing or unknown.",
        (('default(coupon, "none")', '"none"'), ("default(weight, 0) < 1", "true")),
        "call",
        "{0} if {0} is not None else {1}",
        among=_SCALARS,
        strict=False,
    ),
]

_NUMBERS = [
    Row(
        "abs",
        ("T",),
        "T",
        _absolute,
        "The size without the sign.",
        (("abs(quantity - 5)", "2"),),
        "call",
        among=("number", "duration"),
    ),
    Row(
        "abs",
        ("money",),
        "money",
        lambda a: Money(_absolute(a.minor), a.currency),
        "The amount without the sign.",
        (("abs(fee - 3 CNY)", "2 CNY"),),
        "call",
    ),
    Row(
        "round",
        ("number",),
        "number",
        _rounded,
        "The nearest whole number; a half goes to the even one.",
        (("round(2.5)", "2"), ("round(quantity / 2)", "2")),
        "call",
    ),
    Row(
        "round",
        ("number", "places"),
        "number",
        _rounded,
        "Rounded half-even to 0 to 6 places.",
        (("round(2 / quantity, 2)", "0.67"),),
        "call",
    ),
    Row(
        "round",
        ("money",),
        "money",
        lambda a: _money(_rounded(a.minor), a.currency),
        "Rounded half-even to the currency's minor unit.",
        (("round(amount / 4)", "22.12 CNY"),),
        "call",
    ),
    *_chosen("min", min, "smaller"),
    *_chosen("max", max, "greater"),
]

_TIMES = [
    Row(
        "hour",
        ("instant", "zone"),
        "number",
        _hour,
        "The hour of the day, 0 to 23, in the zone; without one, in the pack's zone (Asia/Shanghai).",
        (("hour(at)", "16"), ('hour(at, "Europe/Berlin")', "9")),
        "call",
    ),
    Row(
        "weekday",
        ("instant", "zone"),
        "number",
        _weekday,
        "The day of the week, 1 for Monday to 7 for Sunday, in the zone.",
        (("weekday(at)", "5"), ("weekday(at) in [6, 7]", "false")),
        "call",
    ),
]

SECTIONS: dict[str, list[Row]] = {
    "Comparisons": _COMPARISONS,
    "Arithmetic": _ARITHMETIC,
    "Text": _TEXTS,
    "Lists": _LISTS,
    "Presence": _PRESENCE,
    "Numbers": _NUMBERS,
    "Time": _TIMES,
}
ROWS: tuple[Row, ...] = tuple(row for rows in SECTIONS.values() for row in rows)
"""Every row, in the order of the reference."""

BY_NAME: dict[tuple[str, int], tuple[Row, ...]] = {
    key: tuple(row for row in ROWS if (row.name, len(row.args)) == key)
    for key in dict.fromkeys((row.name, len(row.args)) for row in ROWS)
}
"""Rows by name and number of arguments."""
FUNCTIONS = frozenset(row.name for row in ROWS if row.form == "call")
