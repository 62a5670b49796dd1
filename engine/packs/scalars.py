"""Which character of a YAML file made which character of a string (YAML 1.2.2, chapters 7.3 and 8.1).

The reader tells where a scalar begins and ends and what it says. These functions read the same scalar again and
keep, for every character of the string, its index in the raw text: quotes fall away, escapes shrink, line breaks
fold into spaces, indentation disappears. They run only when a problem is shown, so clearness goes before speed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

Marks: TypeAlias = list[tuple[int, str]]
"""(index in the raw text, character of the string), in the order of the string."""

_BREAK = r"(?:\r\n|\n|\r)"
_BREAKS = re.compile(_BREAK)
_REST_OF_LINE = re.compile(r"[^\r\n]*")
_HEADER = re.compile(rf"[|>](?P<signs>[-+0-9]*)[ ]*(?:#[^\r\n]*)?{_BREAK}?")
_FIRST_TEXT = re.compile(r"(?:\A|(?<=[\r\n]))( *+)[^\r\n]")
_PIECE = re.compile(
    rf"(?P<fold>[ \t]*+{_BREAK}(?P<blank>(?:[ \t]*+{_BREAK})*+)[ \t]*+)"
    rf"|\\{_BREAK}(?P<joined>(?:[ \t]*+{_BREAK})*+)[ \t]*+"
    r"|\\(?P<code>x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8})"
    r"|\\(?P<escape>[^\r\n])"
    r"|(?P<plain>[^\\\s]+|[ \t]+|.)",
    re.DOTALL,
)
_ESCAPES = {"0": "\0", "a": "\a", "b": "\b", "t": "\t", "\t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}
_ESCAPES |= {"e": "\x1b", " ": " ", '"': '"', "/": "/", "\\": "\\", "N": "\x85", "_": "\xa0"}
_ESCAPES |= {"L": "\u2028", "P": "\u2029"}


def scalar_marks(raw: str, style: str, value: str) -> Marks:
    """The marks of the scalar `raw` of a YAML style; `=` stands for text that is not YAML at all."""
    if style == "=":
        return list(enumerate(raw))
    if style in "|>" and style:
        return list(_block(raw, style == ">", value))
    return list(_flow(raw, style))


def end_of(raw: str, style: str, marks: Marks) -> int:
    """The index in the raw text that stands for the place after the last character."""
    if style in ("'", '"'):
        return len(raw) - 1
    if not marks:
        return 0
    place, character = marks[-1]
    return place if character == "\n" and style != "=" else place + 1


def _flow(raw: str, quote: str) -> Iterator[tuple[int, str]]:
    """Plain and quoted scalars, which may run over several lines."""
    at, stop = len(quote), len(raw) - len(quote)
    while at < stop:
        if quote == '"' or raw[at] in " \t\r\n":
            piece = _PIECE.match(raw, at, stop)
            assert piece is not None
            yield from _piece(piece)
            at = piece.end()
        else:
            yield at, raw[at]
            at += 2 if quote == "'" and raw[at] == "'" else 1


def _piece(piece: re.Match[str]) -> Iterator[tuple[int, str]]:
    at = piece.start()
    if piece["fold"] is not None:
        yield from _line_breaks(piece, "blank") if piece["blank"] else [(at, " ")]
    elif piece["joined"] is not None:
        yield from _line_breaks(piece, "joined")
    elif piece["code"] is not None:
        yield at, chr(int(piece["code"][1:], 16))
    elif piece["escape"] is not None:
        yield at, _ESCAPES[piece["escape"]]
    else:
        yield from enumerate(piece["plain"], at)


def _line_breaks(piece: re.Match[str], group: str) -> Iterator[tuple[int, str]]:
    start, end = piece.span(group)
    return ((found.start(), "\n") for found in _BREAKS.finditer(piece.string, start, end))


def _block(raw: str, folded: bool, value: str) -> Iterator[tuple[int, str]]:
    """Literal `|` and folded `>` scalars, line by line, as the reader's own scanner goes."""
    header = _HEADER.match(raw)
    assert header is not None
    # The indentation is what the file has before the first line and the string has not.
    indent = _lead(raw[header.end() :]) - _lead(value)
    breaks, at, column = _blank_lines(raw, header.end(), indent)
    ended: int | None = None
    while column == indent and at < len(raw):
        yield from ((place, "\n") for place in breaks)
        spaced = raw[at] in " \t"
        line = _REST_OF_LINE.match(raw, at)
        assert line is not None
        yield from enumerate(line[0], at)
        ended = line.end() if line.end() < len(raw) else None
        breaks, at, column = _blank_lines(raw, _after_break(raw, line.end()), indent)
        if column != indent or at >= len(raw):
            break
        if not folded or spaced or raw[at] in " \t":
            yield line.end(), "\n"
        elif not breaks:
            yield line.end(), " "
    if "-" not in header["signs"] and ended is not None:
        yield ended, "\n"
    if "+" in header["signs"]:
        yield from ((place, "\n") for place in breaks)


def _blank_lines(raw: str, at: int, indent: int) -> tuple[list[int], int, int]:
    """The breaks of the blank lines from `at` on, and where the next line's text begins: index and column."""
    breaks: list[int] = []
    while True:
        column = 0
        while column < indent and raw[at : at + 1] == " ":
            at, column = at + 1, column + 1
        if raw[at : at + 1] not in ("\r", "\n"):
            return breaks, at, column
        breaks.append(at)
        at = _after_break(raw, at)


def _after_break(raw: str, at: int) -> int:
    found = _BREAKS.match(raw, at)
    return found.end() if found else at


def _lead(lines: str) -> int:
    """Spaces before the first line that holds more than spaces; without one, the longest run of spaces."""
    found = _FIRST_TEXT.search(lines)
    if found:
        return len(found[1])
    return max((len(run) for run in re.findall(r" +", lines)), default=0)
