"""Places in a text file, and strings that know where they stand in one.

A YAML string is rarely what stands in the file: quotes, escapes, folding and indentation lie between. A `Text`
finds, for any offset inside the string, the character of the file that made it, so an error in the middle of a
folded condition still gets a line, a column and a caret.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from engine.errors import Problem
from engine.packs.scalars import end_of, scalar_marks

LONGEST_SHOWN_LINE = 400
"""A source line is shown up to this many characters; a place further right is named without its line."""

_LINE_BREAK = re.compile(r"\r\n|\n|\r")
# A problem is printed to a terminal: control characters of a hostile file must not reach it.
_SHOWN = {code: 0x2400 + code for code in range(0x20) if code != 0x09} | {0x7F: 0x2421}
_SHOWN |= dict.fromkeys((*range(0x80, 0xA0), 0x061C, *range(0x200B, 0x2010), *range(0x2028, 0x202F)), 0xFFFD)
_SHOWN |= dict.fromkeys((*range(0x2060, 0x2070), 0xFEFF), 0xFFFD)


class Source:
    """The text of one file (without a byte order mark) and where its lines begin. Lines and columns count from 1."""

    __slots__ = ("__dict__", "content", "file")

    def __init__(self, file: str, content: str) -> None:
        self.file = file
        self.content = content

    @cached_property
    def starts(self) -> list[int]:
        """The index at which each line begins. A line ends with LF, CR LF or CR, as in YAML 1.2."""
        return [0, *(found.end() for found in _LINE_BREAK.finditer(self.content))]

    def line_column(self, index: int) -> tuple[int, int]:
        """Line and column of the character at `index`."""
        line = bisect_right(self.starts, index)
        return line, index - self.starts[line - 1] + 1

    def line(self, number: int) -> str:
        """One line without its line break."""
        end = self.starts[number] if number < len(self.starts) else len(self.content)
        return self.content[self.starts[number - 1] : end].rstrip("\r\n")

    def problem(self, start: int, end: int, what: str, hint: str = "") -> Problem:
        """A problem that marks the characters from `start` up to `end`, as far as they stand on one line."""
        start = min(start, len(self.content))
        line, column = self.line_column(start)
        rest = len(self.line(line)) - column + 1
        return Problem(self.file, line, column, what, hint, self._shown(line, column), max(1, min(end - start, rest)))

    def _shown(self, line: int, column: int) -> str:
        source = self.line(line).translate(_SHOWN)
        if len(source) <= LONGEST_SHOWN_LINE:
            return source
        return source[:LONGEST_SHOWN_LINE] + "…" if column <= LONGEST_SHOWN_LINE else ""


class Text(str):
    """A string of a YAML file that knows where it stands.

    In pydantic models, declare the field as `Text`, not `str`: pydantic copies a subclass of `str` into a plain
    one. It does so too for a `pattern`: write `Annotated[Text, Form(...)]`; lengths are safe. Methods of `str`
    (`strip`, slices, `+`) return plain strings without a place.
    """

    __slots__ = ("_end", "_source", "_start", "_style")
    _source: Source
    _start: int
    _end: int
    _style: str

    @classmethod
    def at(cls, value: str, source: Source, start: int, end: int, style: str) -> Self:
        """`value` as the scalar between `start` and `end` of `source`.

        `style` is one of YAML's (`'`, `"`, `|`, `>`, `` for plain) or `=` where file and string are the same.
        """
        self = cls(value)
        self._source, self._start, self._end, self._style = source, start, end, style
        return self

    def problem(self, offset: int, what: str, hint: str = "", width: int = 1) -> Problem:
        """A problem at the character `offset` of the string; `offset == len(self)` is the place after its end."""
        places = self.places()
        offset = min(max(offset, 0), len(self))
        start = places[offset]
        last = places[min(offset + max(width, 1), len(self)) - 1] if offset < len(self) else start
        return self._source.problem(start, last + 1, what, hint)

    def places(self) -> list[int]:
        """For each character, and for the end, the index in the source of what made it."""
        raw = self._source.content[self._start : self._end]
        marks = scalar_marks(raw, self._style, self)
        assert "".join(character for _, character in marks) == self, "a YAML string cannot be traced to its file"
        return [self._start + place for place, _ in marks] + [self._start + end_of(raw, self._style, marks)]

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy that leaves the process (or a deepcopy) is a plain string: the source is not worth carrying.
        return (str, (str(self),))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(_keep_place, core_schema.str_schema())


def text(value: str) -> Text:
    """A `Text` for a string that comes from no file; its problems name the file '<text>'."""
    return Text.at(value, Source("<text>", value), 0, len(value), "=")


@dataclass(frozen=True, slots=True)
class Form:
    """Annotates a text field that must match a pattern as a whole; `words` tell a person how to write it."""

    pattern: str
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}

    def _check(self, value: str) -> str:
        if re.fullmatch(self.pattern, value) is None:
            raise ValueError(self.words)
        return value


def _keep_place(value: Any, check: Any) -> Text:
    checked: str = check(value)
    return value if isinstance(value, Text) and value == checked else text(checked)
