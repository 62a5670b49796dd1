"""Values that make a difference to a field of which there is not always one more: yes or no, texts, lists of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.mutation.asked import Part
from engine.mutation.measures import MEASURED
from engine.schema import FieldDef

_FRESH = ("x1", "x2", "x3")
_COUNTRIES = ("CN", "US", "DE")


def is_chosen(field: FieldDef) -> bool:
    """Whether a field is such a one. The time of the event itself is varied in a way of its own."""
    return field.type not in MEASURED and field.path != "at"


def values_of(field: FieldDef, part: Part, event: Mapping[str, Any]) -> Iterator[Any]:
    """Values other than that of the event: those that `part` names, those of fields it compares with, others; None."""
    own, known = event.get(field.path), part.texts.get(field.path, ())
    match field.type:
        case "bool":
            yield from (value for value in (True, False) if value is not own)
        case "text":
            beside = [event.get(path) for path in sorted(part.peers.get(field.path, ()))]
            texts = [*known, *(str(value) for value in beside if isinstance(value, str))]
            texts += [*field.choices, *_others(field)]
            yield from (value for value in dict.fromkeys(texts) if value != own and field.takes(value))
        case "list[text]":
            yield from ([value] for value in dict.fromkeys((*known, *_others(field))))
    yield None


def _others(field: FieldDef) -> Iterator[str]:
    """Values that nobody names, if the field is open."""
    if not field.choices:
        yield str(field.example if isinstance(field.example, str) else "x")
        yield from _COUNTRIES if field.form.name == "country" else filter(field.takes, _FRESH)
