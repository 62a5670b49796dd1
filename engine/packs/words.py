"""What a YAML parser's complaints mean, in the words of someone who writes rules."""

from __future__ import annotations

import re
import sys

from yaml import MarkedYAMLError

from engine.errors import Problem
from engine.packs.text import Source

_WRITE_OUT = "write the value out; use 'let' for conditions"
ANCHORS = "anchors ('&name') are not used here", _WRITE_OUT
ALIASES = "aliases ('*name') are not used here", _WRITE_OUT
TABS = "a tab stands where YAML takes only spaces", "replace the tab by spaces"

_UNCLOSED = "the quote that opens here is never closed", "close the quote"
_QUOTE_IT = "put the text in quotes"
_ALL_IN_QUOTES = "if a value begins with a quote, put all of it in quotes: '\"a\" in x'"
_SAME_COLUMN = "what belongs together begins in the same column; indent with two spaces for each level"

# (pattern in "context: problem: 'next character', words or structure", what, hint, whether it stands where the thing
# began)
_WORDS: tuple[tuple[str, str, str, bool], ...] = (
    (r"cannot start any token: '\\t'|found a tab", *TABS, False),
    (r"cannot start any token: '(.)'", "text cannot begin with '{0}'", _QUOTE_IT, False),
    (
        r"mapping values are not allowed",
        "a ':' too many: it belongs to no key",
        f"{_QUOTE_IT} if it holds ': '; otherwise look at the indentation",
        False,
    ),
    (r"could not find expected ':'", "a key without ':'", "write 'key: value', or put a long text in quotes", True),
    (
        r"quoted scalar: found unexpected (?:end of stream|document indicator)",
        *_UNCLOSED,
        True,
    ),
    (r"expected key: ':', structure", "a key must be text", "put quotes around it", False),
    (r"expected (?:key|'-' indicator): .*words$", "text where a new line was expected", _ALL_IN_QUOTES, False),
    (r"expected (?:key|'-' indicator)", "this does not fit the indentation above", _SAME_COLUMN, False),
    (r"expected ',' or '(.)'", "',' or '{0}' is missing", "close the bracket, or separate the items by ','", False),
    (r"expected node content", "a value is missing", _QUOTE_IT + " if this is meant as text", False),
    (r"block sequence entries", "a list item does not belong here", "begin it on a line of its own", False),
    (r"mapping keys are not allowed", "a key does not belong here", _SAME_COLUMN, False),
    (
        r"block scalar.*(comment or line break|indicator)",
        "after '|' or '>' the text begins on the next line",
        f"{_QUOTE_IT} if the '|' or '>' is meant as text",
        False,
    ),
    (
        r"directive|version|incompatible",
        "YAML directives are not used here",
        "delete the line that begins with '%'",
        False,
    ),
    (r"unexpected ':'", "a ':' inside brackets without a space after it", _QUOTE_IT, False),
    (r"document", "a second document begins here", "one file holds one document", False),
)

# What is no words: a bracket, an item, or a key.
_STRUCTURE = re.compile(r"[\[\]{},]|[-?:](?:\s|$)|.*:(?:\s|$)")

# A value that begins with a sign of YAML, after an optional '- ' and key.
_SIGN_FIRST = re.compile(r"\s*(?:- +)*(?:[^\s:'\"]+: +)?(?P<sign>[!&*])")
_SIGNS = {"!": "tags", "&": "anchors", "*": "aliases"}
_NAMED = {"&": ANCHORS, "*": ALIASES}
_NAME = re.compile(r"[&*](?:[ \t]*[^\s#]+)*")

_DIGITS = {"x": 2, "u": 4, "U": 8}
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)


def plain_words(error: MarkedYAMLError, source: Source) -> Problem:
    """A syntax error as a problem. What is not in the table keeps the parser's own words."""
    assert error.problem_mark is not None, "libyaml always says where"
    place = error.problem_mark.index
    began = error.context_mark.index if error.context_mark else place
    line, column = source.line_column(place)
    written = source.line(line)
    sign = _SIGN_FIRST.match(written)
    if sign:
        # `when: !(a > b)`: the parser complains about what comes after the sign; the sign is the mistake.
        return _sign(source, source.starts[line - 1] + sign.start("sign"), _QUOTE_IT)
    rest = written[column - 1 :]
    complaint = f"{error.context}: {error.problem}: {rest[:1]!r}, {'structure' if _STRUCTURE.match(rest) else 'words'}"
    if re.search(r"(?:anchor|alias|tag): |tag handle", complaint):
        return _sign(source, began, f"{_QUOTE_IT}; {_SIGNS[source.content[began]]} are not used here")
    if "unknown escape" in complaint:
        return _unknown_escape(source, began, place)
    if "parsing a quoted scalar" in complaint:
        return _escape(source, began, place)
    if "expected ',' or" in complaint and source.line_column(began)[0] < line:
        return source.problem(began, began + 1, "the bracket that opens here is never closed", "close it")
    for pattern, what, hint, at_start in _WORDS:
        found = re.search(pattern, complaint)
        if found:
            place = began if at_start else place
            return source.problem(place, place + 1, what.format(*found.groups()), hint)
    return source.problem(place, place + 1, f"not YAML: {error.problem}", _SAME_COLUMN)


def _sign(source: Source, place: int, hint: str) -> Problem:
    """A value that begins with a sign of YAML: with a name behind it, it reads as an anchor or an alias."""
    sign, behind = source.content[place], source.content[place + 1 : place + 2]
    if sign in _NAMED and behind.strip():
        name = _NAME.match(source.content, place)
        assert name is not None
        return source.problem(place, name.end(), *_NAMED[sign])
    return source.problem(place, place + 1, f"text cannot begin with '{sign}'", hint)


def _unknown_escape(source: Source, quote: int, at: int) -> Problem:
    """The backslash `at`, in the double quotes that open at `quote`."""
    letter = source.content[at + 1 : at + 2]
    if not letter:
        return source.problem(quote, quote + 1, *_UNCLOSED)
    what = f"there is no escape \\{letter} in double quotes"
    return source.problem(at + 1, at + 2, what, "write '\\\\' for a backslash, or use single quotes")


def _escape(source: Source, quote: int, at: int) -> Problem:
    """The digits `at`, which stand for no character, in the double quotes that open at `quote`."""
    length = _DIGITS[source.content[at - 1]]
    digits = source.content[at : at + length]
    if re.fullmatch(f"[0-9A-Fa-f]{{{length}}}", digits) is None:
        return source.problem(at, at + 1, f"this escape takes {length} hexadecimal digits", "such as \\x41 or \\u4E2D")
    if int(digits, 16) > sys.maxunicode:
        return source.problem(at - 2, at + length, "a number that stands for nothing", "Unicode ends at \\U0010FFFF")
    text = _QUOTED.match(source.content, quote)
    assert text is not None
    hint = "write characters beyond U+FFFF as \\U0001F600"
    return source.problem(quote, text.end(), "half a character (a surrogate)", hint)
