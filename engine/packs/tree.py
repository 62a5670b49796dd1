"""A YAML file as a person wrote it: its values as they are spelt, and every comment at what it is about.

A comment behind a value belongs to that value. One on a line of its own belongs to what comes next; where it is
indented further than that, it belongs to the end of the block that it is indented like. An empty line belongs to what
comes next. Only what `reading` accepts comes here: one document without anchors, aliases and tags.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml._yaml import CParser

from engine.packs.text import Source

_COMMENT = re.compile(r"#[^\n]*")
_BREAK = re.compile(r"\r\n|\r")

HEADER = re.compile(r"(?P<style>[|>])(?P<signs>[-+0-9]*)(?P<rest>[^\n]*)")
"""The first line of a block scalar, which may end in a comment."""


@dataclass(slots=True, eq=False)
class Node:
    """A value. `raw` is a scalar as spelt, `style` that of YAML; `keyed` tells a mapping from a list.

    `flow` is a collection in brackets, `wide` one whose brackets stand on several lines, `apart` one that begins on
    another line than its key. `tail` are the comments
    behind its last row. `start`, `end` (of scalars and brackets) and `column` are where it stood.
    """

    start: int
    end: int
    column: int
    raw: str = ""
    style: str = ""
    rows: list[Row] | None = None
    keyed: bool = False
    flow: bool = False
    wide: bool = False
    apart: bool = False
    tail: list[str] = field(default_factory=list)
    around: Row | None = None


@dataclass(slots=True, eq=False)
class Row:
    """One entry of a collection: its key as spelt ("" in a list) and its value.

    `above` are the lines before it: comments, and "" for an empty line. `beside` is the comment on its own line.
    """

    start: int
    key: str
    value: Node
    holder: Node
    key_end: int = -1
    above: list[str] = field(default_factory=list)
    beside: str = ""


def tree(content: str) -> Node:
    """The root of a file that can be read."""
    source = Source("", _BREAK.sub("\n", content))
    reader = _Reader(source)
    root = reader.root()
    _Placing(source, root, reader.spans).place()
    return root


def comments(content: str) -> list[str]:
    """All comments of a file, in their order, wherever they stand."""
    source = Source("", _BREAK.sub("\n", content))
    reader = _Reader(source)
    reader.root()
    found = list(_comments(source.content, reader.spans))
    for start, end in reader.spans:
        header = HEADER.match(source.content, start, end)
        if header and header["rest"].lstrip().startswith("#"):
            found.append(header.start("rest") + header["rest"].index("#"))
    return [source.content[at:].partition("\n")[0].rstrip() for at in sorted(found)]


def _comments(content: str, spans: list[tuple[int, int]]) -> Iterator[int]:
    """Where each comment begins: between the scalars, whose own # is text."""
    begin = 0
    for start, end in [*sorted(spans), (len(content),) * 2]:
        if start >= begin:
            yield from (found.start() for found in _COMMENT.finditer(content, begin, start))
            begin = end


class _Reader:
    """The events of the parser to nodes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._events: Iterator[Any] = iter(CParser(source.content).get_event, None)
        self.spans: list[tuple[int, int]] = []
        """Where the scalars stand."""

    def root(self) -> Node:
        next(self._events)
        next(self._events)
        return self._node(next(self._events))

    def _node(self, event: Any) -> Node:
        start, end = event.start_mark.index, event.end_mark.index
        node = Node(start, end, event.start_mark.column)
        if isinstance(event, yaml.ScalarEvent):
            self.spans.append((start, end))
            node.raw, node.style = self._source.content[start:end], event.style or ""
            return node
        node.rows, node.flow = [], bool(event.flow_style)
        node.keyed = isinstance(event, yaml.MappingStartEvent)
        after = next(self._events)
        while not isinstance(after, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            node.rows.append(self._row(node, after))
            after = next(self._events)
        node.end = _end(after)
        node.wide = node.flow and "\n" in self._source.content[start : node.end]
        return node

    def _row(self, holder: Node, event: Any) -> Row:
        if not holder.keyed:
            value = self._node(event)
            row = Row(value.start, "", value, holder)
        else:
            key = self._node(event)
            value = self._node(next(self._events))
            row = Row(key.start, key.raw, value, holder, key.end)
            value.apart = value.flow and "\n" in self._source.content[key.end : value.start]
        value.around = row
        return row


class _Placing:
    """Comments and empty lines to the rows and nodes that they belong to."""

    def __init__(self, source: Source, root: Node, spans: list[tuple[int, int]]) -> None:
        self._source = source
        self._root = root
        self._spans = spans
        self._rows = list(_rows(root))
        self._starts = [row.start for row in self._rows]
        self._ends = sorted(_ends(self._rows), key=lambda pair: pair[0])
        self._ends_at = [at for at, _ in self._ends]

    def place(self) -> None:
        for at in _comments(self._source.content, self._spans):
            text = self._source.content[at : self._line_end(at)].rstrip()
            row = self._on_its_line(at)
            if row is None:
                lines = self._owner(at)
                lines += [*self._gap(at), text]
            elif row.beside:
                row.above.append(text)
            else:
                row.beside = text
        seen: set[int] = set()
        for row in self._rows:
            # A mapping in a list begins where its first key does: the line above is above the list's row.
            if row.start not in seen and not row.holder.flow:
                row.above += self._gap(row.start)
            seen.add(row.start)

    def _line_end(self, at: int) -> int:
        found = self._source.content.find("\n", at)
        return len(self._source.content) if found < 0 else found

    def _gap(self, at: int) -> list[str]:
        """An empty line where one stands above the line of `at`."""
        line, _ = self._source.line_column(at)
        return [""] if line > 1 and not self._source.line(line - 1).strip() else []

    def _on_its_line(self, at: int) -> Row | None:
        """The row behind which the comment stands."""
        place = bisect_right(self._ends_at, at) - 1
        if place < 0 or "\n" in self._source.content[self._ends_at[place] : at]:
            return None
        return self._ends[place][1]

    def _owner(self, at: int) -> list[str]:
        """The lines that a comment on its own line joins."""
        after = bisect_right(self._starts, at)
        following = self._rows[after] if after < len(self._rows) else None
        before = self._rows[after - 1] if after else None
        for node in _holders(before):
            if node.flow and node.start < at < node.end:
                if following is not None and following.start < node.end:
                    return following.above
                return node.tail if node.rows or node.around is None else node.around.above
        if following is not None and following.holder.flow and following.holder.start < at:
            return following.above
        if following is None or (not following.above and self._column(at) > following.holder.column):
            return self._end_of(before, following, self._column(at))
        return following.above

    def _end_of(self, before: Row | None, following: Row | None, column: int) -> list[str]:
        """The tail of the innermost block that ended and is indented no further than the comment."""
        least = -1 if following is None else following.holder.column
        ended = [node for node in _holders(before) if not node.flow and node.column > least]
        # What has a comment behind it already is closed for blocks inside it.
        still = max((place for place, node in enumerate(ended) if node.tail), default=0)
        fits = [node for node in ended[still:] if node.column <= column]
        if not fits:
            return self._root.tail if following is None else following.above
        # A list may begin in the column of its key: then the comment is the outer block's.
        return [node for node in fits if node.column == fits[0].column][-1].tail

    def _column(self, at: int) -> int:
        return self._source.line_column(at)[1] - 1


def _end(event: Any) -> int:
    """The index behind what an event is about."""
    end: int = event.end_mark.index
    return end


def _rows(node: Node) -> Iterator[Row]:
    """Every row in the order of the file, outer ones first."""
    for row in node.rows or ():
        yield row
        yield from _rows(row.value)


def _ends(rows: list[Row]) -> Iterator[tuple[int, Row]]:
    """Where a row, or its key, ends: a comment behind it on the line is about it."""
    for row in rows:
        if row.key_end >= 0:
            yield row.key_end, row
        if (row.value.rows is None and row.value.raw) or row.value.flow:
            yield _last(row.value), row


def _last(node: Node) -> int:
    """The index behind the last character that is no space: block scalars run on to the next line."""
    return node.start + len(node.raw.rstrip()) if node.style in ("|", ">") else node.end


def _holders(row: Row | None) -> Iterator[Node]:
    """The collections around a row and, before them, the empty one in it; innermost first."""
    if row is not None and row.value.rows is not None and not row.value.rows:
        yield row.value
    while row is not None:
        yield row.holder
        row = row.holder.around
