"""YAML 1.2 files to plain data, with the place of every key and value.

Only the safe middle of YAML is taken. Anchors, aliases, merge keys and tags are refused altogether: nothing can
then grow, loop or build objects. Values follow the core schema (YAML 1.2.2, 10.3.2) with three cures for silent
surprises: numbers are `int` or `Decimal`, never binary floats; digits with a leading zero stay text (a card's
`012345` is not 12345); dates, `yes`, `no` and `5.00 CNY` are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn, TypeAlias
from weakref import WeakValueDictionary

import yaml
from yaml._yaml import CParser

from engine.errors import PackError, Problem
from engine.packs.folder import contents, decoded, is_suite, shown_name, yaml_files
from engine.packs.tabs import misplaced_tab
from engine.packs.text import Source, Text
from engine.packs.words import ALIASES, ANCHORS, TABS, plain_words

MAX_DEPTH = 32
MAX_NODES = 50_000
MAX_DIGITS = 40
MAX_PROBLEMS = 100
"""Per file; a file with more is most likely not meant to be a pack."""

_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None, "true": True, "True": True, "TRUE": True}
_WORDS |= {"false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_DECIMAL = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NUMBERS_BEGIN = frozenset("+-.0123456789")


Loc: TypeAlias = tuple[str | int, ...]
"""A way into a document: keys and list indexes."""


@dataclass(slots=True)
class Place:
    """Where a value stands (indexes into the source), where its key stands, and the places inside it."""

    start: int
    end: int
    inside: dict[str | int, Place]
    key: tuple[int, int] | None = None


_NOTHING: dict[str | int, Place] = {}
"""What is inside of a value that holds no others. One for all of them, as most values of a file are such."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Document:
    """One YAML file: plain `dict`, `list`, `int`, `Decimal`, `bool`, `None` and `Text`, and where everything stands.

    `body` holds the bytes as read; `hash` is their SHA-256. `path` and `root` are None for text from no file.
    It is shared, so nobody may change what is in it. `problems` are those of the YAML itself: only `read_through` gives
    a document that has some. Its `data` then holds what could be read: the first of two equal keys, None for a value
    that was `refused` (the index where it begins), and None altogether where the reading broke off.
    """

    file: str
    data: Any
    body: bytes = field(repr=False)
    source: Source = field(repr=False)
    place: Place = field(repr=False)
    path: Path | None = None
    root: Path | None = None
    problems: tuple[Problem, ...] = field(default=(), repr=False)
    refused: frozenset[int] = field(default=frozenset(), repr=False)

    @property
    def hash(self) -> str:
        """SHA-256 of the file, hex."""
        return sha256(self.body).hexdigest()

    def problem(self, loc: Loc, what: str, hint: str = "", *, key: bool = False) -> Problem:
        """A problem at the value under `loc` (at its key with `key`), or at the nearest value around it."""
        place, found = self._walk(loc)
        start, end = place.key if key and found and place.key else (place.start, place.end)
        return self.source.problem(start, end, what, hint)

    def stands(self, loc: Loc) -> bool:
        """Whether the file has a value under `loc`."""
        return self._walk(loc)[1]

    def raw(self, loc: Loc) -> str:
        """The characters of the file that stand for the value under `loc`. Raises KeyError when there is none."""
        place, found = self._walk(loc)
        if not found:
            raise KeyError(loc)
        return self.source.content[place.start : place.end]

    def _walk(self, loc: Loc) -> tuple[Place, bool]:
        place = self.place
        for part in loc:
            inner = place.inside.get(part)
            if inner is None:
                return place, False
            place = inner
        return place, True


_held: WeakValueDictionary[tuple[str, bytes], Document] = WeakValueDictionary()
"""Documents that some rulebook still holds, by name and bytes: a reload parses only the files that have changed.
Parsing is most of the time that a load takes."""


def read(path: Path, *, root: Path, name: str = "") -> Document:
    """One YAML file below `root`, shown under `name` where one is given. Raises PackError with every problem found."""
    document = read_through(path, root=root, name=name)
    if document.problems:
        raise PackError(document.problems)
    return document


def read_through(path: Path, *, root: Path, name: str = "") -> Document:
    """One YAML file below `root`, with the problems of its YAML in `Document.problems`, so that its shape and
    conditions can be looked at all the same. Raises PackError when it holds no text."""
    name = name or shown_name(path, root)
    body = contents(path, root=root, name=name)
    held = _held.get((name, body))
    if held is not None:
        return held if (held.path, held.root) == (path, root) else replace(held, path=path, root=root)
    _held[name, body] = document = _Reader(Source(name, decoded(body, name))).document(body, path, root)
    return document


def read_all(root: Path) -> tuple[Document, ...]:
    """Every `*.yaml` and `*.yml` below the folder `root`, by name; hidden files and folders are passed over, and suites
    of tests.

    `root` may also be one file. Raises PackError with the problems of all files.
    """
    problems: list[Problem] = []
    documents: list[Document] = []
    if root.is_file():
        return (read(root, root=root.parent),)
    for path in yaml_files(root, problems):
        if is_suite(path):
            continue
        try:
            documents.append(read(path, root=root))
        except PackError as error:
            problems += error.problems
    if problems:
        raise PackError(problems)
    return tuple(documents)


def read_beside(document: Document, name: Text, most: int) -> tuple[Source, bytes]:
    """The UTF-8 text file `name` beside a document, as text and as bytes. Raises PackError.

    It must lie below the document's root and have at most `most` bytes.
    """
    path = document.path.parent / name if document.path else None
    if path is None or document.root is None or not path.is_file():
        raise PackError([name.problem(0, f"there is no file '{name}' beside this one", width=len(name))])
    shown = shown_name(path, document.root)
    body = contents(path, root=document.root, name=shown, most=most)
    return Source(shown, decoded(body, shown)), body


def parse(content: str, file: str = "<text>") -> Document:
    """A document from text that comes from no file. Raises PackError as `read` does."""
    body = content.encode("utf-8", "surrogatepass")
    document = _Reader(Source(file, decoded(body, file))).document(body)
    if document.problems:
        raise PackError(document.problems)
    return document


class _StopError(Exception):
    """The rest of the file is not worth reading; the problems say why."""


class _Reader:
    """Parser events to data, once per file. Problems pile up; only syntax and limits end the reading."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.refused: set[int] = set()
        self.nodes = 0
        self.spans: list[tuple[int, int]] = []

    def document(self, body: bytes, path: Path | None = None, root: Path | None = None) -> Document:
        data, place = self._read()
        problems, refused = tuple(self.problems), frozenset(self.refused)
        return Document(self.source.file, data, body, self.source, place, path, root, problems, refused)

    def _read(self) -> tuple[Any, Place]:
        data, place = None, Place(0, 0, _NOTHING)
        try:
            data, place = self._single(iter(CParser(self.source.content).get_event, None))
        except _StopError:
            pass
        except yaml.MarkedYAMLError as error:
            self.problems.append(plain_words(error, self.source))
        return data, place

    def _single(self, events: Iterator[Any]) -> tuple[Any, Place]:
        next(events)
        start = next(events)
        if isinstance(start, yaml.StreamEndEvent):
            self._refuse_at(0, 1, "the file is empty", "delete it, or write a pack into it")
            raise _StopError
        if start.tags or start.version not in (None, (1, 2)):
            at = self.source.content.index("%")
            self._refuse_at(at, at + 1, "YAML directives are not used here", "delete the lines that begin with '%'")
        data, place = self._value(events, next(events), 1)
        if not isinstance(data, dict | list) and not self.problems:
            self._refuse_at(place.start, place.end, "the file holds no keys", "write it as 'key: value' lines")
            raise _StopError
        next(events)
        after = next(events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._stop(after, "a second document begins here", "one file holds one document: split the file at '---'")
        tab = misplaced_tab(self.source.content, self.spans)
        if tab is not None:
            self._note(tab, tab + 1, *TABS)
        return data, place

    def _value(self, events: Iterator[Any], event: Any, depth: int) -> tuple[Any, Place]:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self._stop(event, f"more than {MAX_NODES:,} values in one file", "split the file")
        if depth > MAX_DEPTH:
            self._stop(event, f"nested more than {MAX_DEPTH} levels deep", "packs need no such depth: flatten it")
        self._refuse_magic(event)
        if isinstance(event, yaml.ScalarEvent):
            start, end = _span(event)
            data, place = self._scalar(event, start, end), Place(start, end, _NOTHING)
        elif isinstance(event, yaml.MappingStartEvent):
            data, place = self._mapping(events, event, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            data, place = self._sequence(events, event, depth)
        else:
            data, place = None, Place(*_span(event), _NOTHING)
        return (None if place.start in self.refused else data), place

    def _mapping(self, events: Iterator[Any], start: Any, depth: int) -> tuple[Any, Place]:
        begins = _span(start)[0]
        place = Place(begins, begins + 1, {})
        data: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key, key_place = self._value(events, event, depth + 1)
            value, value_place = self._value(events, next(events), depth + 1)
            value_place.key = (key_place.start, key_place.end)
            if not place.inside and not start.flow_style:
                place.end = key_place.end
            if key == "<<":
                self._note(key_place.start, key_place.end, "merge keys ('<<') are not used here", "write the keys out")
                self.refused.add(place.start)  # nobody knows which keys it has
            elif self._usable(key, key_place, place):
                data[key] = value
                place.inside[key] = value_place
        if start.flow_style:
            place.end = _span(event)[1]
            self.spans.append((place.start, place.end))
        return data, place

    def _usable(self, key: Any, key_place: Place, around: Place) -> bool:
        """Whether `key` is text and new in the mapping `around`; says so where it is not."""
        span = key_place.start, key_place.end
        if not isinstance(key, str):
            if key_place.start not in self.refused:
                self._note(*span, "a key must be text", "put quotes around it")
        elif key in around.inside:
            first = around.inside[key].key
            assert first is not None
            line = self.source.line_column(first[0])[0]
            self._note(*span, f"the key '{key}' stands here twice", f"it is first written in line {line}")
        else:
            return True
        return False

    def _sequence(self, events: Iterator[Any], start: Any, depth: int) -> tuple[Any, Place]:
        begins = _span(start)[0]
        place = Place(begins, begins + 1, {})
        data: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            value, place.inside[len(data)] = self._value(events, event, depth + 1)
            data.append(value)
        if start.flow_style:
            place.end = _span(event)[1]
            self.spans.append((place.start, place.end))
        return data, place

    def _scalar(self, event: Any, start: int, end: int) -> Any:
        value = event.value
        if not event.style and not event.tag:
            return self._plain(value, start, end)
        self.spans.append((start, end))
        if "\0" in value:
            self._refuse_at(start, end, "text holds a NUL character", "delete it")
        return Text.at(value, self.source, start, end, event.style or "")

    def _plain(self, value: str, start: int, end: int) -> Any:
        """The core schema's meaning of a plain scalar."""
        if value in _WORDS:
            return _WORDS[value]
        if value[0] not in _NUMBERS_BEGIN:
            return Text.at(value, self.source, start, end, "")
        if _INTEGER.fullmatch(value) and self._sane(value, start, end):
            return int(value)
        if _BASED.fullmatch(value) and self._sane(value, start, end):
            return int(value, 0)
        if _DECIMAL.fullmatch(value) and self._sane(value, start, end):
            return Decimal(value)
        if _NOT_FINITE.fullmatch(value):
            self._refuse_at(start, end, f"'{value}' is not a number here", "write a number, or put quotes around it")
        return Text.at(value, self.source, start, end, "")

    def _sane(self, value: str, start: int, end: int) -> bool:
        # Decimal('1e999999999') is nine bytes here and a gigabyte as an integer.
        _, _, exponent = value.lower().partition("e") if not value.startswith("0x") else ("", "", "")
        if len(value) <= MAX_DIGITS and len(exponent.lstrip("+-0")) <= 2 and abs(int(exponent or 0)) <= MAX_DIGITS:
            return True
        self._refuse_at(start, end, f"a number of more than {MAX_DIGITS} digits", "put quotes around it if it is text")
        return False

    def _refuse_magic(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._refuse(event, *ALIASES)
            return
        if event.anchor is not None:
            # A list or a mapping is what it is without its anchor; of a scalar, the sign may be meant as text.
            tell = self._refuse_at if isinstance(event, yaml.ScalarEvent) else self._note
            tell(*_span(event), *ANCHORS)
        if event.tag is not None:
            self._refuse(event, "tags ('!name') are not used here", "delete the tag, or put quotes around the text")

    def _refuse(self, event: Any, what: str, hint: str) -> None:
        self._refuse_at(*_span(event), what, hint)

    def _refuse_at(self, start: int, end: int, what: str, hint: str) -> None:
        """A value that cannot be taken as it stands there."""
        self.refused.add(start)
        self._note(start, end, what, hint)

    def _note(self, start: int, end: int, what: str, hint: str) -> None:
        self.problems.append(self.source.problem(start, end, what, hint))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _StopError

    def _stop(self, event: Any, what: str, hint: str) -> NoReturn:
        self._refuse(event, what, hint)
        raise _StopError


def _span(event: Any) -> tuple[int, int]:
    """The index of the first character of what an event is about, and of that after its last."""
    return event.start_mark.index, event.end_mark.index
