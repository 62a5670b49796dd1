"""The fields of an event as variables, with all that the schema promises of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import z3

from engine.detectors import ANOMALY
from engine.expr import DURATION, INSTANT, MONEY, NUMBER, TEXT, Type
from engine.money import CURRENCIES
from engine.reasoning.terms import YES, Amount, Fresh, Listed, Term, Value, real
from engine.reasoning.texts import Texts
from engine.schema import FUTURE, FieldDef
from engine.schema.fields import MAX_LIST
from engine.schema.kinds import LISTS
from engine.schema.values import DIGITS, EARLIEST, LATEST, LONGEST

MOST_DIGITS = 14
"""Digits before the point of an amount that is sent."""


class EventTerms:
    """Variables for the fields that were asked for. `required` are the paths that are never missing."""

    def __init__(
        self,
        fields: Mapping[str, FieldDef],
        required: Collection[str],
        fresh: Fresh,
        texts: Texts,
        kinds: Collection[str],
    ) -> None:
        self.values: dict[str, Value] = {}
        self.sizes: dict[str, Term] = {}
        self._fields = fields
        self._required = frozenset(required)
        self._fresh = fresh
        self._texts = texts
        self._kinds = tuple(kinds)
        self._now: Term = None

    @property
    def now(self) -> Term:
        """When the event was received: an event from the future is refused."""
        if self._now is None:
            self._now = z3.Int("now")
            self._fresh.facts += [self._now >= EARLIEST, self._now < LATEST]
            if "at" in self._fields:
                self._fresh.facts.append(self.of("at").value <= self._now + FUTURE)
        return self._now

    @property
    def at_now(self) -> Term:
        """Whether the event was received when it happened."""
        return self.of("at").value == self.now

    def of(self, path: str) -> Value:
        """The value at a path."""
        if path not in self.values:
            self.values[path] = self._made(self._fields[path])
        return self.values[path]

    def field(self, path: str) -> FieldDef | None:
        """What a path is; None for a path that these events do not have."""
        return self._fields.get(path)

    def is_text(self, path: str) -> bool:
        """Whether a path holds one text of the event."""
        field = self.field(path)
        return field is not None and field.type == "text" and z3.is_const(self.values[path].value)

    def _made(self, field: FieldDef) -> Value:
        type_ = Type(field.type)
        parent = field.path.rpartition(".")[0]
        # Where a list of objects is, each of its columns is, with gaps.
        shown = parent if parent in LISTS else field.path
        known = YES if field.path in self._required else z3.Bool(f"{shown} is present")
        if type_.element is not None:
            return Value(known, self._list(field, type_.element))
        value = self._fresh.of(type_, field.path)
        places = DIGITS
        if type_ == NUMBER:
            value, places = self._number(field, value)
        elif type_ == MONEY:
            value = self._amount(field, value)
        elif type_ == TEXT:
            self._text(field, value)
        elif type_ in (INSTANT, DURATION):
            low, high = (EARLIEST, LATEST) if type_ == INSTANT else (0, LONGEST)
            self._fresh.facts.append(z3.And(value >= low, value < high))
        return Value(known, value, places=places if type_ == NUMBER else 0)

    def _number(self, field: FieldDef, value: Term) -> tuple[Term, int]:
        form, facts = field.form, self._fresh.facts
        places = DIGITS
        if form.whole:
            value, places = z3.Int(f"{field.path}"), 0
        low, high = (0, 100) if field.path == ANOMALY else (form.low, form.high)
        facts += [value > -(10**DIGITS), value < 10**DIGITS]
        if low is not None:
            facts.append(value >= low)
        if high is not None:
            facts.append(value <= high)
        return value, places

    def _amount(self, field: FieldDef, value: Amount) -> Amount:
        """Amounts that are sent have no fraction of a minor unit."""
        minor = z3.Int(f"{field.path}.minor")
        most = 10 ** (MOST_DIGITS + max(CURRENCIES.values()))
        self._fresh.facts += [minor > -most, minor < most]
        if field.form.low is not None:
            self._fresh.facts.append(minor >= field.form.low)
        return Amount(minor, value.currency)

    def _text(self, field: FieldDef, value: Term) -> None:
        choices = self._kinds if field.path == "kind" and self._kinds else field.choices
        if choices:
            self._fresh.facts.append(z3.Or([value == self._texts.number(each) for each in choices]))
        self._texts.know(value)

    def _list(self, field: FieldDef, element: Type) -> Listed:
        """A list: which values are among it is a function of the value."""
        name = field.path
        size = self._size(field)
        gap = z3.Bool(f"{name} has a gap")
        if element == MONEY:
            among = z3.Function(f"{name} has", z3.RealSort(), z3.IntSort(), z3.BoolSort())
            return Listed(lambda amount: among(real(amount.minor), amount.currency), gap, size)
        sort = z3.RealSort() if element == NUMBER else z3.IntSort()
        has = z3.Function(f"{name} has", sort, z3.BoolSort())
        return Listed(lambda value: has(real(value) if element == NUMBER else value), gap, size)

    def _size(self, field: FieldDef) -> Term:
        """The columns of one list of objects are of one length."""
        parent = field.path.rpartition(".")[0]
        parent = parent if parent in LISTS else field.path
        if parent not in self.sizes:
            size = self.sizes[parent] = z3.Int(f"{parent} size")
            self._fresh.facts += [size >= 0, size <= MAX_LIST]
        return self.sizes[parent]
