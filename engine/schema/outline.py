"""The body of a kind as JSON Schema (2020-12), for OpenAPI and editors. It describes; the validator decides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine.schema.fields import FORMS, MAX_LIST, FieldDef
from engine.schema.parts import Plan
from engine.schema.shapes import FORMAT

_MONEY = {
    "oneOf": [
        {"type": "string", "pattern": r"^-?[0-9]{1,14}(\.[0-9]{1,4})? [A-Z]{3}$"},
        {
            "type": "object",
            "properties": {"value": {"type": "string"}, "currency": {"type": "string", "pattern": "^[A-Z]{3}$"}},
            "required": ["value", "currency"],
            "additionalProperties": False,
        },
    ]
}
_TYPES: dict[str, dict[str, Any]] = {
    "bool": {"type": "boolean"},
    "instant": {"type": "string", "format": "date-time"},
    "duration": {"type": "string", "pattern": "^[0-9]{1,15} ?(ms|s|m|h|d|w)$"},
    "money": _MONEY,
}


def outline(kind: str, about: str, plan: Plan, required: Iterable[str]) -> dict[str, Any]:
    """The JSON Schema of a kind's body."""
    whole = _object(plan, tuple(required), "")
    envelope = {"format": {"const": FORMAT}, "tenant": {"type": "string", "maxLength": 64}}
    whole["properties"] = envelope | whole["properties"] | {"kind": {"const": kind}}
    whole["required"] = ["kind", *whole.get("required", ())]
    return {"title": kind, "description": about, **whole}


def _object(plan: Plan, required: tuple[str, ...], path: str, *, rows: bool = False) -> dict[str, Any]:
    members = {name: _leaf(each, rows) for name, each in plan.leaves.items()}
    members |= {name: _object(inner, required, f"{path}{name}.") for name, inner in plan.inner.items()}
    for name, inner in plan.lists.items():
        members[name] = _list(_object(inner, required, f"{path}{name}.", rows=True))
    needed = [name for name in members if any(f"{each}.".startswith(f"{path}{name}.") for each in required)]
    whole: dict[str, Any] = {"type": "object", "properties": members, "additionalProperties": False}
    return whole | {"required": needed} if needed else whole


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "maxItems": MAX_LIST}


def _leaf(each: FieldDef, rows: bool) -> dict[str, Any]:
    value = _value(each)
    return {"description": each.doc, **(_list(value) if each.many and not rows else value)}


def _value(each: FieldDef) -> dict[str, Any]:
    form, kind = each.form, each.type.removeprefix("list[").removesuffix("]")
    if form.choices:
        return {"enum": list(form.choices)}
    if kind == "text":
        return {"type": "string", "maxLength": form.size, "pattern": FORMS[form.name][0]}
    if kind == "number":
        bounds = {"minimum": form.low, "maximum": form.high}
        return {"type": "integer" if form.whole else "number"} | {k: v for k, v in bounds.items() if v is not None}
    return _TYPES[kind]
