"""What a part of a condition asks about: its comparisons, windows, fields, and the texts and ages it names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from engine.expr import (
    BOOL,
    DURATION,
    TEXT,
    And,
    Call,
    Expression,
    Field,
    Literal,
    Node,
    Not,
    Or,
    Window,
    expression,
    walk,
)
from engine.money import Money
from engine.mutation.measures import MEASURED, SECOND, as_written

COMPARED = ("<", "<=", ">", ">=", "==")

Sides = tuple[Expression, Expression]
"""The two sides of a comparison."""


@dataclass(frozen=True)
class Part:
    """A part of a condition that variants aim at: its comparisons, and the windows it reads."""

    comparisons: tuple[Sides, ...]
    inner: tuple[Sides, ...]
    """The comparisons that its windows make of each earlier event."""
    paths: frozenset[str]
    windows: tuple[Window, ...]
    texts: Mapping[str, tuple[str, ...]]
    peers: Mapping[str, frozenset[str]]
    ages: tuple[int, ...]

    @classmethod
    def of(cls, trees: Iterable[Node]) -> Part:
        """All that some trees ask about."""
        made = [expression(tree) for tree in trees]
        windows = tuple(dict.fromkeys(window for each in made for window in each.windows))
        outer = [node for each in made for node in walk(each.tree)]
        inner = [node for window in windows for each in _conditions(window) for node in walk(each.tree)]
        texts: dict[str, dict[str, None]] = {}
        peers: dict[str, frozenset[str]] = {}
        for call in (node for node in [*outer, *inner] if isinstance(node, Call)):
            paths = frozenset(arg.path for each in call.args for arg in walk(each) if isinstance(arg, Field))
            for path in paths:
                texts.setdefault(path, {}).update(dict.fromkeys(_texts(call)))
                peers[path] = peers.get(path, frozenset()) | paths - {path}
        return cls(
            _sides(outer),
            _sides(inner),
            frozenset(path for each in made for path in each.paths),
            windows,
            {path: tuple(found) for path, found in texts.items()},
            peers,
            _ages(windows, outer),
        )


def _ages(windows: Iterable[Window], outer: Iterable[Node]) -> tuple[int, ...]:
    """How old an earlier event may be for a window or a comparison to change its mind, in microseconds."""
    edges = [edge for window in windows for edge in (window.length, window.gap) if edge]
    told = [node.value for node in outer if isinstance(node, Literal) and node.type == DURATION and node.value > 0]
    return tuple(dict.fromkeys([*edges, *told]))


def _sides(nodes: Iterable[Node]) -> tuple[Sides, ...]:
    """The comparisons of numbers, amounts and times among some nodes."""
    calls = (node for node in nodes if isinstance(node, Call) and node.row.name in COMPARED)
    found = dict.fromkeys(call.args for call in calls if call.args[0].type.name in MEASURED)
    return tuple((expression(left), expression(right)) for left, right in found)


def _texts(call: Call) -> Iterator[str]:
    """The texts that a question compares with."""
    for each in call.args:
        if isinstance(each, Literal) and each.type == TEXT:
            yield str(each.value)
        elif isinstance(each, Literal) and each.type.element == TEXT:
            yield from map(str, each.value)


def _conditions(window: Window) -> Iterator[Expression]:
    """The conditions over earlier events that a window has."""
    if window.argument is not None:
        yield window.argument
    if window.where is not None:
        yield window.where
    yield from (step.where for step in window.steps if step.where is not None)


def paths_of(windows: Iterable[Window]) -> list[str]:
    """The fields of earlier events that windows look at, keys left out."""
    return sorted({path for window in windows for each in _conditions(window) for path in each.paths})


@lru_cache(maxsize=64)
def seen_by(windows: tuple[Window, ...]) -> frozenset[str]:
    """Every field that windows may look at."""
    keys = {path for window in windows for path in window.by}
    accounts = {path for window in windows for each in window.groups for party in each.links.parties
                for path in (party.account, *(path for share in party.shares for path in share.by))}  # fmt: skip
    return frozenset(keys | accounts | set(paths_of(windows)))


_NEAREST = {"==": 0, ">=": 0, "<=": 0, "in": 0, ">": 1, "<": -1}
"""How far from the written value one lies that meets a comparison."""


def meeting(node: Node) -> Iterator[tuple[str, Any]]:
    """Values of fields with which a condition is answered with yes, as far as they are plain to see."""
    match node:
        case And(items=items):
            for item in items:
                yield from meeting(item)
        case Or(items=items):
            yield from meeting(items[0])
        case Not(item=Field(path=path)):
            yield path, False
        case Field(path=path) if node.type == BOOL:
            yield path, True
        case Call(args=(Field(path=path), Literal() as written)) if node.row.name in _NEAREST:
            yield path, _beside(written, _NEAREST[node.row.name])


def _beside(written: Literal, steps: int) -> Any:
    """The value so many steps from a written one, as an event writes it; of a list its first."""
    if written.type.element is not None:
        return written.value[0]
    if written.type.name not in MEASURED:
        return written.value
    if isinstance(written.value, Money):
        return as_written(written.value.minor + steps, "money", written.value.currency)
    step = SECOND if written.type.name in ("duration", "instant") else 1
    return as_written(written.value + steps * step, written.type.name)
