"""Events of one table on their way into columns: one column a path, each in the form that keeps its values exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import ibis
import pyarrow as pa

from engine.columns.cells import Amount, Cell, Items, Number
from engine.columns.macros import HUGE, MILLION, call
from engine.columns.warehouse import Warehouse
from engine.expr import Env, Field, Type
from engine.expr.python import Writer

BLOCK = 16_384
"""Rows that are Python objects at the same time."""

_PLAIN = {"text": pa.string(), "bool": pa.bool_(), "instant": pa.int64(), "duration": pa.int64()}
_HUGE = pa.decimal128(38, 0)


@dataclass(frozen=True)
class Column:
    """A column as it is kept: its name in the table, its type, and what was found of its values."""

    name: str
    type: Type
    wide: bool = False
    codes: tuple[str, ...] = ()
    refused: str = ""
    loose: bool = False

    def cell(self, table: Any) -> Cell:
        """The values of this column in a table of ibis that has it."""
        raw = table[self.name]
        if self.type.element:
            return Items(raw, self.type.element.name == "number")
        if self.type.name == "number":
            return Number(raw, self.wide, self.loose)
        if self.type.name == "money":
            one = self.codes[0] if len(self.codes) == 1 else None
            return Amount(Number(raw, self.wide, self.loose), one or table[f"{self.name}_code"])
        return raw


def stored(name: str, type_: Type, cell: Cell) -> tuple[Column, dict[str, Any]]:
    """A cell as a column of this name, and the expressions to keep by name; money of several currencies has two."""
    columns: dict[str, Any] = {}
    codes: tuple[str, ...] = ()
    if isinstance(cell, Amount):
        codes = (cell.currency,) if cell.single else ()
        if not cell.single:
            columns[f"{name}_code"] = cell.currency
        cell = cell.minor
    wide = loose = False
    if isinstance(cell, Number):
        cell, wide, loose = cell.raw, cell.wide, cell.loose
    return Column(name, type_, wide, codes, loose=loose), {name: cell, **columns}


class Gathering:
    """Collects rows and writes them, block by block, into a table of a warehouse.

    `types` names the paths whose values become columns, `plain` further columns by name with their Arrow types. A row
    is given as values by path (lists as `reach` gives them) and the further ones in their order.
    """

    def __init__(self, warehouse: Warehouse, name: str, types: Mapping[str, Type], plain: Mapping[str, Any]) -> None:
        self._warehouse = warehouse
        self._name = name
        self._plain = dict(plain)
        self._takers = [_taker(f"{name}_{number}", type_) for number, type_ in enumerate(types.values())]
        self._paths = list(types)
        self._waiting: list[Sequence[Any]] = []
        self._extra: list[Sequence[Any]] = []
        self._made = False

    def add(self, values: Sequence[Any], plain: Sequence[Any]) -> None:
        """One row: a value for each path (None is missing), and the further columns."""
        self._waiting.append(values)
        self._extra.append(plain)
        if len(self._waiting) >= BLOCK:
            self._flush()

    def done(self) -> dict[str, Column]:
        """The columns by path. Those of numbers are wide where one value has decimal places."""
        self._flush()
        staged = self._warehouse.table(f"{self._name}_staged")
        chosen = {name: staged[name] for name in self._plain}
        for taker in self._takers:
            chosen |= taker.finished(staged)
        self._warehouse.keep(self._name, staged.select(**chosen))
        self._warehouse.drop(f"{self._name}_staged")
        return {path: taker.column() for path, taker in zip(self._paths, self._takers, strict=True)}

    def _flush(self) -> None:
        if not self._waiting and self._made:
            return
        arrays: dict[str, Any] = {}
        extra = list(zip(*self._extra, strict=True)) or [()] * len(self._plain)
        for (name, kind), cells in zip(self._plain.items(), extra, strict=True):
            arrays[name] = pa.array(cells, kind)
        columns = list(zip(*self._waiting, strict=True)) or [()] * len(self._takers)
        for taker, values in zip(self._takers, columns, strict=True):
            arrays |= taker.take(values)
        self._warehouse.append(f"{self._name}_staged", pa.table(arrays))
        self._made = True
        self._waiting, self._extra = [], []


class _Taker:
    """Takes the values of one path as Arrow arrays."""

    def __init__(self, name: str, type_: Type) -> None:
        self.name, self.type = name, type_
        self.refused = ""

    def take(self, values: Sequence[Any]) -> dict[str, Any]:
        """The arrays of some values, by name."""
        return {self.name: self._array(values, _PLAIN[self.type.name])}

    def finished(self, staged: Any) -> dict[str, Any]:
        """The columns of the table, from those that were staged."""
        return {self.name: staged[self.name]}

    def column(self) -> Column:
        return Column(self.name, self.type, refused=self.refused)

    def _array(self, values: Sequence[Any], kind: Any) -> Any:
        try:
            return pa.array(values, kind)
        except UnicodeEncodeError:
            self.refused = "text that is no Unicode (a lone surrogate)"
            return pa.nulls(len(values), kind)


class _Numbers(_Taker):
    wide = False

    def take(self, values: Sequence[Any]) -> dict[str, Any]:
        if all(type(value) is int or value is None for value in values):
            return {self.name: pa.array(values, pa.int64()), f"{self.name}_wide": pa.nulls(len(values), _HUGE)}
        self.wide = True
        scaled = [None if value is None else self._scaled(value) for value in values]
        return {self.name: pa.nulls(len(values), pa.int64()), f"{self.name}_wide": pa.array(scaled, _HUGE)}

    def _scaled(self, value: int | Decimal) -> Decimal | None:
        scaled = Decimal(value) * MILLION
        if scaled != scaled.to_integral_value():
            self.refused = "numbers with more than six decimal places"
            return None
        return scaled.to_integral_value()

    def finished(self, staged: Any) -> dict[str, Any]:
        wholes = staged[self.name]
        if not self.wide:
            return {self.name: wholes}
        wide = call("arb_huge", HUGE, staged[f"{self.name}_wide"])
        return {self.name: ibis.coalesce(wide, call("arb_wide", HUGE, wholes))}

    def column(self) -> Column:
        return Column(self.name, self.type, self.wide, refused=self.refused)


class _Amounts(_Taker):
    def __init__(self, name: str, type_: Type) -> None:
        super().__init__(name, type_)
        self.codes: dict[str, None] = {}

    def take(self, values: Sequence[Any]) -> dict[str, Any]:
        codes = [None if value is None else value.currency for value in values]
        self.codes |= dict.fromkeys(code for code in codes if code is not None)
        minors = [None if value is None else value.minor for value in values]
        if not all(type(minor) is int or minor is None for minor in minors):
            self.refused = "amounts with parts of a minor unit"
            minors = [None] * len(values)
        return {self.name: pa.array(minors, pa.int64()), f"{self.name}_code": pa.array(codes, pa.string())}

    def finished(self, staged: Any) -> dict[str, Any]:
        code = f"{self.name}_code"
        return {self.name: staged[self.name], code: staged[code]}

    def column(self) -> Column:
        return Column(self.name, self.type, codes=tuple(sorted(self.codes)), refused=self.refused)


class _Lists(_Taker):
    def take(self, values: Sequence[Any]) -> dict[str, Any]:
        assert self.type.element is not None
        element = self.type.element.name
        kind = pa.list_(_PLAIN.get(element, pa.int64()))
        if element == "money":
            self.refused = "a list of amounts"
        elif element == "number" and not all(map(_are_whole, values)):
            self.refused = "a list of numbers with decimal places"
        return {self.name: pa.nulls(len(values), kind) if self.refused else self._array(values, kind)}


def _are_whole(items: Sequence[Any] | None) -> bool:
    return items is None or all(type(item) is int or item is None for item in items)


def _taker(name: str, type_: Type) -> _Taker:
    if type_.element:
        return _Lists(name, type_)
    return {"number": _Numbers, "money": _Amounts}.get(type_.name, _Taker)(name, type_)


def reader(types: Mapping[str, Type]) -> Callable[[dict[str, Any]], list[Any]]:
    """Gives the values at some paths of an event's nested values, each as conditions see it."""
    writer = Writer(())
    found = [writer.value(Field(type_, path, path=path)) for path, type_ in types.items()]
    read = writer.function(f"return [{', '.join(found)}]")
    return lambda values: read(values, (), _NO_ENV)


_NO_ENV = Env(0, 0, {}, lambda *_: None)
