"""XML from elsewhere, record by record: nothing is expanded, loaded or kept that the reader did not ask for.

A document type, and with it every entity declaration, is refused: no list needs one, and both "billion laughs" and
files read through entities begin there (OWASP, "XML External Entity Prevention").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from engine.errors import PackError, Problem

MAX_DEPTH = 32
_CHUNK = 1 << 20


@dataclass(slots=True)
class Record:
    """An element by its name without namespace: its attributes, its text, what is in it, and its line."""

    tag: str
    attributes: dict[str, str]
    line: int
    inside: list[Record] = field(default_factory=list)
    text: str = ""

    def all(self, *path: str) -> Iterator[Record]:
        """The elements at the end of a path."""
        for each in self.inside:
            if each.tag == path[0]:
                yield from (each,) if len(path) == 1 else each.all(*path[1:])

    def first(self, *path: str) -> str:
        """The text of the first element at the end of a path, without blanks around it; '' where there is none."""
        return next((each.text.strip() for each in self.all(*path)), "")


def records(body: bytes, name: str, tags: frozenset[str]) -> Iterator[Record]:
    """The root without what is in it, then each element named by one of `tags`, whole. Raises PackError."""
    reader = _Reader(name, tags)
    for start in range(0, len(body), _CHUNK):
        reader.feed(body[start : start + _CHUNK], last=start + _CHUNK >= len(body))
        yield from reader.ready
        reader.ready.clear()


class _Reader:
    def __init__(self, name: str, tags: frozenset[str]) -> None:
        self.name, self.tags = name, tags
        self.ready: list[Record] = []
        self.depth = 0
        self.open: list[Record] = []
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._doctype

    def feed(self, chunk: bytes, *, last: bool) -> None:
        try:
            self.parser.Parse(chunk, last)
        except expat.ExpatError as error:
            what = f"this is no whole XML file: {expat.ErrorString(error.code)}"
            raise PackError([self._problem(what, "download it again", error.lineno, error.offset + 1)]) from None

    def _problem(self, what: str, hint: str, line: int = 0, column: int = 0) -> Problem:
        at = line or self.parser.CurrentLineNumber, column or self.parser.CurrentColumnNumber + 1
        return Problem(self.name, *at, what, hint)

    def _doctype(self, *declared: object) -> None:
        del declared
        raise PackError([self._problem("the file declares a document type", "lists are published without one")])

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise PackError([self._problem(f"more than {MAX_DEPTH} elements in each other", "is this the right file?")])
        record = Record(
            _local(tag), {_local(key): value for key, value in attributes.items()}, self.parser.CurrentLineNumber
        )
        if self.depth == 1:
            self.ready.append(record)
        elif self.open or record.tag in self.tags:
            if self.open:
                self.open[-1].inside.append(record)
            self.open.append(record)

    def _end(self, tag: str) -> None:
        del tag
        self.depth -= 1
        if self.open:
            record = self.open.pop()
            if not self.open:
                self.ready.append(record)

    def _text(self, text: str) -> None:
        if self.open:
            self.open[-1].text += text


def _local(name: str) -> str:
    return name.rpartition(" ")[2]
