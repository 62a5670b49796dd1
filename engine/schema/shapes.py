"""The pydantic-core validator of a kind, built from its fields: one pass in Rust, runtime values out."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic_core import CoreConfig, SchemaValidator, core_schema

from engine.schema import values
from engine.schema.fields import FORMS, MAX_LIST, FieldDef
from engine.schema.parts import Plan

FORMAT = 1
"""The version of the event format; the only one so far."""


def validator(plan: Plan, required: frozenset[str], *, runtime: bool) -> SchemaValidator:
    """The validator of one kind. `runtime`: instants and durations may also be int, for data that comes from Python."""
    shape = _Shape(required, runtime)
    envelope = {
        "format": core_schema.typed_dict_field(core_schema.literal_schema([FORMAT]), required=False),
        "tenant": core_schema.typed_dict_field(_text_of("id", 1, 64), required=False),
    }
    whole = core_schema.typed_dict_schema(envelope | shape.members(plan, ""), extra_behavior="forbid", strict=True)
    return SchemaValidator(whole, CoreConfig(hide_input_in_errors=True))


@dataclass(frozen=True, slots=True)
class _Shape:
    required: frozenset[str]
    runtime: bool

    def members(self, plan: Plan, path: str, *, rows: bool = False) -> dict[str, core_schema.TypedDictField]:
        found: dict[str, core_schema.CoreSchema] = {name: self.leaf(each, rows) for name, each in plan.leaves.items()}
        found |= {name: self.object(inner, f"{path}{name}.") for name, inner in plan.inner.items()}
        found |= {name: self.rows(inner, f"{path}{name}.") for name, inner in plan.lists.items()}
        return {
            name: core_schema.typed_dict_field(schema, required=self.needs(path + name))
            for name, schema in found.items()
        }

    def needs(self, path: str) -> bool:
        """Whether `path`, or something below it, must be there."""
        return any(each == path or each.startswith(path + ".") for each in self.required)

    def object(self, plan: Plan, path: str, *, rows: bool = False) -> core_schema.CoreSchema:
        inside = self.members(plan, path, rows=rows)
        return core_schema.typed_dict_schema(inside, extra_behavior="forbid", strict=True)

    def rows(self, plan: Plan, path: str) -> core_schema.CoreSchema:
        return core_schema.list_schema(self.object(plan, path, rows=True), max_length=MAX_LIST, strict=True)

    def leaf(self, each: FieldDef, rows: bool) -> core_schema.CoreSchema:
        """A list of values, unless the list is that of the objects around."""
        schema = _value(each, self.runtime)
        return core_schema.list_schema(schema, max_length=MAX_LIST, strict=True) if each.many and not rows else schema


def _value(each: FieldDef, runtime: bool) -> core_schema.CoreSchema:
    kind = each.type.removeprefix("list[").removesuffix("]")
    if kind == "text":
        return _text(each)
    if kind == "bool":
        return core_schema.bool_schema(strict=True)
    return core_schema.no_info_plain_validator_function(_reader(each, kind, runtime))


def _text(each: FieldDef) -> core_schema.CoreSchema:
    form = each.form
    if form.choices:
        return core_schema.literal_schema(list(form.choices))
    schema = _text_of(form.name, form.shortest, form.size)
    reader = _READERS.get(form.name)
    return schema if reader is None else core_schema.no_info_after_validator_function(reader, schema)


_READERS = {"ip": values.address, "name": values.name}
"""What is looked at in a text beyond its form."""


def _text_of(form: str, shortest: int, longest: int) -> core_schema.CoreSchema:
    return core_schema.str_schema(strict=True, min_length=shortest, max_length=longest, pattern=FORMS[form][0])


def _reader(each: FieldDef, kind: str, runtime: bool) -> values.Reader:
    form = each.form
    if kind == "instant":
        return values.runtime(values.instant, values.in_range) if runtime else values.instant
    if kind == "duration":
        return values.runtime(values.duration, values.short_enough) if runtime else values.duration
    if kind == "money":
        return values.bounded(values.money, form.low, form.high)
    assert kind == "number", kind
    return values.bounded(values.whole(values.exact) if form.whole else values.exact, form.low, form.high)
