"""What a YAML parser's complaints mean, in the words of someone who writes rules."""

from __future__ import annotations

import re

from ruamel.yaml.error import MarkedYAMLError

from engine.errors import Problem
from engine.packs.text import Source

_QUOTE_IT = "put the text in quotes"
_ALL_IN_QUOTES = "if a value begins with a quote, put all of it in quotes: '\"a\" in x'"
_SAME_COLUMN = "what belongs together begins in the same column; indent with two spaces for each level"

# (pattern in "context: problem", what, hint, whether the place is where the thing began)
_WORDS: tuple[tuple[str, str, str, bool], ...] = (
    (r"found character '\\t'", "a tab stands where YAML takes only spaces", "replace the tab by spaces", False),
    (r"found character '(.)'", "text cannot begin with '{0}'", _QUOTE_IT, False),
    (
        r"mapping values are not allowed",
        "a ':' too many: it belongs to no key",
        f"{_QUOTE_IT} if it holds ': '; otherwise look at the indentation",
        False,
    ),
    (r"could not find expected ':'", "a key without ':'", "write 'key: value', or put a long text in quotes", True),
    (r"found unexpected end of stream", "the quote that opens here is never closed", "close the quote", True),
    (r"quoted scalar.*document separator", "the quote that opens here is never closed", "close the quote", True),
    (r"expected <block end>.*<scalar>", "text where a new line was expected", _ALL_IN_QUOTES, False),
    (r"expected <block end>", "this does not fit the indentation above", _SAME_COLUMN, False),
    (r"expected ',' or '(.)'", "',' or '{0}' is missing", "close the bracket, or separate the items by ','", False),
    (r"expected the node content", "a value is missing", _QUOTE_IT + " if this is meant as text", False),
    (
        r"unknown escape character '(.+)'$",
        "there is no escape \\{0} in double quotes",
        "write '\\\\' for a backslash, or use single quotes",
        False,
    ),
    (
        r"escape sequence of (\d)",
        "this escape takes {0} hexadecimal digits",
        "such as \\x41 or \\u4E2D",
        False,
    ),
    (r"sequence entries are not allowed", "a list item does not belong here", "begin it on a line of its own", False),
    (r"mapping keys are not allowed", "a key does not belong here", _SAME_COLUMN, False),
    (
        r"block scalar.*(chomping|line break|indicator)",
        "after '|' or '>' the text begins on the next line",
        f"{_QUOTE_IT} if the '|' or '>' is meant as text",
        False,
    ),
    (
        r"more indented follow up",
        "the blank lines above are indented more",
        "remove their spaces",
        False,
    ),
    (r"scanning an? alias", "text cannot begin with '*'", f"{_QUOTE_IT}; aliases are not used here", True),
    (r"scanning an? anchor", "text cannot begin with '&'", f"{_QUOTE_IT}; anchors are not used here", True),
    (
        r"(?:scanning|parsing) an? tag|tag handle",
        "text cannot begin with '!'",
        f"{_QUOTE_IT}; tags are not used here",
        True,
    ),
    (r"directive|version", "YAML directives are not used here", "delete the line that begins with '%'", False),
    (r"document", "a second document begins here", "one file holds one document", False),
    (r"unexpected ':'", "a ':' inside brackets without a space after it", _QUOTE_IT, False),
)


# A value that begins with a sign of YAML, after an optional '- ' and key.
_SIGN_FIRST = re.compile(r"\s*(?:- +)*(?:[^\s:'\"]+: +)?(?P<sign>[!&*])")


def plain_words(error: MarkedYAMLError, source: Source) -> Problem:
    """A syntax error as a problem. What is not in the table keeps the parser's own words."""
    mark, began = error.problem_mark or error.context_mark, error.context_mark
    line, _ = source.line_column(mark.index)
    sign = _SIGN_FIRST.match(source.line(line))
    if sign:
        # `when: !(a > b)`: the parser complains about what comes after the sign; the sign is the mistake.
        place = source.starts[line - 1] + sign.start("sign")
        return source.problem(place, place + 1, f"text cannot begin with '{sign['sign']}'", _QUOTE_IT)
    complaint = f"{error.context or ''}: {error.problem or ''}"
    if "expected ',' or" in complaint and began is not None and source.line_column(began.index)[0] < line:
        return source.problem(began.index, began.index + 1, "the bracket that opens here is never closed", "close it")
    for pattern, what, hint, at_start in _WORDS:
        found = re.search(pattern, complaint, re.DOTALL)
        if found:
            place = began.index if at_start and began is not None else mark.index
            return source.problem(place, place + 1, what.format(*found.groups()), hint)
    return source.problem(mark.index, mark.index + 1, f"not YAML: {error.problem or error.context}", _SAME_COLUMN)
