"""What the rules of one kind find in a history: every rule at every event, as columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import ibis

from engine.backtest.past import BESIDE, Past
from engine.columns import (
    Column,
    Counted,
    History,
    Refused,
    Sight,
    adds,
    counted,
    key,
    lower_node,
    present,
    stages,
    stored,
    unknown,
)
from engine.expr import Node, Window
from engine.expr.nodes import And, Feature, Not, Or, walk
from engine.rulebook import KindBook, Rulebook
from engine.stores import CAP, Gap

BITS = 60
"""Rules whose answers stand in one integer."""

MIXED, CAPPED = Gap.MIXED.value, Gap.CAPPED.value


@dataclass(frozen=True)
class Question:
    """A yes/no question that columns cannot answer exactly, why, and the windows it looks at."""

    node: Node
    reason: str
    windows: tuple[Window, ...]


@dataclass(frozen=True)
class Asked:
    """What the real engine is asked: questions over some windows, at the events of the rows of these numbers (None: at
    all)."""

    questions: Sequence[Question]
    windows: Sequence[Window]
    rows: frozenset[int] | None


Ask = Callable[[Asked], Any]
"""The real engine: gives an Arrow table of `row`, a yes/no column e0, e1, … a question, and `gaps`."""


@dataclass(frozen=True)
class Found:
    """The table `found` of a warehouse: a row an event, with `seq`, `at`, `bad`, `worth`, the parts, `notices`, and
    the rules' answers as bits: `fired` columns, then `unsure` ones of the watched rules. `asked` events went through
    the real engine for `questions`."""

    table: Any
    fired: tuple[str, ...]
    unsure: tuple[str, ...]
    watched: tuple[int, ...]
    questions: tuple[Question, ...]
    refused: Mapping[Window, str]
    asked: int


def find(past: Past, rulebook: Rulebook, heeded: frozenset[str], ask: Ask) -> Found:
    """All findings. `heeded` are the notices about windows that the policy looks at; no others are made."""
    return _Finding(past, rulebook, heeded, ask).found()


def questions_in(node: Node) -> Iterator[Node]:
    """The questions under `and`, `or` and `not`."""
    if isinstance(node, Not):
        yield from questions_in(node.item)
    elif isinstance(node, And | Or):
        for item in node.items:
            yield from questions_in(item)
    else:
        yield node


class _Finding:
    def __init__(self, past: Past, rulebook: Rulebook, heeded: frozenset[str], ask: Ask) -> None:
        self.past, self.rulebook, self.heeded, self.ask = past, rulebook, heeded, ask
        self.book: KindBook = rulebook.kinds[past.kind]
        self.windows = [rulebook.windows[slot] for slot in self.book.slots]
        self.identities = [rulebook.windows[slot] for slot in sorted(self.book.identities)]
        self._parts: dict[str, Column] = {}
        """By their keys the parts of conditions that are columns of the table."""
        self._tables = ["counted"]

    def found(self) -> Found:
        table, windows = self._counted()
        table = self._staged(table, windows)
        sight = self._sight(table, windows)
        questions = self._refused(sight)
        if not questions and not self._gaps_of(windows):
            return self._packed(table, sight, windows, (), 0)
        looked = {window: None for each in questions for window in each.windows}
        if self._gaps_of(windows):
            looked |= dict.fromkeys(windows.refused)
        asked = Asked(questions, tuple(looked), self._where(table, sight, questions, windows))
        number = self.past.events if asked.rows is None else len(asked.rows)
        if number:
            self.past.warehouse.put("answers", self.ask(asked))
            answers = self.past.warehouse.table("answers").rename(answered="row")
            table = table.left_join(answers, table.row == answers.answered)
            given = {each.node.key: table[f"e{n}"] for n, each in enumerate(questions)}
        else:
            given = {each.node.key: unknown("boolean") for each in questions}
        return self._packed(table, self._sight(table, windows, given), windows, questions, number)

    def _sight(self, table: Any, windows: Counted, answers: Mapping[str, Any] = MappingProxyType({})) -> Sight:
        """What rules see of a table: fields, windows, parts that are columns, and answers of the real engine."""
        seen = self.past.sight(table, windows.cells, {each.name: why for each, why in windows.refused.items()})
        parts = {key: column.cell(table) for key, column in self._parts.items()}
        return replace(seen, answers={**parts, **answers})

    def _staged(self, table: Any, windows: Counted) -> Any:
        """The table with the parts of conditions that must be columns first."""
        for number, nodes in enumerate(stages(rule.condition.tree for rule in self.book.rules)):
            sight = self._sight(table, windows)
            columns: dict[str, Any] = {}
            for node in nodes:
                try:
                    cell = lower_node(node, sight)
                except Refused:
                    continue  # so is the question that it is in
                column, made = stored(f"part{len(self._parts)}", node.type, cell)
                self._parts[node.key] = column
                columns |= made
            self._tables.append(f"stage{number}")
            table = self.past.warehouse.keep(self._tables[-1], table.mutate(**columns))
        return table

    # Windows

    def _counted(self) -> tuple[Any, Counted]:
        history = self.past.history()
        windows = counted(history, self.windows, full=self._full(history))
        extra = dict(windows.columns)
        if "thin_identity" in self.heeded and self.identities:
            extra["thin"] = self._thin(history)
        table = history.table.mutate(**extra)
        if len(self.past.kinds) > 1:
            table = table.filter(table.kind == self.past.kind)
        return self.past.warehouse.keep(self._tables[0], table), windows

    def _thin(self, history: History) -> Any:
        """Whether all windows about who took part lack a part of their key."""
        whether: Any = ibis.literal(True)
        for window in self.identities:
            whether = whether & ~present(history, window)
        return whether

    def _full(self, history: History) -> frozenset[Window]:
        """The windows of which a key has more events than a window counts."""
        if self.past.warehouse.size("facts") <= CAP:
            return frozenset()
        found: dict[tuple[Any, ...], bool] = {}
        for window in self.windows:
            same = window.kinds, window.by, window.where and window.where.text
            if same not in found:
                found[same] = self._overflows(history, window)
        return frozenset(each for each in self.windows if found[each.kinds, each.by, each.where and each.where.text])

    def _overflows(self, history: History, window: Window) -> bool:
        try:
            there = history.table.filter(adds(history, window))
            parts = key(history, window)
        except Refused:
            return False  # refused anyway
        sizes = there.group_by(**{f"g{n}": part for n, part in enumerate(parts)}).agg(size=there.count())
        return bool(self.past.warehouse.arrow(sizes.filter(sizes["size"] > CAP).limit(1)).num_rows)

    # The real engine

    def _refused(self, sight: Sight) -> tuple[Question, ...]:
        nodes = {node.key: node for rule in self.book.rules for node in questions_in(rule.condition.tree)}
        found = []
        for node in nodes.values():
            try:
                lower_node(node, sight)
            except Refused as refused:
                windows = [part.window for part in walk(node) if isinstance(part, Feature)]
                found.append(Question(node, str(refused), tuple(dict.fromkeys(windows))))
        return tuple(found)

    def _gaps_of(self, windows: Counted) -> bool:
        """Whether a window that is no column may have a gap that the policy heeds."""
        if not self.heeded & {MIXED, CAPPED}:
            return False
        return any(self._may_have(window) for window in windows.refused)

    def _may_have(self, window: Window) -> bool:
        amounts = window.argument is not None and window.argument.type.name == "money"
        several = amounts and len(self.past.exchange.codes) > 1
        return bool(window.groups) or several or self.past.events > CAP

    def _where(
        self, table: Any, sight: Sight, questions: Sequence[Question], windows: Counted
    ) -> frozenset[int] | None:
        """The rows at whose events some rule is undecided without the answers."""
        if self._gaps_of(windows):
            return None
        asked = {each.node.key: unknown("boolean") for each in questions}
        blind = replace(sight, answers={**sight.answers, **asked})
        undecided: Any = ibis.literal(False)
        for rule in self.book.rules:
            if any(node.key in asked for node in questions_in(rule.condition.tree)):
                undecided = undecided | lower_node(rule.condition.tree, blind).isnull()
        rows = self.past.warehouse.arrow(table.filter(undecided).select("row"))
        return frozenset(rows["row"].to_pylist())

    # Answers as bits

    def _packed(self, table: Any, sight: Sight, windows: Counted, questions: tuple[Question, ...], asked: int) -> Found:
        truths = [lower_node(rule.condition.tree, sight) for rule in self.book.rules]
        watched = tuple(index for index, rule in enumerate(self.book.rules) if rule.watched)
        columns = dict(_bits("f", truths))
        fired = tuple(columns)
        columns |= _bits("u", [truths[index].isnull() for index in watched])
        kept = ["seq", "at", "row", "event_id", "bad", "refunded", *BESIDE, "customer", *self.past.parts.values()]
        more = {"worth": table[self.past.worth], "notices": self._notices(table, windows, asked)}
        chosen = {name: table[name] for name in kept} | columns | more
        made = self.past.warehouse.keep("found", table.select(**chosen))
        for name in self._tables:
            self.past.warehouse.drop(name)
        unsure = tuple(name for name in columns if name not in fired)
        return Found(made, fired, unsure, watched, questions, dict(windows.refused), asked)

    def _notices(self, table: Any, windows: Counted, asked: int) -> Any:
        """The gaps that the policy heeds, in words with a comma after each."""
        said: Any = ibis.literal("")
        if "thin" in table.columns:
            said = said + ibis.ifelse(table.thin, "thin_identity,", "")
        if MIXED in self.heeded and windows.mixed:
            mixed: Any = ibis.literal(False)
            for name in windows.mixed.values():
                mixed = mixed | table[name].fill_null(False)
            said = said + ibis.ifelse(mixed, f"{MIXED},", "")
        if asked:
            said = said + table.gaps.fill_null("")
        return said


def _bits(prefix: str, truths: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Yes/no columns as bits of integers."""
    for number, start in enumerate(range(0, len(truths), BITS)):
        packed: Any = ibis.literal(0, type="int64")
        for bit, truth in enumerate(truths[start : start + BITS]):
            packed = packed + ibis.ifelse(truth, ibis.literal(1 << bit, type="int64"), ibis.literal(0, type="int64"))
        yield f"{prefix}{number}", packed
