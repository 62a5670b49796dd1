"""Which windows share a series, and what each asks of it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from hashlib import sha256
from typing import Any, NamedTuple

from engine.expr import Expression, Step, Window
from engine.jcs import canonical
from engine.stores import (
    BUCKETS,
    COUNT,
    DISTINCT,
    FIRST,
    FLAGS,
    LAST,
    LEAST,
    MEAN,
    MOST,
    PERCENTILE,
    RANKED,
    RUNS,
    SPREAD,
    SQUARES,
    STEPS,
    STREAK,
    SUM,
    SUMS,
    VALUES,
    Frame,
    Series,
    absence,
    quantile,
    sequence,
)

_COLUMNS = {
    "sum": SUMS,
    "avg": SUMS,
    "stddev": SQUARES,
    **dict.fromkeys(("min", "max", "median", "quantile", "percentile"), RANKED),
    "share": FLAGS,
    "streak": RUNS,
    "distinct": VALUES,
    "sequence": STEPS,
    "absence": STEPS,
}
_QUESTIONS = {
    "count": COUNT,
    "first_seen": FIRST,
    "last_seen": LAST,
    "sum": SUM,
    "avg": MEAN,
    "stddev": SPREAD,
    "min": LEAST,
    "max": MOST,
    "percentile": PERCENTILE,
    "share": MEAN,
    "streak": STREAK,
    "distinct": DISTINCT,
}


def _question(window: Window) -> str:
    if window.function in ("median", "quantile"):
        return quantile(Fraction(1, 2) if window.parameter is None else Fraction(window.parameter))
    if window.function == "sequence":
        return sequence(len(window.steps))
    if window.function == "absence":
        return absence(window.gap)
    return _QUESTIONS[window.function]


class Column(NamedTuple):
    """One column of a series: what it holds, of which argument or steps of a pattern."""

    holds: str
    argument: Expression | None
    steps: tuple[Step, ...] = ()

    @property
    def name(self) -> tuple[str, str]:
        return self.holds, self.argument.text if self.argument else "; ".join(step.text for step in self.steps)


class Group(NamedTuple):
    """The windows that share a series: those over the same kinds, by the same key, where the same is true. Approximate
    ones are of one length too."""

    series: Series
    kinds: tuple[str, ...]
    by: tuple[str, ...]
    where: Expression | None
    columns: tuple[Column, ...]
    windows: tuple[int, ...]


def groups_of(windows: Sequence[Window]) -> tuple[Group, ...]:
    """The windows by the series they share."""
    members: dict[tuple[Any, ...], list[int]] = {}
    for index, window in enumerate(windows):
        if not window.kinds:  # A question about links alone counts no events.
            continue
        where = window.where.text if window.where else None
        own = (window.length,) if window.approximately else ()
        members.setdefault((tuple(sorted(window.kinds)), tuple(sorted(window.by)), where, *own), []).append(index)
    return tuple(_group(key, [windows[index] for index in indexes], indexes) for key, indexes in members.items())


def _group(key: tuple[Any, ...], windows: Sequence[Window], indexes: Sequence[int]) -> Group:
    columns = {column.name: column for column in map(_column, windows) if column}
    ordered = tuple(columns[name] for name in sorted(columns))
    # The same in every process, and another once events would be counted otherwise.
    head = "approximate/1" if windows[0].approximately else "series/1"
    grouped = any(window.groups for window in windows)
    said = [head, *key, [list(column.name) for column in ordered], *(["grouped"] if grouped else [])]
    span = max(window.length for window in windows)
    bucket = -(-span // BUCKETS) if windows[0].approximately else 0
    series = Series(
        name=sha256(canonical(said)).hexdigest(),
        columns=tuple(column.holds for column in ordered),
        span=span + bucket,
        bucket=bucket,
        grouped=grouped,
    )
    return Group(series, key[0], key[1], windows[0].where, ordered, tuple(indexes))


def _column(window: Window) -> Column | None:
    if window.argument or window.steps:
        return Column(_COLUMNS[window.function], window.argument, window.steps)
    return None


def frames_of(
    group: Group, windows: Sequence[Window], indexes: Sequence[int]
) -> tuple[tuple[Frame, ...], tuple[int, ...]]:
    """The questions that windows put to their series, by stretch, and the windows in the order of the questions."""
    names = [column.name for column in group.columns]
    stretches: dict[tuple[int, bool], list[tuple[int, tuple[str, int]]]] = {}
    for index in indexes:
        window = windows[index]
        column = _column(window)
        question = (_question(window), names.index(column.name) if column else -1)
        stretches.setdefault((window.length, window.including_this), []).append((index, question))
    frames = tuple(
        (length, including_this, tuple(question for _, question in asked))
        for (length, including_this), asked in stretches.items()
    )
    return frames, tuple(index for asked in stretches.values() for index, _ in asked)
