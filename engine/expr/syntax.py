"""Condition text → raw tree with offsets, or problems in plain words.

Lark builds the LALR tables from grammar.lark once. Before it parses, one pass over the text finds the habits of other
languages (`&&`, `null`, full-width operators), so that all of them are named at once and in friendly words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from engine.errors import PackError, Problem
from engine.expr import units
from engine.expr.nodes import MAX_DEPTH
from engine.money import CURRENCIES

MAX_SOURCE = 4_000
"""Longest condition, in characters."""

KEPT = 4_096
"""Parsed texts that are kept."""

_LANGUAGE = (
    "and or not in is by of last first seen where including this approximately list true false now missing present "
    "contains matches overlaps starts ends with null none"
)
RESERVED = frozenset(_LANGUAGE.split())
"""Words that cannot be names."""
_LINKS = RESERVED - {"true", "false", "now"}


@dataclass(frozen=True, slots=True)
class Raw:
    """A part of a condition as written: what it is, where it stands (offsets, end excluded), its word and parts."""

    kind: str
    start: int
    end: int
    word: str = ""
    parts: tuple[Any, ...] = ()
    depth: int = 1


@dataclass(slots=True)
class Report:
    """The problems of one source, placed in its file when the source knows where it stands (engine.packs.Text)."""

    source: str
    problems: list[Problem] = field(default_factory=list)

    def add(self, start: int, end: int, what: str, hint: str = "") -> None:
        """Note a problem with the characters from `start` to `end`."""
        self.problems.append(self._problem(start, what, hint, max(1, end - start)))

    def stop(self) -> None:
        """Raise PackError if there is a problem."""
        if self.problems:
            raise PackError(self.problems)

    def _problem(self, offset: int, what: str, hint: str, width: int) -> Problem:
        placed: Callable[[int, str, str, int], Problem] | None = getattr(self.source, "problem", None)
        if placed is not None:
            return placed(offset, what, hint, width)
        before = self.source[:offset]
        line = before.count("\n") + 1
        column = offset - (before.rfind("\n") + 1) + 1
        shown = self.source.split("\n")[line - 1][:500]
        return Problem("<text>", line, column, what, hint, shown, min(width, max(1, len(shown) - column + 1)))


def parse(source: str, report: Report) -> Raw:
    """The raw tree of `source`. Raises PackError with its problems."""
    if len(source) > MAX_SOURCE:
        report.add(
            0, 1, f"a condition has at most {MAX_SOURCE:,} characters, this one {len(source):,}", "use let names"
        )
        report.stop()
    if not source.strip():
        report.add(0, 1, "the condition is empty")
        report.stop()
    for start, end, what, hint in bad_habits(source):
        report.add(start, end, what, hint)
    report.stop()
    text = str(source)
    try:
        return _tree(text)
    except _RefusedError as refused:
        report.add(*refused.args)
    except UnexpectedInput as error:
        report.add(*_plainly(error, text))
    report.stop()
    raise AssertionError("a problem was just added")


@lru_cache(KEPT)
def _tree(text: str) -> Raw:
    """The raw tree of a text. It is frozen and knows no more than the text, so what stands in several rules, and in the
    next rulebook, is parsed once."""
    tree = _parser().parse(text)
    assert isinstance(tree, Raw)
    return tree


# ---------------------------------------------------------------------------------------------- habits from elsewhere

_LEXEME = re.compile(
    r"""(?P<text>"(?:[^"\\\x00-\x1f]|\\[^\x00-\x1f])*")
      | (?P<comment>\#[^\n]*)
      | (?P<space>[ \t\r\n]+)
      | (?P<instant>\d{4}-\d{2}-\d{2}(?:T[0-9:.]*(?:Z|[+-]\d{2}:\d{2})?)?)
      | (?P<unit>UNIT)
      | (?P<list>\blist\s+[a-z][a-z0-9_]*(?:-[a-z0-9_]+)*)
      | (?P<number>\.?\d(?:[\w.]|,(?=\d{3}\b))*%?)
      | (?P<word>[^\W\d]\w*(?:\.\w+)*)
      | (?P<sign>&&?|\|\|?|===?|!==?|!|<>|<=|>=|=>|=<|\*\*|:=|[=<>])
      | (?P<plain>[-+*/%()\[\],])
      | (?P<other>.)""".replace("UNIT", units.WRITTEN),
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"\d+(\.\d+)?([smhdw]|%|[A-Z]{3})?\Z", re.ASCII)
_SIGNS = {
    "&&": ("'and'", "write 'and'"),
    "&": ("'and'", "write 'and'"),
    "||": ("'or'", "write 'or'"),
    "|": ("'or'", "write 'or'"),
    "=": ("'=='", "to compare, write '=='"),
    "===": ("'=='", "write '=='"),
    "!==": ("'!='", "write '!='"),
    "!": ("'not'", "write 'not'"),
    "<>": ("'!='", "write '!='"),
    "=>": ("'>='", "write '>='"),
    "=<": ("'<='", "write '<='"),
    "**": ("", "there is no power; multiply instead"),
    ":=": ("'=='", "name values under 'let', compare with '=='"),
}
_WIDE = dict(zip("，＝＞＜（）［］＋－＊／％．！＆｜", ",=><()[]+-*/%.!&|", strict=True))
_WIDE |= {
    "“": '"',
    "”": '"',
    "＂": '"',
    "「": '"',
    "」": '"',
    "‘": '"',
    "’": '"',
    "、": ",",
    "。": "",
    "；": "",
    "：": "",
}
_WIDE |= {"≥": ">=", "≤": "<=", "≠": "!=", "×": "*", "÷": "/", "−": "-", "–": "-", "—": "-", "【": "[", "】": "]"}
_WORDS = dict.fromkeys(("null", "none", "nil", "undefined", "nan"), "is missing")
_WORDS |= {"且": "and", "并且": "and", "而且": "and", "或": "or", "或者": "or", "非": "not", "不": "not", "等于": "=="}
_WORDS |= {"大于": ">", "小于": "<", "属于": "in", "包含": "contains", "真": "true", "假": "false"}
_OTHER_WORDS = {"like": "write 'contains', 'starts with' or 'matches'", "between": "write '1 < x <= 7'"}
_OTHER_WORDS |= {"if": "a condition needs no 'if'", "then": "a condition needs no 'then'"}
_CAPITALS = {word.upper() for word in RESERVED}


def bad_habits(source: str) -> list[tuple[int, int, str, str]]:
    """What the text takes from another language: (start, end, what, hint) for each, in order."""
    found = []
    for match in _LEXEME.finditer(source):
        kind, word = match.lastgroup, match.group()
        said = _HABITS[kind](word, source, match.start()) if kind in _HABITS else None
        if said:
            found.append((match.start(), match.end(), *said))
            if word == '"':
                break  # what follows an open quote is text that would only give false problems
        if len(found) == 20:
            break
    return found


def names_in(source: str) -> frozenset[str]:
    """The words of a condition that may be names: those outside of text and comments."""
    return frozenset(match.group() for match in _LEXEME.finditer(source) if match.lastgroup == "word")


def _sign(word: str, _source: str, _start: int) -> tuple[str, str] | None:
    if word not in _SIGNS:
        return None
    meant, hint = _SIGNS[word]
    return (f"'{word}' is written {meant} here" if meant else f"'{word}' has no meaning here"), hint


def _word(word: str, source: str, start: int) -> tuple[str, str] | None:
    lower = word.lower()
    if _WORDS.get(lower) == "is missing":
        return f"'{word}' has no meaning here", "ask with 'is missing' or 'is present'"
    if lower in _WORDS:
        return f"'{word}' is written '{_WORDS[lower]}' here", f"write '{_WORDS[lower]}'"
    if lower in _OTHER_WORDS and not source[start + len(word) :].lstrip().startswith("("):
        return f"'{word}' has no meaning here", _OTHER_WORDS[lower]
    if word in ("True", "False") or word in _CAPITALS or (word[0].isupper() and lower in RESERVED):
        return f"'{word}' is written in small letters", f"write '{lower}'"
    if not word.isascii():
        return f"'{word[:40]}' is no name: names are ASCII", "put text in double quotes"
    if word in CURRENCIES:
        return None
    if word.isupper() and len(word) == 3:
        return f"'{word}' is no ISO 4217 currency", ""
    if word != lower or word.startswith("_"):
        return f"'{word[:60]}' is no name: names are small letters, digits and _", ""
    return None


def _number(word: str, _source: str, _start: int) -> tuple[str, str] | None:
    shown = word[:40]
    match = _NUMBER.match(word)
    if match is None:
        if "," in word:
            return f"'{shown}' is no number", f"write {shown.replace(',', '')}"
        if "_" in word:
            return f"'{shown}' is no number", f"write {shown.replace('_', '')}"
        return f"'{shown}' is no number, duration or amount", "such as 20, 2.5, 25%, 10m (s m h d w) or 20 CNY"
    whole, _, places = word.rstrip("smhdw%ABCDEFGHIJKLMNOPQRSTUVWXYZ").partition(".")
    if len(whole.lstrip("0")) > 18 or len(places) > 6:
        return f"'{shown}' has too many digits", "at most 18 before the point and 6 after it"
    return None


def _unit(word: str, _source: str, _start: int) -> tuple[str, str]:
    return f"'{word[:40]}' is no number, duration or amount", f"write {units.meant(word)}"


def _other(word: str, source: str, start: int) -> tuple[str, str] | None:
    if word == '"':
        return "this text is not closed", 'end it with " on the same line'
    if word == "'":
        return "text stands in double quotes", 'write "…"'
    if word in _WIDE:
        plain = _WIDE[word]
        meant = _SIGNS.get(plain, (f"'{plain}'",))[0]
        return f"'{word}' is a full-width sign", f"write {meant}" if plain else ""
    if word in "?:":
        return f"'{word}' has no meaning here", "write two rules, or default(x, y)"
    if word.isspace() or word in "\u200b\u200c\u200d\ufeff":
        return "an invisible or wide space", "write a plain space"
    if not word.isprintable():
        return f"a control character (U+{ord(word):04X})", "remove it"
    del source, start
    return f"'{word}' has no meaning here", ""


_Said = Callable[[str, str, int], "tuple[str, str] | None"]
_HABITS: dict[str | None, _Said] = {"sign": _sign, "word": _word, "unit": _unit, "number": _number, "other": _other}


# ---------------------------------------------------------------------------------------------- the parser


class _RefusedError(Exception):
    """Start, end, what and hint of something that the grammar lets through."""

    def __init__(self, start: int, end: int, what: str, hint: str) -> None:
        super().__init__(start, end, what, hint)


def _too_deep(start: int, end: int) -> _RefusedError:
    return _RefusedError(start, end, "this is nested too deeply", "split it with let names")


def _raw(kind: str, start: int, end: int, word: str = "", parts: tuple[Any, ...] = ()) -> Raw:
    depth = 1 + max((part.depth for part in parts if isinstance(part, Raw)), default=0)
    if depth > MAX_DEPTH:
        raise _too_deep(start, end)
    return Raw(kind, start, end, word, parts, depth)


def _place(token: Token) -> tuple[int, int]:
    assert token.start_pos is not None
    assert token.end_pos is not None
    return token.start_pos, token.end_pos


def _misplaced(token: Token) -> tuple[int, int, str, str]:
    return *_place(token), f"'{token}' does not fit here", "a value is missing before it"


def _words(token: Token) -> str:
    """The token with single spaces: 'not   in' is 'not in'."""
    return " ".join(str(token).split())


class _Build(Transformer[Token, Any]):
    """Raw nodes, made while Lark parses."""

    def start(self, items: list[Any]) -> Raw:
        tree: Raw = items[0]
        return tree

    def disjunction(self, items: list[Raw]) -> Raw:
        return _raw("or", items[0].start, items[-1].end, "or", tuple(items))

    def conjunction(self, items: list[Raw]) -> Raw:
        return _raw("and", items[0].start, items[-1].end, "and", tuple(items))

    def opposite(self, items: list[Any]) -> Raw:
        return _raw("not", _place(items[0])[0], items[1].end, "not", (items[1],))

    def chain(self, items: list[Any]) -> Raw:
        return _raw("chain", items[0].start, items[-1].end, "", tuple(items))

    def member(self, items: list[Any]) -> Raw:
        return _raw("relation", items[0].start, items[2].end, _words(items[1]), (items[0], items[2]))

    relation = member

    def in_list(self, items: list[Any]) -> Raw:
        name = _raw("name", *_place(items[2]), str(items[2]))
        return _raw("in_list", items[0].start, name.end, _words(items[1]), (items[0], name))

    def presence(self, items: list[Any]) -> Raw:
        return _raw("presence", items[0].start, _place(items[1])[1], _words(items[1]), (items[0],))

    def arithmetic(self, items: list[Any]) -> Raw:
        return _raw("arithmetic", items[0].start, items[2].end, str(items[1]), (items[0], items[2]))

    def minus(self, items: list[Any]) -> Raw:
        return _raw("minus", _place(items[0])[0], items[1].end, "-", (items[1],))

    def convert(self, items: list[Any]) -> Raw:
        return _raw("convert", items[0].start, _place(items[1])[1], str(items[1])[-3:], (items[0],))

    def literal(self, items: list[Token]) -> Raw:
        return _raw(items[0].type.lower(), *_place(items[0]), str(items[0]))

    def path(self, items: list[Token]) -> Raw:
        if str(items[0]) in _LINKS:
            raise _RefusedError(*_misplaced(items[0]))
        return _raw("path", *_place(items[0]), str(items[0]))

    def group(self, items: list[Any]) -> Raw:
        inner: Raw = items[0]
        return inner

    def sums(self, items: list[Raw]) -> tuple[Raw, ...]:
        return tuple(items)

    def call(self, items: list[Any]) -> Raw:
        args = items[1] if len(items) == 3 else ()
        return _raw("call", _place(items[0])[0], _place(items[-1])[1], str(items[0]), args)

    def values(self, items: list[Any]) -> Raw:
        return _raw("values", _place(items[0])[0], _place(items[2])[1], "", items[1])

    def of(self, items: list[Token]) -> tuple[Raw, ...]:
        return tuple(_raw("name", *_place(item), str(item)) for item in items)

    by = of

    def where(self, items: list[Raw]) -> Raw:
        return items[0]

    def ending(self, items: list[Token | None]) -> frozenset[str]:
        return frozenset(item.type for item in items if item is not None)

    def window(self, items: list[Any]) -> tuple[Any, ...]:
        return tuple(items)

    def windowed(self, items: list[Any]) -> Raw:
        argument, of, length, by, where, ending = items[1]
        ending = ending or frozenset()
        length = _raw("duration", *_place(length), str(length))
        start, end = _place(items[0])[0], _place(items[-1])[1]
        depth = 1 + max((part.depth for part in (*(argument or ()), where) if part is not None), default=0)
        if depth > MAX_DEPTH:
            raise _too_deep(start, end)
        parts = (argument or (), of or (), length, by, where, "INCLUDING" in ending, "APPROXIMATELY" in ending)
        return Raw("window", start, end, _words(items[0]), parts, depth)


@lru_cache(maxsize=1)
def _parser() -> Lark:
    grammar = files("engine.expr").joinpath("grammar.lark").read_text("utf-8")
    return Lark(grammar, parser="lalr", lexer="contextual", transformer=_Build(), maybe_placeholders=True)


# ---------------------------------------------------------------------------------------------- plain sentences

_NO_KEY = ("the window does not say whose events it holds: 'by' is missing", "such as last 10m by card.ref")
_VALUES = {"NUMBER", "TEXT", "PATH", "MONEY", "DURATION", "INSTANT", "PERCENT"}


def _plainly(error: UnexpectedInput, source: str) -> tuple[int, int, str, str]:
    """Start, end, sentence and hint for a syntax error."""
    if isinstance(error, UnexpectedToken):
        before = error.interactive_parser.parser_state.value_stack[-1:]
        if before and isinstance(before[0], Token) and str(before[0]) in _LINKS and before[0].type == "PATH":
            return _misplaced(before[0])
        return _unexpected(error.token, set(error.accepts or error.expected), source)
    if isinstance(error, UnexpectedCharacters):
        at = error.pos_in_stream or 0
        word = re.compile(r"[\w.]+|.", re.DOTALL).match(source, at)
        shown = word.group() if word else source[at : at + 1]
        return at, at + len(shown), *_said(shown, set(error.allowed or ()))
    assert isinstance(error, UnexpectedEOF), error
    return len(source), len(source), "the condition ends too early", ""


def _unexpected(token: Token, expected: set[str], source: str) -> tuple[int, int, str, str]:
    if token.type == "$END":
        end = len(source.rstrip())
        last = max(0, end - 1)
        if expected == {"_BY"}:
            return last, end, *_NO_KEY
        if expected & _VALUES:
            return last, end, "the condition ends too early", "something is missing after this"
        hint = "close it with )" if "CLOSE" in expected else "close it with ]" if "CLOSE_LIST" in expected else ""
        return last, end, "a bracket is not closed" if hint else "the condition ends too early", hint
    start, end = _place(token)
    if expected & _VALUES == {"DURATION"}:
        return start, end, *_length(token)
    return start, end, *_said(str(token), expected)


def _length(token: Token) -> tuple[str, str]:
    """What stands behind `last` in a window, and is no duration."""
    if token.type == "NUMBER":
        return f"'{token}' has no unit", f"write {token}h for hours (s m h d w)"
    return "the length of the window is missing", "write it behind 'last', such as last 24h"


def _said(word: str, expected: set[str]) -> tuple[str, str]:
    if expected == {"_BY"}:
        return _NO_KEY
    what = f"'{word[:40]}' does not fit here"
    if expected & _VALUES:
        return what, "a value is missing before it"
    if word == ")" and "CLOSE" not in expected:
        return "this bracket closes nothing", "remove it, or open one before"
    if word[:1] in '"[(' or word[:1].isalnum():
        return what, "an operator such as 'and', 'or' or '==' is missing before it"
    return what, ""


def unquote(word: str) -> str:
    r"""The text that a literal stands for: \" is a quote, \\ a backslash, any other backslash stands for itself."""
    return re.sub(r'\\(["\\])', r"\1", word[1:-1])
