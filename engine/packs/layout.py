"""The one layout of YAML files: the same words, in the same places everywhere.

Two spaces a level, lists indented below their key, `{a: b, c: [d]}` on one line, at most one empty line, keys of
blocks in the order of the reference, comments behind neighbouring lines in one column. What stays the author's:
brackets or blocks, the order within brackets and of names that people chose, the words of every text, line breaks in
long texts. Single quotes become double ones where that changes nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from pydantic import BaseModel

from engine.errors import PackError, cells
from engine.packs.reading import Document, parse
from engine.packs.shape import keys_at
from engine.packs.tree import HEADER, Node, Row, comments, tree

WIDTH = 120
"""Brackets that stood on several lines come onto one where that has no more characters."""
_ALIGNED = 100
"""Behind a longer line a comment stands by itself."""


class Line(NamedTuple):
    """One line: what it says, and the comment behind it. `kept`: an empty line that is part of a text."""

    code: str
    comment: str = ""
    kept: bool = False


def laid_out(document: Document, model: type[BaseModel]) -> str:
    """The file in the one layout: the same data, and every comment. `model` is what files of its kind may hold.

    Raises PackError where that cannot be done (a key over several lines): the file is then best left as it is.
    """
    root = tree(document.source.content)
    _ordered(root, model)
    content = "\n".join(_aligned(_file(root))) + "\n"
    if not _same(document, content):
        hint = "write it in the form that docs/packs.md shows, without '?' keys and '|+' texts"
        raise PackError([document.problem((), "this file is written in a way that cannot be laid out", hint)])
    return content


def _same(document: Document, content: str) -> bool:
    """Whether the new file says what the old one says, in data and in comments."""
    try:
        data = parse(content).data
    except PackError:
        return False
    return bool(data == document.data) and sorted(comments(content)) == sorted(comments(document.source.content))


# Order


def _ordered(node: Node, model: type[BaseModel], path: tuple[str | int, ...] = ()) -> None:
    """Puts the keys of blocks in the order in which the model has them; what heads the file stays at its head."""
    rows = node.rows or []
    for number, row in enumerate(rows):
        _ordered(row.value, model, (*path, _name(row.key) if node.keyed else number))
    if not node.keyed or node.flow or not rows:
        return
    known = {key: place for place, key in enumerate(("format", *keys_at(model, path)))}
    if len(known) == 1 or any(_name(row.key) not in known for row in rows):
        return
    head = rows[0] if node.around is None else Row(0, "", node, node)
    above, head.above = head.above, []
    rows.sort(key=lambda row: known[_name(row.key)])
    rows[0].above = above + rows[0].above


def _name(key: str) -> str:
    return key[1:-1] if key[:1] in ("'", '"') else key


# Lines


def _file(root: Node) -> Iterator[Line]:
    lines = [*_block(root, 0)] if not root.flow or _spread(root, 0) else [Line(_inline(root))]
    yield from _single_gaps([*lines, *(Line("", text) for text in root.tail)])


def _single_gaps(lines: Iterable[Line]) -> Iterator[Line]:
    """The lines without empty ones at the ends, and with one at most between two."""
    before = Line("")
    waiting: list[Line] = []
    for line in lines:
        if any(line):
            yield from waiting if any(before) else []
            yield line
            waiting, before = [], line
        else:
            waiting = [line]


def _block(node: Node, indent: int) -> Iterator[Line]:
    """The rows of a collection, each on lines of its own. The tail of the root is left to the file."""
    for number, row in enumerate(node.rows or ()):
        lines = [*_row(row, indent, keyed=node.keyed)]
        above = [*row.above]
        while not node.keyed and lines and not lines[0].code:
            above.append(lines.pop(0).comment.strip())  # what stood above the first key of a list's row
        while not number and above and not above[0]:
            above.pop(0)
        yield from (Line("", text and " " * indent + text) for text in above)
        yield from lines
    if node.around is not None:
        yield from (Line("", text and " " * indent + text) for text in node.tail)


def _row(row: Row, indent: int, *, keyed: bool) -> Iterator[Line]:
    """One row. Of a line that is a comment alone, `comment` holds it with its indent."""
    value, lead = row.value, " " * indent + (f"{_requoted(row.key)}:" if keyed else "-")
    if value.rows is None:
        first, *rest = _scalar(value, indent + 2)
        shown = first or ("" if keyed else "null")
        yield Line(f"{lead} {shown}".rstrip(), row.beside)
        yield from (Line(line, kept=True) for line in rest)
    elif value.flow and not _spread(value, len(lead) + 1):
        yield from _in_brackets(row, lead, indent)
    elif keyed:
        yield Line(lead, row.beside)
        yield from _block(value, indent + 2)
    else:
        lines = [*_block(value, indent + 2)]
        at = next(number for number, line in enumerate(lines) if line.code)
        yield from lines[:at]
        yield Line(lead + lines[at].code[indent + 1 :], lines[at].comment)
        yield from lines[at + 1 :]
        if row.beside:
            yield Line("", " " * (indent + 2) + row.beside)


def _in_brackets(row: Row, lead: str, indent: int) -> Iterator[Line]:
    """Brackets behind the key, or below it where they stood there and the line would be long."""
    code = f"{lead} {_inline(row.value)}"
    if row.value.apart and len(code) > WIDTH:
        yield Line(lead)
        code = " " * (indent + 2) + _inline(row.value)
    yield Line(code, row.beside)


def _spread(node: Node, column: int) -> bool:
    """Whether brackets become a block: they hold comments or long texts, or are too long for one line."""
    if not node.rows:
        return False
    if any(_holds_lines(row) for row in node.rows) or node.tail:
        return True
    return node.wide and column + len(_inline(node)) > WIDTH


def _holds_lines(row: Row) -> bool:
    value = row.value
    if row.above or row.beside or value.tail or "\n" in value.raw:
        return True
    return any(_holds_lines(each) for each in value.rows or ())


def _inline(node: Node) -> str:
    if node.rows is None:
        return _requoted(node.raw) or "null"
    if node.keyed:
        return "{" + ", ".join(f"{_requoted(row.key)}: {_inline(row.value)}" for row in node.rows) + "}"
    return "[" + ", ".join(_inline(row.value) for row in node.rows) + "]"


# Scalars


def _scalar(node: Node, indent: int) -> Sequence[str]:
    """The lines of a scalar: the first goes behind its key, the others stand at `indent`."""
    if node.style in ("|", ">"):
        return _block_scalar(node, indent)
    first, *rest = _requoted(node.raw).split("\n")
    return [first.rstrip(), *((" " * indent + line.strip(" \t")).rstrip() for line in rest)]


def _block_scalar(node: Node, indent: int) -> Sequence[str]:
    header, _, body = node.raw.partition("\n")
    found = HEADER.fullmatch(header)
    assert found is not None, "a block scalar has a header"
    digits = re.sub("[^0-9]", "", found["signs"])
    lines = body.split("\n")
    full = [line for line in lines if line.strip(" ")]
    holder = node.around.holder.column if node.around else 0
    cut = holder + int(digits) if digits else min((len(line) - len(line.lstrip(" ")) for line in full[:1]), default=0)
    while lines and not lines[-1].strip(" "):
        lines.pop()
    signs = re.sub("[0-9]", "", found["signs"]) + ("2" if digits else "")
    comment = f"  {found['rest'].strip()}" if found["rest"].strip() else ""
    return [f"{found['style']}{signs}{comment}", *(" " * indent + line[cut:] if line[cut:] else "" for line in lines)]


def _requoted(raw: str) -> str:
    """Text in single quotes in double ones, where nothing of it has a meaning there."""
    if raw[:1] != "'" or any(sign in raw for sign in '"\\\n'):
        return raw
    return '"' + raw[1:-1].replace("''", "'") + '"'


# Comments in one column


def _aligned(lines: Iterable[Line]) -> Iterator[str]:
    """The lines as text: comments behind neighbouring ones begin in one column."""
    for joins, run in groupby(lines, key=lambda line: bool(line.code and line.comment and len(line.code) <= _ALIGNED)):
        rows = list(run)
        column = max(map(_width, (row.code for row in rows))) + 2 if joins else 0
        for code, comment, _ in rows:
            gap = max(2, column - _width(code)) if code else 0
            yield code + " " * gap + comment if comment else code


def _width(code: str) -> int:
    return sum(map(cells, code))
